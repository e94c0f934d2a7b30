//! Which paths are samples: the wanted ones or, when none are named, those that a keyed hash puts first.

use std::collections::{BinaryHeap, HashSet};

use blake2::digest::consts::U8;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2b, Blake2bMac, Digest};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The order of sampling.
pub struct Order {
    keyed: Option<Blake2bMac<U8>>,
    wanted: Option<HashSet<Vec<u8>>>,
}

/// The ranks of the paths that are samples so far.
#[derive(Default)]
pub struct Picked(BinaryHeap<u64>);

impl Order {
    /// `key` is for when none are wanted. Raises ValueError for one longer than 64 bytes.
    pub fn new(key: &[u8], wanted: Option<HashSet<Vec<u8>>>) -> PyResult<Self> {
        let keyed = if key.is_empty() || wanted.is_some() {
            None // a hash without a key is not one with an empty key
        } else {
            let refusal = |_| PyValueError::new_err("a sampling key has 64 bytes at most");
            Some(Blake2bMac::new_from_slice(key).map_err(refusal)?)
        };
        Ok(Order { keyed, wanted })
    }

    /// The path's place in the order, the smallest first; None for one that is surely no sample.
    pub fn rank(&self, path: &[u8]) -> Option<u64> {
        if let Some(wanted) = &self.wanted {
            return wanted.contains(path).then_some(0);
        }
        let hash: [u8; 8] = match &self.keyed {
            Some(keyed) => {
                let mut keyed = keyed.clone();
                Update::update(&mut keyed, path);
                keyed.finalize_fixed().into()
            }
            None => Blake2b::<U8>::digest(path).into(),
        };
        Some(u64::from_be_bytes(hash))
    }

    /// Whether a path of this rank becomes a sample, when `limit` of them are enough.
    pub fn picks(&self, rank: u64, picked: &mut Picked, limit: usize) -> bool {
        if self.wanted.is_some() {
            return true;
        }
        if picked.0.len() >= limit {
            match picked.0.peek() {
                Some(last) if rank < *last => picked.0.pop(),
                _ => return false,
            };
        }
        picked.0.push(rank);
        true
    }
}
