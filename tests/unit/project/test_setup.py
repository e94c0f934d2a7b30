"""Setting up: everything is pinned by hash, scripts stop at the first failure, and what is missing is said plainly."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

NEEDED = ("bash", "cat", "dirname", "flock", "git", "id", "mkdir", "rm", "sed", "sha256sum")


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A place, with a space in its path, that holds what setting up reads."""
    place = tmp_path / "my checkout"
    (place / "tools").mkdir(parents=True)
    for name in ("tools/setup", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, place / name)
    shutil.copytree(root / "native", place / "native", ignore=shutil.ignore_patterns("target"))
    return place


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the few commands that setting up may count on: no Python, no package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        (folder / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is not there"))
    return folder


def script(place: Path, text: str) -> None:
    place.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    place.chmod(0o755)


def set_up(checkout: Path, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup with these commands only, from another folder, without a home."""
    return subprocess.run(
        [tools / "bash", checkout / "tools" / "setup"],
        env={"PATH": os.fspath(tools), **environment},
        cwd="/",
        capture_output=True,
        text=True,
    )


def test_without_python_it_says_what_to_install(checkout: Path, tools: Path) -> None:
    done = set_up(checkout, tools)
    assert done.returncode == 1
    assert "no Python 3.11 or newer found" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_an_old_python_is_passed_over(checkout: Path, tools: Path) -> None:
    script(tools / "python3", "exit 1")
    done = set_up(checkout, tools)
    assert done.returncode == 1
    assert "no Python 3.11 or newer found" in done.stderr


def test_a_python_that_was_named_is_not_replaced_by_another(checkout: Path, tools: Path) -> None:
    (tools / "python3").symlink_to(sys.executable)
    script(tools / "old", "exit 1")
    done = set_up(checkout, tools, PYTHON="old")
    assert done.returncode == 1
    assert "PYTHON=old cannot be run, or is older" in done.stderr


def test_a_python_without_venv_is_named_with_the_package_that_lacks(checkout: Path, tools: Path) -> None:
    script(tools / "python3", f'[[ "$*" != *ensurepip* ]] || exit 1\nexec {sys.executable!r} "$@"')
    done = set_up(checkout, tools)
    assert done.returncode == 1
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt-get install python{version}-venv" in done.stderr


def test_without_rust_it_says_what_to_install(checkout: Path, tools: Path) -> None:
    (tools / "python3").symlink_to(sys.executable)
    script(tools / "cargo", 'echo "cargo 1.66.1"')
    done = set_up(checkout, tools, PIP_NO_INDEX="1")
    assert done.returncode == 1
    assert "Rust 1.85 or newer is needed" in done.stderr
    assert "installing Rust below .cache/rust" in done.stderr
    assert "apt-get install cargo-web" in done.stderr
    assert "WHEEL=FILE" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_wheel_that_is_not_there_is_named(checkout: Path, tools: Path) -> None:
    done = set_up(checkout, tools, WHEEL="dist/typo.whl")
    assert (done.returncode, done.stderr) == (1, "setup: WHEEL=dist/typo.whl is no file\n")


def test_without_git_it_says_what_to_install(checkout: Path, tools: Path) -> None:
    (tools / "git").unlink()
    done = set_up(checkout, tools)
    assert done.returncode == 1
    assert "apt-get install git" in done.stderr


def test_what_is_ready_is_left_alone(checkout: Path, tools: Path) -> None:
    """The stamp of what was installed is all that a second call looks at; any change of the lock makes it stale."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    script(python, "exit 1")
    stamp = checkout / ".venv" / ".ready"
    stamp.write_text("something else\n")
    assert set_up(checkout, tools).returncode == 1, "a stale stamp means work, which fails here without Python"
    assert not stamp.exists(), "and what is half done is never taken for ready"

    native = checkout / "native"
    files = [checkout / "requirements.lock", checkout / "tools" / "setup", native / "Cargo.toml", native / "Cargo.lock"]
    files += [*sorted(native.glob("src/*.rs")), *sorted(native.glob("src/*/*.rs"))]
    settings = (checkout / "pyproject.toml").read_text("utf-8").split("[tool.ruff]")[0]
    read = f"{checkout}\n" + "".join(file.read_text("utf-8") for file in files) + settings
    digest = subprocess.run(["sha256sum"], input=read, capture_output=True, text=True, check=True).stdout
    stamp.write_text(digest)
    done = set_up(checkout, tools)
    assert (done.returncode, done.stderr) == (0, "")

    with (checkout / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert set_up(checkout, tools).returncode == 1


def test_the_lock_pins_every_package_by_hash(root: Path) -> None:
    lock = (root / "requirements.lock").read_text("utf-8")
    packages = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE).strip())
    unpinned = [package.split("\n")[0] for package in packages if not re.match(r"[\w.-]+(\[.*\])?==", package)]
    unhashed = [package.split("\n")[0] for package in packages if "--hash=sha256:" not in package]
    assert (unpinned, unhashed) == ([], [])


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_names_every_direct_dependency(root: Path) -> None:
    declared = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    wanted = [*declared["project"]["dependencies"], *declared["dependency-groups"]["dev"]]
    lock = (root / "requirements.lock").read_text("utf-8")
    locked = {plain(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert {plain(re.split(r"[<>=!~\[; ]", each)[0]) for each in wanted} - locked == set(), (
        "re-make the lock: make lock"
    )


@pytest.mark.parametrize("name", [".ci/run", "tools/setup", "tools/peers"])
def test_scripts_can_be_run_and_stop_at_the_first_failure(root: Path, name: str) -> None:
    assert os.access(root / name, os.X_OK)
    assert "\nset -euo pipefail\n" in (root / name).read_text("utf-8")


def test_make_stops_at_the_first_failure(root: Path, tmp_path: Path) -> None:
    """A stage that fails inside a pipe, or before another command, fails make."""
    header = (root / "Makefile").read_text("utf-8").split(".PHONY")[0]
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"{header}\npiped:\n\t@false | cat\n\nlisted:\n\t@false; true\n\nfine:\n\t@true | cat\n")
    ended = {
        target: subprocess.run(["make", "-f", makefile, target], capture_output=True).returncode
        for target in ("piped", "listed", "fine")
    }
    assert ended == {"piped": 2, "listed": 2, "fine": 0}
