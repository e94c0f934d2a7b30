"""The shape of the code: docstrings, one place in the layers for each package, modules that read in one sitting."""

import ast
import tomllib
from pathlib import Path

import pytest

LONGEST = 400

# Path below src/cto_backups: (its own limit, why it is longer than others).
LONGER_ON_PURPOSE = {
    "catalog/catalog.py": (465, "one method for each question to the catalog, most of them a few lines"),
}


@pytest.fixture(scope="module")
def package(root: Path) -> Path:
    return root / "src" / "cto_backups"


@pytest.fixture(scope="module")
def modules(package: Path, project_files: list[Path]) -> list[Path]:
    return [file for file in project_files if file.suffix == ".py" and file.is_relative_to(package)]


def test_every_module_says_what_it_is_about(modules: list[Path], root: Path) -> None:
    silent = [str(file.relative_to(root)) for file in modules if not ast.get_docstring(ast.parse(file.read_bytes()))]
    assert not silent, f"without a docstring: {silent}"


def test_every_folder_with_modules_is_a_package(modules: list[Path], root: Path) -> None:
    missing = {str(file.parent.relative_to(root)) for file in modules if not (file.parent / "__init__.py").is_file()}
    assert not missing, f"without an __init__.py that says what the package is about: {sorted(missing)}"


def test_modules_read_in_one_sitting(modules: list[Path], package: Path) -> None:
    too_long = []
    for file in modules:
        name = file.relative_to(package).as_posix()
        limit, _ = LONGER_ON_PURPOSE.get(name, (LONGEST, ""))
        lines = file.read_bytes().count(b"\n")
        if lines > limit:
            too_long.append(f"{name}: {lines} lines, at most {limit}")
    assert not too_long, "what second thing do these do? " + "; ".join(too_long)


def test_packages_are_at_most_two_levels_deep(modules: list[Path], package: Path) -> None:
    # Alembic wants its revisions in a folder of their own below the migrations.
    deep = [
        str(file.relative_to(package))
        for file in modules
        if len(file.relative_to(package).parts) > 3 and "migrations" not in file.parts
    ]
    assert not deep


def test_the_layers_name_every_package_and_nothing_else(modules: list[Path], package: Path, root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract for contract in contracts if contract["type"] == "layers")
    named = {part.strip().rsplit(".", 1)[-1] for layer in layers["layers"] for part in layer.split("|")}
    there = {Path(file.relative_to(package).parts[0]).stem for file in modules} - {"__init__", "__main__"}
    assert layers["exhaustive"]
    assert named == there


def test_only_the_clock_reads_the_clock(modules: list[Path], package: Path) -> None:
    """Moments are arguments; reading the system's clock anywhere else would hide one."""
    calls = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time")}
    found = []
    for file in modules:
        if file == package / "clock.py":
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and (node.value.id, node.attr) in calls
            ):
                found.append(f"{file.relative_to(package)}:{node.lineno}")
    assert not found
