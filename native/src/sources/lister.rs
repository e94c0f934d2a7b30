//! Listing for Python: the entries of a folder, ready-made.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::IntoPyObjectExt;

use super::ahead::{Ahead, Taken};
use super::digests::{Known, KnownDigests};
use super::folder::Named;
use super::listing::{self, Chosen, Found, Listing, Trouble};
use super::literals::{LeftOut, Literals};
use super::status::{self, Extended};

/// Lists folders: looks at what is there, without the interpreter, then makes entries of it.
///
/// `make` is called with the fields of a `TreeEntry` in their order, `kinds` has an entry's kind by its format (S_IFMT).
/// With `ahead`, so many threads list the folders that were found before they are asked for.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Lister {
    make: Py<PyAny>,
    kinds: Py<PyDict>,
    known: Arc<Known>,
    leave_out: Arc<LeftOut>,
    ahead: Option<Ahead>,
}

#[pymethods]
impl Lister {
    #[new]
    fn new(
        make: Py<PyAny>,
        kinds: Py<PyDict>,
        known: &KnownDigests,
        leave_out: &Literals,
        ahead: usize,
    ) -> Self {
        let (known, leave_out) = (known.0.clone(), leave_out.0.clone());
        let ahead = (ahead > 0).then(|| Ahead::new(ahead, leave_out.clone(), known.clone()));
        Lister {
            make,
            kinds,
            known,
            leave_out,
            ahead,
        }
    }

    /// The entries in the folder `path` (empty for the root) sorted by name, and what could not be read: path, errno,
    /// and whether that was about extended attributes only, without which the entry is listed all the same.
    ///
    /// What `leave_out` names is not looked at. `choose`, if given, decides instead: it is told the names and which are
    /// folders, and says for each: None to leave it out, or what its `inside` and `taken` are to be (else true, false).
    fn folder<'py>(
        &self,
        py: Python<'py>,
        path: &[u8],
        choose: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyList>, Vec<Trouble>)> {
        let mut listing = self.listed_ahead(py, path);
        if let Some(choose) = choose {
            listing = Some(self.chosen(py, path, choose)?);
        }
        let list = || py.detach(|| listing::list(path, &self.leave_out, &self.known));
        let Listing { found, troubles } = listing.unwrap_or_else(list);
        if let (Some(ahead), None) = (&self.ahead, choose) {
            ahead.want(
                found
                    .iter()
                    .filter(|one| one.is_folder())
                    .map(|one| one.path.as_slice()),
            );
        }
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
        let found = py.detach(|| {
            let mut terminated = path;
            terminated.push(0);
            let chosen = Chosen {
                name,
                inside,
                taken,
            };
            listing::look(
                libc::AT_FDCWD,
                &terminated,
                0,
                chosen,
                follow,
                &self.known,
                &mut troubles,
            )
        });
        Ok((found.map(|one| self.entry(py, one)).transpose()?, troubles))
    }
}

impl Lister {
    /// What was found in a folder already, if it was looked at ahead.
    fn listed_ahead(&self, py: Python<'_>, path: &[u8]) -> Option<Listing> {
        let ahead = self.ahead.as_ref()?;
        match ahead.take(path) {
            Taken::Listed(listing) => Some(listing),
            Taken::Unknown => None,
            Taken::Soon => py.detach(|| ahead.wait(path)),
        }
    }

    /// What of a folder `choose` chooses.
    fn chosen(&self, py: Python<'_>, path: &[u8], choose: &Bound<'_, PyAny>) -> PyResult<Listing> {
        let mut troubles = Vec::new();
        let read = py.detach(|| {
            let (folder, mut names) = listing::read(path, None, &mut troubles)?;
            listing::tell_kinds(&folder, &mut names);
            Some((folder, names))
        });
        let Some((folder, names)) = read else {
            return Ok(Listing {
                found: Vec::new(),
                troubles,
            });
        };
        let chosen = chosen(py, names, choose)?.into_iter();
        let found =
            py.detach(|| listing::look_at(&folder, path, chosen, &self.known, &mut troubles));
        Ok(Listing { found, troubles })
    }

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
