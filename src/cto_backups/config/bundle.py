"""What a host gets to join a fleet: its policy, keys and logins in one file, sealed with a passphrase.

A line that says what it is, and JSON: the parameters of scrypt with the salt, and AES-256-GCM's nonce and content.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cto_backups.config.redaction import remember
from cto_backups.errors import KeyProblemError

HEAD = b"cto.backups enrolment 1\n"
SHORTEST = 12
"""As many signs a passphrase has at the least."""
LARGEST_BYTES = 16 << 20
_N, _R, _P = 1 << 17, 8, 1


@dataclass(frozen=True)
class Bundle:
    """`files` are secrets, by their paths below the host's folder; `left` are steps for people on the host."""

    host: str
    policy: str
    files: Mapping[str, str]
    left: tuple[str, ...] = ()


def seal(bundle: Bundle, passphrase: str) -> bytes:
    """The bytes of a bundle. Raises KeyProblemError for a passphrase that is too short."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(passphrase) < SHORTEST:
        raise KeyProblemError(
            "The passphrase is too short",
            why=f"it has fewer than {SHORTEST} signs, and whoever finds the bundle can try them all",
            todo="Take several words, or a random text.",
        )
    said = {
        "host": bundle.host,
        "policy": bundle.policy,
        "files": dict(bundle.files),
        "left": list(bundle.left),
    }
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
    sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, json.dumps(said).encode(), HEAD)
    stored = {"salt": _text(salt), "nonce": _text(nonce), "content": _text(sealed)}
    return HEAD + json.dumps(stored).encode() + b"\n"


def unseal(content: bytes, passphrase: str) -> Bundle:
    """What is in a bundle. Raises KeyProblemError, for what is none and for another passphrase."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        if not content.startswith(HEAD):
            raise ValueError
        stored = json.loads(content[len(HEAD) :])
        salt, nonce, sealed = (base64.b64decode(stored[name], validate=True) for name in ("salt", "nonce", "content"))
    except (ValueError, KeyError, TypeError):
        raise KeyProblemError(
            "This is no enrolment that this version reads",
            todo="Take the file that 'cto.backups host enrol' wrote, whole; and the same version on both sides.",
        ) from None
    try:
        said = json.loads(AESGCM(_key(passphrase, salt)).decrypt(nonce, sealed, HEAD))
    except (InvalidTag, ValueError):
        raise KeyProblemError(
            "The enrolment does not open", why="the passphrase is another one, or the file was changed"
        ) from None
    for value in said["files"].values():
        remember(value)
    return Bundle(said["host"], said["policy"], said["files"], tuple(said["left"]))


def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=256 * _N * _R, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
