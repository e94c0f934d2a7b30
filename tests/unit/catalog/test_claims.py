"""Claims in the catalog: one run at a time has one, and who lost it can write nothing more."""

from datetime import timedelta

import pytest

from cto_backups.core.claims import GRACE, LEASE
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.errors import BusyError, ClaimLostError

SECOND = timedelta(seconds=1)


def alive(_pid):
    return True


@pytest.fixture
def begin(catalog, build):
    """Begin a backup: at so much after the builder's moment, by a process of a host."""

    def begin(later=0 * SECOND, *, host="shop", pid=7, point="p1", alive=alive, action=ActionKind.BACKUP, planned=None):
        return catalog.start_run(
            action,
            source="ledger",
            vault="near",
            point=point,
            now=build.now + later,
            pid=pid,
            host=host,
            alive=alive,
            planned_at=planned,
        )

    return begin


@pytest.fixture
def taken_over(catalog, begin):
    """A run that gave no sign, and the one that has its claim now."""
    first = begin()
    for later in (LEASE, LEASE + GRACE - SECOND):
        with pytest.raises(BusyError):
            begin(later, host="other")
    return first, begin(LEASE + GRACE, host="other", pid=8, point="p2")


def outcomes(catalog):
    return [run.outcome for run in reversed(catalog.runs())]


def test_a_second_run_finds_it_busy_and_leaves_no_trace(catalog, begin):
    begin()
    with pytest.raises(BusyError, match=r"working on source 'ledger'.*process 7 on shop") as caught:
        begin(SECOND, action=ActionKind.EXPIRE)
    assert not isinstance(caught.value, ClaimLostError)
    assert len(catalog.runs()) == 1
    assert begin(SECOND, action=ActionKind.COPY).claim is not None, "a copy does not mind a backup"


def test_it_is_free_again_as_the_run_ends(catalog, build, begin):
    first = begin()
    catalog.finish_run(first.run, outcome=Outcome.SUCCEEDED, now=build.now, claim=first.claim)
    second = begin(SECOND)
    assert second.claim.token > first.claim.token
    assert second.outdone is None


def test_a_process_that_is_gone_is_not_waited_for(catalog, begin):
    begin()
    second = begin(SECOND, pid=8, alive=lambda pid: pid == 8)
    assert (second.outdone.host, second.outdone.pid, second.outdone.run.point) == ("shop", 7, "p1")
    assert outcomes(catalog) == [Outcome.INTERRUPTED, Outcome.RUNNING]


def test_who_gives_no_sign_is_doubted_and_then_outdone(catalog, taken_over):
    first, second = taken_over
    assert second.claim.token > first.claim.token
    assert second.outdone.run.id == first.run
    assert outcomes(catalog) == [Outcome.INTERRUPTED, Outcome.RUNNING]
    assert "no sign of life" in catalog.runs()[1].message


def test_signs_of_life_clear_a_doubt(catalog, build, begin):
    first = begin()
    with pytest.raises(BusyError):
        begin(LEASE, host="other")
    assert catalog.claims.extend(first.claim, build.now + LEASE + SECOND)
    with pytest.raises(BusyError):
        begin(LEASE + GRACE, host="other")


def test_signs_of_who_has_lost_it_or_given_it_back_count_for_nothing(catalog, build, taken_over):
    first, second = taken_over
    assert not catalog.claims.extend(first.claim, build.now)
    catalog.finish_run(second.run, outcome=Outcome.SUCCEEDED, now=build.now, claim=second.claim)
    assert not catalog.claims.extend(second.claim, build.now)


@pytest.mark.parametrize(
    "write",
    [
        lambda catalog, build: catalog.add_point_with_copy(build.point("p1"), build.copy("p1")),
        lambda catalog, build: catalog.add_copy(build.copy("p0", "far")),
        lambda catalog, build: catalog.add_evidence(build.test("t1", "p0")),
        lambda catalog, build: catalog.append_record(build.key, "recovery-point", {"id": "p1"}, build.now),
        lambda catalog, build: catalog.confirm("ledger", build.now),
        lambda catalog, build: catalog.expire_point("p0", build.now, ["old"], build.key),
        lambda catalog, build: catalog.forget_copy("p0", "near"),
        lambda catalog, build: catalog.retentions.settle("ledger", "1 version"),
        lambda catalog, build: catalog.traffic.note("backup", {}, build.now),
        lambda catalog, build: catalog.finish_run(1, outcome=Outcome.SUCCEEDED, now=build.now),
    ],
)
def test_who_has_lost_it_writes_nothing(catalog, build, taken_over, write):
    catalog.add_point_with_copy(build.point("p0"), build.copy("p0"))
    first, second = taken_over
    before = everything(catalog)
    with catalog.claims.under(first.claim), pytest.raises(ClaimLostError, match="another has taken over"):
        write(catalog, build)
    assert everything(catalog) == before
    with catalog.claims.under(second.claim):
        write(catalog, build)


def everything(catalog):
    tables = ("points", "copies", "evidence", "records", "runs", "sources", "claims", "retentions", "vault_traffic")
    with catalog.reading() as connection:
        return {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}


def test_a_token_that_comes_a_second_time_is_somebody_elses(catalog, build, begin):
    """As when the catalog has gone back to before the first came, and a run of another host has begun since."""
    first = begin()
    with catalog._writing() as connection:
        connection.execute("UPDATE claims SET host = 'other', pid = 8")
    with pytest.raises(ClaimLostError), catalog.claims.under(first.claim):
        catalog.confirm("ledger", build.now)
    assert not catalog.claims.extend(first.claim, build.now)
    catalog.finish_run(first.run, outcome=Outcome.SUCCEEDED, now=build.now, claim=first.claim)
    with pytest.raises(BusyError, match="process 8 on other"):
        begin(SECOND)


def test_what_is_done_on_the_way_of_a_lost_run_is_lost_as_well(catalog, build, begin, taken_over):
    first, _ = taken_over
    copying = begin(action=ActionKind.COPY)
    with (
        catalog.claims.under(first.claim),
        catalog.claims.under(copying.claim),
        pytest.raises(ClaimLostError, match="source 'ledger'"),
    ):
        catalog.add_copy(build.copy("p0"))
    with catalog.claims.under(copying.claim):
        catalog.confirm("ledger", build.now)


def test_what_is_deleted_is_asked_for_right_before(catalog, taken_over):
    first, second = taken_over
    catalog.claims.check()
    with catalog.claims.under(second.claim):
        catalog.claims.check()
        with catalog.claims.under(first.claim), pytest.raises(ClaimLostError) as caught:
            catalog.claims.check()
    assert caught.value.retryable


def test_a_lease_is_taken_over_by_one_of_many_threads(catalog, build, begin):
    from concurrent.futures import ThreadPoolExecutor

    def try_it(_number):
        try:
            return begin(host="other").claim.token
        except BusyError:
            return None

    with ThreadPoolExecutor(4) as pool:
        tokens = [token for token in pool.map(try_it, range(8)) if token is not None]
    assert len(tokens) == 1


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.UNCHANGED, Outcome.FAILED])
def test_what_another_has_done_since_it_was_planned_is_not_done_again(catalog, build, begin, outcome):
    first = begin()
    catalog.finish_run(first.run, outcome=outcome, now=build.now + 2 * SECOND, claim=first.claim)
    with pytest.raises(BusyError, match="since it was planned"):
        begin(3 * SECOND, planned=build.now + SECOND)
    assert len(catalog.runs()) == 1
    assert begin(3 * SECOND, planned=build.now + SECOND, action=ActionKind.EXPIRE), "that is another thing"


def test_what_was_planned_after_that_is_done(catalog, build, begin):
    first = begin()
    catalog.finish_run(first.run, outcome=Outcome.SUCCEEDED, now=build.now + SECOND, claim=first.claim)
    assert begin(3 * SECOND, planned=build.now + 2 * SECOND)


def test_neither_what_was_interrupted_nor_what_a_wrong_clock_dates_into_the_future_was_done(catalog, build, begin):
    first = begin()
    catalog.finish_run(first.run, outcome=Outcome.INTERRUPTED, now=build.now + 2 * SECOND, claim=first.claim)
    second = begin(3 * SECOND, planned=build.now + SECOND)
    catalog.finish_run(second.run, outcome=Outcome.SUCCEEDED, now=build.now + timedelta(hours=5), claim=second.claim)
    assert begin(4 * SECOND, planned=build.now + SECOND)
