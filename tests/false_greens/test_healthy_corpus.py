"""Healthy installations raise no alarm on any of their days."""

from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from false_greens.healthy import CORPUS, Shape
from false_greens.site import Site, make


def looked_at(site: Site, day: float) -> None:
    """Nothing may be red."""
    status = site("status")
    assert status.status is ExitStatus.SUCCESS, (day, status.out)
    audit = site("audit", "--look", str(site.data), "--json")
    grave = [each for each in audit.document["findings"] if each["severity"] in ("high", "critical")]
    assert grave == [], (day, grave)


@pytest.mark.parametrize("shape", CORPUS, ids=lambda shape: shape.slug)
def test_raises_no_alarm(shape: Shape, tmp_path: Path) -> None:
    site = make(tmp_path / "site", shape.fill, shape.policy)
    looked_at(site, 0)
    looks, passed = 1, 0.0
    while passed < shape.days:
        step = min(shape.every, shape.days - passed)
        passed += step
        shape.live(site, looks)
        site.work(days=step, every=step)
        looked_at(site, passed)
        looks += 1
    assert looks == shape.looks


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 5
    assert len({shape.slug for shape in CORPUS}) == len(CORPUS)
