//! Adding entries up to a fingerprint: sums of their records, counts, hard links, and which of them are samples.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use sha2::{Digest, Sha256};

use super::digests::{Learned, LearnedDigests, Sha256Digest};
use super::node::{bytes, Kind, Node, Place};
use super::records::Records;
use super::sampling::{Order, Picked};
use super::sums::Sum;

/// From so many entries on, the interpreter is let go while they are added. Getting it back may take milliseconds when
/// another thread is busy in it, so for fewer that is not worth it.
const MANY: usize = 256;

/// An entry to be told of, since it is a sample: its rank, its path inside the snapshot, itself, and its content.
pub type Sample<'py> = (
    u64,
    Bound<'py, PyBytes>,
    Bound<'py, PyAny>,
    Bound<'py, PyBytes>,
);

/// An entry to be added, and its content: see `Records::of`.
pub struct Counted {
    pub node: Node,
    pub content: Vec<u8>,
}

/// An entry's place among those that were added, and its rank.
pub type Pick = (usize, u64);

#[derive(Default)]
struct State {
    content: Sum,
    metadata: Sum,
    ownership: Sum,
    extended: Sum,
    files: u64,
    folders: u64,
    symlinks: u64,
    others: u64,
    bytes: i128,
    links: HashMap<(u64, u64), Vec<Vec<u8>>>,
    picked: Picked,
}

/// What was added so far; any thread may add.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Tally {
    roots: HashSet<Vec<u8>>,
    above: HashSet<Vec<u8>>,
    order: Order,
    samples: usize,
    state: Mutex<State>,
}

impl Tally {
    /// Add entries; those to be told of. Needs no interpreter.
    pub fn count(&self, entries: &[Counted]) -> Vec<Pick> {
        let mut sums = State::default();
        let mut ranks = Vec::with_capacity(entries.len());
        for Counted { node, content } in entries {
            let left_out = node.kind == Kind::Socket
                || (node.kind == Kind::Folder && self.above.contains(&node.path));
            if left_out {
                ranks.push(None);
                continue;
            }
            let records = Records::of(node, content);
            sums.content.add(&records.content);
            sums.metadata.add(&records.metadata);
            sums.ownership.add(&records.ownership);
            if let Some(extended) = &records.extended {
                sums.extended.add(extended);
            }
            match node.kind {
                Kind::File => {
                    sums.files += 1;
                    sums.bytes += i128::from(node.size);
                }
                Kind::Folder => sums.folders += 1,
                Kind::Symlink => sums.symlinks += 1,
                _ => sums.others += 1,
            }
            if node.links > 1 && node.kind != Kind::Folder {
                sums.links
                    .entry((node.device_id, node.inode))
                    .or_default()
                    .push(node.path.clone());
            }
            ranks.push(if self.roots.contains(&node.path) {
                Some((true, 0))
            } else if node.kind == Kind::Folder {
                None
            } else {
                self.order.rank(&node.path).map(|rank| (false, rank))
            });
        }
        let mut state = self.state();
        state.content.merge(&sums.content);
        state.metadata.merge(&sums.metadata);
        state.ownership.merge(&sums.ownership);
        state.extended.merge(&sums.extended);
        state.files += sums.files;
        state.folders += sums.folders;
        state.symlinks += sums.symlinks;
        state.others += sums.others;
        state.bytes += sums.bytes;
        for (file, paths) in sums.links {
            state.links.entry(file).or_default().extend(paths);
        }
        let picked = &mut state.picked;
        let told = ranks.into_iter().enumerate().filter_map(|(place, rank)| {
            let (root, rank) = rank?;
            (root || self.order.picks(rank, picked, self.samples)).then_some((place, rank))
        });
        told.collect()
    }

    /// `count`, without the interpreter if that is worth it.
    fn count_with(&self, py: Python<'_>, entries: &[Counted]) -> Vec<Pick> {
        if entries.len() < MANY {
            self.count(entries)
        } else {
            py.detach(|| self.count(entries))
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Tally {
    /// `roots` are always told of, folders in `above` do not count; `wanted` are the samples or, when it is None, the
    /// `samples` ones with the smallest hash under `key`.
    #[new]
    fn new(
        key: &[u8],
        roots: HashSet<Vec<u8>>,
        above: HashSet<Vec<u8>>,
        wanted: Option<HashSet<Vec<u8>>>,
        samples: usize,
    ) -> PyResult<Self> {
        let order = Order::new(key, wanted)?;
        Ok(Tally {
            roots,
            above,
            order,
            samples,
            state: Mutex::default(),
        })
    }

    /// Add one entry; its rank if it is to be told of.
    fn add(
        &self,
        path: Vec<u8>,
        entry: &Bound<'_, PyAny>,
        content: Vec<u8>,
    ) -> PyResult<Option<u64>> {
        let node = Node::of(entry, Kind::of(entry)?, path)?;
        Ok(self
            .count(&[Counted { node, content }])
            .first()
            .map(|(_, rank)| *rank))
    }

    /// Add those of a folder's entries that are not files: nothing more will be known of them.
    fn add_listed<'py>(
        &self,
        py: Python<'py>,
        entries: &Bound<'py, PyList>,
        prefix: &[u8],
        cut: usize,
    ) -> PyResult<Vec<Sample<'py>>> {
        let place = Place { prefix, cut };
        let mut added = Vec::new();
        let mut counted = Vec::new();
        for entry in entries {
            let kind = Kind::of(&entry)?;
            if kind == Kind::File {
                continue;
            }
            let own = bytes(&entry, intern!(py, "path"))?;
            let inside = entry.getattr(intern!(py, "inside"))?.is_truthy()?;
            let path = if inside {
                place.path(own.as_bytes())
            } else {
                own.as_bytes().to_vec()
            };
            let node = Node::of(&entry, kind, path)?;
            let mut content = bytes(&entry, intern!(py, "linktarget"))?
                .as_bytes()
                .to_vec();
            if content.is_empty() && (kind == Kind::Device || kind == Kind::CharacterDevice) {
                let device: u64 = entry.getattr(intern!(py, "device"))?.extract()?;
                if device != 0 {
                    content = device.to_string().into_bytes();
                }
            }
            counted.push(Counted { node, content });
            added.push(entry);
        }
        let picks = self.count_with(py, &counted);
        Ok(samples(py, picks, &counted, &added))
    }

    /// Add those files whose digest is known, and learn it again; which ones those are, and whom to tell of.
    fn add_known<'py>(
        &self,
        py: Python<'py>,
        entries: &Bound<'py, PyList>,
        prefix: &[u8],
        cut: usize,
        learned: &LearnedDigests,
    ) -> PyResult<(Vec<bool>, Vec<Sample<'py>>)> {
        let place = Place { prefix, cut };
        let mut reused = vec![false; entries.len()];
        let mut added = Vec::new();
        let mut counted = Vec::new();
        let mut records = Vec::new();
        for (entry, reused) in entries.iter().zip(&mut reused) {
            let known = entry
                .getattr_opt(intern!(py, "known"))?
                .filter(|known| !known.is_none());
            let Some(known) = known else { continue };
            let digest: Sha256Digest = known.extract()?;
            let path = place.path(bytes(&entry, intern!(py, "path"))?.as_bytes());
            let node = Node::of(&entry, Kind::of(&entry)?, path)?;
            let token = bytes(&entry, intern!(py, "token"))?.extract()?;
            records.push(Learned {
                token,
                digest,
                changed_ns: node.mtime_ns.max(node.ctime_ns),
            });
            counted.push(Counted {
                node,
                content: digest.to_vec(),
            });
            added.push(entry);
            *reused = true;
        }
        let picks = self.count_with(py, &counted);
        learned.take(&records);
        Ok((reused, samples(py, picks, &counted, &added)))
    }

    /// The sums of the records of content, metadata, extended attributes, ownership and hard links (32 bytes each), and
    /// how many files, folders, symbolic links and others there are, and how many bytes in the files.
    #[allow(clippy::type_complexity)] // the stub has it in words
    fn totals<'py>(
        &self,
        py: Python<'py>,
    ) -> ([Bound<'py, PyBytes>; 5], (u64, u64, u64, u64, i128)) {
        let (sums, counts) = py.detach(|| {
            let state = self.state();
            let mut links = Sum::default();
            for paths in state.links.values().filter(|paths| paths.len() > 1) {
                let mut paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
                paths.sort_unstable();
                links.add(&Sha256::digest(paths.join(&0)).into());
            }
            let sums = [
                state.content,
                state.metadata,
                state.extended,
                state.ownership,
                links,
            ];
            (
                sums,
                (
                    state.files,
                    state.folders,
                    state.symlinks,
                    state.others,
                    state.bytes,
                ),
            )
        });
        (sums.map(|sum| PyBytes::new(py, &sum.to_bytes())), counts)
    }
}

pub fn samples<'py>(
    py: Python<'py>,
    picks: Vec<Pick>,
    counted: &[Counted],
    entries: &[Bound<'py, PyAny>],
) -> Vec<Sample<'py>> {
    let told = picks.into_iter().map(|(at, rank)| {
        let Counted { node, content } = &counted[at];
        (
            rank,
            PyBytes::new(py, &node.path),
            entries[at].clone(),
            PyBytes::new(py, content),
        )
    });
    told.collect()
}
