"""The secret comes from whichever place of the policy gives one that opens; what keeps each from it is told."""

import sys
from pathlib import Path

import pytest

from cto_backups.app import starting
from cto_backups.app.adapters import Adapters
from cto_backups.app.repository_secret import service
from cto_backups.config import Configuration, load
from cto_backups.config.repository_key import ServiceKind, ServiceReference
from cto_backups.errors import KeyProblemError, PolicyError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    sources = {"notes": {"kind": "files", "class": "documentation", "paths": [str(folder)]}}
    starting.initialise(folder / "home", business="acme", sources=sources)
    return folder / "home"


def naming(home: Path, *references: str) -> Configuration:
    text = (home / "backups.yaml").read_text()
    other = home / "other.yaml"
    other.write_text(text.replace("repository: file:keys/repository.key", f"repository: [{', '.join(references)}]"))
    return load(other)


def test_the_next_place_is_asked_when_one_gives_nothing_or_another_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALE_KEY", "an old secret")
    configuration = naming(home, "file:keys/gone.key", "env:STALE_KEY", "file:keys/repository.key")
    assert Adapters(configuration).store("one").repository_id


def test_when_no_place_opens_each_is_told_with_its_reason_and_no_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STALE_KEY", "an old secret")
    configuration = naming(home, "file:keys/gone.key", "env:STALE_KEY")
    with pytest.raises(KeyProblemError) as raised:
        Adapters(configuration).store("one")
    assert "file:keys/gone.key is missing" in str(raised.value.why)
    assert "does not open" in str(raised.value.why)
    assert "an old secret" not in f"{raised.value.what}{raised.value.why}"


@pytest.mark.parametrize(
    ("kind", "module", "missing"),
    [(ServiceKind.AWS, "aws", "boto3"), (ServiceKind.GOOGLE, "google", "grpc")],
)
def test_a_service_whose_library_is_not_installed_names_the_extra(
    kind: ServiceKind, module: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"cto_backups.key_services.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PolicyError, match=f"needs {missing}, which is not installed") as raised:
        service(ServiceReference(kind, "a key of nobody"))
    assert "pip install 'cto-backups[" in str(raised.value.todo)


@pytest.mark.parametrize(
    "text",
    [
        "aws-kms:alias/backups",
        "aws-kms:arn:aws:s3:us-west-2:111122223333:key/k",
        "gcp-kms:projects/acme/locations/us/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "gcp-kms:k",
    ],
)
def test_a_key_is_named_in_full(text: str) -> None:
    with pytest.raises(KeyProblemError, match="does not name a key in full"):
        ServiceReference.parse(text)
