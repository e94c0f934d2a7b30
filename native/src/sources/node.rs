//! An entry as Python has it, in Rust's own types: taken over while the interpreter is held, counted without it.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::status::Extended;

/// Kinds of entries; their tags are restic's names for them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Symlink,
    Device,
    CharacterDevice,
    Fifo,
    Socket,
}

impl Kind {
    pub fn of(entry: &Bound<'_, PyAny>) -> PyResult<Self> {
        let kind = entry
            .getattr(intern!(entry.py(), "kind"))?
            .cast_into::<PyString>()?;
        Ok(match kind.to_str()? {
            "file" => Kind::File,
            "dir" => Kind::Folder,
            "symlink" => Kind::Symlink,
            "dev" => Kind::Device,
            "chardev" => Kind::CharacterDevice,
            "fifo" => Kind::Fifo,
            "socket" => Kind::Socket,
            other => {
                return Err(PyValueError::new_err(format!(
                    "there is no kind of entry {other}"
                )))
            }
        })
    }

    pub fn tag(self) -> &'static [u8] {
        match self {
            Kind::File => b"file",
            Kind::Folder => b"dir",
            Kind::Symlink => b"symlink",
            Kind::Device => b"dev",
            Kind::CharacterDevice => b"chardev",
            Kind::Fifo => b"fifo",
            Kind::Socket => b"socket",
        }
    }
}

/// What of an entry counts; `path` is its path inside the snapshot.
pub struct Node {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: i64,
    pub gid: i64,
    pub size: i64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
    pub device_id: u64,
    pub links: u64,
    pub extended: Extended,
}

impl Node {
    pub fn of(entry: &Bound<'_, PyAny>, kind: Kind, path: Vec<u8>) -> PyResult<Self> {
        let py = entry.py();
        let extended = entry.getattr(intern!(py, "extended"))?;
        Ok(Node {
            path,
            kind,
            mode: entry.getattr(intern!(py, "mode"))?.extract()?,
            uid: entry.getattr(intern!(py, "uid"))?.extract()?,
            gid: entry.getattr(intern!(py, "gid"))?.extract()?,
            size: entry.getattr(intern!(py, "size"))?.extract()?,
            mtime_ns: nanoseconds(&entry.getattr(intern!(py, "mtime_ns"))?)?,
            ctime_ns: nanoseconds(&entry.getattr(intern!(py, "ctime_ns"))?)?,
            inode: entry.getattr(intern!(py, "inode"))?.extract()?,
            device_id: entry.getattr(intern!(py, "device_id"))?.extract()?,
            links: entry.getattr(intern!(py, "links"))?.extract()?,
            extended: if extended.is_truthy()? {
                extended.extract()?
            } else {
                Vec::new()
            },
        })
    }
}

/// Where the entries of a tree lie inside the snapshot: their own path without its first `cut` bytes, behind `prefix`.
pub struct Place<'a> {
    pub prefix: &'a [u8],
    pub cut: usize,
}

impl Place<'_> {
    pub fn path(&self, own: &[u8]) -> Vec<u8> {
        let mut path = self.prefix.to_vec();
        path.extend_from_slice(own.get(self.cut..).unwrap_or_default());
        path
    }
}

/// An attribute that is bytes.
pub fn bytes<'py>(
    entry: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(entry.getattr(name)?.cast_into::<PyBytes>()?)
}

/// Most times fit into 64 bits, which are taken faster.
fn nanoseconds(value: &Bound<'_, PyAny>) -> PyResult<i128> {
    match value.extract::<i64>() {
        Ok(short) => Ok(i128::from(short)),
        Err(_) => value.extract(),
    }
}
