//! CRC-32C, by which PostgreSQL's manifests tell what is in files.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

/// The checksum of content, or of what `before` is the checksum of with this content behind it.
#[pyfunction]
#[pyo3(signature = (content, before = 0))]
pub fn crc32c(py: Python<'_>, content: PyBuffer<u8>, before: u32) -> PyResult<u32> {
    if !content.is_c_contiguous() {
        return Err(PyBufferError::new_err("a buffer that is not contiguous"));
    }
    if content.len_bytes() == 0 {
        return Ok(before);
    }
    // SAFETY: contiguous, of that length, and kept alive by `content`; whoever calls leaves it alone until this is back.
    let bytes =
        unsafe { std::slice::from_raw_parts(content.buf_ptr() as *const u8, content.len_bytes()) };
    Ok(py.detach(|| ::crc32c::crc32c_append(before, bytes)))
}

/// The checksum of two contents, one behind the other, by theirs; and how many bytes the second has.
#[pyfunction]
pub fn crc32c_joined(first: u32, second: u32, second_bytes: usize) -> u32 {
    ::crc32c::crc32c_combine(first, second, second_bytes)
}
