"""`vault plan` and `vault apply`: how a vault's bucket is set, how policy has it set, and setting it so."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents
from cto_backups.cli.attempts import chosen_vaults
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from cto_backups.core.vault_settings import Seen

_Name = Annotated[str, typer.Argument(metavar="NAME", help="A vault of the policy that is in a bucket.")]


@command
def plan(screen: Screen, name: _Name) -> ExitStatus:
    """Show how a vault's bucket is set and how policy has it be: current, desired, and why. Nothing is changed.

    Ends with 4 where something differs.
    """
    with opened(screen, write=False) as opening:
        from cto_backups.flows.vault_settings import look

        chosen_vaults(opening.configuration.policy.vaults, [name])
        looked = look(opening.installation, name, opening.installation.bucket(name))
        tell(screen, name, looked)
        status = ExitStatus.SUCCESS if all(each.holds for each in looked) else ExitStatus.RED
        screen.document({"status": int(status), "vault": name, "settings": as_json(looked)})
        return status


@command
def apply(
    screen: Screen,
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="Set what 'vault plan' shows.")] = False,
    irreversible: Annotated[
        bool, typer.Option("--irreversible", help="Also turn on what nobody can turn off again: Object Lock.")
    ] = False,
) -> None:
    """Set a vault's bucket as policy asks, read it back, and keep signed evidence; what is so already is left alone.

    Where policy asks for an approval, it is asked for first; what nobody can undo has one of its own.
    """
    with opened(screen) as opening:
        from cto_backups.flows.vault_settings import apply as carry_out
        from cto_backups.flows.vault_settings import look

        installation = opening.installation
        chosen_vaults(opening.configuration.policy.vaults, [name])
        bucket = opening.installation.bucket(name)
        tell(screen, name, look(installation, name, bucket))
        applied = carry_out(installation, name, bucket, irreversible=irreversible, confirmed=yes)
        for each in applied.done:
            screen.show(f"  set  {each.setting}: {each.wanted}, and read back")
        left = [each for each in applied.looked if not each.holds]
        by_hand = f"; {counted(len(left), 'setting')} cannot be set from here" if left else ""
        screen.show(f"{name}: {counted(len(applied.done), 'setting')} changed{by_hand}")
        screen.document(
            {
                "vault": name,
                "done": [str(each.setting) for each in applied.done],
                "settings": as_json(applied.looked),
                "evidence": documents.evidence(applied.evidence) if applied.evidence else None,
            }
        )


def tell(screen: Screen, name: str, looked: "Sequence[Seen]") -> None:
    """The settings as a difference: what is to change, from what to what, and why."""
    from cto_backups.core.vault_settings import WHY

    other = [each for each in looked if not each.holds]
    what = f"{counted(len(other), 'setting')} of its bucket to be seen to" if other else "its bucket is set as asked"
    screen.show(f"{name}: {what}")
    for each in looked:
        if each.holds:
            screen.show(f"    {each.setting}: {each.current}")
            continue
        screen.show(f"  - {each.setting}: {each.current or 'not known'}")
        screen.show(f"  + {each.setting}: {each.wanted}")
        screen.show(f"      {WHY[each.setting]}")
        if each.unknown and each.current is None:
            screen.show(f"      Not known: {each.unknown}.")
        if each.by_hand:
            screen.show(f"      By hand: {each.by_hand}.")
        if each.irreversible and not each.by_hand:
            screen.show("      IRREVERSIBLE: once on, nobody can turn it off, nor stop the bucket's versions.")


def as_json(looked: "Iterable[Seen]") -> list[documents.Document]:
    """The settings in JSON."""
    from cto_backups.core.vault_settings import WHY

    return [
        {
            "setting": str(each.setting),
            "current": each.current,
            "wanted": each.wanted,
            "holds": each.holds,
            "why": WHY[each.setting],
            "unknown": each.unknown if each.current is None else "",
            "by_hand": each.by_hand,
            "irreversible": each.irreversible,
        }
        for each in looked
    ]
