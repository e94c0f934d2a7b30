//! What stands where a restore writes: whether it is what the recovery point has, and which parts of its content are.
//!
//! The same look tells afterwards whether what was written is there. Content is read in small pieces into one buffer a
//! thread, so that files of any size cost no memory.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::io::Error;
use std::os::fd::{AsRawFd, RawFd};

use libc::c_int;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};

use super::blob::Id;
use super::broken::nonsense;
use super::index::BlobIndex;
use super::restore::{
    c_name, done, metadata_of, open_at, os_error, write_around_holes, Folders, Metadata,
    MetadataArguments,
};

const DATA: usize = 0;
const PIECE: usize = 256 << 10;
const READ_FLAGS: c_int = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;

/// Attributes that belong to a file and not to the system that it lies on: none but the recovery point's stay.
const OURS: [&[u8]; 4] = [
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"security.capability",
];

/// Whether an attribute that the recovery point does not have is to go.
pub fn is_ours(name: &[u8]) -> bool {
    OURS.iter()
        .any(|ours| name == *ours || (ours.ends_with(b".") && name.starts_with(ours)))
}

/// The parts of a file that are looked at: blobs with their sizes, one after the other from `start` on.
struct Parts {
    start: u64,
    blobs: Vec<(Id, u64)>,
}

impl Parts {
    /// Where each blob begins, its id and its size.
    fn iter(&self) -> impl Iterator<Item = (u64, &Id, u64)> {
        let mut next = self.start;
        self.blobs.iter().map(move |(blob, size)| {
            let offset = next;
            next += size;
            (offset, blob, *size)
        })
    }
}

struct Expected {
    folder: u32,
    name: CString,
    /// S_IFMT bits, and what S_IFMT says no more about.
    format: u32,
    device: u64,
    target: Vec<u8>,
    metadata: Metadata,
    size: u64,
    parts: Parts,
}

/// What differs: 0 owner, 1 extended attribute, 2 mode, 3 time, 4 target or device; which attribute.
type Difference = (u8, Vec<u8>);

/// What stands there: errno (or 0), S_IFMT bits, number of names, device and inode, size, where the parts begin that are
/// intact, what differs.
type Seen = (i32, u32, u64, (u64, u64), u64, Vec<u64>, Vec<Difference>);

fn stat_at(folder: RawFd, name: &CStr) -> Result<libc::stat, Error> {
    // SAFETY: a valid string and a buffer of the right size.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        done(libc::fstatat(
            folder,
            name.as_ptr(),
            &mut found,
            libc::AT_SYMLINK_NOFOLLOW,
        ))?;
        Ok(found)
    }
}

/// What a system call writes into a buffer that grows until it fits.
pub fn filled(mut call: impl FnMut(*mut u8, usize) -> isize) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; 256];
    loop {
        let count = call(buffer.as_mut_ptr(), buffer.len());
        if count >= 0 && (count as usize) < buffer.len() {
            buffer.truncate(count as usize);
            return Ok(buffer);
        }
        let error = Error::last_os_error();
        if (count < 0 && error.raw_os_error() != Some(libc::ERANGE)) || buffer.len() > 1 << 20 {
            return Err(error);
        }
        buffer.resize(buffer.len() * 8, 0);
    }
}

fn compare_attributes(
    folder: RawFd,
    expected: &Expected,
    differs: &mut Vec<Difference>,
) -> Result<(), Error> {
    let path = [
        format!("/proc/self/fd/{folder}/").as_bytes(),
        expected.name.as_bytes(),
    ]
    .concat();
    let path = c_name(&path)?;
    // SAFETY: valid strings, and buffers as long as said.
    let listed =
        filled(|buffer, room| unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), room) });
    let names = listed.unwrap_or_default();
    let wanted = &expected.metadata.extended;
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if is_ours(name) && !wanted.iter().any(|(known, _)| known.as_bytes() == name) {
            differs.push((1, name.to_vec()));
        }
    }
    for (name, value) in wanted {
        let there = filled(|buffer, room| unsafe {
            libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), room)
        });
        if there.ok().as_ref() != Some(value) {
            differs.push((1, name.as_bytes().to_vec()));
        }
    }
    Ok(())
}

fn compare_metadata(
    folder: RawFd,
    expected: &Expected,
    there: &libc::stat,
) -> Result<Vec<Difference>, Error> {
    let metadata = &expected.metadata;
    let mut differs = Vec::new();
    let owner = (u64::from(there.st_uid), u64::from(there.st_gid));
    if metadata.owner.is_some_and(|wanted| wanted != owner) {
        differs.push((0, Vec::new()));
    }
    compare_attributes(folder, expected, &mut differs)?;
    let link = expected.format == libc::S_IFLNK;
    if !link && there.st_mode & 0o7777 != metadata.mode {
        differs.push((2, Vec::new()));
    }
    let mtime_ns = i128::from(there.st_mtime) * 1_000_000_000 + i128::from(there.st_mtime_nsec);
    if mtime_ns != metadata.mtime_ns {
        differs.push((3, Vec::new()));
    }
    let device = matches!(expected.format, libc::S_IFBLK | libc::S_IFCHR);
    // SAFETY: a valid string, and a buffer as long as said.
    let target = |buffer: *mut u8, room| unsafe {
        libc::readlinkat(folder, expected.name.as_ptr(), buffer.cast(), room)
    };
    if (device && there.st_rdev != expected.device) || (link && filled(target)? != expected.target)
    {
        differs.push((4, Vec::new()));
    }
    Ok(differs)
}

fn read_at(descriptor: RawFd, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
    loop {
        // SAFETY: the slice is as long as said.
        let count = unsafe {
            libc::pread(
                descriptor,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                offset as libc::off_t,
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether these bytes of a file are the blob.
fn is_intact(descriptor: RawFd, blob: &Id, mut offset: u64, size: u64) -> Result<bool, Error> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]));
    BUFFER.with_borrow_mut(|buffer| {
        let end = offset + size;
        let mut hash = Sha256::new();
        while offset < end {
            let wanted = (end - offset).min(PIECE as u64) as usize;
            let count = read_at(descriptor, &mut buffer[..wanted], offset)?;
            if count == 0 {
                return Ok(false);
            }
            hash.update(&buffer[..count]);
            offset += count as u64;
        }
        Ok(Id::from(hash.finalize()) == *blob)
    })
}

fn intact_parts(
    folder: RawFd,
    expected: &Expected,
    there: &libc::stat,
    from_disk: bool,
) -> Result<Vec<u64>, Error> {
    let mut intact = Vec::new();
    if expected.parts.blobs.is_empty() || there.st_size == 0 {
        return Ok(intact);
    }
    let file = open_at(folder, &expected.name, READ_FLAGS)?;
    if from_disk {
        let total: u64 = expected.parts.blobs.iter().map(|(_, size)| size).sum();
        // SAFETY: an open descriptor. Advice that is not taken does no harm.
        unsafe {
            libc::posix_fadvise(
                file.as_raw_fd(),
                expected.parts.start as libc::off_t,
                total as libc::off_t,
                libc::POSIX_FADV_DONTNEED,
            );
        }
    }
    for (offset, blob, size) in expected.parts.iter() {
        if is_intact(file.as_raw_fd(), blob, offset, size)? {
            intact.push(offset);
        }
    }
    Ok(intact)
}

fn look(
    folder: RawFd,
    expected: &Expected,
    trust_times: bool,
    from_disk: bool,
) -> Result<Seen, Error> {
    let there = stat_at(folder, &expected.name)?;
    let format = there.st_mode & libc::S_IFMT;
    let mut seen = (
        0,
        format,
        there.st_nlink,
        (there.st_dev, there.st_ino),
        there.st_size as u64,
        Vec::new(),
        Vec::new(),
    );
    if format != expected.format {
        return Ok(seen);
    }
    seen.6 = compare_metadata(folder, expected, &there)?;
    if format == libc::S_IFREG {
        let times_say_so = trust_times
            && there.st_size as u64 == expected.size
            && !seen.6.iter().any(|(what, _)| *what == 3);
        seen.5 = if times_say_so {
            expected.parts.iter().map(|(offset, _, _)| offset).collect()
        } else {
            intact_parts(folder, expected, &there, from_disk)?
        };
    }
    Ok(seen)
}

/// The parts that these blobs are. Raises DamageError when one is in no index.
fn parts_of(index: &BlobIndex, start: u64, blobs: Vec<Id>) -> PyResult<Parts> {
    let known = index.lock();
    let sizes = blobs
        .iter()
        .map(|blob| known.tables[DATA].size(blob))
        .collect::<Option<Vec<u64>>>();
    drop(known);
    let sizes = sizes.ok_or_else(|| nonsense("a blob that is in no index"))?;
    Ok(Parts {
        start,
        blobs: blobs.into_iter().zip(sizes).collect(),
    })
}

type EntryArguments<'py> = (
    u32,
    Bound<'py, PyBytes>,
    u32,
    u64,
    Bound<'py, PyBytes>,
    MetadataArguments<'py>,
    u64,
    u64,
    Vec<Id>,
);

/// Compare what stands in folders with entries of a point: folder, name, S_IFMT bits, device, link target, (uid, gid,
/// mode, mtime in nanoseconds, extended attributes), size, and for a file some of its blobs and where they begin.
///
/// With `owners` owners count. With `trust_times` a file of the right size and time is taken as intact; with
/// `from_disk` what the cache holds of it is dropped before it is read.
#[pyfunction]
pub fn compare_entries(
    py: Python<'_>,
    folders: &Folders,
    index: &BlobIndex,
    entries: Vec<EntryArguments<'_>>,
    owners: bool,
    trust_times: bool,
    from_disk: bool,
) -> PyResult<Vec<Seen>> {
    let expected = entries
        .into_iter()
        .map(|arguments| {
            let (folder, name, format, device, target, metadata, size, start, blobs) = arguments;
            Ok(Expected {
                folder,
                name: c_name(name.as_bytes()).map_err(|error| os_error(&error))?,
                format,
                device,
                target: target.as_bytes().to_vec(),
                metadata: metadata_of(metadata, owners)?,
                size,
                parts: parts_of(index, start, blobs)?,
            })
        })
        .collect::<PyResult<Vec<_>>>()?;
    Ok(py.detach(|| {
        expected
            .iter()
            .map(|one| {
                folders
                    .with(one.folder, |folder| {
                        look(folder, one, trust_times, from_disk)
                    })
                    .unwrap_or_else(|error| {
                        let number = error.raw_os_error().unwrap_or(libc::EIO);
                        (number, 0, 0, (0, 0), 0, Vec::new(), Vec::new())
                    })
            })
            .collect()
    }))
}

/// Copy what is still intact, comparing the very bytes that are written.
fn bring(
    from: RawFd,
    to: RawFd,
    parts: &Parts,
    intact: &[u64],
    buffer: &mut Vec<u8>,
) -> Result<Vec<u64>, Error> {
    let mut brought = Vec::new();
    for (offset, blob, size) in parts.iter() {
        if intact.contains(&offset) {
            buffer.resize(size as usize, 0);
            let mut filled = 0;
            while filled < buffer.len() {
                let count = read_at(from, &mut buffer[filled..], offset + filled as u64)?;
                if count == 0 {
                    break;
                }
                filled += count;
            }
            if filled == buffer.len() && Id::from(Sha256::digest(&buffer[..])) == *blob {
                write_around_holes(to, buffer, offset)?;
                brought.push(offset);
            }
        }
    }
    Ok(brought)
}

/// Copy parts of the file `name` that were seen to be intact into the file `copy` beside it, which is there at its full
/// size and empty; which parts were copied. What is not intact any more is left out. Raises OSError.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn take_over(
    py: Python<'_>,
    folders: &Folders,
    index: &BlobIndex,
    folder: u32,
    name: &[u8],
    copy: &[u8],
    start: u64,
    blobs: Vec<Id>,
    intact: Vec<u64>,
) -> PyResult<Vec<u64>> {
    let parts = parts_of(index, start, blobs)?;
    let name = c_name(name).map_err(|error| os_error(&error))?;
    let copy = c_name(copy).map_err(|error| os_error(&error))?;
    py.detach(|| {
        folders.with(folder, |folder| {
            let from = open_at(folder, &name, READ_FLAGS)?;
            let to = open_at(
                folder,
                &copy,
                libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC,
            )?;
            bring(
                from.as_raw_fd(),
                to.as_raw_fd(),
                &parts,
                &intact,
                &mut Vec::new(),
            )
        })
    })
    .map_err(|error| os_error(&error))
}
