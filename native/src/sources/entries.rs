//! Listing: the entries of a folder, ready-made.

use std::ffi::{c_int, CStr};
use std::io;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::IntoPyObjectExt;

use super::digests::{token_of, KnownDigests, Sha256Digest, Token};
use super::folder::{Folder, Named};
use super::literals::Literals;
use super::status::{self, Errno, Extended, Status};

/// The kernel takes no longer path, its NUL included.
const PATH_MAX: usize = 4096;

/// Path, errno, and whether only the extended attributes could not be read.
type Trouble = (Vec<u8>, Errno, bool);

/// One entry, before it becomes a Python object.
struct Found {
    name: Vec<u8>,
    path: Vec<u8>,
    inside: bool,
    taken: bool,
    status: Status,
    target: Vec<u8>,
    extended: Extended,
    token: Token,
    known: Option<Sha256Digest>,
}

/// A name that counts, and what its entry says about it.
struct Chosen {
    name: Vec<u8>,
    inside: bool,
    taken: bool,
}

/// Lists folders: looks at what is there, without the interpreter, then makes entries of it.
///
/// `make` is called with the fields of a `TreeEntry` in their order, `kinds` has an entry's kind by its format (S_IFMT).
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Lister {
    make: Py<PyAny>,
    kinds: Py<PyDict>,
    known: Py<KnownDigests>,
}

#[pymethods]
impl Lister {
    #[new]
    fn new(make: Py<PyAny>, kinds: Py<PyDict>, known: Py<KnownDigests>) -> Self {
        Lister { make, kinds, known }
    }

    /// The entries in the folder `path` (empty for the root) sorted by name, and what could not be read: path, errno,
    /// and whether that was about extended attributes only, without which the entry is listed all the same.
    ///
    /// What `leave_out` names is not looked at. `choose`, if given, is told the names and which are folders, and says
    /// for each: None to leave it out, or what its `inside` and `taken` are to be (else true, and `taken`).
    fn folder<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        taken: bool,
        leave_out: Option<&Literals>,
        choose: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyList>, Vec<Trouble>)> {
        let mut troubles = Vec::new();
        let known = self.known.get();
        let found = match choose {
            None => py.detach(|| {
                let Some((folder, names)) = read(path, leave_out, &mut troubles) else {
                    return Vec::new();
                };
                let chosen = names.into_iter().map(|named| Chosen {
                    name: named.name,
                    inside: true,
                    taken,
                });
                look_at(&folder, path, chosen, known, &mut troubles)
            }),
            Some(choose) => {
                let read = py.detach(|| {
                    let (folder, mut names) = read(path, leave_out, &mut troubles)?;
                    tell_kinds(&folder, &mut names);
                    Some((folder, names))
                });
                let Some((folder, names)) = read else {
                    return Ok((PyList::empty(py), troubles));
                };
                let chosen = chosen(py, names, choose)?;
                py.detach(|| look_at(&folder, path, chosen.into_iter(), known, &mut troubles))
            }
        };
        let entries = found
            .into_iter()
            .map(|one| self.entry(py, one))
            .collect::<PyResult<Vec<_>>>()?;
        Ok((PyList::new(py, entries)?, troubles))
    }

    /// The entry at `path`, of this name, if it can be looked at; and troubles as `folder` has them.
    fn one<'py>(
        &self,
        py: Python<'py>,
        name: Vec<u8>,
        path: Vec<u8>,
        follow: bool,
        inside: bool,
        taken: bool,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, Vec<Trouble>)> {
        let mut troubles = Vec::new();
        let known = self.known.get();
        let found = py.detach(|| {
            let mut terminated = path;
            terminated.push(0);
            let chosen = Chosen {
                name,
                inside,
                taken,
            };
            look(
                libc::AT_FDCWD,
                &terminated,
                0,
                chosen,
                follow,
                known,
                &mut troubles,
            )
        });
        Ok((found.map(|one| self.entry(py, one)).transpose()?, troubles))
    }
}

impl Lister {
    fn entry<'py>(&self, py: Python<'py>, found: Found) -> PyResult<Bound<'py, PyAny>> {
        let format = found.status.format();
        let status = &found.status;
        let regular = format == libc::S_IFREG;
        let device = if format == libc::S_IFBLK || format == libc::S_IFCHR {
            status.device
        } else {
            0
        };
        let bytes = |value: &[u8]| PyBytes::new(py, value).into_any();
        let fields = [
            bytes(&found.name),
            bytes(&found.path),
            self.kinds.bind(py).as_any().get_item(format)?,
            number(py, status.mode)?,
            number(py, status.uid)?,
            number(py, status.gid)?,
            number(py, if regular { status.size } else { 0 })?,
            nanoseconds(py, status.mtime_ns)?,
            nanoseconds(py, status.ctime_ns)?,
            number(py, status.inode)?,
            number(py, status.device_id)?,
            number(py, status.links)?,
            number(py, device)?,
            bytes(&found.target),
            attributes(py, &found.extended)?.into_any(),
            found.inside.into_pyobject(py)?.to_owned().into_any(),
            found.taken.into_pyobject(py)?.to_owned().into_any(),
            bytes(if regular { &found.token } else { b"" }),
            found
                .known
                .map_or_else(|| py.None().into_bound(py), |digest| bytes(&digest)),
        ];
        self.make.bind(py).call1(PyTuple::new(py, fields)?)
    }
}

fn number<'py, N: IntoPyObjectExt<'py>>(py: Python<'py>, value: N) -> PyResult<Bound<'py, PyAny>> {
    value.into_bound_py_any(py)
}

/// Most times fit into 64 bits, which are made faster.
fn nanoseconds(py: Python<'_>, value: i128) -> PyResult<Bound<'_, PyAny>> {
    i64::try_from(value).map_or_else(|_| number(py, value), |short| number(py, short))
}

/// The folder and the names in it that are not left out.
fn read(
    path: &[u8],
    leave_out: Option<&Literals>,
    troubles: &mut Vec<Trouble>,
) -> Option<(Folder, Vec<Named>)> {
    let mut terminated = if path.is_empty() {
        b"/".to_vec()
    } else {
        path.to_vec()
    };
    terminated.push(0);
    let opened = CStr::from_bytes_with_nul(&terminated)
        .map_err(|_| libc::EINVAL)
        .and_then(Folder::open);
    let folder = match opened {
        Ok(folder) => folder,
        Err(error) => {
            troubles.push((path.to_vec(), error, false));
            return None;
        }
    };
    let (mut names, error) = folder.names();
    if let Some(error) = error {
        troubles.push((path.to_vec(), error, false));
    }
    if let Some(leave_out) = leave_out {
        tell_kinds(&folder, &mut names);
        let mut whole = path.to_vec();
        whole.push(b'/');
        let start = whole.len();
        names.retain(|named| {
            whole.truncate(start);
            whole.extend_from_slice(&named.name);
            !leave_out.has(&mut whole, start, named.kind == libc::DT_DIR)
        });
    }
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Some((folder, names))
}

/// Find out which names are folders where the file system does not say it.
fn tell_kinds(folder: &Folder, names: &mut [Named]) {
    for named in names
        .iter_mut()
        .filter(|named| named.kind == libc::DT_UNKNOWN)
    {
        let mut terminated = named.name.clone();
        terminated.push(0);
        let status = CStr::from_bytes_with_nul(&terminated)
            .map_err(|_| libc::EINVAL)
            .and_then(|name| status::status_at(folder.descriptor(), name, false));
        if status.is_ok_and(|status| status.format() == libc::S_IFDIR) {
            named.kind = libc::DT_DIR;
        }
    }
}

fn chosen(py: Python<'_>, names: Vec<Named>, choose: &Bound<'_, PyAny>) -> PyResult<Vec<Chosen>> {
    let told = PyList::new(py, names.iter().map(|named| PyBytes::new(py, &named.name)))?;
    let folders: Vec<bool> = names
        .iter()
        .map(|named| named.kind == libc::DT_DIR)
        .collect();
    let verdicts: Vec<Option<(bool, bool)>> = choose.call1((told, folders))?.extract()?;
    let chosen = names
        .into_iter()
        .zip(verdicts)
        .filter_map(|(named, verdict)| {
            let (inside, taken) = verdict?;
            Some(Chosen {
                name: named.name,
                inside,
                taken,
            })
        });
    Ok(chosen.collect())
}

fn look_at(
    folder: &Folder,
    path: &[u8],
    chosen: impl Iterator<Item = Chosen>,
    known: &KnownDigests,
    troubles: &mut Vec<Trouble>,
) -> Vec<Found> {
    let mut terminated = path.to_vec();
    terminated.push(b'/');
    let start = terminated.len();
    let mut found = Vec::with_capacity(chosen.size_hint().1.unwrap_or(0));
    for one in chosen {
        terminated.truncate(start);
        terminated.extend_from_slice(&one.name);
        terminated.push(0);
        found.extend(look(
            folder.descriptor(),
            &terminated,
            start,
            one,
            false,
            known,
            troubles,
        ));
    }
    found
}

/// Look at the entry whose path, with a NUL at its end, is `terminated`, and from the folder `at` begins at `start`.
fn look(
    at: c_int,
    terminated: &[u8],
    start: usize,
    chosen: Chosen,
    follow: bool,
    known: &KnownDigests,
    troubles: &mut Vec<Trouble>,
) -> Option<Found> {
    let path = &terminated[..terminated.len() - 1];
    let seen = (|| {
        if terminated.len() > PATH_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        let whole = CStr::from_bytes_with_nul(terminated).map_err(|_| libc::EINVAL)?;
        let name = CStr::from_bytes_with_nul(&terminated[start..]).map_err(|_| libc::EINVAL)?;
        let status = status::status_at(at, name, follow)?;
        let target = if status.format() == libc::S_IFLNK {
            status::link_target(whole)?
        } else {
            Vec::new()
        };
        Ok((whole, status, target))
    })();
    let (whole, status, target) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            troubles.push((path.to_vec(), error, false));
            return None;
        }
    };
    let extended = status::extended(whole, follow).unwrap_or_else(|error| {
        if ![libc::ENOTSUP, libc::ENODATA, libc::ENOENT].contains(&error) {
            troubles.push((path.to_vec(), error, true));
        }
        Vec::new()
    });
    let mut found = Found {
        name: chosen.name,
        path: path.to_vec(),
        inside: chosen.inside,
        taken: chosen.taken,
        status,
        target,
        extended,
        token: Token::default(),
        known: None,
    };
    if status.format() == libc::S_IFREG {
        found.token = token_of(
            path,
            status.size,
            status.mtime_ns,
            status.ctime_ns,
            status.inode,
        );
        found.known = known.find(&found.token);
    }
    Some(found)
}

/// The extended attributes of the entry at `path` (of a link itself), sorted by name. Raises OSError.
#[pyfunction]
pub fn extended_attributes<'py>(
    py: Python<'py>,
    mut path: Vec<u8>,
) -> PyResult<Bound<'py, PyTuple>> {
    let found = py.detach(|| {
        path.push(0);
        let path = CStr::from_bytes_with_nul(&path).map_err(|_| libc::EINVAL)?;
        status::extended(path, false)
    });
    attributes(py, &found.map_err(io::Error::from_raw_os_error)?)
}

fn attributes<'py>(py: Python<'py>, found: &Extended) -> PyResult<Bound<'py, PyTuple>> {
    let pairs = found
        .iter()
        .map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)));
    PyTuple::new(py, pairs.collect::<Vec<_>>())
}
