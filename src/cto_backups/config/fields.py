"""The field types of the policy file: what each text may be, checked with messages for people.

Checks that need to know the rest of the file (which vaults there are, say) find it in the validation context, as
`Surroundings`. Without a context they accept any name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import core_schema

from cto_backups.config import locations
from cto_backups.config.kinds import RESOURCE_KINDS
from cto_backups.config.mistakes import closest, names
from cto_backups.config.problems import problem
from cto_backups.config.repository_key import parse_key_reference
from cto_backups.config.secrets import SecretReference
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import parse_cadence, parse_duration
from cto_backups.core.object_locks import parse_window
from cto_backups.core.pruning import parse_grace, parse_unused
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import TriggerError, parse_triggers
from cto_backups.core.verification import parse_share
from cto_backups.errors import KeyProblemError

_SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh", "ash"})
_PIPE = re.compile(r"(?<![|>])\|(?!\|)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HOST = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The names that the rest of the file declares."""

    vaults: frozenset[str] = frozenset()
    categories: frozenset[str] = field(default_factory=lambda: frozenset(CATEGORIES))
    classes: frozenset[str] = field(default_factory=lambda: frozenset(CLASSES))


Check = Callable[[str, Surroundings | None], None]


@dataclass(frozen=True, slots=True)
class Text:
    """Marks a text field: not empty, on one line, and what `check` accepts (it raises `problem`).

    `examples` and `pattern` go to the JSON Schema; `choices` are offered by editors without ruling anything else out.
    """

    check: Check | None = None
    examples: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    pattern: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: str, info: ValidationInfo) -> str:
            _one_line(value)
            if self.check:
                self.check(value, info.context if isinstance(info.context, Surroundings) else None)
            return value

        return core_schema.with_info_after_validator_function(validate, handler(source))

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        text: dict[str, Any] = {"type": "string", "minLength": 1}
        if self.pattern:
            text["pattern"] = self.pattern
        if self.choices:
            text = {"anyOf": [{"enum": list(self.choices)}, text]}
        return text | ({"examples": list(self.examples)} if self.examples else {})


def parse_until(text: str, zone: ZoneInfo) -> datetime:
    """The end of an exclusion: a date counts to its end, in the policy's time zone. Raises ValueError."""
    if re.match(r"\d{4}-\d{2}-\d{2}\Z", text, re.ASCII):
        try:
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), zone)
        except OverflowError:
            raise ValueError("the date is too far away") from None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _one_line(value: str) -> None:
    if not value.strip():
        raise problem("this is empty")
    if any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 for char in value):
        raise problem("this holds a line break or control character", todo="Write it on one line, without escapes.")


def _name(value: str, _around: Surroundings | None) -> None:
    if not _NAME.match(value):
        raise problem(
            f"'{value[:80]}' is no name",
            todo="A name has 1 to 64 letters, digits, dots, underscores, hyphens; a letter or digit comes first.",
        )


def _host_name(value: str, _around: Surroundings | None) -> None:
    if not _HOST.fullmatch(value):
        raise problem(
            f"'{value[:80]}' is no name of a host",
            todo="Write what 'cto.backups hosts' calls it, without its user or port; or '*' for every host.",
        )


def _repository_place(value: str, _around: Surroundings | None) -> None:
    if value != "." and any(part in ("", ".", "..") for part in value.split("/")):
        raise problem(
            f"'{value[:80]}' is no place inside a vault",
            todo="Write folders with / between them, such as repositories/main, or . for the vault's own folder.",
        )


def _declared(what: str, pick: Callable[[Surroundings], frozenset[str]]) -> Check:
    def check(value: str, around: Surroundings | None) -> None:
        if around is None or value in pick(around):
            return
        known = sorted(pick(around))
        raise problem(f"there is no {what} named '{value}'", allowed=names(known), nearest=closest(value, known))

    return check


def _understood(parse: Callable[[str], object]) -> Check:
    def check(value: str, _around: Surroundings | None) -> None:
        try:
            parse(value)
        except TriggerError as error:
            raise problem(f"'{error.part}' is no trigger", todo=f"Write {error.allowed}{error.hint}") from error
        except ValueError as error:
            raise problem(str(error)) from error

    return check


def _web_address(value: str) -> None:
    allowed = "write a whole address, such as https://watch.example/ping/backups"
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or not value.isascii() or any(character <= " " for character in value):
        raise ValueError(f"this is no address of the web: {allowed}")


def _time_of_day(value: str) -> None:
    if not _TIME.match(value):
        raise ValueError(f"'{value[:20]}' is no time of day: write hours and minutes, such as 22:00")


def _reference(value: str, _around: Surroundings | None) -> None:
    _parsed_reference(value, SecretReference.parse)


def _parsed_reference(value: str, parse: Callable[[str], object]) -> None:
    try:
        parse(value)
    except KeyProblemError as error:
        what = error.what[0].lower() + error.what[1:]
        raise problem(f"{what}: {error.why}" if error.why else what, todo=error.todo) from None


def _key_reference(value: str, _around: Surroundings | None) -> None:
    _parsed_reference(value, parse_key_reference)


def _zone(value: str, _around: Surroundings | None) -> None:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # its own error is a KeyError; folders and odd names give the others
        raise problem(
            f"'{value}' is no time zone",
            nearest=closest(value, _zones()),
            todo="Write UTC, or a place of the IANA time zone database such as Europe/Berlin.",
        ) from None


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())  # reads hundreds of files


def _resource(value: str, _around: Surroundings | None) -> None:
    kind, colon, location = value.partition(":")
    unknown = kind not in RESOURCE_KINDS
    if not colon or not location or unknown:
        raise problem(
            f"'{kind}' is no kind of resource"
            if colon and kind not in RESOURCE_KINDS
            else "this does not name a resource",
            allowed=tuple(f"{known}:PLACE" for known in RESOURCE_KINDS),
            nearest=closest(kind, RESOURCE_KINDS) if unknown else None,
            todo="Write it as the audit prints it, such as sqlite:/srv/scratch.db.",
        )
    locations.no_credentials(value)


def _until(value: str, _around: Surroundings | None) -> None:
    try:
        parse_until(value, ZoneInfo("UTC"))
    except ValueError:
        raise problem(f"'{value}' is no date", todo="Write it like 2027-01-01, or 2027-01-01T12:00.") from None


def _filename(value: str, _around: Surroundings | None) -> None:
    if "/" in value or value in {".", ".."}:
        raise problem(f"'{value}' is no name of a file", todo="Write a name without slashes, such as app.dump.")


def _variable(value: str, _around: Surroundings | None) -> None:
    if not _VARIABLE.match(value):
        raise problem(f"'{value[:80]}' is no name of an environment variable", todo="Write it like PGPASSWORD.")


def _key_fingerprint(value: str, _around: Surroundings | None) -> None:
    if not _FINGERPRINT.match(value):
        raise problem(
            "this is no fingerprint of an evidence key: 64 hexadecimal digits in lower case",
            todo="Write the one that 'cto.backups evidence verify' tells.",
        )


def _fails_aloud(command: list[str]) -> list[str]:
    """Refuse a shell's pipe in which a failure of any but the last program goes unnoticed."""
    shell = command[0].rpartition("/")[2] in _SHELLS
    if shell and any(_PIPE.search(part) for part in command) and not any("pipefail" in part for part in command):
        raise problem(
            "a program that fails in front of a pipe would go unnoticed",
            todo='Write it like ["bash", "-o", "pipefail", "-c", "pg_dump app | zstd"].',
        )
    return command


def _rules_together(value: list[str]) -> list[str]:
    try:
        parse_retention(", ".join(value))
    except ValueError as error:  # each rule is sound, but not beside the others
        raise problem(str(error)) from error
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_TRIGGERS = ("hourly, daily at 02:00", "continuous", "on change, weekly on sunday at 03:00", "*/15 8-18 * * *, @daily")
_RETENTIONS = ("1 year", "permanent", "30 versions", "7 daily, 4 weekly, 12 monthly")
_CADENCES = ("daily", "weekly", "monthly", "quarterly", "yearly", "none")
_REFERENCES = ("file:keys/repository.key", "env:BACKUPS_KEY", "command:pass show backups")
_SERVICES = (
    "aws-kms:arn:aws:kms:us-west-2:111122223333:alias/backups",
    "gcp-kms:projects/acme/locations/us/keyRings/backups/cryptoKeys/repository",
)
_GIT_URLS = ("/srv/git/app.git", "ssh://git@example.com/app.git", "https://example.com/app.git")

Line = Annotated[str, Text()]
Name = Annotated[str, Text(_name, pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
HostName = Annotated[str, Text(_host_name, examples=("web1",), pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,252})$")]
Duration = Annotated[str, Text(_understood(parse_duration), examples=("30 minutes", "1 h", "7 days"))]
Cadence = Annotated[str, Text(_understood(parse_cadence), examples=("monthly", "45 days"), choices=_CADENCES)]
Share = Annotated[str, Text(_understood(parse_share), examples=("1/7", "10%"))]
Unused = Annotated[str, Text(_understood(parse_unused), examples=("5%", "1/10"))]
LockWindow = Annotated[str, Text(_understood(parse_window), examples=("30 d", "90 days"))]
Grace = Annotated[str, Text(_understood(parse_grace), examples=("24 h", "3 days"))]
TriggerText = Annotated[str, Text(_understood(parse_triggers), examples=_TRIGGERS)]
RetentionText = Annotated[str, Text(_understood(parse_retention), examples=_RETENTIONS)]
CategoryName = Annotated[str, Text(_declared("category", lambda around: around.categories), choices=tuple(CATEGORIES))]
ClassName = Annotated[str, Text(_declared("class", lambda around: around.classes), choices=tuple(CLASSES))]
VaultName = Annotated[str, Text(_declared("vault", lambda around: around.vaults), examples=("one",))]
WebAddress = Annotated[
    str, Text(_understood(_web_address), examples=("https://watch.example/ping/backups",), pattern="^https?://.")
]
Reference = Annotated[str, Text(_reference, examples=_REFERENCES, pattern="^(file|env|command):.")]
KeyReference = Annotated[
    str,
    Text(
        _key_reference,
        examples=(*_REFERENCES, *_SERVICES),
        pattern="^(file|env|command|aws-kms|gcp-kms):.",
    ),
]
TimeOfDay = Annotated[str, Text(_understood(_time_of_day), examples=("22:00",), pattern=r"^[0-2][0-9]:[0-5][0-9]$")]
TimeZone = Annotated[str, Text(_zone, examples=("UTC", "Europe/Berlin"))]
RepositoryPlace = Annotated[str, Text(_repository_place, examples=("repositories/main", "."))]
VaultUrl = Annotated[str, Text(locations.vault, examples=("file:vaults/one", "s3://acme-backups/office"))]
BucketUrl = Annotated[str, Text(locations.bucket, examples=("gs://acme-media", "s3://acme-uploads/customers"))]
CatalogUrl = Annotated[
    str, Text(locations.catalog, examples=("sqlite:catalog.db", "postgresql://backups@db.example.com/backups"))
]
GitUrl = Annotated[str, Text(locations.no_credentials, examples=_GIT_URLS)]
ResourceName = Annotated[str, Text(_resource, examples=("sqlite:/srv/scratch.db", "git:/srv/git/old.git"))]
Until = Annotated[str, Text(_until, examples=("2027-01-01",))]
Filename = Annotated[str, Text(_filename, examples=("app.dump",), pattern="^[^/]+$")]
KeyFingerprint = Annotated[str, Text(_key_fingerprint, pattern="^[0-9a-f]{64}$")]
VariableName = Annotated[str, Text(_variable, pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Argument = Annotated[str, Text(locations.no_credentials)]
Lfs = Literal["auto", "yes", "no"]

Triggers = Annotated[
    list[TriggerText],
    BeforeValidator(_one_or_more, json_schema_input_type=TriggerText | list[TriggerText]),
    Field(min_length=1),
]
Retention = Annotated[
    list[RetentionText],
    BeforeValidator(_one_or_more, json_schema_input_type=RetentionText | list[RetentionText]),
    Field(min_length=1),
    AfterValidator(_rules_together),
]
KeyReferences = Annotated[
    list[KeyReference],
    BeforeValidator(_one_or_more, json_schema_input_type=KeyReference | list[KeyReference]),
    Field(min_length=1),
]
VaultNames = Annotated[
    list[VaultName],
    BeforeValidator(_one_or_more, json_schema_input_type=VaultName | list[VaultName]),
    Field(min_length=1),
]
Paths = Annotated[
    list[Line], BeforeValidator(_one_or_more, json_schema_input_type=Line | list[Line]), Field(min_length=1)
]
Patterns = Annotated[list[Line], BeforeValidator(_one_or_more, json_schema_input_type=Line | list[Line])]
Arguments = Annotated[list[Argument], Field(min_length=1), AfterValidator(_fails_aloud)]
