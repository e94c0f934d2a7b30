//! What the kernel says about one entry: its status, where it links to, its extended attributes.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::io;
use std::mem::MaybeUninit;

/// A number of the kernel's list (errno).
pub type Errno = i32;
pub type Extended = Vec<(Vec<u8>, Vec<u8>)>;

const SECOND: i128 = 1_000_000_000;
/// Sizes to try for an attribute list and for a value, as Python does: a usual one, then the largest there is.
const LIST: [usize; 2] = [256, 65_536];
const VALUE: [usize; 2] = [128, 65_536];
const LINK: usize = 4096;

/// `struct stat`, in the types that Python's entries have.
#[derive(Clone, Copy)]
pub struct Status {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: i64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
    pub device_id: u64,
    pub links: u64,
    pub device: u64,
}

impl Status {
    pub fn format(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    #[allow(clippy::unnecessary_cast)] // the types differ between machines
    fn from(raw: &libc::stat) -> Self {
        Status {
            mode: raw.st_mode as u32,
            uid: raw.st_uid as u32,
            gid: raw.st_gid as u32,
            size: raw.st_size as i64,
            mtime_ns: i128::from(raw.st_mtime) * SECOND + i128::from(raw.st_mtime_nsec),
            ctime_ns: i128::from(raw.st_ctime) * SECOND + i128::from(raw.st_ctime_nsec),
            inode: raw.st_ino as u64,
            device_id: raw.st_dev as u64,
            links: raw.st_nlink as u64,
            device: raw.st_rdev as u64,
        }
    }
}

pub fn errno() -> Errno {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// The status of `path` as seen from the folder `at` (a descriptor, or AT_FDCWD).
pub fn status_at(at: c_int, path: &CStr, follow: bool) -> Result<Status, Errno> {
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let mut raw = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` ends in NUL, and `raw` has room for one `struct stat`.
    if unsafe { libc::fstatat(at, path.as_ptr(), raw.as_mut_ptr(), flags) } != 0 {
        return Err(errno());
    }
    // SAFETY: the call succeeded, so it filled `raw`.
    Ok(Status::from(unsafe { raw.assume_init_ref() }))
}

/// The status of an open file.
pub fn status_of(descriptor: c_int) -> Result<Status, Errno> {
    let mut raw = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `raw` has room for one `struct stat`.
    if unsafe { libc::fstat(descriptor, raw.as_mut_ptr()) } != 0 {
        return Err(errno());
    }
    // SAFETY: the call succeeded, so it filled `raw`.
    Ok(Status::from(unsafe { raw.assume_init_ref() }))
}

/// Where the symbolic link `path` points to.
pub fn link_target(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut target = vec![0_u8; LINK];
    // SAFETY: `path` ends in NUL, and `target` has room for as many bytes as it says.
    let count = unsafe {
        libc::readlink(
            path.as_ptr(),
            target.as_mut_ptr().cast::<c_char>(),
            target.len(),
        )
    };
    target.truncate(usize::try_from(count).map_err(|_| errno())?);
    Ok(target)
}

/// The extended attributes of `path`, sorted by name.
pub fn extended(path: &CStr, follow: bool) -> Result<Extended, Errno> {
    let list = if follow {
        libc::listxattr
    } else {
        libc::llistxattr
    };
    let names = filled(&LIST, |room, size| {
        // SAFETY: `path` ends in NUL, and `room` has `size` bytes.
        unsafe { list(path.as_ptr(), room.cast::<c_char>(), size) }
    })?;
    let mut names: Vec<&[u8]> = names.split_inclusive(|byte| *byte == 0).collect();
    names.sort_unstable();
    let get = if follow {
        libc::getxattr
    } else {
        libc::lgetxattr
    };
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| libc::EIO)?;
        let value = filled(&VALUE, |room, size| {
            // SAFETY: `path` and `name` end in NUL, and `room` has `size` bytes.
            unsafe { get(path.as_ptr(), name.as_ptr(), room, size) }
        })?;
        found.push((name.to_bytes().to_vec(), value));
    }
    Ok(found)
}

/// What a call fills in, given room of the first size that it does not find too small.
fn filled(
    sizes: &[usize; 2],
    call: impl Fn(*mut c_void, usize) -> isize,
) -> Result<Vec<u8>, Errno> {
    let mut usual = [0_u8; LIST[0]];
    let count = call(
        usual.as_mut_ptr().cast::<c_void>(),
        sizes[0].min(usual.len()),
    );
    if let Ok(count) = usize::try_from(count) {
        return Ok(usual[..count].to_vec());
    }
    let error = errno();
    if error != libc::ERANGE {
        return Err(error);
    }
    let mut large = vec![0_u8; sizes[1]];
    let count = call(large.as_mut_ptr().cast::<c_void>(), large.len());
    large.truncate(usize::try_from(count).map_err(|_| errno())?);
    Ok(large)
}
