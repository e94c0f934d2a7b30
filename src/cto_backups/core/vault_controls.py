"""The controls on copies and vaults: how many, how far apart, encrypted, read."""

from collections.abc import Hashable, Iterator
from datetime import datetime
from pathlib import PurePosixPath

from cto_backups.core.copies import behind, lagging, late, told_lag
from cto_backups.core.duration import format_duration, roughly
from cto_backups.core.elsewhere import UNDECLARED, declared, elsewhere
from cto_backups.core.findings import Audited, Check
from cto_backups.core.model import Outcome
from cto_backups.core.object_locks import locking
from cto_backups.core.policy import Access, LockMode, SourcePolicy, Tls, VaultPolicy
from cto_backups.core.retries import CLOCK_TOLERANCE
from cto_backups.core.schedule import format_triggers
from cto_backups.core.wording import counted, listed


def check_copies(audited: Audited) -> Iterator[Check]:
    """The newest complete point has as many undamaged copies as its category asks for."""
    for source in audited.policy.sources.values():
        held, asked = audited.verdicts[source.name].copies, source.category.copies
        figures = f"{counted(held, 'copy', 'copies')} of its newest complete point; {_asks(source)} {asked}"
        older = lagging(audited.policy, source, audited.source(source.name), audited.now)
        if older:
            figures += f"; that in {listed(older)} may be of an older one by schedule"
        yield _check(source, held >= asked, figures)


def check_lag(audited: Audited) -> Iterator[Check]:
    """No vault is further behind a source than its schedule lets it be; one without a schedule is not for an RPO."""
    for source in audited.policy.sources.values():
        known = audited.source(source.name)
        if known.newest is None or elsewhere(known.newest) is not None:
            continue
        for vault in (name for name in source.vaults if name in audited.policy.vaults):
            told, older = told_lag(known, vault), behind(known, vault)
            if audited.policy.vaults[vault].copies:
                too_late = late(audited.policy, source, known, vault, audited.now)
                written = format_triggers(audited.policy.vaults[vault].copies)
                yield _check(source, too_late is None, too_late or f"vault {vault}: {told}; copies come {written}")
            else:
                passed = older is not None and older <= source.category.rpo
                asked = f"RPO {format_duration(source.category.rpo)}"
                yield _check(source, passed, f"vault {vault}: {told}; it gets each point, {asked}")


def check_storage_types(audited: Audited) -> Iterator[Check]:
    """The copies lie on as many types of storage as the category asks for."""
    for source in audited.policy.sources.values():
        types = sorted({vault.storage for vault in _holding(audited, source)})
        asked = source.category.storage_types
        figures = f"copies on {counted(len(types), 'storage type')}{_in_brackets(types)}; {_asks(source)} {asked}"
        yield _check(source, len(types) >= asked, figures)


def check_off_site(audited: Audited) -> Iterator[Check]:
    """Where the category asks for it, a copy is off-site, and not on the very disk that holds the data."""
    for source in audited.policy.sources.values():
        if not source.category.off_site:
            continue
        at_home = _devices_of_data(audited, source)
        claimed = [vault for vault in _holding(audited, source) if vault.off_site]
        off_site = [vault.name for vault in claimed if _device(audited, vault) not in at_home]
        if off_site:
            yield _check(source, True, f"off-site copy in {listed(off_site)}")
        elif claimed:
            names = listed(vault.name for vault in claimed)
            yield _check(source, False, f"{names} is declared off-site, but lies on the same device as the data")
        else:
            yield _check(source, False, "no copy is off-site")


def check_failure_domains(audited: Audited) -> Iterator[Check]:
    """The copies do not all fail together, nor with the data: folders on one disk are one copy.

    A failure domain is a device where it is known, and else a provider's region.
    """
    for source in audited.policy.sources.values():
        at_home = _devices_of_data(audited, source)
        vaults = _holding(audited, source)
        apart = [vault for vault in vaults if _device(audited, vault) not in at_home and vault.provider != UNDECLARED]
        domains: set[Hashable] = {_domain(audited, vault) for vault in apart}
        asked = min(source.category.copies, 2)
        beside = [vault.name for vault in vaults if _device(audited, vault) in at_home]
        figures = (
            f"{counted(len(vaults), 'copy', 'copies')} in {counted(len(domains), 'failure domain')} apart from the data"
        )
        if beside:
            figures += f" ({listed(beside)} on the same device as the data)"
        yield _check(source, len(domains) >= asked, f"{figures}; at least {asked} needed")


def check_write_only(audited: Audited) -> Iterator[Check]:
    """Where more than one copy is asked for, one lies where this installation cannot delete it."""
    for source in audited.policy.sources.values():
        if source.category.copies < 2:
            continue
        safe = [
            vault.name
            for vault in _holding(audited, source)
            if vault.access is Access.APPEND_ONLY or proven_locks(audited, vault).passed
        ]
        if safe:
            yield _check(source, True, f"the copy in {listed(safe)} cannot be deleted from here")
        else:
            yield _check(source, False, "no copy is in a vault that is append-only, or whose locks were read back")


def check_immutable(audited: Audited) -> Iterator[Check]:
    """Where three copies are asked for, one lies in a vault whose locks were read back, and all stand."""
    for source in audited.policy.sources.values():
        if source.category.copies < 3:
            continue
        declared = [vault for vault in _holding(audited, source) if vault.lock_mode is not LockMode.NONE]
        seen = {vault.name: proven_locks(audited, vault) for vault in declared}
        locked = [vault for vault in declared if seen[vault.name].passed]
        if locked:
            told = listed(f"{vault.name} ({vault.lock_mode})" for vault in locked)
            yield _check(source, True, f"locked copy in {told}: {seen[locked[0].name].detail}")
        elif declared:
            yield _check(source, False, "; ".join(f"{name}: {check.detail}" for name, check in seen.items()))
        else:
            yield _check(source, False, "no copy is in a vault with a lock mode")


def check_locks(audited: Audited) -> Iterator[Check]:
    """In each vault with a lock mode, every stored file that is to be locked was seen to be so, not long ago."""
    for vault in _in_use(audited):
        if vault.lock_mode is not LockMode.NONE and audited.vault(vault.name).first_copy_at is not None:
            yield proven_locks(audited, vault)


def proven_locks(audited: Audited, vault: VaultPolicy) -> Check:
    """Whether the locks of a vault were read back from its store, all stand, and will until they are renewed.

    What lies in repositories of others is as the policy declares it: this program reads nothing back there.
    """
    locks, run = locking(vault), audited.vault(vault.name).renew_run
    if locks is None:
        return Check(vault.name, False, "the policy has no lock for it")
    if vault.name not in audited.policy.vaults:
        return Check(vault.name, True, "as the policy declares; nothing was read back")
    if run is None or run.finished_at is None:
        return Check(vault.name, False, "declared locked, and no lock was read back yet")
    ago = _ago(audited, run.finished_at)
    if run.outcome is not Outcome.SUCCEEDED:
        return Check(vault.name, False, f"the last look at its locks, {ago}, did not end well: {run.message}")
    files = counted(int(run.figures.get("files", 0)), "file")
    fresh = -CLOCK_TOLERANCE <= audited.now - run.started_at <= 2 * locks.renewed_every
    asked = f"policy asks for a look every {roughly(locks.renewed_every)}"
    what = f"{files} locked, read back {ago}, the earliest lock ends {str(run.figures.get('until', ''))[:10]}"
    return Check(vault.name, fresh, f"{what}; {asked}")


def check_catalog(audited: Audited) -> Iterator[Check]:
    """The catalog can be made anew: a vault holds its records off the device on which it lies itself."""
    catalog = audited.environment.catalog
    holding = [vault for vault in _in_use(audited) if audited.vault(vault.name).first_copy_at is not None]
    if catalog is None or catalog.device is None or not holding:
        return
    apart = [vault.name for vault in holding if _device(audited, vault) != catalog.device]
    if apart:
        yield Check("catalog", True, f"its records also lie in {listed(apart)}, off its device")
    else:
        names = listed(vault.name for vault in holding)
        yield Check("catalog", False, f"its records lie only in {names}, on the same device as the catalog")


def check_vaults_used(audited: Audited) -> Iterator[Check]:
    """Each vault is named by a source."""
    for vault in audited.policy.vaults.values():
        number = len(_sources_in(audited, vault))
        yield Check(
            vault.name,
            bool(number),
            f"{counted(number, 'source names', 'sources name')} it" if number else "no source names it",
        )


def check_keys_parted(audited: Audited) -> Iterator[Check]:
    """No two keys that are kept as files lie in one folder."""
    folders: dict[PurePosixPath, list[str]] = {}
    for name, key in audited.environment.keys.items():
        folders.setdefault(PurePosixPath(key.path).parent, []).append(name)
    if len(audited.environment.keys) < 2:
        return
    together = [f"{listed(names)} are kept in one folder" for names in folders.values() if len(names) > 1]
    yield Check("keys", not together, "; ".join(together) or "each key is kept in a folder of its own")


def check_pruning(audited: Audited) -> Iterator[Check]:
    """The last prune of a vault went well, and was no longer ago than twice what policy asks."""
    every = audited.policy.prune_every
    for vault in _in_use(audited):
        known = audited.vault(vault.name)
        run = known.prune_run
        if vault.access is Access.APPEND_ONLY:
            continue  # its owner prunes it
        if run is not None and run.outcome is Outcome.FAILED:
            times = counted(max(known.prune_failures, 1), "time")
            yield Check(vault.name, False, f"the last prune failed, {times} in a row: {run.message}")
        elif every is not None and (last := run.started_at if run else known.first_copy_at) is not None:
            what = "the last prune was" if run else "never pruned, in use since"
            asked = f"policy asks for one every {format_duration(every)}"
            yield Check(vault.name, audited.now - last <= 2 * every, f"{what} {_ago(audited, last)}; {asked}")


def check_encryption(audited: Audited) -> Iterator[Check]:
    """What a vault stores is encrypted at rest; so is what lies in repositories of others."""
    for vault in _in_use(audited):
        cipher = audited.environment.ciphers.get(vault.name, "")
        detail = f"encrypted with {cipher}" if cipher else "nothing says that its stored bytes are encrypted"
        yield Check(vault.name, bool(cipher), detail)
    for source in audited.policy.sources.values():
        found = elsewhere(audited.source(source.name).newest)
        for each in found.keeping if found is not None else ():
            detail = f"encrypted with {each.cipher}" if each.cipher else "its backups lie there unencrypted"
            yield _check(source, bool(each.cipher), f"{each.repository}: {detail}")


def check_transit(audited: Audited) -> Iterator[Check]:
    """What travels to a vault, or to a provider's service, has TLS 1.3 or newer; to a folder nothing travels."""
    for vault in _in_use(audited):
        if vault.tls is Tls.NONE:
            yield Check(vault.name, False, f"the policy lets requests to {vault.endpoint} travel unencrypted")
        elif vault.tls is not None:
            asked = f"the policy asks for TLS {vault.tls} or newer"
            yield Check(vault.name, vault.tls is Tls.V1_3, asked)
    for source in audited.policy.sources.values():
        if source.tls is not None:
            yield _check(source, source.tls is Tls.V1_3, _asked_of_service(source.tls))
    report = audited.policy.report_to
    if report is not None:
        yield Check(f"report_to {report.name}", report.tls is Tls.V1_3, _asked_of_service(report.tls))


def _asked_of_service(tls: Tls) -> str:
    if tls is Tls.NONE:
        return "the policy lets requests to its service travel unencrypted"
    return f"the policy asks its service for TLS {tls} or newer"


def check_key_apart(audited: Audited) -> Iterator[Check]:
    """No key is kept in, or on the same device as, a vault that it opens."""
    for vault in _in_use(audited):
        place = audited.environment.vaults.get(vault.name)
        if place is None:
            continue
        keys = {name: key for name, key in audited.environment.keys.items() if _is_for(audited, name, vault.name)}
        inside = [name for name, key in keys.items() if PurePosixPath(key.path).is_relative_to(place.path)]
        beside = [name for name, key in keys.items() if key.device is not None and key.device == place.device]
        if inside:
            yield Check(vault.name, False, f"{_are_kept(inside)} inside the vault")
        elif beside:
            yield Check(vault.name, False, f"{_are_kept(beside)} on the same device as the vault")
        else:
            yield Check(vault.name, True, "no key is kept beside it")


def _is_for(audited: Audited, key: str, vault: str) -> bool:
    """Whether a key is to open a vault; the shared one, which no vault's own is, still may where that was seen."""
    opens = audited.environment.opens.get(key)
    if opens is None or vault in opens:
        return True
    return audited.environment.separated.get(vault) is False


def _are_kept(keys: list[str]) -> str:
    return f"{listed(keys)} {'is' if len(keys) == 1 else 'are'} kept"


def check_reading(audited: Audited) -> Iterator[Check]:
    """Every stored byte of a vault was read again, without damage, within the time that its strictest source asks."""
    for vault in _in_use(audited):
        known = audited.vault(vault.name)
        within = min(source.category.read_within for source in _sources_in(audited, vault))
        asked = f"every byte is to be read within {format_duration(within)}"
        if known.read_passed is False:
            yield Check(vault.name, False, "the last reading found damage")
        elif known.read_since is not None:
            fresh = -CLOCK_TOLERANCE <= audited.now - known.read_since <= within
            what = f"every byte was read, the oldest reading is {_ago(audited, known.read_since)}"
            yield Check(vault.name, fresh, f"{what}; {asked}")
        elif known.first_copy_at is not None:
            late = audited.now - known.first_copy_at > within
            since = roughly(audited.now - known.first_copy_at)
            what = "not read in full yet" if known.read_at else "never read"
            yield Check(vault.name, not late, f"{what}, in use for {since}; {asked}")


def check_vaults_there(audited: Audited) -> Iterator[Check]:
    """Each vault can be read, now: from an unmounted disk nothing comes back."""
    away = audited.facts.vaults_away
    if away is None:
        return
    for vault in _in_use(audited):
        why = away.get(vault.name)
        yield Check(vault.name, why is None, why or "it was there when the audit looked")


def check_keys_there(audited: Audited) -> Iterator[Check]:
    """Each key that is kept as a file is where the policy says."""
    for name, place in audited.environment.keys.items():
        where = f"{'it is' if place.there else 'nothing is'} at {place.path}"
        yield Check(name, place.there, where)


def check_catalog_behind(audited: Audited) -> Iterator[Check]:
    """No vault has a record that the catalog lacks."""
    behind = audited.environment.catalog_behind
    if behind is not None and audited.policy.vaults:
        yield Check("catalog", not behind, behind or "no vault has a record that it lacks")


def check_vault_runs(audited: Audited) -> Iterator[Check]:
    """The last verification of a vault could run; what it found is for `check_reading` to say."""
    for vault in _in_use(audited):
        run = audited.vault(vault.name).last_run
        if run is not None:
            failed = run.outcome is Outcome.FAILED and audited.vault(vault.name).read_passed is not False
            detail = f"the last verification failed: {run.message}" if failed else "the last verification ran"
            yield Check(vault.name, not failed, detail)


def _holding(audited: Audited, source: SourcePolicy) -> list[VaultPolicy]:
    """The vaults with an undamaged copy of the newest complete point; or the repositories of others that hold it."""
    newest = audited.source(source.name).newest
    if (found := elsewhere(newest)) is not None:
        # The vaults have its record alone: what counts is where the data lie.
        return [declared(source, found, each.repository) for each in found.holding]
    held = {known.copy.vault for known in audited.source(source.name).copies if known.read_passed is not False}
    older = lagging(audited.policy, source, audited.source(source.name), audited.now)
    held |= {vault for vault in older if audited.vault(vault).read_passed is not False}
    return [vault for name in source.vaults if name in held and (vault := audited.policy.vaults.get(name)) is not None]


def _in_use(audited: Audited) -> list[VaultPolicy]:
    return [vault for vault in audited.policy.vaults.values() if _sources_in(audited, vault)]


def _sources_in(audited: Audited, vault: VaultPolicy) -> list[SourcePolicy]:
    return [source for source in audited.policy.sources.values() if vault.name in source.vaults]


def _device(audited: Audited, vault: VaultPolicy) -> int | None:
    place = audited.environment.vaults.get(vault.name)
    return place.device if place is not None else None


def _domain(audited: Audited, vault: VaultPolicy) -> Hashable:
    device = _device(audited, vault)
    return (vault.provider, vault.region) if device is None else device


def _devices_of_data(audited: Audited, source: SourcePolicy) -> set[int | None]:
    places = audited.environment.sources.get(source.name, ())
    return {place.device for place in places if place.device is not None}


def _check(source: SourcePolicy, passed: bool, detail: str) -> Check:
    return Check(source.name, passed, detail, category=source.category.name)


def _asks(source: SourcePolicy) -> str:
    return f"category {source.category.name} asks for"


def _in_brackets(names: list[str]) -> str:
    return f" ({listed(names)})" if names else ""


def _ago(audited: Audited, moment: datetime) -> str:
    if moment > audited.now + CLOCK_TOLERANCE:
        return "at a moment in the future"
    return f"{roughly(audited.now - moment)} ago"
