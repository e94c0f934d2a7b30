"""A vault that does not say the truth, or not now: errors now and then, cut or old answers, slow ones, lost writes.

An operation on it fails in a way that names the vault, or is right. Once the vault tells the truth, all that was
reported is there.
"""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.vaults import InterceptedVault, LyingVault, SlowVault, flip_a_bit

from cto_backups.core.vaults import StoredFile, Vault
from cto_backups.errors import BackupsError, VaultError
from faults.logged_vault import Line
from faults.operations import OPERATIONS, wrong_after
from faults.workplace import PREFIX, Workplace

Ready = Callable[[str], tuple[Workplace, list[Line]]]
Property = Callable[[str, object], None]
NAMES = sorted(set(OPERATIONS) - {"create"})


class UnreliableVault(InterceptedVault):
    """Every `nth` call fails, before or after its effect."""

    def __init__(self, inner: Vault, nth: int, *, late: bool) -> None:
        calls = 0
        lock = threading.Lock()

        def strike(operation: str, key: str) -> None:
            nonlocal calls
            with lock:
                calls += 1
                strikes = calls % nth == 0
            if strikes:
                raise VaultError(f"Vault {inner.name} does not answer", why=f"{operation} {key}")

        super().__init__(inner, **{"after" if late else "before": strike})


class OldVault(InterceptedVault):
    """Lists what was there when it was made, and not what came later, as caches do."""

    def __init__(self, inner: Vault, about: str) -> None:
        super().__init__(inner)
        self._about = about
        self._old = list(inner.list(""))

    def list(self, prefix: str) -> Iterator[StoredFile]:
        if self._about in prefix:
            return iter([file for file in self._old if file.key.startswith(f"{prefix}/")])
        return super().list(prefix)


def wrong_or_told(place: Workplace, name: str, vault: Vault) -> bool:
    """Do an operation on this vault; whether it failed, which must be with an error of ours."""
    try:
        OPERATIONS[name].run(place, vault)
    except BackupsError as error:
        assert vault.name in f"{error.what} {error.why}", "the vault is not named"
        return True
    return False


def see_that_all_is_well(place: Workplace, name: str) -> None:
    """The vault tells the truth again."""
    assert wrong_after(place, name) == []
    OPERATIONS[name].run(place, place.vault(OPERATIONS[name].writes_to))
    assert place.half_shown(OPERATIONS[name].touches) == []


def test_errors_now_and_then(fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property) -> None:
    dice = random.Random(fault_seed)
    name = dice.choice(NAMES)
    place = ready_for(name)[0].copy(harmed)
    nth, late = dice.randint(2, 40), dice.random() < 0.5
    wrong_or_told(place, name, UnreliableVault(place.vault(OPERATIONS[name].writes_to), nth, late=late))
    record_property("fault", f"every n-th call fails in {name}")
    see_that_all_is_well(place, name)


def _cut_short(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flip_a_bit,
    "cut short": _cut_short,
    "zeros": lambda content: bytes(len(content)),
    "nothing": lambda content: b"",
}


def test_what_is_read_is_not_what_is_stored(
    fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property
) -> None:
    """The bytes change on the way: whoever acts on them must not destroy anything, nor report what is not so."""
    dice = random.Random(fault_seed)
    name = dice.choice(NAMES)
    about = dice.choice(["/config", "/keys/", "/data/", "/index/", "/snapshots/", "/locks/", "/unlisted/"])
    how = dice.choice(sorted(ALTERED))
    place = ready_for(name)[0].copy(harmed)
    liar = LyingVault(place.vault(OPERATIONS[name].writes_to), about, alter=ALTERED[how])
    wrong_or_told(place, name, liar)
    record_property("fault", f"read altered: {how}")
    see_that_all_is_well(place, name)


@pytest.mark.different_faults(100)
def test_a_reader_of_altered_bytes_writes_none_of_them(
    fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property
) -> None:
    """A restore from a vault whose answers are altered has every byte right, or names the file, or fails."""
    dice = random.Random(fault_seed)
    place = ready_for("copy")[0].copy(harmed)
    how = dice.choice(sorted(ALTERED))
    about = dice.choice(["/data/", "/index/", "/snapshots/"])
    chance = random.Random(fault_seed)
    alter = ALTERED[how]
    liar = LyingVault(
        place.vault("first"), about, alter=lambda content: alter(content) if chance.random() < 0.4 else content
    )
    for promise in place.promised():
        if promise.vault != "first":
            continue
        for wrong in place.wrong_with(promise, liar):
            assert "sha256" not in wrong, "wrong bytes were written as if they were right"
    record_property("fault", f"restored from altered: {how}")


LISTINGS = [
    (name, about)
    for about in ("/snapshots", "/index", "/data", "/locks", "")
    for name in NAMES
    if not OPERATIONS[name].mends
]


@pytest.mark.different_faults(len(LISTINGS))
def test_a_listing_from_before(fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property) -> None:
    """The vault lists what was there before its last hours: nothing is lost for not being listed.

    A prune that is not shown a snapshot of which the catalog knows goes no further.
    """
    name, about = LISTINGS[fault_seed * 7 % len(LISTINGS)]
    record_property("fault", f"an old listing in {name}")
    place = ready_for(name)[0].copy(harmed)
    writes_to = OPERATIONS[name].writes_to
    old = OldVault(place.vault(writes_to), about)
    OPERATIONS["backup" if writes_to == "first" else "copy"].run(place, place.vault(writes_to))
    told = wrong_or_told(place, name, old)
    assert told or name not in ("prune", "delete") or about not in ("/snapshots", "")
    see_that_all_is_well(place, name)


def test_an_old_listing_hides_no_loss_from_who_knows_better(ready_for: Ready, harmed: Path) -> None:
    """Whoever asks for what was reported, and not for what is listed, is told what is not there."""
    place = ready_for("backup")[0].copy(harmed)
    old = OldVault(place.vault("first"), "/snapshots")
    place.back_up(place.store("first"))
    newest = place.promised()[-1]
    assert newest.reference not in {one.reference for one in place.store("first", old).committed()}
    assert place.wrong_with(newest, old) == [], "it is there, whatever the listing says"
    (place.root / "first" / PREFIX / "snapshots" / newest.reference).unlink()
    damages = place.store("first").verify([newest.reference]).damages
    assert [damage.references for damage in damages] == [(newest.reference,)]


@pytest.mark.parametrize("about", ["/data/", "/index/"])
@pytest.mark.parametrize("name", ["backup", "copy"])
def test_writes_that_are_lost_are_missed(ready_for: Ready, harmed: Path, name: str, about: str) -> None:
    """The vault says that it stored, and did not: verification names what it lacks; the other vault has it."""
    place = ready_for(name)[0].copy(harmed)
    writes_to = OPERATIONS[name].writes_to
    before = place.promised()
    failed = wrong_or_told(place, name, LyingVault(place.vault(writes_to), about, forgets=True))
    after = [promise for promise in place.promised() if promise not in before]
    named = {one for damage in place.store(writes_to).verify().damages for one in damage.references}
    assert failed or {promise.reference for promise in after} <= named, "what was lost is not named"
    assert not {promise.reference for promise in before} & named
    for promise in before:
        assert place.wrong_with(promise) == []


@pytest.mark.different_faults(30)
def test_a_slow_vault_changes_nothing(
    fault_seed: int, ready_for: Ready, harmed: Path, record_property: Property
) -> None:
    """Threads meet in other orders than usual."""
    name = NAMES[fault_seed % len(NAMES)]
    record_property("fault", f"a slow vault in {name}")
    place = ready_for(name)[0].copy(harmed)
    vault = place.vault(OPERATIONS[name].writes_to)
    OPERATIONS[name].run(place, SlowVault(vault, seed=fault_seed, longest=0.005))
    assert place.half_shown(OPERATIONS[name].touches) == []
