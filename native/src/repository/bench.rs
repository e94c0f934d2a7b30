//! One worker thread's tools and packs in progress: where blobs are compressed, sealed, opened again, and packed.

use std::sync::{Mutex, MutexGuard};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use sha2::Digest;

use super::blob::{identify, push_hex, with_opener, Id, Opener, Squeezer};
use super::broken::Broken;
use super::buffers::view;
use super::faults;
use super::index::Claims;
use super::pack::{Filled, Pack, Spares};
use super::seal::{Key, Sealer};
use super::tally::Tally;
use super::tree::Nodes;

const MOST_BLOBS: usize = 300_000; // far below what a header of 16 MiB holds
pub const DATA: u8 = 0;
pub const TREE: u8 = 1;

/// The form in which a blob is to be stored, and what was seen to be true of it.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// Made here: what is sealed is to be expanded again, and compared with the id.
    Made(&'a [u8]),
    /// Expanded and compared with the id already: what is sealed is to be opened again, and compared with this.
    Proved(&'a [u8]),
    /// The same, and sealed with this key already.
    Sealed(&'a [u8]),
}

struct Inner {
    key: Key,
    squeezer: Squeezer,
    opener: Opener,
    filling: [Option<Filled>; 2],
    full: Vec<(u8, Filled)>,
    spares: Spares,
    verify_one_in: u64,
    pack_bytes: usize,
    count: u64,
    added_bytes: u64,
    tally: Tally,
}

impl Inner {
    /// Seal a claimed blob's stored form, unless it is sealed, and see that it came out right before it counts.
    fn store(
        &mut self,
        kind: u8,
        blob: &Id,
        form: Form<'_>,
        plain_size: usize,
    ) -> Result<(), Broken> {
        let (Form::Made(stored) | Form::Proved(stored) | Form::Sealed(stored)) = form;
        if stored.len() >= (u32::MAX as usize) / 2 {
            return Err(Broken::Machine("a blob of two GiB or more".to_string()));
        }
        let (spares, pack_bytes) = (&self.spares, self.pack_bytes);
        let filled = self.filling[kind as usize].get_or_insert_with(|| {
            // Trees seldom fill a pack.
            Filled::within(if kind == DATA {
                spares.take(pack_bytes + pack_bytes / 8)
            } else {
                Vec::new()
            })
        });
        let start = match form {
            Form::Sealed(sealed) => filled.add_sealed(kind, blob, sealed, plain_size),
            _ => filled.add(&self.key, kind, blob, stored, plain_size)?,
        };
        if kind == DATA && faults::strikes(faults::SEALING, stored.len()) {
            filled.bytes[start + 40] ^= 1;
        }
        self.count += 1;
        let (made, chosen) = (&filled.bytes[start..], self.count % self.verify_one_in == 0);
        match form {
            Form::Made(_) if chosen => self
                .opener
                .open(&self.key, made, blob, plain_size)
                .map(|_| ()),
            Form::Proved(stored) if chosen => self.opener.opens_as(&self.key, made, stored),
            Form::Sealed(sealed) if made != sealed => Err(Broken::damage(
                "A sealed blob is damaged",
                "it changed on its way into another pack",
            )),
            _ => Ok(()),
        }
        .map_err(|broken| Broken::Writing { why: broken.line() })?;
        // While the bytes are in the processor's cache, and as they were found right.
        filled.digest.update(&filled.bytes[start..]);
        self.added_bytes += (filled.bytes.len() - start) as u64;
        if filled.bytes.len() >= self.pack_bytes || filled.blobs.len() >= MOST_BLOBS {
            if let Some(filled) = self.filling[kind as usize].take() {
                self.full.push((kind, filled));
            }
        }
        Ok(())
    }

    /// Store a blob unless it is there; its id.
    fn save(&mut self, claims: &Claims, kind: u8, plain: &[u8]) -> Result<Id, Broken> {
        self.save_new(claims, kind, plain).map(|(blob, _)| blob)
    }

    /// The same, and whether it was not there.
    fn save_new(&mut self, claims: &Claims, kind: u8, plain: &[u8]) -> Result<(Id, bool), Broken> {
        let struck = |fault| kind == DATA && faults::strikes(fault, plain.len());
        let wrong;
        let plain = if struck(faults::STORING) {
            wrong = faults::flipped(plain);
            &wrong
        } else {
            plain
        };
        let blob = identify(plain);
        if kind == DATA {
            self.tally.read(plain);
        }
        let new = claims.claim(kind, &blob);
        if new {
            let before = self.added_bytes;
            let squeezed = if struck(faults::COMPRESSING) {
                self.squeezer.squeeze(&faults::flipped(plain), true)?
            } else {
                self.squeezer.squeeze(plain, kind == TREE)?
            };
            if squeezed {
                let frame = std::mem::take(&mut self.squeezer.frame);
                let stored = self.store(kind, &blob, Form::Made(&frame), plain.len());
                self.squeezer.frame = frame;
                stored?;
            } else {
                self.store(kind, &blob, Form::Made(plain), 0)?;
            }
            if kind == DATA {
                let stored = self.added_bytes - before;
                self.tally.stored(plain, &blob, stored, squeezed);
            }
        }
        Ok((blob, new))
    }
}

/// For each content the ids as JSON, and the places of those that were there already.
type SavedFiles<'py> = (Vec<Option<Bound<'py, PyString>>>, Vec<usize>);

/// One worker thread's tools. Every call may complete packs: fetch them with `take_full`.
///
/// `verify_one_in`: how many sealed blobs there are to one that is opened again, 1 for all.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Bench {
    claims: Py<Claims>,
    inner: Mutex<Inner>,
}

impl Bench {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[pymethods]
impl Bench {
    #[new]
    fn new(
        sealer: &Sealer,
        claims: Py<Claims>,
        level: i32,
        verify_one_in: u64,
        pack_bytes: usize,
    ) -> PyResult<Self> {
        if verify_one_in == 0 {
            return Err(PyValueError::new_err("verify_one_in is at least 1"));
        }
        let spares = claims.get().spares.clone();
        Ok(Bench {
            claims,
            inner: Mutex::new(Inner {
                key: sealer.key.clone(),
                squeezer: Squeezer::new(level),
                opener: Opener::new(),
                filling: [None, None],
                full: Vec::new(),
                spares,
                verify_one_in,
                pack_bytes,
                count: 0,
                added_bytes: 0,
                tally: Tally::default(),
            }),
        })
    }

    /// Store a blob of a kind (0 data, 1 tree) unless it is there; its id, 32 bytes. Raises CameOutWrongError.
    fn save<'py>(
        &self,
        py: Python<'py>,
        kind: u8,
        plain: PyBuffer<u8>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = view(&plain)?;
        let claims = self.claims.get();
        let saved = py.detach(|| self.lock().save(claims, kind & 1, bytes));
        saved
            .map(|blob| PyBytes::new(py, &blob))
            .map_err(|broken| broken.raise(py))
    }

    /// Store contents of one blob each; for each the ids as JSON, ``[]`` for an empty one. None stays None. Beside it the
    /// places of those that were there already.
    fn save_files<'py>(
        &self,
        py: Python<'py>,
        contents: Vec<Option<Bound<'py, PyBytes>>>,
    ) -> PyResult<SavedFiles<'py>> {
        let views: Vec<Option<&[u8]>> = contents
            .iter()
            .map(|content| content.as_ref().map(|content| content.as_bytes()))
            .collect();
        let claims = self.claims.get();
        let saved = py.detach(|| {
            let mut inner = self.lock();
            let mut texts = Vec::with_capacity(views.len());
            let mut known = Vec::new();
            for (place, plain) in views.into_iter().enumerate() {
                texts.push(match plain {
                    None => None,
                    Some([]) => Some("[]".to_string()),
                    Some(plain) => {
                        let (blob, new) = inner.save_new(claims, DATA, plain)?;
                        if !new {
                            known.push(place);
                        }
                        let mut text = String::with_capacity(68);
                        text.push_str("[\"");
                        push_hex(&blob, &mut text);
                        text.push_str("\"]");
                        Some(text)
                    }
                });
            }
            Ok((texts, known))
        });
        match saved {
            Ok((texts, known)) => Ok((
                texts
                    .into_iter()
                    .map(|text| text.map(|text| PyString::new(py, &text)))
                    .collect(),
                known,
            )),
            Err(broken) => Err(Broken::raise(broken, py)),
        }
    }

    /// Store a folder's tree; its id.
    fn save_tree<'py>(&self, py: Python<'py>, nodes: &Nodes) -> PyResult<Bound<'py, PyBytes>> {
        let claims = self.claims.get();
        let saved = py.detach(|| self.lock().save(claims, TREE, nodes.json().as_bytes()));
        saved
            .map(|blob| PyBytes::new(py, &blob))
            .map_err(|broken| broken.raise(py))
    }

    /// Store a blob that another repository or this one sealed, as compressed as it is there, and if that was this one
    /// as it is sealed, unless it is here; what it brought, in bytes. Raises SealBrokenError, DamageError when it does not hold what `blob` names; it is then still to be
    /// stored, with `save`.
    fn copy(
        &self,
        py: Python<'_>,
        origin: &Sealer,
        kind: u8,
        blob: Id,
        sealed: PyBuffer<u8>,
        plain_size: usize,
    ) -> PyResult<Option<usize>> {
        let bytes = view(&sealed)?;
        let claims = self.claims.get();
        let copied = py.detach(|| {
            if claims.has(kind & 1, &blob) {
                return Ok(None);
            }
            with_opener(|opener| {
                let (plain, stored) = opener.open(&origin.key, bytes, &blob, plain_size)?;
                if !claims.claim(kind & 1, &blob) {
                    return Ok(None);
                }
                let mut inner = self.lock();
                let form = if inner.key.is(&origin.key) {
                    Form::Sealed(bytes)
                } else {
                    Form::Proved(stored)
                };
                inner.store(kind & 1, &blob, form, plain_size)?;
                Ok(Some(plain.len()))
            })
        });
        copied.map_err(|broken: Broken| broken.raise(py))
    }

    /// The packs that are full, to be uploaded.
    fn take_full(&self) -> Vec<Pack> {
        let mut inner = self.lock();
        let full = std::mem::take(&mut inner.full);
        full.into_iter()
            .map(|(kind, filled)| Pack::of(kind, filled, inner.spares.clone()))
            .collect()
    }

    /// The pack in progress of a kind, if there is one.
    fn take_unfilled(&self, kind: u8) -> Option<Pack> {
        let mut inner = self.lock();
        let filled = inner.filling[(kind & 1) as usize].take()?;
        Some(Pack::of(kind & 1, filled, inner.spares.clone()))
    }

    /// Sealed bytes that were stored so far.
    #[getter]
    fn added_bytes(&self) -> u64 {
        self.lock().added_bytes
    }

    /// Of data that `save` and `save_files` stored so far: plain bytes, what they took sealed, the plain bytes of what
    /// did not compress, the bytes of blobs, stored or there already, that repeat one byte; and of samples of it the
    /// entropy in bits a byte, summed up by the bytes that they stand for, and these bytes.
    #[getter]
    fn data_tally(&self) -> (u64, u64, u64, u64, f64, u64) {
        self.lock().tally.figures()
    }

    /// Blobs that were stored so far.
    #[getter]
    fn added_blobs(&self) -> u64 {
        self.lock().count
    }
}
