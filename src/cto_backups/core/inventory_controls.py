"""The controls on the inventory: all that exists is covered, nothing of it vanished, what is left out is justified."""

from collections.abc import Iterator, Set
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import PurePosixPath

from cto_backups.core.duration import roughly
from cto_backups.core.findings import Audited, Check
from cto_backups.core.model import Disappearance, Resource
from cto_backups.core.policy import Exclusion
from cto_backups.core.wording import counted

SUDDEN_SHRINKAGE = Fraction(1, 4)
"""From which share of a source's resources on it is sudden when they vanish between two looks. People drop a database
or two on purpose; a quarter at once is what an unmounted disk, an expired login or a right taken away look like."""

UNCLAIMED = ""
"""The key, in the inventory, of resources that were found and that no source claims."""


def check_coverage(audited: Audited) -> Iterator[Check]:
    """Inventory minus policy: every resource that no source covers and no exclusion in force names."""
    inventory = audited.facts.resources
    ours = [(name, resource) for name in inventory if name in audited.policy.sources for resource in inventory[name]]
    covered = [resource for _, resource in ours if resource.covered]
    beside = [(name, resource) for name, resource in ours if not resource.covered]
    known = _known(audited)
    orphaned = [
        (name, resource) for name in inventory if name not in audited.policy.sources for resource in inventory[name]
    ]
    if covered:
        yield Check("inventory", True, f"{counted(len(covered), 'resource')} covered by a source")
    names = {resource.name for resource in covered}
    for name, resource in beside:
        if resource.name not in names and not _excluded(audited, resource):
            told = f"{resource.kind} at {resource.location} is covered by no source; source '{name}' came upon it"
            yield Check(resource.name, False, told)
    for name, resource in orphaned:
        if _is_covered(resource, known) or _excluded(audited, resource):
            continue
        whose = f"; source '{name}', which covered it, is no longer in the policy" if name != UNCLAIMED else ""
        yield Check(resource.name, False, f"{resource.kind} at {resource.location} is covered by no source{whose}")


def _excluded(audited: Audited, resource: Resource) -> bool:
    return any(
        exclusion.until > audited.now and _matches(exclusion, resource) for exclusion in audited.policy.exclusions
    )


def _matches(exclusion: Exclusion, resource: Resource) -> bool:
    return any(fnmatchcase(name, exclusion.resource) for name in (resource.name, resource.location))


def check_reachable(audited: Audited) -> Iterator[Check]:
    """Each source could be looked at just now."""
    unreachable = audited.environment.unreachable
    if unreachable is not None:
        for source in audited.policy.sources.values():
            why = unreachable.get(source.name)
            told = f"it could not be looked at: {why}" if why else "it was looked at"
            yield Check(source.name, why is None, told, category=source.category.name)


def check_retained_log(audited: Audited) -> Iterator[Check]:
    """No server keeps more of its log for a source than it can bear; none has thrown any of it away."""
    for source in audited.policy.sources.values():
        for log in audited.environment.retained.get(source.name, ()):
            told = f"{log.told}: {log.peril}" if log.peril else log.told
            yield Check(source.name, not log.peril, told, category=source.category.name)


def check_bucket_settings(audited: Audited) -> Iterator[Check]:
    """Each bucket that is a source is set as policy asks."""
    for source in audited.policy.sources.values():
        bucket = audited.environment.buckets.get(source.name)
        if bucket is not None:
            besides = f" ({told})" if (told := bucket.settings.told()) else ""
            for passed, detail in bucket.judged():
                yield Check(source.name, passed, f"{bucket.url}{besides}: {detail}", category=source.category.name)


def check_time_travel(audited: Audited) -> Iterator[Check]:
    """A service's own history of what is protected leads back as far as policy asks."""
    for source in audited.policy.sources.values():
        for window in audited.environment.windows.get(source.name, ()):
            yield Check(source.name, window.is_enough, window.told, category=source.category.name)


def check_vanished(audited: Audited) -> Iterator[Check]:
    """What was found once is still there, or said to be gone on purpose."""
    known = _known(audited)
    gone = [
        (name, each.last_found_at, resource)
        for name, disappearances in audited.facts.vanished.items()
        for each in disappearances
        for resource in _missing(audited, each, known)
    ]
    for name, last_found_at, resource in gone:
        found = f"was last found in source '{name}' {roughly(audited.now - last_found_at)} ago"
        category = audited.policy.sources[name].category.name if name in audited.policy.sources else None
        detail = f"{resource.kind} at {resource.location} {found}, and by no look since"
        yield Check(resource.name, False, detail, category=category)
    if known and not gone:
        yield Check("inventory", True, "all that was found before is still there, or excluded")


def check_shrunk(audited: Audited) -> Iterator[Check]:
    """No look at a source found much less than the one before it."""
    known = _known(audited)
    for source in audited.policy.sources.values():
        sudden = [
            (each, missing)
            for each in audited.facts.vanished.get(source.name, ())
            if len(missing := _missing(audited, each, known)) > 1 and len(missing) >= SUDDEN_SHRINKAGE * each.before
        ]
        for each, missing in sudden[:1]:
            found = f"{len(missing)} of its {each.before} resources"
            ago = roughly(audited.now - each.last_found_at)
            told = f"{found}, all last found {ago} ago, are missing since one look; the first is {missing[0].name}"
            yield Check(source.name, False, told, category=source.category.name)
        if not sudden and source.name in audited.facts.resources:
            told = f"{counted(len(audited.facts.resources[source.name]), 'resource')} found"
            yield Check(source.name, True, told, category=source.category.name)


def _missing(audited: Audited, gone: Disappearance, known: Set[tuple[str, str]]) -> list[Resource]:
    """Of what disappeared: what no source of the policy finds now, and no exclusion in force names."""
    return [
        resource
        for resource in gone.resources
        if (resource.kind, resource.location) not in known and not _excluded(audited, resource)
    ]


def _known(audited: Audited) -> Set[tuple[str, str]]:
    """Kind and place of all that sources of the policy find."""
    return {
        (resource.kind, resource.location)
        for name, resources in audited.facts.resources.items()
        if name in audited.policy.sources
        for resource in resources
    }


def check_exclusions_used(audited: Audited) -> Iterator[Check]:
    """Each exclusion in force leaves something out; said only of an audit that looked beyond the sources."""
    inventory = audited.facts.resources
    if UNCLAIMED not in inventory:
        return
    gone = (each.resources for disappearances in audited.facts.vanished.values() for each in disappearances)
    everything = {(each.kind, each.location): each for resources in (*inventory.values(), *gone) for each in resources}
    for exclusion in audited.policy.exclusions:
        if exclusion.until > audited.now:
            found = [each for each in everything.values() if _matches(exclusion, each)]
            detail = f"its exclusion leaves out {counted(len(found), 'resource')}"
            yield Check(exclusion.resource, bool(found), detail)


def check_exclusions(audited: Audited) -> Iterator[Check]:
    """An exclusion says why, who answers for it, and until when; and that day has not passed."""
    for exclusion in audited.policy.exclusions:
        missing = [
            name for name, value in (("reason", exclusion.reason), ("owner", exclusion.owner)) if not value.strip()
        ]
        if missing:
            yield Check(exclusion.resource, False, f"its exclusion names no {' and no '.join(missing)}")
        elif exclusion.until <= audited.now:
            yield Check(exclusion.resource, False, f"its exclusion ended {roughly(audited.now - exclusion.until)} ago")
        else:
            yield Check(exclusion.resource, True, f"excluded by {exclusion.owner} until {exclusion.until:%Y-%m-%d}")


def _is_covered(resource: Resource, known: Set[tuple[str, str]]) -> bool:
    if resource.kind == "volume":  # which is files, for whoever protects the folder or one above it
        place = PurePosixPath(resource.location)
        return any(("files", str(folder)) in known for folder in (place, *place.parents))
    return (resource.kind, resource.location) in known
