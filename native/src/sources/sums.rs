//! Sums of SHA-256 digests modulo 2**256: they do not depend on an order, and equal pairs do not cancel out.

use super::digests::{Sha256Digest, DIGEST};

/// A sum, as four words, the least significant first.
#[derive(Clone, Copy, Default)]
pub struct Sum([u64; 4]);

impl Sum {
    pub fn add(&mut self, digest: &Sha256Digest) {
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(digest.rchunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_be_bytes);
        }
        self.merge(&Sum(words));
    }

    pub fn merge(&mut self, other: &Sum) {
        let mut carry = false;
        for (word, more) in self.0.iter_mut().zip(other.0) {
            let (part, first) = word.overflowing_add(more);
            let (whole, second) = part.overflowing_add(u64::from(carry));
            *word = whole;
            carry = first || second;
        }
    }

    /// The sum as a number of 32 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; DIGEST] {
        let mut bytes = [0_u8; DIGEST];
        for (place, word) in bytes.rchunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}
