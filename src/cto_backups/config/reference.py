"""The tables of `docs/reference/policy-file.md`, made from the models that check the file."""

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cto_backups.config import (
    alert_models,
    bandwidth_models,
    cloudsql_models,
    elsewhere_models,
    governance_models,
    models,
    price_models,
    report_models,
    vault_models,
)
from cto_backups.config.descriptions import descriptions
from cto_backups.config.schema import json_schema
from cto_backups.core.alerts import DEFAULT_RULES, Trouble
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import format_cadence, format_duration
from cto_backups.core.retention import format_retention
from cto_backups.core.schedule import format_triggers

PLACE = "docs/reference/policy-file.md"
BEGIN = "<!-- settings: made from the models; `tools/policy-reference` writes them anew -->"
END = "<!-- end of settings -->"

_SECTIONS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("The file", "", models.PolicyFile),
    ("`keys`", "Keys", models.Keys),
    ("`keys.escrow`", "Escrow", models.Escrow),
    ("`vaults.NAME`", "Vault", models.Vault),
    ("`vaults.NAME.bandwidth` (a list)", "BandwidthLimit", bandwidth_models.BandwidthLimit),
    ("`vaults.NAME.prices`", "Prices", price_models.Prices),
    ("`vaults.NAME.settings`", "VaultSettings", vault_models.VaultSettings),
    ("`categories.NAME`", "Category", models.Category),
    ("`classes.NAME`", "DataClass", models.DataClass),
    ("`sources.NAME`, every kind", "FilesSource", models.AnySource),
    ("`sources.NAME`, `kind: files`", "FilesSource", models.FilesSource),
    ("`sources.NAME`, `kind: git`", "GitSource", models.GitSource),
    ("`sources.NAME`, `kind: sqlite`", "SqliteSource", models.SqliteSource),
    ("`sources.NAME`, `kind: command`", "CommandSource", models.CommandSource),
    ("`sources.NAME`, `kind: postgresql`", "PostgresqlSource", models.PostgresqlSource),
    ("`sources.NAME`, `kind: mysql`", "MysqlSource", models.MysqlSource),
    ("`sources.NAME`, `kind: bigquery`", "BigQuerySource", models.BigQuerySource),
    ("`sources.NAME`, `kind: bucket`", "BucketSource", models.BucketSource),
    ("`sources.NAME`, `kind: pgbackrest`", "PgbackrestSource", models.PgbackrestSource),
    ("`sources.NAME`, `kind: barman`", "BarmanSource", models.BarmanSource),
    ("`sources.NAME`, `kind: cloudsql`", "CloudsqlSource", models.CloudsqlSource),
    ("`sources.NAME.expects`", "CloudsqlExpects", cloudsql_models.CloudsqlExpects),
    ("`sources.NAME`, `kind: wal-g`", "WalGSource", models.WalGSource),
    ("`sources.NAME`, `kind: pgbackrest`, `barman` or `wal-g`", "BarmanSource", elsewhere_models.KeptElsewhere),
    ("`sources.NAME.repositories.NAME`", "KeptRepository", elsewhere_models.KeptRepository),
    ("`alerts`", "Alerts", alert_models.Alerts),
    ("`alerts.channels.NAME`, every kind", "SmtpChannel", alert_models.AnyChannel),
    ("`alerts.channels.NAME`, `kind: smtp`", "SmtpChannel", alert_models.SmtpChannel),
    ("`alerts.channels.NAME`, `kind: webhook`", "WebhookChannel", alert_models.WebhookChannel),
    ("`alerts.channels.NAME`, `kind: apprise`", "AppriseChannel", alert_models.AppriseChannel),
    ("`alerts.people.NAME`", "Person", alert_models.Person),
    ("`alerts.rules.NAME`", "AlertRule", alert_models.AlertRule),
    ("`alerts.quiet`", "QuietHours", alert_models.QuietHours),
    ("`report_to`", "ReportTo", report_models.ReportTo),
    ("`report_to.bigquery`", "BigQueryReport", report_models.BigQueryReport),
    ("`exclude` (a list)", "Exclusion", models.Exclusion),
    ("`governance`", "Governance", governance_models.Governance),
    ("`governance.documents` (a list)", "GoverningDocument", governance_models.GoverningDocument),
    ("`governance.approvals`", "Approvals", governance_models.Approvals),
)
_SHARED = (elsewhere_models.KeptElsewhere, models.AnySource, alert_models.AnyChannel)
"""What has a table of its own, and is left out of the tables of its kinds."""


def tables() -> str:
    """Every section with a table of its settings, in Markdown, between `BEGIN` and `END`."""
    schema = json_schema()
    parts = [BEGIN]
    for title, definition, model in _SECTIONS:
        properties = (schema["$defs"][definition] if definition else schema)["properties"]
        parts += ["", f"### {title}", "", model.__doc__ or "", ""]
        parts += ["| Setting | May be | Left out | What it says |", "|---|---|---|---|"]
        shared = next((base.model_fields for base in _SHARED if issubclass(model, base) and model is not base), {})
        for name, field in model.model_fields.items():
            if name in shared:
                continue
            key = field.alias or name
            parts.append(f"| `{key}` | {_may_be(properties[key])} | {_left_out(field)} | {descriptions(model)[name]} |")
    return "\n".join([*parts, *_built_in(), "", END])


def _built_in() -> list[str]:
    """What every policy has without saying so."""
    parts = ["", "### Built-in categories", ""]
    parts += ["| Category | RPO | RTO | Point in time | Copies | Storage types | Off-site | Read within | Rung |"]
    parts += ["|---|---|---|---|---|---|---|---|---|"]
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
        parts.append(f"| {' | '.join(cells)} |")
    parts += _built_in_rules()
    parts += ["", "### Built-in classes", "", "| Class | Data | Category | Triggers | Retention | Test |"]
    parts += ["|---|---|---|---|---|---|"]
    for name, kind in CLASSES.items():
        retention = format_retention(kind.retention) if kind.retention else "**must be given**"
        triggers, test = format_triggers(kind.triggers), format_cadence(kind.test_every)
        parts.append(f"| `{name}` | {kind.title} | {kind.category} | {triggers} | {retention} | {test} |")
    return parts


def _built_in_rules() -> list[str]:
    parts = ["", "### Built-in rules of alerts", ""]
    parts += ["| Rule | When | Category | After | Tell | Then | Repeat | Step up | Urgent |", "|" + "---|" * 9]
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
        parts.append(f"| {' | '.join(cells)} |")
    return parts


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
