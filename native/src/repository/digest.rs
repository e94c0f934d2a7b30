//! SHA-256 of two things at once: of a blob that was opened again, and of the pack that it lies in, piece by piece.
//!
//! Where the processor has instructions for SHA-256, one stream of them waits most of the time for its own results: a
//! second one beside it costs little. `tests/unit/repository/test_digest.py` holds it against the standard library's.

use sha2::{Digest, Sha256};

use super::blob::{identify, Id};

const BLOCK: usize = 64;
const START: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The SHA-256 of bytes that come in pieces.
pub struct Running(Inner);

enum Inner {
    Portable(Box<Sha256>),
    Native(Stream),
}

impl Default for Running {
    fn default() -> Self {
        Running(if native::is_there() {
            Inner::Native(Stream::default())
        } else {
            Inner::Portable(Box::default())
        })
    }
}

impl Running {
    /// Take a piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Inner::Portable(hash) => hash.update(piece),
            Inner::Native(stream) => stream.update(piece),
        }
    }

    /// Take a piece, and meanwhile hash other bytes for themselves; the SHA-256 of those.
    pub fn update_beside(&mut self, piece: &[u8], other: &[u8]) -> Id {
        match &mut self.0 {
            Inner::Portable(hash) => {
                hash.update(piece);
                identify(other)
            }
            Inner::Native(stream) => stream.update_beside(piece, other),
        }
    }

    /// The SHA-256 of all pieces.
    pub fn finish(self) -> Id {
        match self.0 {
            Inner::Portable(hash) => hash.finalize().into(),
            Inner::Native(stream) => stream.finish(),
        }
    }
}

/// The state of one SHA-256, and what does not fill a block yet.
struct Stream {
    state: [u32; 8],
    block: [u8; BLOCK],
    filled: usize,
    length: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            state: START,
            block: [0; BLOCK],
            filled: 0,
            length: 0,
        }
    }
}

impl Stream {
    fn update(&mut self, piece: &[u8]) {
        let (blocks, rest) = self.whole_blocks(piece);
        native::hash([&mut self.state], [blocks]);
        self.keep(rest);
    }

    fn update_beside(&mut self, piece: &[u8], other: &[u8]) -> Id {
        let mut beside = Stream::default();
        let (blocks, rest) = self.whole_blocks(piece);
        let (other_blocks, other_rest) = beside.whole_blocks(other);
        let both = blocks.len().min(other_blocks.len());
        let (first, more) = blocks.split_at(both);
        let (other_first, other_more) = other_blocks.split_at(both);
        native::hash([&mut self.state, &mut beside.state], [first, other_first]);
        native::hash([&mut self.state], [more]);
        native::hash([&mut beside.state], [other_more]);
        self.keep(rest);
        beside.keep(other_rest);
        beside.finish()
    }

    /// Complete the block that was begun; the whole blocks that follow, and what is left.
    fn whole_blocks<'a>(&mut self, piece: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        self.length += piece.len() as u64;
        let missing = if self.filled == 0 {
            0
        } else {
            (BLOCK - self.filled).min(piece.len())
        };
        let (head, piece) = piece.split_at(missing);
        self.keep(head);
        if self.filled == BLOCK {
            native::hash([&mut self.state], [&self.block]);
            self.filled = 0;
        }
        piece.split_at(piece.len() / BLOCK * BLOCK)
    }

    fn keep(&mut self, rest: &[u8]) {
        self.block[self.filled..self.filled + rest.len()].copy_from_slice(rest);
        self.filled += rest.len();
    }

    fn finish(mut self) -> Id {
        let mut end = [0u8; 2 * BLOCK];
        end[..self.filled].copy_from_slice(&self.block[..self.filled]);
        end[self.filled] = 0x80;
        let size = if self.filled + 9 <= BLOCK {
            BLOCK
        } else {
            2 * BLOCK
        };
        end[size - 8..size].copy_from_slice(&(self.length * 8).to_be_bytes());
        native::hash([&mut self.state], [&end[..size]]);
        let mut id = [0u8; 32];
        for (bytes, word) in id.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        id
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod native {
    pub fn is_there() -> bool {
        false
    }

    pub fn hash<const N: usize>(_: [&mut [u32; 8]; N], _: [&[u8]; N]) {
        unreachable!("nobody asks for what is not there");
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::*;

    use super::BLOCK;

    #[rustfmt::skip]
    const K: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    pub fn is_there() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
    }

    /// Take whole blocks, equally many for each state.
    pub fn hash<const N: usize>(states: [&mut [u32; 8]; N], blocks: [&[u8]; N]) {
        assert!(is_there());
        assert!(blocks
            .iter()
            .all(|bytes| bytes.len() == blocks[0].len() && bytes.len() % BLOCK == 0));
        // SAFETY: the processor has what is used, and the lengths are as they must be.
        unsafe { compress(states, blocks) }
    }

    /// Four rounds in every lane, and the words of the schedule for four rounds that come sixteen rounds later.
    macro_rules! four_rounds {
        ($lanes:ident, $number:expr, $m0:literal, $m1:literal, $m2:literal, $m3:literal) => {
            for (abef, cdgh, words) in $lanes.iter_mut() {
                let k = _mm_loadu_si128(K.as_ptr().add(4 * $number).cast());
                let sum = _mm_add_epi32(words[$m0], k);
                *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
                *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(sum, 0x0e));
                if $number < 12 {
                    let next = _mm_sha256msg1_epu32(words[$m0], words[$m1]);
                    let next = _mm_add_epi32(next, _mm_alignr_epi8(words[$m3], words[$m2], 4));
                    words[$m0] = _mm_sha256msg2_epu32(next, words[$m3]);
                }
            }
        };
    }

    /// SAFETY: the processor has SHA, SSSE3 and SSE 4.1; all of `blocks` have one length, in whole blocks.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    unsafe fn compress<const N: usize>(states: [&mut [u32; 8]; N], blocks: [&[u8]; N]) {
        let swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
        let zero = _mm_setzero_si128();
        let mut lanes = [(zero, zero, [zero; 4]); N];
        for ((abef, cdgh, _), state) in lanes.iter_mut().zip(&states) {
            let [a, b, c, d, e, f, g, h] = state.map(|word| word as i32);
            *abef = _mm_set_epi32(a, b, e, f);
            *cdgh = _mm_set_epi32(c, d, g, h);
        }
        for start in (0..blocks[0].len()).step_by(BLOCK) {
            let mut before = [(zero, zero); N];
            for number in 0..N {
                let (abef, cdgh, words) = &mut lanes[number];
                before[number] = (*abef, *cdgh);
                for (place, word) in words.iter_mut().enumerate() {
                    let at = blocks[number].as_ptr().add(start + 16 * place);
                    *word = _mm_shuffle_epi8(_mm_loadu_si128(at.cast()), swap);
                }
            }
            four_rounds!(lanes, 0, 0, 1, 2, 3);
            four_rounds!(lanes, 1, 1, 2, 3, 0);
            four_rounds!(lanes, 2, 2, 3, 0, 1);
            four_rounds!(lanes, 3, 3, 0, 1, 2);
            four_rounds!(lanes, 4, 0, 1, 2, 3);
            four_rounds!(lanes, 5, 1, 2, 3, 0);
            four_rounds!(lanes, 6, 2, 3, 0, 1);
            four_rounds!(lanes, 7, 3, 0, 1, 2);
            four_rounds!(lanes, 8, 0, 1, 2, 3);
            four_rounds!(lanes, 9, 1, 2, 3, 0);
            four_rounds!(lanes, 10, 2, 3, 0, 1);
            four_rounds!(lanes, 11, 3, 0, 1, 2);
            four_rounds!(lanes, 12, 0, 1, 2, 3);
            four_rounds!(lanes, 13, 1, 2, 3, 0);
            four_rounds!(lanes, 14, 2, 3, 0, 1);
            four_rounds!(lanes, 15, 3, 0, 1, 2);
            for ((abef, cdgh, _), before) in lanes.iter_mut().zip(before) {
                *abef = _mm_add_epi32(*abef, before.0);
                *cdgh = _mm_add_epi32(*cdgh, before.1);
            }
        }
        for ((abef, cdgh, _), state) in lanes.into_iter().zip(states) {
            let (mut high, mut low) = ([0u32; 4], [0u32; 4]);
            _mm_storeu_si128(high.as_mut_ptr().cast(), abef);
            _mm_storeu_si128(low.as_mut_ptr().cast(), cdgh);
            let ([f, e, b, a], [h, g, d, c]) = (high, low);
            *state = [a, b, c, d, e, f, g, h];
        }
    }
}
