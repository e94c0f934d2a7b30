"""The healthy corpus: installations of different shapes that live for days, and in which nothing is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from false_greens import installation
from false_greens.site import Site, commit, files, git, rows


@dataclass(frozen=True)
class Shape:
    """An installation: its data, its policy, and what happens on each of its days before the worker's pass."""

    name: str
    told: str
    days: int
    fill: Callable[[Site], None]
    policy: str
    live: Callable[[Site, int], None]
    every: float = 1

    @property
    def slug(self) -> str:
        """Its name as a test's."""
        return self.name.lower().replace(" ", "-")

    @property
    def looks(self) -> int:
        """How often `status` and `audit` look at it: at first, and after each pass of the worker."""
        return 1 + ceil(self.days / self.every)


def _documents(site: Site) -> None:
    files(site.data / "files", 30)


def _edited(site: Site, day: int) -> None:
    (site.data / "files" / "part-0" / "report-1.txt").write_text(f"edited on day {day}\n" * 100)
    (site.data / "files" / f"new-{day}.txt").write_text(f"day {day}\n" * 100)


def _rotated(site: Site, day: int) -> None:
    """Logs: a new one each day, the ones before renamed, the oldest deleted."""
    logs = site.data / "logs"
    (logs / "app.log.3").unlink(missing_ok=True)
    for number in (2, 1):
        if (logs / f"app.log.{number}").exists():
            (logs / f"app.log.{number}").rename(logs / f"app.log.{number + 1}")
    (logs / "app.log").rename(logs / "app.log.1")
    (logs / "app.log").write_text(f"day {day}: all is well\n" * 300)


def _logs(site: Site) -> None:
    (site.data / "logs").mkdir()
    (site.data / "logs" / "app.log").write_text("day 0: all is well\n" * 300)


def _databases(site: Site) -> None:
    for name in ("ledger", "people", "stock"):
        rows(site.data / f"{name}.db", 200, name)
    (site.data / "dump.txt").write_text("INSERT INTO t VALUES (0);\n" * 300)


def _booked(site: Site, day: int) -> None:
    for name in ("ledger", "people"):
        rows(site.data / f"{name}.db", 10 * day, f"day {day}")
    (site.data / "dump.txt").write_text(f"INSERT INTO t VALUES ({day});\n" * 300)


def _repositories(site: Site) -> None:
    for name in ("app", "site", "tools"):
        commit(site.data / name, f"print('{name}')\n")


def _committed(site: Site, day: int) -> None:
    """Commits; a branch that comes and goes; history that is written anew."""
    commit(site.data / "app", f"print({day})\n")
    if day == 1:
        git(site.data / "site", "branch", "feature")
    if day == 2:
        git(site.data / "site", "branch", "-D", "feature")
        git(site.data / "tools", "commit", "-q", "--amend", "-m", "The same, better told")


def _everything(site: Site) -> None:
    _documents(site)
    _databases(site)
    _repositories(site)


def _moved_on(site: Site, day: int) -> None:
    """A source joins, and another is retired: its data is deleted, and the exclusion says so."""
    _edited(site, day)
    _booked(site, day)
    if day == 2:
        files(site.data / "contracts", 5, "contract")
        site.edit(("sources:\n", f"sources:\n{JOINED.replace('{data}', str(site.data))}"))
    if day == 3:
        (site.data / "stock.db").unlink()
        before, _, rest = site.policy.read_text().partition("  stock:")
        site.policy.write_text(before + rest.partition("\n")[2] + RETIRED.replace("{data}", str(site.data)))


JOINED = '  contracts: {kind: files, class: configuration, owner: ada, triggers: daily, paths: ["{data}/contracts"]}\n'
RETIRED = """\
exclude:
  - {resource: "sqlite:{data}/stock.db", reason: the shop is closed, owner: ada, until: 2032-03-01}
"""

_DATABASES = """\
  ledger:
    {kind: sqlite, class: user-data, category: critical, triggers: hourly, retention: 1 year, owner: ada, \
path: "{data}/ledger.db"}
  people:
    {kind: sqlite, class: contact-database, triggers: hourly, owner: ada, path: "{data}/people.db"}
"""
_STOCK = '  stock: {kind: sqlite, class: configuration, triggers: daily, owner: ada, path: "{data}/stock.db"}\n'
_DUMP = """\
  dump:
    {kind: command, class: configuration, triggers: daily, owner: ada, filename: d, command: [cat, "{data}/dump.txt"]}
"""
_FILES = '  documents: {kind: files, class: configuration, owner: ada, triggers: daily, paths: ["{data}/files"]}\n'
_REPOSITORIES = "".join(
    f'  {name}: {{kind: git, class: code-repositories, triggers: daily, owner: ada, url: "{{data}}/{name}"}}\n'
    for name in ("app", "site", "tools")
)
_CRITICAL = "categories:\n  critical: {based_on: A, copies: 2}\n"


CORPUS = (
    Shape(
        "Documents",
        "one source of files, edited and added to each day",
        7,
        _documents,
        f"sources:\n{_FILES}",
        _edited,
    ),
    Shape(
        "Rotating logs",
        "files that are renamed and deleted each day; two versions kept, so that points expire and vaults are pruned",
        16,
        _logs,
        """\
prune: weekly
sources:
  logs:
    kind: files
    category: B
    triggers: daily
    retention: 2 versions
    test: weekly
    owner: ada
    paths: ["{data}/logs"]
""",
        _rotated,
    ),
    Shape(
        "Databases",
        "three SQLite databases and a dump; one of them business critical, one that never changes",
        5,
        _databases,
        f"{_CRITICAL}sources:\n{_DATABASES}{_STOCK}{_DUMP}",
        _booked,
    ),
    Shape(
        "Repositories",
        "three git repositories: commits, a branch that goes, history written anew",
        6,
        _repositories,
        f"sources:\n{_REPOSITORIES}",
        _committed,
        every=2,
    ),
    Shape(
        "Archive",
        "files that never change, for longer than the time between tests and readings",
        45,
        _documents,
        "sources:\n  archive: {kind: files, category: C, triggers: weekly, retention: permanent, test: monthly,"
        ' owner: ada, paths: ["{data}/files"]}\n',
        lambda _site, _day: None,
        every=5,
    ),
    Shape(
        "Everything",
        "files, databases, a dump and repositories; a source joins, and one is retired under an exclusion",
        4,
        _everything,
        f"{_CRITICAL}sources:\n{_FILES}{_REPOSITORIES}{_DATABASES}{_STOCK}{_DUMP}",
        _moved_on,
    ),
    Shape(
        "The one of the faults",
        "where each fault is injected",
        3,
        installation.fill,
        installation.POLICY,
        installation.live,
    ),
)
