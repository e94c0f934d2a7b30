"""Readers of stored bytes, with content that is wrong: errors of ours, in bounded time and memory; nothing else."""

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from children import import_path
from fuzz.readers import READERS


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_content_that_is_wrong_is_an_error_of_ours(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    content = reader.content(lambda count: data.draw(st.integers(0, count - 1)))
    reader.fails_as_ours(content)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_an_error_of_ours(name: str, content: bytes) -> None:
    READERS[name].fails_as_ours(content)


@pytest.mark.parametrize("name", sorted(set(READERS) - {"blob", "header", "pack"}))
def test_a_reader_takes_what_it_is_to_read(name: str) -> None:
    """A test of the tests: the content that is made wrong was right."""
    reader = READERS[name]
    for valid in reader.valid:
        if isinstance(valid, bytes) and not (name == "stored file" and valid == b"{}"):
            assert not reader.fails_as_ours(valid)


BOMBS = """
import resource, sys, time
from fuzz.bombs import BOMBS
from fuzz.readers import READERS
reader, content = BOMBS[sys.argv[1]]()
READERS[reader]  # loaded before memory is bounded
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
refused = READERS[reader].fails_as_ours(content)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage tells the parent's
print("refused" if refused else "taken", int(peak.split()[1]) >> 10)
"""


@pytest.mark.parametrize("bomb", ["zstd announced", "zstd unannounced", "zstd as blob", "json lists", "json objects"])
def test_little_content_does_not_take_much_memory(bomb: str) -> None:
    """In a process that may have 700 MB more than it has; it ends by itself, with an error of ours."""
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, bomb],
        env=os.environ | import_path("contract"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    word, megabytes = done.stdout.split()
    assert word == "refused"
    assert int(megabytes) < 800
