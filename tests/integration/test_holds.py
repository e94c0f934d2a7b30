"""Legal holds on a real installation: no path drops what is held, and every vault gets the signed record."""

import shutil
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.model import ActionKind
from cto_backups.core.plan import due
from cto_backups.errors import NotFoundError
from cto_backups.evidence.records import Record
from cto_backups.flows import expire, hold
from cto_backups.flows.protect import protect
from cto_backups.flows.recover import recover


@pytest.fixture
def points(workshop: Any) -> list[str]:
    """Four points, the oldest first; retention keeps two versions."""
    made = []
    for number in range(4):
        (workshop.data / "files" / "report.txt").write_text(f"version {number}\n")
        made.append(protect(workshop.installation, "documents").backup.point.id)
    return made


def kept(workshop: Any) -> list[str]:
    return sorted(point.id for point in workshop.catalog.points("documents"))


def kinds(workshop: Any, vault: str) -> list[str]:
    """The kinds of the records in a vault, in order."""
    files = sorted((workshop.vault_root(vault) / "records" / workshop.installation.signer.signer).iterdir())
    return [Record.from_bytes(workshop.opened(vault, file)).kind for file in files]


def test_a_hold_placed_while_a_plan_waits_wins(workshop: Any, points: list[str]) -> None:
    """The point is in the plan, and stays."""
    plan = expire.plan(workshop.installation, "documents")
    assert {decision.point.id for decision in plan.removed} == set(points[:2])
    placed = hold.place(workshop.installation, points[0], reason="case 4711", approver=None)
    done = expire.expire(workshop.installation, plan)
    assert kept(workshop) == sorted([points[0], *points[2:]])
    assert [decision.point.id for decision in done.plan.removed] == [points[1]]
    held = next(decision for decision in done.plan.decisions if decision.point.id == points[0])
    assert held.reasons[0].startswith(f"under legal hold {placed.hold.id} since")
    assert all(len(workshop.installation.store(vault).committed()) == 3 for vault in ("one", "two", "three"))


def test_a_hold_placed_between_the_last_judgement_and_the_dropping_wins(workshop: Any, points: list[str]) -> None:
    """As late as can be: another process places it just before the transaction that would drop the first point."""
    catalog = workshop.catalog
    plain = catalog.expire_point

    def late(point: str, *rest: Any) -> bool:
        if not catalog.holds():
            hold.place(workshop.installation, "documents", reason="case 4711", approver=None)
        return bool(plain(point, *rest))

    catalog.expire_point = late
    done = expire.expire(workshop.installation, expire.plan(workshop.installation, "documents"))
    assert kept(workshop) == sorted(points)
    assert done.plan.removed == ()
    assert [each.reasons for each in done.plan.decisions[2:]] == [("put under a legal hold meanwhile",)] * 2
    assert "expiry" not in kinds(workshop, "one")


def test_what_became_due_after_the_plan_was_made_is_left_to_the_next_run(workshop: Any, points: list[str]) -> None:
    """The plan that was shown is the most that is done."""
    plan = expire.plan(workshop.installation, "documents")
    (workshop.data / "files" / "report.txt").write_text("one more\n")
    points.append(protect(workshop.installation, "documents").backup.point.id)
    assert len(expire.expire(workshop.installation, plan).plan.removed) == 2
    assert kept(workshop) == sorted(points[2:])


def test_a_held_source_keeps_what_is_made_later_and_no_expire_is_planned(workshop: Any, points: list[str]) -> None:
    """Until it is released."""
    placed = hold.place(workshop.installation, "documents", reason="case 4711", approver="Ada")
    assert (placed.points, placed.problems, placed.hold.placed_by) == (4, {}, workshop.installation.user)
    (workshop.data / "files" / "report.txt").write_text("one more\n")
    points.append(protect(workshop.installation, "documents").backup.point.id)

    def planned() -> bool:
        facts = workshop.catalog.facts(clock.now(), kept_points=True)
        return any(action.kind is ActionKind.EXPIRE for action in due(workshop.installation.policy, facts, clock.now()))

    assert expire.plan(workshop.installation, "documents").removed == ()
    assert not planned()
    recover(workshop.installation)
    assert kept(workshop) == sorted(points)
    hold.release(workshop.installation, placed.hold.id[:20], reason="closed")
    assert planned()
    assert len(expire.expire(workshop.installation, expire.plan(workshop.installation, "documents")).plan.removed) == 3


def test_each_vault_gets_the_records_one_that_is_away_with_the_next(workshop: Any, points: list[str]) -> None:
    """The hold is in force at once; the command says which vault does not have the record."""
    shutil.move(workshop.vault_root("three"), workshop.root / "away")
    placed = hold.place(workshop.installation, points[0], reason="case 4711", approver=None)
    assert set(placed.problems) == {"three"}
    assert kinds(workshop, "one")[-1] == "hold"
    shutil.move(workshop.root / "away", workshop.vault_root("three"))
    assert hold.release(workshop.installation, placed.hold.id, reason="closed").problems == {}
    assert kinds(workshop, "three") == kinds(workshop, "one")
    assert kinds(workshop, "three")[-2:] == ["hold", "release"]


def test_what_is_not_there_cannot_be_held(workshop: Any, points: list[str]) -> None:
    """Neither a mistyped name nor a point that was dropped."""
    expire.expire(workshop.installation, expire.plan(workshop.installation, "documents"))
    for name in ("document", points[0], ""):
        with pytest.raises(NotFoundError):
            hold.place(workshop.installation, name, reason="case 4711", approver=None)
    assert workshop.catalog.holds(released=True) == ()
