"""`quickstart`: from nothing to proven backups of real data, in one go."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cto_backups.cli import audit, backup, documents, figures, init, next_steps, restore_test, status, verify
from cto_backups.cli.attempts import attempt
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen
from cto_backups.errors import BackupsError, ExitStatus, NotFoundError, UsageError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.flows.protect import Protected


@dataclass
class _Tour:
    """What happened so far: the numbered steps, the answers for JSON, and how each thing ended."""

    screen: Screen
    number: int = 0
    document: documents.Document = field(default_factory=dict)
    statuses: list[ExitStatus] = field(default_factory=list)

    def step(self, title: str) -> None:
        """Begin the next numbered step."""
        from rich.text import Text

        self.number += 1
        if self.screen.talks:
            self.screen.show("")
            self.screen.show(Text(f"{self.number}. {title}", style="bold"))

    def failed(self, error: BackupsError) -> documents.Document:
        """Note an error that has been shown, and go on."""
        self.statuses.append(error.exit_status)
        return {"error": as_document(error)}


@command
def quickstart(
    screen: Screen,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Protect what is found below this folder.")
    ] = None,
    home: Annotated[
        Path, typer.Option("--home", metavar="FOLDER", help="Where policy, keys, vaults and catalog go.")
    ] = Path("cto-backups"),
) -> ExitStatus:
    """Find data, protect it in three local vaults, prove that it comes back, and show status and audit.

    A second run uses what the first one made, and is incremental.
    """
    from cto_backups import app

    place = folder or Path()
    if not place.is_dir():
        raise NotFoundError(f"There is no folder {place}", todo="Name a folder with data to protect.")
    policy = app.find_policy(home)
    again = policy.is_file()
    tour = _Tour(screen)
    if again and folder is not None and not app.covers(policy, folder):
        raise UsageError(
            f"{folder} is not among what this installation protects",
            why=f"{policy} was made for other data",
            todo="Make an installation of its own with --home FOLDER, or add it to the sources there.",
        )
    if again:
        tour.step("Use the installation that is there")
        screen.show(f"  {policy}: this is a second run, so it is incremental.")
    else:
        policy = _make(tour, place, home)
    tour.document |= {"policy": str(policy), "second_run": again}
    screen.options = replace(screen.options, policy=policy)
    with opened(screen) as opening:
        _prove(tour, opening, again=again)
        result = worst(tour.statuses)
        screen.document({"status": int(result), **tour.document})
        return result


def _make(tour: _Tour, folder: Path, home: Path) -> Path:
    """Make the installation; its policy file."""
    from cto_backups.app import starting

    screen = tour.screen
    tour.step(f"Look below {folder.resolve()}")
    sources = starting.suggest_sources(folder, home)
    for name, mapping in sources.items():
        where = mapping.get("paths") or mapping.get("url") or mapping.get("path")
        screen.show(f"  {name}: {mapping['kind']}, {where[0] if isinstance(where, list) else where}")
    tour.step("Write the policy, create the keys, three vaults and a catalog")
    policy = starting.initialise(home, business=init.default_business(), sources=sources)
    key = policy.parent / "keys" / "repository.key"
    screen.show(f"  {policy}: edit it to say what must survive")
    screen.show(f"  {key}: the key")
    screen.show(f"  {init.keep_the_key(key)}")
    screen.show(f"  {init.part_the_keys(policy)}")
    tour.document |= {"found": sources, "key": str(key)}
    return policy


def _prove(tour: _Tour, opening: "Opened", *, again: bool) -> None:
    from cto_backups.flows.protect import protect
    from cto_backups.flows.restore_test import restore_test as prove
    from cto_backups.flows.status import status as judge
    from cto_backups.flows.verify import verify as verify_vault

    screen, installation = tour.screen, opening.installation
    names = list(opening.configuration.policy.sources)
    tour.step("Back up each source, and copy it to every vault")
    done: list[Protected] = []
    answers: list[Any] = []
    for name in names:
        protected = attempt(screen, partial(protect, installation, name))
        if isinstance(protected, BackupsError):
            answers.append({"source": name, **tour.failed(protected)})
            continue
        done.append(protected)
        backup.tell(screen, protected, indent="  ")
        answers.append(backup.as_json(protected))
        tour.statuses.append(backup.exit_status(protected))
    tour.document["backups"] = answers
    if again:
        screen.show(_incremental(done))

    tour.step("Verify each vault: read every stored byte")
    answers = []
    for name in opening.configuration.policy.vaults:
        result = attempt(screen, partial(verify_vault, installation, name))
        if isinstance(result, BackupsError):
            answers.append({"vault": name, **tour.failed(result)})
            continue
        verify.tell(screen, result, indent="  ")
        answers.append(verify.as_json(result))
        tour.statuses.append(ExitStatus.SUCCESS if result.passed else ExitStatus.DAMAGE)
    tour.document["verifications"] = answers

    tour.step("Prove it: restore each source to a disposable place, and compare")
    answers = []
    for name in names:
        evidence = attempt(screen, partial(prove, installation, name))
        if isinstance(evidence, BackupsError):
            answers.append({"source": name, **tour.failed(evidence)})
            continue
        restore_test.tell(screen, evidence, indent="  ")
        answers.append(documents.evidence(evidence))
        tour.statuses.append(ExitStatus.SUCCESS if evidence.passed else ExitStatus.VERIFICATION)
    tour.document["tests"] = answers

    tour.step("Status: how well each source is protected now")
    report = judge(installation)
    status.tell(screen, report)
    tour.document["status_report"] = status.as_document(report)
    tour.statuses.append(status.exit_status(report))

    tour.step("Audit: what is still missing")
    audited = audit.perform(opening)
    audit.tell(screen, audited)
    tour.document["audit"] = audit.as_document(audited)

    tour.step("Next")
    tour.document["next"] = next_steps.tell(screen, opening)


def _incremental(done: "list[Protected]") -> str:
    drafts = [protected.backup.draft for protected in done]
    entries = sum(draft.entries for draft in drafts)
    total = figures.size(sum(draft.size_bytes for draft in drafts))
    read = figures.size(sum(draft.read_bytes for draft in drafts))
    added = figures.size(sum(protected.backup.draft.added_bytes for protected in done))
    # What a source copies before it is saved (a database, a repository) is new each time, whatever is in it.
    changed = [protected.backup.draft for protected in done if protected.backup.changed]
    touched = sum(draft.new_entries + draft.changed_entries for draft in changed)
    return (
        f"  Second run: incremental. Of {figures.count(entries)} entries ({total}), {figures.count(touched)} were new "
        f"or changed; {read} were read, {added} added."
    )
