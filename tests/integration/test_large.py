"""Memory stays bounded: it does not grow with a file's size, and hardly with the number of files or blobs.

Each measurement is a process of its own. `make test-large` takes the sizes that are promised; the ordinary ones leave
wide margins, for how far threads run ahead of each other differs from run to run.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from children import import_path

MB = 1_000_000


def measured(*arguments: str | Path) -> dict[str, int]:
    environment = os.environ | import_path("contract", "..")
    done = subprocess.run(
        [sys.executable, "-m", "large.child", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def plant(tree: Path, count: int) -> None:
    """So many files in folders of a hundred; every second one is empty."""
    for folder in range(count // 100):
        place = tree / f"{folder // 100}" / f"{folder % 100}"
        place.mkdir(parents=True)
        for number in range(100):
            descriptor = os.open(place / f"file-{number}", os.O_CREAT | os.O_WRONLY, 0o644)
            if number % 2:
                os.write(descriptor, b"%d\n" % number)
            os.close(descriptor)


def test_the_memory_of_a_backup_hardly_grows_with_the_number_of_files(large: bool, tmp_path: Path) -> None:
    few, many = (200_000, 2_000_000) if large else (10_000, 80_000)
    most_each = 100 if large else 500  # the thread that lists ahead of the others may hold as many as 50,000 entries
    first, again = {}, {}
    for count in (few, many):
        place = tmp_path / str(count)
        plant(place / "tree", count)
        time.sleep(2.1)  # a file that is younger when the first backup begins is read again in the second
        where = (place / "vault", place / "tree", place / "state")
        first[count], again[count] = measured("files", *where), measured("files", *where)
        assert first[count]["entries"] >= count
        assert again[count]["unchanged"] >= count
    for peaks in (first, again):
        each = (peaks[many]["peak"] - peaks[few]["peak"]) / (many - few)
        print(f"{each:.0f} bytes for each entry")
        assert each < most_each


def test_the_memory_of_a_restore_hardly_grows_with_the_number_of_files(large: bool, tmp_path: Path) -> None:
    """It grows with the number of blobs, which the index holds, and of folders, whose names it keeps."""
    few, many = (200_000, 2_000_000) if large else (30_000, 90_000)
    peaks: dict[int, list[int]] = {}
    for count in (few, many):
        place = tmp_path / str(count)
        plant(place / "tree", count)
        measured("files", place / "vault", place / "tree", place / "state")
        first = measured("restore", place / "vault", place / "restored")
        over = measured("restore", place / "vault", place / "restored")
        assert first["problems"] == over["problems"] == 0
        assert first["entries"] >= over["kept"] >= count
        peaks[count] = [first["peak"], over["peak"]]
    for less, more in zip(peaks[few], peaks[many], strict=True):
        print(f"{less // MB} and {more // MB} MB, {(more - less) / (many - few):.0f} bytes for each entry")
        assert more - less < 150 * (many - few)


def test_the_memory_of_a_backup_does_not_grow_with_the_size_of_a_stream(large: bool, tmp_path: Path) -> None:
    small, big = (1000 * MB, 100_000 * MB) if large else (200 * MB, 1500 * MB)
    peaks = {}
    for size in (small, big):
        found = measured("stream", tmp_path / f"vault-{size}", str(size))
        assert found["size"] == size
        assert found["added"] < 150 * MB
        peaks[size] = found["peak"]
    # Half a kilobyte for each chunk of about a megabyte: its id, and the line of it in the folder's tree.
    assert peaks[big] - peaks[small] < 40 * MB + big / MB * 512


def test_an_index_takes_less_than_a_hundred_bytes_a_blob(large: bool) -> None:
    blobs = 20_000_000 if large else 1_000_000
    found = measured("index", str(blobs))
    assert found["blobs"] == blobs
    assert found["resident"] / blobs < 100
