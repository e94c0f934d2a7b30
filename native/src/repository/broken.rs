//! What is found to be damaged, and how Python is told.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Stored bytes are not what they should be; each kind is an exception of the package's own.
#[derive(Debug)]
pub enum Broken {
    /// Altered, or sealed with another key.
    Seal { what: &'static str, why: String },
    /// Anything else that does not fit.
    Damage { what: String, why: String },
    /// A blob came out wrong when it was opened again right after sealing.
    Writing { why: String },
    /// No random numbers, no memory: nothing that more tries would mend.
    Machine(String),
}

impl Broken {
    pub fn damage(what: impl Into<String>, why: impl Into<String>) -> Self {
        Broken::Damage {
            what: what.into(),
            why: why.into(),
        }
    }

    /// What happened, in one line.
    pub fn line(&self) -> String {
        match self {
            Broken::Seal { why, .. } => why.clone(),
            Broken::Damage { what, why } => format!("{what}: {why}"),
            Broken::Writing { why } => why.clone(),
            Broken::Machine(why) => why.clone(),
        }
    }

    /// The reason alone, without what it is about.
    pub fn reason(&self) -> &str {
        match self {
            Broken::Seal { why, .. } | Broken::Damage { why, .. } | Broken::Writing { why } => why,
            Broken::Machine(why) => why,
        }
    }

    /// As `SealBrokenError`, `DamageError` or `BlobCameOutWrongError` of the package.
    pub fn raise(self, py: Python<'_>) -> PyErr {
        let (module, class, what, why) = match self {
            Broken::Seal { what, why } => (
                "cto_backups.repository.seal",
                "SealBrokenError",
                what.to_string(),
                why,
            ),
            Broken::Damage { what, why } => ("cto_backups.errors", "DamageError", what, why),
            Broken::Writing { why } => (
                "cto_backups.repository.seal",
                "CameOutWrongError",
                "A blob came out wrong when it was opened again".to_string(),
                why,
            ),
            Broken::Machine(why) => return PyRuntimeError::new_err(why),
        };
        let made = (|| {
            let keywords = PyDict::new(py);
            keywords.set_item("why", why)?;
            py.import(module)?
                .getattr(class)?
                .call((what,), Some(&keywords))
        })();
        match made {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    }
}

pub fn nonsense(why: &str) -> PyErr {
    PyValueError::new_err(why.to_string())
}
