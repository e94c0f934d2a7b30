//! Sealing bytes: `IV(16) | AES-256-CTR ciphertext | Poly1305-AES tag(16)`, as restic's design document has it.
//!
//! The tag covers the ciphertext; its one-time key is `r | AES-128_k(IV)`. IVs are random, 128 bits, never zero.

use std::sync::atomic::{AtomicU64, Ordering};

use aes::cipher::{BlockEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;
use ctr::CtrCore;
use poly1305::universal_hash::UniversalHash;
use poly1305::{Block, Poly1305};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::broken::{nonsense, Broken};
use super::buffers::view;

pub const IV_BYTES: usize = 16;
pub const TAG_BYTES: usize = 16;
pub const OVERHEAD: usize = IV_BYTES + TAG_BYTES;

const BLOCK_BYTES: usize = 16; // of the cipher and of the authenticator
const CACHED: usize = 16 << 10; // well within a processor's first cache

/// The keys of a repository, ready to use. Any thread may.
#[derive(Clone)]
pub struct Key {
    encrypt: aes::Aes256,
    mac_k: aes::Aes128,
    mac_r: [u8; 16],
    number: u64,
}

static KEYS: AtomicU64 = AtomicU64::new(0);

impl Key {
    pub fn new(encrypt: &[u8; 32], mac_k: &[u8; 16], mac_r: &[u8; 16]) -> Self {
        Key {
            encrypt: aes::Aes256::new(encrypt.into()),
            mac_k: aes::Aes128::new(mac_k.into()),
            mac_r: *mac_r,
            number: KEYS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether it is that very key, or a clone of it; of two made from the same bytes it is not said.
    pub fn is(&self, other: &Key) -> bool {
        self.number == other.number
    }

    /// Append the sealed bytes, 32 more than the plain ones.
    ///
    /// Here as in opening, each part goes through cipher and authenticator while it is in the processor's cache.
    pub fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut iv = [0u8; IV_BYTES];
        while iv == [0u8; IV_BYTES] {
            getrandom::fill(&mut iv)
                .map_err(|error| Broken::Machine(format!("no random numbers: {error}")))?;
        }
        out.reserve(plain.len() + OVERHEAD);
        out.extend_from_slice(&iv);
        let (mut authenticator, mut cipher) = (self.authenticator(&iv), self.cipher(&iv));
        let parts = plain.chunks_exact(CACHED);
        let rest = parts.remainder();
        for part in parts {
            let start = out.len();
            out.extend_from_slice(part);
            cipher.apply_keystream(&mut out[start..]);
            authenticator.update(blocks(&out[start..]));
        }
        let start = out.len();
        out.extend_from_slice(rest);
        cipher.apply_keystream(&mut out[start..]);
        let tag = finish(authenticator, &out[start..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Put the plain bytes into `out`, in place of what it held; nothing when the tag does not fit.
    pub fn open(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        out.clear();
        if sealed.len() < OVERHEAD {
            return Err(too_short(sealed.len()));
        }
        let (iv, rest) = sealed.split_at(IV_BYTES);
        let iv: [u8; IV_BYTES] = iv.try_into().expect("16 bytes");
        let (content, tag) = rest.split_at(rest.len() - TAG_BYTES);
        let (mut authenticator, mut cipher) = (self.authenticator(&iv), self.cipher(&iv));
        let parts = content.chunks_exact(CACHED);
        let rest = parts.remainder();
        out.reserve(content.len());
        for part in parts {
            let start = out.len();
            authenticator.update(blocks(part));
            out.extend_from_slice(part);
            cipher.apply_keystream(&mut out[start..]);
        }
        if differ(&finish(authenticator, rest), tag) {
            out.clear();
            return Err(unfit());
        }
        let start = out.len();
        out.extend_from_slice(rest);
        cipher.apply_keystream(&mut out[start..]);
        Ok(())
    }

    /// Open sealed bytes where they lie; the plain ones. When the tag does not fit, what is left there means nothing.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a [u8], Broken> {
        if sealed.len() < OVERHEAD {
            return Err(too_short(sealed.len()));
        }
        let (iv, rest) = sealed.split_at_mut(IV_BYTES);
        let iv: [u8; IV_BYTES] = (&*iv).try_into().expect("16 bytes");
        let (content, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        let (mut authenticator, mut cipher) = (self.authenticator(&iv), self.cipher(&iv));
        let whole = content.len() / CACHED * CACHED;
        for part in content[..whole].chunks_exact_mut(CACHED) {
            authenticator.update(blocks(part));
            cipher.apply_keystream(part);
        }
        if differ(&finish(authenticator, &content[whole..]), tag) {
            return Err(unfit());
        }
        cipher.apply_keystream(&mut content[whole..]);
        Ok(content)
    }

    fn cipher(
        &self,
        iv: &[u8; IV_BYTES],
    ) -> StreamCipherCoreWrapper<CtrCore<&aes::Aes256, Ctr128BE>> {
        StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(&self.encrypt, iv.into()))
    }

    fn authenticator(&self, iv: &[u8; IV_BYTES]) -> Poly1305 {
        let mut block = *iv;
        self.mac_k.encrypt_block((&mut block).into());
        let mut key = [0u8; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&block);
        Poly1305::new(&key.into())
    }
}

/// Bytes as the authenticator's blocks, of which they are a whole number.
fn blocks(bytes: &[u8]) -> &[Block] {
    assert!(bytes.len() % BLOCK_BYTES == 0);
    // SAFETY: a block is an array of 16 bytes, which may lie anywhere; there are that many.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr() as *const Block, bytes.len() / BLOCK_BYTES) }
}

/// The tag, once all but the last bytes were seen.
fn finish(mut authenticator: Poly1305, rest: &[u8]) -> [u8; TAG_BYTES] {
    // Whole blocks for themselves: many at a time go faster in this way.
    let (whole, end) = rest.split_at(rest.len() / BLOCK_BYTES * BLOCK_BYTES);
    authenticator.update(blocks(whole));
    authenticator.compute_unpadded(end).into()
}

/// Whether tags differ; all bytes are looked at, whichever do.
fn differ(expected: &[u8], tag: &[u8]) -> bool {
    let pairs = expected.iter().zip(tag);
    pairs.fold(0, |all, (a, b)| all | (a ^ b)) != 0
}

fn too_short(size: usize) -> Broken {
    Broken::Seal {
        what: "Sealed bytes are too short",
        why: format!("{size} bytes"),
    }
}

fn unfit() -> Broken {
    Broken::Seal {
        what: "Sealed bytes do not open",
        why: "their authentication tag does not fit".to_string(),
    }
}

/// Seals and opens with one master key. Any thread may call.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Sealer {
    pub key: Key,
}

#[pymethods]
impl Sealer {
    #[new]
    fn new(encrypt: &[u8], mac_k: &[u8], mac_r: &[u8]) -> PyResult<Self> {
        let wrong = |_| nonsense("a key of the wrong length");
        Ok(Sealer {
            key: Key::new(
                encrypt.try_into().map_err(wrong)?,
                mac_k.try_into().map_err(wrong)?,
                mac_r.try_into().map_err(wrong)?,
            ),
        })
    }

    /// The sealed bytes.
    fn seal<'py>(&self, py: Python<'py>, plain: PyBuffer<u8>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = view(&plain)?;
        let sealed = py.detach(|| {
            let mut out = Vec::new();
            self.key.seal(bytes, &mut out).map(|()| out)
        });
        sealed
            .map(|out| PyBytes::new(py, &out))
            .map_err(|broken| broken.raise(py))
    }

    /// The plain bytes. Raises SealBrokenError.
    fn open<'py>(&self, py: Python<'py>, sealed: PyBuffer<u8>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = view(&sealed)?;
        let plain = py.detach(|| {
            let mut out = Vec::new();
            self.key.open(bytes, &mut out).map(|()| out)
        });
        plain
            .map(|out| PyBytes::new(py, &out))
            .map_err(|broken| broken.raise(py))
    }
}
