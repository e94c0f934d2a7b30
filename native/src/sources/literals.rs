//! Exclusions that need no pattern matching: names and paths as they are.

use std::collections::HashSet;
use std::sync::Arc;

use pyo3::prelude::*;

/// Names, and absolute paths, of entries that are left out. One with a slash at its end means a folder only, one
/// without means anything else only.
pub struct LeftOut {
    names: HashSet<Vec<u8>>,
    paths: HashSet<Vec<u8>>,
}

impl LeftOut {
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

    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }
}

/// `LeftOut`, for Python.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Literals(pub Arc<LeftOut>);

#[pymethods]
impl Literals {
    #[new]
    fn new(names: HashSet<Vec<u8>>, paths: HashSet<Vec<u8>>) -> Self {
        Literals(Arc::new(LeftOut { names, paths }))
    }

    /// Whether the entry at an absolute path is named.
    fn names(&self, mut path: Vec<u8>, folder: bool) -> bool {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        self.0
            .has(&mut path, slash.map_or(0, |slash| slash + 1), folder)
    }
}
