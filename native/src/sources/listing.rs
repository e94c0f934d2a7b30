//! Listing: what is in a folder, and what the kernel says of each entry. Needs no interpreter.

use std::ffi::{c_int, CStr};

use super::digests::{token_of, Known, Sha256Digest, Token};
use super::folder::{Folder, Named};
use super::literals::LeftOut;
use super::status::{self, Errno, Extended, Status};

/// The kernel takes no longer path, its NUL included.
const PATH_MAX: usize = 4096;

/// Path, errno, and whether only the extended attributes could not be read.
pub type Trouble = (Vec<u8>, Errno, bool);

/// What was found in a folder, sorted by name, and what could not be read.
#[derive(Default)]
pub struct Listing {
    pub found: Vec<Found>,
    pub troubles: Vec<Trouble>,
}

/// One entry, before it becomes a Python object.
pub struct Found {
    pub name: Vec<u8>,
    pub path: Vec<u8>,
    pub inside: bool,
    pub taken: bool,
    pub status: Status,
    pub target: Vec<u8>,
    pub extended: Extended,
    pub token: Token,
    pub known: Option<Sha256Digest>,
}

impl Found {
    pub fn is_folder(&self) -> bool {
        self.status.format() == libc::S_IFDIR
    }
}

/// A name that counts, and what its entry says about it.
pub struct Chosen {
    pub name: Vec<u8>,
    pub inside: bool,
    pub taken: bool,
}

/// Everything in a folder (empty path: the root) but what is left out, which is not looked at.
pub fn list(path: &[u8], leave_out: &LeftOut, known: &Known) -> Listing {
    let mut troubles = Vec::new();
    let Some((folder, names)) = read(path, Some(leave_out), &mut troubles) else {
        return Listing {
            found: Vec::new(),
            troubles,
        };
    };
    let chosen = names.into_iter().map(|named| Chosen {
        name: named.name,
        inside: true,
        taken: false,
    });
    let found = look_at(&folder, path, chosen, known, &mut troubles);
    Listing { found, troubles }
}

/// The folder and the names in it that are not left out.
pub fn read(
    path: &[u8],
    leave_out: Option<&LeftOut>,
    troubles: &mut Vec<Trouble>,
) -> Option<(Folder, Vec<Named>)> {
    let mut terminated = if path.is_empty() {
        b"/".to_vec()
    } else {
        path.to_vec()
    };
    terminated.push(0);
    let opened = CStr::from_bytes_with_nul(&terminated)
        .map_err(|_| libc::EINVAL)
        .and_then(Folder::open);
    let folder = match opened {
        Ok(folder) => folder,
        Err(error) => {
            troubles.push((path.to_vec(), error, false));
            return None;
        }
    };
    let (mut names, error) = folder.names();
    if let Some(error) = error {
        troubles.push((path.to_vec(), error, false));
    }
    if let Some(leave_out) = leave_out.filter(|leave_out| !leave_out.is_empty()) {
        tell_kinds(&folder, &mut names);
        let mut whole = path.to_vec();
        whole.push(b'/');
        let start = whole.len();
        names.retain(|named| {
            whole.truncate(start);
            whole.extend_from_slice(&named.name);
            !leave_out.has(&mut whole, start, named.kind == libc::DT_DIR)
        });
    }
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Some((folder, names))
}

/// Find out which names are folders where the file system does not say it.
pub fn tell_kinds(folder: &Folder, names: &mut [Named]) {
    for named in names
        .iter_mut()
        .filter(|named| named.kind == libc::DT_UNKNOWN)
    {
        let mut terminated = named.name.clone();
        terminated.push(0);
        let status = CStr::from_bytes_with_nul(&terminated)
            .map_err(|_| libc::EINVAL)
            .and_then(|name| status::status_at(folder.descriptor(), name, false));
        if status.is_ok_and(|status| status.format() == libc::S_IFDIR) {
            named.kind = libc::DT_DIR;
        }
    }
}

pub fn look_at(
    folder: &Folder,
    path: &[u8],
    chosen: impl Iterator<Item = Chosen>,
    known: &Known,
    troubles: &mut Vec<Trouble>,
) -> Vec<Found> {
    let mut terminated = path.to_vec();
    terminated.push(b'/');
    let start = terminated.len();
    let mut found = Vec::with_capacity(chosen.size_hint().1.unwrap_or(0));
    for one in chosen {
        terminated.truncate(start);
        terminated.extend_from_slice(&one.name);
        terminated.push(0);
        found.extend(look(
            folder.descriptor(),
            &terminated,
            start,
            one,
            false,
            known,
            troubles,
        ));
    }
    found
}

/// Look at the entry whose path, with a NUL at its end, is `terminated`, and from the folder `at` begins at `start`.
pub fn look(
    at: c_int,
    terminated: &[u8],
    start: usize,
    chosen: Chosen,
    follow: bool,
    known: &Known,
    troubles: &mut Vec<Trouble>,
) -> Option<Found> {
    let path = &terminated[..terminated.len() - 1];
    let seen = (|| {
        if terminated.len() > PATH_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        let whole = CStr::from_bytes_with_nul(terminated).map_err(|_| libc::EINVAL)?;
        let name = CStr::from_bytes_with_nul(&terminated[start..]).map_err(|_| libc::EINVAL)?;
        let status = status::status_at(at, name, follow)?;
        let target = if status.format() == libc::S_IFLNK {
            status::link_target(whole)?
        } else {
            Vec::new()
        };
        Ok((whole, status, target))
    })();
    let (whole, status, target) = match seen {
        Ok(seen) => seen,
        Err(error) => {
            troubles.push((path.to_vec(), error, false));
            return None;
        }
    };
    let extended = status::extended(whole, follow).unwrap_or_else(|error| {
        if ![libc::ENOTSUP, libc::ENODATA, libc::ENOENT].contains(&error) {
            troubles.push((path.to_vec(), error, true));
        }
        Vec::new()
    });
    let mut found = Found {
        name: chosen.name,
        path: path.to_vec(),
        inside: chosen.inside,
        taken: chosen.taken,
        status,
        target,
        extended,
        token: Token::default(),
        known: None,
    };
    if status.format() == libc::S_IFREG {
        found.token = token_of(
            path,
            status.size,
            status.mtime_ns,
            status.ctime_ns,
            status.inode,
        );
        found.known = known.find(&found.token);
    }
    Some(found)
}
