"""What travelled is added up by day, vault and action; what lies there is counted from the last verification on."""

from datetime import timedelta

from cto_backups.core.model import Step
from cto_backups.core.traffic import Traffic


def test_what_travelled_is_added_up_by_day(catalog, build):
    book = catalog.traffic
    book.note("copy", {"far": Traffic(1, 2, 3, 4, 5), "near": Traffic(writes=1)}, build.ago(days=40))
    book.note("copy", {"far": Traffic(1, 2, 3, 4, 5)}, build.ago(days=3))
    book.note("copy", {"far": Traffic(1, 1, 1, 1, 2**40)}, build.ago(days=3))
    book.note("verify", {"far": Traffic(reads=7)}, build.now)
    assert book.since(build.ago(days=30)) == {
        "far": {"copy": Traffic(2, 3, 4, 5, 2**40 + 5), "verify": Traffic(reads=7)}
    }
    assert set(book.since(build.ago(days=41))) == {"far", "near"}


def test_what_lies_in_a_vault_is_what_was_counted_last_and_what_came_since(catalog, build):
    for number in range(3):
        point = build.point(f"p{number}", build.ago(hours=9 - number))
        catalog.add_point_with_copy(point, build.copy(point.id, "near", build.ago(hours=9 - number), added_bytes=100))
    assert catalog.traffic.stored() == {"far": 0, "near": 300}
    counted = Step("read", build.ago(hours=8), 1.0, True, figures={"bytes_stored": 5000})
    catalog.add_evidence(
        build.reading("v1", "near", build.ago(hours=7), started_at=build.ago(hours=7.5), steps=(counted,))
    )
    assert catalog.traffic.stored()["near"] == 5100
    catalog.add_evidence(build.reading("v2", "near", build.now, started_at=build.now - timedelta(minutes=1)))
    assert catalog.traffic.stored()["near"] == 300, "a verification that counted nothing says nothing"
