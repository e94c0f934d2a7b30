"""Faults of keys, records, the catalog and the clock; and those that nothing catches."""

import shutil
from pathlib import Path

from cto_backups.config.secrets import create_file_secret
from cto_backups.errors import ExitStatus
from cto_backups.evidence.records import SigningKey
from false_greens.installation import first_day
from false_greens.of_vaults import bit_flipped
from false_greens.site import Site, files, make
from false_greens.table import behind, damaged, ends, fault, finding, rewrite, word


@fault(
    "Key lost",
    "the file of the repository key is gone",
    word("ledger", "OVERDUE"),
    finding("keys-there", "repository key"),
    ends(ExitStatus.KEY, "verify", "one"),
)
def key_lost(site: Site) -> None:
    (site.home / "keys" / "repository.key").unlink()


@fault(
    "Key replaced",
    "the file of the repository key holds another key",
    ends(ExitStatus.KEY, "verify", "one"),
    finding("vault-runs", "one"),
)
def key_replaced(site: Site) -> None:
    key = site.home / "keys" / "repository.key"
    key.unlink()
    create_file_secret(key, "ab" * 32)


@fault(
    "Key beside the data",
    "the repository key is moved into a vault",
    finding("key-apart", "one"),
)
def key_beside(site: Site) -> None:
    (site.home / "keys" / "repository.key").rename(site.vault("one") / "repository.key")
    site.edit(("file:keys/repository.key", "file:vaults/one/repository.key"))


@fault("Record removed", "a signed record is removed from a vault", *damaged())
def record_removed(site: Site) -> None:
    site.records("one")[5].unlink()


@fault(
    "Record altered",
    "what a signed record of a test says is turned round",
    ends(ExitStatus.DAMAGE, "evidence", "verify", "--vault", "one"),
    *damaged(),
)
def record_altered(site: Site) -> None:
    record = next(path for path in site.records("one") if path.name.endswith("-evidence.sealed"))
    site.seal(record, site.said(record).replace(b'"passed":true', b'"passed":false', 1))


@fault(
    "Records reordered",
    "two signed records take each other's place in a vault",
    ends(ExitStatus.DAMAGE, "evidence", "verify", "--vault", "one"),
    *damaged(),
)
def records_reordered(site: Site) -> None:
    first, second = site.records("one")[3:5]
    one, other = first.read_bytes(), second.read_bytes()
    rewrite(first, lambda _: other)
    rewrite(second, lambda _: one)


@fault(
    "End of the records cut off",
    "the newest signed records are removed from a vault",
    ends(ExitStatus.DAMAGE, "evidence", "verify", "--vault", "one"),
    *damaged(),
)
def records_cut(site: Site) -> None:
    for record in site.records("one")[-3:]:
        record.unlink()


@fault(
    "Evidence signed by an unknown key",
    "the evidence key is replaced by one that the policy does not name",
    ends(ExitStatus.POLICY, "test", "ledger", saying="none whose records count"),
)
def unknown_signer(site: Site) -> None:
    key = site.home / "signing" / "evidence.key"
    ours = SigningKey.load(key.read_text().strip()).fingerprint
    site.edit(("  evidence: file:", f'  evidence_fingerprints: ["{ours}"]\n  evidence: file:'))
    key.unlink()
    create_file_secret(key, SigningKey.generate().secret())


@fault(
    "Forged records",
    "records that another key signed lie in a vault",
    ends(ExitStatus.DAMAGE, "evidence", "verify", "--vault", "one", saying="none whose records count"),
)
def forged(site: Site) -> None:
    ours = SigningKey.load((site.home / "signing" / "evidence.key").read_text().strip())
    site.edit(("  evidence: file:", f'  evidence_fingerprints: ["{ours.fingerprint}"]\n  evidence: file:'))
    other = Site(site.root.with_name("other"), now=site.now)
    shutil.rmtree(other.root, ignore_errors=True)
    made = make(other.root, lambda each: files(each.data / "files", 3), FORGER)
    (folder,) = (made.vault("one") / "records").iterdir()
    for record in folder.iterdir():
        site.seal(site.vault("one") / "records" / folder.name / record.name, made.said(record))


FORGER = 'sources:\n  files: {kind: files, class: configuration, paths: ["{data}/files"]}\n'


@fault(
    "Older copy of the catalog",
    "the catalog is as it was three days ago",
    behind(),
    finding("catalog-behind", "catalog"),
    ends(ExitStatus.DAMAGE, "verify", "one", saying="older than the vault"),
    word("documents", "FAILED_TEST"),
)
def older_catalog(site: Site) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{site.catalog}{suffix}").unlink(missing_ok=True)
    shutil.copy2(first_day(site) / "home" / "catalog.db", site.catalog)


@fault(
    "Catalog emptied",
    "the catalog's file holds nothing",
    ends(ExitStatus.CATALOG, "status"),
)
def catalog_emptied(site: Site) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{site.catalog}{suffix}").unlink(missing_ok=True)
    site.catalog.touch()


@fault(
    "Clock set back",
    "the machine's clock is a week slow",
    word("documents", "OVERDUE"),
    finding("clock", "documents"),
)
def clock_back(site: Site) -> None:
    site.later(days=-7)


@fault(
    "Half of the files gone",
    "half of the files of a source are deleted, and it is backed up and tested",
    missed="what is there comes back, and nothing says how much there should be; older points still have the files",
)
def half_emptied(site: Site) -> None:
    for folder in ("part-0", "part-1"):
        shutil.rmtree(site.data / "files" / folder)
    site.well("backup", "documents")
    site.well("test", "documents")


@fault(
    "Zero-byte file among others",
    "one file of many is cut to no bytes, and its source is backed up and tested",
    missed="an empty file is nothing unusual; the points before still have its content",
)
def zero_byte_file(site: Site) -> None:
    (site.data / "files" / "part-0" / "report-1.txt").write_text("")
    site.well("backup", "documents")
    site.well("test", "documents")


@fault(
    "Frozen dump",
    "the program that dumps prints what it printed a week ago, for a week",
    missed="a source that does not change is confirmed to be as it was",
)
def frozen_dump(site: Site) -> None:
    site.work(days=7)


@fault(
    "Damage nobody has looked for",
    "a bit of a stored file of data is turned round, and the vault is not verified yet",
    missed="what no reading has met is unknown until the next, which is due within the policy's `read_within`",
)
def unread_damage(site: Site) -> None:
    bit_flipped(site)
