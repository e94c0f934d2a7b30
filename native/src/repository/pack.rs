//! Packs: sealed blobs one after the other, a sealed header that lists them, the header's length (u32, little-endian).
//!
//! A header entry is type u8, length u32, plain length u32 for compressed blobs, id (32 bytes); types are 0 data,
//! 1 tree, 2 compressed data, 3 compressed tree.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};

use super::blob::Id;
use super::broken::Broken;
use super::buffers::view;
use super::seal::{Key, Sealer, OVERHEAD};

const MOST_HEADER_BYTES: usize = 16 << 20;
const PLAIN_ENTRY: usize = 37;
const COMPRESSED_ENTRY: usize = 41;
const COMPRESSED: u8 = 2;

/// A blob as a pack's header or an index lists it; kinds: 0 data, 1 tree; `plain` is 0 when it is not compressed.
#[derive(Clone)]
pub struct Blob {
    pub kind: u8,
    pub id: Id,
    pub offset: u32,
    pub length: u32,
    pub plain: u32,
}

/// Memory of packs that are stored, to be filled again: fresh memory costs more than what is written into it.
#[derive(Clone, Default)]
pub struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

const MOST_SPARES: usize = 4;

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Room for a pack of about so many bytes.
    pub fn take(&self, size: usize) -> Vec<u8> {
        let spare = self.lock().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(size))
    }

    fn give(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut spares = self.lock();
        if spares.len() < MOST_SPARES && bytes.capacity() > 0 {
            spares.push(bytes);
        }
    }
}

/// A pack's bytes and blobs: first the sealed blobs, once finished also its header and name.
#[derive(Default)]
pub struct Filled {
    pub bytes: Vec<u8>,
    pub blobs: Vec<Blob>,
    pub name: Id,
    /// The SHA-256 of the bytes so far; each blob's are to be added once they are in order.
    pub digest: Sha256,
    finished: bool,
}

impl Filled {
    /// An empty one, with room.
    pub fn within(bytes: Vec<u8>) -> Self {
        Filled {
            bytes,
            ..Filled::default()
        }
    }

    /// Seal a blob's stored form (compressed, or plain when `plain` is 0) at the end; where it begins. `digest` is left
    /// to the caller.
    pub fn add(
        &mut self,
        key: &Key,
        kind: u8,
        id: &Id,
        stored: &[u8],
        plain: usize,
    ) -> Result<usize, Broken> {
        let start = self.bytes.len();
        key.seal(stored, &mut self.bytes)?;
        self.list(kind, id, start, plain);
        Ok(start)
    }

    /// Put a blob at the end that is sealed with the pack's key already; where it begins.
    pub fn add_sealed(&mut self, kind: u8, id: &Id, sealed: &[u8], plain: usize) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(sealed);
        self.list(kind, id, start, plain);
        start
    }

    fn list(&mut self, kind: u8, id: &Id, start: usize, plain: usize) {
        self.blobs.push(Blob {
            kind,
            id: *id,
            offset: start as u32,
            length: (self.bytes.len() - start) as u32,
            plain: plain as u32,
        });
    }

    /// Take over another pack's blobs: sealed bytes do not depend on where they lie.
    fn absorb(&mut self, other: &mut Filled) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.digest.update(&other.bytes);
        self.blobs.extend(other.blobs.drain(..).map(|blob| Blob {
            offset: blob.offset + start,
            ..blob
        }));
    }

    fn finish(&mut self, key: &Key) -> Result<(), Broken> {
        if self.finished {
            return Ok(());
        }
        let mut header = Vec::with_capacity(self.blobs.len() * COMPRESSED_ENTRY);
        for blob in &self.blobs {
            if blob.plain > 0 {
                header.push(blob.kind | COMPRESSED);
                header.extend_from_slice(&blob.length.to_le_bytes());
                header.extend_from_slice(&blob.plain.to_le_bytes());
            } else {
                header.push(blob.kind);
                header.extend_from_slice(&blob.length.to_le_bytes());
            }
            header.extend_from_slice(&blob.id);
        }
        let body = self.bytes.len();
        key.seal(&header, &mut self.bytes)?;
        let length = (self.bytes.len() - body) as u32;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        let mut digest = std::mem::take(&mut self.digest);
        digest.update(&self.bytes[body..]);
        self.name = digest.finalize().into();
        self.finished = true;
        Ok(())
    }
}

/// A pack that is complete or as full as it will get; a buffer of its bytes once it is finished.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Pack {
    kind: u8,
    filled: Mutex<Filled>,
    spares: Spares,
    views: AtomicUsize,
}

impl Pack {
    pub fn of(kind: u8, filled: Filled, spares: Spares) -> Self {
        Pack {
            kind,
            filled: Mutex::new(filled),
            spares,
            views: AtomicUsize::new(0),
        }
    }

    pub fn filled(&self) -> MutexGuard<'_, Filled> {
        self.filled
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[pymethods]
impl Pack {
    /// What its blobs hold: 0 data, 1 trees.
    #[getter]
    fn kind(&self) -> u8 {
        self.kind
    }

    /// Bytes so far.
    #[getter]
    fn size(&self) -> usize {
        self.filled().bytes.len()
    }

    /// How many blobs are in it.
    #[getter]
    fn blob_count(&self) -> usize {
        self.filled().blobs.len()
    }

    /// Take over another pack's blobs, which is empty then; neither may be finished.
    fn absorb(&self, other: &Pack) {
        let mut taken = std::mem::take(&mut *other.filled());
        self.filled().absorb(&mut taken);
        self.spares.give(taken.bytes);
    }

    /// Write the header at its end; its name, 32 bytes: the SHA-256 of all its bytes.
    fn finish<'py>(&self, py: Python<'py>, sealer: &Sealer) -> PyResult<Bound<'py, PyBytes>> {
        let name = py.detach(|| {
            let mut filled = self.filled();
            filled.finish(&sealer.key).map(|()| filled.name)
        });
        name.map(|name| PyBytes::new(py, &name))
            .map_err(|broken| broken.raise(py))
    }

    /// Give its bytes' memory back, once they are stored; what it lists stays known. Raises BufferError while in use.
    fn release(&self) -> PyResult<()> {
        let mut filled = self.filled();
        if self.views.load(Ordering::Acquire) > 0 {
            return Err(PyBufferError::new_err("the pack is being read"));
        }
        self.spares.give(std::mem::take(&mut filled.bytes));
        Ok(())
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let filled = slf.get().filled();
        if !filled.finished || flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            (*view).obj = ptr::null_mut();
            return Err(PyBufferError::new_err(
                "only a finished pack can be read, and none can be written",
            ));
        }
        // SAFETY: a finished pack's bytes stay where they are until `release`, which refuses while there are views.
        let status = ffi::PyBuffer_FillInfo(
            view,
            slf.as_ptr(),
            filled.bytes.as_ptr() as *mut _,
            filled.bytes.len() as isize,
            1,
            flags,
        );
        if status == 0 {
            slf.get().views.fetch_add(1, Ordering::AcqRel);
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.views.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The blobs that a plain header lists; they must fill the pack up to `end`.
pub fn parse_header(plain: &[u8], end: usize) -> Result<Vec<Blob>, Broken> {
    let broken = |why: &str| Err(Broken::damage("A pack is damaged", why));
    let number = |at: usize| u32::from_le_bytes(plain[at..at + 4].try_into().expect("four bytes"));
    let mut blobs = Vec::with_capacity(plain.len() / PLAIN_ENTRY);
    let (mut at, mut offset) = (0usize, 0usize);
    while at < plain.len() {
        let kind = plain[at];
        let size = if kind & COMPRESSED != 0 {
            COMPRESSED_ENTRY
        } else {
            PLAIN_ENTRY
        };
        if kind > 3 || at + size > plain.len() {
            return broken("its header is of no known shape");
        }
        let length = number(at + 1);
        let plain_length = if kind & COMPRESSED != 0 {
            number(at + 5)
        } else {
            0
        };
        if (length as usize) < OVERHEAD || offset + length as usize > end {
            return broken("its header lists more than the pack holds");
        }
        blobs.push(Blob {
            kind: kind & 1,
            id: plain[at + size - 32..at + size]
                .try_into()
                .expect("32 bytes"),
            offset: offset as u32,
            length,
            plain: plain_length,
        });
        offset += length as usize;
        at += size;
    }
    if offset != end {
        return broken("its header lists less than the pack holds");
    }
    Ok(blobs)
}

/// Offset and length of the sealed header of a pack of `size` bytes that ends in `tail` (4 bytes).
fn header_range(size: usize, tail: &[u8]) -> Result<(usize, usize), Broken> {
    let length = tail
        .try_into()
        .map(|tail| u32::from_le_bytes(tail) as usize);
    match length {
        Ok(length) if (OVERHEAD..=MOST_HEADER_BYTES).contains(&length) && length + 4 <= size => {
            Ok((size - 4 - length, length))
        }
        _ => Err(Broken::damage(
            "A pack is damaged",
            "the length of its header is out of range",
        )),
    }
}

/// The most bytes that the header of a pack with so many blobs takes, with its length behind it.
pub fn most_header_bytes(blobs: usize) -> usize {
    blobs * COMPRESSED_ENTRY + OVERHEAD + 4
}

/// The blobs that the header of a pack of `size` bytes lists, from all its bytes or as many at its end as it takes.
pub fn listed(key: &Key, size: usize, tail: &[u8]) -> Result<Vec<Blob>, Broken> {
    if size > u32::MAX as usize {
        return Err(Broken::damage(
            "A pack is damaged",
            "it is larger than any pack can be",
        ));
    }
    let (start, length) = header_range(size, &tail[tail.len().saturating_sub(4)..])?;
    if length + 4 > tail.len() {
        return Err(Broken::damage(
            "A pack is damaged",
            "its header lists more blobs than were expected",
        ));
    }
    let header = &tail[tail.len() - 4 - length..tail.len() - 4];
    let mut plain = Vec::new();
    key.open(header, &mut plain)
        .map_err(|_| Broken::damage("A pack is damaged", "its header does not open"))?;
    parse_header(&plain, start)
}

type Listed<'py> = (u8, Bound<'py, PyBytes>, u32, u32, u32);

/// The blobs that a pack's sealed header lists: (kind, id, offset, length, plain length). They must fill the pack up to
/// `end`, where the header begins. Raises DamageError.
#[pyfunction]
pub fn read_header<'py>(
    py: Python<'py>,
    sealer: &Sealer,
    sealed: PyBuffer<u8>,
    end: usize,
) -> PyResult<Vec<Listed<'py>>> {
    let bytes = view(&sealed)?;
    let mut plain = Vec::new();
    let blobs = sealer
        .key
        .open(bytes, &mut plain)
        .map_err(|_| Broken::damage("A pack is damaged", "its header does not open"))
        .and_then(|()| parse_header(&plain, end))
        .map_err(|broken| broken.raise(py))?;
    Ok(blobs
        .into_iter()
        .map(|blob| {
            (
                blob.kind,
                PyBytes::new(py, &blob.id),
                blob.offset,
                blob.length,
                blob.plain,
            )
        })
        .collect())
}
