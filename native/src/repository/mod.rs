//! The restic format: what `cto_backups.repository` does for every byte and every node.

use pyo3::prelude::*;

pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
