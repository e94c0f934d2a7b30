"""A place that faults are tried on: a folder with a history, two vaults, and what was promised of them.

**The promise** is the one thing that every fault test checks against. Whatever was reported as complete (a backup or a
copy that returned) stands in a ledger: vault, snapshot, and which version of the folder it holds. The line is written
after the report and survives ``kill -9``; expiring takes it back before anything is dropped. Whatever befalls:

- each version that stands in the ledger comes back, identical, from some vault (`broken_promises`);
- a vault that is sound shows all that was reported of it, each snapshot it shows is whole, reported or not, and its
  verification finds nothing (`half_shown`).
"""

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from children import import_path
from cto_backups.core.vaults import Vault
from cto_backups.errors import BackupsError
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from faults.logged_vault import KILL, LOG, Kill, Line, Moment, read_log
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, below, new_store, open_store
from trees import compare

VAULTS = ("first", "second")
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)  # version n is a snapshot of n days later


@dataclass(frozen=True)
class Promise:
    """A line of the ledger: this snapshot in this vault was reported complete."""

    vault: str
    reference: str
    version: int


@dataclass(frozen=True)
class Workplace:
    """Vaults, ledger and state below `root`; `tree` is the folder that was backed up, shared by copies of the place."""

    root: Path
    tree: Path

    # -- what there is ------------------------------------------------------------------------------------------------

    def vault(self, name: str) -> LocalVault:
        return LocalVault(name, self.root / name)

    def store(self, name: str, vault: Vault | None = None) -> RepositoryStore:
        """The repository in a vault, seen through `vault` if that is given."""
        return open_store(vault or self.vault(name), options=QUICK_SMALL_PACKS)

    @property
    def version(self) -> int:
        """Which version of its history the folder is at."""
        return int((self.tree.parent / "version").read_text())

    def content(self, version: int) -> dict[bytes, compare.Node]:
        """What the folder held."""
        content: dict[bytes, compare.Node] = pickle.loads((self.tree.parent / f"content-{version}").read_bytes())
        return content

    def copy(self, to: Path) -> "Workplace":
        """The same place once more, to be harmed."""
        shutil.copytree(self.root, to)
        return Workplace(to, self.tree)

    def history(self, version: int, seed: int = 7) -> None:
        """Bring the folder to a version: some files change with each, a large one now and then, one has no bytes."""
        dice = random.Random(seed * 1000 + version)
        self.tree.mkdir(exist_ok=True)
        for number in range(12):
            if version == 0 or number % 3 == version % 3:
                path = self.tree / f"folder-{number % 3}" / f"file-{number:02}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(dice.randbytes(70_000))
        (self.tree / "empty").touch()
        (self.tree / "large").write_bytes(dice.randbytes(1_500_000))
        (self.tree.parent / f"content-{version}").write_bytes(pickle.dumps(compare.look(self.tree)))
        (self.tree.parent / "version").write_text(str(version))

    # -- the promise --------------------------------------------------------------------------------------------------

    def report(self, vault: str, reference: str, version: int) -> None:
        """Note that a snapshot was reported complete."""
        self._note(f"complete {vault} {reference} {version}")

    def withdraw(self, vault: str, reference: str) -> None:
        """Note that a snapshot is about to be expired, and is promised no more."""
        self._note(f"expired {vault} {reference} 0")

    def _note(self, line: str) -> None:
        handle = os.open(self.root / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)

    def promised(self) -> list[Promise]:
        """All that stands."""
        standing: dict[tuple[str, str], Promise] = {}
        for line in (self.root / "ledger").read_text().splitlines():
            word, vault, reference, version = line.split()
            if word == "complete":
                standing[vault, reference] = Promise(vault, reference, int(version))
            else:
                standing.pop((vault, reference), None)
        return list(standing.values())

    def broken_promises(self) -> list[str]:
        """The promised versions that no vault gives back, with what is wrong in each; by really restoring."""
        found = []
        for version in sorted({promise.version for promise in self.promised()}):
            wrong = [self.wrong_with(one) for one in self.promised() if one.version == version]
            if all(wrong):
                found.append(f"version {version} is lost: {wrong}")
        return found

    def wrong_with(self, promise: Promise, vault: Vault | None = None) -> list[str]:
        """What differs between a snapshot, restored, and the version that it should hold; empty when all is right."""
        destination = self.root / "restored"
        try:
            restored = self.store(promise.vault, vault).reader(promise.reference).restore(destination)
            found = [f"{problem.path}: {problem.detail}" for problem in restored.problems]
            there = below(destination, self.tree)
            actual = compare.look(there) if there.is_dir() else {}
            return found + compare.differences(self.content(promise.version), actual)
        except BackupsError as error:
            return [f"{promise.vault}: {error}"]
        finally:
            shutil.rmtree(destination, ignore_errors=True)

    def lost(self, promise: Promise) -> set[str]:
        """The paths that do not come back of a snapshot, as a restore reports them; "/" when none does."""
        destination = self.root / "restored"
        try:
            restored = self.store(promise.vault).reader(promise.reference).restore(destination)
            return {problem.path for problem in restored.problems}
        except BackupsError:
            return {"/"}
        finally:
            shutil.rmtree(destination, ignore_errors=True)

    def half_shown(self, names: Iterable[str] = VAULTS) -> list[str]:
        """Snapshots that a vault shows and does not give back whole, and what its verification says."""
        found = []
        for name in names:
            store = self.store(name)
            found += [f"{name}: {damage}" for damage in store.verify().damages]
            for committed in store.committed():
                promise = Promise(name, committed.reference, (committed.time - _BEGAN).days)
                found += [f"{name}: {committed.reference[:8]}: {wrong}" for wrong in self.wrong_with(promise)]
            there = {committed.reference for committed in store.committed()}
            lost = [one for one in self.promised() if one.vault == name and one.reference not in there]
            found += [f"{name} does not show {one}" for one in lost]
        return found

    # -- work ---------------------------------------------------------------------------------------------------------

    def back_up(self, store: RepositoryStore) -> None:
        """Back the folder up as it is now, and report it."""
        committed = store.committed()
        parent = committed[-1].reference if committed else None
        moment = _BEGAN + timedelta(days=self.version)
        state = self.root / "state"
        reference, _ = back_up(store, self.tree, state=state, parent=parent, moment=moment)
        self.report(store.vault.name, reference, self.version)

    def start(self, operation: str, kill: Kill | None = None) -> "subprocess.Popen[bytes]":
        """A child process that does an operation of `faults.operations`, with a new log."""
        self.log.unlink(missing_ok=True)
        environment = os.environ | import_path() | {LOG: os.fspath(self.log)}
        environment.pop(KILL, None)
        if kill is not None:
            environment[KILL] = str(kill)
        child = [sys.executable, "-m", "faults.operations", self.root, self.tree, operation]
        return subprocess.Popen(child, env=environment)

    def run(self, operation: str, kill: Kill | None = None) -> list[Line]:
        """An operation to its end, or to the write that it is killed at; what it wrote.

        Threads fill packs as they come: a run may have fewer of them than another, and then live.
        """
        status = self.start(operation, kill).wait()
        lines = read_log(self.log)
        if kill and status == 0:
            asked = sum(line.stage == kill.stage and line.moment is Moment.BEFORE for line in lines)
            assert kill.nth > asked, "it passed the write at which it was to die"
        else:
            assert status == (-9 if kill else 0), f"{operation} ended with {status}"
        return lines

    @property
    def log(self) -> Path:
        return self.root / "log"


def new_workplace(root: Path) -> Workplace:
    """Versions 0 and 1 in both vaults; the folder is at version 2."""
    place = Workplace(root / "place", root / "history" / "tree")
    for folder in (place.root, place.tree.parent):
        folder.mkdir(parents=True)
    first = new_store(place.vault("first"), options=QUICK_SMALL_PACKS)
    for version in (0, 1):
        place.history(version)
        place.back_up(first)
    second = new_store(place.vault("second"), options=QUICK_SMALL_PACKS)
    copy_missing(place, first, second)
    place.history(2)
    return place


def copy_missing(place: Workplace, origin: RepositoryStore, destination: RepositoryStore) -> None:
    """Copy what was reported of one vault and not of the other; report each."""
    promised = place.promised()
    there = {one.version for one in promised if one.vault == destination.vault.name}
    for promise in promised:
        if promise.vault == origin.vault.name and promise.version not in there:
            with destination.writing() as writing:
                copied = writing.copy(origin, promise.reference)
            place.report(destination.vault.name, copied.reference, promise.version)


__all__ = ["PREFIX", "VAULTS", "Promise", "Workplace", "copy_missing", "new_workplace"]
