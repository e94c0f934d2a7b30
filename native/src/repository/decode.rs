//! Trees read back, with nothing taken on trust.

use std::borrow::Cow;
use std::collections::HashSet;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use serde::Deserialize;

use super::blob::{unhex, Id};
use super::broken::Broken;
use super::buffers::view;
use super::names::unquote;
use super::time::parse_time;
use super::tree::Kind;

#[derive(Deserialize)]
struct RawTree<'a> {
    #[serde(borrow, deserialize_with = "Option::deserialize")] // null, but there
    nodes: Option<Vec<RawNode<'a>>>,
}

#[derive(Deserialize)]
struct RawAttribute<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u64,
    #[serde(borrow)]
    mtime: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ctime: Option<Cow<'a, str>>,
    #[serde(default)]
    uid: u64,
    #[serde(default)]
    gid: u64,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default = "one")]
    links: u64,
    #[serde(default)]
    device: u64,
    #[serde(borrow)]
    linktarget: Option<Cow<'a, str>>,
    #[serde(borrow)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(borrow)]
    extended_attributes: Option<Vec<RawAttribute<'a>>>,
    #[serde(borrow)]
    content: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    subtree: Option<Cow<'a, str>>,
}

fn one() -> u64 {
    1
}

/// One node of a stored tree.
pub struct Decoded {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
    pub device_id: u64,
    pub links: u64,
    pub device: u64,
    pub linktarget: Vec<u8>,
    pub extended: Vec<(Vec<u8>, Vec<u8>)>,
    pub content: Vec<Id>,
    pub subtree: Option<Id>,
}

/// Standard base64 with padding; nothing for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let bytes = text.as_bytes();
    if bytes.len() % 4 != 0 {
        return None;
    }
    let padding = bytes
        .iter()
        .rev()
        .take(2)
        .take_while(|byte| **byte == b'=')
        .count();
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let mut bits = 0u32;
    for (number, byte) in bytes[..bytes.len() - padding].iter().enumerate() {
        bits = bits << 6 | u32::from(digit(*byte)?);
        if number % 4 == 3 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    match padding {
        1 => out.extend_from_slice(&((bits << 6).to_be_bytes()[1..3])),
        2 => out.extend_from_slice(&((bits << 12).to_be_bytes()[1..2])),
        _ => {}
    }
    Some(out)
}

/// Go's FileMode as st_mode.
fn unix_mode(kind: Kind, mode: u64) -> u32 {
    let mut bits = kind.file_type() | (mode & 0o777) as u32;
    for (go, unix) in [(1u64 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)] {
        if mode & go != 0 {
            bits |= unix;
        }
    }
    bits
}

fn decode(raw: RawNode<'_>) -> Result<Decoded, String> {
    let kind = Kind::of(&raw.kind)
        .ok_or_else(|| format!("a node is of the unknown type {:.40}", raw.kind))?;
    let name = unquote(&raw.name).ok_or("a name is quoted in no known way")?;
    if name.is_empty()
        || name.iter().any(|byte| matches!(byte, b'/' | 0))
        || name == b"."
        || name == b".."
    {
        return Err(format!(
            "a node is called {:.80?}",
            String::from_utf8_lossy(&name)
        ));
    }
    let time = |text: Option<Cow<'_, str>>| match text {
        None => Ok(0),
        Some(text) => parse_time(&text).ok_or("a node of it makes no sense (not a time)"),
    };
    let linktarget = if kind == Kind::Symlink {
        let target = match &raw.linktarget_raw {
            Some(exact) if !exact.is_empty() => base64(exact),
            _ => raw
                .linktarget
                .as_ref()
                .map(|target| target.as_bytes().to_vec()),
        };
        target
            .filter(|target| !target.is_empty() && !target.contains(&0))
            .ok_or("a node of it makes no sense (a symlink without target)")?
    } else {
        Vec::new()
    };
    let mut extended = Vec::new();
    for attribute in raw.extended_attributes.unwrap_or_default() {
        let value = base64(attribute.value.as_deref().unwrap_or_default())
            .ok_or("a node of it makes no sense (an extended attribute)")?;
        extended.push((attribute.name.as_bytes().to_vec(), value));
    }
    let not_an_id = "a node of it makes no sense (not an id)";
    let content = match raw.content {
        Some(ids) if kind == Kind::File => ids
            .iter()
            .map(|id| unhex(id))
            .collect::<Option<Vec<Id>>>()
            .ok_or(not_an_id)?,
        _ => Vec::new(),
    };
    let subtree = if kind == Kind::Folder {
        Some(raw.subtree.as_deref().and_then(unhex).ok_or(not_an_id)?)
    } else {
        None
    };
    Ok(Decoded {
        name,
        kind,
        mode: unix_mode(kind, raw.mode),
        uid: raw.uid,
        gid: raw.gid,
        size: raw.size,
        mtime_ns: time(raw.mtime)?,
        ctime_ns: time(raw.ctime)?,
        inode: raw.inode,
        device_id: raw.device_id,
        links: raw.links,
        device: raw.device,
        linktarget,
        extended,
        content,
        subtree,
    })
}

/// The nodes of a tree.
pub fn nodes(plain: &[u8]) -> Result<Vec<Decoded>, Broken> {
    let broken = |why: String| Broken::damage("A tree is damaged", why);
    let tree: RawTree<'_> = serde_json::from_slice(plain).map_err(|error| {
        broken(match error.classify() {
            serde_json::error::Category::Data => {
                format!("a node of it makes no sense ({error:.80})")
            }
            _ => "it is not JSON".to_string(),
        })
    })?;
    let raw = tree.nodes.unwrap_or_default(); // Go writes an empty list as null
    let found = raw
        .into_iter()
        .map(decode)
        .collect::<Result<Vec<_>, _>>()
        .map_err(broken)?;
    let names: HashSet<&[u8]> = found.iter().map(|node| node.name.as_slice()).collect();
    if names.len() != found.len() {
        return Err(broken("two of its nodes have the same name".to_string()));
    }
    Ok(found)
}

/// The nodes of a tree, as `Node`s. Raises DamageError for anything that does not belong in one.
#[pyfunction]
pub fn decode_tree<'py>(
    py: Python<'py>,
    plain: PyBuffer<u8>,
    node_class: &Bound<'py, PyAny>,
    entry_class: &Bound<'py, PyAny>,
    kinds: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let bytes = view(&plain)?;
    let found = py
        .detach(|| nodes(bytes))
        .map_err(|broken| broken.raise(py))?;
    let list = PyList::empty(py);
    for node in found {
        let name = PyBytes::new(py, &node.name);
        let extended: Vec<_> = node
            .extended
            .iter()
            .map(|(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value)))
            .collect();
        let content = PyTuple::new(py, node.content.iter().map(|id| PyBytes::new(py, id)))?;
        let subtree = node.subtree.map(|id| PyBytes::new(py, &id));
        let arguments: Vec<Bound<'py, PyAny>> = vec![
            name.clone().into_any(),
            name.into_any(),
            kinds.get_item(node.kind.text())?,
            node.mode.into_pyobject(py)?.into_any(),
            node.uid.into_pyobject(py)?.into_any(),
            node.gid.into_pyobject(py)?.into_any(),
            node.size.into_pyobject(py)?.into_any(),
            time_object(py, node.mtime_ns)?,
            time_object(py, node.ctime_ns)?,
            node.inode.into_pyobject(py)?.into_any(),
            node.device_id.into_pyobject(py)?.into_any(),
            node.links.into_pyobject(py)?.into_any(),
            node.device.into_pyobject(py)?.into_any(),
            PyBytes::new(py, &node.linktarget).into_any(),
            PyTuple::new(py, extended)?.into_any(),
        ];
        let entry = entry_class.call1(PyTuple::new(py, arguments)?)?;
        list.append(node_class.call1((entry, content, subtree))?)?;
    }
    Ok(list)
}

pub fn time_object(py: Python<'_>, nanoseconds: i128) -> PyResult<Bound<'_, PyAny>> {
    Ok(match i64::try_from(nanoseconds) {
        Ok(small) => small.into_pyobject(py)?.into_any(),
        Err(_) => nanoseconds.into_pyobject(py)?.into_any(),
    })
}

fn bytes_list<'py>(py: Python<'py>, ids: &[Id]) -> Vec<Bound<'py, PyBytes>> {
    ids.iter().map(|id| PyBytes::new(py, id)).collect()
}

type Ids<'py> = Vec<Bound<'py, PyBytes>>;

/// The ids of the content of a tree's files, in order, and of its subtrees. Raises DamageError.
#[pyfunction]
pub fn tree_references<'py>(
    py: Python<'py>,
    plain: PyBuffer<u8>,
) -> PyResult<(Ids<'py>, Ids<'py>)> {
    let bytes = view(&plain)?;
    let found = py
        .detach(|| nodes(bytes))
        .map_err(|broken| broken.raise(py))?;
    let content: Vec<Id> = found
        .iter()
        .flat_map(|node| node.content.iter().copied())
        .collect();
    let subtrees: Vec<Id> = found.iter().filter_map(|node| node.subtree).collect();
    Ok((bytes_list(py, &content), bytes_list(py, &subtrees)))
}
