"""Check an export: was anything removed, altered, reordered, repeated, signed by another key, cut off at the end?

The file comes from somebody else: nothing in it is believed, and nothing of it is unpacked.
"""

import base64
import binascii
import hashlib
import json
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import rfc8785

from cto_backups.errors import DamageError, NotFoundError
from cto_backups.evidence.export import ABOUT, HEADS, INDEX, SCOPE, SPKI_PREFIX, SUMS, Head, pem
from cto_backups.evidence.index import Scope, evidence_of, rendered, row
from cto_backups.evidence.records import Record, fingerprint_of, parse, signer_name, verify_chain

MOST_BYTES = 64 << 20
"""No file in an export is read that is larger: a record has a few kilobytes."""
_RECORD = re.compile(r"records/([0-9a-f]{16})/([0-9]{8,})\.(json|sig)")
_KEY = re.compile(r"keys/([0-9a-f]{16})\.pem")
_HEAD = re.compile(r"([0-9a-f]{64}) ([1-9][0-9]{0,17}) ([0-9a-f]{64})")
_FAULTY_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass
class Bundle:
    """What an export holds: the digests of each signer's records in order, and what is wrong."""

    scope: Scope | None = None
    digests: dict[str, list[str]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    evidence: int = 0
    failed: int = 0

    def heads(self) -> tuple[Head, ...]:
        """How each chain ends."""
        return tuple(
            Head(self.fingerprints.get(signer, ""), len(digests), digests[-1])
            for signer, digests in sorted(self.digests.items())
            if digests
        )


def parse_heads(content: bytes) -> tuple[Head, ...]:
    """The lines of a `heads.txt`. Raises ValueError for anything else, and for none."""
    found = []
    for line in content.decode("ascii").splitlines():
        if match := _HEAD.fullmatch(line.strip()):
            found.append(Head(match[1], int(match[2]), match[3]))
        elif line.strip():
            raise ValueError(f"{line[:80]!r} is no head: fingerprint, number and digest")
    if not found:
        raise ValueError("it names no signer")
    return tuple(found)


def check(path: Path) -> Bundle:
    """Check an export by itself. Raises NotFoundError when the file cannot be read, DamageError when it is no zip."""
    bundle = Bundle()
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as packed:
            _check(_Packed(packed, bundle.faults), bundle)
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read", why=error.strerror or str(error), todo="Name the file of an evidence export."
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise DamageError(
            f"{path} is no evidence export", why="it is no zip, or its list of contents is damaged", todo="Get it anew."
        ) from None
    return bundle


class _Packed:
    """The files of a zip by name; what cannot be read is a fault."""

    def __init__(self, packed: zipfile.ZipFile, faults: list[str]) -> None:
        self._packed, self._faults = packed, faults
        self.names: dict[str, zipfile.ZipInfo] = {}
        for entry in packed.infolist():
            if entry.filename in self.names:
                faults.append(f"{entry.filename} is there more than once")
            self.names[entry.filename] = entry

    def read(self, name: str) -> bytes | None:
        entry = self.names.get(name)
        if entry is None:
            self._faults.append(f"{name} is missing")
            return None
        if entry.file_size > MOST_BYTES:
            self._faults.append(f"{name} is larger than anything that belongs here")
            return None
        try:
            return self._packed.read(entry)
        except _FAULTY_ZIP as error:
            self._faults.append(f"{name} cannot be unpacked ({type(error).__name__})")
            return None


def _check(packed: _Packed, bundle: Bundle) -> None:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        bundle.scope = Scope.from_payload(json.loads(packed.read(SCOPE) or b""))
    if bundle.scope is None:
        bundle.faults.append(f"{SCOPE} does not say which period this is of")
    sums: dict[str, str] = {}
    numbers: dict[str, list[int]] = defaultdict(list)
    known = {ABOUT, HEADS, INDEX, SCOPE, SUMS}
    for name in packed.names:
        if match := _RECORD.fullmatch(name):
            if match[3] == "json":
                numbers[match[1]].append(int(match[2]))
            elif f"{name.removesuffix('sig')}json" not in packed.names:
                bundle.faults.append(f"{name} is the signature of a record that is missing")
        elif not _KEY.fullmatch(name) and name not in known:
            bundle.faults.append(f"{name[:200]!r} does not belong here")
    rows: list[tuple[str, ...]] = []
    for signer, found in sorted(numbers.items()):
        _check_chain(packed, bundle, signer, sorted(found), sums, rows)
    for name in packed.names:
        if name not in sums and name != SUMS and (content := packed.read(name)) is not None:
            sums[name] = hashlib.sha256(content).hexdigest()
    _check_words(packed, bundle, sums, rows)


def _check_chain(
    packed: _Packed,
    bundle: Bundle,
    signer: str,
    numbers: list[int],
    sums: dict[str, str],
    rows: list[tuple[str, ...]],
) -> None:
    key = _public_key(packed, f"keys/{signer}.pem")
    if key is None:
        bundle.faults.append(f"keys/{signer}.pem is no Ed25519 key: its records cannot be checked")
        key = bytes(32)
    digests = bundle.digests.setdefault(signer, [])
    bundle.fingerprints[signer] = fingerprint_of(key)
    if signer_name(key) != signer:
        bundle.faults.append(f"keys/{signer}.pem is the key of another signer, {signer_name(key)}")

    def records() -> Iterator[Record]:
        for number in numbers:
            name = f"records/{signer}/{number:08d}"
            record = _record(packed, name, key, sums)
            if record is None:
                bundle.faults.append(f"{name}.json is no record, or not in canonical form")
                continue
            if record.sequence != number:
                bundle.faults.append(f"{name}.json is record {record.sequence}")
            digests.append(record.digest)
            evidence = evidence_of(record)
            if evidence is not None and bundle.scope is not None and bundle.scope.covers(evidence):
                rows.append(row(record, evidence))
                bundle.evidence += 1
                bundle.failed += not evidence.passed
            yield record

    bundle.faults += [f"signer {signer}, {fault}" for fault in verify_chain(records()).faults]


def _public_key(packed: _Packed, name: str) -> bytes | None:
    content = packed.read(name) or b""
    lines = content.split(b"\n")
    with suppress(binascii.Error, IndexError):
        der = base64.b64decode(lines[1], validate=True)
        key = der.removeprefix(SPKI_PREFIX)
        if len(key) == 32 and pem(key) == content:
            return key
    return None


def _record(packed: _Packed, name: str, key: bytes, sums: dict[str, str]) -> Record | None:
    content, signature = packed.read(f"{name}.json"), packed.read(f"{name}.sig")
    if content is None or signature is None:
        return None
    digest = sums[f"{name}.json"] = hashlib.sha256(content).hexdigest()
    sums[f"{name}.sig"] = hashlib.sha256(signature).hexdigest()
    try:
        body = parse(content)
        if rfc8785.dumps(body) != content:
            return None
        # As from a vault: what must be there is there, or it is no record.
        return Record.from_bytes(Record(body, digest, signature, key).to_bytes())
    except (ValueError, TypeError, RecursionError, rfc8785.CanonicalizationError, DamageError):
        return None


def _check_words(packed: _Packed, bundle: Bundle, sums: Mapping[str, str], rows: list[tuple[str, ...]]) -> None:
    """What is said beside the records must be what they say: sums, index, heads."""
    said: dict[str, str] = {}
    for line in (packed.read(SUMS) or b"").decode("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        said[name] = digest
    for name in sorted(said.keys() | sums.keys()):
        if said.get(name) != sums.get(name):
            what = (
                "is missing"
                if name not in sums
                else "is not listed in"
                if name not in said
                else "is not what it was in"
            )
            bundle.faults.append(f"{name[:200]} {what}" + ("" if name not in sums else f" {SUMS}"))
    if (index := packed.read(INDEX)) is not None and bundle.scope is not None and index != rendered(rows):
        bundle.faults.append(f"{INDEX} does not say what the records of its period say")
    try:
        heads = parse_heads(packed.read(HEADS) or b"")
    except ValueError as error:
        bundle.faults.append(f"{HEADS}: {error}")
        return
    bundle.faults += beyond(bundle, heads, HEADS, whole=True)


def beyond(bundle: Bundle, heads: tuple[Head, ...], named: str, *, whole: bool) -> list[str]:
    """What an export lacks of the heads that are known from elsewhere; with `whole` it must end exactly with them."""
    faults = []
    for head in heads:
        signer = head.fingerprint[:16]
        digests = bundle.digests.get(signer, [])
        if bundle.fingerprints.get(signer, head.fingerprint) != head.fingerprint:
            faults.append(f"signer {signer}: it has another key than {named} says")
        if len(digests) < head.sequence:
            missing = f"{len(digests)} records, and {named} knows {head.sequence}"
            faults.append(f"signer {signer}: its end was cut off: {missing}")
        elif digests[head.sequence - 1] != head.digest:
            faults.append(f"signer {signer}: record {head.sequence} is another one than {named} says")
        elif whole and len(digests) != head.sequence:
            faults.append(f"signer {signer}: it has more records than {named} says")
    known = {head.fingerprint[:16] for head in heads}
    faults += [f"signer {signer}: {named} does not know it" for signer in bundle.digests if signer not in known]
    return faults
