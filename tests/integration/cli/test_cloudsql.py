"""An instance of Cloud SQL, from the policy to a proof and back, over a service of tests that really recovers."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from servers import cloudsql, cloudsql_mysql
from servers.cloudsql import CloudSql
from servers.cloudsql_mysql import CloudSqlMysql


@pytest.fixture
def cloud(postgresql_programs: Path) -> Iterator[CloudSql]:
    with cloudsql.cloud_sql(postgresql_programs) as made:
        yield made


@pytest.fixture
def of_mysql(mariadbd: Path, mariadb_backup: Path) -> Iterator[CloudSqlMysql]:
    with cloudsql_mysql.cloud_sql(mariadbd) as made:
        yield made


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may enter: throwaway servers run as somebody else."""
    with tempfile.TemporaryDirectory(prefix="cto-backups-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def declared(home: Home, cloud: CloudSql, scratch: Path) -> None:
    """Name the instance in the policy, under its keys."""
    for name, secret in (("google.json", cloud.logins.key_file), ("keeper.password", cloudsql.PASSWORD)):
        (home.root / "keys" / name).write_text(secret)
        (home.root / "keys" / name).chmod(0o600)
    lines = [
        "  ledger:",
        "    kind: cloudsql",
        "    class: contact-database",
        f"    project: {cloudsql.PROJECT}",
        f"    instance: {cloudsql.INSTANCE}",
        "    user: keeper",
        "    password: file:keys/keeper.password",
        "    credentials: file:keys/google.json",
        f"    port: {cloud.port}",
        f"    endpoint: {cloud.endpoint}",
        "    tls: none",
        f"    scratch: {scratch}",
        "    expects: {region: us-east1}",
    ]
    home.policy.write_text(home.policy.read_text().replace("\nsources:", "\nsources:\n" + "\n".join(lines), 1))


def test_from_the_policy_to_a_proof_and_to_a_moment_back(home: Home, cloud: CloudSql, open_place: Path) -> None:
    declared(home, cloud, open_place)
    backed_up = home.process("backup", "ledger")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    proven = home.process("test", "ledger", "--json")
    assert proven.status is ExitStatus.SUCCESS, proven.document["tests"][0]["reason"]
    assert proven.document["tests"][0]["rung"] == "proven"
    assert cloud.others == []
    (point,) = home.process("points", "ledger", "--json").document["points"]
    (there,) = home.process("cloudsql", "backups", "ledger", "--json").document["backups"]
    assert point["service_backups"] == {"count": 1, "newest": there["number"]}
    said = home.process("points", "ledger").out
    assert "cto.backups cloudsql backups ledger" in " ".join(said.split()), said
    findings = home.process("audit", "--json").document["findings"]
    about = {each["control"] for each in findings if each["subject"] == "ledger"}
    assert "cloudsql-region" in about
    assert not about & {"cloudsql-backups", "cloudsql-point-in-time", "cloudsql-deletion", "cloudsql-network"}

    moment = datetime.now(UTC)
    time.sleep(0.01)
    cloud.main.server.do("DROP TABLE twins", database="my shop")
    assert home.process("backup", "ledger").status is ExitStatus.SUCCESS
    place = open_place / "then"
    back = home.process("restore", "ledger", "--at", f"{moment:%Y-%m-%dT%H:%M:%S.%f}+00:00", "--to", str(place))
    assert back.status is ExitStatus.SUCCESS, back
    (name,) = cloud.others
    assert f"tests/{name}" in back.out
    assert cloud.instances[name].server.do("SELECT count(*) FROM twins", database="my shop") == [(3,)]


def test_a_backup_of_the_service_comes_back_in_place_once_that_is_approved_and_what_was_there_is_kept(
    home: Home, cloud: CloudSql, open_place: Path
) -> None:
    declared(home, cloud, open_place)
    (kept,) = home.process("cloudsql", "backups", "ledger", "--json").document["backups"]
    assert (kept["kind"], kept["status"]) == ("AUTOMATED", "SUCCESSFUL")
    cloud.main.server.do("DROP TABLE twins", database="my shop")
    there = "SELECT to_regclass('twins') IS NOT NULL"

    unasked = home.process("cloudsql", "restore", "ledger", "latest", "--in-place")
    assert unasked.status is ExitStatus.REFUSED and "needs a yes" in unasked.err
    home.policy.write_text(home.policy.read_text() + "\ngovernance:\n  approvals: {restore: anyone}\n")
    waiting = home.process("cloudsql", "restore", "ledger", "latest", "--in-place", "--yes")
    assert waiting.status is ExitStatus.REFUSED, waiting
    assert not any(path.endswith("restoreBackup") for _, path in cloud.asked)
    (asked,) = home.process("approvals", "--json").document["approvals"]
    assert home.process("approve", asked["id"], "--reason", "it is gone").status is ExitStatus.SUCCESS

    back = home.process("cloudsql", "restore", "ledger", kept["number"], "--in-place", "--yes", "--json")
    assert back.status is ExitStatus.SUCCESS, back
    assert cloud.main.server.do(there, database="my shop") == [(True,)]
    before = back.document["before"]["number"]
    elsewhere = home.process("cloudsql", "restore", "ledger", before, "--into", "ledger-before")
    assert elsewhere.status is ExitStatus.SUCCESS, elsewhere
    assert cloud.instances["ledger-before"].server.do(there, database="my shop") == [(False,)]
    assert home.process("cloudsql", "restore", "ledger", "1", "--in-place", "--yes").status is ExitStatus.NOT_FOUND
    assert home.process("cloudsql", "backups", "data-files").status is ExitStatus.USAGE
    (told,) = home.process("cloudsql", "--json").document["instances"]
    assert (told["source"], told["backups"], told["newest"]["number"]) == ("ledger", 2, before)


def test_of_mysql_from_the_policy_to_a_proof_and_to_a_moment_back(
    home: Home, of_mysql: CloudSqlMysql, open_place: Path
) -> None:
    declared(home, of_mysql, open_place)
    server = of_mysql.main.server
    for more in ("", "    export: false\n"):
        home.policy.write_text(home.policy.read_text().replace("    tls: none\n", f"    tls: none\n{more}", 1))
        server.do("INSERT INTO twins VALUES ('once more')", database="my shop")
        backed_up = home.process("backup", "ledger")
        assert backed_up.status is ExitStatus.SUCCESS, backed_up
        proven = home.process("test", "ledger", "--json")
        assert proven.status is ExitStatus.SUCCESS, proven.document["tests"][0]["reason"]
        assert proven.document["tests"][0]["rung"] == "proven"
        assert of_mysql.others == []
    assert len([path for _, path in of_mysql.asked if path.endswith("/clone")]) == 2
    findings = home.process("audit", "--json").document["findings"]
    assert "cloudsql-point-in-time" not in {each["control"] for each in findings if each["subject"] == "ledger"}
    of_mysql.main.told["settings"]["backupConfiguration"]["binaryLogEnabled"] = False
    findings = home.process("audit", "--json").document["findings"]
    assert "cloudsql-point-in-time" in {each["control"] for each in findings if each["subject"] == "ledger"}
    of_mysql.main.told["settings"]["backupConfiguration"]["binaryLogEnabled"] = True

    point, with_data = (each["id"] for each in home.process("points", "ledger", "--json").document["points"])
    refused = home.process("restore", point, "--database", "my shop")
    assert refused.status is ExitStatus.REFUSED and "come out of exports" in refused.err, "it is a record"
    file = home.process("restore", with_data, "--database", "my shop", "--to", str(open_place / "dumps"))
    assert file.status is ExitStatus.SUCCESS, file
    assert (open_place / "dumps" / "my%20shop.sql").read_bytes().endswith(b"-- Dump completed\n")
    lacking = home.process("restore", with_data, "--database", "my shop", "--as", "again")
    assert lacking.status is ExitStatus.RESTORE and "GRANT ALL PRIVILEGES ON `again`.* TO" in lacking.err, lacking
    server.do("GRANT ALL PRIVILEGES ON again.* TO keeper@'%'", "SET GLOBAL log_bin_trust_function_creators = ON")
    beside = home.process("restore", with_data, "--database", "my shop", "--as", "again", "--verify", "--json")
    assert beside.status is ExitStatus.SUCCESS, beside
    assert (beside.document["name"], beside.document["kept_as"]) == ("again", None)
    assert server.do("SELECT count(*) FROM twins", database="again") == [(6,)]
    server.do("DROP DATABASE again")

    time.sleep(1.1)  # its log tells whole seconds apart
    moment = datetime.now(UTC)
    time.sleep(1.1)
    server.do("DROP TABLE twins", database="my shop")
    assert home.process("backup", "ledger").status is ExitStatus.SUCCESS
    place = open_place / "then"
    back = home.process("restore", "ledger", "--at", f"{moment:%Y-%m-%dT%H:%M:%S.%f}+00:00", "--to", str(place))
    assert back.status is ExitStatus.SUCCESS, back
    (name,) = of_mysql.others
    assert f"tests/{name}" in back.out
    assert of_mysql.instances[name].server.do("SELECT count(*) FROM twins", database="my shop") == [(7,)]

    in_place = home.process("cloudsql", "restore", "ledger", "latest", "--in-place", "--yes", "--json")
    assert in_place.status is ExitStatus.SUCCESS, in_place
    assert of_mysql.main.server.do("SELECT count(*) FROM twins", database="my shop") == [(5,)]
