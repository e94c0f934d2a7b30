//! Where every blob lies: index files in memory, at well under a hundred bytes a blob; and which blobs are being
//! stored right now.
//!
//! Python is never called, nor are objects of its made, while one of the locks here is held: whoever waits for the lock
//! may hold what Python waits for.
//!
//! A record is 48 bytes in blocks that never move; a hash table of record numbers finds them by the first eight bytes
//! of the id, which is as good as random.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashTable;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use serde::Deserialize;
use std::borrow::Cow;

use super::blob::{push_hex, unhex, Id};
use super::broken::{nonsense, Broken};
use super::buffers::view;
use super::pack::{Blob, Pack, Spares};
use super::seal::OVERHEAD;

const BLOCK: usize = 1 << 14;

/// Where a blob lies: pack number, offset and length there, plain length (0 when it is not compressed).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub pack: u32,
    pub offset: u32,
    pub length: u32,
    pub plain: u32,
}

struct Record {
    id: Id,
    place: Location,
}

/// Records by id; several for one id are allowed.
#[derive(Default)]
pub struct Table {
    blocks: Vec<Vec<Record>>,
    numbers: HashTable<u32>,
}

fn hash(id: &Id) -> u64 {
    u64::from_le_bytes(id[..8].try_into().expect("eight bytes"))
}

impl Table {
    fn record(&self, number: u32) -> &Record {
        &self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn add(&mut self, id: &Id, place: Location) {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            // The first block grows as it needs, so that small repositories stay small.
            let room = if self.blocks.is_empty() { 0 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        let number = (self.blocks.len() - 1) * BLOCK + self.blocks[self.blocks.len() - 1].len();
        let last = self.blocks.len() - 1;
        self.blocks[last].push(Record { id: *id, place });
        let blocks = &self.blocks;
        self.numbers
            .insert_unique(hash(id), number as u32, |&other| {
                hash(&blocks[other as usize / BLOCK][other as usize % BLOCK].id)
            });
    }

    /// One place of a blob.
    pub fn find(&self, id: &Id) -> Option<Location> {
        self.numbers
            .find(hash(id), |&number| self.record(number).id == *id)
            .map(|&number| self.record(number).place)
    }

    /// A blob's plain size, if it is known.
    pub fn size(&self, id: &Id) -> Option<u64> {
        self.find(id).map(|place| match place.plain {
            0 => u64::from(place.length.saturating_sub(OVERHEAD as u32)),
            plain => u64::from(plain),
        })
    }

    /// Every place of a blob, in the order they became known.
    pub fn locate(&self, id: &Id) -> Vec<Location> {
        let mut found: Vec<u32> = self
            .numbers
            .iter_hash(hash(id))
            .copied()
            .filter(|&number| self.record(number).id == *id)
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .map(|number| self.record(number).place)
            .collect()
    }

    /// Whether a blob lies at this place.
    pub fn holds(&self, id: &Id, place: Location) -> bool {
        self.numbers
            .find(hash(id), |&number| {
                let record = self.record(number);
                record.id == *id && record.place == place
            })
            .is_some()
    }

    /// The number of the first place of a blob that became known.
    pub fn first(&self, id: &Id) -> Option<u32> {
        let numbers = self.numbers.iter_hash(hash(id)).copied();
        numbers
            .filter(|&number| self.record(number).id == *id)
            .min()
    }

    /// Every place of a blob with its number.
    pub fn numbered(&self, id: &Id) -> Vec<(u32, Location)> {
        let numbers = self.numbers.iter_hash(hash(id)).copied();
        numbers
            .filter(|&number| self.record(number).id == *id)
            .map(|number| (number, self.record(number).place))
            .collect()
    }

    /// Every record with its number.
    pub fn records(&self) -> impl Iterator<Item = (u32, &Id, Location)> {
        let records = self.blocks.iter().flatten().enumerate();
        records.map(|(number, record)| (number as u32, &record.id, record.place))
    }

    fn iter(&self) -> impl Iterator<Item = (&Id, Location)> {
        self.records().map(|(_, id, place)| (id, place))
    }
}

/// The packs of a repository, the blobs in them, and the blobs that somebody is storing.
#[derive(Default)]
pub struct Known {
    pub tables: [Table; 2],
    pub packs: Vec<Id>,
    pub numbers: HashMap<Id, u32>,
    pub blobs_in_pack: Vec<u32>,
    pub pack_ends: Vec<u64>,
    pending: [HashSet<Id>; 2],
}

impl Known {
    /// Note a pack's blobs; its number. A pack that is known already keeps what is known of it.
    pub fn add_pack(&mut self, pack: &Id, blobs: &[Blob]) -> u32 {
        if let Some(number) = self.numbers.get(pack) {
            return *number;
        }
        let number = self.packs.len() as u32;
        let mut end = 0;
        for blob in blobs {
            let place = Location {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain: blob.plain,
            };
            self.tables[blob.kind as usize].add(&blob.id, place);
            end = end.max(blob.offset as u64 + blob.length as u64);
        }
        self.packs.push(*pack);
        self.numbers.insert(*pack, number);
        self.blobs_in_pack.push(blobs.len() as u32);
        self.pack_ends.push(end);
        number
    }

    pub fn is_pending(&self, kind: u8, id: &Id) -> bool {
        self.pending[kind as usize].contains(id)
    }
}

#[derive(Deserialize)]
struct IndexFile<'a> {
    #[serde(borrow, deserialize_with = "Option::deserialize")] // null, but there
    packs: Option<Vec<IndexedPack<'a>>>,
    #[serde(borrow, default)]
    packs_to_delete: Vec<PackToDelete<'a>>,
}

/// rustic keeps these in the index for a day after nothing needed them; their blobs are not to be relied on.
#[derive(Deserialize)]
struct PackToDelete<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct IndexedPack<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    blobs: Vec<IndexedBlob<'a>>,
}

#[derive(Deserialize)]
struct IndexedBlob<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    offset: u32,
    length: u32,
    uncompressed_length: Option<u32>, // rustic writes null
}

/// The packs of an index file with their blobs, and the packs that it says are to be deleted.
type Listed = (Vec<(Id, Vec<Blob>)>, Vec<Id>);

fn parse(plain: &[u8]) -> Result<Listed, String> {
    const WRONG_PACK: &str = "a pack's id of the wrong length";
    let file: IndexFile = serde_json::from_slice(plain).map_err(|error| error.to_string())?;
    let mut packs = Vec::new();
    for pack in file.packs.unwrap_or_default() {
        let mut blobs = Vec::with_capacity(pack.blobs.len());
        for blob in pack.blobs {
            let kind = match blob.kind.as_ref() {
                "data" => 0,
                "tree" => 1,
                _ => return Err("a blob of unknown type".to_string()),
            };
            let id = unhex(&blob.id).ok_or("an id of the wrong length")?;
            if (blob.length as usize) < OVERHEAD {
                return Err("a length or offset is out of range".to_string());
            }
            blobs.push(Blob {
                kind,
                id,
                offset: blob.offset,
                length: blob.length,
                plain: blob.uncompressed_length.unwrap_or(0),
            });
        }
        packs.push((unhex(&pack.id).ok_or(WRONG_PACK)?, blobs));
    }
    let mut to_delete = Vec::with_capacity(file.packs_to_delete.len());
    for pack in file.packs_to_delete {
        to_delete.push(unhex(&pack.id).ok_or(WRONG_PACK)?);
    }
    Ok((packs, to_delete))
}

/// Where every blob of a repository lies. Any thread may call. Kinds: 0 data, 1 tree.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct BlobIndex {
    pub known: Arc<Mutex<Known>>,
}

impl BlobIndex {
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        // A thread that panicked half way through a change ends the run: nothing is made visible by it.
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

pub type Place = (u32, u32, u32, u32);

pub fn tuple(place: Location) -> Place {
    (place.pack, place.offset, place.length, place.plain)
}

pub fn checked_kind(kind: u8) -> PyResult<u8> {
    if kind < 2 {
        Ok(kind)
    } else {
        Err(nonsense("no kind of blob"))
    }
}

#[pymethods]
impl BlobIndex {
    #[new]
    fn new() -> Self {
        BlobIndex {
            known: Arc::new(Mutex::new(Known::default())),
        }
    }

    /// Take over the plain JSON of an index file; how many packs it lists, and the packs that it says are to be deleted.
    /// Raises DamageError, and takes nothing then.
    ///
    /// With `usable` (sizes of the packs that are really there), blobs of other packs are left out.
    #[pyo3(signature = (plain, usable=None))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        plain: PyBuffer<u8>,
        usable: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<(usize, Vec<Bound<'py, PyBytes>>)> {
        let bytes = view(&plain)?;
        let (packs, to_delete) = py.detach(|| parse(bytes)).map_err(|why| {
            Broken::damage(
                "An index file is damaged",
                format!("it makes no sense ({why:.80})"),
            )
            .raise(py)
        })?;
        let count = packs.len();
        let mut wanted = Vec::with_capacity(count);
        for (pack, blobs) in packs {
            if let Some(sizes) = usable {
                let there: Option<i64> = match sizes.get_item(PyBytes::new(py, &pack))? {
                    Some(size) => Some(size.extract()?),
                    None => None,
                };
                let end = blobs
                    .iter()
                    .map(|blob| blob.offset as i64 + blob.length as i64)
                    .max();
                if there.unwrap_or(-1) < end.unwrap_or(0) {
                    continue;
                }
            }
            wanted.push((pack, blobs));
        }
        py.detach(|| {
            let mut known = self.lock();
            for (pack, blobs) in &wanted {
                known.add_pack(pack, blobs);
            }
        });
        let to_delete = to_delete.iter().map(|pack| PyBytes::new(py, pack));
        Ok((count, to_delete.collect()))
    }

    /// Note one pack's blobs, each (kind, id, offset, length, plain length); its number.
    fn add_pack(&self, pack: Id, blobs: Vec<(u8, Id, u32, u32, u32)>) -> PyResult<u32> {
        let blobs = blobs
            .into_iter()
            .map(|(kind, id, offset, length, plain)| {
                Ok(Blob {
                    kind: checked_kind(kind)?,
                    id,
                    offset,
                    length,
                    plain,
                })
            })
            .collect::<PyResult<Vec<_>>>()?;
        Ok(self.lock().add_pack(&pack, &blobs))
    }

    /// Note a pack that was just stored: its blobs are no longer pending; its number.
    fn add_stored(&self, pack: &Pack) -> u32 {
        let filled = pack.filled();
        let mut known = self.lock();
        let number = known.add_pack(&filled.name, &filled.blobs);
        for blob in &filled.blobs {
            known.pending[blob.kind as usize].remove(&blob.id);
        }
        number
    }

    /// How many packs are known.
    #[getter]
    fn pack_count(&self) -> usize {
        self.lock().packs.len()
    }

    /// A pack's name (32 bytes), how many blobs it holds, and where the last of them ends.
    fn pack<'py>(
        &self,
        py: Python<'py>,
        number: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, u32, u64)> {
        let found = {
            let known = self.lock();
            known
                .packs
                .get(number)
                .map(|name| (*name, known.blobs_in_pack[number], known.pack_ends[number]))
        };
        let (name, blobs, end) = found.ok_or_else(|| nonsense("no such pack"))?;
        Ok((PyBytes::new(py, &name), blobs, end))
    }

    /// How many places of blobs of a kind are known.
    fn count(&self, kind: u8) -> PyResult<usize> {
        Ok(self.lock().tables[checked_kind(kind)? as usize].len())
    }

    /// The number of a pack that holds the blob, -1 when none does.
    fn pack_of(&self, kind: u8, blob: Id) -> PyResult<i64> {
        let found = self.lock().tables[checked_kind(kind)? as usize].find(&blob);
        Ok(found.map_or(-1, |place| place.pack as i64))
    }

    /// Every place of a blob: pack number, offset, length, plain length.
    fn locate(&self, kind: u8, blob: Id) -> PyResult<Vec<Place>> {
        let found = self.lock().tables[checked_kind(kind)? as usize].locate(&blob);
        Ok(found.into_iter().map(tuple).collect())
    }

    /// An index of these packs only, in the same order.
    fn only(&self, py: Python<'_>, packs: HashSet<u32>) -> BlobIndex {
        py.detach(|| {
            let known = self.lock();
            let mut kept = Known::default();
            let mut numbers = HashMap::new();
            for (number, name) in known.packs.iter().enumerate() {
                if packs.contains(&(number as u32)) {
                    let kept_number = kept.add_pack(name, &[]);
                    numbers.insert(number as u32, kept_number);
                    kept.blobs_in_pack[kept_number as usize] = known.blobs_in_pack[number];
                    kept.pack_ends[kept_number as usize] = known.pack_ends[number];
                }
            }
            for (kind, table) in known.tables.iter().enumerate() {
                for (id, place) in table.iter() {
                    if let Some(&pack) = numbers.get(&place.pack) {
                        kept.tables[kind].add(id, Location { pack, ..place });
                    }
                }
            }
            BlobIndex {
                known: Arc::new(Mutex::new(kept)),
            }
        })
    }

    /// The plain JSON of an index file that lists packs from the number `start` on, and the number of the first that it
    /// does not list: as many as have `most_blobs` blobs together, at least one.
    fn listing<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        most_blobs: usize,
    ) -> (Bound<'py, PyBytes>, usize) {
        let (text, end) = py.detach(|| {
            let known = self.lock();
            let (mut end, mut count) = (start, 0);
            while let Some(&blobs) = known.blobs_in_pack.get(end) {
                count += blobs as usize;
                if end > start && count > most_blobs {
                    break;
                }
                end += 1;
            }
            let mut found: Vec<Vec<(u8, &Id, Location)>> =
                vec![Vec::new(); end.saturating_sub(start)];
            for (kind, table) in known.tables.iter().enumerate() {
                for (id, place) in table.iter() {
                    if (start..end).contains(&(place.pack as usize)) {
                        found[place.pack as usize - start].push((kind as u8, id, place));
                    }
                }
            }
            let mut text = String::from("{\"packs\":[");
            for (number, mut blobs) in found.into_iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                blobs.sort_unstable_by_key(|(_, _, place)| place.offset);
                push_pack(&known.packs[start + number], blobs.into_iter(), &mut text);
            }
            text.push_str("]}");
            (text, end)
        });
        (PyBytes::new(py, text.as_bytes()), end)
    }

    /// Every blob of these packs: kind, id, place.
    fn blobs_in<'py>(
        &self,
        py: Python<'py>,
        packs: HashSet<u32>,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut found: Vec<(usize, Id, Location)> = Vec::new();
        py.detach(|| {
            for (kind, table) in self.lock().tables.iter().enumerate() {
                let wanted = table
                    .iter()
                    .filter(|(_, place)| packs.contains(&place.pack));
                found.extend(wanted.map(|(id, place)| (kind, *id, place)));
            }
        });
        found
            .into_iter()
            .map(|(kind, id, place)| (kind, PyBytes::new(py, &id), tuple(place)).into_pyobject(py))
            .collect()
    }
}

/// One pack's part of an index file.
fn push_pack<'a>(
    name: &Id,
    blobs: impl Iterator<Item = (u8, &'a Id, Location)>,
    text: &mut String,
) {
    text.push_str("{\"id\":\"");
    push_hex(name, text);
    text.push_str("\",\"blobs\":[");
    for (place, (kind, id, location)) in blobs.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str("{\"id\":\"");
        push_hex(id, text);
        text.push_str(if kind == 0 {
            "\",\"type\":\"data\""
        } else {
            "\",\"type\":\"tree\""
        });
        text.push_str(&format!(
            ",\"offset\":{},\"length\":{}",
            location.offset, location.length
        ));
        if location.plain > 0 {
            text.push_str(&format!(",\"uncompressed_length\":{}", location.plain));
        }
        text.push('}');
    }
    text.push_str("]}");
}

/// Which blobs a run stores and which it found to be there. Any thread may call.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Claims {
    known: Arc<Mutex<Known>>,
    relied: Mutex<HashSet<u32>>,
    pub spares: Spares,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn rely(&self, pack: u32) {
        self.relied
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(pack);
    }

    /// Whether the caller is the one who must store this blob.
    pub fn claim(&self, kind: u8, blob: &Id) -> bool {
        let mut known = self.lock();
        if let Some(place) = known.tables[kind as usize].find(blob) {
            drop(known);
            self.rely(place.pack);
            return false;
        }
        known.pending[kind as usize].insert(*blob)
    }

    /// Whether a blob is stored, or about to be; its pack is relied on from now.
    pub fn has(&self, kind: u8, blob: &Id) -> bool {
        let known = self.lock();
        match known.tables[kind as usize].find(blob) {
            Some(place) => {
                drop(known);
                self.rely(place.pack);
                true
            }
            None => known.is_pending(kind, blob),
        }
    }
}

#[pymethods]
impl Claims {
    #[new]
    fn new(index: &BlobIndex) -> Self {
        Claims {
            known: index.known.clone(),
            relied: Mutex::new(HashSet::new()),
            spares: Spares::default(),
        }
    }

    /// Whether a blob is stored, or about to be; its pack is relied on from now.
    #[pyo3(name = "has")]
    fn has_one(&self, kind: u8, blob: Id) -> PyResult<bool> {
        Ok(self.has(checked_kind(kind)?, &blob))
    }

    /// This pack, stored by this run, is relied on too.
    #[pyo3(name = "rely")]
    fn rely_on(&self, pack: u32) {
        self.rely(pack);
    }

    /// The numbers of the packs that hold what was found, and what was stored.
    #[getter]
    fn relied(&self) -> HashSet<u32> {
        self.relied
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}

/// The plain JSON of an index file for packs that were stored.
#[pyfunction]
pub fn index_json<'py>(py: Python<'py>, packs: Vec<Bound<'py, Pack>>) -> Bound<'py, PyBytes> {
    let mut text = String::from("{\"packs\":[");
    for (number, pack) in packs.iter().enumerate() {
        let filled = pack.get().filled();
        if number > 0 {
            text.push(',');
        }
        let blobs = filled.blobs.iter().map(|blob| {
            let place = Location {
                pack: 0,
                offset: blob.offset,
                length: blob.length,
                plain: blob.plain,
            };
            (blob.kind, &blob.id, place)
        });
        push_pack(&filled.name, blobs, &mut text);
    }
    text.push_str("]}");
    PyBytes::new(py, text.as_bytes())
}
