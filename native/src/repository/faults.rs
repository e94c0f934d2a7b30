//! Faults on purpose: what checks a machine or a program is itself checked with these.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

use pyo3::prelude::*;

use super::broken::nonsense;

static KIND: AtomicU8 = AtomicU8::new(0);
static FROM_BYTES: AtomicU64 = AtomicU64::new(0);

pub const SEALING: u8 = 1;
pub const COMPRESSING: u8 = 2;
pub const STORING: u8 = 3;
pub const READING: u8 = 4;
pub const RESTORING: u8 = 5;

/// Whether this fault strikes what is so long.
pub fn strikes(kind: u8, size: usize) -> bool {
    KIND.load(Ordering::Relaxed) == kind && size as u64 >= FROM_BYTES.load(Ordering::Relaxed)
}

/// The bytes with one bit flipped.
pub fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut wrong = bytes.to_vec();
    if let Some(byte) = wrong.first_mut() {
        *byte ^= 1;
    }
    wrong
}

/// Break the handling of data blobs of at least `from_bytes` from now on, in this process: "sealing" flips a stored
/// bit, "compressing" a bit before compression, "storing" one before anything looks at the blob, "reading" one after
/// all checks; "restoring" lets a full disk keep them from being written; None heals. For tests of what must notice.
#[pyfunction]
#[pyo3(signature = (kind, from_bytes=0))]
pub fn inject_fault(kind: Option<&str>, from_bytes: u64) -> PyResult<()> {
    let number = match kind {
        None => 0,
        Some("sealing") => SEALING,
        Some("compressing") => COMPRESSING,
        Some("storing") => STORING,
        Some("reading") => READING,
        Some("restoring") => RESTORING,
        Some(_) => return Err(nonsense("no such fault")),
    };
    FROM_BYTES.store(from_bytes, Ordering::Relaxed);
    KIND.store(number, Ordering::Relaxed);
    Ok(())
}
