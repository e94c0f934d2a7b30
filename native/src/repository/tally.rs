//! What is seen of data on its way into packs: how much is new, how well it compresses, how much it looks like chance.
//!
//! It tells content that was encrypted or wiped from what a source has had, so it is an estimate: entropy is taken of a
//! small sample of each blob, and of small blobs only of one in sixteen, picked by their ids.

use std::sync::OnceLock;

use super::blob::Id;

const PARTS: usize = 4;
const PART: usize = 512;
const SAMPLE: usize = PARTS * PART;
const ALWAYS_FROM: usize = 64 << 10;
const LEAST: usize = 256;
const ONE_IN: u8 = 16;

/// The sums of one thread.
#[derive(Default)]
pub struct Tally {
    new_bytes: u64,
    stored_bytes: u64,
    dense_bytes: u64,
    blank_bytes: u64,
    entropy: f64,
    sampled_bytes: u64,
}

impl Tally {
    /// A blob was read.
    pub fn read(&mut self, plain: &[u8]) {
        // Only what really is blank is looked at beyond its first bytes.
        if plain.len() >= 64
            && plain[..63] == plain[1..64]
            && plain[1..] == plain[..plain.len() - 1]
        {
            self.blank_bytes += plain.len() as u64;
        }
    }

    /// A blob that was not there took so many sealed bytes.
    pub fn stored(&mut self, plain: &[u8], blob: &Id, sealed: u64, squeezed: bool) {
        let size = plain.len() as u64;
        self.new_bytes += size;
        self.stored_bytes += sealed;
        if !squeezed {
            self.dense_bytes += size;
        }
        if plain.len() >= ALWAYS_FROM || (plain.len() >= LEAST && blob[0] % ONE_IN == 0) {
            self.entropy += entropy(plain) * size as f64;
            self.sampled_bytes += size;
        }
    }

    pub fn figures(&self) -> (u64, u64, u64, u64, f64, u64) {
        (
            self.new_bytes,
            self.stored_bytes,
            self.dense_bytes,
            self.blank_bytes,
            self.entropy,
            self.sampled_bytes,
        )
    }
}

/// The entropy of a sample of these bytes, in bits a byte, 0 to 8.
fn entropy(plain: &[u8]) -> f64 {
    static TERMS: OnceLock<Vec<f64>> = OnceLock::new();
    let terms = TERMS.get_or_init(|| {
        let term = |count: usize| (count as f64) * (count.max(1) as f64).log2();
        (0..=SAMPLE).map(term).collect()
    });
    let mut counts = [0u16; 256];
    let mut count = |part: &[u8]| {
        for byte in part {
            counts[*byte as usize] += 1;
        }
    };
    let total = plain.len().min(SAMPLE);
    if plain.len() <= SAMPLE {
        count(plain);
    } else {
        let step = (plain.len() - PART) / (PARTS - 1);
        for number in 0..PARTS {
            count(&plain[number * step..number * step + PART]);
        }
    }
    let sum: f64 = counts.iter().map(|count| terms[*count as usize]).sum();
    let seen = counts.iter().filter(|count| **count > 0).count();
    let total = total as f64;
    // A sample shows too little of it: by about this much (Miller and Madow).
    let missed = (seen as f64 - 1.0) / (2.0 * total * std::f64::consts::LN_2);
    (total.log2() - sum / total + missed).clamp(0.0, 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: usize) -> Vec<u8> {
        let mut state = 88172645463325252u64;
        (0..size)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    #[test]
    fn entropy_tells_noise_from_text_and_from_nothing() {
        for size in [256, 1024, 4096, 100_000] {
            assert!(entropy(&noise(size)) > 7.5, "{size}");
            assert_eq!(entropy(&vec![7u8; size]), 0.0);
        }
        let two: Vec<u8> = (0..4096).map(|number| (number % 2) as u8).collect();
        assert!((entropy(&two) - 1.0).abs() < 0.01);
    }

    #[test]
    fn what_is_blank_is_counted_whether_it_is_new_or_not() {
        let mut tally = Tally::default();
        tally.read(&[0u8; 5000]);
        tally.read(&noise(5000));
        let mut nearly = vec![0u8; 5000];
        nearly[4999] = 1;
        tally.read(&nearly);
        tally.read(b"short");
        assert_eq!(tally.blank_bytes, 5000);
    }

    #[test]
    fn small_blobs_are_sampled_by_their_ids() {
        let mut tally = Tally::default();
        tally.stored(&noise(1000), &[1; 32], 1032, false);
        assert_eq!(tally.figures(), (1000, 1032, 1000, 0, 0.0, 0));
        tally.stored(&noise(1000), &[16; 32], 500, true);
        assert_eq!(tally.sampled_bytes, 1000);
        tally.stored(&noise(70_000), &[1; 32], 70_032, false);
        assert_eq!(tally.sampled_bytes, 71_000);
        assert_eq!(tally.dense_bytes, 71_000);
    }
}
