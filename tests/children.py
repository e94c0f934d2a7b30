"""Processes that tests start: they import what the tests import, wherever this checkout's program comes from."""

import os
from pathlib import Path

TESTS = Path(__file__).parent


def import_path(*folders: str) -> dict[str, str]:
    """The variable by which a child finds `tests`, folders below it, and whatever this process was told to look at."""
    given = os.environ.get("PYTHONPATH", "")
    places = [os.fspath(TESTS), *(os.fspath(TESTS / folder) for folder in folders), *given.split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(place for place in places if place)}
