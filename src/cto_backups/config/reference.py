"""The tables of `docs/reference/policy-file.md`, made from the models that check the file."""

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cto_backups.config.descriptions import descriptions
from cto_backups.config.models import PolicyFile
from cto_backups.config.parts import parts
from cto_backups.config.schema import json_schema
from cto_backups.core.alerts import DEFAULT_RULES, Trouble
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import format_cadence, format_duration
from cto_backups.core.retention import format_retention
from cto_backups.core.schedule import format_triggers

PLACE = "docs/reference/policy-file.md"
BEGIN = "<!-- settings: made from the models; `tools/policy-reference` writes them anew -->"
END = "<!-- end of settings -->"

_SECTIONS = (
    ("The file", "PolicyFile"),
    ("`keys`", "Keys"),
    ("`keys.escrow`", "Escrow"),
    ("`vaults.NAME`", "Vault"),
    ("`vaults.NAME.bandwidth` (a list)", "BandwidthLimit"),
    ("`vaults.NAME.prices`", "Prices"),
    ("`vaults.NAME.settings`", "VaultSettings"),
    ("`categories.NAME`", "Category"),
    ("`classes.NAME`", "DataClass"),
    ("`sources.NAME`, every kind", "AnySource"),
    ("`sources.NAME`, `kind: files`", "FilesSource"),
    ("`sources.NAME`, `kind: git`", "GitSource"),
    ("`sources.NAME`, `kind: sqlite`", "SqliteSource"),
    ("`sources.NAME`, `kind: command`", "CommandSource"),
    ("`sources.NAME`, `kind: postgresql`", "PostgresqlSource"),
    ("`sources.NAME`, `kind: mysql`", "MysqlSource"),
    ("`sources.NAME`, `kind: bigquery`", "BigQuerySource"),
    ("`sources.NAME`, `kind: bucket`", "BucketSource"),
    ("`sources.NAME`, `kind: pgbackrest`", "PgbackrestSource"),
    ("`sources.NAME`, `kind: barman`", "BarmanSource"),
    ("`sources.NAME`, `kind: cloudsql`", "CloudsqlSource"),
    ("`sources.NAME.expects`", "CloudsqlExpects"),
    ("`sources.NAME`, `kind: wal-g`", "WalGSource"),
    ("`sources.NAME`, `kind: pgbackrest`, `barman` or `wal-g`", "KeptElsewhere"),
    ("`sources.NAME.repositories.NAME`", "KeptRepository"),
    ("`alerts`", "Alerts"),
    ("`alerts.channels.NAME`, every kind", "AnyChannel"),
    ("`alerts.channels.NAME`, `kind: smtp`", "SmtpChannel"),
    ("`alerts.channels.NAME`, `kind: webhook`", "WebhookChannel"),
    ("`alerts.channels.NAME`, `kind: apprise`", "AppriseChannel"),
    ("`alerts.people.NAME`", "Person"),
    ("`alerts.rules.NAME`", "AlertRule"),
    ("`alerts.quiet`", "QuietHours"),
    ("`worker`", "Worker"),
    ("`worker.heavy_work` (a list)", "HeavyWindow"),
    ("`report_to`", "ReportTo"),
    ("`report_to.bigquery`", "BigQueryReport"),
    ("`exclude` (a list)", "Exclusion"),
    ("`governance`", "Governance"),
    ("`governance.documents` (a list)", "GoverningDocument"),
    ("`governance.approvals`", "Approvals"),
)
_SHARED = ("KeptElsewhere", "AnySource", "AnyChannel")
"""What has a table of its own, and is left out of the tables of its kinds."""


def tables() -> str:
    """Every section with a table of its settings, in Markdown, between `BEGIN` and `END`."""
    schema, models = json_schema(), parts()
    lines = [BEGIN]
    for title, part in _SECTIONS:
        model = models[part]
        properties = _properties(schema, model)
        lines += ["", f"### {title}", "", model.__doc__ or "", ""]
        lines += ["| Setting | May be | Left out | What it says |", "|---|---|---|---|"]
        bases = [models[name] for name in _SHARED if name != part and issubclass(model, models[name])]
        shared = bases[0].model_fields if bases else {}
        for name, field in model.model_fields.items():
            if name in shared:
                continue
            key = field.alias or name
            lines.append(f"| `{key}` | {_may_be(properties[key])} | {_left_out(field)} | {descriptions(model)[name]} |")
    return "\n".join([*lines, *_built_in(), "", END])


def _properties(schema: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """What the schema says of a part's settings: where several share it, what it says of the first of them."""
    definitions = {PolicyFile.__name__: schema, **schema["$defs"]}
    found: dict[str, Any] = next(
        definition["properties"] for name, definition in definitions.items() if issubclass(parts()[name], model)
    )
    return found


def _built_in() -> list[str]:
    """What every policy has without saying so."""
    lines = ["", "### Built-in categories", ""]
    lines += ["| Category | RPO | RTO | Point in time | Copies | Storage types | Off-site | Read within | Rung |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for name, category in CATEGORIES.items():
        cells = (
            f"{name}: {category.title}",
            format_duration(category.rpo),
            format_duration(category.rto),
            "yes" if category.point_in_time else "no",
            str(category.copies),
            str(category.storage_types),
            "yes" if category.off_site else "no",
            format_duration(category.read_within),
            category.rung.name.lower(),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += _built_in_rules()
    lines += ["", "### Built-in classes", "", "| Class | Data | Category | Triggers | Retention | Test |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, kind in CLASSES.items():
        retention = format_retention(kind.retention) if kind.retention else "**must be given**"
        triggers, test = format_triggers(kind.triggers), format_cadence(kind.test_every)
        lines.append(f"| `{name}` | {kind.title} | {kind.category} | {triggers} | {retention} | {test} |")
    return lines


def _built_in_rules() -> list[str]:
    lines = ["", "### Built-in rules of alerts", ""]
    lines += ["| Rule | When | Category | After | Tell | Then | Repeat | Step up | Urgent |", "|" + "---|" * 9]
    for rule in DEFAULT_RULES:
        limit = "its RTO" if rule.when is Trouble.RECOVERY_LATE else "its RPO" if rule.when is Trouble.NO_BACKUP else ""
        cells = (
            f"`{rule.name}`",
            f"`{rule.when}`",
            rule.category or "any",
            format_duration(rule.after) if rule.after else limit,
            ", ".join(rule.tell),
            ", ".join(rule.then),
            format_duration(rule.repeat),
            format_duration(rule.step_up) if rule.then else "",
            "yes" if rule.urgent else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def with_tables(page: str) -> str:
    """A page with its tables brought up to date."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + tables() + after


def _left_out(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be given**"
    default = field.default
    if default is None or default in ({}, []):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _may_be(part: dict[str, object]) -> str:
    """What a setting may be, in a few words, with an example where that says more."""
    example = part.get("examples") or next(
        (choice["examples"] for choice in _choices(part) if choice.get("examples")), None
    )
    said = _kind(part)
    if isinstance(example, list) and example and not _is_closed(part):
        shown = ", ".join(f"`{_shown(one)}`" for one in example[:3])
        return f"{said}: {shown}"
    return said


def _choices(part: dict[str, object]) -> list[dict[str, object]]:
    choices = part.get("anyOf")
    return choices if isinstance(choices, list) else []


def _is_closed(part: dict[str, object]) -> bool:
    return "enum" in part or "const" in part


def _kind(part: dict[str, object]) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if isinstance(names := part.get("enum"), list):
        return ", ".join(f"`{name}`" for name in names[:10]) if len(names) <= 10 else "a class, see below"
    choices = _choices(part)
    if any("enum" in choice for choice in choices):
        return _kind(next(choice for choice in choices if "enum" in choice)) + ", or your own"
    if any(choice.get("type") == "array" for choice in choices):
        return "text, or a list of texts"
    if part.get("type") == "integer":
        bounds = f" from {part['minimum']} to {part['maximum']}" if "minimum" in part else ""
        return f"whole number{bounds}"
    names = {"string": "text", "boolean": "`true`, `false`", "array": "list", "object": "settings by name"}
    return names.get(str(part.get("type")), "settings, see below")


def _shown(example: object) -> str:
    shown = str(example)
    return shown.replace("'", '"').replace("|", "\\|") if isinstance(example, list | dict) else shown
