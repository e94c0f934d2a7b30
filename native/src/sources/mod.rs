//! Capturing: what `cto_backups.sources` does for every file. Shares nothing with the repository, whose faults the
//! fingerprints made here must show.
//!
//! Names and paths are bytes, times are nanoseconds since 1970. Whatever waits for the kernel, and whatever takes long,
//! runs without the interpreter's lock; problems go back to Python, which notes them.

use pyo3::prelude::*;

mod ahead;
mod checksums;
mod digests;
mod folder;
mod lister;
mod listing;
mod literals;
mod node;
mod reading;
mod records;
mod sampling;
mod status;
mod sums;
mod tally;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<digests::KnownDigests>()?;
    module.add_class::<digests::LearnedDigests>()?;
    module.add_class::<tally::Tally>()?;
    module.add_class::<literals::Literals>()?;
    module.add_class::<lister::Lister>()?;
    module.add_function(wrap_pyfunction!(checksums::crc32c, module)?)?;
    module.add_function(wrap_pyfunction!(checksums::crc32c_joined, module)?)?;
    module.add_function(wrap_pyfunction!(digests::token, module)?)?;
    module.add_function(wrap_pyfunction!(lister::extended_attributes, module)?)?;
    module.add_function(wrap_pyfunction!(reading::read_files, module)?)
}
