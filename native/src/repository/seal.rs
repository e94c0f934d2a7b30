//! Sealing bytes: `IV(16) | AES-256-CTR ciphertext | Poly1305-AES tag(16)`, as restic's design document has it.
//!
//! The tag covers the ciphertext; its one-time key is `r | AES-128_k(IV)`. IVs are random, 128 bits, never zero.

use aes::cipher::{BlockEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;
use ctr::CtrCore;
use poly1305::universal_hash::UniversalHash;
use poly1305::Poly1305;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::broken::{nonsense, Broken};
use super::buffers::view;

pub const IV_BYTES: usize = 16;
pub const TAG_BYTES: usize = 16;
pub const OVERHEAD: usize = IV_BYTES + TAG_BYTES;

/// The keys of a repository, ready to use. Any thread may.
#[derive(Clone)]
pub struct Key {
    encrypt: aes::Aes256,
    mac_k: aes::Aes128,
    mac_r: [u8; 16],
}

impl Key {
    pub fn new(encrypt: &[u8; 32], mac_k: &[u8; 16], mac_r: &[u8; 16]) -> Self {
        Key {
            encrypt: aes::Aes256::new(encrypt.into()),
            mac_k: aes::Aes128::new(mac_k.into()),
            mac_r: *mac_r,
        }
    }

    /// Append the sealed bytes, 32 more than the plain ones.
    pub fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut iv = [0u8; IV_BYTES];
        while iv == [0u8; IV_BYTES] {
            getrandom::fill(&mut iv)
                .map_err(|error| Broken::Machine(format!("no random numbers: {error}")))?;
        }
        out.reserve(plain.len() + OVERHEAD);
        out.extend_from_slice(&iv);
        let start = out.len();
        out.extend_from_slice(plain);
        self.stream(&iv, &mut out[start..]);
        let tag = self.tag(&iv, &out[start..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Put the plain bytes into `out`, in place of what it held, once the tag fits.
    pub fn open(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if sealed.len() < OVERHEAD {
            return Err(Broken::Seal {
                what: "Sealed bytes are too short",
                why: format!("{} bytes", sealed.len()),
            });
        }
        let mut iv = [0u8; IV_BYTES];
        iv.copy_from_slice(&sealed[..IV_BYTES]);
        let (content, tag) = sealed[IV_BYTES..].split_at(sealed.len() - OVERHEAD);
        let expected = self.tag(&iv, content);
        // All bytes are looked at, whichever differ.
        if expected
            .iter()
            .zip(tag)
            .fold(0, |all, (a, b)| all | (a ^ b))
            != 0
        {
            return Err(Broken::Seal {
                what: "Sealed bytes do not open",
                why: "their authentication tag does not fit".to_string(),
            });
        }
        out.clear();
        out.extend_from_slice(content);
        self.stream(&iv, out);
        Ok(())
    }

    fn stream(&self, iv: &[u8; IV_BYTES], bytes: &mut [u8]) {
        let core = CtrCore::<&aes::Aes256, Ctr128BE>::inner_iv_init(&self.encrypt, iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(bytes);
    }

    fn tag(&self, iv: &[u8; IV_BYTES], content: &[u8]) -> [u8; TAG_BYTES] {
        let mut block = *iv;
        self.mac_k.encrypt_block((&mut block).into());
        let mut key = [0u8; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&block);
        let mut mac = Poly1305::new(&key.into());
        // Whole blocks go in together: one by one, as `compute_unpadded` takes them, they cost twice as much.
        let (blocks, rest) = content.split_at(content.len() / 16 * 16);
        mac.update_padded(blocks);
        mac.compute_unpadded(rest).into()
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
