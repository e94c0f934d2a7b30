"""Points of a bucket go into other buckets, and tests of them into a bucket, by copies of the provider where it can."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from test_copies_within import (
    LARGE,
    OTHER,
    MakeVault,
    alone,
    backed_up,
    exports,
    vaults,
)
from test_source_bucket import Store, delete, get, put, source

from cto_backups import clock
from cto_backups.core.ports import Existing, PointReader, Restored, RestoreOptions
from cto_backups.errors import RefusedError, VerificationError
from cto_backups.sources.bucket.source import BucketSource
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore, user

SMALL = b"of a customer\n" * 20
ALL = {"films/one": LARGE, "films/two": OTHER, "customers/1": SMALL}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)


@pytest.fixture
def made() -> Iterator[MakeVault]:
    yield from vaults()


@pytest.fixture(params=["versitygw", "moto", "fake_gcs_server"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


class Point:
    """A point of a bucket, as it lies in a vault of the same store."""

    def __init__(self, store: Store, make: MakeVault, state: Path, **settings: Any) -> None:
        self.store, self.bucket = store, store.bucket()
        for name, content in ALL.items():
            put(store, self.bucket, name, content)
        self.vault = make(store, store.bucket())
        self.exports = exports(self.vault)
        self.state = state
        self.source: BucketSource = source(store, self.bucket, state, **settings)
        with self.source.capture() as capture, self.exports.writing() as writing:
            from payload_store_contract import label

            draft = writing.write(capture.tree)
            self.fingerprint = capture.fingerprint()
            self.reference = writing.commit(draft, label())

    @property
    def reader(self) -> PointReader:
        return self.exports.reader(self.reference)

    def into(self, url: str, **how: Any) -> Restored:
        options = RestoreOptions(into=url, verify=bool(how.pop("verify", False)))
        return self.source.restore(self.reader, None, options=options, **how)


def scheme(store: Store) -> str:
    return "gs" if isinstance(store, GoogleStore) else "s3"


def names(store: Store, bucket: str) -> list[str]:
    if isinstance(store, GoogleStore):
        return [each["name"] for each in store.ask("GET", f"/storage/v1/b/{bucket}/o").get("items", ())]
    return [each["Key"] for each in store.client.list_objects_v2(Bucket=bucket).get("Contents", ())]


@pytest.fixture
def point(store: Store, made: MakeVault, tmp_path: Path) -> Point:
    return Point(store, made, tmp_path / "state")


def test_a_point_goes_into_another_bucket_and_large_objects_by_their_provider(store: Store, point: Point) -> None:
    other = store.bucket()
    url = f"{scheme(store)}://{other}/rescue"
    planned = point.source.plan_restore(point.reader, None, options=RestoreOptions(into=url))
    assert (planned.entries, planned.conflicts) == (3, ())
    assert names(store, other) == []
    done = point.into(url, verify=True)
    assert not done.problems
    assert done.places == (url,)
    assert "2 objects copied by the provider" in done.notes
    assert {name: get(store, other, f"rescue/{name}") for name in ALL} == ALL
    assert sorted(names(store, other)) == sorted(f"rescue/{name}" for name in ALL)
    put(store, other, "rescue/films/two", b"written since")
    with pytest.raises(RefusedError, match="would be replaced"):
        point.into(url)
    assert get(store, other, "rescue/films/two") == b"written since"
    assert not point.into(url, existing=Existing.OVERWRITE).problems
    assert get(store, other, "rescue/films/two") == OTHER
    assert names(store, point.bucket) == sorted(ALL), "its own bucket is left alone"


def test_in_place_too_the_provider_copies_and_only_over_what_was_compared(store: Store, point: Point) -> None:
    delete(store, point.bucket, "films/one")
    done = point.source.restore(point.reader, None)
    assert not done.problems
    assert "1 object copied by the provider" in done.notes
    assert get(store, point.bucket, "films/one") == LARGE


def test_whoever_writes_meanwhile_loses_nothing_by_a_copy(store: Store, point: Point) -> None:
    delete(store, point.bucket, "films/one")
    with point.source._store() as bucket:
        state = point.reader.state_of(b"/objects/films/one")  # type: ignore[attr-defined]
        put(store, point.bucket, "films/one", b"of somebody else")
        from cto_backups.sources.bucket.stores import OtherStateError

        with pytest.raises(OtherStateError):
            bucket.copy(b"films/one", state, {}, None)
    assert get(store, point.bucket, "films/one") == b"of somebody else"


def test_properties_come_along_with_what_is_copied(versitygw: ObjectStore, made: MakeVault, tmp_path: Path) -> None:
    bucket, other = versitygw.bucket(), versitygw.bucket()
    put(versitygw, bucket, "film", LARGE, ContentType="video/mp4", Metadata={"by": "us"})
    into = exports(made(versitygw, versitygw.bucket()))
    _, reference = backed_up(versitygw, bucket, into, tmp_path)
    options = RestoreOptions(into=f"s3://{other}")
    done = source(versitygw, bucket, tmp_path).restore(into.reader(reference), None, options=options)
    assert "1 object copied by the provider" in done.notes
    told = versitygw.client.head_object(Bucket=other, Key="film")
    assert (told["ContentType"], told["Metadata"]) == ("video/mp4", {"by": "us"})


@pytest.mark.parametrize("place", ["same", "whole", "vault", "scheme", "none"])
def test_places_that_nobody_can_mean_are_refused(versitygw: ObjectStore, tmp_path: Path, place: str) -> None:
    bucket = versitygw.bucket()
    here = source(versitygw, bucket, tmp_path, prefix="media", own=("s3://acme-vault",))
    wrong = {
        "same": f"s3://{bucket}/media/deep",
        "whole": f"s3://{bucket}",
        "vault": "s3://acme-vault/other",
        "scheme": "gs://elsewhere",
        "none": "s3://",
    }
    with pytest.raises(RefusedError, match="Nothing is restored into"):
        here.check_into(wrong[place])
    here.check_into(f"s3://{bucket}/media-rescue")
    here.check_into("s3://elsewhere/media")


def test_a_login_that_may_not_read_the_vault_writes_what_it_has_from_here(
    versitygw: ObjectStore,
    versitygw_program: Path,
    made: MakeVault,
    tmp_path: Path,
) -> None:
    point = Point(versitygw, made, tmp_path / "state")
    other = versitygw.bucket()
    login = user(versitygw_program, versitygw)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [login.access_key]},
                "Action": ["s3:*"],
                "Resource": [f"arn:aws:s3:::{other}", f"arn:aws:s3:::{other}/*"],
            }
        ],
    }
    versitygw.client.put_bucket_policy(Bucket=other, Policy=json.dumps(policy))
    there = source(login, point.bucket, tmp_path / "other")
    done = there.restore(point.reader, None, options=RestoreOptions(into=f"s3://{other}"))
    assert not done.problems
    (note,) = done.notes
    assert f"may not s3:GetObject on arn:aws:s3:::{point.vault.address.bucket}/*" in note
    assert {name: get(versitygw, other, name) for name in ALL} == ALL


# -- tests in a bucket -------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(store: Store) -> str:
    return store.bucket()


@pytest.fixture
def tested(store: Store, made: MakeVault, scratch: str, tmp_path: Path) -> Iterator[Point]:
    yield Point(store, made, tmp_path / "state", test_in=f"{scheme(store)}://{scratch}/tests")


def restored(point: Point, folder: Path) -> Restored:
    folder.mkdir(exist_ok=True)
    return point.source.restore(point.reader, folder, options=RestoreOptions(one_copy=True))


def test_a_test_restores_into_the_bucket_proves_it_there_and_deletes_it(
    store: Store, tested: Point, scratch: str, tmp_path: Path
) -> None:
    done = restored(tested, tmp_path / "test")
    assert not done.problems
    assert "2 objects copied by the provider" in done.notes
    assert len(names(store, scratch)) == 3
    assert not (tmp_path / "test/objects").exists(), "the objects do not come to this machine"
    assert tested.source.probe(tmp_path / "test", tested.fingerprint) == tested.fingerprint
    assert names(store, scratch) == []


def test_what_is_altered_or_lost_there_fails_the_test_and_is_deleted_all_the_same(
    store: Store, tested: Point, scratch: str, tmp_path: Path
) -> None:
    for number, harm in enumerate(("altered", "lost", "added")):
        folder = tmp_path / f"test{number}"
        restored(tested, folder)
        key = next(name for name in names(store, scratch) if name.endswith("films/one"))
        if harm == "lost":
            delete(store, scratch, key)
        else:
            put(store, scratch, key if harm == "altered" else f"{key}-more", LARGE[:-1] + b"?")
        assert tested.source.probe(folder, tested.fingerprint) != tested.fingerprint, harm
        assert names(store, scratch) == []


def test_what_a_killed_test_left_goes_with_the_next_one_and_what_runs_stays(
    store: Store, tested: Point, scratch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, scratch, "tests/mine", b"of somebody else")
    restored(tested, tmp_path / "killed")
    restored(tested, tmp_path / "running")
    assert len(names(store, scratch)) == 7
    really = clock.now
    monkeypatch.setattr(clock, "now", lambda: really() + timedelta(days=2))
    restored(tested, tmp_path / "next")
    assert len(names(store, scratch)) == 4
    assert tested.source.probe(tmp_path / "next", tested.fingerprint) == tested.fingerprint
    assert names(store, scratch) == ["tests/mine"]


def test_a_test_that_cannot_restore_leaves_nothing(
    versitygw: ObjectStore,
    made: MakeVault,
    tmp_path: Path,
) -> None:
    scratch = versitygw.bucket()
    point = Point(versitygw, made, tmp_path / "state", test_in=f"s3://{scratch}/tests")
    for file in list(point.vault.list("exports/main/data/objects")):
        if file.size_bytes == len(LARGE):
            point.vault.delete(file.key)
    done = restored(point, tmp_path / "test")
    assert [problem.path for problem in done.problems] == ["/objects/films/one"]
    assert names(versitygw, scratch) == []


def test_a_fingerprint_of_another_kind_is_refused(versitygw: ObjectStore, made: MakeVault, tmp_path: Path) -> None:
    from dataclasses import replace

    point = Point(versitygw, made, tmp_path / "state", test_in=f"s3://{versitygw.bucket()}/tests")
    restored(point, tmp_path / "test")
    with pytest.raises(VerificationError, match="is not one of a bucket"):
        point.source.probe(tmp_path / "test", replace(point.fingerprint, algorithm="stream/1"))
