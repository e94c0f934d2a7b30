"""A listing of a vault in a bucket is passed on page by page: its memory does not grow with what is stored.

The store is one that tells names and nothing else; of real ones, no listing of this length fits a test.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from children import import_path
from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import SourceError, VaultError
from cto_backups.sources.bucket.source import BucketSource
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import s3_vault
from servers.google_stores import logins
from servers.long_listing import long_listing

# In a process of its own: how much memory it had at most is asked of the kernel, in KiB.
_CHILD = """
import json, pathlib, re, sys
from contract.test_vault_listing import vault
count = total = 0
for stored in vault(sys.argv[1], sys.argv[2], sys.stdin.read()).list("repositories/main/data"):
    count += 1
    total += stored.size_bytes
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(json.dumps([count, total, int(peak[1])]))
"""


def vault(scheme: str, endpoint: str, key_file: str) -> BucketVault:
    """A vault in the bucket that is listed."""
    s3 = {"access_key": lambda: "any", "secret_key": lambda: "any"}
    login: dict[str, Callable[[], str]] = s3 if scheme == "s3" else {"credentials": lambda: key_file}
    make = s3_vault if scheme == "s3" else gcs_vault
    return make("cloud", StoreAddress("any", "v", "us-east-1", endpoint=endpoint, tls=Tls.NONE, logins=login))


def listed(scheme: str, count: int) -> tuple[int, int, int]:
    """How many files are listed, their bytes in all, and the peak of memory, in KiB."""
    with long_listing(count) as endpoint, logins() as login:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, scheme, endpoint],
            input=login.key_file,
            capture_output=True,
            text=True,
            env=os.environ | import_path() | {"AWS_EC2_METADATA_DISABLED": "true"},
        )
    assert done.returncode == 0, done.stderr
    found, total, peak = json.loads(done.stdout)
    return found, total, peak


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_memory_of_a_listing_does_not_grow_with_its_length(scheme: str, large: bool) -> None:
    few, many = 3_000, 2_000_000 if large else 30_000
    _, _, base = listed(scheme, few)
    found, total, peak = listed(scheme, many)
    print(f"{scheme}: {many} names, {peak / 1024:.1f} MiB; {few} names, {base / 1024:.1f} MiB")
    assert (found, total) == (many, sum(range(many)))
    assert peak - base < 3 * 1024, "a hundred bytes for each name would be as much"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_listing_that_goes_in_circles_is_told(scheme: str) -> None:
    with long_listing(5_000, stuck=True) as endpoint, logins() as login:
        place = vault(scheme, endpoint, login.key_file)
        try:
            with pytest.raises(VaultError, match="the same page of the listing again and again"):
                list(place.list("repositories/main/data"))
        finally:
            place.close()


def test_a_listing_that_says_it_goes_on_and_not_how_is_told() -> None:
    """Taken for whole, it would say that packs and indexes are not there."""
    with long_listing(5_000, mute=True) as endpoint:
        place = vault("s3", endpoint, "")
        try:
            with pytest.raises(VaultError, match="does not tell how to ask for the rest"):
                list(place.list("repositories/main/data"))
        finally:
            place.close()


@pytest.mark.parametrize(("scheme", "how"), [("s3", "mute"), ("s3", "stuck"), ("gs", "stuck")])
def test_a_listing_of_a_source_without_an_end_is_told(scheme: str, how: str, tmp_path: Path) -> None:
    with long_listing(5_000, **{how: True}) as endpoint, logins() as login:
        s3 = {"access_key": lambda: "any", "secret_key": lambda: "any"}
        options = {
            "url": f"{scheme}://any/v",
            "endpoint": endpoint,
            "tls": "none",
            "logins": s3 if scheme == "s3" else {"credentials": lambda: login.key_file},
        }
        source = BucketSource("media", options, state=tmp_path)
        with pytest.raises(SourceError, match="listing"), source.capture():
            raise AssertionError("it was captured")
