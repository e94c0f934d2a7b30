"""What tests of the project as a whole look at: the files that git knows of."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def project_files(root: Path) -> list[Path]:
    """Every file of the project that exists, as git lists them."""
    listed = subprocess.run(
        # A checkout that somebody else owns (a container, sudo) is fine to be listed.
        ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    files = [root / name for name in listed if name and (root / name).is_file()]
    assert len(files) > 50, "git lists too few files: is this a whole checkout?"
    return files
