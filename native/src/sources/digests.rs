//! Digests of files that were read before: SHA-256 by token, where a token identifies one state of one file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use hashbrown::HashTable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub const TOKEN: usize = 16;
pub const DIGEST: usize = 32;
const RECORD: usize = TOKEN + DIGEST;

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
pub struct Known {
    records: Vec<u8>,
    places: HashTable<u32>,
}

impl Known {
    pub fn find(&self, token: &Token) -> Option<Sha256Digest> {
        let place = self
            .places
            .find(spread(token), |place| self.token(*place) == token)?;
        let start = *place as usize * RECORD + TOKEN;
        self.records[start..start + DIGEST].try_into().ok()
    }

    fn over(records: Vec<u8>, count: u32) -> Self {
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
        Known { records, places }
    }

    fn token(&self, place: u32) -> &[u8] {
        let start = place as usize * RECORD;
        &self.records[start..start + TOKEN]
    }
}

/// `Known`, for Python.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct KnownDigests(pub Arc<Known>);

#[pymethods]
impl KnownDigests {
    #[new]
    fn new(py: Python<'_>, records: &[u8]) -> PyResult<Self> {
        let count = u32::try_from(records.len() / RECORD).unwrap_or(u32::MAX);
        if records.len() != count as usize * RECORD {
            return Err(PyValueError::new_err(
                "digests are records of 48 bytes, fewer than 2**32",
            ));
        }
        let records = records.to_vec();
        Ok(KnownDigests(Arc::new(
            py.detach(|| Known::over(records, count)),
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

/// Records of files that were read or reused and had not changed since `settled_ns`: another, written to within a tick
/// of the clock, may change again without showing it.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct LearnedDigests {
    settled_ns: i128,
    records: Mutex<Vec<u8>>,
}

impl LearnedDigests {
    pub fn take(&self, learned: &[Learned]) {
        let mut records = self.records();
        for one in learned
            .iter()
            .filter(|one| one.changed_ns < self.settled_ns)
        {
            records.extend_from_slice(&one.token);
            records.extend_from_slice(&one.digest);
        }
    }

    fn records(&self) -> MutexGuard<'_, Vec<u8>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl LearnedDigests {
    #[new]
    fn new(settled_ns: i128) -> Self {
        LearnedDigests {
            settled_ns,
            records: Mutex::default(),
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

    /// Token and SHA-256 of each file, in the order in which they were learned.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.records())
    }
}
