//! Re-reading a pack: its header, every blob in it, and where anything is wrong with those its name.
//!
//! A pack whose header opens, lists what the index lists and leaves no byte out, and whose blobs all are what their ids
//! say, holds what was stored: there is no byte in it that its name would prove besides. `Proof` sees to that piece by
//! piece; `check_pack` compares the name too, and says what is wrong.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};

use super::blob::{hex, with_opener, Id};
use super::broken::{nonsense, Broken};
use super::buffers::{room, view};
use super::index::{BlobIndex, Location};
use super::pack::{listed, most_header_bytes, Blob};
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
    let name: Id = *index
        .lock()
        .packs
        .get(number)
        .ok_or_else(|| nonsense("no such pack"))?;
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
        let blobs = listed(&sealer.key, bytes.len(), bytes).map_err(damaged)?;
        agree(index, number, &blobs).map_err(damaged)?;
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

/// See that a pack's header lists what the index lists of that pack, neither more nor less.
fn agree(index: &BlobIndex, number: usize, blobs: &[Blob]) -> Result<(), Broken> {
    let known = index.lock();
    let same_places = blobs.iter().all(|blob| {
        let place = Location {
            pack: number as u32,
            offset: blob.offset,
            length: blob.length,
            plain: blob.plain,
        };
        known.tables[blob.kind as usize].holds(&blob.id, place)
    });
    // No two of a header's blobs begin at the same place: as many as in the index are all that are there.
    let count = known.blobs_in_pack.get(number).copied();
    if count != Some(blobs.len() as u32) || !same_places {
        let others = "its header lists other blobs than the index";
        return Err(Broken::damage("A pack is damaged", others));
    }
    Ok(())
}

/// How many of a pack's last bytes its header takes at most, going by the index; at most all.
#[pyfunction]
pub fn header_room(index: &BlobIndex, number: usize, size: usize) -> PyResult<usize> {
    let known = index.lock();
    let count = known.blobs_in_pack.get(number);
    let count = *count.ok_or_else(|| nonsense("no such pack"))?;
    Ok(most_header_bytes(count as usize).min(size))
}

/// Proves that a pack holds what the index says, in pieces of whole blobs that together are all of it but its header.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Proof {
    blobs: Vec<Blob>,
    pieces: Vec<(usize, usize)>,
}

#[pymethods]
impl Proof {
    /// Of a pack of `size` bytes that ends in `tail`, `header_room` bytes or more. The blobs that lie in the tail are
    /// the last piece; of each other one up to `most` bytes lie before it, or one blob. Raises DamageError when the
    /// header does not open, or does not list what the index does.
    #[new]
    fn new(
        py: Python<'_>,
        index: &BlobIndex,
        sealer: &Sealer,
        number: usize,
        size: usize,
        tail: PyBuffer<u8>,
        most: usize,
    ) -> PyResult<Self> {
        let bytes = view(&tail)?;
        let listed = py.detach(|| {
            let blobs = listed(&sealer.key, size, bytes)?;
            agree(index, number, &blobs).map(|()| blobs)
        });
        let blobs = listed.map_err(|broken| broken.raise(py))?;
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let came = size - bytes.len();
        let mut start = 0;
        for (at, blob) in blobs.iter().enumerate() {
            let (offset, end) = (blob.offset as usize, (blob.offset + blob.length) as usize);
            let read = end.min(came.max(start)) - start;
            match pieces.last_mut() {
                // All that lies in the tail is one piece, whatever its length.
                Some((_, past)) if (offset < came || start >= came) && read <= most => {
                    *past = at + 1;
                }
                _ => {
                    start = offset;
                    pieces.push((at, at + 1));
                }
            }
        }
        Ok(Proof { blobs, pieces })
    }

    /// How many blobs are in the pack.
    #[getter]
    fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// Where each piece begins and how long it is, in order.
    #[getter]
    fn pieces(&self) -> Vec<(u32, u32)> {
        let places = self.pieces.iter().map(|&(at, past)| {
            let (first, last) = (&self.blobs[at], &self.blobs[past - 1]);
            (first.offset, last.offset + last.length - first.offset)
        });
        places.collect()
    }

    /// Whether every blob of a piece is what its id says. The piece is opened where it lies: it means nothing afterwards.
    fn holds(
        &self,
        py: Python<'_>,
        sealer: &Sealer,
        piece: usize,
        content: PyBuffer<u8>,
    ) -> PyResult<bool> {
        let bytes = room(&content)?;
        let &(at, past) = self
            .pieces
            .get(piece)
            .ok_or_else(|| nonsense("no such piece"))?;
        let blobs = &self.blobs[at..past];
        let length: usize = blobs.iter().map(|blob| blob.length as usize).sum();
        if bytes.len() != length {
            return Err(nonsense("a piece of another length"));
        }
        Ok(py.detach(|| {
            with_opener(|opener| {
                let mut rest = bytes;
                blobs.iter().all(|blob| {
                    let (sealed, behind) =
                        std::mem::take(&mut rest).split_at_mut(blob.length as usize);
                    rest = behind;
                    let proved = opener.prove(&sealer.key, sealed, &blob.id, blob.plain as usize);
                    proved.is_ok()
                })
            })
        }))
    }
}
