"""The data that benchmarks run on, made deterministically from what a machine with Python and Go has."""

import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
DATA_SETS = ("source-tree", "database", "random")


@dataclass(frozen=True)
class Size:
    """How much to make: files of the source tree, and bytes of each large file."""

    files: int
    large_bytes: int


FULL = Size(files=60_000, large_bytes=1100 * MIB)
SMOKE = Size(files=2_000, large_bytes=48 * MIB)


def make(folder: Path, name: str, size: Size) -> Path:
    """The folder of a data set, made when it is not there in this size."""
    place = folder / f"{name}-{size.files if name == 'source-tree' else size.large_bytes // MIB}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        {"source-tree": _source_tree, "database": _database, "random": _random}[name](place, size)
        (place / ".complete").touch()
    return place


def _originals() -> list[Path]:
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    go = shutil.which("go")
    if go:
        root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
        roots.append(Path(root))
    found = [path for root in roots for path in _sources(root)]
    if not found:
        raise SystemExit("No source code was found to make the source tree of.")
    return found


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and path.suffix not in {".pyc", ".so", ".a"}:
                yield path


def _source_tree(place: Path, size: Size) -> None:
    """Copies of real source files, each with a line of its own in front, so that no two have equal content."""
    originals = _originals()
    for number in range(size.files):
        original = originals[number % len(originals)]
        content = original.read_bytes()[: 2 * MIB]
        copy = place / f"copy-{number // len(originals)}" / str(original).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(f"# {number} {original.name}\n".encode() + content)


def _database(place: Path, size: Size) -> None:
    """Rows as an export of a ledger has them: repetitive in form, particular in content."""
    dice = random.Random(42)
    names = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(4, 12))) for _ in range(5000)]
    written, number = 0, 0
    with (place / "ledger.rows").open("wb") as file:
        while written < size.large_bytes:
            rows = []
            for _ in range(4000):
                number += 1
                rows.append(
                    f"{number:010d}|2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}|{dice.choice(names)} "
                    f"{dice.choice(names)}|{dice.random() * 10000:.2f}|EUR|{dice.getrandbits(48):012x}|settled|"
                    f"invoice {number // 7} of {dice.choice(names)} account {dice.randint(1, 90000)}\n"
                )
            written += file.write("".join(rows).encode())


def _random(place: Path, size: Size) -> None:
    dice = random.Random(7)
    with (place / "noise.bin").open("wb") as file:
        for _ in range(size.large_bytes // MIB):
            file.write(dice.randbytes(MIB))


def change_one_percent(place: Path, name: str, seed: int) -> None:
    """Change one percent: every hundredth file of a tree, or scattered stretches of 64 KiB of a large file."""
    dice = random.Random(seed)
    if name == "source-tree":
        files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != ".complete")
        for path in dice.sample(files, len(files) // 100):
            with path.open("ab") as file:
                file.write(f"# changed {seed}\n".encode())
        return
    path = next(path for path in place.iterdir() if path.name != ".complete")
    stretch = 64 * 1024
    total = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(max(1, total // 100 // stretch)):
            file.seek(dice.randrange(max(1, total - stretch)))
            file.write(dice.randbytes(stretch))
