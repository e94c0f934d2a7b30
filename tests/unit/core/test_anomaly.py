"""Which changes of a source are suspected, and which are not, by histories of figures."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.core.anomaly import HISTORY, suspicions
from cto_backups.core.change import Change, NewContent
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.rows import rows_samples

MIB = 1 << 20
SIZE, ENTRIES = 100 * MIB, 1000


class Days:
    """Points of one source of 100 MiB in 1000 entries, of which a little changes each day; it compresses to 30 %."""

    def __init__(self, build):
        self.build = build
        self.made = 0

    def point(self, *, before=(SIZE, ENTRIES), size=SIZE, entries=ENTRIES, new_bytes=MIB, stored=0.3, **changes):
        figures = {"new": 0, "changed": 10, "removed": 0, "renamed": 0, "entropy": 5.0, "blank": 0, "compared": True}
        figures |= changes
        content = NewContent(
            read_bytes=new_bytes,
            new_bytes=new_bytes,
            stored_bytes=int(new_bytes * stored),
            blank_bytes=figures["blank"],
            entropy=figures["entropy"],
        )
        change = Change(
            parent_entries=before[1],
            parent_bytes=before[0],
            compared=figures["compared"],
            new_entries=figures["new"],
            changed_entries=figures["changed"],
            removed_entries=figures["removed"],
            renamed_entries=figures["renamed"],
            content=content,
        )
        self.made += 1
        moment = self.build.now - timedelta(days=100) + timedelta(days=self.made)
        return self.build.point(
            moment, size_bytes=size, entry_count=entries, change=change, incomplete=figures.get("incomplete", False)
        )

    def first(self, stored=0.3, entropy=5.0):
        return self.point(
            before=(0, 0), new_bytes=SIZE, stored=stored, entropy=entropy, new=ENTRIES, changed=0, compared=False
        )

    def history(self, days=20, first=None, **day):
        return [first or self.first(), *(self.point(**day) for _ in range(days))]


@pytest.fixture
def days(build):
    return Days(build)


def logged(point):
    """The point with a log, as it is made between bases, and of a base."""
    return replace(point, fingerprint=Fingerprint("any/1", {}, {}, (Sample("log", MOMENTS),)))


def kinds(found):
    return [each.partition(":")[0] for each in found]


MOMENTS = {"since": "2026-11-01T00:00:00+00:00", "until": "2026-11-02T00:00:00+00:00"}
SCRAMBLED = {"stored": 1.0, "entropy": 8.0}
SCRAMBLING = "mass change of content that no longer compresses"


def test_an_ordinary_day_is_not_suspected(days):
    history = days.history()
    assert suspicions(days.point(), history) == ()
    assert suspicions(days.point(new_bytes=SIZE, new=300, changed=700), history) == ()


@pytest.mark.parametrize("share", [1.0, 0.3, 0.12])
def test_content_that_no_longer_compresses_is_suspected(days, share):
    encrypted = days.point(new_bytes=int(SIZE * share), **SCRAMBLED)
    (said,) = suspicions(encrypted, days.history())
    assert said == (
        f"{SCRAMBLING}: {share:.0%} of the source was replaced by what compresses to 100 %, where 30 % is usual"
    ).replace(f"{share:.0%}", f"{share * 100:.0f} %")


def test_one_earlier_point_is_history_enough_for_content(days):
    assert kinds(suspicions(days.point(new_bytes=SIZE, **SCRAMBLED), [days.first()])) == [SCRAMBLING]


def test_what_is_added_and_replaces_nothing_is_not_suspected(days):
    added = days.point(new_bytes=SIZE // 2, size=SIZE + SIZE // 2, new=50, **SCRAMBLED)
    assert suspicions(added, days.history()) == ()


def test_a_little_that_does_not_compress_is_not_suspected(days):
    history = days.history()
    assert suspicions(days.point(new_bytes=SIZE // 12, **SCRAMBLED), history) == ()
    small = days.point(before=(15 << 10, 40), size=15 << 10, new_bytes=15 << 10, **SCRAMBLED)
    assert suspicions(small, history) == (), "below the floor"


def test_half_encrypted_content_is_suspected_by_how_it_compresses_and_its_entropy(days):
    history = days.history()
    assert kinds(suspicions(days.point(new_bytes=SIZE // 2, stored=0.65, entropy=7.0), history)) == [SCRAMBLING]
    assert suspicions(days.point(new_bytes=SIZE // 2, stored=0.65, entropy=5.1), history) == (), "dense, but not random"
    assert kinds(suspicions(days.point(new_bytes=SIZE // 2, stored=0.65, entropy=0.0), history)) == [SCRAMBLING], (
        "where nothing was sampled, entropy says nothing"
    )


def test_what_compressed_badly_on_many_days_is_usual(days):
    varied = [days.point(stored=0.2 + 0.1 * (number % 7), entropy=7.5) for number in range(21)]
    assert suspicions(days.point(new_bytes=SIZE // 4, stored=0.85, entropy=7.9), varied) == ()


def test_without_figures_of_earlier_content_only_what_compresses_hardly_at_all_is_suspected(build, days):
    history = [build.point(size_bytes=SIZE) for _ in range(9)]
    assert kinds(suspicions(days.point(new_bytes=SIZE, **SCRAMBLED), history)) == [SCRAMBLING]
    assert suspicions(days.point(new_bytes=SIZE, stored=0.7, entropy=8.0), history) == ()


RESTLESS = "mass change of content that does not compress"


def test_a_source_that_never_compressed_is_judged_by_how_much_of_it_changes(days):
    first = days.first(stored=0.98, entropy=7.9)
    dense = {"stored": 1.0, "entropy": 8.0}
    history = days.history(first=first, **dense)
    (said,) = suspicions(days.point(new_bytes=SIZE // 2, **dense), history)
    assert said == f"{RESTLESS}: 50 % of the source was replaced, where 1 % is usual"
    assert suspicions(days.point(new_bytes=SIZE // 4, **dense), history) == ()
    assert suspicions(days.point(new_bytes=SIZE // 2, compared=False, **dense), history) == ()
    assert suspicions(days.point(new_bytes=SIZE // 2, **dense), history[:7]) == (), "too young"
    restless = days.history(first=first, new_bytes=SIZE // 2, **dense)
    assert suspicions(days.point(new_bytes=SIZE // 2, **dense), restless) == ()


def test_files_overwritten_with_one_byte_are_suspected(days):
    wiped = days.point(new_bytes=1 << 10, blank=SIZE // 2, stored=0.001, entropy=0.0)
    (said,) = suspicions(wiped, days.history())
    assert said == "mass change of content to nothing: 50 % of the source was overwritten with one repeated byte"
    assert suspicions(days.point(blank=SIZE // 5), days.history()) == ()
    assert suspicions(wiped, days.history(blank=SIZE // 2)) == (), "such a source has it every day"
    image = replace(days.first(), change=replace(days.first().change, content=NewContent(blank_bytes=SIZE // 2)))
    assert suspicions(wiped, [image, *days.history()]) == (), "such as an image of a disk with much room"
    tiny = days.point(before=(20 << 10, 5), size=20 << 10, new_bytes=1 << 10, blank=15 << 10)
    assert suspicions(tiny, days.history()) == ()


def test_a_base_is_as_blank_as_bases_are_and_not_as_the_log_between_them(days):
    logs = [logged(days.point()) for _ in range(30)]
    base = logged(days.point(new_bytes=SIZE, blank=SIZE // 2))
    assert suspicions(base, logs) == (), "nothing is known of bases"
    assert suspicions(base, [*logs, base]) == ()
    wiped = logged(days.point(new_bytes=SIZE, blank=SIZE * 9 // 10))
    assert kinds(suspicions(wiped, [*logs, base])) == ["mass change of content to nothing"]
    assert kinds(suspicions(logged(days.point(blank=SIZE // 2)), logs)) == ["mass change of content to nothing"]


def test_mass_deletion_is_suspected(days):
    gone = days.point(size=60 * MIB, entries=600, removed=400)
    (said,) = suspicions(gone, days.history())
    assert said == "mass deletion: 400 of 1000 entries are gone"
    assert suspicions(gone, days.history(days=1)) == (), "too young a history"
    assert suspicions(days.point(removed=400, new=300), days.history()) == (), "new ones came in their place"
    assert suspicions(days.point(removed=400, compared=False), days.history()) == ()
    assert suspicions(days.point(removed=400, incomplete=True), days.history()) == ()
    few = days.point(before=(SIZE, 60), entries=20, removed=40)
    assert suspicions(few, days.history()) == (), "a small source"


def test_without_figures_of_earlier_days_the_floors_decide(build, days):
    history = [build.point(size_bytes=SIZE) for _ in range(9)]
    assert kinds(suspicions(days.point(removed=400), history)) == ["mass deletion"]
    assert suspicions(days.point(removed=300), history) == ()


def test_what_happened_once_and_was_meant_is_no_surprise_again(days):
    gone = days.point(size=60 * MIB, entries=600, removed=400)
    assert suspicions(gone, [*days.history(), gone]) == ()
    assert kinds(suspicions(days.point(removed=900), [*days.history(), gone])) == ["mass deletion"], "but worse is"


def test_a_source_that_often_loses_much_needs_more_to_be_suspected(days):
    history = [days.point(removed=100 * (number % 3)) for number in range(12)]
    assert suspicions(days.point(removed=400), history) == ()


def test_mass_rename_is_suspected(days):
    renamed = days.point(new=700, removed=700, renamed=700, changed=0, new_bytes=0)
    assert suspicions(renamed, days.history()) == ("mass rename: 700 of 1000 entries have another name",)
    assert suspicions(days.point(new=400, removed=400, renamed=400), days.history()) == ()
    few = days.point(before=(SIZE, 50), new=40, removed=40, renamed=40)
    assert suspicions(few, days.history()) == ()


def test_a_collapsed_size_is_suspected(days):
    history = days.history()
    small = days.point(size=SIZE // 5)
    assert suspicions(small, history) == ("size collapsed: 20 % of what it was",)
    assert suspicions(days.point(size=SIZE * 3 // 5), history) == ()
    assert suspicions(small, [*history, small]) == (), "it has been as small"
    swinging = [
        days.point(before=(SIZE << number % 2 * 4, ENTRIES), size=(SIZE << 4) >> number % 2 * 4) for number in range(9)
    ]
    assert suspicions(days.point(size=SIZE // 5), swinging) == (), "it swings like that"


def test_falling_back_from_a_spike_is_no_collapse(days):
    spike = days.point(size=3 * SIZE, new_bytes=2 * SIZE)
    back = days.point(before=(3 * SIZE, ENTRIES), size=SIZE)
    assert suspicions(back, [*days.history(), spike]) == ()


def test_an_exploded_size_is_suspected(days):
    history = days.history()
    large = days.point(size=5 * SIZE, new_bytes=4 * SIZE)
    assert suspicions(large, history) == ("size exploded: 500 % of what it was",)
    assert suspicions(days.point(size=3 * SIZE, new_bytes=2 * SIZE), history) == ()
    assert suspicions(large, [*history, replace(large, size_bytes=2 * SIZE)]) == ()
    growing = [days.point(before=(1 << 2 * number, ENTRIES), size=4 << 2 * number) for number in range(12)]
    assert suspicions(days.point(size=5 * SIZE, new_bytes=4 * SIZE), growing) == (), "it grows like that"


def test_a_point_with_nothing_to_compare_is_not_judged(build, days):
    assert suspicions(days.first(stored=1.0, entropy=8.0), []) == ()
    assert suspicions(build.point(), days.history()) == (), "no figures"
    empty = days.point(before=(0, 3), entries=3, removed=2, blank=MIB, renamed=0)
    assert suspicions(empty, days.history()) == (), "nothing but empty files before"
    assert suspicions(days.point(size=0, new_bytes=0), days.history()) == (), "nothing now: refused before it is judged"


@given(
    st.lists(st.tuples(st.floats(0, 0.09), st.floats(0.1, 1.0)), min_size=1, max_size=HISTORY),
    st.floats(0, 0.09),
    st.floats(0.1, 1.0),
)
def test_days_that_change_less_than_a_tenth_are_never_suspected(build, history, share, stored):
    days = Days(build)
    past = [days.first(), *(days.point(new_bytes=int(SIZE * part), stored=each) for part, each in history)]
    assert suspicions(days.point(new_bytes=int(SIZE * share), stored=stored, entropy=8.0), past) == ()


def test_each_of_many_figures_can_be_beyond_what_is_usual_at_once(days):
    locked = days.point(size=SIZE, new_bytes=SIZE, new=1000, removed=1000, changed=0, **SCRAMBLED)
    assert kinds(suspicions(locked, days.history())) == [SCRAMBLING]
    worse = days.point(size=SIZE // 5, entries=200, new_bytes=SIZE // 5, removed=800, **SCRAMBLED)
    assert kinds(suspicions(worse, days.history())) == [SCRAMBLING, "mass deletion", "size collapsed"]


def test_figures_are_shares_of_what_was_there_before(days):
    change = days.point(new_bytes=3 * MIB, removed=5, new=2).change
    assert change.replaced_bytes(SIZE) == 3 * MIB
    assert change.replaced_bytes(SIZE + MIB) == 2 * MIB
    assert change.replaced_bytes(2 * SIZE) == 0
    assert change.replaced_share(SIZE) == pytest.approx(0.03)
    assert change.lost_entries == 3
    assert days.point(new_bytes=0).change.stored_share == 1.0
    assert days.point(stored=1.2).change.stored_share == 1.0
    assert days.first().change.replaced_share(SIZE) == 0.0


def test_what_a_log_adds_is_not_judged_by_its_size_nor_the_base_after_it_by_logs(days):
    bases = days.history(5)
    logs = [logged(days.point(size=SIZE + each * 10 * MIB)) for each in range(1, 30)]
    burst = days.point(before=(2 * SIZE, ENTRIES), size=20 * SIZE, new_bytes=18 * SIZE)
    assert suspicions(logged(burst), bases + logs) == ()
    assert kinds(suspicions(burst, bases)) == ["size exploded"]
    after = days.point(before=(20 * SIZE, ENTRIES), size=SIZE - MIB, new_bytes=20 * MIB)
    assert suspicions(after, [*logs, *bases]) == ()
    emptied = days.point(before=(20 * SIZE, ENTRIES), size=SIZE // 4, new_bytes=MIB)
    assert kinds(suspicions(emptied, [*logs, *bases])) == ["size collapsed"]
    encrypted = logged(days.point(new_bytes=SIZE, **SCRAMBLED))
    assert kinds(suspicions(encrypted, bases + logs)) == [SCRAMBLING]


def with_rows(point, *rows):
    """The point of a database in which so many rows are; without a number, of something else."""
    return replace(point, fingerprint=Fingerprint("any/1", {}, {"rows": rows[0]} if rows else {}))


def with_databases(point, **rows):
    """The point of a server with several databases."""
    return replace(point, fingerprint=Fingerprint("any/1", {}, {"rows": sum(rows.values())}, (*rows_samples(rows),)))


def test_one_database_of_several_that_is_empty_now_is_named(days):
    history = [with_databases(each, shop=1_000_000, ledger=40 + number) for number, each in enumerate(days.history(3))]
    (said,) = suspicions(with_databases(days.point(), shop=1_000_001, ledger=0), history)
    assert said == "database ledger is empty: no row is in it, where 41 are usual"
    assert suspicions(with_databases(days.point(), shop=1_000_001, ledger=1), history) == (), "it has a row"
    assert suspicions(with_databases(days.point(), shop=1_000_001, fresh=0), history) == (), "a new one may be empty"
    queue = [*history[:2], with_databases(history[2], shop=1_000_000, ledger=0)]
    assert suspicions(with_databases(days.point(), shop=1_000_001, ledger=0), queue) == (), "it was so before"
    (said,) = suspicions(with_databases(days.point(), shop=1_000_001, ledger=0), history[:1])
    assert said == "database ledger is empty: no row is in it, where 40 were before", "from the second point on"


def test_one_database_of_several_that_lost_most_of_its_rows_is_named(days):
    first = with_databases(days.first(), shop=1_000_000, ledger=5_000)
    (said,) = suspicions(with_databases(days.point(), shop=1_000_001, ledger=400), [first])
    assert said == "rows of database ledger are gone: 400 are there, where 5,000 were before"
    assert suspicions(with_databases(days.point(), shop=1_000_001, ledger=2_600), [first]) == (), "some always go"


def test_rows_that_are_gone_are_suspected_though_no_file_shrank(days):
    history = [with_rows(each, 1_000_000 + number) for number, each in enumerate(days.history(3))]
    (said,) = suspicions(with_rows(days.point(), 400_000), history)
    assert said == "rows are gone: 400,000 are there, where 1,000,001 are usual"
    assert suspicions(with_rows(days.point(), 900_000), history) == (), "some always go"
    assert suspicions(with_rows(days.point()), history) == (), "nobody counted"
    assert suspicions(with_rows(days.point(), 5), [with_rows(each) for each in history]) == (), "nobody counted then"
    second = suspicions(with_rows(days.point(), 400_000), history[:1])
    assert second == ("rows are gone: 400,000 are there, where 1,000,000 were before",), "from the second point on"
    slowly = [with_rows(each, rows) for each, rows in zip(days.history(3), (9_000, 9_000, 9_000, 5_000), strict=True)]
    (said,) = suspicions(with_rows(days.point(), 4_400), slowly)
    assert said == "rows are gone: 4,400 are there, where 9,000 are usual", "in several steps"
    grown = [with_rows(each, rows) for each, rows in zip(days.history(3), (300, 310, 320, 9_000), strict=True)]
    (said,) = suspicions(with_rows(days.point(), 290), grown)
    assert said == "rows are gone: 290 are there, where 9,000 were before", "what it had grown to"
    few = [with_rows(each, 900) for each in history]
    assert suspicions(with_rows(days.point(), 5), few) == (), "a small table may be emptied"
    once = [*history, with_rows(days.point(), 300_000)]
    assert suspicions(with_rows(days.point(), 400_000), once) == (), "there were fewer once"
