"""What the table of faults is made of: a fault, the checks that catch it, and what many faults do.

A fault is put into an installation that has been healthy for days. Its checks run in the order they are named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cto_backups.errors import ExitStatus
from false_greens.site import Answer, Site, rows

STATUS = ("status", "--json")
AUDIT = ("audit", "--look", "{data}", "--json")


@dataclass(frozen=True)
class Check:
    """What shows a fault: a command, and what is then to be seen in its answer, in words and as a question."""

    told: str
    command: tuple[str, ...]
    seen: Callable[[Answer], bool]


def word(source: str, status: str) -> Check:
    """`status` gives a source this word, and is red."""

    def seen(answer: Answer) -> bool:
        words = {each["source"]: each["status"] for each in answer.document["sources"]}
        return answer.status is ExitStatus.RED and words.get(source) == status

    return Check(f"`status`: {status}", STATUS, seen)


def dead_worker() -> Check:
    """`status` says that the worker is dead."""

    def seen(answer: Answer) -> bool:
        return answer.status is ExitStatus.RED and not (answer.document["worker"] or {"alive": True})["alive"]

    return Check("`status`: the worker is dead", STATUS, seen)


def behind() -> Check:
    """`status` says that the catalog has gone back in time."""

    def seen(answer: Answer) -> bool:
        return answer.status is ExitStatus.RED and answer.document["catalog_behind"] is not None

    return Check("`status`: the catalog has gone back in time", STATUS, seen)


def finding(control: str, subject: str = "") -> Check:
    """`audit` has a finding of this control, about what ends so."""

    def seen(answer: Answer) -> bool:
        found = answer.document["findings"]
        return any(each["control"] == control and each["subject"].endswith(subject) for each in found)

    return Check(f"`audit`: [`{control}`](../reference/controls.md#{control})", AUDIT, seen)


def ends(status: ExitStatus, *command: str, saying: str = "") -> Check:
    """A command ends with this status."""

    def seen(answer: Answer) -> bool:
        return answer.status is status and saying in answer.out + answer.err

    return Check(f"`{' '.join(command)}`: exit status {int(status)} ({status.name})", command, seen)


def damaged(vault: str = "one") -> tuple[Check, ...]:
    """Its verification finds damage, which `status` shows from then on."""
    return ends(ExitStatus.DAMAGE, "verify", vault), word("documents", "FAILED_TEST")


@dataclass(frozen=True)
class Fault:
    """Something that must not look green: its name, what is done, and what catches it (nothing: `missed` says why).

    `needs` names the servers, fixtures of tests, that it is done to.
    """

    name: str
    done: str
    inject: Callable[[Site], None]
    checks: tuple[Check, ...]
    missed: str = ""
    needs: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Its name as a test's."""
        return self.name.lower().replace("'", "").replace(",", "").replace(" ", "-")


FAULTS: list[Fault] = []


def fault(
    name: str, done: str, *checks: Check, missed: str = "", needs: tuple[str, ...] = ()
) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
    """Put a fault into the table."""

    def register(inject: Callable[[Site], None]) -> Callable[[Site], None]:
        FAULTS.append(Fault(name, done, inject, checks, missed, needs))
        return inject

    return register


def declare(site: Site, name: str, settings: str) -> None:
    site.edit(("sources:\n", f"sources:\n  {name}: {{{settings}, triggers: every 6 h, owner: ada}}\n"))


def without_tests(site: Site) -> None:
    for _ in range(8):
        site.later(days=4)
        rows(site.data / "ledger.db", 1)
        site.well("backup")
        site.well("verify")


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    content = path.read_bytes()
    changed = change(content)
    assert changed != content
    path.chmod(0o600)
    path.write_bytes(changed)
