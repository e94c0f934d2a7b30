"""Places to harm, made once a process and copied for each test."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from faults.logged_vault import Line
from faults.operations import OPERATIONS
from faults.workplace import Workplace, new_workplace

Ready = Callable[[str], tuple[Workplace, list[Line]]]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """See `new_workplace`; not to be changed."""
    return new_workplace(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def ready_for(base: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """The place in which an operation has something to do, not to be changed; and what it writes when left alone."""
    places = tmp_path_factory.mktemp("ready")

    @cache
    def ready(name: str) -> tuple[Workplace, list[Line]]:
        place = base.copy(places / name)
        for step in OPERATIONS[name].after:
            operation, kill = step if isinstance(step, tuple) else (step, None)
            place.run(operation, kill)
        return place, place.copy(places / f"{name}-clean").run(name)

    return ready


@pytest.fixture
def harmed(tmp_path: Path) -> Iterator[Path]:
    """Where the copy that is harmed goes; removed at once, since there are many of them."""
    import shutil

    yield tmp_path / "harmed"
    shutil.rmtree(tmp_path / "harmed", ignore_errors=True)
