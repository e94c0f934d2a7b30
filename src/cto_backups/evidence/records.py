"""Records: canonical JSON (RFC 8785), SHA-256, Ed25519, each naming the digest of the one before it.

One chain per signer. A record's bytes are fixed for ever by format 1 (``docs/reference/formats.md``).
"""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import rfc8785

from cto_backups.errors import DamageError, KeyProblemError
from cto_backups.evidence.canonical import canonical
from cto_backups.evidence.payloads import moment_to_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = 1
KINDS = (
    *("policy", "recovery-point", "copy", "evidence", "expiry", "repair", "run", "key", "hold", "release"),
    *("approval-request", "approval", "authorization"),
    *("alert", "clearance", "audit", "host"),
)
_PREFIX = "ed25519:"
_SEED_BYTES = 32


def fingerprint_of(public_key: bytes) -> str:
    """A public key's fingerprint: the SHA-256 of its 32 raw bytes, hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()


def signer_name(public_key: bytes) -> str:
    """The short name of a signer: the first 16 digits of its key's fingerprint."""
    return fingerprint_of(public_key)[:16]


def record_key(signer: str, sequence: int, kind: str) -> str:
    """Where a record lies in a vault, sealed with the key of the vault's repository."""
    return f"records/{signer}/{sequence:08d}-{kind}.sealed"


def parse(content: bytes) -> Any:
    """Canonical JSON as values that have the same canonical form: every number is what JSON says, a double."""
    return json.loads(content, parse_int=_number)


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) < 2**53 else float(digits)


class SigningKey:
    """An Ed25519 key that signs records; never the key of a repository.

    Made from its 32 secret bytes. What signs is loaded when it is first used: reading commands hold a key as well.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _SEED_BYTES:
            raise ValueError("an Ed25519 key has 32 bytes")
        self._seed = seed

    def __repr__(self) -> str:
        return f"SigningKey(signer={self.signer!r})"

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new random key."""
        return cls(secrets.token_bytes(_SEED_BYTES))

    @classmethod
    def load(cls, secret: str) -> "SigningKey":
        """The key from its text, as `secret` gives it. Raises KeyProblemError, which does not repeat the text."""
        try:
            if not secret.startswith(_PREFIX):
                raise ValueError
            return cls(base64.b64decode(secret[len(_PREFIX) :], validate=True))
        except (ValueError, binascii.Error):
            raise KeyProblemError(
                "The evidence key is not a signing key of this product",
                why=f"a key is '{_PREFIX}' and 32 bytes in base64",
                todo="Put the right key back; a new one starts a new chain of records.",
            ) from None

    def secret(self) -> str:
        """The key as text, to be kept where only its owner reads it."""
        return _PREFIX + base64.b64encode(self._seed).decode("ascii")

    @cached_property
    def public_key(self) -> bytes:
        """The 32 bytes that everybody may know."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def fingerprint(self) -> str:
        """The public key's fingerprint."""
        return fingerprint_of(self.public_key)

    @cached_property
    def signer(self) -> str:
        """The short name under which it signs."""
        return signer_name(self.public_key)

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(content)

    @cached_property
    def _key(self) -> "Ed25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seed)


@dataclass(frozen=True, slots=True)
class Record:
    """A signed record. `body` is plain JSON with format, kind, signer, sequence, previous, written_at and payload."""

    body: Mapping[str, Any]
    digest: str
    signature: bytes
    public_key: bytes
    _stored: bytes = field(default=b"", compare=False, repr=False)
    """What it was read from, which is its one form: that of a large one takes long to make."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return str(self.body["kind"])

    @property
    def signer(self) -> str:
        """The short name of who signed it."""
        return str(self.body["signer"])

    @property
    def sequence(self) -> int:
        """Its place in the signer's chain, from 1."""
        return int(self.body["sequence"])

    @property
    def previous(self) -> str | None:
        """The digest of the record before it; None for the first."""
        previous = self.body["previous"]
        return None if previous is None else str(previous)

    @property
    def payload(self) -> Mapping[str, Any]:
        """What the record says."""
        payload: Mapping[str, Any] = self.body["payload"]
        return payload

    @property
    def key(self) -> str:
        """Where it lies in a vault."""
        return record_key(self.signer, self.sequence, self.kind)

    def to_bytes(self) -> bytes:
        """The stored form: one line of canonical JSON and a newline."""
        if self._stored:
            return self._stored
        envelope: dict[str, Any] = {
            "body": dict(self.body),
            "digest": self.digest,
            "public_key": base64.b64encode(self.public_key).decode("ascii"),
            "signature": base64.b64encode(self.signature).decode("ascii"),
        }
        return canonical(envelope) + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "record") -> "Record":
        """Read a stored record, without judging it. Raises DamageError for what is no record."""
        try:
            envelope = parse(content)
            body = envelope["body"]
            record = cls(
                body=body,
                digest=str(envelope["digest"]),
                signature=base64.b64decode(envelope["signature"], validate=True),
                public_key=base64.b64decode(envelope["public_key"], validate=True),
            )
            for field in ("kind", "signer", "previous", "payload", "written_at"):
                body[field]
            if body["format"] != FORMAT or not isinstance(body["sequence"], int):
                raise ValueError("unknown format")
            if record.to_bytes() != content:
                raise ValueError("not canonical")  # the same words in other bytes: not what was written
            record = replace(record, _stored=content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamageError(f"{name} is not a record", why=type(error).__name__) from None
        return record

    def faults(self) -> tuple[str, ...]:
        """What is wrong with this record by itself: digest, signature, signer."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        found = []
        try:
            content = canonical(dict(self.body))
        except (rfc8785.CanonicalizationError, RecursionError):
            return ("its body has no canonical form",)
        if hashlib.sha256(content).hexdigest() != self.digest:
            found.append("its body was altered (digest differs)")
        if signer_name(self.public_key) != self.signer:
            found.append("its public key is not its signer's")
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, content)
        except (InvalidSignature, ValueError):
            found.append("its signature is not valid")
        return tuple(found)


def sign(
    key: SigningKey, kind: str, payload: Mapping[str, Any], *, sequence: int, previous: str | None, written_at: datetime
) -> Record:
    """Make the record that stands at `sequence` of the key's chain, after the one with the digest `previous`."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of record: {kind}")
    body: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "signer": key.signer,
        "sequence": sequence,
        "previous": previous,
        "written_at": moment_to_text(written_at),
        "payload": _speakable(payload),
    }
    content = canonical(body)
    return Record(body, hashlib.sha256(content).hexdigest(), key.sign(content), key.public_key)


def _speakable(value: Any) -> Any:
    """The value without lone surrogates (from a file name that is no text), which canonical JSON cannot say."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_speakable(key): _speakable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_speakable(inner) for inner in value]
    return value


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What checking a chain found. `head` is the digest of the last record; intact when there are no faults."""

    signer: str | None
    records: int
    head: str | None
    faults: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether no record was removed, altered, reordered or wrongly signed."""
        return not self.faults


class Head(NamedTuple):
    """Up to which number somebody has the records of a signer."""

    signer: str
    sequence: int


def follows(record: Record, *, signer: str, sequence: int, previous: str | None) -> tuple[str, ...]:
    """What keeps a record from being the one with this number in a signer's chain, after the digest `previous`."""
    found = list(record.faults())
    if record.signer != signer:
        found.append(f"it belongs to another signer, {record.signer}")
    if record.sequence != sequence:
        found.append(f"expected number {sequence}: a record was removed, repeated or moved")
    if record.previous != previous:
        found.append("it does not follow the record before it")
    return tuple(found)


def verify_chain(records: Iterable[Record], *, expected_head: str | None = None) -> ChainReport:
    """Check one signer's records, in the order given, from the first on.

    Records cut off at the end show only against `expected_head`, the digest of the last record known from elsewhere
    (another vault, the catalog).
    """
    faults: list[str] = []
    signer: str | None = None
    previous: str | None = None
    count = 0
    for expected, record in enumerate(records, start=1):
        count = expected
        signer = signer or record.signer
        found = follows(record, signer=signer, sequence=expected, previous=previous)
        faults.extend(f"record {record.sequence}: {fault}" for fault in found)
        previous = record.digest
    if expected_head is not None and previous != expected_head:
        faults.append("the chain does not end with the record that it is known to end with")
    return ChainReport(signer, count, previous, tuple(faults))
