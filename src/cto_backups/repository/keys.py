"""Key files: a password opens them, a master key is inside. Plain JSON, as restic writes it."""

import base64
import binascii
import hashlib
import os
import secrets
from datetime import datetime
from typing import Any

import orjson

from cto_backups.core.ports import Vault
from cto_backups.errors import DamageError, KeyProblemError, NotFoundError, VaultMissingError
from cto_backups.repository.gotime import format_time
from cto_backups.repository.options import ScryptParameters
from cto_backups.repository.seal import MasterKey, SealBrokenError, Sealer

_SALT_BYTES = 64
_MOST_MEMORY = 1 << 30  # bytes that a key file may make us spend
_MOST_WORK = 64


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
    vault.put(f"{prefix}/keys/{name}", [content])
    return name


def open_master(vault: Vault, prefix: str, password: str) -> MasterKey:
    """The master key, from whichever key file the password opens.

    Raises KeyProblemError for a wrong password, NotFoundError without key files, DamageError when none is readable.
    """
    damages: list[str] = []
    intact = 0
    for stored in sorted(vault.list(f"{prefix}/keys"), key=lambda file: file.key):
        name = stored.key.rpartition("/")[2]
        try:
            content = vault.read(stored.key)
        except VaultMissingError:
            continue  # removed meanwhile
        try:
            master = _open_key(content, password)
        except DamageError as error:
            damages.append(f"{name[:12]}: {error.why or error.what}")
            continue
        if master is not None:
            return master
        if hashlib.sha256(content).hexdigest() == name:
            intact += 1
        else:
            damages.append(f"{name[:12]}: its bytes are not what its name says")
    if intact:
        raise KeyProblemError(
            f"The password does not open the repository {prefix} in vault {vault.name}",
            why=f"none of its {intact} key files opens with it",
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
        todo="check the vault's location; `init` makes a new repository",
    )


def _open_key(content: bytes, password: str) -> MasterKey | None:
    """The master key, None when the password does not open this file. Raises DamageError."""
    document = _parsed(content)
    try:
        n, r, p = (int(document[name]) for name in ("N", "r", "p"))
        if document["kdf"] != "scrypt":
            raise DamageError("A key file is damaged", why=f"unknown key derivation {document['kdf']!r:.40}")
        salt, data = _decode(document["salt"]), _decode(document["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamageError("A key file is damaged", why="a field is missing or of the wrong kind") from error
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or 128 * n * r > _MOST_MEMORY or p > _MOST_WORK:
        raise DamageError("A key file is damaged", why="its key derivation parameters are out of range")
    try:
        opened = Sealer(_derive(password, salt, n, r, p)).open(data)
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
