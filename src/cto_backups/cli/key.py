"""`key`: the keys that open vaults; `key add`, `key remove` and `key rotate` change them."""

import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.attempts import chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.errors import as_document
from cto_backups.cli.opening import opened
from cto_backups.cli.outcome import worst
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted, listed
from cto_backups.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.app.rotation import Rotated
    from cto_backups.config.secrets import Secret
    from cto_backups.flows.keys import VaultKeys

Vaults = Annotated[
    list[str] | None,
    typer.Option("--vault", metavar="NAME", help="Only this vault; may be repeated; all when left out."),
]

_SHOWN = 12


@command
def key(screen: Screen) -> ExitStatus:
    """List the keys of every vault. 'key add', 'key remove' and 'key rotate' change them."""
    return _list(screen, None)


@command
def list_keys(screen: Screen, vault: Vaults = None) -> ExitStatus:
    """List the key files of each vault, and which of them the policy's secret opens."""
    return _list(screen, vault)


def _list(screen: Screen, vaults: list[str] | None) -> ExitStatus:
    with opened(screen, write=False) as opening:
        from cto_backups.flows import keys

        def one(name: str) -> documents.Document:
            found = keys.list_keys(opening.installation, name)
            settings = opening.configuration.settings
            own, places = name in settings.vault_keys, settings.key_of(name)
            shared = name in opening.adapters.secrets.by_shared
            _tell(screen, found, f"its own, {places}" if own else f"the shared one, {places}")
            if shared:
                screen.show(f"  It opens with the shared one still: run 'cto.backups key separate {name}'.")
            listed = _listed(found) | {"own_key": own, "places": [str(each) for each in places.references]}
            return listed | {"opens_with_shared": shared}

        return _in_each(screen, opening, vaults, one)


@command
def add(
    screen: Screen,
    new: Annotated[
        str | None, typer.Option("--new", metavar="REF", help="The secret: file:PATH, env:NAME or command:CMD.")
    ] = None,
    make: Annotated[
        Path | None, typer.Option("--make", metavar="FILE", help="Make a random secret, in this new file.")
    ] = None,
    vault: Vaults = None,
) -> ExitStatus:
    """Let one more secret open vaults, beside the one that the policy names.

    The secret itself is never typed: it is read from where --new says, or made into a new file with --make.
    """
    if (new is None) == (make is None):
        raise UsageError(
            "Say which secret is to open the vaults",
            why="it is either one that there is (--new) or one that is made now (--make)",
            todo="Run: cto.backups key add --make FILE, or: cto.backups key add --new file:FILE",
        )
    with opened(screen) as opening:
        from cto_backups.config.secrets import create_file_secret
        from cto_backups.flows import keys

        _known(opening, vault)
        if make is not None:
            _refuse_no_place(make)
            create_file_secret(make.absolute(), secrets.token_hex(32))
            screen.show(f"Made {make}: keep it apart from the vaults, and apart from the key in use.")
        secret = _secret(new or f"file:{make.absolute() if make else ''}").reveal()

        def one(name: str) -> documents.Document:
            added = keys.add(opening.installation, name, secret, chosen=new is not None)
            how = "opens with it now" if added.new else "opened with it already"
            screen.show(f"{name}: {how}, key {added.key[:_SHOWN]}")
            return {"vault": name, "key": added.key, "new": added.new}

        status = _in_each(screen, opening, vault, one)
        if make is not None and status is not ExitStatus.SUCCESS:
            screen.note(f"For the vaults that are left, run it again with --new file:{make} in place of --make.")
        return status


@command
def remove(
    screen: Screen,
    key: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Ids as 'key list' shows them, or their first digits.")
    ] = None,
    opened_by: Annotated[
        str | None,
        typer.Option("--opened-by", metavar="REF", help="The keys that this secret opens: file:, env: or command:."),
    ] = None,
    vault: Vaults = None,
) -> ExitStatus:
    """Remove key files, so that their secrets open the vaults no longer. The one in use and the last one stay.

    Whoever had such a secret and a copy of its key file still holds the key that everything is sealed with.
    """
    if bool(key) == (opened_by is not None):
        raise UsageError(
            "Say which keys are to be removed",
            why="they are named by their ids, or by the secret that opens them (--opened-by)",
            todo="Run 'cto.backups key list' to see the ids.",
        )
    with opened(screen) as opening:
        from cto_backups.flows import keys

        installation = opening.installation
        names = _known(opening, vault)
        if opened_by is not None:
            secret = _secret(opened_by).reveal()

            def one(name: str) -> documents.Document:
                removed = keys.remove_opened_by(installation, name, secret)
                screen.show(f"{name}: removed {shown(removed)}")
                return {"vault": name, "removed": list(removed)}

            return _in_each(screen, opening, vault, one)
        targets = [keys.named(installation, names, each) for each in dict.fromkeys(key or ())]

        def all_of(name: str) -> documents.Document:
            removed = [found for place, found in dict.fromkeys(targets) if place == name]
            for found in removed:
                keys.remove(installation, name, found)
                screen.show(f"{name}: removed {shown((found,))}")
            return {"vault": name, "removed": removed}

        return _in_each(screen, opening, [place for place, _ in targets], all_of)


@command
def rotate(screen: Screen, vault: Vaults = None) -> ExitStatus:
    """Exchange each secret that opens vaults: a new one is made, added everywhere, tried, and put in place.

    Only then is the old one taken away. When a vault is away, bring it back and run this again: it goes on from there.
    With --vault, the secrets that open these are exchanged, in all that they open. The key that everything is sealed
    with stays the same.
    """
    from cto_backups import app
    from cto_backups.app.rotation import rotate as exchange
    from cto_backups.cli.logs import configure

    configure(screen.options)
    all_done = exchange(app.find_policy(screen.options.policy), vault or ())
    errors = [error for done in all_done for error in (*done.problems.values(), done.refused) if error is not None]
    for error in errors:
        screen.problem(error)
    status = worst(error.exit_status for error in errors)
    finished = all(done.finished for done in all_done)
    screen.document(
        {
            "status": int(status),
            "switched": all(done.switched for done in all_done),
            "finished": finished,
            "secrets": [_rotated(done) for done in all_done],
        }
    )
    for done in all_done:
        _tell_rotated(screen, done, alone=len(all_done) == 1)
    if not finished:
        screen.show("Run it again when what is told above is put right: it goes on from here.")
    return status


def _rotated(done: "Rotated") -> documents.Document:
    return {
        "secret": done.secret,
        "switched": done.switched,
        "finished": done.finished,
        "vaults": [
            {"vault": name, "key": done.keys.get(name), "removed": list(done.removed.get(name, ()))}
            | ({"error": as_document(done.problems[name])} if name in done.problems else {})
            for name in dict.fromkeys([*done.keys, *done.problems])
        ],
    } | ({"error": as_document(done.refused)} if done.refused is not None else {})


def _tell_rotated(screen: Screen, done: "Rotated", *, alone: bool) -> None:
    for name, found in done.keys.items():
        removed = done.removed.get(name)
        old = f"; removed {shown(removed)}" if removed else ""
        screen.show(f"{name}: opens with the new secret, key {found[:_SHOWN]}{old}")
    away = ", ".join(done.problems)
    if done.finished:
        screen.show(f"{done.secret} holds the new secret, and no vault opens with the old one any more.")
        screen.show("Replace the copies of it that you keep elsewhere: they open nothing now.")
    elif done.switched:
        screen.show(f"{done.secret} holds the new secret; the old one still opens {away}, and stays beside it.")
    else:
        opened_by_it = "every vault" if alone else listed(done.vaults)
        screen.show(f"{done.secret} still holds the old secret, which opens {opened_by_it}.")


def _known(opening: "Opened", vaults: list[str] | None) -> list[str]:
    """The names of the vaults meant. Raises NotFoundError."""
    return chosen_vaults(opening.configuration.policy.vaults, vaults)


def _in_each(
    screen: Screen, opening: "Opened", vaults: list[str] | None, do: Callable[[str], documents.Document]
) -> ExitStatus:
    """Do it in each vault, and say in JSON what came of it."""
    answers, status = in_each(screen, _known(opening, vaults), lambda name: (do(name), ExitStatus.SUCCESS))
    screen.document({"status": int(status), "vaults": answers})
    return status


def _refuse_no_place(made: Path) -> None:
    """A folder that is missing is not made: it may be where a disk is to be mounted. Raises UsageError."""
    if made.is_dir():
        raise UsageError(f"{made} is a folder", todo=f"Name a new file: --make {shlex.quote(str(made / 'spare.key'))}")
    if not made.parent.is_dir():
        raise UsageError(
            f"There is no folder {made.parent}",
            why="a secret for another disk must not land on this one when that is not mounted",
            todo=f"Mount the disk, or make the folder first: mkdir -p {shlex.quote(str(made.parent))}",
        )


def _secret(reference: str) -> "Secret":
    """The secret that an option refers to; relative paths start here."""
    from cto_backups.config.secrets import SecretReference

    return SecretReference.parse(reference).resolve(Path.cwd())


def _tell(screen: Screen, found: "VaultKeys", secret: str) -> None:
    """Show the key files of a vault; `secret` is the one that the policy names, and where it is."""
    screen.show(f"{found.vault}: {counted(len(found.files), 'key')}; the policy's secret for it is {secret}")
    for file in found.files:
        if file.damage:
            screen.show(f"  {file.id[:_SHOWN]}  useless: {file.damage}")
            continue
        made = screen.moment(file.created) if file.created else "at an unknown time"
        use = ", in use" if file.id == found.in_use else ""
        screen.show(f"  {file.id[:_SHOWN]}  made {made} by {file.username}@{file.hostname}{use}")


def _listed(found: "VaultKeys") -> documents.Document:
    return {
        "vault": found.vault,
        "keys": [
            {
                "id": file.id,
                "created": utc(file.created),
                "username": file.username,
                "hostname": file.hostname,
                "in_use": file.id == found.in_use,
                "damage": file.damage,
            }
            for file in found.files
        ],
    }


def shown(removed: tuple[str, ...]) -> str:
    """The keys in short, for people."""
    return ", ".join(f"key {each[:_SHOWN]}" for each in removed) or "nothing: no key opens with it"
