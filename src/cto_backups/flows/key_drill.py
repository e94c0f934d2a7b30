"""The key drill: with the custodians' shares alone, open each vault that is given and restore something from it.

Neither policy, catalog, key file nor network is used. What came of it is a report that each opened repository's own key
seals: who has not opened it cannot have written that. An installation takes the report over and signs it.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from cto_backups import clock
from cto_backups.core.trees import EntryKind
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, DamageError, NotFoundError, RestoreError
from cto_backups.flows import records
from cto_backups.flows.installation import Installation

if TYPE_CHECKING:
    from cto_backups.config.shares import WordShare
    from cto_backups.core.vaults import Vault
    from cto_backups.exports.joined import JoinedStore

FORMAT = 1
MOST_FILES = 100
MOST_BYTES = 64 << 20
_GLOB = frozenset("*?[]\\")


@dataclass(frozen=True)
class Tried:
    """What came of one vault: `restored` files of `size_bytes` from `snapshot`, or the `problem`."""

    name: str
    location: str
    repository: str = ""
    key: str = ""
    snapshot: str = ""
    captured_at: str = ""
    restored: int = 0
    size_bytes: int = 0
    digest: str = ""
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """A drill. `content` is what it says, as JSON; `seals` are over it, by the key of each opened repository."""

    content: bytes
    seals: Mapping[str, bytes]

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What came of each vault."""
        return tuple(Tried(**each) for each in orjson.loads(self.content)["vaults"])

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        seals = {name: base64.b64encode(seal).decode("ascii") for name, seal in self.seals.items()}
        document = {"format": FORMAT, "drill": self.content.decode("utf-8"), "seals": seals}
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Report":
        """Raises DamageError."""
        try:
            document: Any = orjson.loads(raw)
            if document["format"] != FORMAT:
                raise ValueError("it is of another format")
            content = document["drill"].encode("utf-8")
            seals = {str(name): base64.b64decode(seal, validate=True) for name, seal in document["seals"].items()}
            report = cls(content, seals)
            told = orjson.loads(content)
            if not report.tried or not isinstance(told["set"], int):
                raise ValueError("it names no vault")
            datetime.fromisoformat(told["finished_at"])
        except (orjson.JSONDecodeError, binascii.Error, LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamageError("This is no report of a key drill", why=str(error)[:80]) from error
        return report


def drill(
    vaults: "Sequence[tuple[Vault, str]]", shares: "Sequence[WordShare]", into: Path, *, host: str, user: str
) -> Report:
    """Try each vault, given with the place of its repository inside; `into` gets what is restored, a folder for each.

    Raises KeyProblemError before anything is opened when there are too few shares, or they do not fit together.
    """
    from cto_backups.config.shares import combine

    secret = combine(shares)
    started = clock.now()
    tried: list[Tried] = []
    stores: dict[str, JoinedStore] = {}
    for vault, place in vaults:
        began = clock.monotonic()
        try:
            found, store = _try(vault, place, secret.reveal(), into / vault.name)
            stores[store.repository_id] = store
        except BackupsError as error:
            problem = f"{error.what}: {error.why}" if error.why else error.what
            found = Tried(vault.name, vault.location, problem=problem)
        except OSError as error:
            found = Tried(vault.name, vault.location, problem=f"{error.filename}: {error.strerror}")
        tried.append(Tried(**{**asdict(found), "seconds": round(clock.monotonic() - began, 3)}))
    content = orjson.dumps(
        {
            "set": shares[0].identifier,
            "threshold": shares[0].threshold,
            "shares": sorted(share.number for share in shares),
            "started_at": started.isoformat(),
            "finished_at": clock.now().isoformat(),
            "host": host,
            "by": user,
            "vaults": [asdict(each) for each in tried],
        },
        option=orjson.OPT_SORT_KEYS,
    )
    digest = hashlib.sha256(content).digest()
    return Report(content, {name: store.seal(digest) for name, store in stores.items()})


def accept(installation: Installation, report: Report) -> dict[str, str]:
    """Take a report over: sign that the drill was, and bring vaults the record. What came of each vault of the policy.

    Raises DamageError unless each vault that is said to have opened bears the report out by its repository's own key.
    """
    told: dict[str, Any] = orjson.loads(report.content)
    digest = hashlib.sha256(report.content).digest()
    opened, outcome = _vaults_by_repository(installation), dict[str, str]()
    for each in report.tried:
        if each.problem:
            name = each.name if each.name in installation.policy.vaults else None
        else:
            name = opened.get(each.repository)
            if name is not None and _unsealed(installation, name, report.seals.get(each.repository, b"")) != digest:
                raise DamageError(
                    f"The report does not come from who opened vault '{name}'",
                    why="its seal is not over what it says",
                    todo="Ask who held the drill for the file as it was written; otherwise hold the drill again.",
                )
        if name is not None:
            outcome[name] = each.problem
    if not outcome:
        raise NotFoundError(
            "The report is of none of this installation's vaults",
            why=f"it tells of {', '.join(each.location for each in report.tried)}",
            todo="Name the policy of the installation whose vaults were tried: --policy FILE",
        )
    payload = {
        "change": "drilled",
        "set": told["set"],
        "threshold": told["threshold"],
        "shares": told["shares"],
        "started_at": told["started_at"],
        "finished_at": told["finished_at"],
        "vaults": outcome,
        "restored": [
            {"repository": each.repository, "snapshot": each.snapshot, "files": each.restored, "digest": each.digest}
            for each in report.tried
            if not each.problem
        ],
        "report": digest.hex(),
        "drilled_by": str(told["by"]),
        "drilled_on": str(told["host"]),
        "by": installation.user,
        "host": installation.host,
    }
    records.write(installation, "key", payload)
    records.deliver_everywhere(installation)
    return outcome


def _vaults_by_repository(installation: Installation) -> dict[str, str]:
    known = {name: installation.catalog.repository_of(name) for name in installation.policy.vaults}
    return {repository: name for name, repository in known.items() if repository is not None}


def _unsealed(installation: Installation, name: str, seal: bytes) -> bytes:
    try:
        return installation.store(name).unseal(seal)
    except DamageError:
        return b""


def _try(vault: "Vault", place: str, secret: str, into: Path) -> "tuple[Tried, JoinedStore]":
    from cto_backups.exports.joined import joined
    from cto_backups.repository.store import RepositoryStore

    store = joined(RepositoryStore.open(vault, place, secret), plain=False)
    for found in reversed(store.committed()):
        if "damage" in found.detail:
            continue
        reader = store.reader(found.reference)
        chosen = list(_chosen(reader.listing()))
        if not chosen:
            continue
        restored = reader.restore(into, only=[path for path, _ in chosen])
        if restored.problems:
            first = restored.problems[0]
            raise RestoreError(
                f"{counted(len(restored.problems), 'file')} of {found.reference[:12]} did not come back",
                why=f"{first.path}: {first.detail}",
            )
        files, size_bytes, digest = _digest(into)
        if files != len(chosen) or size_bytes != sum(size for _, size in chosen):
            why = f"{files} files with {size_bytes} bytes came back of {len(chosen)}"
            raise RestoreError(f"What {found.reference[:12]} holds did not come back whole", why=why)
        return (
            Tried(
                vault.name,
                vault.location,
                store.repository_id,
                store.keys.in_use,
                found.reference,
                found.time.isoformat(),
                files,
                size_bytes,
                digest,
            ),
            store,
        )
    raise NotFoundError(f"Vault {vault.name} opens, and holds nothing to restore")


def _chosen(listing: Iterator[tuple[bytes, Any]]) -> Iterator[tuple[str, int]]:
    """The first files of a point that are few and small enough, with their sizes; each has its content."""
    files = size_bytes = 0
    for path, entry in listing:
        if files == MOST_FILES:
            return
        name = path.decode("utf-8", "replace")
        plain = entry.kind is EntryKind.FILE and not _GLOB & set(name) and "\ufffd" not in name and entry.links < 2
        if plain and size_bytes + entry.size <= MOST_BYTES:
            files, size_bytes = files + 1, size_bytes + entry.size
            yield name, entry.size


def _digest(folder: Path) -> tuple[int, int, str]:
    """How many files lie below, with how many bytes, and the SHA-256 over their names and contents in order."""
    whole, files, size_bytes = hashlib.sha256(), 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        files, size_bytes = files + 1, size_bytes + len(content)
        whole.update(bytes(path.relative_to(folder)) + b"\0" + hashlib.sha256(content).digest())
    return files, size_bytes, whole.hexdigest()
