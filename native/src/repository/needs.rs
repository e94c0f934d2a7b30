//! What snapshots need of a repository: their trees walked once, and every blob marked, at a bit a blob.
//!
//! A blob that lies in several places is marked at the first of them, which stays the first whatever is added. What is in
//! no place is remembered by its id. As in `index`, Python is never called while a lock is held.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::blob::{hex, Id};
use super::broken::Broken;
use super::buffers::view;
use super::decode::nodes;
use super::index::{checked_kind, tuple, BlobIndex, Known, Location};

const DATA: usize = 0;
const TREE: usize = 1;

/// Numbers that are marked.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Mark a number; whether it was not marked before.
    fn set(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64).copied().unwrap_or(0);
        word & (1 << (number % 64)) != 0
    }
}

#[derive(Default)]
struct State {
    stack: Vec<Id>,
    needed: [Bits; 2],
    nowhere: [HashSet<Id>; 2],
    held: [Bits; 2],
}

impl State {
    /// Mark a blob as needed; whether it was not before.
    fn need(&mut self, known: &Known, kind: usize, id: &Id) -> bool {
        match known.tables[kind].first(id) {
            Some(number) => self.needed[kind].set(number),
            None => self.nowhere[kind].insert(*id),
        }
    }

    fn is_needed(&self, known: &Known, kind: usize, id: &Id) -> bool {
        known.tables[kind]
            .first(id)
            .is_some_and(|number| self.needed[kind].has(number))
            || (!self.nowhere[kind].is_empty() && self.nowhere[kind].contains(id))
    }
}

/// What of one pack is needed: kinds in it (1 data, 2 trees, 3 both), bytes used, bytes unused, blobs used.
type Use = (u8, u64, u64, u32);

/// What every pack is used for, the blobs that lie in several packs with the pack they are needed of, and their places
/// beyond one each.
type Uses<'py> = (Vec<Use>, Vec<(u8, Bound<'py, PyBytes>, u32)>, usize);

/// A blob in a pack: kind, id, the pack's number.
type InPack = (u8, Id, u32);

/// What snapshots need. One thread walks; any may ask.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Needs {
    known: Arc<Mutex<Known>>,
    state: Mutex<State>,
}

impl Needs {
    /// Both locks, in the order in which they are always taken.
    fn lock(&self) -> (MutexGuard<'_, State>, MutexGuard<'_, Known>) {
        let state = self.state.lock();
        let known = self.known.lock();
        (
            state.unwrap_or_else(|poisoned| poisoned.into_inner()),
            known.unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }
}

#[pymethods]
impl Needs {
    #[new]
    fn new(index: &BlobIndex) -> Self {
        Needs {
            known: index.known.clone(),
            state: Mutex::default(),
        }
    }

    /// A snapshot's tree is needed; it is walked unless it was before.
    fn add(&self, tree: Id) {
        let (mut state, known) = self.lock();
        if state.need(&known, TREE, &tree) {
            state.stack.push(tree);
        }
    }

    /// The next tree to walk; None when all were.
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let tree = self.lock().0.stack.pop();
        tree.map(|id| PyBytes::new(py, &id))
    }

    /// Mark what a tree's plain bytes refer to, and its subtrees as to be walked. Raises DamageError.
    fn enter(&self, py: Python<'_>, plain: PyBuffer<u8>) -> PyResult<()> {
        let bytes = view(&plain)?;
        py.detach(|| {
            let found = nodes(bytes)?;
            let (mut state, known) = self.lock();
            for node in &found {
                for blob in &node.content {
                    state.need(&known, DATA, blob);
                }
                if let Some(tree) = &node.subtree {
                    if state.need(&known, TREE, tree) {
                        state.stack.push(*tree);
                    }
                }
            }
            Ok(())
        })
        .map_err(|broken: Broken| broken.raise(py))
    }

    /// Whether a blob is needed.
    fn has(&self, kind: u8, blob: Id) -> PyResult<bool> {
        let kind = checked_kind(kind)? as usize;
        let (state, known) = self.lock();
        Ok(state.is_needed(&known, kind, &blob))
    }

    /// The needed blobs of a kind that no pack holds, in order.
    fn missing<'py>(&self, py: Python<'py>, kind: u8) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let kind = checked_kind(kind)? as usize;
        let mut found: Vec<Id> = {
            let (state, known) = self.lock();
            let nowhere = state.nowhere[kind].iter();
            nowhere
                .filter(|id| known.tables[kind].first(id).is_none())
                .copied()
                .collect()
        };
        found.sort_unstable();
        Ok(found.iter().map(|id| PyBytes::new(py, id)).collect())
    }

    /// The packs that hold what is needed.
    fn packs(&self, py: Python<'_>) -> HashSet<u32> {
        py.detach(|| {
            let (state, known) = self.lock();
            let mut packs = HashSet::new();
            for (kind, table) in known.tables.iter().enumerate() {
                for (_, id, place) in table.records() {
                    if !packs.contains(&place.pack) && state.is_needed(&known, kind, id) {
                        packs.insert(place.pack);
                    }
                }
            }
            packs
        })
    }

    /// What is needed of each pack, by its number; every blob is needed of one pack only.
    ///
    /// Of a blob in several packs it is the pack with the least that nothing needs: that one is the most likely to stay,
    /// and the others may then go as a whole. `held_in` goes by the last call of this. Places that are `damaged` are not
    /// relied on; raises DamageError for a blob that lies in several packs, and is damaged in all.
    fn uses<'py>(&self, py: Python<'py>, damaged: HashSet<InPack>) -> PyResult<Uses<'py>> {
        let found = py.detach(|| {
            let (mut state, known) = self.lock();
            let waste = waste(&state, &known);
            let mut uses: Vec<Use> = vec![(0, 0, 0, 0); known.packs.len()];
            let mut several = Vec::new();
            let mut beyond = 0;
            state.held = Default::default();
            for (kind, table) in known.tables.iter().enumerate() {
                for (number, id, place) in table.records() {
                    let of_pack = &mut uses[place.pack as usize];
                    of_pack.0 |= 1 << kind;
                    of_pack.2 += place.length as u64;
                    if table.first(id) != Some(number) || !state.is_needed(&known, kind, id) {
                        continue;
                    }
                    let places = table.numbered(id);
                    let sound = |one: &&(u32, Location)| {
                        damaged.is_empty() || !damaged.contains(&(kind as u8, *id, one.1.pack))
                    };
                    let best = |(number, place): &(u32, Location)| {
                        (waste[place.pack as usize], place.pack, *number)
                    };
                    let chosen = places.iter().filter(sound).min_by_key(|one| best(one));
                    let Some(&(number, place)) = chosen else {
                        return Err(damaged_everywhere(kind, id, places.len()));
                    };
                    state.held[kind].set(number);
                    let of_holder = &mut uses[place.pack as usize];
                    of_holder.1 += place.length as u64;
                    of_holder.3 += 1;
                    let elsewhere = places.iter().filter(|one| one.1.pack != place.pack).count();
                    if elsewhere > 0 {
                        several.push((kind as u8, *id, place.pack));
                        beyond += elsewhere;
                    }
                }
            }
            for of_pack in &mut uses {
                of_pack.2 -= of_pack.1;
            }
            Ok((uses, several, beyond))
        });
        let (uses, several, beyond) = found.map_err(|broken: Broken| broken.raise(py))?;
        let several = several
            .into_iter()
            .map(|(kind, id, pack)| (kind, PyBytes::new(py, &id), pack))
            .collect();
        Ok((uses, several, beyond))
    }

    /// The blobs that are needed of these packs: kind, id, place.
    fn held_in<'py>(
        &self,
        py: Python<'py>,
        packs: HashSet<u32>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let found = py.detach(|| {
            let (state, known) = self.lock();
            let mut found: Vec<(usize, Id, Location)> = Vec::new();
            for (kind, table) in known.tables.iter().enumerate() {
                for (number, id, place) in table.records() {
                    if state.held[kind].has(number) && packs.contains(&place.pack) {
                        found.push((kind, *id, place));
                    }
                }
            }
            found
        });
        found
            .into_iter()
            .map(|(kind, id, place)| (kind, PyBytes::new(py, &id), tuple(place)).into_pyobject(py))
            .collect()
    }
}

fn damaged_everywhere(kind: usize, id: &Id, places: usize) -> Broken {
    let kind = ["Data", "Tree"][kind];
    Broken::damage(
        format!("{kind} blob {} is damaged", hex(&id[..6])),
        format!("none of the {places} packs that hold it holds it intact"),
    )
}

/// The bytes in each pack that nothing needs, wherever what is needed is taken from.
fn waste(state: &State, known: &Known) -> Vec<u64> {
    let mut waste = vec![0u64; known.packs.len()];
    for (kind, table) in known.tables.iter().enumerate() {
        for (_, id, place) in table.records() {
            if !state.is_needed(known, kind, id) {
                waste[place.pack as usize] += place.length as u64;
            }
        }
    }
    waste
}
