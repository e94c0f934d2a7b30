"""Buckets from the command line: protected, proven, emptied and brought back, at a store of each kind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from integration.cli.conftest import Answer, Home
from servers.google_stores import GoogleStore
from servers.object_stores import REGION, ObjectStore

Put = Callable[[str, bytes | None], None]

SECTION = """sources:
  media:
    kind: bucket
    class: contact-database
    retention: 3 versions
    endpoint: {endpoint}
    tls: none
    {login}
    url: {url}
"""


@pytest.fixture(params=["versitygw", "fake_gcs_server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Home, Put, str]:
    """An installation with a bucket as its source, what writes there (None: deletes), and the bucket's URL."""
    store: ObjectStore | GoogleStore = request.getfixturevalue(request.param)
    bucket = store.bucket()
    home = Home(tmp_path / "home", tmp_path / "data")
    home.data.mkdir()
    (home.data / "other.txt").write_text("other")
    files = {"kind": "files", "class": "documentation", "paths": [str(home.data)], "test": "none"}
    starting.initialise(home.root, business="acme", sources={"papers": files})
    if isinstance(store, GoogleStore):
        url, keys = f"gs://{bucket}", {"credentials": store.logins.key_file}
        login = "credentials: file:keys/credentials"

        def put(name: str, content: bytes | None) -> None:
            store.delete(bucket, name) if content is None else store.put(bucket, name, content)
    else:
        url, keys = f"s3://{bucket}", {"access": store.access_key, "secret": store.secret_key}
        login = f"access_key: file:keys/access\n    secret_key: file:keys/secret\n    region: {REGION}"

        def put(name: str, content: bytes | None) -> None:
            if content is None:
                store.client.delete_object(Bucket=bucket, Key=name)
            else:
                store.client.put_object(Bucket=bucket, Key=name, Body=content, ContentType="text/plain")

    for name, content in keys.items():
        (home.root / "keys" / name).write_text(content)
        (home.root / "keys" / name).chmod(0o600)
    section = SECTION.format(endpoint=store.endpoint, login=login, url=url)
    home.policy.write_text(home.policy.read_text().replace("sources:\n", section, 1))
    return home, put, url


def ended(answer: Answer, status: ExitStatus = ExitStatus.SUCCESS) -> Answer:
    assert answer.status is status, answer
    return answer


def objects(home: Home, point: str, folder: Path) -> dict[str, bytes]:
    """What a point holds of the bucket."""
    ended(home("restore", point, "--to", str(folder)))
    inside = folder / "objects"
    found = {str(file.relative_to(inside)): file.read_bytes() for file in inside.rglob("*") if file.is_file()}
    assert found
    return found


def test_a_bucket_is_protected_proven_emptied_and_brought_back(place: tuple[Home, Put, str], tmp_path: Path) -> None:
    home, put, url = place
    names = [f"folder-{number % 3}/object {number:02}" for number in range(40)]
    for name in names:
        put(name, name.encode() * 99)
    large = bytes(range(256)) * 20_000
    put("large one%", large)
    ended(home("backup", "media"))
    assert ended(home("backup", "media", "--json")).document["sources"][0]["outcome"] == "unchanged"
    ended(home("test", "media"))
    (first,) = ended(home("points", "media", "--json")).document["points"]

    put(names[0], b"changed")
    put(names[1], None)
    second = ended(home("backup", "media", "--json")).document["sources"][0]
    assert second["read_bytes"] < 100_000, "what is unchanged is not read again"
    listed = ended(home("ls", "media", "--recursive")).out
    assert names[1] not in listed
    for command in (["test", "media"], ["restore", first["id"], "--to", str(tmp_path / "back")]):
        ended(home(*command))
    assert (tmp_path / "back" / "objects" / "large one%25").read_bytes() == large
    assert (tmp_path / "back" / "objects" / names[1]).read_bytes() == names[1].encode() * 99

    audit = home("audit", "--json").document
    told = {each["detail"] for each in audit["findings"] if each["control"] == "bucket-settings"}
    assert any("it keeps no versions" in each for each in told), told
    assert any("policy allows that it is read unencrypted" in each for each in told)
    covered = {each["subject"] for each in audit["findings"] if each["control"] == "coverage"}
    assert f"bucket:{url}" not in covered

    for name in [*names, "large one%"]:
        if name != names[1]:
            put(name, None)
    emptied = ended(home("backup", "media"), ExitStatus.SOURCE)
    assert "there is no object at" in emptied.err
    assert len(ended(home("points", "media", "--json")).document["points"]) == 2

    dry = ended(home("restore", first["id"], "--in-place", "--dry-run")).out
    assert url in dry
    ended(home("restore", first["id"], "--in-place", "--yes", "--verify"))
    assert ended(home("backup", "media", "--json")).document["sources"][0]["outcome"] == "saved"
    assert objects(home, "media", tmp_path / "third") == objects(home, first["id"], tmp_path / "first")

    put("new", b"after the point")
    put(names[0], b"newer than the point")
    refused = ended(home("restore", first["id"], "--in-place", "--yes"), ExitStatus.REFUSED)
    assert "1 object" in refused.err
    ended(home("restore", first["id"], "--in-place", "--yes", "--overwrite", "--delete"))
    ended(home("backup", "media"))
    assert objects(home, "media", tmp_path / "newest") == objects(home, first["id"], tmp_path / "first again")

    ended(home("expire"))
    kept = ended(home("points", "media", "--json")).document["points"]
    assert len(kept) == 3
    assert first["id"] not in {each["id"] for each in kept}
