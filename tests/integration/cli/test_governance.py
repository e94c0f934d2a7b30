"""Governance as people meet it: what is refused, who approves it, and that an approval is for one thing, once."""

import contextlib
import os
import pwd
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.app import opened
from cto_backups.errors import ExitStatus, GovernanceError
from cto_backups.evidence.records import Record
from cto_backups.flows.expire import expire, plan
from integration.cli.conftest import Answer, Home, environment

ADA, BO, CY = 60_001, 60_002, 60_003
HOURS = timedelta(hours=1)

Become = Callable[[int], None]
Later = Callable[[timedelta], None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """Be another user of the operating system from now on."""

    def be(uid: int) -> None:
        monkeypatch.setattr(os, "getuid", lambda: uid)

    be(ADA)
    return be


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Move the clock on."""

    def move(length: timedelta) -> None:
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() + length)

    return move


def govern(home: Home, text: str) -> None:
    """Write the governance section, in place of the one before."""
    policy = home.policy.read_text().partition("\ngovernance:")[0].rstrip("\n")
    home.policy.write_text(f"{policy}\n\ngovernance:\n  {text}\n" if text else policy + "\n")


def retain(home: Home, retention: str) -> None:
    """Give data-files another retention."""
    lines = home.policy.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if line.startswith("    class: configuration"))
    if lines[place + 1].startswith("    retention:"):
        del lines[place + 1]
    lines.insert(place + 1, f"    retention: {retention}\n")
    home.policy.write_text("".join(lines))


def approval_of(answer: Answer) -> str:
    """The request that a refused command names, with the command for whoever approves."""
    assert answer.status is ExitStatus.REFUSED, answer
    word = next(word for word in answer.err.split() if word.startswith("approval-"))
    assert f"cto.backups approve {word}" in answer.err, answer.err
    return word.rstrip(".,;:")


def approve(home: Home, name: str, *options: str) -> Answer:
    return home("approve", name, "--reason", "agreed", *options)


def standing(home: Home, name: str) -> str:
    found = {each["id"]: each for each in home("approvals", "--all", "--json").document["approvals"]}
    return str(found[name]["standing"])


def records(home: Home, kind: str) -> list[Any]:
    """What the records of a kind in vault one say, in order."""
    (signer,) = (home.vault("one") / "records").iterdir()
    files = sorted(signer.glob(f"*-{kind}.sealed"))
    return [Record.from_bytes(home.opened(file)).payload for file in files]


def points(home: Home) -> list[str]:
    return [point["id"] for point in home("points", "data-files", "--json").document["points"]]


@pytest.fixture
def many(home: Home) -> Home:
    """Four and more points of data-files, of which retention keeps two."""
    for number in range(3):
        home.change(f"version {number}\n")
        assert home("backup", "data-files").status is ExitStatus.SUCCESS
    return home


# -- approvals ---------------------------------------------------------------------------------------------------------

IN_PLACE = ("restore", "data-files", "--in-place", "--overwrite", "--yes")


def test_a_restore_over_data_waits_for_a_second_person_and_happens_once(home: Home, become: Become) -> None:
    """Refused with the exact command; not for who asked; done after another's approval; not a second time."""
    govern(home, "approvals: {restore: second-person}")
    home.change("what stands there\n")
    report = home.data / "files" / "report.txt"
    name = approval_of(home(*IN_PLACE))
    assert approval_of(home(*IN_PLACE)) == name, "the same request, not one more"
    assert report.read_text() == "what stands there\n"

    own = approve(home, name)
    assert own.status is ExitStatus.REFUSED
    assert f"A second person is needed, and {ADA} (user {ADA}) asked for it" in own.err
    become(BO)
    given = approve(home, name)
    assert given.status is ExitStatus.SUCCESS, given
    assert f"by {BO} (user {BO}): agreed" in given.out
    become(ADA)
    assert standing(home, name) == "given"
    done = home(*IN_PLACE)
    assert done.status is ExitStatus.SUCCESS, done
    assert report.read_text() == "figures\n" * 1000
    assert standing(home, name) == "used"
    assert approve(home, name).status is ExitStatus.REFUSED
    assert approval_of(home(*IN_PLACE)) != name, "an approval counts once"


def test_what_was_asked_decided_and_done_is_in_the_chain(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}")
    name = approval_of(home(*IN_PLACE))
    become(BO)
    approve(home, name)
    become(ADA)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    (asked,) = records(home, "approval-request")
    (decided,) = records(home, "approval")
    (done,) = records(home, "authorization")
    assert asked["id"] == decided["id"] == done["approval"] == name
    assert asked["action_digest"] == decided["action_digest"] == done["action_digest"]
    assert (asked["requested_by"]["uid"], decided["decided_by"]["uid"], done["by"]["uid"]) == (ADA, BO, ADA)
    assert (decided["granted"], decided["reason"]) == (True, "agreed")
    assert done["parameters"]["overwrite"] is True
    assert done["parameters"]["destination"] is None
    assert home("evidence", "verify").status is ExitStatus.SUCCESS


AS_USER = """
import os, sys
os.setresuid(int(sys.argv[1]), 0, 0)
sys.argv[1:2] = []
from cto_backups.cli.main import main
main()
"""


@pytest.mark.root
def test_the_second_person_is_another_user_of_the_operating_system(home: Home) -> None:
    """In processes of two real users, whom the kernel tells apart; what the environment says of them counts nothing."""

    def run_as(user: str, *arguments: str, **variables: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-c", AS_USER, str(pwd.getpwnam(user).pw_uid), *arguments],
            cwd=home.data.parent,
            env=environment(CTO_BACKUPS_POLICY=str(home.policy), **variables),
            capture_output=True,
            text=True,
        )
        return Answer(ExitStatus(done.returncode), done.stdout, done.stderr)

    for folder in home.root.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    for folder in (home.root, *(place for place in home.root.rglob("*") if place.is_dir())):
        folder.chmod(0o777)
    govern(home, "approvals: {restore: second-person}\n  approvers: [daemon, bin]")
    name = approval_of(run_as("daemon", *IN_PLACE))
    pretending = {"USER": "bin", "LOGNAME": "bin", "SUDO_USER": "bin", "SUDO_UID": "2"}
    for variables in ({}, pretending):
        own = run_as("daemon", "approve", name, "--reason", "agreed", **variables)
        assert own.status is ExitStatus.REFUSED, own
        assert "A second person is needed, and daemon (user 1" in own.err
    assert run_as("games", "approve", name, "--reason", "agreed").status is ExitStatus.REFUSED, "no approver"
    given = run_as("bin", "approve", name, "--reason", "agreed")
    assert given.status is ExitStatus.SUCCESS, given
    assert "by bin (user 2): agreed" in given.out
    home.change("what stands there\n")
    assert run_as("daemon", *IN_PLACE).status is ExitStatus.SUCCESS
    assert (home.data / "files" / "report.txt").read_text() == "figures\n" * 1000
    (decided,) = records(home, "approval")
    assert decided["decided_by"] == {"login": "bin", "uid": 2, "sudo_user": None}


@pytest.mark.parametrize(
    "other",
    [
        ("restore", "ledger-database", "--in-place", "--overwrite", "--yes"),
        ("restore", "data-files", "--in-place", "--overwrite", "--yes", "--delete"),
        ("restore", "data-files", "--in-place", "--overwrite", "--yes", "--only", "report.txt"),
        ("restore", "data-files", "--in-place", "--overwrite", "--yes", "--vault", "two"),
        ("restore", "data-files", "--in-place", "--yes"),
        ("restore", "data-files", "--to", "elsewhere", "--overwrite"),
    ],
)
def test_an_approval_of_one_restore_is_none_of_another(home: Home, become: Become, other: tuple[str, ...]) -> None:
    govern(home, "approvals: {restore: anyone}")
    name = approval_of(home(*IN_PLACE))
    assert approve(home, name).status is ExitStatus.SUCCESS
    assert approval_of(home(*other)) != name
    assert standing(home, name) == "given"


def test_a_restore_elsewhere_needs_no_approval_and_a_look_asks_for_none(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}")
    assert home("restore", "data-files", "--to", str(home.data.parent / "new")).status is ExitStatus.SUCCESS
    assert home(*IN_PLACE, "--dry-run").status is ExitStatus.SUCCESS
    assert home("approvals", "--all").out == "Nothing was ever asked for.\n"
    assert home("approvals").out == "Nothing waits for an approval.\n"


def test_approvals_and_requests_end(home: Home, become: Become, later: Later) -> None:
    """72 hours where the policy does not say otherwise, for the request and again for the approval."""
    govern(home, "approvals: {restore: anyone}")
    name = approval_of(home(*IN_PLACE))
    later(71 * HOURS)
    assert approve(home, name).status is ExitStatus.SUCCESS
    later(71 * HOURS)
    assert standing(home, name) == "given"
    later(2 * HOURS)
    assert standing(home, name) == "expired"
    second = approval_of(home(*IN_PLACE))
    assert second != name
    later(73 * HOURS)
    refused = approve(home, second)
    assert refused.status is ExitStatus.REFUSED
    assert "It has expired" in refused.err


def test_only_approvers_approve_and_a_denial_holds_until_it_is_turned_round(home: Home, become: Become) -> None:
    govern(home, f'approvals: {{restore: second-person}}\n  approvers: ["{BO}"]\n  approval_valid_for: 2 h')
    name = approval_of(home(*IN_PLACE))
    become(CY)
    refused = approve(home, name)
    assert refused.status is ExitStatus.REFUSED
    assert "none of the policy's approvers" in refused.err
    become(BO)
    assert approve(home, name, "--deny").status is ExitStatus.SUCCESS
    become(ADA)
    again = home(*IN_PLACE)
    assert "was denied" in again.err
    assert approval_of(again) == name
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    assert approve(home, name, "--deny").status is ExitStatus.SUCCESS, "who asked may take it back"
    assert home(*IN_PLACE).status is ExitStatus.REFUSED
    assert approve(home, name).status is ExitStatus.REFUSED


def test_an_approval_needs_a_reason_and_a_request(home: Home, become: Become) -> None:
    assert home("approve", "approval-1").status is ExitStatus.USAGE
    assert home("approve", "approval-1", "--reason", " ").status is ExitStatus.USAGE
    assert home("approve", "approval-1", "--reason", "x").status is ExitStatus.NOT_FOUND
    assert home("approvals", "--json").document == {"approvals": []}


def test_a_changed_row_is_no_approval(home: Home, become: Become) -> None:
    """What counts is the signed record."""
    import sqlite3

    govern(home, "approvals: {restore: anyone}")
    name = approval_of(home(*IN_PLACE))
    with sqlite3.connect(home.root / "catalog.db") as connection:
        connection.execute("UPDATE approvals SET granted = 1, decided_at = requested_at, decided_by = requested_by")
    connection.close()
    assert standing(home, name) == "given"
    refused = home(*IN_PLACE)
    assert refused.status is ExitStatus.REFUSED
    assert "No signed record says" in refused.err


def test_of_two_processes_with_one_approval_one_succeeds(home: Home) -> None:
    """Each is the real program, started at the same time."""
    govern(home, "approvals: {restore: anyone}")
    name = approval_of(home(*IN_PLACE))
    assert approve(home, name).status is ExitStatus.SUCCESS
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "cto_backups", *IN_PLACE],
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [(process.communicate(timeout=120)[1], process.returncode) for process in started]
    assert sorted(status for _, status in said) == [0, 13, 13], said
    assert len([each for each in home("approvals", "--all", "--json").document["approvals"] if each["used_at"]]) == 1


def test_points_that_are_dropped_are_those_that_were_approved(many: Home, become: Become, later: Later) -> None:
    """One more is due by then: it waits for an approval of its own. One that is held by then: nothing is dropped."""
    home = many
    govern(home, "approvals: {expire: second-person}")
    retain(home, "2 versions")
    home.change("noted\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    later(73 * HOURS)
    first = points(home)
    name = approval_of(home("expire", "data-files"))
    (asked,) = home("approvals", "--json").document["approvals"]
    assert asked["id"] == name
    assert asked["parameters"] == {"source": "data-files", "points": sorted(first[2:])}
    assert points(home) == first
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    home.change("one more\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    done = home("expire", "data-files")
    assert done.status is ExitStatus.SUCCESS, done
    assert points(home)[1:] == first[:2]
    assert "due since the approval was asked for" in done.out
    assert standing(home, name) == "used"

    home.change("and one\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    second = approval_of(home("expire", "data-files"))
    assert second != name
    become(BO)
    assert approve(home, second).status is ExitStatus.SUCCESS
    assert home("hold", "add", first[0], "--reason", "case 4711").status is ExitStatus.SUCCESS
    third = approval_of(home("expire", "data-files"))
    assert third not in (name, second), "the plan that was approved is not the plan any more"
    assert standing(home, second) == "given"
    assert set(first[:2]) <= set(points(home))


def test_a_worker_that_waits_for_an_approval_has_not_failed(many: Home, become: Become, later: Later) -> None:
    """It says so, asks once, and goes on with the rest; its dead man's switch is told that all is well."""
    home = many
    govern(home, "approvals: {expire: anyone}")
    retain(home, "2 versions")
    assert home("backup", "data-files").status in (ExitStatus.SUCCESS, ExitStatus.INCOMPLETE)
    later(73 * HOURS)
    first = home("worker", "--once", "--json").document["actions"]
    (expired,) = [action for action in first if action["action"] == "expire"]
    assert expired["error"]["code"] == "approval-needed"
    later(2 * HOURS)
    home("worker", "--once")
    (asked,) = home("approvals", "--json").document["approvals"]
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    later(2 * HOURS)
    before = points(home)
    home("worker", "--once")
    assert set(before) - set(points(home)) == set(asked["parameters"]["points"])


def test_a_prune_deletes_no_more_packs_than_were_approved(many: Home, become: Become, later: Later) -> None:
    """What waits for its grace is approved as well; what another expiry made superfluous since then is not."""
    home = many
    govern(home, "approvals: {prune: second-person}\n  approval_valid_for: 30 days")
    retain(home, "2 versions")
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    later(73 * HOURS)
    assert home("prune", "one").status is ExitStatus.SUCCESS, "nothing to do needs no approval"
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    before = {file for file in (home.vault("one") / "repositories").rglob("*") if file.is_file()}
    name = approval_of(home("prune", "one"))
    packs = home("approvals", "--json").document["approvals"][0]["parameters"]["packs"]
    assert packs
    assert {file for file in before if "/data/" in str(file)} == {
        file for file in (home.vault("one") / "repositories").rglob("*") if file.is_file() and "/data/" in str(file)
    }
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    home.change("one more\n" * 9)
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    home.change("and more\n" * 9)
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    second = approval_of(home("prune", "one"))
    assert second != name
    assert standing(home, name) == "given"
    become(BO)
    assert approve(home, second).status is ExitStatus.SUCCESS
    done = home("prune", "one")
    assert done.status is ExitStatus.SUCCESS, done
    assert standing(home, second) == "used"
    later(25 * HOURS)
    third = approval_of(home("prune", "one"))
    assert third not in (name, second), "an approval counts once, also for what only waits by then"
    assert home("verify", "one").status is ExitStatus.SUCCESS


def test_a_hold_is_released_and_a_key_taken_away_only_with_approval(home: Home, become: Become) -> None:
    govern(home, "approvals: {hold-release: second-person, key-removal: second-person}")
    hold = home("hold", "add", "data-files", "--reason", "case 4711", "--json").document["hold"]["id"]
    spare = str(home.root / "spare.key")
    assert home("key", "add", "--make", spare, "--vault", "one").status is ExitStatus.SUCCESS
    keys = home("key", "list", "--vault", "one", "--json").document["vaults"][0]["keys"]
    (key,) = [each["id"] for each in keys if not each["in_use"]]
    commands = {
        approval_of(home(*command)): command
        for command in (
            ("hold", "release", hold[:20], "--reason", "closed"),
            ("key", "remove", key, "--vault", "one"),
        )
    }
    assert len(commands) == 2
    assert [each["id"] for each in home("hold", "--json").document["holds"]] == [hold]
    for name, command in commands.items():
        assert approve(home, name).status is ExitStatus.REFUSED
        become(BO)
        assert approve(home, name).status is ExitStatus.SUCCESS
        become(ADA)
        assert home(*command).status is ExitStatus.SUCCESS
        assert standing(home, name) == "used"
    assert home("hold", "--json").document["holds"] == []
    assert len(home("key", "list", "--vault", "one", "--json").document["vaults"][0]["keys"]) == 1
    assert home("hold", "release", "hold-", "--reason", "again").status is ExitStatus.REFUSED


def test_a_rotation_leaves_the_old_key_until_its_removal_is_approved(home: Home, become: Become) -> None:
    """The new secret is in place; run again after the approvals, it finishes."""
    govern(home, "approvals: {key-removal: anyone}")
    assert home("key", "rotate").status is ExitStatus.REFUSED
    asked = home("approvals", "--json").document["approvals"]
    assert sorted(each["parameters"]["vault"] for each in asked) == ["one", "three", "two"]
    assert home("verify", "one").status is ExitStatus.SUCCESS
    for each in asked:
        assert approve(home, each["id"]).status is ExitStatus.SUCCESS
    assert home("key", "rotate", "--json").document["finished"] is True


def test_a_source_that_is_taken_out_is_told_until_that_is_approved(home: Home, become: Become) -> None:
    """Backups of the others go on meanwhile, and the audit has a finding."""
    govern(home, "approvals: {source-removal: second-person}")
    assert home("backup").status is ExitStatus.SUCCESS
    text = home.policy.read_text()
    start = text.index("  ledger-database:")
    rest = text[start + 3 :]
    end = (
        start
        + 3
        + min(found for mark in ("\n  ", "\n\n", "\n#") for found in [_next_setting(rest, mark)] if found >= 0)
    )
    home.policy.write_text(text[:start] + text[end + 1 :])
    done = home("backup")
    assert done.status is ExitStatus.SUCCESS, done
    name = next(word for word in done.err.replace(";", " ").split() if word.startswith("approval-")).rstrip(".:")
    assert "Taking source 'ledger-database' out of the policy needs an approval by a second person" in done.err
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    after = home("backup")
    assert "approval-" not in after.err
    assert standing(home, name) == "used"
    left = {point["source"] for point in home("points", "--json").document["points"]}
    assert "ledger-database" in left, "its points stay"


def _next_setting(text: str, mark: str) -> int:
    """Where the next line begins that is no setting of the source before."""
    place = text.find(mark)
    while place >= 0 and text[place : place + 5] == "\n    ":
        place = text.find(mark, place + 1)
    return place


# -- a shortened retention ---------------------------------------------------------------------------------------------


def test_a_shortened_retention_waits_72_hours_without_any_governance(many: Home, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    first = points(home)
    assert len(first) > 3
    looked = home("expire", "--dry-run", "data-files")
    assert "kept by the retention before, '90 days'; one that was shortened waits until" in looked.out
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    later(71 * HOURS)
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    home("worker", "--once")
    assert points(home)[-len(first) :] == first
    later(2 * HOURS)
    assert home("expire", "data-files").status is ExitStatus.SUCCESS
    assert len(points(home)) == 2
    (changed,) = [each for each in records(home, "policy") if "retention_before" in each]
    assert (changed["source"], changed["retention_before"], changed["retention_after"], changed["shorter"]) == (
        "data-files",
        "90 days",
        "2 versions",
        True,
    )


def test_the_72_hours_begin_anew_with_each_change_and_a_longer_one_waits_for_nothing(many: Home, later: Later) -> None:
    home = many
    first = points(home)
    retain(home, "1 version")
    home("expire")
    later(50 * HOURS)
    retain(home, "2 versions")
    home("expire")
    later(50 * HOURS)
    home("expire")
    assert points(home) == first, "neither has waited for 72 hours"
    later(23 * HOURS)
    home("expire")
    assert points(home) == first[:2]
    retain(home, "1 year")
    assert "waits" not in home("expire", "--dry-run").out


def test_a_shortened_retention_needs_the_approval_that_policy_asks_for_and_the_72_hours(
    many: Home, become: Become, later: Later
) -> None:
    home = many
    first = points(home)
    govern(home, "approvals: {shorter-retention: second-person}")
    retain(home, "2 versions")
    told = home("expire", "data-files")
    assert told.status is ExitStatus.SUCCESS, told
    (asked,) = home("approvals", "--json").document["approvals"]
    assert f"cto.backups approve {asked['id']}" in told.err
    assert asked["parameters"]["becomes"] == "2 versions"
    assert asked["parameters"]["kept_by"] == ["90 days"]
    later(70 * HOURS)
    assert approve(home, asked["id"]).status is ExitStatus.REFUSED
    become(BO)
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    assert standing(home, asked["id"]) == "used"
    home("expire", "data-files")
    assert points(home) == first, "it is approved, and waits"
    later(3 * HOURS)
    home("expire", "data-files")
    assert points(home) == first[:2]


def test_a_shortened_retention_that_nobody_approves_never_applies(many: Home, become: Become, later: Later) -> None:
    home = many
    first = points(home)
    govern(home, "approvals: {shorter-retention: anyone}")
    retain(home, "2 versions")
    home("expire")
    later(1000 * HOURS)
    told = home("expire")
    assert points(home) == first
    (asked,) = home("approvals", "--json").document["approvals"]
    assert f"cto.backups approve {asked['id']}" in told.err, "asked anew, since the first request has expired"
    assert "needs an approval" in home("expire", "--dry-run").out


def kept_too_long(home: Home) -> list[str]:
    """The sources of which the audit says that points are kept too long."""
    found = home("audit", "--json", "--no-save").document["findings"]
    return [each["subject"] for each in found if each["control"] == "kept-too-long"]


def test_the_audit_knows_what_keeps_points(many: Home, become: Become, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    home("expire", "--dry-run")
    govern(home, "approvals: {shorter-retention: anyone}")
    home("expire")
    later(12 * 24 * HOURS)
    assert kept_too_long(home) == [], "nobody has approved that it is shorter"
    (asked,) = home("approvals", "--json").document["approvals"]
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    assert kept_too_long(home) == ["data-files"]
    hold = home("hold", "add", "data-files", "--reason", "case", "--json").document["hold"]["id"]
    assert kept_too_long(home) == []
    assert home("hold", "release", hold, "--reason", "closed").status is ExitStatus.SUCCESS
    assert kept_too_long(home) == ["data-files"]
    assert home("expire").status is ExitStatus.SUCCESS
    assert kept_too_long(home) == []


# -- the rules themselves ----------------------------------------------------------------------------------------------


def governance_findings(home: Home) -> list[str]:
    """What the audit says of the rules."""
    found = home("audit", "--json", "--no-save").document["findings"]
    return [each["detail"] for each in found if each["control"] == "governance-kept"]


def test_taking_the_section_out_of_the_policy_is_no_way_round_it(home: Home, become: Become) -> None:
    govern(home, f'approvals: {{restore: second-person}}\n  approvers: ["{ADA}", "{BO}"]')
    first = approval_of(home(*IN_PLACE))
    govern(home, "")
    home.change("what stands there\n")
    told = home(*IN_PLACE)
    assert told.status is ExitStatus.REFUSED, "the rules before hold"
    assert first in told.err
    (asked,) = [
        each for each in home("approvals", "--json").document["approvals"] if each["action"] == "governance-change"
    ]
    assert f"cto.backups approve {asked['id']}" in told.err
    assert "the section 'governance' is gone" in told.err
    assert ["nobody has approved" in detail for detail in governance_findings(home)] == [True]
    assert approve(home, asked["id"]).status is ExitStatus.REFUSED
    become(CY)
    assert approve(home, asked["id"]).status is ExitStatus.REFUSED, "no approver by the rules before"
    become(BO)
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    become(ADA)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    assert standing(home, asked["id"]) == "used"
    assert governance_findings(home) == []


def test_more_rules_hold_at_once_and_fewer_when_that_is_approved(home: Home, become: Become) -> None:
    hold = home("hold", "add", "data-files", "--reason", "case", "--json").document["hold"]["id"]
    release = ("hold", "release", hold, "--reason", "closed")
    govern(home, "approvals: {hold-release: anyone}")
    assert home(*release).status is ExitStatus.REFUSED
    govern(home, "approvals: {hold-release: anyone, restore: anyone}")
    approval_of(home(*IN_PLACE))
    assert [each for each in records(home, "policy") if "governance" in each][-1]["governance"].count("anyone") == 2
    govern(home, "approvals: {expire: anyone}")
    told = home("expire")
    assert "'restore' needs no approval; 'hold-release' needs no approval" in told.err
    assert home(*release).status is ExitStatus.REFUSED
    name = next(word for word in told.err.split() if word.startswith("approval-")).rstrip(".,;:")
    assert approve(home, name).status is ExitStatus.SUCCESS
    assert home(*release).status is ExitStatus.SUCCESS
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS


def test_approvers_that_nobody_is_keep_nobody_from_a_recovery(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}\n  approvers: [nobody-is-called-so]")
    name = approval_of(home(*IN_PLACE))
    assert approve(home, name).status is ExitStatus.REFUSED, "but a second person it must be"
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS


def test_a_clock_that_was_ahead_forgets_no_later_rules(
    home: Home, become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + 1000 * HOURS)
    govern(home, "approvals: {restore: anyone}")
    home("verify", "one")
    monkeypatch.setattr(clock, "now", now)
    govern(home, "approvals: {restore: second-person}")
    for _ in range(2):
        home("verify", "one")
    said = [each["governance"] for each in records(home, "policy") if "governance" in each]
    assert len(said) == 2, "signed once, however often it is looked at"
    govern(home, "approvals: {restore: anyone}")
    assert home(*IN_PLACE).status is ExitStatus.REFUSED
    asked = home("approvals", "--json").document["approvals"]
    assert {each["action"] for each in asked} == {"restore", "governance-change"}
    for each in asked:
        assert approve(home, each["id"]).status is ExitStatus.REFUSED, "a second person, for either"


def test_a_worker_that_began_before_heeds_the_rules_that_came_since(many: Home, become: Become, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    home("expire", "--dry-run")
    home.settle()
    there = points(home)
    with opened(home.policy) as opening:
        govern(home, "approvals: {expire: second-person}")
        home("verify", "one")
        with pytest.raises(GovernanceError):
            expire(opening.installation, plan(opening.installation, "data-files"))
    assert points(home) == there


def test_of_two_policies_at_once_the_stricter_rules_of_both_hold(home: Home, become: Become) -> None:
    """Another process accepts rules between the look of this one and what it accepts itself."""
    govern(home, "approvals: {restore: anyone}")
    home("verify", "one")
    govern(home, "approvals: {restore: anyone, expire: anyone}")
    with opened(home.policy, write=False) as reading:
        looked = reading.installation.catalog.approvals.rules()
    with opened(home.policy) as opening:
        approvals, installation = opening.installation.catalog.approvals, opening.installation
        assert not approvals.accept_rules(None, looked, "", "", installation.signer, clock.now())
        assert approvals.rules() == installation.policy.governance


def test_rules_that_ask_for_more_are_kept_while_others_wait(home: Home, become: Become) -> None:
    hold = home("hold", "add", "data-files", "--reason", "case", "--json").document["hold"]["id"]
    release = ("hold", "release", hold, "--reason", "closed")
    govern(home, "approvals: {restore: anyone}")
    home("verify", "one")
    govern(home, "approvals: {restore: anyone}\n  approval_valid_for: 96 h")
    home("verify", "one")
    govern(home, "approvals: {restore: anyone, hold-release: anyone}\n  approval_valid_for: 96 h")
    assert home(*release).status is ExitStatus.REFUSED
    govern(home, "approvals: {restore: anyone}\n  approval_valid_for: 96 h")
    assert home(*release).status is ExitStatus.REFUSED, "once asked for, it holds"


def test_rules_that_cannot_be_read_are_a_damaged_catalog(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: anyone}")
    home("verify", "one")
    for text in ("[1", "[]", '{"valid_for_seconds": 1e300, "documents": [], "approvals": {}, "approvers": []}'):
        with contextlib.closing(sqlite3.connect(home.root / "catalog.db")) as connection, connection:
            connection.execute("UPDATE governing_rules SET rules = ?", (text,))
        for command in (("status",), ("backup",), ("audit",)):
            assert home(*command).status is ExitStatus.CATALOG, (command, text)


# -- governing documents -----------------------------------------------------------------------------------------------


def test_documents_are_read_and_their_digests_signed(many: Home, become: Become) -> None:
    import hashlib

    home = many
    rules = home.root / "ethics.md"
    rules.write_text("# Ethics\n")
    govern(home, "documents: [{path: ethics.md}]")
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    (done,) = records(home, "authorization")
    assert done["documents"] == [{"name": "ethics.md", "sha256": hashlib.sha256(rules.read_bytes()).hexdigest()}]
    assert (done["action"], done["approval"]) == ("restore", None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "it is missing"),
        ("---\ncto.backups: forbid restore until 2999-01-01\n---\n", "forbids 'restore' until the end of 2999-01-01"),
        ("---\ncto.backups: forbid everything\n---\n", "forbids 'restore'"),
        ("---\ncto.backups: forbit restore\n---\n", "is no rule"),
    ],
)
def test_a_document_that_is_missing_forbidding_or_muddled_refuses(
    home: Home, become: Become, content: str | None, told: str
) -> None:
    """Also with an approval, which stays unused."""
    govern(home, "documents: [{path: ethics.md}]\n  approvals: {restore: anyone}")
    rules = home.root / "ethics.md"
    rules.write_text("# Ethics\n")
    name = approval_of(home(*IN_PLACE))
    assert approve(home, name).status is ExitStatus.SUCCESS
    rules.unlink()
    if content is not None:
        rules.write_text(content)
    home.change("what stands there\n")
    refused = home(*IN_PLACE)
    assert refused.status is ExitStatus.REFUSED
    assert "ethics.md" in refused.err
    assert told in refused.err
    assert (home.data / "files" / "report.txt").read_text() == "what stands there\n"
    assert standing(home, name) == "given"


def test_a_document_governs_what_it_says_and_no_more(home: Home, become: Become) -> None:
    govern(home, "documents: [{path: nowhere.md, governs: [key-removal, hold-release]}]")
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    hold = home("hold", "add", "data-files", "--reason", "case", "--json").document["hold"]["id"]
    refused = home("hold", "release", hold, "--reason", "closed")
    assert refused.status is ExitStatus.REFUSED
    assert "nowhere.md governs 'hold-release', and cannot be read" in refused.err


def test_a_document_that_has_changed_refuses_until_the_change_is_approved(home: Home, become: Become) -> None:
    """And the approval is of just that version."""
    rules = home.root / "ethics.md"
    rules.write_text("# Ethics\n")
    govern(home, "documents: [{path: ethics.md}]\n  approvals: {document-change: second-person}")
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    rules.write_text("# Ethics, loosened\n")
    name = approval_of(home(*IN_PLACE))
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    rules.write_text("# Ethics, loosened more\n")
    second = approval_of(home(*IN_PLACE))
    assert second != name
    rules.write_text("# Ethics, loosened\n")
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    assert standing(home, name) == "used"
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS, "it is the accepted version now"
    rules.write_text("# Ethics\n")
    assert home(*IN_PLACE).status is ExitStatus.REFUSED


def test_without_a_governance_section_nothing_is_asked_and_nothing_signed(many: Home) -> None:
    home = many
    retain(home, "2 versions")
    hold = home("hold", "add", "data-files", "--reason", "case", "--json").document["hold"]["id"]
    for command in (
        IN_PLACE,
        ("hold", "release", hold, "--reason", "closed"),
        ("expire",),
        ("prune",),
        ("key", "rotate"),
    ):
        assert home(*command).status is ExitStatus.SUCCESS, command
    assert records(home, "authorization") == []
    assert home("approvals", "--all").out == "Nothing was ever asked for.\n"


def test_the_moment_of_a_request_is_told_on_the_clock_of_the_policy(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: anyone}")
    name = approval_of(home(*IN_PLACE))
    (asked,) = home("approvals", "--json").document["approvals"]
    assert datetime.fromisoformat(asked["expires_at"]) - datetime.fromisoformat(asked["requested_at"]) == 72 * HOURS
    out = home("approvals").out
    assert f"{name}: open" in out
    assert "overwrite: yes" in out
    assert "only: all" in out
