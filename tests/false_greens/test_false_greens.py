"""Each fault of the table is caught by the checks that it names, and the healthy installation shows none of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from false_greens import page
from false_greens.faults import FAULTS
from false_greens.installation import healthy
from false_greens.site import Answer, Site
from false_greens.table import AUDIT, STATUS, Check, Fault
from servers.key_services import GoogleKeys, google_keys

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = ("no-archive", "empty-source", "skipped-test", "zero-byte-dump", "old-point-re-verified", "unreachable-source")


class Installation:
    """The healthy installation, which each test gets as it was, at the place where it was made."""

    def __init__(self, folder: Path) -> None:
        self._made = healthy(folder / "site")
        self._aside = folder / "aside"
        self._made.copy_to(self._aside)
        self._answers: dict[tuple[str, ...], Answer] = {}

    def fresh(self) -> Site:
        """The installation as it was."""
        self._made.back_from(self._aside)
        return Site(self._made.root, self._made.now, dict(self._made.disks))

    def healthy_answer(self, command: tuple[str, ...]) -> Answer:
        """What the healthy installation answers to a command."""
        if command not in self._answers:
            self._answers[command] = asked(self.fresh(), command)
        return self._answers[command]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("false-greens"))


@pytest.fixture(scope="session")
def google_key_service() -> Iterator[GoogleKeys]:
    with google_keys() as keys:
        yield keys


def asked(site: Site, command: tuple[str, ...]) -> Answer:
    return site(*(part.replace("{data}", str(site.data)) for part in command))


def named(fault: Fault) -> str:
    return fault.slug


def shown(answer: Answer) -> str:
    return f"{answer.status!r}\n{answer.out}\n{answer.err}"


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.missed], ids=named)
def test_is_not_green(fault: Fault, installation: Installation, request: pytest.FixtureRequest) -> None:
    for check in fault.checks:
        before = installation.healthy_answer(check.command)
        assert not check.seen(before), f"{check.told} is seen without the fault: {shown(before)}"
    site = installation.fresh()
    site.servers.update((name, request.getfixturevalue(name)) for name in fault.needs)
    fault.inject(site)
    for check in fault.checks:
        answer = asked(site, check.command)
        assert check.seen(answer), f"{check.told} is not seen: {shown(answer)}"


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.missed], ids=named)
def test_is_told_in_the_page_as_not_caught(fault: Fault, installation: Installation) -> None:
    """Once it is caught, the page has to say by what."""
    site = installation.fresh()
    fault.inject(site)
    assert site("status").status is ExitStatus.SUCCESS
    answer = site("audit", "--look", str(site.data), "--fail-on", "high")
    assert answer.status is ExitStatus.SUCCESS, answer.out


def test_the_healthy_installation_is_green(installation: Installation) -> None:
    status, audit = installation.healthy_answer(STATUS), installation.healthy_answer(AUDIT)
    assert status.status is ExitStatus.SUCCESS, status.out
    assert audit.document["findings"] == []


def test_there_are_enough_faults_each_with_a_name_of_its_own() -> None:
    slugs = [fault.slug for fault in FAULTS]
    assert len(set(slugs)) == len(slugs)
    assert len([fault for fault in FAULTS if not fault.missed]) >= 20
    assert set(NAMED) | {"stopped-worker"} <= set(slugs)
    assert all(bool(fault.checks) != bool(fault.missed) for fault in FAULTS)


def test_a_check_can_fail() -> None:
    """A check that everything passes would catch nothing."""
    nothing = Answer(ExitStatus.SUCCESS, '{"sources": [], "findings": [], "worker": null}', "")
    checks: list[Check] = [check for fault in FAULTS for check in fault.checks]
    assert not any(check.seen(nothing) for check in checks)


def test_the_page_is_that_of_the_table() -> None:
    text = (ROOT / page.PLACE).read_text(encoding="utf-8")
    assert text == page.rendered(), "run tools/false-greens"


def test_the_rows_of_the_page_are_the_faults() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", page.rendered(), flags=re.MULTILINE)
    assert {fault.name for fault in FAULTS} <= set(rows)
