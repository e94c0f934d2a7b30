//! Python's buffers as slices, and what becomes of memory that is no longer used.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use super::broken::nonsense;

/// The bytes of a contiguous buffer, which nobody must write to meanwhile.
///
/// The package's own rule: what is handed to this extension is left alone until the call is back.
pub fn view(buffer: &PyBuffer<u8>) -> PyResult<&[u8]> {
    if !buffer.is_c_contiguous() {
        return Err(nonsense("a buffer that is not contiguous"));
    }
    if buffer.len_bytes() == 0 {
        return Ok(&[]);
    }
    // SAFETY: contiguous, of that length, and kept alive by `buffer`; nobody writes to it (see above).
    Ok(unsafe { std::slice::from_raw_parts(buffer.buf_ptr() as *const u8, buffer.len_bytes()) })
}

/// The bytes of a contiguous buffer that can be written to, which nobody else must look at meanwhile.
#[allow(clippy::mut_from_ref)] // the buffer is Python's: what `buffer` borrows is only its description
pub fn room(buffer: &PyBuffer<u8>) -> PyResult<&mut [u8]> {
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(nonsense("a buffer that cannot be written to"));
    }
    if buffer.len_bytes() == 0 {
        return Ok(&mut []);
    }
    // SAFETY: contiguous, writable, of that length, and kept alive by `buffer`; it is this call's alone (see above).
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr() as *mut u8, buffer.len_bytes()) })
}

/// From now on, give memory from 1 MiB on back to the system once it is free, in this process, where the C library can.
///
/// Left to itself, the GNU library raises that limit with what it sees, up to 32 MiB, and keeps what lies between.
#[pyfunction]
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets one number of the allocator's, which any thread may do at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}
