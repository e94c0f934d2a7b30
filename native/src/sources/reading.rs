//! Reading small files whole, many at once. What is not just as it was listed is left to Python, which is careful.

use std::ffi::{c_int, c_void, CStr};

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use sha2::{Digest, Sha256};

use super::digests::{Learned, LearnedDigests, Sha256Digest};
use super::node::{bytes, Kind, Node, Place};
use super::status;
use super::tally::{samples, Counted, Pick, Sample, Tally};

/// Never waits for the other end of a fifo that took a file's place, never follows a link that did.
const OPEN: c_int =
    libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NOCTTY;

/// A content for each file, or None.
type Contents<'py> = Vec<Option<Bound<'py, PyBytes>>>;

/// A file to read, into room for just the bytes that it had when it was listed.
struct Wanted {
    terminated: Vec<u8>,
    room: *mut u8,
    length: usize,
    quietly: bool,
    node: Node,
}

// SAFETY: `room` is the inside of a bytes object that nobody else knows of as long as `Wanted` is in use.
unsafe impl Send for Wanted {}

/// What went perfectly: places among those wanted, the same ready to be counted, and what to tell of.
#[derive(Default)]
struct Perfect {
    places: Vec<usize>,
    counted: Vec<Counted>,
    picks: Vec<Pick>,
}

/// The contents of files that are just as they were listed, counted and learned; None for each other one, of which
/// nothing is noted or counted. And whom to tell of.
///
/// `user`: who reads; the access times of files that are this user's (or, for root, anybody's) are left alone.
#[pyfunction]
pub fn read_files<'py>(
    py: Python<'py>,
    entries: &Bound<'py, PyList>,
    prefix: &[u8],
    cut: usize,
    user: i64,
    tally: &Tally,
    learned: &LearnedDigests,
) -> PyResult<(Contents<'py>, Vec<Sample<'py>>)> {
    let place = Place { prefix, cut };
    let mut contents = Vec::with_capacity(entries.len());
    let mut wanted = Vec::with_capacity(entries.len());
    let mut tokens = Vec::with_capacity(entries.len());
    for entry in entries {
        let own = bytes(&entry, intern!(py, "path"))?;
        let node = Node::of(&entry, Kind::of(&entry)?, place.path(own.as_bytes()))?;
        let mut terminated = own.as_bytes().to_vec();
        terminated.push(0);
        let length = usize::try_from(node.size).unwrap_or_default();
        let content = blank(py, length)?;
        let quietly = user == 0 || user == node.uid;
        wanted.push(Wanted {
            terminated,
            room: room(&content),
            length,
            quietly,
            node,
        });
        contents.push(Some(content));
        let token = entry.getattr_opt(intern!(py, "token"))?;
        tokens.push(token.map(|token| token.extract()).transpose()?);
    }
    let perfect = py.detach(|| read_all(wanted, tally));
    let mut kept = perfect.places.iter().zip(&perfect.counted).peekable();
    let mut added = Vec::with_capacity(perfect.places.len());
    let mut records = Vec::with_capacity(perfect.places.len());
    for (at, (content, entry)) in contents.iter_mut().zip(entries).enumerate() {
        let Some((
            _,
            Counted {
                node,
                content: digest,
            },
        )) = kept.next_if(|(place, _)| **place == at)
        else {
            *content = None;
            continue;
        };
        if let (Some(token), Ok(digest)) = (tokens[at], digest.as_slice().try_into()) {
            records.push(Learned {
                token,
                digest,
                changed_ns: node.mtime_ns.max(node.ctime_ns),
            });
        }
        added.push(entry);
    }
    learned.take(&records);
    Ok((
        contents,
        samples(py, perfect.picks, &perfect.counted, &added),
    ))
}

/// Bytes of this length that are still to be written.
fn blank(py: Python<'_>, length: usize) -> PyResult<Bound<'_, PyBytes>> {
    let length = isize::try_from(length).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: without bytes to copy, the call makes an object of this length, or raises.
    let made = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))?
    };
    Ok(made.cast_into::<PyBytes>()?)
}

fn room(content: &Bound<'_, PyBytes>) -> *mut u8 {
    // SAFETY: it is a bytes object; what the pointer leads to lives as long as it does.
    unsafe { ffi::PyBytes_AsString(content.as_ptr()).cast::<u8>() }
}

fn read_all(wanted: Vec<Wanted>, tally: &Tally) -> Perfect {
    let mut perfect = Perfect::default();
    for (at, one) in wanted.into_iter().enumerate() {
        if let Some(digest) = read(&one) {
            perfect.places.push(at);
            perfect.counted.push(Counted {
                node: one.node,
                content: digest.to_vec(),
            });
        }
    }
    perfect.picks = tally.count(&perfect.counted);
    perfect
}

/// Fill the room of a file that is just as it was listed; the SHA-256 of what is in it then.
fn read(wanted: &Wanted) -> Option<Sha256Digest> {
    let file = File::open(
        CStr::from_bytes_with_nul(&wanted.terminated).ok()?,
        wanted.quietly,
    )?;
    if !file.fill(wanted.room, wanted.length) {
        return None;
    }
    let now = status::status_of(file.0).ok()?;
    let node = &wanted.node;
    let same = node.size == now.size
        && node.mtime_ns == now.mtime_ns
        && node.ctime_ns == now.ctime_ns
        && node.inode == now.inode;
    drop(file);
    // SAFETY: all of the room was filled.
    let content = unsafe { std::slice::from_raw_parts(wanted.room, wanted.length) };
    same.then(|| Sha256::digest(content).into())
}

/// An open file; closed when it is dropped.
struct File(c_int);

impl File {
    fn open(path: &CStr, quietly: bool) -> Option<Self> {
        // SAFETY: `path` ends in NUL.
        let open = |more| unsafe { libc::open(path.as_ptr(), OPEN | more) };
        let mut descriptor = if quietly {
            open(libc::O_NOATIME)
        } else {
            open(0)
        };
        if descriptor < 0 && quietly && [libc::EPERM, libc::EACCES].contains(&status::errno()) {
            descriptor = open(0);
        }
        (descriptor >= 0).then_some(File(descriptor))
    }

    /// Fill the room, if the file has just so many bytes: one more would be read, too, and shows.
    fn fill(&self, room: *mut u8, length: usize) -> bool {
        let mut more = 0_u8;
        let parts = [
            libc::iovec {
                iov_base: room.cast::<c_void>(),
                iov_len: length,
            },
            libc::iovec {
                iov_base: (&raw mut more).cast::<c_void>(),
                iov_len: 1,
            },
        ];
        // SAFETY: both parts have room for as many bytes as they say.
        let count = unsafe { libc::readv(self.0, parts.as_ptr(), 2) };
        usize::try_from(count) == Ok(length)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours, and nobody uses it after this.
        unsafe { libc::close(self.0) };
    }
}
