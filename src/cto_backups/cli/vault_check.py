"""`vault check`: try out what the store of a vault really enforces, for this login."""

from typing import TYPE_CHECKING, Annotated

import typer

from cto_backups.cli import documents, figures, tables, vault_settings
from cto_backups.cli.attempts import chosen_vaults, in_each
from cto_backups.cli.command import command
from cto_backups.cli.opening import opened
from cto_backups.cli.screen import Screen, utc
from cto_backups.core.wording import counted
from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from cto_backups.flows.check_vault import VaultChecked

_MOST_NAMED = 20


@command
def check(
    screen: Screen,
    vaults: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Vaults of the policy; all when left out.")
    ] = None,
) -> ExitStatus:
    """Try out what the store of each vault enforces, in a scratch folder of it, with the login of this host.

    Nothing that is kept there is touched. What is stored for it is removed again, but for what a lock keeps for three
    minutes; the next check removes that. How a bucket is set is looked at as well. The answer is kept as signed
    evidence. Ends with 11 where what policy relies on is not enforced, or is set otherwise.
    """
    with opened(screen) as opening:
        from cto_backups.flows.check_vault import check_vault

        def one(name: str) -> tuple[documents.Document, ExitStatus]:
            checked = check_vault(opening.installation, name)
            looked = checked.looked
            tell(screen, checked)
            if looked:
                vault_settings.tell(screen, name, looked)
            answer = {**as_json(checked), "settings": vault_settings.as_json(looked)}
            return answer, ExitStatus.VERIFICATION if checked.failure else ExitStatus.SUCCESS

        names = chosen_vaults(opening.configuration.policy.vaults, vaults)
        answers, status = in_each(screen, names, one, failed={"passed": False})
        screen.document({"status": int(status), "vaults": answers})
        return status


def tell(screen: Screen, checked: "VaultChecked") -> None:
    """One line for each rule, and what stays in the vault."""
    from cto_backups.core.vault_check import RULES

    evidence, told = checked.evidence, checked.told
    took = figures.duration((evidence.finished_at - evidence.started_at).total_seconds())
    passed = "all that policy relies on holds" if evidence.passed else "NOT all that policy relies on holds"
    screen.show(f"{checked.vault}: {counted(len(told), 'rule')} tried in {took}; {passed}")
    rows = tables.table("", "answer", "rule", flexible=("rule",))
    for each in told:
        mark = " " if each.passed else "!"
        tables.row(rows, mark, str(each.answer), ": ".join(filter(None, (RULES[each.rule], each.detail))))
    screen.show(rows)
    if checked.left and checked.locked_until is not None:
        until = f"{checked.locked_until:%Y-%m-%d %H:%M:%S} UTC"
        stays = counted(len(checked.left), "file stays", "files stay")
        screen.show(f"{stays}, the last locked until {until}; a check after that removes what it may")
    for key, why in list(checked.left.items())[:_MOST_NAMED]:
        screen.show(f"  stays  {key}: {why}")
    if checked.failure is not None:
        screen.problem(checked.failure)


def as_json(checked: "VaultChecked") -> documents.Document:
    """A check in JSON."""
    from cto_backups.core.vault_check import RULES

    return {
        "vault": checked.vault,
        "passed": checked.evidence.passed,
        "rules": [
            {
                "rule": each.rule,
                "title": RULES[each.rule],
                "answer": str(each.answer),
                "wanted": each.wanted,
                "passed": each.passed,
                "detail": each.detail,
                "seconds": round(each.seconds, 3),
            }
            for each in checked.told
        ],
        "left": dict(checked.left),
        "locked_until": utc(checked.locked_until),
        "evidence": documents.evidence(checked.evidence),
    }
