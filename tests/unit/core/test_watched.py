from cto_backups.core.watched import Place, Seen, Watchable


def test_a_place_leaves_nothing_out_unless_it_is_told_to():
    place = Place(b"/data")
    assert not place.leaves(b"/data/x", b"x", False)
    assert (place.names, place.below) == (None, False)


def test_nothing_seen_is_nothing_changed_and_nothing_lost():
    assert (Seen().changed, Seen().lost) == (frozenset(), {})


def test_a_source_is_watchable_if_it_says_where_it_lies():
    class Somewhere:
        def places(self):
            return [Place(b"/data")]

    assert isinstance(Somewhere(), Watchable)
    assert not isinstance(object(), Watchable)
