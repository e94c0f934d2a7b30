"""`host`: hosts with a trust domain of their own; `host enrol` and `host revoke` here, `host join` on the host."""

import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import listed
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cto_backups.core.enrolment import Host
    from cto_backups.errors import BackupsError

Passphrase = Annotated[
    str | None,
    typer.Option(
        "--passphrase", metavar="REF", help="Where it is: file:PATH, env:NAME or command:CMD; else asked for."
    ),
]


@command
def host(screen: Screen) -> ExitStatus:
    """List the enrolled hosts, and what belongs to each. Red where one was revoked and people have not done their part.

    'host enrol' gives a host a trust domain of its own, 'host join' is run on the host, 'host revoke' ends it.
    """
    with opened(screen, write=False) as opening:
        found = opening.installation.catalog.hosts.listed()
        for each in found:
            screen.show(f"{each.name}: {each.standing} {screen.moment(_since(each))}")
            screen.show(
                f"  sources {listed(each.names.get('source', ()))}; vaults {listed(each.names.get('vault', ()))}"
            )
            if each.unended:
                screen.show(f"  not finished: its revocation at {listed(each.unended)}. Run it again:")
                screen.show_whole(f"cto.backups host revoke {each.name}")
            for step in each.left:
                screen.show(f"  not done yet: its login at vault {step}. When it is:")
                screen.show_whole(f"cto.backups host revoke {each.name} --done {step}")
        if not found:
            screen.show("No host was enrolled.")
        status = ExitStatus.RED if any(each.half_revoked for each in found) else ExitStatus.SUCCESS
        screen.document({"status": int(status), "hosts": [_document(each) for each in found]})
        return status


@command
def enrol(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The host, as `hostname` prints it there.")],
    bundle: Annotated[
        Path, typer.Option("--bundle", metavar="FILE", help="Write what the host joins with into this new file.")
    ],
    protect: Annotated[
        list[str] | None,
        typer.Option("--protect", metavar="DIR", help="A folder of the host to protect; may be repeated."),
    ] = None,
    vault: Annotated[
        list[str] | None, typer.Option("--vault", metavar="NAME", help="Only in this vault; may be repeated.")
    ] = None,
    passphrase: Passphrase = None,
    again: Annotated[
        bool, typer.Option("--again", help="Although it has joined, or was revoked: what it has opens nothing then.")
    ] = False,
) -> ExitStatus:
    """Give a host a trust domain of its own: repositories, keys, and logins that can add there and nothing else.

    The fleet's own secret opens its repositories as well. What the host joins with is in one file, sealed with a
    passphrase: bring both to it by different ways. Nothing secret is printed.
    """
    from cto_backups import app
    from cto_backups.app import enrolment
    from cto_backups.cli.logs import configure

    configure(screen.options)
    asked = enrolment.Asked(
        name,
        tuple(vault or ()),
        tuple(protect or ()),
        lambda: _passphrase(passphrase, new=True),
        bundle.absolute(),
        again,
    )
    done = enrolment.enrol(app.find_policy(screen.options.policy), asked, progress=screen.progress)
    screen.show(f"Enrolled {name}: sources {listed(done.host.names['source'])}")
    for place, location in done.places.items():
        screen.show(f"  {place}: {location}")
    screen.show(f"  signs with key {done.fingerprint[:16]}…; logs in at the catalog as {done.host.role}")
    for step in done.left:
        _show_step(screen, step)
    screen.show(f"Wrote {bundle}, mode 600. Bring it to {name}, and run there:")
    screen.show_whole(f"cto.backups host join {bundle.name}")
    screen.document(
        {
            "host": _document(done.host),
            "places": done.places,
            "fingerprint": done.fingerprint,
            "bundle": str(bundle),
            "left": list(done.left),
            "problems": _problems(done.problems),
        }
    )
    return _told(screen, done.problems)


@command
def join(
    screen: Screen,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The file that 'host enrol' wrote.")],
    home: Annotated[Path, typer.Option("--home", metavar="DIR", help="The folder for policy, keys and state.")] = Path(
        "cto-backups"
    ),
    passphrase: Passphrase = None,
) -> ExitStatus:
    """Make the installation of this host from what 'host enrol' wrote. The file is removed when that is done."""
    from cto_backups.app import joining
    from cto_backups.cli.logs import configure

    configure(screen.options)
    done = joining.join(
        joining.read(bundle, lambda: _passphrase(passphrase, new=False)), home, progress=screen.progress
    )
    bundle.unlink(missing_ok=True)
    screen.show(f"Joined as {done.host}: wrote {done.policy}, and keys beside it. {bundle} was used up, and is gone.")
    for step in done.left:
        screen.show(step)
    if not done.left:
        screen.show("Next, after a look at what it protects:")
        screen.show_whole(f"cto.backups backup --policy {done.policy}")
    screen.document(
        {
            "host": done.host,
            "policy": str(done.policy),
            "left": list(done.left),
            "problems": _problems(done.problems),
        }
    )
    return _told(screen, {} if done.left else done.problems)


@command
def revoke(
    screen: Screen,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A host, as 'host' lists it.")],
    done: Annotated[
        list[str] | None,
        typer.Option("--done", metavar="VAULT", help="What people had to do at this vault is done; may be repeated."),
    ] = None,
) -> ExitStatus:
    """End what a host may do: its role at the catalog, its logins and its keys, at once, also while it is at work.

    Its recovery points stay, and whoever administers the fleet restores them. What cannot be ended from here is told;
    until somebody says that it is done (--done), 'host' is red.
    """
    with opened(screen, notices=False) as opening:
        from cto_backups.app.revocation import revoke as carry_out

        ended = carry_out(opening, name, done or ())
        screen.show(f"Revoked {name}. Ended: {'; '.join(ended.ended)}.")
        for vault, step in ended.left.items():
            _show_step(screen, f"Left to do. {step}")
            screen.show("Then say that it is done:")
            screen.show_whole(f"cto.backups host revoke {name} --done {vault}")
        if not ended.left and not ended.problems:
            screen.show("Nothing is left to be done.")
        screen.document(
            {
                "host": name,
                "ended": list(ended.ended),
                "left": dict(ended.left),
                "problems": _problems(ended.problems),
            }
        )
        statuses = [ExitStatus.RED] if ended.left else []
        return worst([*statuses, _told(screen, ended.problems)])


def _passphrase(reference: str | None, *, new: bool) -> str:
    """The passphrase of a bundle: from where the reference says, or typed without being shown; a new one twice."""
    from cto_backups.config.secrets import SecretReference

    if reference is not None:
        return SecretReference.parse(reference).resolve(Path.cwd()).reveal()
    if not sys.stdin.isatty():
        raise UsageError(
            "The passphrase of the enrolment is needed",
            why="nobody is at a terminal to type it",
            todo="Say where it is: --passphrase file:PATH, env:NAME or command:CMD.",
        )
    typed = getpass("Passphrase of the enrolment (not shown): ")
    if new and getpass("The same again: ") != typed:
        raise UsageError("The two are not the same", todo="Run it again.")
    return typed


def _show_step(screen: Screen, step: str) -> None:
    """What people do: a sentence, and below it what is to be copied as it is."""
    sentence, *copied = step.split("\n")
    screen.show(sentence)
    for line in copied:
        if copied[0].startswith("{"):  # a document, which no backslash may break
            screen.as_it_is(f"{line}\n")
        else:
            screen.show_whole(line)


def _since(each: "Host") -> "datetime":
    return each.revoked_at or each.joined_at or each.enrolled_at


def _document(each: "Host") -> documents.Document:
    return {
        "name": each.name,
        "standing": each.standing,
        "role": each.role,
        "enrolled_at": utc(each.enrolled_at),
        "joined_at": utc(each.joined_at),
        "revoked_at": utc(each.revoked_at),
        "sources": list(each.names.get("source", ())),
        "vaults": list(each.names.get("vault", ())),
        "signers": list(each.names.get("signer", ())),
        "left": list(each.left),
        "unended": list(each.unended),
    }


def _problems(problems: "Mapping[str, BackupsError]") -> list[documents.Document]:
    return [{"vault": name, "error": as_document(error)} for name, error in problems.items()]


def _told(screen: Screen, problems: "Mapping[str, BackupsError]") -> ExitStatus:
    for error in problems.values():
        screen.problem(error)
    return worst([error.exit_status for error in problems.values()])
