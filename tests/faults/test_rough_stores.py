"""A whole story on rough ways to two stores: backup, copies, verification, prune and restore, while requests go wrong.

What goes wrong with each request is diced: the connection breaks before, in or behind it, the answer is cut, the store
is busy, broken, or says no, a listing is old. Whatever befalls, no command ends in a defect, what the catalog says of
copies is so, and once the ways are smooth all that was backed up comes back from each store alone.
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.test_buckets import Installation, same
from cto_backups.app import starting
from cto_backups.cli import main
from cto_backups.errors import ExitStatus
from cto_backups.providers import pauses
from servers.google_stores import REGION as GOOGLES_REGION
from servers.google_stores import GoogleStore
from servers.object_stores import REGION, ObjectStore
from servers.rough_way import Fault, RoughWay, rough_way

Property = Callable[[str, object], None]

# What befalls any request, what only those that bring something, and what only those that fetch something.
ANY = {
    "an answer that got lost": {"lost": True},
    "a busy store": {"status": 429, "code": "SlowDown", "headers": (("Retry-After", "1"),)},
    "an error of the store": {"status": 500, "code": "InternalError"},
    "a store that is not there": {"status": 503, "code": "ServiceUnavailable"},
    "a right that was taken": {"status": 403, "code": "AccessDenied"},
    "a login that ended": {"status": 401, "code": "ExpiredToken"},
    "a wrong clock": {"status": 403, "code": "RequestTimeTooSkewed"},
    "a bucket that is not there": {"status": 404, "code": "NoSuchBucket"},
}
BRINGING = {
    "a break in the middle": {"reset": 500},
    "a conflict": {"status": 409, "code": "OperationAborted"},
    "a condition that is said to fail": {"status": 412, "code": "PreconditionFailed"},
}
FETCHING = {
    "a cut answer": {"cut": 100},
    "a cut answer that was told to fit": {"cut": 100, "fitting": True},
    "nothing in place of an answer": {"cut": 0, "fitting": True},
    "an old listing": {"old": True},
    "an answer that drips": {"drip": (4000, 0.01)},
}
SERIOUS = (
    "a right that was taken",
    "a wrong clock",
    "a bucket that is not there",
)  # at which a command ends, and nothing more is learnt from it


def dice(seed: int, struck: list[str]) -> Callable[[str, str], Fault | None]:
    """Lets things go wrong with some requests; the same ones for the same requests in the same order."""
    chance = random.Random(seed)
    share = chance.choice([0.03, 0.1, 0.25])

    def throw(method: str, _: str) -> Fault | None:
        kinds = {**ANY, **(FETCHING if method == "GET" else BRINGING if method in ("PUT", "POST") else {})}
        name = chance.choice(sorted(kinds))
        if chance.random() > (share / 10 if name in SERIOUS else share):
            return None
        struck.append(name)
        return Fault(method, **kinds[name])  # type: ignore[arg-type]

    return throw


@pytest.fixture(scope="module")
def s3_way(versitygw: ObjectStore) -> Iterator[RoughWay]:
    with rough_way(versitygw) as way:
        yield way


@pytest.fixture(scope="module")
def google_way(fake_gcs_server: GoogleStore) -> Iterator[RoughWay]:
    with rough_way(fake_gcs_server) as way:
        yield way


@pytest.fixture
def installation(
    s3_way: RoughWay, google_way: RoughWay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """A folder is protected in a vault at the end of each way; there is one point, in both."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("STORE_ID", s3_way.store.access_key)
    monkeypatch.setenv("STORE_SECRET", s3_way.store.secret_key)
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    data, home = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    for number in range(4):
        (data / f"part-{number}").write_bytes(os.urandom(30_000))
    (data / "report.txt").write_text("figures\n" * 1000)
    sources = {"papers": {"kind": "files", "class": "documentation", "paths": [str(data)], "retention": "9 versions"}}
    sources["papers"]["test"] = "none"
    folder = {"url": "file:vaults/one", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    starting.initialise(home, business="acme", sources=sources, vaults={"one": folder})
    key = home / "keys" / "google.json"
    key.write_text(google_way.store.logins.key_file)
    key.chmod(0o600)
    place = "storage: object-storage, off_site: true, tls: none"
    added = f"""
  s3:
    {{url: "s3://{s3_way.store.bucket()}/v", endpoint: "{s3_way.store.endpoint}", provider: own, region: {REGION},
     {place}, access_key: "env:STORE_ID", secret_key: "env:STORE_SECRET"}}
  google:
    {{url: "gs://{google_way.store.bucket()}/v", endpoint: "{google_way.store.endpoint}", provider: gcs,
     region: {GOOGLES_REGION}, {place}, credentials: "file:keys/google.json"}}
"""
    made = Installation(home, data, {})
    text = made.policy.read_text()
    made.policy.write_text(re.sub(r"\n(?=\n[^\n]*\n?sources:)|\n(?=sources:)", added, text, count=1))
    made("vault", "init", "s3")
    made("vault", "init", "google")
    made("backup")
    yield made
    for way in (s3_way, google_way):
        way.dice = None


def tried(installation: Installation, *words: str) -> ExitStatus:
    """How a command ends, which is not by a defect of ours."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main.run([*words, "--policy", str(installation.policy)])
    assert status is not ExitStatus.DEFECT, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
    return status


@pytest.mark.costly_faults
@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_is_said_that_is_not_so(
    fault_seed: int,
    installation: Installation,
    s3_way: RoughWay,
    google_way: RoughWay,
    tmp_path: Path,
    record_property: Property,
) -> None:
    run, data, struck = installation, installation.data, []
    (data / "part-1").write_bytes(os.urandom(40_000))
    (data / "new").write_bytes(os.urandom(1_500_000))
    s3_way.dice, google_way.dice = dice(2 * fault_seed, struck), dice(2 * fault_seed + 1, struck)
    for words in (["backup"], ["vault", "fill"], ["verify"], ["prune"]):
        tried(run, *words)
    for vault in ("s3", "google"):
        back = tmp_path / f"rough-{vault}"
        if tried(run, "restore", "papers", "--vault", vault, "--to", str(back)) is ExitStatus.SUCCESS:
            newest = vault in holders(run)
            assert same(data, back) or not newest, "what came back is not what was backed up"
        shutil.rmtree(back, ignore_errors=True)
    s3_way.dice = google_way.dice = None
    for name in struck:
        record_property("fault", f"on the way to a store: {name}")

    run("verify")  # all that the catalog says to be somewhere is there, whole
    (data / "new").write_bytes(os.urandom(100_000))
    run("backup")
    run("vault", "fill")
    run("verify")
    assert holders(run) == {"one", "s3", "google"}
    for vault in ("s3", "google"):
        run("restore", "papers", "--vault", vault, "--to", str(tmp_path / vault))
        assert same(data, tmp_path / vault)


@pytest.mark.parametrize("name", ["s3", "google"])
def test_a_listing_from_before_makes_nobody_forget_a_copy_that_prune_would_spare(
    installation: Installation, s3_way: RoughWay, google_way: RoughWay, name: str
) -> None:
    """Of snapshots there were none when that was asked for the first time, and that is what is told again."""
    way = {"s3": s3_way, "google": google_way}[name]
    listings = []

    def throw(method: str, path: str) -> Fault | None:
        if method != "GET" or "prefix=v%2Frepositories%2Fmain%2Fsnapshots%2F" not in path:
            return None
        listings.append(path)
        return Fault(method, old=True)

    way.dice = throw
    assert tried(installation, "verify", name) is ExitStatus.VAULT
    assert listings
    assert holders(installation) == {"one", "s3", "google"}
    assert tried(installation, "prune", name) is not ExitStatus.SUCCESS
    way.dice = None
    installation("verify")


def holders(installation: Installation) -> set[str]:
    """The vaults that have as many points as there are, as the catalog says."""
    vaults = json.loads(installation("vault", "--json"))["vaults"]
    most = max(vault["points"] for vault in vaults)
    return {vault["vault"] for vault in vaults if vault["points"] == most}
