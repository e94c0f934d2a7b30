"""A bucket passes the source contract on each store, S3's and Google's; and what only buckets do is right."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes.points import MemoryPoint
from source_contract import Fault, SourceContract, Subject, captured

from cto_backups.core.ports import Existing, RestoreOptions
from cto_backups.errors import RefusedError, SourceError
from cto_backups.providers import pauses
from cto_backups.sources.bucket import reading
from cto_backups.sources.bucket.source import BucketSource
from servers.google_stores import GoogleStore
from servers.object_stores import REGION, ObjectStore
from servers.rough_way import Fault as Trouble
from servers.rough_way import RoughWay, rough_way

Store = ObjectStore | GoogleStore
ODD = (
    "deep//twice",
    "/begins",
    "ends/",
    "per%cent",
    "ünïcode ☃",
    "deep",
    "deep/nest",
    "deep/nest/x",
    "deep/one*two[3]?",
    ".",
    "x" * 900,
    "\\back",
)
TAKEN_BY_ALL = ("a", "deep/b", "deep/c/d", "per%cent", "ünïcode ☃")


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of stores and logins decides nothing; nobody waits between tries."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    monkeypatch.setattr(reading, "pause", lambda *_: None)


def source(store: Store, bucket: str, state: Path, prefix: str = "", **settings: Any) -> BucketSource:
    """A source for a place in a bucket of a running store."""
    scheme = "gs" if isinstance(store, GoogleStore) else "s3"
    address = store.address(bucket)
    given: dict[str, object] = {"endpoint": store.endpoint, "tls": "none", "region": REGION, "logins": address.logins}
    return BucketSource("media", {"url": f"{scheme}://{bucket}/{prefix}", **given, **settings}, state=state)


def put(store: Store, bucket: str, name: str, content: bytes, **more: Any) -> None:
    if isinstance(store, GoogleStore):
        store.put(bucket, name, content)
    else:
        store.client.put_object(Bucket=bucket, Key=name, Body=content, **more)


def delete(store: Store, bucket: str, name: str) -> None:
    if isinstance(store, GoogleStore):
        store.delete(bucket, name)
    else:
        store.client.delete_object(Bucket=bucket, Key=name)


def get(store: Store, bucket: str, name: str) -> bytes:
    if isinstance(store, ObjectStore):
        return bytes(store.client.get_object(Bucket=bucket, Key=name)["Body"].read())
    from urllib.parse import quote
    from urllib.request import urlopen

    with urlopen(f"{store.endpoint}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media", timeout=60) as answer:
        return bytes(answer.read())


@pytest.fixture(params=["versitygw", "moto", "fake_gcs_server", "gcp_storage_emulator"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["versitygw", "moto", "fake_gcs_server"])
def strict(request: pytest.FixtureRequest) -> Store:
    """Each store that heeds conditions."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["moto", "fake_gcs_server"])
def each(request: pytest.FixtureRequest) -> Store:
    """A store of each kind that takes any name."""
    found: Store = request.getfixturevalue(request.param)
    return found


def manifest(restored: Path) -> dict[str, Any]:
    """The lines of a restored manifest by the objects' names, whose order is that of bytes."""
    lines = (restored / "properties" / "objects.jsonl").read_text().splitlines()
    read = [json.loads(line) for line in lines]
    names = [line["name"].encode() for line in read]
    assert names == sorted(names)
    return {line["name"]: line for line in read}


def flip(restored: Path) -> None:
    file = restored / "objects" / "a"
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(restored: Path) -> None:
    one, two = restored / "objects" / "a", restored / "objects" / "deep" / "b"
    contents = one.read_bytes(), two.read_bytes()
    for file, content in zip((two, one), contents, strict=True):
        status = file.stat()
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def forget_a_line(restored: Path) -> None:
    file = restored / "properties" / "objects.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))


def alter_metadata(restored: Path) -> None:
    file = restored / "properties" / "objects.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"size":', b'"size": ', 1))


class TestBucketSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit": flip,
        "a lost object": lambda restored: (restored / "objects" / "a").unlink(),
        "an added object": lambda restored: (restored / "objects" / "more").write_bytes(b"x") and None,
        "two swapped contents": swap,
        "a wrong time": lambda restored: os.utime(restored / "objects" / "a", ns=(0, 1)),
        "a lost line of the manifest": forget_a_line,
        "an altered line of the manifest": alter_metadata,
        "a lost manifest": lambda restored: (restored / "properties" / "objects.jsonl").unlink(),
    }

    @pytest.fixture
    def subject(self, store: Store, tmp_path: Path) -> Subject:
        bucket = store.bucket()
        for name in TAKEN_BY_ALL:
            put(store, bucket, name, name.encode() * 30)
        return Subject(
            source=source(store, bucket, tmp_path / "state"),
            make=lambda: source(store, bucket, tmp_path / "state"),
            change=lambda: put(store, bucket, "a", b"other content"),
            missing=source(store, "no-such-bucket", tmp_path / "state"),
        )


# -- names, metadata, prefixes


def test_any_name_comes_back_as_a_file_and_as_an_object(each: Store, tmp_path: Path) -> None:
    bucket = each.bucket()
    odd = tuple(name for name in ODD if name != "." or isinstance(each, ObjectStore))  # which Google does not allow
    for name in odd:
        put(each, bucket, name, name.encode())
    made = source(each, bucket, tmp_path / "state")
    point, expected = captured(made)
    made.restore(point, tmp_path / "restored")
    assert made.probe(tmp_path / "restored", expected) == expected
    told = manifest(tmp_path / "restored")
    assert set(told) == set(odd)
    for name in odd:
        file = Path(f"{tmp_path}/restored{told[name]['path']}")
        assert file.read_bytes() == name.encode()
        delete(each, bucket, name)
    put(each, bucket, "newcomer", b"stays")
    restored = made.restore(point, None)
    assert (restored.problems, restored.entries) == ((), len(odd))
    assert {name: get(each, bucket, name) for name in odd} == {name: name.encode() for name in odd}
    assert get(each, bucket, "newcomer") == b"stays"


def test_what_an_object_says_of_itself_comes_back(moto: ObjectStore, tmp_path: Path) -> None:
    bucket = moto.bucket()
    said = {"ContentType": "image/png", "CacheControl": "max-age=9", "ContentEncoding": "gzip"}
    put(moto, bucket, "picture", b"not really", Metadata={"owner": "ada"}, StorageClass="STANDARD_IA", **said)
    made = source(moto, bucket, tmp_path / "state")
    point, _ = captured(made)
    put(moto, bucket, "picture", b"spoilt")
    made.restore(point, None, existing=Existing.OVERWRITE)
    found = moto.client.get_object(Bucket=bucket, Key="picture")
    assert found["Body"].read() == b"not really"
    assert {name: found[name] for name in said} == said
    assert (found["Metadata"], found["StorageClass"]) == ({"owner": "ada"}, "STANDARD_IA")


def test_a_place_in_a_bucket_is_protected_without_what_lies_beside_it(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    for name in ("in/a", "in/b/c", "inside", "out"):
        put(strict, bucket, name, name.encode())
    made = source(strict, bucket, tmp_path / "state", "in/")
    point, expected = captured(made)
    assert expected.counts["objects"] == 2
    delete(strict, bucket, "in/b/c")
    made.restore(point, None)
    assert get(strict, bucket, "in/b/c") == b"in/b/c"
    names = {resource.name: resource.covered for resource in made.discover()}
    scheme = "gs" if isinstance(strict, GoogleStore) else "s3"
    assert names[f"bucket:{scheme}://{bucket}/in"]
    assert names[f"bucket:{scheme}://{bucket}"] is False


# -- what changes


def test_what_is_unchanged_is_not_read_again(strict: Store, tmp_path: Path) -> None:
    with rough_way(strict) as way:
        bucket = strict.bucket()
        for number in range(5):
            put(strict, bucket, f"n{number}", b"x" * number)
        made = source(way.store, bucket, tmp_path / "state")
        with made.capture() as capture:
            first = MemoryPoint.of(capture.tree)
            capture.stored()
        put(strict, bucket, "n3", b"new")
        delete(strict, bucket, "n4")
        way.plan()
        second, _ = captured(made, known=first)
        read = [path for method, path in way.seen if method == "GET" and re.search(r"/n\d", path)]
        assert read
        assert all("/n3" in path for path in read)
        assert second.reused == 3
        assert b"/objects/n4" not in second.entries
        assert b"/objects/n4" in first.entries


def test_a_deleted_object_comes_back_from_the_point_before(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    put(strict, bucket, "kept", b"1")
    put(strict, bucket, "lost", b"2")
    made = source(strict, bucket, tmp_path / "state")
    point, _ = captured(made)
    delete(strict, bucket, "lost")
    put(strict, bucket, "kept", b"newer than the point")
    with pytest.raises(RefusedError, match=r"1 object in .* would be replaced"):
        made.restore(point, None)
    with pytest.raises(Exception, match=r"404|NoSuchKey|Not Found"):
        get(strict, bucket, "lost")
    restored = made.restore(point, None, only=["/objects/lost"])
    assert restored.entries == 1
    assert (get(strict, bucket, "lost"), get(strict, bucket, "kept")) == (b"2", b"newer than the point")
    put(strict, bucket, "extra", b"3")
    options = RestoreOptions(delete=True, verify=True)
    plan = made.plan_restore(point, None, existing=Existing.OVERWRITE, options=options)
    assert (plan.conflicts, plan.kept_entries, plan.extraneous) == (("kept",), 1, ("/objects/extra",))
    restored = made.restore(point, None, existing=Existing.OVERWRITE, options=options)
    assert (restored.problems, restored.deleted_entries, restored.kept_entries) == ((), 1, 1)
    assert captured(made)[1].checksums["content"] == captured(made)[1].checksums["content"]
    assert get(strict, bucket, "kept") == b"1"


def test_who_writes_while_a_restore_compares_loses_nothing(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    put(strict, bucket, "one", b"of the point")
    made = source(strict, bucket, tmp_path / "state")
    point, _ = captured(made)
    put(strict, bucket, "one", b"compared")

    class Meanwhile(MemoryPoint):
        def restore(self, destination: Path, **how: Any) -> Any:  # type: ignore[override]
            if how.get("only") == ["/objects/one"]:
                put(strict, bucket, "one", b"written meanwhile")
            return super().restore(destination, **how)

    restored = made.restore(Meanwhile(point.entries), None, existing=Existing.OVERWRITE)
    assert [problem.kind for problem in restored.problems] == ["changed-while-read"]
    assert get(strict, bucket, "one") == b"written meanwhile"


# -- bad luck


@pytest.fixture
def way(strict: Store) -> Iterator[RoughWay]:
    with rough_way(strict) as made:
        yield made


def test_an_emptied_bucket_is_an_alarm_and_no_point(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    with pytest.raises(SourceError, match="there is no object at"), source(strict, bucket, tmp_path).capture():
        pass


def test_an_object_that_vanishes_is_left_out_and_told(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    for name in ("gone", "stays"):
        put(strict, bucket, name, name.encode())
    made = source(strict, bucket, tmp_path / "state")
    with made.capture() as capture:
        delete(strict, bucket, "gone")
        point = MemoryPoint.of(capture.tree)
        assert (capture.problems, capture.notes) == ((), ("1 object deleted while the bucket was read",))
        expected = capture.fingerprint()
    assert b"/objects/gone" not in point.entries
    point.restore(tmp_path / "restored")
    assert made.probe(tmp_path / "restored", expected) == expected


def test_a_bucket_that_vanishes_in_the_middle_is_no_deletion(strict: Store, tmp_path: Path) -> None:
    bucket = strict.bucket()
    put(strict, bucket, "gone", b"x")
    with source(strict, bucket, tmp_path / "state").capture() as capture:
        delete(strict, bucket, "gone")
        strict.delete(bucket) if isinstance(strict, GoogleStore) else strict.client.delete_bucket(Bucket=bucket)
        with pytest.raises(SourceError, match=f"there is no bucket {bucket}"):
            MemoryPoint.of(capture.tree)


@pytest.mark.parametrize("block", [0, 1 << 10])
def test_an_object_overwritten_since_it_was_listed_is_whole_and_of_one_version(
    strict: Store, tmp_path: Path, block: int
) -> None:
    bucket = strict.bucket()
    put(strict, bucket, "one", b"old" * 1000)
    made = source(strict, bucket, tmp_path / "state")
    with made.capture() as capture:
        put(strict, bucket, "one", b"newer" * 2000)
        point = MemoryPoint.of(capture.tree, block=block)
        expected = capture.fingerprint()
        assert capture.problems == ()
    assert point.entries[b"/objects/one"][1] == b"newer" * 2000
    point.restore(tmp_path / "restored")
    assert made.probe(tmp_path / "restored", expected) == expected
    line = manifest(tmp_path / "restored")["one"]
    assert line["size"] == 10_000


@pytest.mark.parametrize("block", [0, 1 << 10])
def test_cut_answers_and_resets_are_read_on_from(way: RoughWay, strict: Store, tmp_path: Path, block: int) -> None:
    bucket = strict.bucket()
    content = os.urandom(300_000)
    put(strict, bucket, "large-one", content)
    made = source(way.store, bucket, tmp_path / "state")
    with made.capture() as capture:
        way.plan(Trouble("GET", "large-one", cut=100_000), Trouble("GET", "large-one", lost=True))
        point = MemoryPoint.of(capture.tree, block=block)
        assert capture.problems == ()
    assert point.entries[b"/objects/large-one"][1] == content


@pytest.mark.parametrize("block", [0, 1 << 10])
def test_bytes_that_are_not_what_the_store_says_are_told_and_left_out(
    way: RoughWay, strict: Store, tmp_path: Path, block: int
) -> None:
    bucket = strict.bucket()
    for name in ("bad-one", "good"):
        put(strict, bucket, name, b"z" * 5000)
    made = source(way.store, bucket, tmp_path / "state")
    with made.capture() as capture:
        way.plan(Trouble("GET", "bad-one", times=99, altered=b"y"))
        point = MemoryPoint.of(capture.tree, block=block)
        assert [(problem.path, problem.kind) for problem in capture.problems] == [("/objects/bad-one", "damaged")]
    assert b"/objects/good" in point.entries
    assert b"/objects/bad-one" not in point.entries


def test_a_right_that_is_lacking_is_named_as_the_provider_does(way: RoughWay, strict: Store, tmp_path: Path) -> None:
    google = isinstance(strict, GoogleStore)
    bucket = strict.bucket()
    for name in ("closed", "open"):
        put(strict, bucket, name, b"x")
    made = source(way.store, bucket, tmp_path / "state")
    code = "forbidden" if google else "AccessDenied"
    way.plan(Trouble("GET", "", status=403, code=code))
    right = "storage.objects.list" if google else "s3:ListBucket"
    with pytest.raises(SourceError, match=right) as raised, made.capture():
        pass
    assert right in raised.value.todo
    with made.capture() as capture:
        way.plan(Trouble("GET", "closed", times=9, status=403, code=code))
        MemoryPoint.of(capture.tree)
        (problem,) = capture.problems
    assert problem.kind == "permission"
    assert ("storage.objects.get" if google else "s3:GetObject") in problem.detail
    with made.capture() as capture:
        way.plan(*(Trouble("GET", name, times=9, status=403, code=code) for name in ("closed", "open")))
        with pytest.raises(SourceError, match="not one of its objects can be read"):
            MemoryPoint.of(capture.tree)


def test_parts_of_a_large_object_are_compared_with_its_etag(versitygw: ObjectStore, tmp_path: Path) -> None:
    bucket, client = versitygw.bucket(), versitygw.client
    parts = [os.urandom(5 << 20), os.urandom(1 << 20)]
    upload = client.create_multipart_upload(Bucket=bucket, Key="parted")["UploadId"]
    place = {"Bucket": bucket, "Key": "parted", "UploadId": upload}
    done = [
        {"PartNumber": number, "ETag": client.upload_part(**place, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(parts, 1)
    ]
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": done})
    made = source(versitygw, bucket, tmp_path / "state")
    point, _ = captured(made, block=1 << 20)
    assert point.entries[b"/objects/parted"][1] == b"".join(parts)


# -- how a bucket is set


def test_settings_of_a_bucket_are_told_as_they_are(moto: ObjectStore, tmp_path: Path) -> None:
    bucket, client = moto.bucket(), moto.client
    made = source(moto, bucket, tmp_path)
    before = made.seen().settings
    assert (before.versioning, before.kept_days, before.public, before.region) == (False, 0, False, REGION)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ID": "old", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    after = made.seen().settings
    assert (after.versioning, after.kept_days, after.public) == (True, 30, True)
    told = {detail for passed, detail in made.seen().judged() if not passed}
    assert "old versions are deleted after 30 days; policy asks for 365 days" in told
    assert "anybody may read it" in told


def test_settings_of_a_bucket_at_google_are_told_as_they_are(fake_gcs_server: GoogleStore, tmp_path: Path) -> None:
    bucket = fake_gcs_server.bucket()
    made = source(fake_gcs_server, bucket, tmp_path)
    assert made.seen().settings.versioning is False
    fake_gcs_server.ask("PATCH", f"/storage/v1/b/{bucket}", {"versioning": {"enabled": True}})
    found = made.seen().settings
    assert (found.versioning, found.region) == (True, "US-CENTRAL1")


def test_a_setting_that_may_not_be_asked_for_is_not_known_and_says_which_right_is_lacking(
    moto: ObjectStore, tmp_path: Path
) -> None:
    with rough_way(moto) as way:
        made = source(way.store, moto.bucket(), tmp_path)
        way.plan(Trouble("GET", "versioning", status=403, code="AccessDenied"))
        seen = made.seen()
    assert seen.settings.versioning is None
    told = [detail for passed, detail in seen.judged() if not passed]
    assert "whether it keeps versions is not known: this login may not s3:GetBucketVersioning" in told
