"""The table of commands: what `--help` lists of each, and the "module:function" that it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A command: its name, where its function is, its line in the list of commands, and examples of its use.

    With commands `below`, the function answers for the name alone.
    """

    name: str
    function: str
    short: str
    examples: tuple[str, ...]
    below: tuple["Entry", ...] = ()


_POINT = "contracts-20261123T100000Z-1a2b"
_ROTATE = ("key rotate", "key rotate --vault cloud")
_SEPARATE = ("key separate cloud",)
_ESCROW = ("key escrow", "key escrow --pages /media/usb", "key escrow --print 'lp -d safe'")
_DRILL = ("key drill", "key drill /mnt/disk --report drill.json", "key drill --accept drill.json")

COMMANDS = (
    Entry(
        "quickstart",
        "quickstart:quickstart",
        "From nothing to proven backups, in one go",
        ("quickstart", "quickstart ~/projects --home ~/backups"),
    ),
    Entry(
        "init",
        "init:init",
        "Make a new installation",
        ("init", "init /srv/backups --business acme --protect /srv/data"),
    ),
    Entry(
        "backup",
        "backup:backup",
        "Back up now, and copy to every vault",
        ("backup", "backup contracts --before 'schema migration 42'"),
    ),
    Entry(
        "status",
        "status:status",
        "How well each source is protected right now",
        ("status", "status contracts", "status --json"),
    ),
    Entry(
        "audit",
        "audit:audit",
        "Where protection falls short, and what to do",
        ("audit", "audit --fail-on high --look /srv", "audit --format html --output audit.html"),
    ),
    Entry("hosts", "hosts:hosts", "The hosts of a fleet, and whether they live", ("hosts", "hosts --json")),
    Entry("verify", "verify:verify", "Re-read what vaults store", ("verify", "verify one --part 1/7")),
    Entry(
        "test",
        "restore_test:test",
        "Prove by restoring that data comes back",
        ("test", "test contracts --vault two", f"test --point {_POINT}"),
    ),
    Entry(
        "evidence",
        "evidence:evidence",
        "What was proven; hand it to an auditor",
        ("evidence list contracts", "evidence export --since 2026-01-01 --for auditor.zip"),
        (
            Entry(
                "list", "evidence:list_evidence", "List restore tests and verifications", ("evidence list --failed",)
            ),
            Entry(
                "show", "evidence:show", "Show one with its signed record", ("evidence show test-contracts-20261123",)
            ),
            Entry(
                "export",
                "evidence:export",
                "Write the signed records for an auditor",
                ("evidence export --since 2026-01-01 --for auditor.zip",),
            ),
            Entry(
                "verify",
                "evidence:verify",
                "Find records that were tampered with",
                ("evidence verify", "evidence verify auditor.zip --heads heads.txt", "evidence verify --vault one"),
            ),
        ),
    ),
    Entry(
        "schedule",
        "schedule:schedule",
        "When everything runs; change it",
        ("schedule", "schedule --ahead '1 day'", "schedule set contracts 'hourly, daily at 02:00'"),
        (
            Entry(
                "set",
                "schedule:set_triggers",
                "Change when a source runs",
                ("schedule set contracts 'hourly, daily at 02:00'",),
            ),
        ),
    ),
    Entry(
        "restore",
        "restore:restore",
        "Bring data back: newest, a point, a point in time",
        (
            "restore contracts --to /tmp/contracts",
            "restore contracts --at 'yesterday 9:00' --to /tmp/c --only '*.pdf'",
            f"restore {_POINT} --in-place --overwrite",
            "restore shop --at '10:07' --database ledger --table sales.orders",
        ),
    ),
    Entry(
        "points",
        "points:points",
        "List recovery points, or show one",
        ("points", "points contracts --limit 5", f"points {_POINT}"),
    ),
    Entry(
        "ls",
        "ls:ls",
        "List what is in a point",
        ("ls contracts", f"ls {_POINT} /srv/contracts --long", "ls contracts --at yesterday --recursive"),
    ),
    Entry(
        "find",
        "find:find",
        "Find a file in all points, through time",
        ("find report.txt", "find '*.pdf' --source contracts --since '7 days ago'"),
    ),
    Entry(
        "cat",
        "cat:cat",
        "Write one file of a point to stdout",
        ("cat contracts /srv/contracts/a.pdf > a.pdf", "cat contracts a.txt --at yesterday"),
    ),
    Entry(
        "diff",
        "diff:diff",
        "What changed from one point to another",
        (f"diff {_POINT} contracts", f"diff {_POINT} contracts /srv/contracts"),
    ),
    Entry(
        "expire",
        "expire:expire",
        "Drop points that retention no longer keeps",
        ("expire --dry-run", "expire contracts"),
    ),
    Entry(
        "retention",
        "retention:retention",
        "How long points are kept; what that comes to",
        ("retention", "retention simulate contracts --days 400 --price 0.02"),
        (
            Entry(
                "simulate",
                "retention:simulate",
                "Show which points there would be",
                ("retention simulate", "retention simulate contracts --days 400 --price 0.02"),
            ),
        ),
    ),
    Entry(
        "alerts",
        "alerts:alerts",
        "Who was told what is wrong, and who answers",
        ("alerts", "alerts ack alert-20261123 --note 'on it'", "alerts test"),
        (
            Entry("list", "alerts:list_alerts", "List the alerts", ("alerts list", "alerts list --all --json")),
            Entry("show", "alerts:show", "All of one alert", ("alerts show alert-20261123T100000Z-1a2b",)),
            Entry(
                "ack",
                "alerts:ack",
                "Answer: you take care of it",
                ("alerts ack alert-20261123T100000Z-1a2b --note 'on it'",),
            ),
            Entry("test", "alerts:test", "Send everybody a test", ("alerts test", "alerts test cto")),
            Entry(
                "drill",
                "alerts:drill",
                "An exercise: how long until somebody answers",
                ("alerts drill", "alerts drill --wait '10 minutes'"),
            ),
            Entry("run", "alerts:run", "Tell people now what is wrong", ("alerts run",)),
        ),
    ),
    Entry(
        "hold",
        "hold:hold",
        "Legal holds: keep points until released",
        ("hold", "hold add contracts --reason 'case 4711'"),
        (
            Entry("list", "hold:list_holds", "List the legal holds", ("hold list", "hold list --all")),
            Entry(
                "add",
                "hold:add",
                "Hold a source or one point",
                ("hold add contracts --reason 'case 4711'", f"hold add {_POINT} --reason 'case 4711'"),
            ),
            Entry(
                "release",
                "hold:release",
                "End a hold",
                ("hold release hold-20261123T100000Z-1a2b --reason 'case closed'",),
            ),
        ),
    ),
    Entry(
        "anomaly",
        "anomaly:anomaly",
        "Points whose change looks like an attack",
        ("anomaly", f"anomaly clear {_POINT} --reason 'meant'"),
        (
            Entry(
                "list", "anomaly:list_marks", "List the points under suspicion", ("anomaly list", "anomaly list --all")
            ),
            Entry(
                "clear",
                "anomaly:clear",
                "Say that a change was meant",
                (f"anomaly clear {_POINT} --reason 'meant'",),
            ),
        ),
    ),
    Entry(
        "approvals",
        "approvals:approvals",
        "What waits for an approval, and what was approved",
        ("approvals", "approvals --all"),
    ),
    Entry(
        "approve",
        "approvals:approve",
        "Approve destructive work, or deny it",
        (
            "approve approval-20261123T100000Z-1a2b --reason 'legal agreed'",
            "approve approval-20261123T100000Z-1a2b --deny --reason 'not yet'",
        ),
    ),
    Entry(
        "prune",
        "prune:prune",
        "Reclaim bytes that no point needs",
        ("prune --dry-run", "prune one"),
    ),
    Entry(
        "key",
        "key:key",
        "The keys that open vaults; rotate, escrow, drill",
        ("key", "key add --make /media/usb/spare.key", "key rotate"),
        (
            Entry("list", "key:list_keys", "List the keys of each vault", ("key list", "key list --vault one")),
            Entry(
                "add",
                "key:add",
                "Let one more secret open vaults",
                ("key add --make /media/usb/spare.key", "key add --new env:SPARE --vault one"),
            ),
            Entry(
                "remove",
                "key:remove",
                "Take away what a secret opens vaults with",
                ("key remove 1f0c9a4be2d7", "key remove --opened-by file:/media/usb/spare.key"),
            ),
            Entry("rotate", "key:rotate", "Exchange the secrets that open vaults", _ROTATE),
            Entry("separate", "key_separate:separate", "Let a vault open with its own key alone", _SEPARATE),
            Entry("wrap", "key_wrap:wrap", "Wrap the secret with key services", ("key wrap", "key wrap --anew")),
            Entry("escrow", "key_escrow:escrow", "Hand out word shares to custodians", _ESCROW),
            Entry("drill", "key_drill:drill", "Open vaults with custodians' shares alone", _DRILL),
        ),
    ),
    Entry(
        "vault",
        "vault:vault",
        "The vaults, what each lacks; make a new one",
        ("vault", "vault init disk", "vault fill disk"),
        (
            Entry("init", "vault:init", "Make a vault that the policy names", ("vault init disk",)),
            Entry("fill", "vault:fill", "Bring a vault the points that it lacks", ("vault fill disk",)),
            Entry("check", "vault_check:check", "Try out what a vault's store enforces", ("vault check cloud",)),
            Entry("plan", "vault_settings:plan", "How a vault's bucket is set, and is to be", ("vault plan cloud",)),
            Entry("apply", "vault_settings:apply", "Set a vault's bucket as policy asks", ("vault apply cloud",)),
            Entry(
                "renew",
                "vault:renew",
                "Look at the locks in vaults, and renew them",
                ("vault renew", "vault renew cloud"),
            ),
            Entry(
                "undelete",
                "vault:undelete",
                "Bring back what was deleted or replaced while locked",
                ("vault undelete cloud --dry-run", "vault undelete cloud"),
            ),
        ),
    ),
    Entry(
        "source",
        "source:source",
        "The sources of the policy; try out a service",
        ("source", "source check analytics"),
        (
            Entry(
                "check",
                "source:check",
                "Try out what backups rely on of a service",
                ("source check analytics", "source check analytics --dry-run"),
            ),
        ),
    ),
    Entry(
        "cloudsql",
        "cloudsql:cloudsql",
        "Backups that Cloud SQL keeps itself; restore one",
        ("cloudsql", "cloudsql backups ledger"),
        (
            Entry("backups", "cloudsql:backups", "List those of one source", ("cloudsql backups ledger",)),
            Entry(
                "restore",
                "cloudsql:restore",
                "Have Cloud SQL restore one of them",
                ("cloudsql restore ledger latest --into ledger-back", "cloudsql restore ledger 1700000 --in-place"),
            ),
        ),
    ),
    Entry(
        "repair",
        "repair:repair",
        "Put right what is damaged in vaults",
        ("repair --dry-run", "repair one", "repair one --index-only"),
    ),
    Entry(
        "adopt",
        "adopt:adopt",
        "Take over a repository that restic made",
        ("adopt /mnt/disk/restic --password file:old.key --dry-run", "adopt /mnt/disk/restic --password env:OLD"),
    ),
    Entry(
        "catalog",
        "catalog:catalog",
        "What the catalog holds; rebuild it from vaults, or move it",
        ("catalog", "catalog rebuild", "catalog move --from sqlite:catalog.db"),
        (
            Entry(
                "rebuild",
                "catalog:rebuild",
                "Bring in what records in vaults say",
                ("catalog rebuild", "catalog rebuild --from two"),
            ),
            Entry(
                "move",
                "catalog:move",
                "Bring it to where the policy says now",
                ("catalog move --from sqlite:catalog.db",),
            ),
        ),
    ),
    Entry(
        "host",
        "host:host",
        "Hosts with a trust domain of their own; enrol, revoke",
        ("host", "host enrol web1 --protect /srv --bundle web1.bundle", "host revoke web1"),
        (
            Entry(
                "enrol",
                "host:enrol",
                "Give a host repositories, keys and logins",
                ("host enrol web1 --protect /srv/www --bundle web1.bundle",),
            ),
            Entry(
                "join",
                "host:join",
                "Make the installation, on the host",
                ("host join web1.bundle", "host join web1.bundle --home /srv/backups"),
            ),
            Entry(
                "revoke",
                "host:revoke",
                "End what a host may do",
                ("host revoke web1", "host revoke web1 --done cloud-web1"),
            ),
        ),
    ),
    Entry("report", "report:report", "Write what is known where dashboards look", ("report", "report --again")),
    Entry("worker", "worker:worker", "Do what is due, until stopped", ("worker", "worker --once")),
    Entry(
        "install-service",
        "install_service:install_service",
        "Let the system run the worker by itself",
        ("install-service systemd", "install-service systemd --write", "install-service cron --every '15 min'"),
    ),
    Entry("version", "version:version", "Show the version", ("version", "version --json")),
)
