//! Capturing: what `cto_backups.sources` does for every file. Shares nothing with the repository, whose faults the
//! fingerprints made here must show.

use pyo3::prelude::*;

pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
