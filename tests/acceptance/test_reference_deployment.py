"""The reference deployment: two buckets at Google's, one at Amazon's, the key of each in both clouds' key services.

From what an audit discovers to a passed restore test of a table of BigQuery, a bucket, a database and a folder; then
everything is lost but one vault, and its own key at one key service, for each of the vaults.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import boto3
import pytest
from ruamel.yaml import YAML

from cto_backups.app import starting
from cto_backups.errors import ExitStatus
from integration.cli.conftest import Answer, Home
from servers import object_stores, postgresql
from servers.bigquery import PROJECT, Dataset
from servers.bigquery_front import Front
from servers.google_stores import GoogleStore
from servers.key_services import GoogleKeys, State, google_keys
from servers.object_stores import REGION, ObjectStore, free_port
from servers.postgresql import Server

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "three-copies-in-two-clouds.md"
PREFIX = "office"
SOURCES = ("ledger", "media", "papers", "warehouse")
FIELDS = [{"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}, {"name": "what", "type": "STRING"}]
ROWS = "SELECT * FROM entries ORDER BY id"
BY_DAY = {"timePartitioning": {"type": "DAY", "field": "day"}}
SECTIONS = """
  warehouse:
    kind: bigquery
    class: contact-database
    project: {project}
    datasets: [{dataset}]
    staging: gs://{staging}/way
    credentials: file:keys/google.json
    endpoint: {bigquery}
    storage_endpoint: {google}
    tls: none
  media:
    kind: bucket
    class: contact-database
    url: gs://{media}
    endpoint: {google}
    tls: none
    credentials: file:keys/google.json
  ledger:
    kind: postgresql
    class: contact-database
    host: {postgresql}
    user: postgres
    databases: [ledger]
"""


@dataclass(frozen=True)
class CloudHome(Home):
    """An installation whose commands find the key services by these variables, but for the lost one of them."""

    services: dict[str, str]
    lost: str = ""

    def ask(self, *arguments: str) -> Answer:
        """Whatever a command says, and however it ends."""
        return super().__call__(*arguments, **self.services)

    def __call__(self, *arguments: str, **variables: str) -> Answer:
        found = dict(self.services)
        if self.lost:
            found[self.lost] = found[self.lost].rpartition(":")[0] + f":{free_port()}"
        answer = super().__call__(*arguments, **found, **variables)
        assert answer.status is ExitStatus.SUCCESS, f"{arguments}\n{answer.out}\n{answer.err}"
        return answer


@dataclass(frozen=True)
class Bucket:
    """A bucket, of a vault or a source: its store, its name, and its objects as whoever owns the account sees them."""

    store: GoogleStore | ObjectStore
    name: str

    def names(self) -> list[str]:
        """Of all objects."""
        if isinstance(self.store, GoogleStore):
            return [each["name"] for each in self.store.ask("GET", f"/storage/v1/b/{self.name}/o").get("items", ())]
        pages = self.store.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def read(self, name: str) -> bytes:
        """An object's content."""
        if isinstance(self.store, GoogleStore):
            link = f"{self.store.endpoint}/storage/v1/b/{self.name}/o/{quote(name, safe='')}?alt=media"
            with urlopen(link, timeout=60) as answer:
                return bytes(answer.read())
        return bytes(self.store.client.get_object(Bucket=self.name, Key=name)["Body"].read())

    def empty(self) -> None:
        """Delete everything in it."""
        names = self.names()
        if isinstance(self.store, ObjectStore) and names:
            self.store.client.delete_objects(Bucket=self.name, Delete={"Objects": [{"Key": name} for name in names]})
        for name in names if isinstance(self.store, GoogleStore) else ():
            self.store.delete(self.name, name)
        assert not self.names()


@dataclass(frozen=True)
class Deployment:
    """An installation, the buckets of its vaults by their names, and what it protects."""

    home: CloudHome
    buckets: dict[str, Bucket]
    ledger: Server
    warehouse: Dataset
    media: dict[str, bytes]
    origin: Bucket
    keys: dict[str, tuple[str, ...]]
    logins: dict[str, str]
    services: "Services"


@dataclass(frozen=True)
class Services:
    """Both clouds' key services, as their administrators have them."""

    google: GoogleKeys
    amazon: Any

    def make(self, name: str) -> tuple[str, str]:
        """A key for a vault at each."""
        arn = self.amazon.create_key()["KeyMetadata"]["Arn"]
        return f"gcp-kms:{self.google.make(name)}", f"aws-kms:{arn}"

    def close(self, references: tuple[str, ...], *, again: bool = False) -> None:
        """Let nobody use these keys; or everybody again who may."""
        google, amazon = (reference.partition(":")[2] for reference in references)
        self.google.keys[google][0].state = State.ENABLED if again else State.DISABLED
        (self.amazon.enable_key if again else self.amazon.disable_key)(KeyId=amazon.rpartition("/")[2])


@pytest.fixture
def key_services(moto: ObjectStore) -> Iterator[tuple[GoogleKeys, dict[str, str]]]:
    """Google's, and the variables by which the program finds both."""
    with google_keys() as google:
        login = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_MAX_ATTEMPTS": "1"}
        places = {"KMS_EMULATOR_HOST": google.address, "AWS_ENDPOINT_URL_KMS": moto.endpoint}
        yield google, {**login, **places, "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def ledger(postgresql_programs: Path) -> Iterator[Server]:
    """A PostgreSQL server with a database that the policy names, and one that nobody thought of."""
    with postgresql.server(postgresql_programs) as server:
        server.do("CREATE DATABASE ledger", "CREATE DATABASE forgotten")
        rows = "SELECT n AS id, n * 1.25 AS amount, 'entry ' || n AS what FROM generate_series(1, 2000) n"
        server.do(f"CREATE TABLE entries AS {rows}", "ALTER TABLE entries ADD PRIMARY KEY (id)", database="ledger")
        yield server


@pytest.fixture
def warehouse(bqemulator: Front) -> Iterator[Dataset]:
    """A dataset with a table of two partitions."""
    made = Dataset.new(bqemulator)
    rows = [{"id": n, "day": f"2024-01-{1 + n % 2:02}", "what": f"order {n}"} for n in range(40)]
    made.table("orders", FIELDS, rows, **BY_DAY)
    yield made  # the test loses it


def documented_vaults() -> dict[str, dict[str, Any]]:
    """The vaults of the policy in the how-to."""
    (policy,) = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(policy)["vaults"]
    return found


def documented_user(program: Path, store: ObjectStore, bucket: str) -> ObjectStore:
    """The store as a user sees it who may do there what the how-to says, and nothing else."""
    (role,) = re.findall(r"```json\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    user = object_stores.user(program, store)
    statements = [
        {**each, "Principal": {"AWS": [user.access_key]}}
        for each in json.loads(role.replace("acme-backups-us-west-2", bucket))["Statement"]
        if ":s3:" in each["Resource"]
    ]
    assert len(statements) == 2
    policy = {"Version": "2012-10-17", "Statement": statements}
    store.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    return user


@pytest.fixture
def deployment(
    versitygw: ObjectStore,
    versitygw_program: Path,
    fake_gcs_server: GoogleStore,
    moto: ObjectStore,
    key_services: tuple[GoogleKeys, dict[str, str]],
    ledger: Server,
    warehouse: Dataset,
    tmp_path: Path,
) -> Deployment:
    """As the how-tos make it; each secret is still in a file."""
    google, variables = key_services
    home = CloudHome(tmp_path / "home", tmp_path / "data", variables)
    (home.data / "deep").mkdir(parents=True)
    (home.data / "report.txt").write_text("figures\n" * 1000)
    (home.data / "deep" / "blob.bin").write_bytes(bytes(range(256)) * 4000)
    buckets = {name: Bucket(fake_gcs_server, fake_gcs_server.bucket()) for name in ("primary", "secondary")}
    buckets["tertiary"] = Bucket(versitygw, versitygw.bucket())
    user = documented_user(versitygw_program, versitygw, buckets["tertiary"].name)
    logins = {"google.json": fake_gcs_server.logins.key_file, "s3.id": user.access_key, "s3.secret": user.secret_key}
    put_logins(home, logins)
    vaults = documented_vaults()
    assert {name: (each["provider"], each["region"]) for name, each in vaults.items()} == {
        "primary": ("gcs", "us-central1"),
        "secondary": ("gcs", "us-east1"),
        "tertiary": ("aws", "us-west-2"),
    }
    for name, vault in vaults.items():
        vault["url"] = f"{vault['url'][:2]}://{buckets[name].name}/{PREFIX}"
        vault["endpoint"], vault["tls"] = buckets[name].store.endpoint, "none"
        if name != "primary":
            (vault["key"],) = [each for each in vault["key"] if each == f"file:keys/{name}.key"]
    # The only region that this server signs for, and one user's keys, which are not those of the key service here.
    vaults["tertiary"] |= {"region": REGION, "access_key": "file:keys/s3.id", "secret_key": "file:keys/s3.secret"}
    papers = {"kind": "files", "class": "documentation", "paths": [str(home.data)]}
    starting.initialise(home.root, business="acme", sources={"papers": papers}, vaults=vaults)
    media, staging = fake_gcs_server.bucket(), fake_gcs_server.bucket()
    content = {f"customers/{number}.txt": b"of customer %d\n" % number * 200 for number in range(12)}
    for name, each in content.items():
        fake_gcs_server.put(media, name, each)
    sections = SECTIONS.format(
        project=PROJECT,
        dataset=warehouse.name,
        staging=staging,
        bigquery=warehouse.front.endpoint,
        google=fake_gcs_server.endpoint,
        media=media,
        postgresql=ledger.place,
    )
    home.policy.write_text(home.policy.read_text().replace("\nsources:\n", f"\nsources:{sections}", 1))
    at_amazon = boto3.client(
        "kms",
        region_name="us-west-2",
        endpoint_url=moto.endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    services = Services(google, at_amazon)
    keys = {name: services.make(name) for name in buckets}
    return Deployment(home, buckets, ledger, warehouse, content, Bucket(fake_gcs_server, media), keys, logins, services)


@pytest.mark.timeout(900)
def test_from_discovery_to_proven_copies_each_of_which_alone_brings_everything_back(
    deployment: Deployment, tmp_path: Path
) -> None:
    home, buckets = deployment.home, deployment.buckets
    with_the_keys_in_both_clouds(deployment)
    found = controls(home, "coverage")
    assert any("forgotten" in subject for subject in found), found
    home.policy.write_text(home.policy.read_text().replace("databases: [ledger]", "databases: [ledger, forgotten]"))
    assert not any("forgotten" in subject for subject in controls(home, "coverage"))

    (saved,) = [each for each in home("backup", "--json").document["sources"] if each["source"] == "ledger"]
    assert {each["vault"] for each in saved["copies"]} == {"secondary"}, "the third gets its copies once a day"
    home("vault", "fill", "tertiary")
    home("verify")
    tests = home("test", "--json").document["tests"]
    assert {test["source"]: test["rung"] for test in tests} == dict.fromkeys(SOURCES, "proven")
    status = home("status", "--json").document["sources"]
    assert {each["source"]: each["status"] for each in status} == dict.fromkeys(SOURCES, "HEALTHY")
    assert not controls(
        home,
        "key-services",
        "own-keys",
        "own-keys-alone",
        "copies",
        "off-site",
        "failure-domains",
        "complete",
        "vaults-there",
    )

    clouds = {"primary": "KMS_EMULATOR_HOST", "secondary": "AWS_ENDPOINT_URL_KMS", "tertiary": "KMS_EMULATOR_HOST"}
    policy = home.policy.read_text()
    held = Held(deployment.ledger.do(ROWS, database="ledger"), deployment.warehouse.rows("orders"), files(home.data))
    assert len(held.ledger) == 2000 and len(held.orders) == 40
    shutil.rmtree(home.root)
    shutil.rmtree(home.data)
    deployment.origin.empty()
    deployment.ledger.do("DROP DATABASE ledger", "DROP DATABASE forgotten")
    deployment.warehouse.drop()
    stored = {vault: {name: bucket.read(name) for name in bucket.names()} for vault, bucket in buckets.items()}
    for bucket in buckets.values():
        bucket.empty()
    for vault, lost in clouds.items():
        for name, content in stored[vault].items():
            buckets[vault].store.put(buckets[vault].name, name, content)
        after = CloudHome(tmp_path / f"after-{vault}" / "home", home.data, home.services, lost)
        put_logins(after, deployment.logins)
        after.policy.write_text(policy)
        others = [keys for name, keys in deployment.keys.items() if name != vault]
        for keys in others:
            deployment.services.close(keys)
        comes_back(deployment, after, vault, held)
        for keys in others:
            deployment.services.close(keys, again=True)
        buckets[vault].empty()


def with_the_keys_in_both_clouds(deployment: Deployment) -> None:
    """Wrap each secret with both key services, and forget the files."""
    home = deployment.home
    beside = alone = home.policy.read_text()
    for name, services in deployment.keys.items():
        setting, key = ("key", name) if name != "primary" else ("repository", "repository")
        (line,) = [line for line in alone.splitlines() if line.strip().startswith(f"{setting}: file:keys/{key}.key")]
        start = f"{line.partition(':')[0]}: "
        alone = alone.replace(line, f"{start}[{', '.join(services)}]")
        beside = beside.replace(line, f"{start}[file:keys/{key}.key, {', '.join(services)}]")
        assert (home.root / "keys" / f"{key}.key").stat().st_mode & 0o777 == 0o600
    home.policy.write_text(beside)
    home("key", "wrap")
    home.policy.write_text(alone)
    for name in ("repository", "secondary", "tertiary"):
        (home.root / "keys" / f"{name}.key").unlink()


def put_logins(home: CloudHome, logins: dict[str, str]) -> None:
    """What people put onto a new machine to reach the clouds; no key of ours."""
    keys = home.root / "keys"
    keys.mkdir(mode=0o700, parents=True)
    for name, content in logins.items():
        (keys / name).write_text(content)
        (keys / name).chmod(0o600)


@dataclass(frozen=True)
class Held:
    """What there was, before all of it was lost."""

    ledger: list[Any]
    orders: list[Any]
    papers: dict[str, bytes]


def comes_back(deployment: Deployment, after: CloudHome, vault: str, held: Held) -> None:
    """A machine with a policy, a key service and one vault restores each source as it was; of which nothing is left."""
    after("catalog", "rebuild", "--from", vault)
    back = after.root.parent / "back"
    after("restore", "papers", "--to", str(back / "papers"))
    (data,) = [path for path in (back / "papers").rglob("data") if (path / "report.txt").is_file()]
    assert files(data) == held.papers
    after("restore", "media", "--to", str(back / "media"))
    assert files(back / "media" / "objects") == deployment.media
    name = f"back_{vault}"
    after("restore", "ledger", "--database", "ledger", "--as", name, "--yes")
    assert deployment.ledger.do(ROWS, database=name) == held.ledger
    loaded = after("restore", "warehouse", "--database", deployment.warehouse.name, "--as", name, "--yes", "--json")
    assert (loaded.document["vault"], loaded.document["way"]) == (vault, "export"), "BigQuery has none of it any more"
    restored = Dataset(deployment.warehouse.front, name)
    assert restored.rows("orders") == held.orders
    restored.drop()


def controls(home: CloudHome, *names: str) -> list[str]:
    """The subjects of an audit's findings of these controls."""
    document = home.ask("audit", "--json").document
    return [str(each["subject"]) for each in document["findings"] if each["control"] in names]


def files(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
