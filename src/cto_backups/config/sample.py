"""A commented backups.yaml for a new installation: every line explains itself, and `load` accepts it."""

from collections.abc import Mapping

from cto_backups.config.writing import lines, value
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import format_duration

KEYS = {"repository": "file:keys/repository.key", "evidence": "file:keys/evidence.key"}

_HEAD = """\
# What must survive, and how fast it must be back. cto.backups reads this file at every start.
# docs/reference/policy-file.md describes every setting; a mistake is told with its line and what is allowed.
version: 1

# The business whose data this is, as every report names it.
business: {business}

# Calendar times ("daily at 02:00") are in this time zone.
timezone: {timezone}

# References to the keys, never the keys themselves: file:PATH, env:NAME or command:CMD.
# Keep a copy of the repository key away from this machine: without it no vault opens again.
# Whoever takes both can read the data and sign false evidence: keep one of them in another place.
keys:
  repository: {repository}
  evidence: {evidence}
  # Records count only when one of these keys signed them; 'cto.backups evidence verify' tells the fingerprints:
  # evidence_fingerprints: ["64 hexadecimal digits"]

# The catalog of recovery points and evidence, and the folder for caches and restore tests; relative to this file.
catalog: {catalog}
state: {state}

# The zstd level, from 1 (fast) to 19 (small).
compression: 3

# What is opened again and compared before it counts as stored: full, or sampled.
verify_on_write: full

# Places for copies. Copies of one provider in one region can be lost together; the audit says where that is so.
# One that is off-site gets a key of its own, such as key: file:keys/NAME.key; 'cto.backups vault init' makes it.
vaults:"""

_SOURCES_HEAD = """
# What is protected. A class gives category, triggers, retention and restore tests; a source can override each:
#   triggers: "hourly, daily at 02:00"
#   retention: 1 year
#   test: monthly
#   vaults: [{vaults}]
#   owner: cto@example.com
#
# The classes, by category:"""

_ALERTS = """
# Who is told when something is wrong; without anybody, failures wait until somebody looks. More: docs/how-to/be-told.md
# alerts:
#   channels:
#     mail: {kind: smtp, host: mail.example.com, user: backups, password: file:keys/mail, sender: backups@example.com}
#     pager: {kind: webhook, url: env:PAGER_URL, pages: true}
#   people:
#     red-phone: {reach: [pager]}
#     cto: {reach: [mail cto@example.com]}
"""

_EXCLUDE = """
# What is left out on purpose, so that the audit does not ask about it:
# exclude:
#   - resource: sqlite:/tmp/scratch.db
#     reason: made anew each night
#     owner: cto@example.com
#     until: 2027-12-31
"""

HINTS = {
    "url": "where it is",
    "provider": "who runs it",
    "region": "where it stands",
    "storage": "the type of storage",
    "off_site": "whether it survives the loss of this place",
    "lock": "how strongly it protects stored files: none, governance, compliance",
    "lock_for": "how long it locks at a time",
    "legal_holds": "what holds do there: renewed, or stored",
    "endpoint": "the address of its server, where it is not the provider's own",
    "tls": "the lowest version of TLS on the way there",
    "access_key": "where the id of the access key is",
    "secret_key": "where its secret is",
    "credentials": "where the key file of a service account is",
    "access": "what this host does there: full, or append-only",
    "exports": "whether exports lie there as plain objects: sealed, plain",
    "kms_key": "the key under which its provider encrypts",
    "on_host": "in a fleet, the host that has it, or * for every host",
    "repository": "where the repository lies inside",
    "key": "where the secret is that opens it alone",
    "domain_of": "the enrolled host whose own it is",
    "copies": "when copies come there; each at once when left out",
    "checks": "when the worker tries out what its store enforces",
    "bandwidth": "how fast what travels there may go, by the time of day",
    "prices": "what its provider charges",
    "read_part": "how much of it one scheduled verification reads",
    "settings": "how its bucket has to be set",
    "kind": "what it is, such as files, git or postgresql",
    "class": "what kind of data it is",
    "category": "its objectives",
    "triggers": "when it is backed up",
    "retention": "how long its recovery points are kept",
    "test": "how often it is restored as a test",
    "vaults": "where its copies go",
    "owner": "who answers for it",
    "before": "what is run before each capture",
    "after": "what is run after each capture",
    "hook_timeout": "how long each of them may take",
    "probe": "what a restore test runs on what came back",
    "probe_timeout": "how long that may take",
    "backup_timeout": "how long a backup may work there before it is ended",
    "expects_change": "how often something in it changes at least",
    "paths": "what to protect",
    "include": "only what matches one of these shell patterns",
    "exclude": "what to leave out, as shell patterns",
    "payload": "how its points are kept: snapshot, or export",
    "one_file_system": "whether to leave out what is mounted below",
    "lfs": "whether to fetch Git LFS objects: auto, yes, no",
    "path": "the database file",
    "lock_timeout": "how long to wait for a program that holds it",
    "command": "what to run: what it prints is protected",
    "filename": "the name under which it is kept",
    "restore_command": "what reads it when it is restored in place",
    "test_command": "what tries it in a restore test",
    "timeout": "how long it may be silent",
    "environment": "variables for it, by references",
}
"""What a setting is for, said behind its first use."""


def render(
    *,
    business: str,
    sources: Mapping[str, Mapping[str, object]],
    vaults: Mapping[str, Mapping[str, object]],
    timezone: str = "UTC",
    keys: Mapping[str, str] = KEYS,
    catalog: str = "sqlite:catalog.db",
    state: str = "state",
) -> str:
    """The file's text. `sources` and `vaults` map names to their settings as the file writes them.

    `keys` holds the references to the two keys. What is not valid is written as it is, and refused by `load`.
    """
    head = {"business": business, "timezone": timezone, **keys, "catalog": catalog, "state": state}
    told: set[str] = set()
    text = [_HEAD.format(**{name: value(part) for name, part in head.items()})]
    for name, settings in vaults.items():
        text += [f"  {value(name)}:", *_explained(settings, told)]
    text += [_SOURCES_HEAD.format(vaults=", ".join(vaults)), *_classes(), "sources:"]
    told.clear()
    for name, settings in sources.items():
        text += [f"  {value(name)}:", *_explained(settings, told)]
    return "\n".join([*text, _ALERTS.rstrip("\n"), _EXCLUDE])


def _explained(settings: Mapping[str, object], told: set[str]) -> list[str]:
    """One line for each setting; the first of each name says what it is for, unless the line is long."""
    explained = []
    for name, line in zip(settings, lines(settings, 4), strict=True):
        hint = HINTS.get(name, "")
        if hint and name not in told and len(line) + len(hint) < 116:
            line = f"{line:<40}  # {hint}"
        told.add(name)
        explained.append(line)
    return explained


def _classes() -> list[str]:
    """The classes there are, by category, with what the category promises."""
    shown = []
    for category in CATEGORIES.values():
        names = [name for name, data_class in CLASSES.items() if data_class.category == category.name]
        promise = f"lose at most {format_duration(category.rpo)}, back within {format_duration(category.rto)}"
        shown += [f"# - {category.name}, {category.title} ({promise}):", f"#     {', '.join(names)}"]
    return shown
