"""How often the anomaly detection cries wolf: real package releases replayed as days, and then a real encryption.

    python -m benchmarks.releases [--cache DIRECTORY] [--most N] [PACKAGE …]

Downloads the wheels of packages with pip, once, into the cache. Each package is a source of its own, whose tree is
replaced by its next release each day, and backed up; one more source has all of them side by side, of which one is
replaced each day. A release replaces far more than a day of work does. At the end three tenths of the files of every
source are encrypted in place. Prints each alarm, and the alarms a source-year (365 days of one source).
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cto_backups import app
from cto_backups.app import starting
from cto_backups.flows import anomaly
from cto_backups.flows.backup import backup
from cto_backups.flows.installation import Installation

PACKAGES = (
    *("certifi", "idna", "urllib3", "requests", "attrs", "pip", "setuptools", "packaging", "pygments", "click"),
    *("botocore", "django", "jinja2", "rich", "pytest", "tzdata", "babel", "docutils", "networkx", "wheel"),
)
TOGETHER = "all-together"
MOST = 25
SEED = 4711
ENCRYPTED = 0.3
YEAR = 365


@dataclass
class Counted:
    """What came of a source's days."""

    days: int = 0
    alarms: list[str] = field(default_factory=list)
    detected: str = ""


def versions(package: str, most: int, cache: Path) -> list[str]:
    """The newest releases of a package that have a wheel, the oldest first, as when first asked."""
    known = cache / f"{package}.json"
    if known.is_file():
        return list(json.loads(known.read_text()))[-most:]
    command = [sys.executable, "-m", "pip", "index", "versions", "--only-binary", ":all:", package]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    listed = re.search(r"^Available versions: (.*)$", said, re.MULTILINE)
    found = listed[1].split(", ")[::-1] if listed else []
    cache.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(found))
    return found[-most:]


def fetch(wanted: Sequence[tuple[str, str]], cache: Path) -> None:
    """Bring the wheels of these releases, of a package each, into the cache; some may have none for this machine."""
    missing = [(package, version) for package, version in wanted if not (cache / package / version).is_dir()]
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="wheels-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", scratch, *(f"{package}=={version}" for package, version in missing)]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode and len(missing) > 1:
            for each in missing:
                fetch([each], cache)
            return
        for package, version in missing:
            place = cache / package / version
            place.mkdir(parents=True, exist_ok=True)
            for wheel in Path(scratch).glob("*.whl"):
                if re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower() == package:
                    shutil.move(wheel, place)


def wheels_of(package: str, listed: Sequence[str], cache: Path) -> list[Path]:
    """The wheels in the cache of these releases, in their order."""
    found = [next((cache / package / version).glob("*.whl"), None) for version in listed]
    return [wheel for wheel in found if wheel is not None]


def replace_tree(wheel: Path, place: Path) -> None:
    """Put a release in the place of the one before it."""
    shutil.rmtree(place, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)


def encrypt_in_place(tree: Path) -> None:
    """Overwrite three tenths of the files as ransomware does."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    for file in random.Random(SEED).sample(files, max(1, int(len(files) * ENCRYPTED))):
        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()
        file.write_bytes(cipher.update(file.read_bytes()))


@contextmanager
def installed(root: Path, trees: Sequence[Path]) -> Iterator[Installation]:
    """An installation of the program with one source for each tree, and one vault."""
    sources: dict[str, dict[str, object]] = {
        tree.name: {"kind": "files", "paths": [str(tree)], "class": "configuration"} for tree in trees
    }
    vault = {"url": f"file:{root}/vault", "provider": "local", "region": "here", "storage": "disk"}
    policy = starting.initialise(root, business="acme", sources=sources, vaults={"vault": vault})
    with app.opened(policy) as opening:
        yield opening.installation


def suspected(installation: Installation, source: str) -> Sequence[str]:
    """Back a source up; why the new point is suspected."""
    done = backup(installation, source)
    return done.point.suspicions if done.changed else ()


def days(wheels: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, Path]]:
    """Each package's next release in turn, the packages in an order that differs each time but is always the same."""
    order = random.Random(SEED)
    waiting = {package: list(each) for package, each in wheels.items()}
    while waiting:
        package = order.choice(sorted(waiting))
        yield package, waiting[package].pop(0)
        if not waiting[package]:
            del waiting[package]


def replay(root: Path, wheels: Mapping[str, Sequence[Path]]) -> dict[str, Counted]:
    """Every release of every package, day by day, and the encryption at the end."""
    trees = {package: root / "data" / package for package in wheels}
    together = root / "data" / TOGETHER
    for tree in (*trees.values(), together):
        tree.mkdir(parents=True)
        (tree / "README").write_text("released here\n")
    counted = {name: Counted() for name in (*trees, TOGETHER)}
    with installed(root / "home", [*trees.values(), together]) as installation:
        for package, wheel in days(wheels):
            for name, tree in ((package, trees[package]), (TOGETHER, together / package)):
                replace_tree(wheel, tree)
                counted[name].days += 1
                if said := suspected(installation, name):
                    counted[name].alarms.append(f"{wheel.name}: {'; '.join(said)}")
                    anomaly.clear(installation, name, reason="a release")  # as its owner would
                print(f"{name} {wheel.name} {'; '.join(said)}", file=sys.stderr)
        for name in counted:
            encrypt_in_place(root / "data" / name)
            counted[name].detected = "; ".join(suspected(installation, name))
    return counted


def tell(counted: Mapping[str, Counted]) -> Iterable[str]:
    """What came of it, in lines."""
    for name, each in counted.items():
        yield f"{name}: {each.days} days, {len(each.alarms)} alarms; encrypted: {each.detected or 'NOT NOTICED'}"
        yield from (f"    {alarm}" for alarm in each.alarms)
    for title, chosen in (
        ("each package a source", [each for name, each in counted.items() if name != TOGETHER]),
        ("all in one source", [counted[TOGETHER]]),
    ):
        total, alarms = sum(each.days for each in chosen), sum(len(each.alarms) for each in chosen)
        noticed = sum(1 for each in chosen if each.detected)
        rate = alarms / (total / YEAR)
        yield (
            f"{title}: {total} releases, {alarms} alarms, {rate:.2f} a source-year; "
            f"encryption noticed in {noticed} of {len(chosen)}"
        )


def main() -> None:
    """Download what is not in the cache, and replay it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache") / "releases")
    parser.add_argument("--most", type=int, default=MOST, help="releases of each package, the newest")
    parser.add_argument("--download-only", action="store_true")
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    options = parser.parse_args()
    listed = {package: versions(package, options.most, options.cache) for package in options.packages}
    for number in reversed(range(options.most)):
        fetch([(package, each[number]) for package, each in listed.items() if number < len(each)], options.cache)
    wheels = {package: wheels_of(package, each, options.cache) for package, each in listed.items()}
    if options.download_only:
        return
    with tempfile.TemporaryDirectory(prefix="releases-") as scratch:
        for line in tell(replay(Path(scratch), {name: each for name, each in wheels.items() if each})):
            print(line)


if __name__ == "__main__":
    main()
