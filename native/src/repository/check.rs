//! Re-reading a pack: its name, its header, every blob in it.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};

use super::blob::{hex, with_opener, Id};
use super::broken::{nonsense, Broken};
use super::buffers::view;
use super::index::{BlobIndex, Location};
use super::pack::listed;
use super::seal::Sealer;

/// What is wrong (empty: nothing), the blobs that do not open (kind, id), how many do.
type Checked<'py> = (String, Vec<(u8, Bound<'py, PyBytes>)>, usize);

/// Check all bytes of a pack against its name, its header against the index, and every blob against its id.
///
/// Raises DamageError when its header cannot be read, or lists other blobs than the index: what is lost is then a
/// question to the index.
#[pyfunction]
pub fn check_pack<'py>(
    py: Python<'py>,
    index: &BlobIndex,
    sealer: &Sealer,
    number: usize,
    content: PyBuffer<u8>,
) -> PyResult<Checked<'py>> {
    let bytes = view(&content)?;
    let (name, count) = {
        let known = index.lock();
        let name: Id = *known
            .packs
            .get(number)
            .ok_or_else(|| nonsense("no such pack"))?;
        (name, known.blobs_in_pack[number])
    };
    let checked = py.detach(|| -> Result<_, Broken> {
        let mut why = String::new();
        if Id::from(Sha256::digest(bytes)) != name {
            why.push_str("its bytes are not what its name says");
        }
        // What was found first says more.
        let damaged = |otherwise: Broken| match why.as_str() {
            "" => otherwise,
            _ => Broken::damage("A pack is damaged", why.clone()),
        };
        let blobs = listed(&sealer.key, bytes).map_err(damaged)?;
        let same_places = {
            let known = index.lock();
            blobs.iter().all(|blob| {
                let place = Location {
                    pack: number as u32,
                    offset: blob.offset,
                    length: blob.length,
                    plain: blob.plain,
                };
                known.tables[blob.kind as usize]
                    .locate(&blob.id)
                    .contains(&place)
            })
        };
        if blobs.len() != count as usize || !same_places {
            let others = "its header lists other blobs than the index";
            return Err(damaged(Broken::damage("A pack is damaged", others)));
        }
        let mut bad = Vec::new();
        with_opener(|opener| {
            for blob in &blobs {
                let sealed = &bytes[blob.offset as usize..(blob.offset + blob.length) as usize];
                if let Err(broken) = opener.open(&sealer.key, sealed, &blob.id, blob.plain as usize)
                {
                    if why.is_empty() {
                        why = format!("blob {} in it: {}", hex(&blob.id[..6]), broken.reason());
                    }
                    bad.push((blob.kind, blob.id));
                }
            }
        });
        Ok((why, blobs.len() - bad.len(), bad))
    });
    let (why, good, bad) = checked.map_err(|broken| broken.raise(py))?;
    let bad = bad
        .into_iter()
        .map(|(kind, id)| (kind, PyBytes::new(py, &id)))
        .collect();
    Ok((why, bad, good))
}
