"""Key files: a password opens them, a master key is inside. Plain JSON, as restic writes it."""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from cto_backups import clock
from cto_backups.core.keys import MOST_KEYS, KeyFile
from cto_backups.core.vaults import StoredFile, Vault
from cto_backups.errors import DamageError, KeyProblemError, NotFoundError, VaultMissingError
from cto_backups.repository.gotime import format_time, parse_time
from cto_backups.repository.layout import below
from cto_backups.repository.options import ScryptParameters
from cto_backups.repository.seal import MasterKey, SealBrokenError, Sealer
from cto_backups.repository.together import each

_SALT_BYTES = 64
_MOST_MEMORY = 1 << 30  # bytes that a key file may make us spend
_MOST_P = 64
_MOST_WORK = 256 * 32768 * 8  # what all key files together may make us spend: some twenty seconds
_LARGEST_FILE = 64 * 1024
_CALIBRATED_SECONDS = 0.5
_MOST_P_CHOSEN = 12  # so that as many as a repository may have are tried at all


def write_key(
    vault: Vault,
    prefix: str,
    password: str,
    master: MasterKey,
    *,
    now: datetime,
    hostname: str,
    username: str,
    scrypt: ScryptParameters,
) -> str:
    """Store a key file that opens `master` with `password`; its id."""
    salt = secrets.token_bytes(_SALT_BYTES)
    inner = {
        "mac": {"k": _encode(master.mac_k), "r": _encode(master.mac_r)},
        "encrypt": _encode(master.encrypt),
    }
    user_key = _derive(password, salt, scrypt.n, scrypt.r, scrypt.p)
    content = orjson.dumps(
        {
            "created": format_time(now),
            "username": username,
            "hostname": hostname,
            "kdf": "scrypt",
            "N": scrypt.n,
            "r": scrypt.r,
            "p": scrypt.p,
            "salt": _encode(salt),
            "data": _encode(Sealer(user_key).seal(orjson.dumps(inner))),
        }
    )
    name = hashlib.sha256(content).hexdigest()
    vault.put(below(prefix, f"keys/{name}"), [content])
    return name


def open_key(
    vault: Vault, prefix: str, password: str, stored: Sequence[tuple[str, bytes]] | None = None
) -> tuple[str, MasterKey]:
    """The id of the key file that the password opens, and the master key in it; `stored` is what `stored_keys` gave.

    The newest is tried first, and no more are tried than a repository may have, nor for longer than so many cost.
    Raises KeyProblemError for a wrong password, NotFoundError without key files, DamageError when none is readable.
    """
    damages: list[str] = []
    intact = 0
    work, tries = _MOST_WORK, MOST_KEYS
    for name, content in stored_keys(vault, prefix) if stored is None else stored:
        try:
            locked = _locked_key(content)
            if not tries or work < locked.work:
                damages.append(f"{name[:12]}: it was not tried, since that would take too long")
                continue
            work, tries = work - locked.work, tries - 1
            master = _open(locked, password)
        except DamageError as error:
            damages.append(f"{name[:12]}: {error.why or error.what}")
            continue
        if master is not None:
            return name, master
        if hashlib.sha256(content).hexdigest() == name:
            intact += 1
        else:
            damages.append(f"{name[:12]}: its bytes are not what its name says")
    if intact:
        raise KeyProblemError(
            f"The password does not open the repository {prefix} in vault {vault.name}",
            why="; ".join([f"none of its {intact} key files opens with it", *damages]),
            todo="check which key the policy names for this repository",
        )
    if damages:
        raise DamageError(
            f"No key file of the repository {prefix} in vault {vault.name} is readable",
            why="; ".join(damages),
            todo="bring the key file back from another copy of this vault",
        )
    raise NotFoundError(
        f"The repository {prefix} in vault {vault.name} has no key file",
        todo="check the vault's url in the policy; a new vault's repository is made by: cto.backups vault init",
    )


def stored_keys(vault: Vault, prefix: str) -> list[tuple[str, bytes]]:
    """Names and contents of key files, the newest first."""

    def read(stored: StoredFile) -> tuple[str, bytes] | None:
        try:
            content = vault.read(stored.key, 0, min(stored.size_bytes, _LARGEST_FILE))
        except VaultMissingError:
            return None  # removed meanwhile
        return stored.key.rpartition("/")[2], content

    found = [key for key in each(vault, read, vault.list(below(prefix, "keys"))) if key is not None]
    oldest = datetime.min.replace(tzinfo=UTC)
    found.sort(key=lambda key: (_described(*key).created or oldest, key[0]), reverse=True)
    return found


def key_files(vault: Vault, prefix: str) -> tuple[KeyFile, ...]:
    """Every key file and what it says of itself, the newest first; no password is needed for that."""
    return tuple(_described(name, content) for name, content in stored_keys(vault, prefix))


def calibrated() -> ScryptParameters:
    """Parameters for a secret that people chose: as restic does, trying it takes about half a second here."""
    one = ScryptParameters()
    started = clock.monotonic()
    _derive("", bytes(_SALT_BYTES), one.n, one.r, one.p)
    took = clock.monotonic() - started
    return replace(one, p=max(1, min(_MOST_P_CHOSEN, round(_CALIBRATED_SECONDS / max(took, 0.001)))))


@dataclass(frozen=True, slots=True)
class _LockedKey:
    """A key file's parameters and what they lock."""

    salt: bytes
    data: bytes
    n: int
    r: int
    p: int

    @property
    def work(self) -> int:
        return self.n * self.r * self.p


def _described(name: str, content: bytes) -> KeyFile:
    try:
        document = _parsed(content)
        _locked_key(content)
        damage = "" if hashlib.sha256(content).hexdigest() == name else "its bytes are not what its name says"
    except DamageError as error:
        return KeyFile(name, None, "", "", error.why or error.what)
    try:
        created = parse_time(document["created"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        created = None
    return KeyFile(name, created, str(document.get("username", "")), str(document.get("hostname", "")), damage)


def _locked_key(content: bytes) -> _LockedKey:
    """Raises DamageError."""
    document = _parsed(content)
    try:
        n, r, p = (int(document[name]) for name in ("N", "r", "p"))
        if document["kdf"] != "scrypt":
            raise DamageError("A key file is damaged", why=f"unknown key derivation {document['kdf']!r:.40}")
        salt, data = _decode(document["salt"]), _decode(document["data"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamageError("A key file is damaged", why="a field is missing or of the wrong kind") from error
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or 128 * n * r > _MOST_MEMORY or p > _MOST_P:
        raise DamageError("A key file is damaged", why="its key derivation parameters are out of range")
    return _LockedKey(salt, data, n, r, p)


def _open(locked: _LockedKey, password: str) -> MasterKey | None:
    """The master key, None when the password does not open this file. Raises DamageError."""
    try:
        opened = Sealer(_derive(password, locked.salt, locked.n, locked.r, locked.p)).open(locked.data)
    except SealBrokenError:
        return None
    inner = _parsed(opened)
    try:
        return MasterKey(
            encrypt=_exactly(inner["encrypt"], 32),
            mac_k=_exactly(inner["mac"]["k"], 16),
            mac_r=_exactly(inner["mac"]["r"], 16),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamageError("A key file is damaged", why="it opens, but holds no master key") from error


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamageError("A key file is damaged", why="it is not JSON") from error
    if not isinstance(document, dict):
        raise DamageError("A key file is damaged", why="it is not a JSON object")
    return document


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> MasterKey:
    raw = hashlib.scrypt(
        os.fsencode(password), salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2) + (1 << 20), dklen=64
    )
    return MasterKey.from_bytes(raw)


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _exactly(text: str, size: int) -> bytes:
    raw = _decode(text)
    if len(raw) != size:
        raise ValueError(f"{len(raw)} bytes instead of {size}")
    return raw
