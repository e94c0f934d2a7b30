//! Exclusions that need no pattern matching: names and paths as they are.

use std::collections::HashSet;

use pyo3::prelude::*;

/// Entries that are left out: those with one of these names, and those at one of these absolute paths. A name or path
/// with a slash at its end means a folder only, one without means anything else only.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Literals {
    names: HashSet<Vec<u8>>,
    paths: HashSet<Vec<u8>>,
}

impl Literals {
    /// Whether the entry `path`, whose last component begins at `start`, is left out.
    pub fn has(&self, path: &mut Vec<u8>, start: usize, folder: bool) -> bool {
        if folder {
            path.push(b'/');
        }
        let named = (!self.names.is_empty() && self.names.contains(&path[start..]))
            || (!self.paths.is_empty() && self.paths.contains(path.as_slice()));
        if folder {
            path.pop();
        }
        named
    }
}

#[pymethods]
impl Literals {
    #[new]
    fn new(names: HashSet<Vec<u8>>, paths: HashSet<Vec<u8>>) -> Self {
        Literals { names, paths }
    }

    /// Whether the entry at an absolute path is named.
    fn names(&self, mut path: Vec<u8>, folder: bool) -> bool {
        let start = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        self.has(&mut path, start, folder)
    }
}
