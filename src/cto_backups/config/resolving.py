"""A validated policy file becomes the policy: every default filled in, and what does not fit together found."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from cto_backups.config import models
from cto_backups.config.fields import parse_until
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import parse_cadence, parse_duration
from cto_backups.core.model import Rung
from cto_backups.core.policy import (
    Category,
    DataClass,
    Exclusion,
    LockMode,
    Policy,
    SourcePolicy,
    VaultPolicy,
    check_policy,
    unstated_retention,
)
from cto_backups.core.retention import Retention, parse_retention
from cto_backups.core.schedule import Triggers, parse_triggers


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit together, and the setting at which to say so."""

    place: tuple[str, ...]
    message: str
    todo: str = ""


def resolve(file: models.PolicyFile, home: Path, digest: str) -> tuple[Policy, tuple[Misfit, ...]]:
    """The policy that a file declares, and all that does not fit; with misfits, the policy is not to be used."""
    misfits: list[Misfit] = []
    categories = _categories(file.categories, misfits)
    classes = _classes(file.classes, misfits)
    vaults = {
        name: VaultPolicy(name, v.url, v.provider, v.region, v.storage, v.off_site, LockMode(v.lock))
        for name, v in file.vaults.items()
    }
    resolved = {
        name: _source(name, source, tuple(vaults), categories, classes, home, misfits)
        for name, source in file.sources.items()
    }
    exclusions = tuple(
        Exclusion(e.resource, e.reason, e.owner, parse_until(e.until, ZoneInfo(file.timezone))) for e in file.exclude
    )
    sources = {name: source for name, source in resolved.items() if source is not None}
    policy = Policy(file.business, file.timezone, sources, vaults, categories, classes, exclusions, digest)
    for found in check_policy(policy):
        misfits.append(
            Misfit(("sources", found.source, found.field), f"{found.what}: {found.why}", _sentence(found.todo))
        )
    return policy, tuple(misfits)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _triggers(given: list[str] | None) -> Triggers | None:
    return None if given is None else parse_triggers(", ".join(given))


def _retention(given: list[str] | None) -> Retention | None:
    return None if given is None else parse_retention(", ".join(given))


def _duration(given: str | None) -> timedelta | None:
    return None if given is None else parse_duration(given)


def _stated(**changes: object) -> dict[str, object]:
    return {name: value for name, value in changes.items() if value is not None}


def _categories(given: Mapping[str, models.Category], misfits: list[Misfit]) -> dict[str, Category]:
    categories = dict(CATEGORIES)
    waiting = dict(given)
    while waiting:
        ready = [name for name, settings in waiting.items() if (settings.based_on or name) in categories]
        if not ready:
            misfits.extend(_unfounded("categories", name, settings.based_on) for name, settings in waiting.items())
            break
        for name in ready:
            settings = waiting.pop(name)
            changes = _stated(
                title=settings.title,
                rpo=_duration(settings.rpo),
                rto=_duration(settings.rto),
                point_in_time=settings.point_in_time,
                copies=settings.copies,
                storage_types=settings.storage_types,
                off_site=settings.off_site,
                read_within=_duration(settings.read_within),
                rung=None if settings.rung is None else Rung[settings.rung.upper()],
            )
            categories[name] = replace(categories[settings.based_on or name], name=name, **changes)  # type: ignore[arg-type]
    return categories


def _classes(given: Mapping[str, models.DataClass], misfits: list[Misfit]) -> dict[str, DataClass]:
    classes = dict(CLASSES)
    waiting = dict(given)
    while waiting:
        ready = [name for name, settings in waiting.items() if (settings.based_on or name) in classes]
        if not ready:
            misfits.extend(_unfounded("classes", name, settings.based_on) for name, settings in waiting.items())
            break
        for name in ready:
            settings = waiting.pop(name)
            changes = _stated(
                title=settings.title,
                category=settings.category,
                triggers=_triggers(settings.triggers),
                retention=_retention(settings.retention),
            )
            if settings.test is not None:
                changes["test_every"] = parse_cadence(settings.test)
            classes[name] = replace(classes[settings.based_on or name], name=name, **changes)  # type: ignore[arg-type]
    return classes


def _unfounded(section: str, name: str, based_on: str | None) -> Misfit:
    if based_on is None:
        return Misfit((section, name), f"'{name}' is new here", "Say with based_on which one it starts from.")
    return Misfit(
        (section, name, "based_on"), f"'{name}' is based on itself, in a circle", "Start from a built-in one."
    )


def _source(
    name: str,
    settings: models.Source,
    vaults: tuple[str, ...],
    categories: Mapping[str, Category],
    classes: Mapping[str, DataClass],
    home: Path,
    misfits: list[Misfit],
) -> SourcePolicy | None:
    data_class = classes.get(settings.data_class) if settings.data_class else None
    category = settings.category or (data_class.category if data_class else None)
    triggers = _triggers(settings.triggers) or (data_class.triggers if data_class else None)
    stated = _retention(settings.retention)
    retention = stated or (data_class.retention if data_class else None)
    if category is None:
        todo = "Give it a class, which has defaults for everything, or a category with triggers and retention."
        misfits.append(Misfit(("sources", name), f"source '{name}' has neither a class nor a category", todo))
        return None
    if triggers is None:
        misfits.append(
            Misfit(("sources", name), f"source '{name}' does not say when it is backed up", "State its triggers.")
        )
    if (violation := unstated_retention(name, data_class, stated)) is not None:
        misfits.append(Misfit(("sources", name), f"{violation.what}: {violation.why}", _sentence(violation.todo)))
    if triggers is None or retention is None or category not in categories:
        return None  # an unknown category was told by its field already
    tested = parse_cadence(settings.test) if settings.test else data_class.test_every if data_class else None
    return SourcePolicy(
        name=name,
        kind=settings.kind,
        category=categories[category],
        triggers=triggers,
        retention=retention,
        test_every=tested,
        vaults=tuple(dict.fromkeys(settings.vaults or vaults)),
        options=_options(settings, home),
        data_class=settings.data_class,
        owner=settings.owner,
    )


def _options(settings: models.Source, home: Path) -> dict[str, object]:
    if isinstance(settings, models.FilesSource):
        return {
            "paths": tuple(_absolute(path, home) for path in settings.paths),
            "include": tuple(settings.include or ()),
            "exclude": tuple(settings.exclude or ()),
            "one_file_system": settings.one_file_system,
        }
    if isinstance(settings, models.GitSource):
        # git itself takes what has a colon before its first slash for an address.
        local = ":" not in settings.url.split("/", 1)[0]
        return {"url": _absolute(settings.url, home) if local else settings.url, "lfs": settings.lfs}
    return {"path": _absolute(settings.path, home)}


def _absolute(path: str, home: Path) -> str:
    return str(home / Path(path).expanduser())
