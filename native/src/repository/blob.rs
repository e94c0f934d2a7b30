//! A blob's way from plain bytes to compressed ones and back, for one thread at a time.
//!
//! A blob is compressed as one zstd frame, or left alone where that gains nothing. Stored bytes are never trusted: what
//! a frame says about its size is compared with what the index recorded before any memory is spent on it.

use std::cell::RefCell;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, Strategy};

use super::broken::Broken;
use super::buffers::view;
use super::faults;
use super::seal::{Key, Sealer};

pub type Id = [u8; 32];

pub const LARGEST_BLOB: usize = 1 << 30; // trees of folders with millions of entries get big; nothing sane is bigger
const PROBE_FROM: usize = 64 << 10;
const PROBE_PART: usize = 8 << 10;
const PROBES: usize = 6;

/// The id of a blob: the SHA-256 of its plain bytes.
pub fn identify(plain: &[u8]) -> Id {
    Sha256::digest(plain).into()
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut text);
    text
}

pub fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[(byte >> 4) as usize] as char);
        text.push(DIGITS[(byte & 15) as usize] as char);
    }
}

/// An id from its 64 hexadecimal digits.
pub fn unhex(text: &str) -> Option<Id> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut id = [0u8; 32];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(id)
}

const LIGHTER_THAN: i32 = 3; // the usual level; who chooses another wants just that
const COMPARE_FROM: usize = 256 << 10;
const COMPARE_EVERY: u32 = 32;

/// Quicker ways to compress. The first that makes frames hardly larger than the usual one's is taken for a while: of the
/// pages of databases it is one of these, since what repeats in them is near and seldom long. Their tables fit into a
/// processor's inner caches.
struct Lighter {
    compressors: [CCtx<'static>; 2],
    frame: Vec<u8>,
    taken: Option<usize>,
    until_compared: u32,
}

impl Lighter {
    fn new() -> Self {
        let with = |strategy, hash_log, more: Option<CParameter>| {
            let mut compressor = CCtx::create();
            let level = CParameter::CompressionLevel(LIGHTER_THAN - 1);
            let own = [
                level,
                CParameter::Strategy(strategy),
                CParameter::MinMatch(5),
            ];
            for parameter in own
                .into_iter()
                .chain([CParameter::HashLog(hash_log)])
                .chain(more)
            {
                compressor
                    .set_parameter(parameter)
                    .expect("zstd takes these");
            }
            compressor
        };
        Lighter {
            compressors: [
                with(Strategy::ZSTD_fast, 14, None),
                with(Strategy::ZSTD_dfast, 15, Some(CParameter::ChainLog(14))),
            ],
            frame: Vec::new(),
            taken: None,
            until_compared: 0,
        }
    }

    /// Compress in one way; now and then in each, to see which it is to be from then on.
    fn compress(
        &mut self,
        usual: &mut CCtx<'static>,
        frame: &mut Vec<u8>,
        plain: &[u8],
    ) -> Result<(), Broken> {
        if self.until_compared > 0 {
            self.until_compared -= 1;
            let chosen = match self.taken {
                Some(way) => &mut self.compressors[way],
                None => usual,
            };
            return compress(chosen, frame, plain);
        }
        compress(usual, frame, plain)?;
        let most = frame.len() * 101; // at most 1 % larger
        self.taken = None;
        for (way, compressor) in self.compressors.iter_mut().enumerate().rev() {
            compress(compressor, &mut self.frame, plain)?;
            if self.frame.len() * 100 <= most {
                self.taken = Some(way);
            }
            if self.frame.len() < frame.len() {
                std::mem::swap(frame, &mut self.frame);
            }
        }
        self.until_compared = COMPARE_EVERY - 1;
        self.frame = Vec::new(); // not needed for long
        Ok(())
    }
}

/// One thread's compressor, with room of its own.
pub struct Squeezer {
    compressor: CCtx<'static>,
    lighter: Option<Lighter>,
    probe: CCtx<'static>,
    pub frame: Vec<u8>,
}

impl Squeezer {
    pub fn new(level: i32) -> Self {
        let mut compressor = CCtx::create();
        let mut probe = CCtx::create();
        compressor
            .set_parameter(CParameter::CompressionLevel(level))
            .expect("zstd takes any level");
        probe
            .set_parameter(CParameter::CompressionLevel(1))
            .expect("zstd takes any level");
        Squeezer {
            compressor,
            lighter: (level == LIGHTER_THAN).then(Lighter::new),
            probe,
            frame: Vec::new(),
        }
    }

    /// Whether `frame` now holds what should be stored instead of the plain bytes; `always` makes it so.
    pub fn squeeze(&mut self, plain: &[u8], always: bool) -> Result<bool, Broken> {
        let size = plain.len();
        if !always && size >= PROBE_FROM && !self.promising(plain)? {
            return Ok(false);
        }
        match &mut self.lighter {
            Some(lighter) if !always && size >= COMPARE_FROM => {
                lighter.compress(&mut self.compressor, &mut self.frame, plain)?
            }
            _ => compress(&mut self.compressor, &mut self.frame, plain)?,
        }
        let made = self.frame.len();
        // Less than 97 % of it, or at least worth a few bytes.
        Ok(always || made * 100 < size * 97 || made + 64 < size)
    }

    /// Whether some part of it gets smaller: six small parts are tried.
    fn promising(&mut self, plain: &[u8]) -> Result<bool, Broken> {
        let step = (plain.len() - PROBE_PART) / (PROBES - 1);
        for number in 0..PROBES {
            let start = number * step;
            compress(
                &mut self.probe,
                &mut self.frame,
                &plain[start..start + PROBE_PART],
            )?;
            if self.frame.len() * 100 < PROBE_PART * 97 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn compress(context: &mut CCtx<'static>, frame: &mut Vec<u8>, plain: &[u8]) -> Result<(), Broken> {
    frame.clear();
    frame.reserve(zstd_safe::compress_bound(plain.len()));
    context
        .compress2(frame, plain)
        .map(|_| ())
        .map_err(|code| Broken::Machine(format!("zstd: {}", zstd_safe::get_error_name(code))))
}

/// Put the content of one zstd frame that must be `size` bytes long into `out`.
pub fn expand(
    context: &mut DCtx<'static>,
    frame: &[u8],
    size: usize,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let broken = |why: String| Broken::damage("A compressed blob is damaged", why);
    let announced = match zstd_safe::get_frame_content_size(frame) {
        Ok(announced) => announced,
        Err(_) => return Err(broken("its frame does not begin as one".to_string())),
    };
    if announced.is_some_and(|announced| announced != size as u64) || size > LARGEST_BLOB {
        let said = announced.map_or("no number of".to_string(), |announced| {
            announced.to_string()
        });
        return Err(broken(format!(
            "it announces {said} bytes instead of {size}"
        )));
    }
    out.clear();
    if out.capacity() < size {
        out.try_reserve_exact(size)
            .map_err(|error| broken(error.to_string()))?;
    }
    match context.decompress(out, frame) {
        Ok(count) if count == size => Ok(()),
        Ok(count) => Err(broken(format!("it holds {count} bytes instead of {size}"))),
        Err(code) => Err(broken(zstd_safe::get_error_name(code).to_string())),
    }
}

/// One thread's tools to open blobs, with room of its own that is used again and again.
pub struct Opener {
    decompressor: DCtx<'static>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Opener {
    pub fn new() -> Self {
        Opener {
            decompressor: DCtx::create(),
            stored: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// See that sealed bytes open as these.
    pub fn opens_as(&mut self, key: &Key, sealed: &[u8], stored: &[u8]) -> Result<(), Broken> {
        key.open(sealed, &mut self.stored)?;
        if self.stored != stored {
            return Err(Broken::damage(
                "A sealed blob is damaged",
                "it opens as other bytes than were sealed",
            ));
        }
        Ok(())
    }

    /// See that sealed bytes are what `blob` names, opening them where they lie: they mean nothing afterwards.
    pub fn prove(
        &mut self,
        key: &Key,
        sealed: &mut [u8],
        blob: &Id,
        plain_size: usize,
    ) -> Result<(), Broken> {
        let stored = key.open_in_place(sealed)?;
        let plain = if plain_size > 0 {
            expand(&mut self.decompressor, stored, plain_size, &mut self.plain)?;
            &self.plain
        } else {
            stored
        };
        named(plain, blob)
    }

    /// The plain bytes, and their stored (perhaps still compressed) form, when they are what `blob` names.
    pub fn open(
        &mut self,
        key: &Key,
        sealed: &[u8],
        blob: &Id,
        plain_size: usize,
    ) -> Result<(&[u8], &[u8]), Broken> {
        key.open(sealed, &mut self.stored)?;
        let plain = if plain_size > 0 {
            expand(
                &mut self.decompressor,
                &self.stored,
                plain_size,
                &mut self.plain,
            )?;
            &self.plain
        } else {
            &self.stored
        };
        named(plain, blob)?;
        Ok((plain, &self.stored))
    }
}

/// See that plain bytes are what `blob` names.
fn named(plain: &[u8], blob: &Id) -> Result<(), Broken> {
    if identify(plain) != *blob {
        return Err(Broken::damage(
            format!("Blob {} is damaged", hex(&blob[..6])),
            "its bytes are not what its id says",
        ));
    }
    Ok(())
}

thread_local! {
    static OPENER: RefCell<Opener> = RefCell::new(Opener::new());
}

/// Work with the calling thread's opener.
pub fn with_opener<R>(work: impl FnOnce(&mut Opener) -> R) -> R {
    OPENER.with(|opener| work(&mut opener.borrow_mut()))
}

/// One zstd frame with the plain bytes, at zstd's default level.
#[pyfunction]
pub fn compress_file<'py>(py: Python<'py>, plain: PyBuffer<u8>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = view(&plain)?;
    let mut squeezer = Squeezer::new(3);
    squeezer
        .squeeze(bytes, true)
        .map_err(|broken| broken.raise(py))?;
    Ok(PyBytes::new(py, &squeezer.frame))
}

/// The content of a zstd frame of unknown size, at most `limit` bytes. Raises DamageError.
#[pyfunction]
pub fn expand_file<'py>(
    py: Python<'py>,
    frame: PyBuffer<u8>,
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = view(&frame)?;
    let plain = py
        .detach(|| expand_unsized(bytes, limit))
        .map_err(|broken| broken.raise(py))?;
    Ok(PyBytes::new(py, &plain))
}

fn expand_unsized(frame: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
    let broken = |why: String| Broken::damage("A stored file is damaged", why);
    let announced = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| broken("its frame does not begin as one".to_string()))?;
    if let Some(size) = announced {
        if size > limit as u64 {
            return Err(broken(format!("it announces {size} bytes")));
        }
        let mut plain = Vec::new();
        expand(&mut DCtx::create(), frame, size as usize, &mut plain)
            .map_err(|inner| broken(inner.line()))?;
        return Ok(plain);
    }
    let mut context = DCtx::create();
    let mut source = InBuffer::around(frame);
    let mut plain = Vec::new();
    let mut part = vec![0u8; 1 << 17];
    loop {
        let (before, mut target) = (source.pos(), OutBuffer::around(part.as_mut_slice()));
        let hint = context
            .decompress_stream(&mut target, &mut source)
            .map_err(|code| broken(zstd_safe::get_error_name(code).to_string()))?;
        let made = target.pos();
        if plain.len() + made > limit {
            return Err(broken(format!("it expands to more than {limit} bytes")));
        }
        // What a stored file says must not end this process, as running out of memory otherwise would.
        plain
            .try_reserve(made)
            .map_err(|error| broken(error.to_string()))?;
        plain.extend_from_slice(&part[..made]);
        if hint == 0 {
            return Ok(plain);
        }
        if made == 0 && source.pos() == before {
            return Err(broken("its frame ends too early".to_string()));
        }
    }
}

/// The plain bytes of a sealed blob. Raises SealBrokenError, DamageError unless they are what `blob` names.
#[pyfunction]
pub fn open_blob<'py>(
    py: Python<'py>,
    sealer: &Sealer,
    sealed: PyBuffer<u8>,
    blob: Id,
    plain_size: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = view(&sealed)?;
    let opened = py.detach(|| {
        with_opener(|opener| {
            opener
                .open(&sealer.key, bytes, &blob, plain_size)
                .map(|(plain, _)| {
                    if faults::strikes(faults::READING, plain.len()) {
                        faults::flipped(plain)
                    } else {
                        plain.to_vec()
                    }
                })
        })
    });
    opened
        .map(|plain| PyBytes::new(py, &plain))
        .map_err(|broken| broken.raise(py))
}
