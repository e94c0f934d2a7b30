"""The installation that each fault is put into: healthy for days, on its way to be no more."""

from pathlib import Path

from false_greens.site import Site, commit, files, make, rows

POLICY = """\
prune: weekly
categories:
  critical: {based_on: A, copies: 2}
sources:
  documents:
    {kind: files, class: configuration, triggers: every 6 h, owner: ada, paths: ["{data}/files", "{data}/more"]}
  archive:
    {kind: files, class: configuration, triggers: every 6 h, owner: ada, paths: ["{data}/archive"]}
  app:
    {kind: git, class: code-repositories, triggers: daily, owner: ada, url: "{data}/app"}
  ledger:
    kind: sqlite
    class: user-data
    category: critical
    triggers: hourly
    retention: 1 year
    test: monthly
    owner: ada
    path: "{data}/ledger.db"
  dump:
    {kind: command, class: configuration, triggers: every 6 h, owner: ada, filename: d, command: [sh, "{data}/dump.sh"]}
exclude:
  - {resource: "sqlite:{data}/scratch.db", reason: made anew each night, owner: ada, until: 2031-12-31}
"""


def fill(site: Site) -> None:
    """Data for five sources of four kinds, and a database that an exclusion names."""
    files(site.data / "files", 40)
    files(site.data / "more", 5, "addenda")
    files(site.data / "disk" / "old", 5, "history")
    (site.data / "archive").symlink_to(site.data / "disk" / "old")
    commit(site.data / "app", "print(1)\n")
    rows(site.data / "ledger.db", 500)
    rows(site.data / "scratch.db", 5)
    (site.data / "dump.txt").write_text("INSERT INTO t VALUES (1);\n" * 500)
    (site.data / "dump.sh").write_text(f"exec cat '{site.data}/dump.txt'\n")


def live(site: Site, day: int) -> None:
    """What changes in a day."""
    (site.data / "files" / f"day-{day}.txt").write_text(f"day {day}\n" * 500)
    (site.data / "dump.txt").write_text(f"INSERT INTO t VALUES ({day});\n" * 500)
    rows(site.data / "ledger.db", 20, f"day {day}")
    commit(site.data / "app", f"print({day}, 'day')\n")


def healthy(root: Path) -> Site:
    """Five sources of four kinds and three categories, two vaults, four days of work: nothing is wrong.

    What it was on its first day is kept beside it, in ``first-day``.
    """
    site = make(root, fill, POLICY)
    site.copy_to(root.with_name("first-day"))
    for day in range(1, 4):
        live(site, day)
        site.work(days=1)
    return site


def first_day(site: Site) -> Path:
    """What all of it was on its first day."""
    return site.root.with_name("first-day")
