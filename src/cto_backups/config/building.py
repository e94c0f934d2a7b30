"""From validated settings to `core.policy`, with every default resolved and what does not fit together objected to."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cto_backups.config import governance_models, models
from cto_backups.config.bigquery import bigquery_options, see_apart
from cto_backups.config.bucket import bucket_options
from cto_backups.config.cloudsql import cloudsql_options
from cto_backups.config.elsewhere import elsewhere_options, kept_repositories
from cto_backups.config.fields import parse_until
from cto_backups.config.mysql import mysql_options
from cto_backups.config.postgresql import postgresql_options
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vaults import built_vaults
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import parse_cadence, parse_duration
from cto_backups.core.governance import DESTRUCTIVE, Governance, Governed, GoverningDocument, Who
from cto_backups.core.lanes import check_hosts
from cto_backups.core.model import Rung
from cto_backups.core.policy import (
    Category,
    DataClass,
    Exclusion,
    Hooks,
    Payload,
    SourcePolicy,
    Tls,
    VaultPolicy,
    Violation,
    check_copies,
    check_source,
    unstated_retention,
)
from cto_backups.core.retention import Retention, parse_retention
from cto_backups.core.schedule import parse_triggers

_WITHOUT_PATHS = ("bigquery", "bucket", "cloudsql", "command")
_PORT = re.compile(r"[^/~]+:\d{1,5}(?:/.+)?")
_HOST_AND_PATH = re.compile(r"[^/]+:")  # user@host:path, as git and ssh write it


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that is well-formed, but does not fit together with the rest; `place` is where in the file."""

    place: tuple[str | int, ...]
    message: str
    todo: str = ""
    allowed: tuple[str, ...] = ()


@dataclass(slots=True)
class Builder:
    """Builds the parts of a policy; `objections` fill up on the way. Paths start at the folder `home`.

    `broken` are places such as ("categories", "A") whose settings are not valid by themselves: what rests on them is
    left alone instead of being judged by something else.
    """

    home: Path
    broken: frozenset[tuple[str, str]] = frozenset()
    objections: list[Objection] = field(default_factory=list)

    def refuse(self, place: tuple[str | int, ...], message: str, todo: str = "") -> None:
        """Note something that does not fit."""
        self.objections.append(Objection(place, message, todo))

    def path(self, text: str, place: tuple[str | int, ...]) -> Path:
        """An absolute path: `~` expanded, a relative one below `home`."""
        try:
            expanded = Path(text).expanduser()
        except RuntimeError:
            self.refuse(place, f"the home folder in '{text}' is not known", "Write the whole path.")
            expanded = Path(text)
        return Path(os.path.normpath(self.home / expanded))

    def vaults(self, given: Mapping[str, models.Vault]) -> dict[str, VaultPolicy]:
        """The vaults, with absolute URLs; what does not fit together in one, or in two of them, is objected to."""
        return built_vaults(given, self._url, self.refuse)

    def _url(self, url: str, place: tuple[str | int, ...]) -> str:
        scheme, _, path = url.partition(":")
        return f"{scheme}:{self.path('/' + path.lstrip('/') if path.startswith('/') else path, place)}"

    def catalog_url(self, url: str) -> str:
        """The catalog's URL, with an absolute path where it is a file."""
        return url if url.startswith("postgresql:") else self._url(url, ("catalog",))

    def categories(self, given: Mapping[str, models.Category]) -> dict[str, Category]:
        """The built-in categories, overridden, and the file's own."""
        return _inherited(self, "categories", given, CATEGORIES, _category)

    def classes(self, given: Mapping[str, models.DataClass]) -> dict[str, DataClass]:
        """The built-in data classes, overridden, and the file's own."""
        return _inherited(self, "classes", given, CLASSES, _data_class)

    def sources(
        self,
        given: Mapping[str, models.Source],
        vaults: Mapping[str, VaultPolicy],
        categories: Mapping[str, Category],
        classes: Mapping[str, DataClass],
    ) -> dict[str, SourcePolicy]:
        """The sources with everything resolved; what `core.policy` finds wrong with one is objected to."""
        built = {}
        see_apart((name for name, each in given.items() if isinstance(each, models.BigQuerySource)), self.refuse)
        for name, source in given.items():
            resolved = self._source(name, source, vaults, categories, classes)
            if resolved is not None:
                built[name] = resolved
        return built

    def _source(
        self,
        name: str,
        source: models.Source,
        vaults: Mapping[str, VaultPolicy],
        categories: Mapping[str, Category],
        classes: Mapping[str, DataClass],
    ) -> SourcePolicy | None:
        before = len(self.objections)
        options = self._options(name, source)
        data_class = classes.get(source.data_class) if source.data_class else None
        if source.data_class and data_class is None:
            return None  # the class is broken, and reported as such
        category_name = source.category or (data_class.category if data_class else None)
        if category_name is None:
            self.refuse(
                ("sources", name),
                f"source '{name}' says neither class nor category",
                "Add its class, such as class: documentation; the class gives the rest.",
            )
            return None
        category = categories.get(category_name)
        triggers = parse_triggers(", ".join(source.triggers)) if source.triggers else None
        triggers = triggers or (data_class.triggers if data_class else None)
        if triggers is None:
            self.refuse(
                ("sources", name),
                f"source '{name}' does not say when it is backed up",
                "Add its triggers, such as triggers: daily at 02:00, or its class.",
            )
        if source.test is None and data_class is None:
            self.refuse(
                ("sources", name),
                f"source '{name}' does not say how often it is tested",
                "Add a cadence, such as test: monthly, or its class.",
            )
        stated = parse_retention(", ".join(source.retention)) if source.retention else None
        retention = stated or (data_class.retention if data_class else None)
        if violation := unstated_retention(name, data_class, stated):
            self._refuse_violation(violation)
        if source.vaults and len(set(source.vaults)) < len(source.vaults):
            self.refuse(("sources", name, "vaults"), f"source '{name}' names a vault twice", "Name each vault once.")
        if category is None or triggers is None:
            return None
        built = SourcePolicy(
            name=name,
            kind=source.kind,
            category=category,
            triggers=triggers,
            retention=retention or Retention(permanent=True),  # refused above; the rest can still be judged
            test_every=parse_cadence(source.test) if source.test else data_class.test_every if data_class else None,
            vaults=tuple(source.vaults) if source.vaults else _shared(vaults),
            options=options,
            data_class=source.data_class,
            owner=source.owner,
            probe=tuple(source.probe or ()),
            hooks=Hooks(
                before=tuple(source.before or ()),
                after=tuple(source.after or ()),
                timeout=parse_duration(source.hook_timeout),
                folder=str(self.home),
            ),
            probe_timeout=parse_duration(source.probe_timeout),
            backup_timeout=parse_duration(source.backup_timeout) if source.backup_timeout else None,
            expects_change=parse_duration(source.expects_change) if source.expects_change else None,
            on_host=source.on_host,
            repositories=kept_repositories(source),
            payload=Payload(getattr(source, "payload", "snapshot")),
            tls=Tls(source.tls) if isinstance(source, models.BigQuerySource | models.CloudsqlSource) else None,
        )
        for violation in (*check_source(built), *check_copies(built, vaults), *check_hosts(built, vaults)):
            if violation.field != "vaults" or vaults:  # that the file has no vault is a mistake told elsewhere
                self._refuse_violation(violation)
        return built if len(self.objections) == before else None

    def _refuse_violation(self, violation: Violation) -> None:
        self.refuse(
            ("sources", violation.source, violation.field),
            f"{violation.what}: {violation.why}",
            _sentence(violation.todo),
        )

    def _options(self, name: str, source: models.Source) -> dict[str, object]:
        match source:
            case models.FilesSource():
                return {
                    "paths": tuple(
                        str(self.path(path, ("sources", name, "paths", number)))
                        for number, path in enumerate(source.paths)
                    ),
                    "include": tuple(source.include or ()),
                    "exclude": tuple(source.exclude or ()),
                    "one_file_system": source.one_file_system,
                }
            case models.GitSource():
                return {"url": self._git_url(source.url, ("sources", name, "url")), "lfs": source.lfs}
            case models.SqliteSource():
                return {
                    "path": str(self.path(source.path, ("sources", name, "path"))),
                    "lock_seconds": parse_duration(source.lock_timeout).total_seconds(),
                }
            case models.PostgresqlSource():
                return postgresql_options(name, source, self.path, self.refuse)
            case models.MysqlSource():
                return mysql_options(name, source, self.path, self.refuse)
            case models.BigQuerySource():
                return bigquery_options(name, source, self.refuse)
            case models.BucketSource():
                return bucket_options(name, source, self.refuse)
            case models.CloudsqlSource():
                return cloudsql_options(name, source, self.path, self.refuse)
            case models.PgbackrestSource() | models.BarmanSource() | models.WalGSource():
                return elsewhere_options(name, source, self.path, self.refuse)
            case models.CommandSource():
                return {
                    "command": tuple(source.command),
                    "filename": source.filename,
                    "restore_command": tuple(source.restore_command or ()),
                    "test_command": tuple(source.test_command or ()),
                    "folder": str(self.home),
                    "timeout_seconds": parse_duration(source.timeout).total_seconds(),
                    "environment": {
                        variable: SecretReference.parse(written) for variable, written in source.environment.items()
                    },
                }

    def _git_url(self, url: str, place: tuple[str | int, ...]) -> str:
        is_path = "://" not in url and not _HOST_AND_PATH.match(url)
        return str(self.path(url, place)) if is_path else url

    def exclusions(self, given: Iterable[models.Exclusion], zone: ZoneInfo) -> tuple[Exclusion, ...]:
        """What is left out on purpose, with absolute places."""
        built = []
        for number, exclusion in enumerate(given):
            kind, _, location = exclusion.resource.partition(":")
            place = ("exclude", number, "resource")
            if kind == "git":
                location = self._git_url(location, place)
            elif kind not in _WITHOUT_PATHS and not _PORT.fullmatch(location):  # nor has a server a place here
                location = str(self.path(location, place))
            built.append(
                Exclusion(
                    resource=f"{kind}:{location}",
                    reason=exclusion.reason,
                    owner=exclusion.owner,
                    until=parse_until(exclusion.until, zone),
                )
            )
        return tuple(built)

    def governance(self, given: governance_models.Governance | None) -> Governance | None:
        """What destructive work needs; a document that is named twice is objected to."""
        if given is None:
            return None
        documents: dict[Path, GoverningDocument] = {}
        for number, document in enumerate(given.documents):
            place = ("governance", "documents", number, "path")
            path = self.path(document.path, place)
            if path in documents:
                self.refuse(place, f"{document.path} is named twice", "Name each document once, with all it governs.")
            governs = frozenset(map(Governed, document.governs)) if document.governs else frozenset(DESTRUCTIVE)
            documents[path] = GoverningDocument(document.path, str(path), governs)
        asked = {action: getattr(given.approvals, action.value.replace("-", "_"), None) for action in Governed}
        return Governance(
            documents=tuple(documents.values()),
            approvals={action: Who(who) for action, who in asked.items() if who is not None},
            approvers=tuple(given.approvers),
            valid_for=parse_duration(given.approval_valid_for),
        )


def _inherited(
    builder: Builder,
    section: str,
    given: Mapping[str, Any],
    built_in: Mapping[str, Any],
    build: Callable[[str, Any, Any], Any],
) -> dict[str, Any]:
    """Everything of one section, each on top of what it is based on, whatever their order in the file."""
    done: dict[str, Any] = {name: value for name, value in built_in.items() if name not in given}
    for name in [name for name in done if (section, name) in builder.broken]:
        del done[name]
    waiting = dict(given)
    while waiting:
        ready = [name for name in waiting if (base := _base(name, waiting[name], built_in)) is None or base in done]
        # Overriding a built-in one starts from the built-in one itself.
        ready += [name for name in waiting if name not in ready and _base(name, waiting[name], built_in) == name]
        for name in ready:
            settings = waiting.pop(name)
            base = _base(name, settings, built_in)
            start = built_in.get(name) if base == name else done.get(base) if base else None
            if start is None and (lacking := _lacking(settings)):
                builder.refuse(
                    (section, name),
                    f"{name} is based on nothing, and does not say: {', '.join(lacking)}",
                    f"Add them, or a line like: based_on: {next(iter(built_in))}",
                )
                continue
            done[name] = build(name, settings, start)
        if not ready:
            break
    _refuse_circles(builder, section, waiting)
    # The file's order follows the built-in one, so that reports read alike.
    return {name: done[name] for name in dict.fromkeys([*built_in, *given]) if name in done}


def _base(name: str, settings: Any, built_in: Mapping[str, Any]) -> str | None:
    return settings.based_on or (name if name in built_in else None)


def _refuse_circles(builder: Builder, section: str, waiting: Mapping[str, Any]) -> None:
    for name in waiting:
        chain = [name]
        while (base := waiting[chain[-1]].based_on) in waiting and base not in chain:
            chain.append(base)
        if base == name:
            builder.refuse(
                (section, name, "based_on"),
                f"{name} is based on itself: {' → '.join([*chain, name])}",
                "Base one of them on something else.",
            )


_OPTIONAL = {"based_on", "title", "retention"}


def _lacking(settings: Any) -> list[str]:
    return [name for name in type(settings).model_fields if name not in _OPTIONAL and getattr(settings, name) is None]


def _given(settings: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def _category(name: str, settings: models.Category, base: Category | None) -> Category:
    values = _given(settings, ("point_in_time", "copies", "storage_types", "off_site"))
    for objective in ("rpo", "rto", "read_within"):
        if (written := getattr(settings, objective)) is not None:
            values[objective] = parse_duration(written)
    if settings.rung is not None:
        values["rung"] = Rung[settings.rung.upper()]
    values["title"] = settings.title or (base.title if base and base.name == name else name)
    return replace(base, name=name, **values) if base else Category(name=name, **values)


def _data_class(name: str, settings: models.DataClass, base: DataClass | None) -> DataClass:
    values = _given(settings, ("category",))
    if settings.triggers is not None:
        values["triggers"] = parse_triggers(", ".join(settings.triggers))
    if settings.retention is not None:
        values["retention"] = parse_retention(", ".join(settings.retention))
    if settings.test is not None:
        values["test_every"] = parse_cadence(settings.test)
    values["title"] = settings.title or (base.title if base and base.name == name else name)
    if base:
        return replace(base, name=name, **values)
    return DataClass(**({field.name: None for field in fields(DataClass)} | {"name": name} | values))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _shared(vaults: Mapping[str, VaultPolicy]) -> tuple[str, ...]:
    """The vaults of sources that name none: not those that are an enrolled host's own."""
    return tuple(name for name, vault in vaults.items() if vault.domain_of is None)
