"""The data that benchmarks run on, made deterministically from what a machine with Python and Go has."""

import os
import random
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

MIB = 1 << 20
TREES = ("source-tree", "tiny")
LARGE_FILES = ("database", "random")
DATA_SETS = ("source-tree", "tiny", "database", "random")


@dataclass(frozen=True)
class Size:
    """How much to make: files of the source tree, files of 1 kB, and MiB of the two large files."""

    source_files: int = 80_000
    tiny_files: int = 200_000
    database_mib: int = 2048
    random_mib: int = 1024

    def scaled(self, share: float) -> "Size":
        """A part of it, or more."""
        return Size(*(max(1, round(getattr(self, one.name) * share)) for one in fields(self)))

    def of(self, name: str) -> int:
        """The number that counts for a data set."""
        numbers = (self.source_files, self.tiny_files, self.database_mib, self.random_mib)
        return dict(zip(DATA_SETS, numbers, strict=True))[name]


FULL = Size()
SMOKE = Size(300, 300, 3, 3)


def make(folder: Path, name: str, size: Size) -> Path:
    """The folder of a data set, made when it is not there in this size."""
    place = folder / f"{name}-{size.of(name)}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        {"source-tree": _source_tree, "tiny": _tiny, "database": _database, "random": _random}[name](
            place, size.of(name)
        )
        (place / ".complete").touch()
    return place


def _originals(most: int) -> list[Path]:
    """The first source files of this machine: all, or the most that are wanted."""
    roots = [Path(sysconfig.get_paths()["stdlib"])]
    go = shutil.which("go")
    if go:
        root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True).stdout.strip()
        roots.append(Path(root))
    found = list(islice((path for root in roots for path in _sources(root)), most))
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


def _source_tree(place: Path, files: int) -> None:
    """Copies of real source files, each with a line of its own in front, so that no two have equal content."""
    originals = _originals(files)
    for number in range(files):
        original = originals[number % len(originals)]
        content = original.read_bytes()[: 2 * MIB]
        copy = place / f"copy-{number // len(originals)}" / str(original).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(f"# {number} {original.name}\n".encode() + content)


def _tiny(place: Path, files: int) -> None:
    """Messages of 1 kB, a thousand to a folder: half words, half what no compressor knows."""
    dice = random.Random(11)
    words = _words(dice, 2000)
    for number in range(files):
        folder = place / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir()
        text = f"message {number}\n{' '.join(dice.choices(words, k=70))}\n{dice.randbytes(250).hex()}"
        (folder / f"{number:07d}.txt").write_text(text[:1000])


def _words(dice: random.Random, number: int) -> list[str]:
    return ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(4, 12))) for _ in range(number)]


def _database(place: Path, mib: int) -> None:
    """Rows as an export of a ledger has them: repetitive in form, particular in content."""
    dice = random.Random(42)
    names = _words(dice, 5000)
    written, number = 0, 0
    with (place / "ledger.rows").open("wb") as file:
        while written < mib * MIB:
            rows = []
            for _ in range(4000):
                number += 1
                rows.append(
                    f"{number:010d}|2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}|{dice.choice(names)} "
                    f"{dice.choice(names)}|{dice.random() * 10000:.2f}|EUR|{dice.getrandbits(48):012x}|settled|"
                    f"invoice {number // 7} of {dice.choice(names)} account {dice.randint(1, 90000)}\n"
                )
            written += file.write("".join(rows).encode())


def _random(place: Path, mib: int) -> None:
    dice = random.Random(7)
    with (place / "noise.bin").open("wb") as file:
        for _ in range(mib):
            file.write(dice.randbytes(MIB))


def change(place: Path, name: str, seed: int, *, percent: int = 1) -> None:
    """Change so much: that share of a tree's files, or scattered stretches of 64 KiB of a large file."""
    dice = random.Random(seed)
    if name in TREES:
        files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != ".complete")
        for path in dice.sample(files, max(1, len(files) * percent // 100)):
            with path.open("ab") as file:
                file.write(f"# changed {seed}\n".encode())
        return
    path = next(path for path in place.iterdir() if path.name != ".complete")
    stretch = 64 * 1024
    total = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(max(1, total * percent // 100 // stretch)):
            file.seek(dice.randrange(max(1, total - stretch)))
            file.write(dice.randbytes(stretch))
