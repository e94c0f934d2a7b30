"""A vault tried out: what its store really enforces, in a scratch folder that is cleared again, whatever happens.

Nothing that is kept in the vault is touched. A rule is tried as the login of this host, and told as it came: what a
store says yes to is looked at again, since some say yes and do nothing.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cto_backups import clock
from cto_backups.core.object_locks import SCRATCH
from cto_backups.core.vault_check import CLOCKS_AGREE, RULES, Answer, Told
from cto_backups.core.vaults import Vault
from cto_backups.errors import BackupsError, VaultError, VaultExistsError, VaultMissingError, VaultReadOnlyError
from cto_backups.vaults.append_only import AppendOnlyVault
from cto_backups.vaults.forwarding import ForwardingVault
from cto_backups.vaults.local import LocalVault
from cto_backups.vaults.throttled import ThrottledVault
from cto_backups.vaults.trial import Tried
from cto_backups.vaults.trying import Relied, Trying

_LARGE_BYTES = (33 << 20) + 1  # more than goes in one request, and no whole number of parts
_WRITERS = 4
_FILES = 12
_RUNNING = timedelta(minutes=15)  # what is younger in the scratch folder may be another check's, at work

_Tried = tuple[Answer, str]


@dataclass
class Checked:
    """What a check of a vault came to. `left`: what could not be removed again, by key, and why; the next one tries."""

    told: tuple[Told, ...]
    scratch: str
    left: dict[str, str] = field(default_factory=dict)
    locked_until: datetime | None = None


def check(vault: Vault, relied: Relied) -> Checked:
    """Try every rule. Raises VaultError when the vault is not there, or nobody answers at all."""
    vault = _unrestrained(vault)
    vault.check()
    place = f"{SCRATCH}{clock.now().astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}/"
    rules = _General(vault, relied, place)
    trying = Trying(vault.trial(), relied, place) if isinstance(vault, Tried) else None
    found: list[Told] = []
    left: dict[str, str] = {}
    try:
        found += rules.told()
        found += trying.told(may_delete=rules.deletes) if trying is not None else _of_a_folder(vault, relied, place)
    finally:
        left = _clear(vault, place)
    order = list(RULES)
    until = trying.locked_until if trying is not None else None
    return Checked(tuple(sorted(found, key=lambda each: order.index(each.rule))), place, left, until)


def _unrestrained(vault: Vault) -> Vault:
    """Without what keeps this host from trying, at the pace that the policy allows."""
    if isinstance(vault, ThrottledVault):
        return vault.limiting(_unrestrained(vault.behind))
    return vault.behind if isinstance(vault, AppendOnlyVault) else vault


def _itself(vault: Vault) -> Vault:
    """Without whatever stands before it."""
    while isinstance(vault, ForwardingVault):
        vault = vault.behind
    return vault


class _General:
    """The rules that every vault is tried by, through what a vault does."""

    def __init__(self, vault: Vault, relied: Relied, place: str) -> None:
        self._vault = vault
        self._relied = relied
        self._place = place
        self.deletes = False

    def told(self) -> Iterator[Told]:
        """Each rule, tried once. Deletion first: what cannot be removed again is not made large."""
        owned = not self._relied.append_only
        yield tried("write", self._write)
        yield tried("delete", self._delete, wanted=owned)
        yield tried("listing", self._listing)
        yield tried("create-once", self._create_once)
        yield tried("overwrite", self._overwrite)
        yield tried("ranges", self._ranges)
        yield tried("parts", self._parts, wanted=self.deletes or owned)

    def _write(self) -> _Tried:
        contents = {f"{self._place}empty": b"", f"{self._place}small": os.urandom(4099)}
        for key, content in contents.items():
            self._vault.put(key, [content[:100], content[100:]])
            if self._vault.read(key) != content or self._vault.size(key) != len(content):
                return Answer.NOT_ENFORCED, f"{len(content)} bytes were stored, and other ones came back"
        return Answer.ENFORCED, ""

    def _delete(self) -> _Tried:
        key = f"{self._place}deleted"
        self._vault.put(key, [b"x"])
        try:
            self._vault.delete(key)
        except VaultReadOnlyError as error:
            return Answer.NOT_ASKED, _words(error)
        self.deletes = True
        try:
            self._vault.read(key)
        except VaultMissingError:
            return Answer.ENFORCED, ""
        return Answer.NOT_ENFORCED, "it can still be read"

    def _listing(self) -> _Tried:
        sizes = {f"{self._place}list/{number}/file": number for number in range(_FILES)}
        for key, size in sizes.items():
            self._vault.put(key, [b"x" * size])
        if self._listed() != sizes:
            return Answer.NOT_ENFORCED, "what was just stored is missing in the list, or has another size"
        if not self.deletes:
            return Answer.ENFORCED, "deletions apart, which this login may not"
        for key in list(sizes)[::2]:
            self._vault.delete(key)
            del sizes[key]
        if self._listed() != sizes:
            return Answer.NOT_ENFORCED, "what was just deleted is still in the list"
        return Answer.ENFORCED, ""

    def _listed(self) -> dict[str, int]:
        return {each.key: each.size_bytes for each in self._vault.list(f"{self._place}list")}

    def _create_once(self) -> _Tried:
        key = f"{self._place}created"
        contents = [f"writer {number}".encode() * 1000 for number in range(_WRITERS)]
        with ThreadPoolExecutor(_WRITERS) as pool:
            won = list(pool.map(lambda content: self._puts(key, content), contents))
        winners = [content for content, first in zip(contents, won, strict=True) if first]
        if len(winners) != 1:
            return Answer.NOT_ENFORCED, f"{len(winners)} of {_WRITERS} writers were told that theirs is stored"
        if self._vault.read(key) != winners[0]:
            return Answer.NOT_ENFORCED, "what is there is not the winner's"
        return Answer.ENFORCED, f"of {_WRITERS} writers at once"

    def _overwrite(self) -> _Tried:
        key = f"{self._place}replaced"
        self._vault.put(key, [b"first"])
        if self._puts(key, b"second") or self._vault.read(key) != b"first":
            return Answer.NOT_ENFORCED, "a second writer replaced it, without having asked to"
        return Answer.ENFORCED, ""

    def _puts(self, key: str, content: bytes) -> bool:
        try:
            self._vault.put(key, [content])
        except VaultExistsError:
            return False
        return True

    def _ranges(self) -> _Tried:
        key, content = f"{self._place}ranges", bytes(range(256)) * 40
        self._vault.put(key, [content])
        for begin, length in ((0, 1), (255, 2), (len(content) - 3, 3), (17, 9001)):
            if self._vault.read(key, begin, length) != content[begin : begin + length]:
                return Answer.NOT_ENFORCED, f"{length} bytes from {begin} are other ones than were stored there"
        try:
            self._vault.read(key, len(content) - 1, 2)
        except VaultError:
            return Answer.ENFORCED, ""
        return Answer.NOT_ENFORCED, "bytes behind the end were answered"

    def _parts(self) -> _Tried:
        if not self.deletes:
            return Answer.NOT_ASKED, f"{_LARGE_BYTES >> 20} MB would stay, since this login may not delete"
        key, block = f"{self._place}large", os.urandom(1 << 20)
        parts = [*([block] * (_LARGE_BYTES >> 20)), b"!"]
        self._vault.put(key, parts)
        wanted, came = hashlib.sha256(), hashlib.sha256()
        for part in parts:
            wanted.update(part)
        for begin in range(0, _LARGE_BYTES, 8 << 20):
            came.update(self._vault.read(key, begin, min(8 << 20, _LARGE_BYTES - begin)))
        if came.digest() != wanted.digest():
            return Answer.NOT_ENFORCED, "what came back is not what was stored"
        return Answer.ENFORCED, f"{_LARGE_BYTES >> 20} MB"


def _of_a_folder(vault: Vault, relied: Relied, place: str) -> Iterator[Told]:
    """What is to be said of a folder of this machine, in which no server has a say."""
    for rule in ("checksum", "tls", "encryption", "versions", "role-hide", "role-shorten"):
        yield Told(rule, Answer.NOT_OFFERED, "it is a folder", wanted=False)
    for rule in ("lock-at-write", "lock-extend", "lock-shorten", "lock-delete", "hold-set", "hold-delete"):
        yield Told(rule, Answer.NOT_OFFERED, "it is a folder", wanted=False)

    def attacked(attack: Callable[[str], None]) -> _Tried:
        key = f"{place}attacked-{secrets.token_hex(2)}"
        vault.put(key, [b"first"])
        try:
            attack(key)
        except VaultReadOnlyError as error:
            return Answer.ENFORCED, _words(error)
        return Answer.NOT_ENFORCED, "the modes of the folder let this user"

    def age() -> _Tried:
        key = f"{place}clock"
        vault.put(key, [b"x"])
        folder = _itself(vault)
        assert isinstance(folder, LocalVault)
        stored = datetime.fromtimestamp((folder.root / key).stat().st_mtime, UTC)
        return agreeing(stored)

    yield tried("clock", age)
    yield tried("role-delete", lambda: attacked(vault.delete), wanted=relied.append_only)

    def replace(key: str) -> None:
        vault.put(key, [b"x"], overwrite=True)

    yield tried("role-replace", lambda: attacked(replace), wanted=relied.append_only)


def tried(rule: str, attempt: Callable[[], _Tried], *, wanted: bool = True) -> Told:
    """A rule that is tried now; one that cannot be, for whatever the vault says, could not be asked."""
    begun = clock.monotonic()
    try:
        answer, detail = attempt()
    except BackupsError as error:
        answer, detail = Answer.NOT_ASKED, _words(error)
    return Told(rule, answer, detail, wanted, clock.monotonic() - begun)


def agreeing(there: datetime) -> _Tried:
    """Whether a clock is close enough to this machine's."""
    apart = abs(there - clock.now())
    detail = f"{max(int(apart.total_seconds()), 0)} s apart"
    return (Answer.ENFORCED if apart <= CLOCKS_AGREE else Answer.NOT_ENFORCED), detail


def _clear(vault: Vault, place: str) -> dict[str, str]:
    """Remove what this check stored, and what earlier ones left: why not, by key, of what stays."""
    try:
        if isinstance(vault, Tried):
            return vault.trial().clear(SCRATCH, lambda key: _at_work(key, place))
        left: dict[str, str] = {}
        for stored in list(vault.list(SCRATCH.rstrip("/"))):
            if not _at_work(stored.key, place):
                try:
                    vault.delete(stored.key)
                except VaultError as error:
                    left[stored.key] = _words(error)
        if isinstance(folder := _itself(vault), LocalVault):
            _remove_folders(folder.root / SCRATCH)
    except VaultError as error:
        return {place: _words(error)}
    return left


def _at_work(key: str, place: str) -> bool:
    """Whether it may be another check's that goes on now."""
    if key.startswith(place):
        return False
    begun = key.removeprefix(SCRATCH).partition("-")[0]
    try:
        return clock.now() - datetime.strptime(begun, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) < _RUNNING
    except ValueError:
        return True  # it is not ours


def _remove_folders(root: Path) -> None:
    """Remove folders in which nothing is left."""
    for folder, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _words(error: BackupsError) -> str:
    return error.why or error.what
