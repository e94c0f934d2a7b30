//! The names in a folder, as the kernel gives them.

use std::ffi::{c_int, CStr};

use super::status::{errno, Errno};

/// The names take this many bytes at a time.
const ROOM: usize = 32 << 10;
/// `struct linux_dirent64`: inode (8), offset (8), length of the record (2), type (1), name, NUL.
const LENGTH: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// An open folder; closed when it is dropped.
pub struct Folder(c_int);

/// A name in a folder, and what stands there (DT_…), if the file system says it.
pub struct Named {
    pub name: Vec<u8>,
    pub kind: u8,
}

impl Folder {
    pub fn open(path: &CStr) -> Result<Self, Errno> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        loop {
            // SAFETY: `path` ends in NUL.
            let descriptor = unsafe { libc::open(path.as_ptr(), flags) };
            if descriptor >= 0 {
                return Ok(Folder(descriptor));
            }
            let error = errno();
            if error != libc::EINTR {
                return Err(error);
            }
        }
    }

    pub fn descriptor(&self) -> c_int {
        self.0
    }

    /// Every name but ``.`` and ``..``, in no order; and the error that ended the reading early, if one did.
    pub fn names(&self) -> (Vec<Named>, Option<Errno>) {
        let mut found = Vec::new();
        let mut room = vec![0_u8; ROOM];
        loop {
            // SAFETY: `room` has as many bytes as it says.
            let count = unsafe {
                libc::syscall(libc::SYS_getdents64, self.0, room.as_mut_ptr(), room.len())
            };
            match usize::try_from(count) {
                Ok(0) => return (found, None),
                Ok(count) => take(&room[..count.min(ROOM)], &mut found),
                Err(_) if errno() == libc::EINTR => {}
                Err(_) => return (found, Some(errno())),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours, and nobody uses it after this.
        unsafe { libc::close(self.0) };
    }
}

fn take(mut records: &[u8], found: &mut Vec<Named>) {
    while records.len() > NAME {
        let length = usize::from(u16::from_ne_bytes([records[LENGTH], records[LENGTH + 1]]));
        if length <= NAME || length > records.len() {
            return;
        }
        let (record, rest) = records.split_at(length);
        records = rest;
        let name = &record[NAME..];
        let name = &name[..name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(name.len())];
        if name != b"." && name != b".." {
            found.push(Named {
                name: name.to_vec(),
                kind: record[TYPE],
            });
        }
    }
}
