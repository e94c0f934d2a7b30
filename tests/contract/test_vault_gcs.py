"""A vault in a bucket of Google passes the vault contract on each store that speaks its API; what only it does.

gcp-storage-emulator takes no notice of conditions: `vault init` refuses it, and what rests on them is tried on
fake-gcs-server alone.
"""

import os
from collections.abc import Iterator

import pytest
from bucket_contract import BucketContract, Make, Refusal, makes, refused
from vault_contract import VaultContract

from cto_backups.core.vaults import Vault
from cto_backups.errors import VaultError, VaultExistsError, VaultFullError, VaultReadOnlyError
from cto_backups.providers import pauses
from cto_backups.vaults import bucket as bucket_module
from cto_backups.vaults import gcs_upload
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.marker import new_marker
from servers.google_stores import GoogleStore
from servers.rough_way import Fault, RoughWay, rough_way

ON_CONDITIONS = {
    "test_creating_it_again_changes_nothing",
    "test_a_stored_file_is_not_replaced_in_passing",
    "test_of_many_writers_of_one_key_exactly_one_wins",
    "test_a_stream_is_stored_whole_and_never_replaces_in_passing",
}


@pytest.fixture
def made() -> Iterator[Make]:
    """Makes vaults, whose connections are closed in the end."""
    yield from makes(gcs_vault)


@pytest.fixture
def one_try() -> None:
    """Nothing has to be said: what is asked a second time comes without a pause."""


@pytest.fixture(autouse=True)
def _no_settings_of_google(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine says of logins decides nothing; nor is it asked over the network who it is; nobody waits."""
    for variable in [name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_", "GCLOUD_", "STORAGE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(pauses, "pause", lambda *_: None)


class TestGcsVault(VaultContract):
    @pytest.fixture
    def vault(self, google_store: GoogleStore, made: Make, request: pytest.FixtureRequest) -> Vault:
        if request.node.originalname in ON_CONDITIONS and not google_store.heeds_conditions:
            pytest.skip(f"{google_store.name} takes no notice of conditions")
        bucket = google_store.bucket()
        vault = made(google_store, bucket, "office/main")
        if google_store.heeds_conditions:
            vault.create()
        else:
            google_store.put(bucket, "office/main/vault.json", new_marker())
        return vault


class TestBucketOfGoogle(BucketContract):
    putting, escaped = "POST", "%2F"
    making = "gcloud storage buckets create gs://no-such-bucket --location=us-central1"

    @pytest.fixture
    def store(self, fake_gcs_server: GoogleStore) -> GoogleStore:
        return fake_gcs_server


@pytest.fixture
def rough(way: RoughWay, made: Make) -> BucketVault:
    """A vault at the end of the rough way; nothing has gone wrong yet."""
    way.plan()
    vault = made(way.store, way.store.bucket())
    vault.create()
    return vault


def test_a_store_that_takes_no_notice_of_conditions_is_refused(gcp_storage_emulator: GoogleStore, made: Make) -> None:
    with pytest.raises(VaultError, match="takes no notice of ifGenerationMatch"):
        made(gcp_storage_emulator, gcp_storage_emulator.bucket()).create()


# -- logging in


def test_a_login_that_was_taken_back_is_told_and_not_shown(fake_gcs_server: GoogleStore, made: Make) -> None:
    vault = made(fake_gcs_server, fake_gcs_server.bucket())
    fake_gcs_server.logins.refused = "Invalid JWT Signature."
    try:
        with pytest.raises(VaultError, match="the login has expired, or was taken back") as caught:
            vault.check()
    finally:
        fake_gcs_server.logins.refused = ""
    assert "PRIVATE KEY" not in f"{caught.value} {caught.value.todo}"


def test_what_is_no_key_file_is_told(fake_gcs_server: GoogleStore, made: Make) -> None:
    for content in ("swordfish", "{}", "[]"):
        with pytest.raises(VaultError, match="not the key file of a service account") as caught:
            made(fake_gcs_server, "any", logins={"credentials": lambda c=content: c}).check()
        assert "swordfish" not in f"{caught.value} {caught.value.todo}"


def test_without_a_login_in_the_policy_or_in_the_usual_places_that_is_told(
    fake_gcs_server: GoogleStore, made: Make
) -> None:
    with pytest.raises(VaultError, match="no login to Google Cloud was found") as caught:
        made(fake_gcs_server, "any", logins={}).check()
    assert "gcloud auth application-default login" in caught.value.todo


# -- the way there


@pytest.fixture(scope="module")
def way(fake_gcs_server: GoogleStore) -> Iterator[RoughWay]:
    with rough_way(fake_gcs_server) as way:
        yield way


def test_a_busy_store_is_asked_again_and_a_login_made_anew(way: RoughWay, rough: BucketVault) -> None:
    way.plan(
        Fault("POST", "v%2Fa", times=2, status=429, code="rateLimitExceeded"),
        Fault("POST", "v%2Fa", status=401, code="authError"),
        Fault("POST", "v%2Fa", times=2, status=503, code="backendError"),
    )
    before = len(way.store.logins.given)
    rough.put("a", [b"x"])
    assert rough.read("a") == b"x"
    assert len(way.store.logins.given) == before + 1


def test_large_content_goes_in_chunks_of_which_only_lost_ones_go_again(
    way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_upload, "_SINGLE_BYTES", 100_000)
    monkeypatch.setattr(gcs_upload, "_CHUNK_BYTES", 256 << 10)
    content = os.urandom(1_000_000)
    rough.put("a", [content[:7], content[7:]])
    assert rough.read("a") == content
    assert [method for method, _ in way.seen].count("PUT") == 4
    with pytest.raises(VaultExistsError):
        rough.put("a", [content])


def test_a_chunk_that_got_lost_is_sent_again_from_where_the_store_says(
    gcp_storage_emulator: GoogleStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, since fake-gcs-server does not know how to say how far an upload has come."""
    monkeypatch.setattr(gcs_upload, "_SINGLE_BYTES", 100_000)
    monkeypatch.setattr(gcs_upload, "_CHUNK_BYTES", 256 << 10)
    content = os.urandom(1_000_000)
    with rough_way(gcp_storage_emulator) as way:
        vault = made(way.store, way.store.bucket())
        way.plan(Fault("PUT", lost=True), Fault("PUT", times=2, status=503, code="backendError"))
        vault.put("b", [content], overwrite=True)
        assert [method for method, _ in way.seen].count("PUT") == 4 + 3, "lost; asked how far it came, three times"
        assert vault.read("b") == content
        monkeypatch.setattr(bucket_module, "_PART_BYTES", 256 << 10)
        way.plan(
            Fault("PUT", told=lambda _: None),
            Fault("PUT", reset=100_000),
            Fault("PUT", status=503, code="backendError"),
            Fault("PUT", told=lambda _: None),
            Fault("PUT", lost=True),
        )
        vault.put_stream("c", iter([content[:9], content[9:]]), overwrite=True)
        assert [method for method, _ in way.seen].count("PUT") == 3 + 5, "one is cut, asked for twice, lost, asked for"
        assert vault.read("c") == content


def test_an_upload_that_gets_nowhere_comes_to_an_end(
    gcp_storage_emulator: GoogleStore, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_upload, "_SINGLE_BYTES", 100_000)
    with rough_way(gcp_storage_emulator) as way:
        vault = made(way.store, way.store.bucket())
        way.plan(Fault("PUT", status=308, times=100))
        with pytest.raises(VaultError, match="stands at 0 of 200000 bytes"):
            vault.put("a", [bytes(200_000)], overwrite=True)


REFUSALS: dict[str, Refusal] = {
    "denied put": (
        Fault("POST", status=403, code="forbidden"),
        VaultReadOnlyError,
        r"has not storage\.objects\.create on object v/a in bucket test-",
        "Give it storage.objects.create",
    ),
    "denied get": (
        Fault("GET", status=403, code="forbidden"),
        VaultError,
        r"has not storage\.objects\.get on object v/a",
        "storage.objects.list",
    ),
    "denied delete": (
        Fault("DELETE", status=403, code="forbidden"),
        VaultReadOnlyError,
        r"has not storage\.objects\.delete",
        "storage.objects.delete",
    ),
    "kept": (Fault("DELETE", status=403, code="retentionPolicyNotMet"), VaultReadOnlyError, "keeps", "retention"),
    "login": (Fault("GET", status=401, code="authError", times=3), VaultError, "does not take this login", "Log in"),
    "full": (Fault("POST", status=403, code="quotaExceeded"), VaultFullError, "is full", "quota"),
    "billing": (Fault("GET", status=403, code="accountDisabled"), VaultError, "does not pay", "billing"),
    "scope": (Fault("GET", status=403, code="insufficientPermissions"), VaultError, "too narrow", "devstorage"),
    "busy": (Fault("GET", status=429, code="rateLimitExceeded", times=9), VaultError, "fewer requests", "later"),
    "down": (Fault("POST", status=500, code="backendError", times=9), VaultError, "backendError", "audit log"),
    "conflict": (Fault("POST", status=409, code="conflict"), VaultError, "conflict", "audit log"),
    "elsewhere": (Fault("GET", status=307), VaultError, "is not followed", "endpoint"),
    "odd": (Fault("GET", status=418, code="teapot", message="short and stout"), VaultError, "short and stout", "log"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_a_store_refuses_is_told_with_why_and_what_to_do(way: RoughWay, made: Make, case: str) -> None:
    refused(way, made, REFUSALS[case], "POST")
