"""Faults of restore tests and of vaults."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from cto_backups.errors import ExitStatus, RestoreError
from cto_backups.sandboxes.folder import FolderSandbox
from cto_backups.vaults import durable
from false_greens.installation import first_day
from false_greens.site import DATA_DISK, FIRST_DISK, Site, files
from false_greens.table import damaged, ends, fault, finding, rewrite, without_tests, word


@fault(
    "Skipped test",
    "for more than a month, sources are backed up and verified, and not tested",
    word("ledger", "OVERDUE"),
    finding("restore-test", "ledger"),
)
def skipped_test(site: Site) -> None:
    without_tests(site)


@fault(
    "Old point re-verified",
    "the same, but an old point is tested again and again, and passes",
    finding("restore-test", "ledger"),
)
def old_point_tested(site: Site) -> None:
    old = site.points("ledger")[-1]
    without_tests(site)
    site.well("test", "ledger", "--point", old)
    site.well("test", "documents")


@fault(
    "Test that could not run",
    "there is no room for restore tests: a file stands where their folder was",
    ends(ExitStatus.VERIFICATION, "test", "ledger"),
    word("ledger", "FAILED_TEST"),
    finding("restore-test", "ledger"),
)
def test_could_not_run(site: Site) -> None:
    place = site.home / "state" / "sandboxes"
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("")


@fault(
    "Test of another snapshot",
    "the catalog names an older snapshot as the copies of the newest point",
    ends(ExitStatus.VERIFICATION, "test", "documents", saying="not what was captured"),
    word("documents", "FAILED_TEST"),
)
def another_snapshot(site: Site) -> None:
    newest, older = site.points("documents")[:2]
    site.in_catalog(
        """
        UPDATE copies SET reference = (
            SELECT reference FROM copies other WHERE other.point = :older AND other.vault = copies.vault)
        WHERE point = :newest
        """,
        newest=newest,
        older=older,
    )


@fault(
    "Test that did not clean up",
    "what a restore test restored cannot be removed",
    ends(ExitStatus.VERIFICATION, "test", "ledger", saying="cannot remove"),
    word("ledger", "FAILED_TEST"),
    finding("restore-test", "ledger"),
)
def no_cleanup(site: Site) -> None:
    def refuse(_sandbox: FolderSandbox, place: Path) -> None:
        raise RestoreError(f"cannot remove all of {place}", why="the device is busy")

    site.trouble.append(lambda: mock.patch.object(FolderSandbox, "close", refuse))


@fault(
    "Proven point dropped",
    "each point that a test proved is dropped from the catalog",
    finding("proven-kept", "ledger"),
)
def proven_dropped(site: Site) -> None:
    site.in_catalog("UPDATE points SET expired_at = captured_at, expired_because = '[]' WHERE proven_at IS NOT NULL")


@fault("Pack deleted", "a stored file of data is removed from a vault", *damaged())
def pack_deleted(site: Site) -> None:
    site.stored("one", "data")[0].unlink()


@fault("Bit flipped", "one bit of a stored file of data is turned round", *damaged())
def bit_flipped(site: Site) -> None:
    rewrite(site.stored("one", "data")[0], lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:])


@fault("Pack truncated", "a stored file of data loses its second half", *damaged())
def pack_truncated(site: Site) -> None:
    rewrite(site.stored("one", "data")[0], lambda content: content[: len(content) // 2])


@fault("Index deleted", "the repository's index is removed from a vault", *damaged())
def index_deleted(site: Site) -> None:
    for index in site.stored("one", "index"):
        index.unlink()


@fault("Snapshot deleted", "the newest snapshot of a source is removed from a vault", *damaged())
def snapshot_deleted(site: Site) -> None:
    newest = site.points("documents")[0]
    ((reference,),) = site.in_catalog(
        "SELECT reference FROM copies WHERE point = :newest AND vault = 'one'", newest=newest
    )
    (site.vault("one") / "repositories" / "main" / "snapshots" / reference).unlink()


@fault(
    "Unmounted vault",
    "the vault's folder is there, and empty",
    word("documents", "OVERDUE"),
    finding("vaults-there", "one"),
    ends(ExitStatus.VAULT, "verify", "one"),
)
def unmounted_vault(site: Site) -> None:
    shutil.rmtree(site.vault("one"))
    site.vault("one").mkdir()


@fault(
    "Removed vault",
    "the folder of one of two vaults was removed a moment ago",
    word("documents", "OVERDUE"),
    finding("vaults-there", "one"),
)
def removed_vault(site: Site) -> None:
    shutil.rmtree(site.vault("one"))


@fault(
    "Removed repository",
    "the vault and its marker are there, and what was stored in it is gone",
    word("documents", "OVERDUE"),
    finding("vaults-there", "one"),
)
def removed_repository(site: Site) -> None:
    shutil.rmtree(site.vault("one") / "repositories")


@fault(
    "No vault at all",
    "the folders of both vaults were removed a moment ago",
    word("documents", "UNPROTECTED"),
    finding("vaults-there", "one"),
    finding("vaults-there", "two"),
)
def no_vault(site: Site) -> None:
    for name in ("one", "two"):
        shutil.rmtree(site.vault(name))


@fault("Older copy of a vault", "the vault is as it was three days ago", *damaged())
def older_vault(site: Site) -> None:
    shutil.rmtree(site.vault("one"))
    shutil.copytree(first_day(site) / "home" / "vaults" / "one", site.vault("one"))


@fault(
    "Another vault in its place",
    "another vault of the same installation, which the same secret opens, is mounted where this one belongs",
    ends(ExitStatus.DAMAGE, "verify", "one", saying="another repository"),
    finding("vault-runs", "one"),
)
def another_vault(site: Site) -> None:
    site.well("key", "add", "--new", f"file:{site.home / 'keys' / 'repository.key'}", "--vault", "two")
    another_key(site)


@fault(
    "Vault with another key in its place",
    "a vault that has a key of its own is mounted where this one belongs",
    ends(ExitStatus.KEY, "verify", "one"),
    finding("vault-runs", "one"),
)
def another_key(site: Site) -> None:
    shutil.rmtree(site.vault("one"))
    shutil.copytree(site.vault("two"), site.vault("one"))


@fault(
    "Vault without room",
    "every write to a vault fails: no space left on device; what is protected changes",
    ends(ExitStatus.VAULT, "backup", "documents"),
    finding("copies", "documents"),
)
def full_vault(site: Site) -> None:
    store, root = durable.store, str(site.vault("two"))

    def refuse(path: str, parts: Any, *, overwrite: bool) -> None:
        if path.startswith(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        store(path, parts, overwrite=overwrite)

    site.trouble.append(lambda: mock.patch.object(durable, "store", refuse))
    files(site.data / "files", 3, "new figures")


@fault(
    "Copies that stay away",
    "the same, for an hour, while the worker goes on",
    word("documents", "OVERDUE"),
    finding("copies", "documents"),
)
def copies_away(site: Site) -> None:
    full_vault(site)
    site("backup", "documents")
    site.work(hours=1)


@fault(
    "Copies behind their schedule",
    "the second vault gets copies every hour, and has no room for a day, while the worker goes on",
    finding("copies-on-time", "documents"),
    word("documents", "OVERDUE"),
)
def copies_late(site: Site) -> None:
    site.edit(("    access: append-only\n", "    access: append-only\n    copies: every 1 h\n"))
    full_vault(site)
    site.work(days=1, every=0.25)


@fault(
    "Verification that reads nothing",
    "for eight days, vaults are checked without reading what they store",
    word("documents", "OVERDUE"),
    finding("reading", "one"),
)
def reads_nothing(site: Site) -> None:
    for _ in range(8):
        site.later(days=1)
        site.well("backup")
        site.well("verify", "--structure-only")


@fault("Two vaults on one disk", "the second vault lies on the disk of the first", finding("failure-domains", "ledger"))
def one_disk(site: Site) -> None:
    site.disks[str(site.vault("two"))] = FIRST_DISK


@fault(
    "Off-site vault beside the data",
    "the vault that is declared off-site lies on the disk of the data",
    finding("off-site", "ledger"),
    finding("failure-domains", "ledger"),
)
def off_site_at_home(site: Site) -> None:
    site.disks[str(site.vault("two"))] = DATA_DISK


@fault(
    "Vault that lets itself be overwritten",
    "the file system of a vault replaces what is there, and says nothing",
    ends(ExitStatus.VERIFICATION, "vault", "check", "one", saying="overwrite: not enforced"),
    finding("vault-checked", "one"),
)
def overwriting_vault(site: Site) -> None:
    store, root = durable.store, str(site.vault("one") / "check")

    def replace(path: str, parts: Any, *, overwrite: bool) -> None:
        store(path, parts, overwrite=overwrite or path.startswith(root))

    site.trouble.append(lambda: mock.patch.object(durable, "store", replace))


@fault(
    "Vault that nobody tries out any more",
    "a vault is to be tried out every week, and the worker has not run for a month",
    finding("vault-checked", "one"),
)
def unchecked_vault(site: Site) -> None:
    site.edit(("region: cellar, storage: disk}", "region: cellar, storage: disk, checks: every 7 d}"))
    site.work(hours=1)
    ((checked,),) = site.in_catalog("SELECT count(*) FROM evidence WHERE kind = 'vault_check' AND vault = 'one'")
    assert checked == 1
    site.later(days=30)
