"""`vault`: the vaults of the policy and what each lacks; `vault init` makes one, `vault fill` brings what it lacks."""

from functools import partial
from typing import Annotated

import typer

from cto_backups.cli import documents, figures
from cto_backups.cli.attempts import attempt, chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError, ExitStatus

_MOST_NAMED = 20


@command
def vault(screen: Screen) -> None:
    """List the vaults of the policy: where each is, whether it is there, and how many recovery points it lacks."""
    with opened(screen, write=False) as opening:
        from cto_backups.flows.copy import lacking

        installation = opening.installation
        answers: list[documents.Document] = []
        for name in installation.policy.vaults:
            place = installation.vault(name)
            held, lacks = len(installation.catalog.copies_in(name)), len(lacking(installation, name))
            answer: documents.Document = {"vault": name, "location": place.location, "points": held, "lacks": lacks}
            found = attempt(screen, partial(installation.check_readable, name))
            if isinstance(found, BackupsError):
                answer["error"] = as_document(found)
            answers.append(answer)
            short = f", lacks {lacks}" if lacks else ""
            screen.show(f"{name}: {place.location}: {counted(held, 'recovery point')}{short}")
        screen.document({"vaults": answers})


@command
def init(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A vault of the policy.")],
) -> None:
    """Make a vault that was added to the policy: its folder, and a repository that cuts data as the others do.

    The newest point of each source comes there by itself, with the next backup or worker; 'vault fill' brings all.
    """
    with opened(screen) as opening:
        from cto_backups.app.vaults import init_vault
        from cto_backups.flows.copy import lacking

        chosen_vaults(opening.configuration.policy.vaults, [name])
        made = init_vault(opening, name)
        location = opening.installation.vault(name).location
        lacks = len(lacking(opening.installation, name))
        key = {} if made.key is None else {"key": str(made.key)}
        screen.document({"vault": name, "location": location, "made": made.new, "lacks": lacks} | key)
        if made.key is not None:
            screen.show(
                f"Made {made.key}, which alone opens it: keep a copy away from this machine and from the vault."
            )
        screen.show(
            f"{name}: made at {location}" if made.new else f"{name}: is at {location} already, nothing was changed"
        )
        if lacks:
            screen.show(f"It lacks {counted(lacks, 'recovery point')}. Next: cto.backups vault fill {name}")


@command
def fill(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults of the policy; all when left out.")
    ] = None,
) -> ExitStatus:
    """Bring vaults every kept recovery point that they lack, the newest first, from vaults that have it."""
    with opened(screen) as opening:
        from cto_backups.flows.copy import copy, lacking

        installation = opening.installation

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            statuses: list[ExitStatus] = []
            copies: list[documents.Document] = []
            failed: list[documents.Document] = []
            for point in lacking(installation, name):
                result = attempt(screen, partial(copy, installation, point, name))
                if isinstance(result, BackupsError):
                    failed.append({"point": point.id, "error": as_document(result)})
                    statuses.append(result.exit_status)
                    continue
                screen.show(f"{name}: {point.id} from {result.origin}, {figures.size(result.added_bytes)}")
                copies.append({"point": point.id, "origin": result.origin, "added_bytes": result.added_bytes})
            screen.show(f"{name}: {_summary(len(copies), len(failed))}")
            return {"vault": name, "copies": copies, "failed": failed}, worst(statuses)

        answers, status = in_each(screen, chosen_vaults(installation.policy.vaults, vaults), one)
        screen.document({"status": int(status), "vaults": answers})
        return status


@command
def renew(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="VAULT", help="Vaults that lock; all of them when left out.")
    ] = None,
) -> ExitStatus:
    """Read back the lock of every stored file that is needed, and lock anew what has too little left.

    The worker does it by itself, four times in the length of a lock. A file that is not locked is named.
    """
    with opened(screen) as opening:
        from cto_backups.flows.renew import renew as carry_out

        installation = opening.installation
        locking = {name: vault for name, vault in installation.policy.vaults.items() if vault.lock_mode != "none"}

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            done = carry_out(installation, name)
            ends = f"; none ends before {screen.moment(done.until)}" if done.until else ""
            screen.show(f"{name}: {counted(done.files, 'file')} looked at, {done.renewed} locked anew{ends}")
            if done.lapsing:
                screen.show(f"  {counted(done.lapsing, 'file')} not needed any more: locks end by themselves")
            for key in done.unlocked[:_MOST_NAMED]:
                screen.show(f"  not locked  {key}")
            if done.holds is not None:
                screen.show(f"  {figures.held(done.holds)}")
                for key in (*done.holds.unheld, *done.holds.gone)[:_MOST_NAMED]:
                    screen.show(f"  not held    {key}")
            if done.failure is not None:
                screen.problem(done.failure)
            answer: documents.Document = {
                "vault": name,
                "files": done.files,
                "renewed": done.renewed,
                "lapsing": done.lapsing,
                "unlocked": list(done.unlocked),
                "until": utc(done.until) if done.until else None,
                "seconds": done.seconds,
                "holds": None if done.holds is None else documents.in_store(done.holds),
            }
            return answer, ExitStatus.SUCCESS if done.failure is None else done.failure.exit_status

        names = chosen_vaults(installation.policy.vaults if vaults else locking, vaults)
        if not names:
            screen.show("No vault of the policy locks what it stores.")
        answers, status = in_each(screen, names, one)
        screen.document({"status": int(status), "vaults": answers})
        return status


@command
def undelete(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A vault of the policy that locks what it stores.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be brought back; change nothing.")
    ] = False,
) -> None:
    """Let what somebody deleted or replaced in a vault be read again, as long as its lock stands.

    Index files are not locked: 'repair' makes them anew, once this is done.
    """
    with opened(screen, write=not dry_run) as opening:
        from cto_backups.flows import undelete as flow

        chosen_vaults(opening.configuration.policy.vaults, [name])
        done = (flow.plan if dry_run else flow.undelete)(opening.installation, name)
        for hidden in done.files:
            screen.show(f"  {'replaced' if hidden.replaced else 'deleted'}  {hidden.key}")
        word = "would come back" if dry_run else "came back"
        screen.show(f"{name}: {counted(len(done.files), 'file')}, {figures.size(done.size_bytes)}, {word}")
        if done.files and not dry_run:
            screen.show(f"Next: cto.backups repair {name}, then find out who did it; see docs/how-to/lock-a-vault.md")
        screen.document(
            {
                "vault": name,
                "dry_run": dry_run,
                "files": [
                    {
                        "key": hidden.key,
                        "replaced": hidden.replaced,
                        "size_bytes": hidden.size_bytes,
                        "until": utc(hidden.until) if hidden.until else None,
                    }
                    for hidden in done.files
                ],
                "size_bytes": done.size_bytes,
                "seconds": done.seconds,
            }
        )


def _summary(copied: int, failed: int) -> str:
    if not copied and not failed:
        return "lacks nothing"
    return f"{counted(copied, 'recovery point')} came" + (f", {failed} did not" if failed else "")
