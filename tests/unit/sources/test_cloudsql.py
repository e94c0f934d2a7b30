"""Instances of Cloud SQL, over a service of tests that really recovers: exported, cloned, proven, and cleaned up."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.points import MemoryPoint

from cto_backups.core.comparison import compare
from cto_backups.core.model import Fingerprint
from cto_backups.sources.cloudsql.source import CloudSqlSource
from servers import cloudsql
from servers.cloudsql import CloudSql


@pytest.fixture(scope="module")
def running(postgresql_programs: Path) -> Iterator[CloudSql]:
    with cloudsql.cloud_sql(postgresql_programs) as made:
        yield made


@pytest.fixture
def service(running: CloudSql) -> Iterator[CloudSql]:
    """The service, without what the last test did to it."""
    yield running
    running.denied.clear()
    running.troubles.clear()
    running.asked.clear()
    running.held.set()
    running.main.told["settings"] = dict(cloudsql.SETTINGS)
    assert running.others == [], "nothing was left behind"


def captured(source: CloudSqlSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree)
        found = capture.fingerprint()
        capture.stored()
        return point, found


def test_an_export_and_a_clone_of_its_moment_are_what_the_instance_held(service: CloudSql, open_place: Path) -> None:
    source = CloudSqlSource("ledger", service.options(), state=open_place / "state")
    point, expected = captured(source)
    service.main.server.do("INSERT INTO twins VALUES ('after the point')", database="my shop")
    source.restore(point, open_place / "back")
    found = source.probe(open_place / "back", expected)
    assert compare(expected, found).passed, compare(expected, found).differences
    assert any(path.endswith("/clone") for _, path in service.asked)
