"""From a policy file to a `Configuration`, or to every mistake in it at once."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from cto_backups.config import document, explaining, models
from cto_backups.config.alerting import built_alerts
from cto_backups.config.building import Builder, Objection
from cto_backups.config.document import Document, Node, SyntaxMistakeError
from cto_backups.config.escrow import built_escrow
from cto_backups.config.explaining import find, place_of
from cto_backups.config.fields import Surroundings
from cto_backups.config.kinds import KINDS
from cto_backups.config.mistakes import Mistake, PolicyMistakesError, closest
from cto_backups.config.page import Page
from cto_backups.config.reporting import built_report
from cto_backups.config.repository_key import RepositoryKey, parse_key_reference
from cto_backups.config.secrets import SecretReference
from cto_backups.config.settings import Configuration, Settings
from cto_backups.config.vault_keys import built_keys
from cto_backups.config.working import built_worker
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import parse_cadence
from cto_backups.core.policy import Policy
from cto_backups.core.pruning import parse_grace, parse_unused
from cto_backups.errors import NotFoundError, PolicyError

LARGEST_BYTES = 16 * 1024 * 1024
LARGE_BYTES = 64 * 1024
"""From here on a policy is worth another parser: a quarter of a second for ruamel."""
BOM = "\ufeff"
_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"

_SECTIONS: dict[str, Any] = {
    "vaults": dict[str, models.Vault],
    "categories": dict[str, models.Category],
    "classes": dict[str, models.DataClass],
    "sources": dict[str, models.Source],
}


def read(path: Path) -> Configuration:
    """Read a policy file. Raises NotFoundError when there is none, PolicyError with every mistake in it."""
    path = path.absolute()
    return parse(path, read_bytes(path))


def parse(path: Path, raw: bytes) -> Configuration:
    """The configuration that `raw` would be if it stood at `path`. Raises PolicyMistakesError."""
    text = decode(path, raw)
    if len(raw) >= LARGE_BYTES and (configuration := parse_quickly(path, raw, text)) is not None:
        return configuration
    try:
        tree = document.parse(text.removeprefix(BOM))
    except SyntaxMistakeError as error:
        blemish = error.blemish
        mistake = Page(text.removeprefix(BOM)).mistake(blemish.span, blemish.message, todo=blemish.todo)
        raise PolicyMistakesError(path, [mistake]) from None
    return _Reading(path, raw, text.removeprefix(BOM), tree).configuration()


def parse_quickly(path: Path, raw: bytes, text: str) -> Configuration | None:
    """The same for a policy of thousands of sources; None where anything is wrong, which `parse` then tells."""
    tree = document.parse_quickly(text.removeprefix(BOM))
    try:
        return None if tree is None else _Reading(path, raw, text.removeprefix(BOM), tree).configuration()
    except PolicyMistakesError:
        return None


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises NotFoundError when there is no file, PolicyError when it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
            raise PolicyError(
                f"The policy {path} is {kind}", why="it must be a file", todo="Name the file, usually backups.yaml."
            )
        if status.st_size > LARGEST_BYTES:
            raise PolicyError(f"The policy {path} is too large", why="it may have at most 16 MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no policy file {path}",
            why="the policy file says what is protected, and nothing was declared yet",
            todo="Run cto.backups init to write one, or name another file with --policy.",
        ) from None
    except OSError as error:
        raise PolicyError(
            f"The policy {path} cannot be read",
            why=f"{error.strerror}",
            todo="Correct its permissions, or name another file with --policy.",
        ) from error
    except ValueError as error:  # a NUL in the path
        raise PolicyError("The path of the policy is no path", why=str(error)) from None


def decode(path: Path, raw: bytes) -> str:
    """The text of a policy file. Raises PolicyMistakesError with the place of what is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line_start = before.rfind(b"\n") + 1
        mistake = Mistake(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            line=before.count(b"\n") + 1,
            column=len(before[line_start:].decode("utf-8")) + 1,
            todo="Save the file as UTF-8.",
        )
        raise PolicyMistakesError(path, [mistake]) from None


class _Reading:
    """One reading of one file; gathers mistakes until it can go no further."""

    def __init__(self, path: Path, raw: bytes, text: str, tree: Document) -> None:
        self._path = path
        self._raw = raw
        self._root = tree.root
        self._page = Page(text, tree.root)
        self._mistakes = [
            self._page.mistake(blemish.span, blemish.message, todo=blemish.todo) for blemish in tree.blemishes
        ]

    def configuration(self) -> Configuration:
        root = self._root
        if root is None:
            raise PolicyMistakesError(
                self._path,
                [Mistake("the file is empty, so nothing is protected")],
                todo="Run cto.backups init in another folder to see a commented policy.",
            )
        if root.kind != "mapping":
            message = "a policy file holds settings by name, and this is none"
            raise PolicyMistakesError(self._path, [self._page.mistake(root.span, message, todo="Write NAME: VALUE.")])
        self._refuse_empty_values(root)
        data: dict[str, Any] = root.plain()
        around = _surroundings(data)
        file, errors = self._validate(data, around)
        self._mistakes += explaining.explain(errors, root, self._page)
        configuration = self._build(file, data, around, errors)
        if self._mistakes or configuration is None:
            raise PolicyMistakesError(self._path, _once(self._mistakes))
        return configuration

    def _refuse_empty_values(self, root: Node) -> None:
        for names, node in root.walk():
            if node.kind == "scalar" and node.scalar is None:
                what = f"{names[-1]} has no value" if names else "there is no value here"
                _, key, reached = find(root, names)
                span = key if key and reached else node.span
                todo = "Give it a value, or remove the line."
                self._mistakes.append(self._page.mistake(span, what, setting=".".join(names), todo=todo))

    def _validate(
        self, data: dict[str, Any], around: Surroundings
    ) -> tuple[models.PolicyFile | None, list[ErrorDetails]]:
        """The file's settings, or what is wrong with them; unknown kinds of source do not hide what else is wrong."""
        file, errors = _validated(data, around)
        tags = {"union_tag_invalid", "union_tag_not_found"}
        kindless = [error for error in errors if error["type"] in tags and error["loc"][0] == "sources"]
        if kindless:
            patched = dict(data["sources"])
            for error in kindless:
                name = error["loc"][1]
                if isinstance(patched[name], dict):
                    patched[name] = patched[name] | {"kind": _likely_kind(patched[name])}
            _, others = _validated(data | {"sources": patched}, around)
            errors = kindless + others
        # An empty value is told by its name alone; that it is no text either would be noise.
        return file, [error for error in errors if not _is_empty(error)]

    def _build(
        self,
        file: models.PolicyFile | None,
        data: dict[str, Any],
        around: Surroundings,
        errors: Iterable[ErrorDetails],
    ) -> Configuration | None:
        """The configuration, or as much of it as shows what else does not fit together."""
        broken = {place_of(error)[:2] for error in errors}
        builder = Builder(self._path.parent, frozenset((str(p[0]), str(p[1])) for p in broken if len(p) == 2))
        sections = {
            name: getattr(file, name) if file else _sound(data.get(name), name, broken, around) for name in _SECTIONS
        }
        vaults = builder.vaults(sections["vaults"])
        categories = builder.categories(sections["categories"])
        classes = builder.classes(sections["classes"])
        sources = builder.sources(sections["sources"], vaults, categories, classes)
        configuration = None
        if file is not None:
            policy = Policy(
                business=file.business,
                timezone=file.timezone,
                sources=sources,
                vaults=vaults,
                categories=categories,
                classes=classes,
                exclusions=builder.exclusions(file.exclude, ZoneInfo(file.timezone)),
                digest=hashlib.sha256(self._raw).hexdigest(),
                prune_every=parse_cadence(file.prune),
                dead_mans_switch=file.dead_mans_switch,
                alerts=built_alerts(builder, file.alerts, file.timezone),
                governance=builder.governance(file.governance),
                escrow=built_escrow(builder, file.keys.escrow),
                report_to=built_report(file.report_to, builder.refuse),
                worker=built_worker(file.worker, self._path, file.catalog, builder.refuse),
                enrolled_as=file.enrolled_as,
            )
            configuration = Configuration(policy, _settings(file, builder), self._path, self._raw)
        self._mistakes += [self._objected(objection) for objection in builder.objections]
        return configuration

    def _objected(self, objection: Objection) -> Mistake:
        assert self._root is not None  # there is no objecting to an empty file
        node, key, reached = find(self._root, objection.place)
        return self._page.mistake(
            node.span if reached and node.kind == "scalar" else key or node.span,
            objection.message,
            setting=".".join(map(str, objection.place)),
            allowed=objection.allowed,
            todo=objection.todo,
        )


def _validated(data: Mapping[str, Any], around: Surroundings) -> tuple[models.PolicyFile | None, list[ErrorDetails]]:
    try:
        with _without_plugins():
            return models.PolicyFile.model_validate(data, context=around), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Let pydantic not search everything that is installed for plugins: none may take part in reading a policy."""
    before = os.environ.get(_PLUGINS)
    os.environ[_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PLUGINS]
        else:
            os.environ[_PLUGINS] = before


def _surroundings(data: Mapping[str, Any]) -> Surroundings:
    def declared(section: str) -> frozenset[str]:
        return frozenset(data[section]) if isinstance(data.get(section), dict) else frozenset()

    return Surroundings(
        vaults=declared("vaults"),
        categories=declared("categories").union(CATEGORIES),
        classes=declared("classes").union(CLASSES),
    )


def _likely_kind(source: Mapping[str, Any]) -> str:
    written = source.get("kind")
    if isinstance(written, str) and (near := closest(written, KINDS)):
        return near
    told_by = {"url": "git", "path": "sqlite", "command": "command"}
    return next((kind for setting, kind in told_by.items() if setting in source), "files")


def _is_empty(error: ErrorDetails) -> bool:
    return error["input"] is None and error["type"] != "missing"


@cache
def _adapter(section: str) -> TypeAdapter[Any]:
    """Validates one section alone; made only for a file with mistakes."""
    return TypeAdapter(_SECTIONS[section])


def _sound(section: Any, name: str, broken: set[tuple[str | int, ...]], around: Surroundings) -> dict[str, Any]:
    """The parts of a section that are valid by themselves."""
    if not isinstance(section, dict) or (name,) in broken:
        return {}
    kept = {key: part for key, part in section.items() if (name, key) not in broken}
    try:
        sound: dict[str, Any] = _adapter(name).validate_python(kept, context=around)
    except ValidationError:
        return {}
    return sound


def _settings(file: models.PolicyFile, builder: Builder) -> Settings:
    return Settings(
        home=builder.home,
        catalog_url=builder.catalog_url(file.catalog),
        state=builder.path(file.state, ("state",)),
        repository_key=RepositoryKey(tuple(map(parse_key_reference, file.keys.repository))),
        evidence_key=SecretReference.parse(file.keys.evidence),
        compression=file.compression,
        verify_on_write=file.verify_on_write,
        evidence_fingerprints=tuple(file.keys.evidence_fingerprints),
        prune_unused=float(parse_unused(file.prune_unused)),
        prune_grace=parse_grace(file.prune_grace),
        catalog_password=SecretReference.parse(file.catalog_password) if file.catalog_password else None,
        vault_keys=built_keys(file, builder),
    )


def _once(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """One mistake for each place and message: what an alias repeats, or two checks both saw, is told once."""
    return list({(mistake.line, mistake.column, mistake.message): mistake for mistake in mistakes}.values())
