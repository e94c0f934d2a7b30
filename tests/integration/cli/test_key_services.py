"""Key services: what they wrap opens the vaults, any one is enough, and an audit finds a key that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cto_backups import clock
from cto_backups.app import repository_secret
from cto_backups.app.adapters import Adapters
from cto_backups.config import load
from cto_backups.config.secrets import Secret
from cto_backups.errors import ExitStatus, KeyProblemError, KeyServiceAwayError
from cto_backups.key_services.aws import AwsKeyService
from cto_backups.key_services.google import GoogleKeyService
from cto_backups.repository.envelope import Envelope, canonical, context_of
from servers.key_services import GoogleKeys, State, aws_keys, google_keys, local_kms

from .conftest import Answer, Home, environment
from .test_keys import KILLED, VAULTS, key_files, opens, records, secret

CONTEXT = {"cto-backups:vault": "one", "cto-backups:repository": "ab" * 32}


class CloudHome(Home):
    """An installation whose commands find the key services of this test."""

    def __call__(self, *arguments: str, **variables: str) -> Answer:
        found = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "KMS_"))}
        return super().__call__(*arguments, **found, **variables)


SERVERS = Path(__file__).parents[3] / ".cache" / "servers"


@pytest.fixture
def home(home: Home) -> Home:
    return CloudHome(home.root, home.data)


@pytest.fixture(scope="module")
def google_server() -> Iterator[GoogleKeys]:
    with google_keys() as keys:
        yield keys


@pytest.fixture
def google(google_server: GoogleKeys, monkeypatch: pytest.MonkeyPatch) -> GoogleKeys:
    monkeypatch.setenv("KMS_EMULATOR_HOST", google_server.address)
    return google_server


@pytest.fixture(scope="module")
def moto_kms(required_tool: Any) -> Iterator[str]:
    packages = SERVERS / "moto"
    required_tool(os.fspath(packages / "bin" / "moto_server"), package="", install="tools/setup --tools")
    with aws_keys(packages) as address:
        yield address


@pytest.fixture(scope="module")
def stricter_kms(required_tool: Any) -> Iterator[str]:
    """One that does nothing with a key that is disabled."""
    program = required_tool(os.fspath(SERVERS / "bin" / "local-kms"), package="", install="tools/setup --tools")
    with local_kms(program) as address:
        yield address


def administrator(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of AWS KMS, as its administrator has it; from now on this process's key services are there, too."""
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("kms", region_name="us-west-2")


@pytest.fixture(params=["moto_kms", "stricter_kms"])
def aws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each that stands in for AWS KMS, in turn."""
    return administrator(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture(params=["moto_kms", "stricter_kms", "google"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new key of each cloud."""
    server = request.getfixturevalue(request.param)
    if request.param != "google":
        return AwsKeyService(aws_key(administrator(server, monkeypatch)))
    return GoogleKeyService(server.make(f"of-{request.node.name.partition('[')[0][-40:]}"))


def aws_key(aws: Any) -> str:
    return str(aws.create_key()["KeyMetadata"]["Arn"])


def provide(home: Home, *references: str) -> None:
    """Let the policy name these places of the secret."""
    lines = home.policy.read_text().splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if line.startswith("  repository:"))
    lines[number] = f"  repository: [{', '.join(references)}]\n"
    home.policy.write_text("".join(lines))


def lose_the_file(home: Home) -> str:
    """Move the key file away; the secret that was in it."""
    was = secret(home)
    (home.root / "keys" / "repository.key").unlink()
    return was


def findings(home: Home, control: str) -> list[Any]:
    document = home("audit", "--json").document
    return [each for each in document["findings"] if each["control"] == control]


def wrapped_files(home: Home, vault: str) -> list[Path]:
    return sorted(home.vault(vault).glob("wrapped-keys/*"))


def test_a_service_unwraps_what_it_wrapped_for_the_same_context_alone(service: Any) -> None:
    wrapped = service.wrap(b"the secret", CONTEXT)
    assert b"the secret" not in wrapped
    assert service.unwrap(wrapped, CONTEXT) == b"the secret"
    with pytest.raises(KeyProblemError, match="another vault or repository"):
        service.unwrap(wrapped, {**CONTEXT, "cto-backups:vault": "two"})
    with pytest.raises(KeyProblemError, match="damaged"):
        service.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT)
    service.check()


def test_a_key_of_aws_that_is_disabled_opens_nothing_until_it_is_enabled_again(
    stricter_kms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = administrator(stricter_kms, monkeypatch)
    arn = aws_key(aws)
    service = AwsKeyService(arn)
    wrapped = service.wrap(b"the secret", CONTEXT)
    aws.disable_key(KeyId=arn)
    for ask in (lambda: service.wrap(b"another", CONTEXT), lambda: service.unwrap(wrapped, CONTEXT)):
        with pytest.raises(KeyProblemError, match="of no use") as raised:
            ask()
        assert raised.value.why == "it is disabled"
    aws.enable_key(KeyId=arn)
    assert service.unwrap(wrapped, CONTEXT) == b"the secret"


def test_a_key_that_is_not_there_says_so(aws: Any, google: GoogleKeys) -> None:
    gone = "arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000000"
    for missing in (AwsKeyService(gone), GoogleKeyService("projects/a/locations/us/keyRings/r/cryptoKeys/none")):
        with pytest.raises(KeyProblemError, match="there is no such key"):
            missing.check()


def test_a_permission_that_lacks_is_named(google: GoogleKeys) -> None:
    name = google.make("refused")
    google.refused.add(name)
    with pytest.raises(KeyProblemError, match=r"cryptoKeyVersions\.useToDecrypt"):
        GoogleKeyService(name).unwrap(b"\x01" + bytes(40), CONTEXT)


def test_an_emulator_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMS_EMULATOR_HOST", "192.0.2.1:9020")
    with pytest.raises(KeyProblemError, match="another machine"):
        GoogleKeyService("projects/a/locations/us/keyRings/r/cryptoKeys/k").check()


def test_what_is_wrapped_opens_every_vault_when_the_file_is_lost_and_either_cloud_is_enough(
    home: Home, aws: Any, google: GoogleKeys
) -> None:
    arn, name = aws_key(aws), google.make("either")
    provide(home, "file:keys/repository.key", f"aws-kms:{arn}", f"gcp-kms:{name}")
    answer = home("key", "wrap", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert [[each["new"] for each in vault["services"]] for vault in answer.document["vaults"]] == [[True, True]] * 3
    assert secret(home) not in answer.out + answer.err
    again = home("key", "wrap", "--json").document
    assert [[each["new"] for each in vault["services"]] for vault in again["vaults"]] == [[False, False]] * 3
    assert [len(wrapped_files(home, vault)) for vault in VAULTS] == [2, 2, 2]
    for vault in VAULTS:
        for file in wrapped_files(home, vault):
            assert secret(home) not in file.read_text()
    assert {each["change"] for each in records(home, "three")} == {"wrapped"}
    repository = json.loads(wrapped_files(home, "one")[0].read_text())["repository"]
    assert canonical(context_of("one", repository)) in google.contexts

    kept = home.root / "keys" / "repository.key"
    kept.rename(home.root / "aside")
    shutil.rmtree(home.root / "state" / "wrapped-keys")  # the vault alone is enough
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    provide(home, f"gcp-kms:{name}")
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    provide(home, f"aws-kms:{arn}")
    home.change()
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    google.keys[name][0].state = State.DISABLED
    provide(home, f"gcp-kms:{name}", f"aws-kms:{arn}")
    assert home("verify", "two").status is ExitStatus.SUCCESS, "one cloud is lost, and the other opens"
    provide(home, f"gcp-kms:{name}")
    refused = home("verify", "two")
    assert refused.status is ExitStatus.KEY
    assert "disabled or destroyed" in refused.err


def test_the_wrapped_secret_of_another_vault_opens_nothing(home: Home, google: GoogleKeys) -> None:
    provide(home, "file:keys/repository.key", f"gcp-kms:{google.make('swapped')}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    lose_the_file(home)
    shutil.rmtree(home.root / "state" / "wrapped-keys")
    (of_one,), (of_two,) = wrapped_files(home, "one"), wrapped_files(home, "two")
    document = json.loads(of_one.read_text())
    document["vault"] = "two"
    of_two.chmod(0o600)
    of_two.write_text(json.dumps(document))
    for vault in ("one", "three"):
        shutil.rmtree(home.vault(vault) / "wrapped-keys")
    answer = home("verify", "two")
    assert answer.status is ExitStatus.KEY
    assert "another vault or repository" in answer.err


def test_a_vault_without_its_wrapped_secret_opens_by_that_of_another_vault(home: Home, google: GoogleKeys) -> None:
    provide(home, "file:keys/repository.key", f"gcp-kms:{google.make('missing')}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    lose_the_file(home)
    shutil.rmtree(home.root / "state" / "wrapped-keys")
    shutil.rmtree(home.vault("two") / "wrapped-keys")
    assert home("verify", "two").status is ExitStatus.SUCCESS
    assert "nothing is wrapped with it for vault 'two'" in findings(home, "key-services")[0]["detail"]


def test_a_new_vault_is_made_and_wrapped_with_key_services_alone(home: Home, google: GoogleKeys) -> None:
    name = google.make("new-vault")
    provide(home, "file:keys/repository.key", f"gcp-kms:{name}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    lose_the_file(home)
    provide(home, f"gcp-kms:{name}")
    four = "  four: {url: file:vaults/four, provider: p, region: r, storage: disk}\n"
    home.policy.write_text(home.policy.read_text().replace("vaults:\n", f"vaults:\n{four}", 1))
    assert home("vault", "init", "four").status is ExitStatus.SUCCESS
    assert home("vault", "fill", "four").status is ExitStatus.SUCCESS
    assert home("verify", "four").status is ExitStatus.SUCCESS


def test_a_rotation_exchanges_a_secret_that_services_alone_give(home: Home, aws: Any, google: GoogleKeys) -> None:
    arn, name = aws_key(aws), google.make("rotated")
    provide(home, "file:keys/repository.key", f"aws-kms:{arn}", f"gcp-kms:{name}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    before = lose_the_file(home)
    provide(home, f"aws-kms:{arn}", f"gcp-kms:{name}")
    packs = sorted(path.name for path in home.vault("one").glob("repositories/main/data/*/*"))
    home.vault("two").rename(home.root / "away")
    away = home("key", "rotate")
    assert away.status is ExitStatus.VAULT
    (home.root / "away").rename(home.vault("two"))
    assert home("verify", "one").status is ExitStatus.SUCCESS, "half way, every vault opens"
    assert home("verify", "two").status is ExitStatus.SUCCESS
    answer = home("key", "rotate", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    assert (answer.document["switched"], answer.document["finished"]) == (True, True)
    for vault in VAULTS:
        assert not opens(home, vault, before)
        assert (len(key_files(home, vault)), len(wrapped_files(home, vault))) == (1, 2)
    assert packs == sorted(path.name for path in home.vault("one").glob("repositories/main/data/*/*"))
    for reference in (f"aws-kms:{arn}", f"gcp-kms:{name}"):
        provide(home, reference)
        assert home("verify").status is ExitStatus.SUCCESS


@pytest.mark.timeout(1800)  # with as many rounds as there are changes
def test_a_rotation_killed_before_any_change_leaves_every_vault_open_and_the_next_one_finishes(
    home: Home, google: GoogleKeys, tmp_path: Path, fault_rounds: int
) -> None:
    reference = f"gcp-kms:{google.make('killed')}"
    provide(home, "file:keys/repository.key", reference)
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    before = lose_the_file(home)
    provide(home, reference)
    keep = tmp_path / "keep"
    shutil.copytree(home.root, keep, symlinks=True)

    def killed_at(change: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", KILLED, "wrapped-keys/:/main/keys/", str(change), "key", "rotate"],
            env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
            capture_output=True,
            text=True,
            check=False,
        )

    done = killed_at(0)
    assert done.returncode == 0, done.stderr
    changes = int(done.stderr.split()[-1])
    assert changes >= 3 * (2 + 1 + 1 + 2)  # for each vault: wrapped here and there, a key file, both gone again
    rounds = max(3, min(changes, fault_rounds))
    for change in sorted({1 + number * (changes - 1) // (rounds - 1) for number in range(rounds)}):
        shutil.rmtree(home.root)
        shutil.copytree(keep, home.root, symlinks=True)
        assert killed_at(change).returncode == -signal.SIGKILL
        assert home("key", "list").status is ExitStatus.SUCCESS, f"before change {change}"
        assert home("key", "rotate").status is ExitStatus.SUCCESS
        for vault in VAULTS:
            assert not opens(home, vault, before)
            assert (len(key_files(home, vault)), len(wrapped_files(home, vault))) == (1, 1)


def test_a_rotation_of_a_secret_in_a_file_wraps_the_new_one(home: Home, google: GoogleKeys) -> None:
    provide(home, "file:keys/repository.key", f"gcp-kms:{google.make('both')}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    before = secret(home)
    assert home("key", "rotate").status is ExitStatus.SUCCESS
    lose_the_file(home)
    assert home("verify").status is ExitStatus.SUCCESS
    assert not opens(home, "one", before)
    assert [len(wrapped_files(home, vault)) for vault in VAULTS] == [1, 1, 1]


def test_wrapping_anew_takes_the_new_version_of_a_key_and_leaves_the_old_one_free_to_go(
    home: Home, google: GoogleKeys
) -> None:
    name = google.make("versions")
    provide(home, "file:keys/repository.key", f"gcp-kms:{name}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    google.rotate(name)
    assert home("key", "wrap", "--anew").status is ExitStatus.SUCCESS
    google.schedule_destruction(name, 1)
    lose_the_file(home)
    assert home("verify").status is ExitStatus.SUCCESS
    assert [len(wrapped_files(home, vault)) for vault in VAULTS] == [1, 1, 1]


def test_an_audit_finds_a_key_that_fails_before_it_is_needed(home: Home, aws: Any, google: GoogleKeys) -> None:
    arn, name = aws_key(aws), google.make("audited")
    provide(home, "file:keys/repository.key", f"aws-kms:{arn}", f"gcp-kms:{name}")
    assert all("nothing is wrapped" in each["detail"] for each in findings(home, "key-services"))
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    assert findings(home, "key-services") == []
    aws.disable_key(KeyId=arn.rpartition("/")[2])
    (found,) = findings(home, "key-services")
    assert found["subject"] == f"aws-kms:{arn}"
    assert "Disabled" in found["detail"]
    aws.enable_key(KeyId=arn.rpartition("/")[2])
    google.schedule_destruction(name, 1)
    (found,) = findings(home, "key-services")
    assert "destroy" in found["detail"]
    google.keys[name][0].state = State.ENABLED
    google.keys[name][0].destroyed_at = None
    aws.schedule_key_deletion(KeyId=arn.rpartition("/")[2], PendingWindowInDays=7)
    (found,) = findings(home, "key-services")
    assert "deleted on" in found["detail"]


def test_a_service_that_does_not_answer_is_found_and_the_file_still_opens(home: Home, google: GoogleKeys) -> None:
    provide(home, f"gcp-kms:{google.make('silent')}", "file:keys/repository.key")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    lost = {"KMS_EMULATOR_HOST": "127.0.0.1:1"}
    answer = home.process("verify", "one", **lost)
    assert answer.status is ExitStatus.SUCCESS, answer
    audited = home.process("audit", "--json", **lost).document
    (found,) = [each for each in audited["findings"] if each["control"] == "key-services"]
    assert "does not answer" in found["detail"]


def test_nothing_is_wrapped_where_the_policy_names_no_service(home: Home) -> None:
    answer = home("key", "wrap")
    assert answer.status is ExitStatus.REFUSED
    assert "names no key service" in answer.err


@pytest.mark.parametrize("places", [["file:keys/repository.key"], []], ids=["file", "services-alone"])
def test_what_a_destroyed_version_of_a_key_wrapped_keeps_no_rotation_from_its_end(
    home: Home, google: GoogleKeys, places: list[str]
) -> None:
    """As the audit has it: a new version, and wrap anew. What the former one wrapped can be opened by nobody then."""
    name = google.make(f"destroyed-{len(places)}")
    provide(home, "file:keys/repository.key", f"gcp-kms:{name}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    google.keys[name][0].state = State.DESTROYED
    google.rotate(name)
    assert home("key", "wrap", "--anew").status is ExitStatus.SUCCESS
    assert [len(wrapped_files(home, vault)) for vault in VAULTS] == [2, 2, 2]
    if not places:
        lose_the_file(home)
    provide(home, *places, f"gcp-kms:{name}")
    before = key_files(home, "one")
    rotated = home("key", "rotate")
    assert rotated.status is ExitStatus.SUCCESS, rotated
    after = key_files(home, "one")
    assert len(after) == 1 and after != before
    assert [len(wrapped_files(home, vault)) for vault in VAULTS] == [1, 1, 1]
    assert home("verify", "two").status is ExitStatus.SUCCESS
    assert not findings(home, "key-services")


@pytest.mark.parametrize("failure", [KeyServiceAwayError, KeyProblemError])
def test_who_runs_for_long_asks_a_service_that_failed_again(
    home: Home, google: GoogleKeys, monkeypatch: pytest.MonkeyPatch, failure: type[KeyProblemError]
) -> None:
    """A worker's process keeps what it has opened, and what keeps it from opening: the latter not for good."""
    provide(home, "file:keys/repository.key", f"gcp-kms:{google.make(f'again-{failure.__name__}')}")
    assert home("key", "wrap").status is ExitStatus.SUCCESS
    lose_the_file(home)
    asked: list[Envelope] = []

    def fails(_reference: object, envelope: Envelope) -> Secret:
        asked.append(envelope)
        raise failure("Key cannot be used", why="it has a bad minute")

    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    adapters = Adapters(load(home.policy))
    with monkeypatch.context() as patched:
        patched.setattr(repository_secret, "unwrap", fails)
        for name in VAULTS:
            with pytest.raises(KeyProblemError):
                adapters.store(name)
    each = 1 if failure is KeyServiceAwayError else len(VAULTS)
    assert len(asked) == each, "each try may cost seconds"
    now += repository_secret.REMEMBERED_SECONDS + 1
    assert adapters.store("two").repository_id
