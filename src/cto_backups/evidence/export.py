"""An export: a zip with whole chains of records in a form that stock tools check, and an index of a period.

Whole chains, because a signature covers a record's whole body, the digest of its predecessor among it: of a record that
is there as a digest only, nobody could tell what it said, nor that it was not a failed test. The same records and scope
give the same bytes.
"""

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO

import rfc8785

from cto_backups.evidence.index import Scope, evidence_of, rendered, row
from cto_backups.evidence.recipe import README
from cto_backups.evidence.records import Record, fingerprint_of

INDEX, HEADS, SCOPE, SUMS, ABOUT = "evidence.csv", "heads.txt", "scope.json", "SHA256SUMS", "README.txt"
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 public key in its DER form (RFC 8410)."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True, slots=True)
class Head:
    """How a chain ends: the fingerprint of the signer's key, the number of its last record and that record's digest."""

    fingerprint: str
    sequence: int
    digest: str

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.sequence} {self.digest}"


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into an export: how the chains end, and how much evidence the index has.

    `points_with_rows` counts the records with sampled rows of databases in clear, as only earlier releases wrote them.
    """

    heads: tuple[Head, ...]
    records: int
    evidence: int
    failed: int
    points_with_rows: int


def body_name(record: Record) -> str:
    """Where a record's canonical body lies in an export; its signature lies beside it, as `.sig`."""
    return f"records/{record.signer}/{record.sequence:08d}.json"


def pem(public_key: bytes) -> bytes:
    """A public key as OpenSSL reads it."""
    text = base64.b64encode(SPKI_PREFIX + public_key).decode("ascii")
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n".encode("ascii")


def write(to: IO[bytes], chains: Mapping[str, Iterable[Record]], scope: Scope) -> Exported:
    """Write an export of these chains (by signer, each whole and in order) to a binary file that can seek."""
    sums: list[tuple[str, str]] = []
    heads: list[Head] = []
    rows: list[tuple[str, ...]] = []
    count = failed = with_rows = 0
    with zipfile.ZipFile(to, "w") as packed:

        def put(name: str, content: bytes) -> None:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100600 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)
            if name != SUMS:
                sums.append((hashlib.sha256(content).hexdigest(), name))

        put(ABOUT, README.encode())
        put(SCOPE, json.dumps(scope.to_payload(), indent=2).encode() + b"\n")
        for signer, chain in sorted(chains.items()):
            last = None
            for record in chain:
                put(name := body_name(record), rfc8785.dumps(dict(record.body)))
                put(f"{name.removesuffix('.json')}.sig", record.signature)
                count, last = count + 1, record
                with_rows += _has_rows(record)
                evidence = evidence_of(record)
                if evidence is not None and scope.covers(evidence):
                    rows.append(row(record, evidence))
                    failed += not evidence.passed
            if last is not None:
                put(f"keys/{signer}.pem", pem(last.public_key))
                heads.append(Head(fingerprint_of(last.public_key), last.sequence, last.digest))
        put(INDEX, rendered(rows))
        put(HEADS, "".join(f"{head}\n" for head in heads).encode())
        put(SUMS, "".join(f"{digest}  {name}\n" for digest, name in sums).encode())
    return Exported(tuple(heads), count, len(rows), failed, with_rows)


def _has_rows(record: Record) -> bool:
    fingerprint = record.payload.get("fingerprint")
    return isinstance(fingerprint, Mapping) and fingerprint.get("algorithm") == "sqlite/1"
