//! Digests of files that were read before: SHA-256 by token, where a token identifies one state of one file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use hashbrown::HashTable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

pub const TOKEN: usize = 16;
pub const DIGEST: usize = 32;
const RECORD: usize = TOKEN + DIGEST;
/// So many records are allocated, and given out, at a time.
const PART: usize = 1 << 14;

pub type Token = [u8; TOKEN];
pub type Sha256Digest = [u8; DIGEST];

/// What identifies one state of one file: BLAKE2b of size, mtime, ctime, inode (8 bytes each, little-endian), and path.
pub fn token_of(path: &[u8], size: i64, mtime_ns: i128, ctime_ns: i128, inode: u64) -> Token {
    let mut hash = Blake2b::<U16>::new();
    let mut state = [0_u8; 32];
    state[..8].copy_from_slice(&size.to_le_bytes());
    // A time that no 64 bits hold is cut: the token is a cache's key.
    state[8..16].copy_from_slice(&(mtime_ns as i64).to_le_bytes());
    state[16..24].copy_from_slice(&(ctime_ns as i64).to_le_bytes());
    state[24..].copy_from_slice(&inode.to_le_bytes());
    hash.update(state);
    hash.update(path);
    hash.finalize().into()
}

/// `token_of`, for Python.
#[pyfunction]
pub fn token<'py>(
    py: Python<'py>,
    path: &[u8],
    size: i64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &token_of(path, size, mtime_ns, ctime_ns, inode))
}

/// SHA-256 by token, over records of a token and a SHA-256 each; of two with one token, the last counts.
///
/// There may be millions: the records stay where the interpreter has them, and are not copied.
pub struct Known {
    stored: PyBackedBytes,
    start: usize,
    places: HashTable<u32>,
}

impl Known {
    pub fn find(&self, token: &Token) -> Option<Sha256Digest> {
        self.digest(self.place(token)?)
    }

    fn over(stored: PyBackedBytes, start: usize, count: u32) -> Self {
        let records = &stored[start..];
        let mut places = HashTable::with_capacity(count as usize);
        let token = |place: u32| &records[place as usize * RECORD..place as usize * RECORD + TOKEN];
        for place in 0..count {
            let hash = spread(token(place));
            match places.find_mut(hash, |other| token(*other) == token(place)) {
                Some(former) => *former = place,
                None => {
                    places.insert_unique(hash, place, |other| spread(token(*other)));
                }
            }
        }
        Known {
            stored,
            start,
            places,
        }
    }

    fn records(&self) -> &[u8] {
        &self.stored[self.start..]
    }

    fn place(&self, token: &Token) -> Option<u32> {
        let records = self.records();
        let found = self.places.find(spread(token), |place| {
            let start = *place as usize * RECORD;
            records[start..start + TOKEN] == token[..]
        });
        found.copied()
    }

    fn digest(&self, place: u32) -> Option<Sha256Digest> {
        let start = place as usize * RECORD + TOKEN;
        self.records()[start..start + DIGEST].try_into().ok()
    }
}

/// `Known`, for Python.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct KnownDigests(pub Arc<Known>);

#[pymethods]
impl KnownDigests {
    #[new]
    #[pyo3(signature = (stored, start=0))]
    fn new(py: Python<'_>, stored: PyBackedBytes, start: usize) -> PyResult<Self> {
        let size = stored.len().saturating_sub(start);
        let count = u32::try_from(size / RECORD).unwrap_or(u32::MAX);
        if start > stored.len() || size != count as usize * RECORD {
            return Err(PyValueError::new_err(
                "digests are records of 48 bytes, fewer than 2**32",
            ));
        }
        Ok(KnownDigests(Arc::new(
            py.detach(|| Known::over(stored, start, count)),
        )))
    }

    fn __len__(&self) -> usize {
        self.0.places.len()
    }

    /// The SHA-256 for a token, if it is known.
    fn get<'py>(&self, py: Python<'py>, token: &[u8]) -> Option<Bound<'py, PyBytes>> {
        let found = self.0.find(token.try_into().ok()?)?;
        Some(PyBytes::new(py, &found))
    }
}

/// A token is a hash already.
fn spread(token: &[u8]) -> u64 {
    token[..8].try_into().map_or(0, u64::from_le_bytes)
}

/// A file's token and digest, and when it last changed.
pub struct Learned {
    pub token: Token,
    pub digest: Sha256Digest,
    pub changed_ns: i128,
}

/// What was learned: which of the known records hold again, a bit each, and new records.
#[derive(Default)]
struct Records {
    again: Vec<u64>,
    fresh: Vec<Vec<u8>>,
}

impl Records {
    fn note(&mut self, place: u32) {
        self.again[place as usize / 64] |= 1 << (place % 64);
    }

    fn is_noted(&self, place: usize) -> bool {
        self.again[place / 64] >> (place % 64) & 1 == 1
    }

    fn add(&mut self, one: &Learned) {
        if self
            .fresh
            .last()
            .is_none_or(|part| part.len() == PART * RECORD)
        {
            // The first part grows as it needs, so that small sources stay small.
            let room = if self.fresh.is_empty() {
                0
            } else {
                PART * RECORD
            };
            self.fresh.push(Vec::with_capacity(room));
        }
        if let Some(part) = self.fresh.last_mut() {
            part.extend_from_slice(&one.token);
            part.extend_from_slice(&one.digest);
        }
    }
}

/// Records of files that were read or reused and had not changed since `settled_ns`: another, written to within a tick
/// of the clock, may change again without showing it.
///
/// Of what is `known` already, no second copy is held.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct LearnedDigests {
    settled_ns: i128,
    known: Option<Arc<Known>>,
    records: Mutex<Records>,
}

impl LearnedDigests {
    pub fn take(&self, learned: &[Learned]) {
        let mut records = self.records();
        for one in learned
            .iter()
            .filter(|one| one.changed_ns < self.settled_ns)
        {
            let known = self.known.as_ref();
            let place = known.and_then(|known| {
                let place = known.place(&one.token)?;
                (known.digest(place)? == one.digest).then_some(place)
            });
            match place {
                Some(place) => records.note(place),
                None => records.add(one),
            }
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> &[u8] {
        self.known.as_ref().map_or(&[], |known| known.records())
    }

    /// Those records of a part of the known ones that hold again.
    fn again(&self, part: usize) -> Vec<u8> {
        let records = self.records();
        let known = self.known().chunks_exact(RECORD).enumerate();
        let held = known
            .skip(part * PART)
            .take(PART)
            .filter(|(place, _)| records.is_noted(*place));
        held.flat_map(|(_, record)| record).copied().collect()
    }
}

#[pymethods]
impl LearnedDigests {
    #[new]
    #[pyo3(signature = (settled_ns, known=None))]
    fn new(settled_ns: i128, known: Option<&KnownDigests>) -> Self {
        let known = known.map(|known| known.0.clone());
        let count = known.as_ref().map_or(0, |known| known.records().len()) / RECORD;
        let records = Records {
            again: vec![0; count.div_ceil(64)],
            fresh: Vec::new(),
        };
        LearnedDigests {
            settled_ns,
            known,
            records: Mutex::new(records),
        }
    }

    /// Learn a file's digest.
    fn add(&self, token: Token, digest: Sha256Digest, changed_ns: i128) {
        self.take(&[Learned {
            token,
            digest,
            changed_ns,
        }]);
    }

    /// Token and SHA-256 of some of the files; None from some number on.
    fn part<'py>(&self, py: Python<'py>, number: usize) -> Option<Bound<'py, PyBytes>> {
        let before = (self.known().len() / RECORD).div_ceil(PART);
        let part = if number < before {
            self.again(number)
        } else {
            self.records().fresh.get(number - before)?.clone()
        };
        Some(PyBytes::new(py, &part))
    }
}
