"""A commented backups.yaml for a new installation: every line explains itself, and `load` accepts it."""

import json
from collections.abc import Mapping

from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import format_duration

_HEAD = """\
# What must survive, and how fast it must be back. cto.backups reads this file at every start.
# Check it with 'cto.backups status'; every setting is described in docs/reference/policy-file.md.
version: 1

# The name of the business, in every report.
business: {business}

# Calendar times ("daily at 02:00") are in this time zone.
timezone: {timezone}

# References to keys, never the keys themselves: file:PATH, env:NAME or command:CMD.
# Keep a copy of the repository key away from this machine: without it no backup opens again.
keys:
  repository: file:keys/repository.key
  evidence: file:keys/evidence.key

# The catalog of recovery points and evidence, and the folder for caches and restore tests. Relative to this file.
catalog: sqlite:catalog.db
state: state

# zstd level, and whether every sealed blob is opened again before it counts as stored (full), or a sample (sampled).
compression: 3
verify_on_write: full

# Places for copies. Copies that share provider and region can be lost together; the audit says where that is so.
vaults:
"""

_CLASSES_HEAD = """
# What is protected. A source takes category, triggers, retention and restore tests from its class; each can be
# overridden here: triggers: "hourly, daily at 02:00", retention: "1 year", test: monthly, vaults: [one, two].
"""


def render(
    *,
    business: str,
    sources: Mapping[str, Mapping[str, object]],
    vaults: Mapping[str, Mapping[str, object]],
    timezone: str = "UTC",
) -> str:
    """The file's text. `sources` and `vaults` map names to their settings, as the file writes them."""
    lines = [_HEAD.format(business=_value(business), timezone=_value(timezone)).rstrip("\n")]
    for name, settings in vaults.items():
        lines += [f"  {_value(name)}:", *_settings(settings)]
    lines.append(_CLASSES_HEAD.rstrip("\n"))
    lines += [f"# {line}" for line in _classes()]
    lines.append("sources:")
    for name, settings in sources.items():
        lines += [f"  {_value(name)}:", *_settings(settings)]
    lines += ["", "# What is left out on purpose, so that the audit does not ask:", "# exclude:"]
    lines += [
        "#   - resource: sqlite:/tmp/scratch.db",
        "#     reason: made anew each night",
        "#     owner: cto@example.com",
        "#     until: 2027-12-31",
    ]
    return "\n".join(lines) + "\n"


def _settings(settings: Mapping[str, object]) -> list[str]:
    return [f"    {name}: {_value(value)}" for name, value in settings.items()]


def _value(value: object) -> str:
    """A value in YAML. JSON is YAML; a text that can only be a text stays without quotes, for people."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalpha() and value.isascii():
        return value if value.lower() not in {"true", "false", "null", "yes", "no", "on", "off"} else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def _classes() -> list[str]:
    """The classes there are, by category, with what the category promises."""
    lines = []
    for category in CATEGORIES.values():
        names = ", ".join(name for name, data_class in CLASSES.items() if data_class.category == category.name)
        promise = f"lose at most {format_duration(category.rpo)}, back within {format_duration(category.rto)}"
        lines += [f"Category {category.name} ({category.title}: {promise}):", f"  {names}"]
    return lines
