//! Trees: the JSON of one folder, node for node as restic writes it, and the comparison with the tree of a parent.
//!
//! Names, link targets and attributes that are not plain ASCII are left to `cto_backups.repository.tree`, which knows
//! how Go quotes them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use serde::Deserialize;

use super::bench::DATA;
use super::blob::{push_hex, unhex, Id};
use super::index::Claims;
use super::time::{parse_time, push_time};

const S_IFMT: u32 = 0o170000;

/// Kinds of nodes, by restic's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Folder,
    Symlink,
    Device,
    CharacterDevice,
    Fifo,
    Socket,
}

impl Kind {
    pub fn of(text: &str) -> Option<Kind> {
        Some(match text {
            "file" => Kind::File,
            "dir" => Kind::Folder,
            "symlink" => Kind::Symlink,
            "dev" => Kind::Device,
            "chardev" => Kind::CharacterDevice,
            "fifo" => Kind::Fifo,
            "socket" => Kind::Socket,
            _ => return None,
        })
    }

    pub fn text(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Folder => "dir",
            Kind::Symlink => "symlink",
            Kind::Device => "dev",
            Kind::CharacterDevice => "chardev",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
        }
    }

    /// The type bits of st_mode.
    pub fn file_type(self) -> u32 {
        match self {
            Kind::File => 0o100000,
            Kind::Folder => 0o040000,
            Kind::Symlink => 0o120000,
            Kind::Device => 0o060000,
            Kind::CharacterDevice => 0o020000,
            Kind::Fifo => 0o010000,
            Kind::Socket => 0o140000,
        }
    }

    /// The type bits of Go's FileMode.
    fn bits(self) -> u32 {
        match self {
            Kind::File => 0,
            Kind::Folder => 1 << 31,
            Kind::Symlink => 1 << 27,
            Kind::Device => 1 << 26,
            Kind::CharacterDevice => 1 << 26 | 1 << 21,
            Kind::Fifo => 1 << 25,
            Kind::Socket => 1 << 24,
        }
    }
}

/// st_mode as Go's FileMode.
fn go_mode(kind: Kind, mode: u32) -> u32 {
    let mut bits = kind.bits() | mode & 0o777;
    for (go, unix) in [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)] {
        if mode & !S_IFMT & unix != 0 {
            bits |= go;
        }
    }
    bits
}

/// What a node says of an entry of `core.trees.Entry`.
struct Described {
    kind: Kind,
    quoted: String,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
    device_id: u64,
    links: u64,
    device: u64,
    /// Link target and extended attributes, as JSON members with a comma in front.
    more: [String; 2],
}

pub fn nanoseconds(value: &Bound<'_, PyAny>) -> PyResult<i128> {
    match value.extract::<i64>() {
        Ok(small) => Ok(i128::from(small)),
        Err(_) => value.extract::<i128>(),
    }
}

fn plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| {
        (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
    })
}

impl Described {
    fn of(entry: &Bound<'_, PyAny>) -> PyResult<Described> {
        let py = entry.py();
        let kind = entry.getattr(intern!(py, "kind"))?;
        let kind: Kind = Kind::of(kind.cast::<PyString>()?.to_str()?)
            .ok_or_else(|| super::broken::nonsense("no kind of entry"))?;
        let name = entry.getattr(intern!(py, "name"))?;
        let name = name.cast::<PyBytes>()?.as_bytes();
        let quoted = if plain(name) {
            String::from_utf8_lossy(name).into_owned()
        } else {
            helper(py, "json_name")?
                .call1((PyBytes::new(py, name),))?
                .extract()?
        };
        let mut more = [String::new(), String::new()];
        if kind == Kind::Symlink {
            let target = entry.getattr(intern!(py, "linktarget"))?;
            let bytes = target.cast::<PyBytes>()?.as_bytes();
            more[0] = if plain(bytes) {
                format!(",\"linktarget\":\"{}\"", String::from_utf8_lossy(bytes))
            } else {
                helper(py, "link_text")?.call1((&target,))?.extract()?
            };
        }
        let extended = entry.getattr(intern!(py, "extended"))?;
        if extended.cast::<PyTuple>()?.len() > 0 {
            more[1] = helper(py, "extended_text")?
                .call1((&extended,))?
                .extract()?;
        }
        Ok(Described {
            kind,
            quoted,
            mode: entry.getattr(intern!(py, "mode"))?.extract()?,
            uid: entry.getattr(intern!(py, "uid"))?.extract()?,
            gid: entry.getattr(intern!(py, "gid"))?.extract()?,
            size: entry.getattr(intern!(py, "size"))?.extract()?,
            mtime_ns: nanoseconds(&entry.getattr(intern!(py, "mtime_ns"))?)?,
            ctime_ns: nanoseconds(&entry.getattr(intern!(py, "ctime_ns"))?)?,
            inode: entry.getattr(intern!(py, "inode"))?.extract()?,
            device_id: entry.getattr(intern!(py, "device_id"))?.extract()?,
            links: entry.getattr(intern!(py, "links"))?.extract()?,
            device: entry.getattr(intern!(py, "device"))?.extract()?,
            more,
        })
    }

    /// The JSON of the node; `content` is JSON already (for files), `subtree` the hexadecimal id (for folders).
    fn node(&self, content: &str, size: u64, subtree: &str) -> String {
        let kind = self.kind;
        let mut text = String::with_capacity(420 + content.len());
        let _ = write!(
            text,
            "{{\"name\":\"{}\",\"type\":\"{}\"",
            self.quoted,
            kind.text()
        );
        let mode = go_mode(kind, self.mode);
        if mode != 0 {
            let _ = write!(text, ",\"mode\":{mode}");
        }
        text.push_str(",\"mtime\":\"");
        let start = text.len();
        push_time(self.mtime_ns, &mut text);
        let modified = text[start..].to_string();
        let _ = write!(text, "\",\"atime\":\"{modified}\",\"ctime\":\"");
        push_time(self.ctime_ns, &mut text);
        let _ = write!(text, "\",\"uid\":{},\"gid\":{}", self.uid, self.gid);
        push_account(self.uid, self.gid, &mut text);
        if self.inode != 0 {
            let _ = write!(text, ",\"inode\":{}", self.inode);
        }
        let linked = self.links > 1 && kind != Kind::Folder;
        if linked {
            // Tells hard links apart; elsewhere it only varies between boots.
            let _ = write!(text, ",\"device_id\":{}", self.device_id);
        }
        if size != 0 {
            let _ = write!(text, ",\"size\":{size}");
        }
        if linked
            || matches!(
                kind,
                Kind::File | Kind::Symlink | Kind::Device | Kind::CharacterDevice
            )
        {
            let _ = write!(text, ",\"links\":{}", self.links);
        }
        text.push_str(&self.more[0]);
        text.push_str(&self.more[1]);
        if self.device != 0 {
            let _ = write!(text, ",\"device\":{}", self.device);
        }
        let _ = write!(text, ",\"content\":{content}");
        if !subtree.is_empty() {
            let _ = write!(text, ",\"subtree\":\"{subtree}\"");
        }
        text.push('}');
        text
    }
}

/// A function of `cto_backups.repository.tree`, for what is not plain.
fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("cto_backups.repository.tree")?.getattr(name)
}

/// The names of user and group as JSON members, where they have names.
fn push_account(uid: u32, gid: u32, text: &mut String) {
    type Texts = Mutex<HashMap<(bool, u32), String>>;
    static TEXTS: OnceLock<Texts> = OnceLock::new();
    let texts = || {
        let texts = TEXTS.get_or_init(Default::default);
        texts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    for key in [(false, uid), (true, gid)] {
        if let Some(member) = texts().get(&key) {
            text.push_str(member);
            continue;
        }
        // Not while the lock is held: Python may let another thread run meanwhile, which would wait for it for ever.
        let member = Python::attach(|py| -> PyResult<String> {
            helper(py, "account_text")?.call1(key)?.extract()
        });
        let member = member.unwrap_or_default();
        text.push_str(&member);
        texts().insert(key, member);
    }
}

#[derive(Deserialize)]
struct ParentNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    mtime: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ctime: Option<Cow<'a, str>>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    size: u64,
    #[serde(borrow)]
    content: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    subtree: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ParentTree<'a> {
    #[serde(borrow)]
    nodes: Option<Vec<ParentNode<'a>>>,
}

impl ParentNode<'_> {
    /// Whether it describes this very state of the entry.
    fn same(&self, entry: &Described) -> bool {
        let time = |text: &Option<Cow<'_, str>>, expected: i128| {
            text.as_deref().and_then(parse_time) == Some(expected)
        };
        self.inode == entry.inode
            && (entry.kind != Kind::File || self.size == entry.size)
            && time(&self.mtime, entry.mtime_ns)
            && time(&self.ctime, entry.ctime_ns)
    }

    /// The content of an unchanged file as JSON, when all of it is stored.
    fn reusable(&self, entry: &Described, claims: &Claims) -> Option<String> {
        let ids: &[Cow<'_, str>] = self.content.as_deref().unwrap_or_default();
        if ids.is_empty() && entry.size > 0 {
            return None;
        }
        let blobs: Vec<Id> = ids.iter().map(|id| unhex(id)).collect::<Option<_>>()?;
        if !blobs.iter().all(|blob| claims.has(DATA, blob)) {
            return None;
        }
        Some(ids_json(&blobs))
    }
}

/// The ids of a file's blobs as JSON.
fn ids_json(blobs: &[Id]) -> String {
    let mut text = String::with_capacity(2 + blobs.len() * 67);
    text.push('[');
    for (number, blob) in blobs.iter().enumerate() {
        text.push_str(if number > 0 { ",\"" } else { "\"" });
        push_hex(blob, &mut text);
        text.push('"');
    }
    text.push(']');
    text
}

/// Its place in a folder's entries, and the id of the parent's subtree.
type Subfolder<'py> = (usize, Option<Bound<'py, PyBytes>>);

/// What a comparison with the parent's tree found: files to be read, files whose content is stored, subfolders; which of
/// the files to be read are new (none said: all); how many entries are new, changed (files among these are counted when they are read)
/// and unchanged (without files).
type Compared<'py> = (
    Vec<usize>,
    Vec<usize>,
    Vec<Subfolder<'py>>,
    Option<HashSet<usize>>,
    usize,
    usize,
    usize,
);

/// The nodes of one folder, in the order of its entries, known one by one. Any thread may call.
#[pyclass(frozen, module = "cto_backups._native")]
pub struct Nodes {
    texts: Mutex<Vec<Option<String>>>,
}

impl Nodes {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.texts
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The tree of the nodes that are known.
    pub fn json(&self) -> String {
        let texts = self.lock();
        let size: usize = texts.iter().flatten().map(|text| text.len() + 1).sum();
        let mut tree = String::with_capacity(size + 16);
        tree.push_str("{\"nodes\":[");
        for (number, text) in texts.iter().flatten().enumerate() {
            if number > 0 {
                tree.push(',');
            }
            tree.push_str(text);
        }
        tree.push_str("]}\n");
        tree
    }

    fn put(&self, place: usize, text: Option<String>) -> PyResult<()> {
        match self.lock().get_mut(place) {
            Some(slot) => {
                *slot = text;
                Ok(())
            }
            None => Err(super::broken::nonsense("no such place among the nodes")),
        }
    }
}

#[pymethods]
impl Nodes {
    #[new]
    fn new(count: usize) -> Self {
        Nodes {
            texts: Mutex::new(vec![None; count]),
        }
    }

    /// Describe the entries of a folder, comparing them with the plain bytes of the parent's tree, if there is one (one
    /// that makes no sense counts as none).
    ///
    /// The nodes of unchanged files whose content is stored are known then, and so are those of all that is neither a
    /// file nor a folder.
    fn compare<'py>(
        &self,
        py: Python<'py>,
        entries: &Bound<'py, PyList>,
        parent: Option<Bound<'py, PyBytes>>,
        claims: &Claims,
    ) -> PyResult<Compared<'py>> {
        let tree: Option<ParentTree<'_>> = parent
            .as_ref()
            .and_then(|bytes| serde_json::from_slice(bytes.as_bytes()).ok());
        let olds: HashMap<&str, &ParentNode<'_>> = tree
            .as_ref()
            .and_then(|tree| tree.nodes.as_ref())
            .map(|nodes| {
                nodes
                    .iter()
                    .map(|node| (node.name.as_ref(), node))
                    .collect()
            })
            .unwrap_or_default();
        let (mut to_read, mut stored, mut subfolders) = (Vec::new(), Vec::new(), Vec::new());
        let mut new_files = (!olds.is_empty()).then(HashSet::new);
        let (mut new, mut changed, mut unchanged) = (0, 0, 0);
        for (place, entry) in entries.iter().enumerate() {
            let described = Described::of(&entry)?;
            let old = if olds.is_empty() {
                None
            } else {
                old_name(&described.quoted)
                    .and_then(|name| olds.get(name.as_ref()))
                    .filter(|old| old.kind == described.kind.text())
            };
            let same = old.is_some_and(|old| old.same(&described));
            match (old.is_some(), same) {
                (false, _) => new += 1,
                (true, false) => changed += 1,
                (true, true) if described.kind != Kind::File => unchanged += 1,
                (true, true) => {}
            }
            match described.kind {
                Kind::File => {
                    let content = if same {
                        old.and_then(|old| old.reusable(&described, claims))
                    } else {
                        None
                    };
                    match content {
                        Some(content) => {
                            self.put(place, Some(described.node(&content, described.size, "")))?;
                            stored.push(place);
                        }
                        None => {
                            changed += usize::from(same);
                            to_read.push(place);
                            if old.is_none() {
                                if let Some(places) = new_files.as_mut() {
                                    places.insert(place);
                                }
                            }
                        }
                    }
                }
                Kind::Folder => {
                    let subtree = old.and_then(|old| old.subtree.as_deref()).and_then(unhex);
                    subfolders.push((place, subtree.map(|id| PyBytes::new(py, &id))));
                }
                _ => self.put(place, Some(described.node("null", 0, "")))?,
            }
        }
        Ok((
            to_read, stored, subfolders, new_files, new, changed, unchanged,
        ))
    }

    /// A file's node: its content's ids as JSON, and its size.
    fn file(
        &self,
        place: usize,
        entry: &Bound<'_, PyAny>,
        content: &str,
        size: u64,
    ) -> PyResult<()> {
        self.put(place, Some(Described::of(entry)?.node(content, size, "")))
    }

    /// A subfolder's node, with the id of its tree.
    fn folder(&self, place: usize, entry: &Bound<'_, PyAny>, subtree: Id) -> PyResult<()> {
        let mut text = String::new();
        push_hex(&subtree, &mut text);
        self.put(place, Some(Described::of(entry)?.node("null", 0, &text)))
    }

    /// The tree of the nodes that are known so far.
    #[pyo3(name = "json")]
    fn plain<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.json().as_bytes())
    }

    /// Leave out what is at this place.
    fn leave_out(&self, place: usize) -> PyResult<()> {
        self.put(place, None)
    }
}

/// A stored file: nodes, its place among them, entry, the content's ids as JSON, size in bytes.
type StoredFile<'py> = (
    PyRef<'py, Nodes>,
    usize,
    Bound<'py, PyAny>,
    Bound<'py, PyString>,
    u64,
);

/// Put the nodes of files in their places.
#[pyfunction]
pub fn put_files(files: Vec<StoredFile<'_>>) -> PyResult<()> {
    for (nodes, place, entry, content, size) in files {
        nodes.put(
            place,
            Some(Described::of(&entry)?.node(content.to_str()?, size, "")),
        )?;
    }
    Ok(())
}

/// The name as a parsed tree has it, from the JSON text of it.
fn old_name(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        serde_json::from_str::<String>(&format!("\"{quoted}\""))
            .ok()
            .map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(quoted))
    }
}
