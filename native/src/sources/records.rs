//! The canonical records of the fingerprint ``files/1``: `cto_backups.sources.ledger` says what is in them.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::digests::Sha256Digest;
use super::node::{Kind, Node};

/// The digests of an entry's records; `extended` only if it has extended attributes.
pub struct Records {
    pub content: Sha256Digest,
    pub metadata: Sha256Digest,
    pub ownership: Sha256Digest,
    pub extended: Option<Sha256Digest>,
}

impl Records {
    /// `content` is a file's SHA-256, a link's target, a device's number, or empty.
    pub fn of(node: &Node, content: &[u8]) -> Self {
        let path = node.path.as_slice();
        let size = if node.kind == Kind::File {
            node.size
        } else {
            0
        };
        let mut record = Vec::with_capacity(path.len() + content.len() + 40);
        let mut digest = |fill: &mut dyn FnMut(&mut Vec<u8>)| {
            record.clear();
            fill(&mut record);
            Sha256::digest(&record).into()
        };
        Records {
            content: digest(&mut |record| {
                record.extend_from_slice(node.kind.tag());
                field(record, path);
                number(record, size);
                field(record, content);
            }),
            metadata: digest(&mut |record| {
                record.extend_from_slice(path);
                record.push(0);
                put(record, format_args!("{:o}", node.mode & 0o7777));
                record.push(0);
                match i64::try_from(node.mtime_ns) {
                    Ok(short) => put(record, format_args!("{short}")),
                    Err(_) => put(record, format_args!("{}", node.mtime_ns)),
                }
            }),
            ownership: digest(&mut |record| {
                record.extend_from_slice(path);
                number(record, node.uid);
                number(record, node.gid);
            }),
            extended: (!node.extended.is_empty()).then(|| {
                let mut attributes: Vec<_> = node.extended.iter().collect();
                attributes.sort_unstable();
                digest(&mut |record| {
                    record.extend_from_slice(path);
                    for (name, value) in &attributes {
                        field(record, name);
                        put(record, format_args!("\0{}", value.len()));
                        field(record, value);
                    }
                })
            }),
        }
    }
}

fn field(record: &mut Vec<u8>, value: &[u8]) {
    record.push(0);
    record.extend_from_slice(value);
}

fn number(record: &mut Vec<u8>, value: i64) {
    put(record, format_args!("\0{value}"));
}

fn put(record: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = record.write_fmt(text);
}
