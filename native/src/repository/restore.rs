//! Writing restored files: a stretch of a pack at a time, opened, compared, and written into its places.
//!
//! Folders are reached from the destination name by name, each opened with O_NOFOLLOW below its parent: neither a tree
//! with hostile names nor somebody who swaps a folder for a symlink meanwhile can lead a write elsewhere.

use std::collections::hash_map::DefaultHasher;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::hash::{Hash, Hasher};
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use libc::c_int;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::blob::{with_opener, Id};
use super::broken::nonsense;
use super::buffers::view;
use super::faults;
use super::seal::Sealer;
use super::standing::{filled, is_ours};

const MOST_OPEN: usize = 64;
const HOLE: usize = 32 << 10;
const BLOCK: usize = 4 << 10;
const FOLDER_FLAGS: c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

pub fn c_name(name: &[u8]) -> Result<CString, Error> {
    CString::new(name).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

pub fn done(status: c_int) -> Result<(), Error> {
    if status < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(())
    }
}

pub fn open_at(folder: c_int, name: &CStr, flags: c_int) -> Result<OwnedFd, Error> {
    // SAFETY: a valid string; the descriptor that comes back is nobody else's.
    unsafe {
        let descriptor = libc::openat(folder, name.as_ptr(), flags, 0o600);
        done(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

struct Opened {
    root: OwnedFd,
    by_number: HashMap<u32, (Arc<OwnedFd>, u64)>,
    clock: u64,
}

/// The destination's folders by number (0 is the destination), opened when asked for; one such for each thread.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Folders {
    parents: Vec<u32>,
    names: Vec<CString>,
    opened: Mutex<Opened>,
}

impl Folders {
    fn descriptor(&self, number: u32) -> Result<Arc<OwnedFd>, Error> {
        let mut opened = self
            .opened
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        self.reach(&mut opened, number)
    }

    fn reach(&self, opened: &mut Opened, number: u32) -> Result<Arc<OwnedFd>, Error> {
        opened.clock += 1;
        let clock = opened.clock;
        if let Some((found, used)) = opened.by_number.get_mut(&number) {
            *used = clock;
            return Ok(found.clone());
        }
        let mut chain = vec![number];
        let mut above = self.above(number)?;
        while above != 0 && !opened.by_number.contains_key(&above) {
            chain.push(above);
            above = self.above(above)?;
        }
        let mut descriptor: Option<Arc<OwnedFd>> = match opened.by_number.get_mut(&above) {
            Some((found, used)) => {
                *used = clock;
                Some(found.clone())
            }
            None => None,
        };
        for step in chain.into_iter().rev() {
            let parent = descriptor
                .as_ref()
                .map_or(opened.root.as_raw_fd(), |folder| folder.as_raw_fd());
            let folder = Arc::new(open_at(parent, &self.names[step as usize], FOLDER_FLAGS)?);
            opened.by_number.insert(step, (folder.clone(), clock));
            descriptor = Some(folder);
        }
        if opened.by_number.len() > 2 * MOST_OPEN {
            let mut ages: Vec<u64> = opened.by_number.values().map(|(_, used)| *used).collect();
            ages.sort_unstable();
            let limit = ages[ages.len() - MOST_OPEN];
            opened.by_number.retain(|_, (_, used)| *used >= limit);
        }
        descriptor.ok_or_else(|| Error::from_raw_os_error(libc::ENOENT))
    }

    fn above(&self, number: u32) -> Result<u32, Error> {
        match self.parents.get(number as usize) {
            Some(parent) if number != 0 => Ok(*parent),
            _ => Err(Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    pub fn with<R>(
        &self,
        number: u32,
        work: impl FnOnce(c_int) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if number == 0 {
            let root = self
                .opened
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .root
                .as_raw_fd();
            return work(root);
        }
        let folder = self.descriptor(number)?;
        work(folder.as_raw_fd())
    }
}

pub fn os_error(error: &Error) -> PyErr {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    // OSError picks its own subclass by the number.
    PyOSError::new_err((number, error.to_string()))
}

#[pymethods]
impl Folders {
    /// A descriptor of a folder, valid until the next call. Raises OSError.
    #[pyo3(name = "descriptor")]
    fn number_of(&self, number: u32) -> PyResult<c_int> {
        self.with(number, Ok).map_err(|error| os_error(&error))
    }

    /// Bring everything that was written to the destination's file system to its disk. Raises OSError.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let root = self
            .opened
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .root
            .as_raw_fd();
        // SAFETY: an open descriptor.
        py.detach(|| done(unsafe { libc::syncfs(root) }))
            .map_err(|error| os_error(&error))
    }

    /// `destination` may be reached through links; below it none is followed. Raises OSError.
    #[new]
    fn new(
        destination: &[u8],
        parents: Vec<u32>,
        names: Vec<Bound<'_, PyBytes>>,
    ) -> PyResult<Self> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let place = c_name(destination).map_err(|error| os_error(&error))?;
        let root = open_at(libc::AT_FDCWD, &place, flags).map_err(|error| os_error(&error))?;
        let names = names
            .iter()
            .map(|name| c_name(name.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|error| os_error(&error))?;
        Ok(Folders {
            parents,
            names,
            opened: Mutex::new(Opened {
                root,
                by_number: HashMap::new(),
                clock: 0,
            }),
        })
    }
}

/// One place of a blob in a file.
struct Place {
    folder: u32,
    name: CString,
    /// Where it is to go when `name` is a temporary one.
    final_name: Option<CString>,
    offset: u64,
    /// Something else may stand there in the file: zeros are written, too.
    over: bool,
    /// All of a file: its metadata, to be set when it is written; otherwise the file is there at its full size.
    whole: Option<Metadata>,
}

pub struct Metadata {
    pub owner: Option<(u64, u64)>,
    pub mode: u32,
    pub mtime_ns: i128,
    pub extended: Vec<(CString, Vec<u8>)>,
}

/// What could not be set: 0 owner, 1 extended attribute, 2 mode, 3 time; which attribute; errno.
type Lack = (u8, Vec<u8>, i32);

pub fn write_all(descriptor: c_int, mut plain: &[u8], mut offset: u64) -> Result<(), Error> {
    while !plain.is_empty() {
        if faults::strikes(faults::RESTORING, plain.len()) {
            return Err(Error::from_raw_os_error(libc::ENOSPC));
        }
        // SAFETY: the slice is as long as said.
        let count = unsafe {
            libc::pwrite(
                descriptor,
                plain.as_ptr().cast(),
                plain.len(),
                offset as libc::off_t,
            )
        };
        if count < 0 {
            let error = Error::last_os_error();
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        plain = &plain[count as usize..];
        offset += count as u64;
    }
    Ok(())
}

fn empty(block: &[u8]) -> bool {
    let (head, words, tail) = {
        // SAFETY: any bytes are valid words.
        unsafe { block.align_to::<u64>() }
    };
    head.iter().chain(tail).all(|byte| *byte == 0) && words.iter().all(|word| *word == 0)
}

/// Write what is not long runs of zeros into a file that is of full size and empty there.
pub fn write_around_holes(descriptor: c_int, plain: &[u8], offset: u64) -> Result<(), Error> {
    // Blocks as the file system has them, so that what is left out becomes a hole.
    let first = ((BLOCK as u64 - offset % BLOCK as u64) % BLOCK as u64) as usize;
    let mut from = 0; // what is not written yet begins here
    let mut at = first.min(plain.len());
    while at + HOLE <= plain.len() {
        if !empty(&plain[at..at + BLOCK]) {
            at += BLOCK;
            continue;
        }
        let mut end = at + BLOCK;
        while end + BLOCK <= plain.len() && empty(&plain[end..end + BLOCK]) {
            end += BLOCK;
        }
        if plain.len() - end < BLOCK && empty(&plain[end..]) {
            end = plain.len();
        }
        if end - at >= HOLE {
            write_all(descriptor, &plain[from..at], offset + from as u64)?;
            from = end;
        }
        at = end;
    }
    write_all(descriptor, &plain[from..], offset + from as u64)
}

fn set_metadata(descriptor: c_int, metadata: &Metadata, lacks: &mut Vec<Lack>) {
    let mut lacks_owner = false;
    let mut note = |what: u8, which: &[u8], status: c_int| {
        if let Err(error) = done(status) {
            lacks.push((
                what,
                which.to_vec(),
                error.raw_os_error().unwrap_or(libc::EIO),
            ));
        }
    };
    // SAFETY: an open descriptor, valid strings and buffers.
    unsafe {
        if let Some((uid, gid)) = metadata.owner {
            let mut there: libc::stat = std::mem::zeroed();
            let known = libc::fstat(descriptor, &mut there) == 0;
            if !known || (u64::from(there.st_uid), u64::from(there.st_gid)) != (uid, gid) {
                // The largest number would mean that the owner is left as it is.
                match (u32::try_from(uid), u32::try_from(gid)) {
                    (Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => {
                        note(0, b"", libc::fchown(descriptor, uid, gid));
                    }
                    _ => lacks_owner = true,
                }
            }
        }
        // What a folder hands down, above all.
        let listed = filled(|buffer, room| libc::flistxattr(descriptor, buffer.cast(), room));
        for name in listed
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == 0)
        {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let wanted = metadata
                .extended
                .iter()
                .any(|(known, _)| known.as_c_str() == name);
            if !wanted && is_ours(name.to_bytes()) {
                note(
                    1,
                    name.to_bytes(),
                    libc::fremovexattr(descriptor, name.as_ptr()),
                );
            }
        }
        for (name, value) in &metadata.extended {
            let set = libc::fsetxattr(
                descriptor,
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            );
            note(1, name.as_bytes(), set);
        }
        note(2, b"", libc::fchmod(descriptor, metadata.mode));
        let seconds = metadata.mtime_ns.div_euclid(1_000_000_000);
        let time = libc::timespec {
            tv_sec: seconds.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as libc::time_t,
            tv_nsec: metadata.mtime_ns.rem_euclid(1_000_000_000) as _,
        };
        note(3, b"", libc::futimens(descriptor, [time, time].as_ptr()));
    }
    if lacks_owner {
        lacks.push((0, Vec::new(), libc::EOVERFLOW));
    }
}

/// One writer of a file at a time. The system allows no more either, but lets the others burn their processor meanwhile,
/// on which another thread could open blobs.
fn turn(folder: u32, name: &CStr) -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];
    let mut hasher = DefaultHasher::new();
    (folder, name).hash(&mut hasher);
    let turn = &TURNS[(hasher.finish() % 64) as usize];
    turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Write one blob to one of its places.
fn write(
    folders: &Folders,
    place: &Place,
    plain: &[u8],
    lacks: &mut Vec<Lack>,
) -> Result<(), Error> {
    folders.with(place.folder, |folder| {
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let Some(metadata) = &place.whole else {
            let file = open_at(folder, &place.name, flags)?;
            let _turn = turn(place.folder, &place.name);
            if place.over {
                return write_all(file.as_raw_fd(), plain, place.offset);
            }
            return write_around_holes(file.as_raw_fd(), plain, place.offset);
        };
        let file = open_at(folder, &place.name, flags | libc::O_CREAT | libc::O_EXCL)?;
        if plain.len() >= HOLE {
            // SAFETY: an open descriptor.
            done(unsafe { libc::ftruncate(file.as_raw_fd(), plain.len() as libc::off_t) })?;
            write_around_holes(file.as_raw_fd(), plain, 0)?;
        } else {
            write_all(file.as_raw_fd(), plain, 0)?;
        }
        set_metadata(file.as_raw_fd(), metadata, lacks);
        drop(file);
        match &place.final_name {
            // SAFETY: valid strings.
            Some(name) => {
                done(unsafe { libc::renameat(folder, place.name.as_ptr(), folder, name.as_ptr()) })
            }
            None => Ok(()),
        }
    })
}

struct Part {
    start: usize,
    length: usize,
    blob: Id,
    plain_size: usize,
    places: Vec<Place>,
}

type PlaceArguments<'py> = (
    u32,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    u64,
    bool,
    Option<MetadataArguments<'py>>,
);
pub type MetadataArguments<'py> = (u64, u64, u32, Bound<'py, PyAny>, Bound<'py, PyTuple>);

pub fn metadata_of(arguments: MetadataArguments<'_>, owners: bool) -> PyResult<Metadata> {
    let (uid, gid, mode, mtime_ns, extended) = arguments;
    let mut attributes = Vec::new();
    for attribute in extended.iter() {
        let (key, value): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = attribute.extract()?;
        let key = c_name(key.as_bytes()).map_err(|error| os_error(&error))?;
        attributes.push((key, value.as_bytes().to_vec()));
    }
    Ok(Metadata {
        owner: owners.then_some((uid, gid)),
        mode: mode & 0o7777,
        mtime_ns: match mtime_ns.extract::<i64>() {
            Ok(small) => i128::from(small),
            Err(_) => mtime_ns.extract()?,
        },
        extended: attributes,
    })
}

fn place_of(arguments: PlaceArguments<'_>, owners: bool) -> PyResult<Place> {
    let name =
        |bytes: &Bound<'_, PyBytes>| c_name(bytes.as_bytes()).map_err(|error| os_error(&error));
    let (folder, first, last, offset, over, metadata) = arguments;
    Ok(Place {
        folder,
        name: name(&first)?,
        final_name: last.as_ref().map(name).transpose()?,
        offset,
        over,
        whole: metadata
            .map(|metadata| metadata_of(metadata, owners))
            .transpose()?,
    })
}

/// For each part: whether it could be opened, and for each of its places errno (0: written) and what it lacks.
type Written = Vec<Option<Vec<(i32, Vec<Lack>)>>>;

/// Write a stretch of a pack: parts of (offset in `sealed`, length, blob, plain size, places); a place is (folder,
/// name, final name if that is another, offset in the file, whether zeros must be written there, and for a whole file uid, gid, mode, mtime in nanoseconds,
/// extended attributes). With `owners`, owners are set.
///
/// A file that could not be finished is left under the name it was made with.
#[pyfunction]
#[allow(clippy::type_complexity)]
pub fn write_parts(
    py: Python<'_>,
    folders: &Folders,
    sealer: &Sealer,
    sealed: PyBuffer<u8>,
    parts: Vec<(usize, usize, Id, usize, Vec<PlaceArguments<'_>>)>,
    owners: bool,
) -> PyResult<Written> {
    let bytes = view(&sealed)?;
    let parts = parts
        .into_iter()
        .map(|(start, length, blob, plain_size, places)| {
            if start
                .checked_add(length)
                .is_none_or(|end| end > bytes.len())
            {
                return Err(nonsense("a part that lies outside of what was read"));
            }
            let places = places
                .into_iter()
                .map(|place| place_of(place, owners))
                .collect::<PyResult<_>>()?;
            Ok(Part {
                start,
                length,
                blob,
                plain_size,
                places,
            })
        })
        .collect::<PyResult<Vec<_>>>()?;
    Ok(py.detach(|| {
        parts
            .iter()
            .map(|part| {
                with_opener(|opener| {
                    let sealed = &bytes[part.start..part.start + part.length];
                    let (plain, _) = opener
                        .open(&sealer.key, sealed, &part.blob, part.plain_size)
                        .ok()?;
                    let broken;
                    let plain = if faults::strikes(faults::READING, plain.len()) {
                        broken = faults::flipped(plain);
                        &broken[..]
                    } else {
                        plain
                    };
                    let written = part.places.iter().map(|place| {
                        let mut lacks = Vec::new();
                        match write(folders, place, plain, &mut lacks) {
                            Ok(()) => (0, lacks),
                            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), lacks),
                        }
                    });
                    Some(written.collect())
                })
            })
            .collect()
    }))
}
