//! Where bytes and entries are handled in bulk, without the interpreter: the inner loops of the packages
//! `cto_backups.repository` and `cto_backups.sources`, one module here for each. The two share nothing.

use pyo3::prelude::*;

mod repository;
mod sources;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    repository::register(module)?;
    sources::register(module)
}
