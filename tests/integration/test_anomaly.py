"""Ransomware on a real tree: it is noticed, and what was clean before it stays although retention would drop it."""

import os
import random
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cto_backups import clock
from cto_backups.core.auditing import audit as judge_controls
from cto_backups.core.findings import Environment
from cto_backups.core.model import RecoveryPoint
from cto_backups.errors import NotFoundError, RefusedError
from cto_backups.evidence.records import Record
from cto_backups.flows import anomaly, expire
from cto_backups.flows.backup import backup
from cto_backups.flows.rebuild import rebuild
from cto_backups.flows.status import status

SEED = 4711
DAYS = 4
SCRAMBLED = "mass change of content that no longer compresses"


def encrypt(content: bytes) -> bytes:
    """As ransomware does: AES in counter mode, a nonce for each file in front."""
    nonce = os.urandom(16)
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(nonce)).encryptor()
    return nonce + cipher.update(content)


def everything(files: list[Path]) -> list[Path]:
    return files


def a_third(files: list[Path]) -> list[Path]:
    return random.Random(SEED).sample(files, len(files) * 3 // 10)


def in_place(file: Path) -> None:
    with file.open("r+b") as opened:
        encrypted = encrypt(opened.read())
        opened.seek(0)
        opened.write(encrypted)


def renamed(file: Path) -> None:
    in_place(file)
    file.rename(file.with_name(f"{file.name}.locked"))


def every_other_part(file: Path) -> None:
    """So that it is quicker: of every 8 KiB the first four."""
    content = bytearray(file.read_bytes())
    for start in range(0, len(content), 8192):
        part = content[start : start + 4096]
        content[start : start + len(part)] = encrypt(bytes(part))[16:]
    file.write_bytes(content)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source text of Python's standard library without its tests: about 800 files, 12 MB."""
    place = tmp_path_factory.mktemp("library") / "library"

    def left_out(folder: str, names: list[str]) -> set[str]:
        wanted = {name for name in names if name.endswith(".py") or (Path(folder) / name).is_dir()}
        return set(names) - wanted | {"site-packages", "test", "tests", "__pycache__"} & set(names)

    shutil.copytree(sysconfig.get_paths()["stdlib"], place, ignore=left_out)
    return place


class Company:
    """Works on a tree day by day, and backs it up each evening."""

    def __init__(self, workshop: Any, library: Path) -> None:
        self.workshop = workshop
        self.tree = workshop.data / "files" / "library"
        self.random = random.Random(SEED)
        shutil.copytree(library, self.tree)

    def files(self) -> list[Path]:
        return sorted(path for path in self.tree.rglob("*") if path.is_file())

    def evening(self) -> RecoveryPoint:
        return backup(self.workshop.installation, "documents").point

    def day(self) -> RecoveryPoint:
        """Ten files are edited, one is new, one goes, one gets another name."""
        files = self.random.sample(self.files(), 13)
        for file in files[:10]:
            file.write_text(file.read_text(errors="replace") + f"\n# edited {self.random.random()}\n" * 5)
        files[10].with_name(f"new_{self.random.randrange(10**9)}.py").write_bytes(files[11].read_bytes()[::2])
        files[11].unlink()
        files[12].rename(files[12].with_name(f"moved_{files[12].name}"))
        return self.evening()

    def strike(self, which: Callable[[list[Path]], list[Path]], how: Callable[[Path], None]) -> RecoveryPoint:
        for file in which(self.files()):
            how(file)
        return self.evening()


@pytest.fixture
def company(workshop: Any, library: Path) -> Iterator[Company]:
    """Four ordinary days, of which none is suspected."""
    made = Company(workshop, library)
    made.points = [made.evening(), *(made.day() for _ in range(DAYS))]  # type: ignore[attr-defined]
    assert [point.suspicions for point in made.points] == [()] * (DAYS + 1)  # type: ignore[attr-defined]
    yield made


def test_the_figures_of_a_day_are_those_of_what_was_done(company: Any) -> None:
    """Ten edited, one new, one removed, one renamed; folders whose times changed count as changed."""
    first, *days = company.points
    assert first.change.parent_entries == 0
    assert first.change.content.new_bytes == pytest.approx(first.size_bytes, rel=0.05)
    assert 0.2 < first.change.stored_share < 0.45
    assert 4 < first.change.content.entropy < 6
    for before, point in zip(company.points, days, strict=False):
        change = point.change
        assert (change.parent_entries, change.parent_bytes) == (before.entry_count, before.size_bytes)
        assert (change.new_entries, change.removed_entries, change.renamed_entries) == (2, 2, 1)
        assert change.changed_entries >= 10, "what was written just now is read once more, and counts as well"
        assert 0 < change.content.new_bytes <= change.content.read_bytes


@pytest.mark.parametrize("how", [in_place, renamed, every_other_part])
@pytest.mark.parametrize("which", [everything, a_third])
def test_an_encrypted_tree_is_suspected_and_the_clean_points_before_it_are_kept(
    company: Any, which: Any, how: Any
) -> None:
    """Retention keeps two versions: without the mark, two days later nothing clean would be left."""
    installation, catalog = company.workshop.installation, company.workshop.catalog
    struck = company.strike(which, how)
    assert [said.partition(":")[0] for said in struck.suspicions] == [SCRAMBLED]
    company.day()
    company.day()
    done = expire.expire(installation, expire.plan(installation, "documents"))
    kept = {point.id for point in catalog.points("documents")}
    assert {point.id for point in company.points} <= kept
    said = {decision.point.id: decision.reasons[0] for decision in done.plan.decisions}
    assert said[company.points[-1].id] == f"clean before {struck.id}, which is under suspicion and not cleared"
    assert struck.id not in kept, "the marked one itself is kept no longer than others"

    restored = next(point for point in catalog.points("documents", limit=None) if point.id == company.points[-1].id)
    assert restored.suspicions == ()
    (mark,) = catalog.marks.listed()
    assert (mark.point, mark.suspicions) == (struck.id, struck.suspicions), "although it has expired"


def test_clearing_lets_retention_decide_again_and_is_signed_and_told_to_every_vault(company: Any) -> None:
    """Once; what was of that kind is usual from then on."""
    installation, catalog = company.workshop.installation, company.workshop.catalog
    struck = company.strike(a_third, in_place)
    company.day()
    company.day()
    assert expire.plan(installation, "documents").removed == tuple(
        decision for decision in expire.plan(installation, "documents").decisions if decision.point.id == struck.id
    )
    with pytest.raises(NotFoundError):
        anomaly.clear(installation, company.points[-1].id, reason="not marked")
    cleared = anomaly.clear(installation, struck.id[:-2], reason="we encrypt at rest now")
    assert cleared.problems == {}
    assert [mark.cleared_because for mark in cleared.marks] == ["we encrypt at rest now"]
    for vault in ("one", "two", "three"):
        folder = company.workshop.vault_root(vault) / "records" / installation.signer.signer
        last = Record.from_bytes(company.workshop.opened(vault, sorted(folder.iterdir())[-1]))
        assert (last.kind, last.payload["point"], last.payload["source"]) == ("clearance", struck.id, "documents")
    with pytest.raises(RefusedError, match="cleared before"):
        anomaly.clear(installation, struck.id, reason="again")
    assert len(expire.plan(installation, "documents").removed) == len(company.points) + 1
    assert catalog.marks.listed() == ()
    assert catalog.facts(clock.now(), ["documents"]).marks == {}


def test_the_audit_says_it_until_it_is_cleared(company: Any) -> None:
    """The control finds the mark; by the source's name all of its marks are cleared."""
    installation = company.workshop.installation

    def found() -> list[str]:
        report = status(installation)
        results = judge_controls(report.policy, report.facts, report.verdicts, report.now, Environment()).results
        (result,) = (each for each in results if each.control.id == "anomaly-free")
        return [finding.detail for finding in result.findings if finding.subject == "documents"]

    assert found() == []
    struck = company.strike(everything, renamed)
    (detail,) = found()
    assert detail.startswith(f"{struck.id} is under suspicion: {SCRAMBLED}")
    again = company.strike(a_third, in_place)
    assert again.suspicions, "what is under suspicion itself makes nothing usual"
    assert "; and 1 later point; " in found()[0]
    cleared = anomaly.clear(installation, "documents", reason="a drill")
    assert [mark.point for mark in cleared.marks] == [struck.id, again.id]
    assert found() == []


def test_a_rebuilt_catalog_knows_marks_and_clearances(company: Any) -> None:
    """From the vaults alone."""
    installation, catalog = company.workshop.installation, company.workshop.catalog
    first = company.strike(a_third, in_place)
    second = company.strike(everything, renamed)
    assert second.suspicions
    anomaly.clear(installation, first.id, reason="meant")
    before = catalog.marks.listed(cleared=True)
    with catalog._writing() as connection:
        for table in ("copies", "points", "records", "vault_heads"):
            connection.execute(f"DELETE FROM {table}")
    rebuilt = rebuild(installation, ["one", "two", "three"])
    assert rebuilt.damages == []
    assert rebuilt.clearances == 1
    assert catalog.marks.listed(cleared=True) == before
    assert [mark.point for mark in catalog.marks.listed()] == [second.id]
    assert catalog.point(second.id) == second


def test_a_tree_overwritten_with_zeros_is_suspected(company: Any) -> None:
    """Its chunks are all the same, so there is next to no new content."""

    def zero(file: Path) -> None:
        file.write_bytes(bytes(file.stat().st_size))

    (said,) = company.strike(everything, zero).suspicions
    assert said.startswith("mass change of content to nothing: ")


def test_a_tree_of_which_most_is_deleted_is_suspected(company: Any) -> None:
    """By how many are gone, and by its size."""
    said = company.strike(lambda files: files[:-40], Path.unlink).suspicions
    assert [each.partition(":")[0] for each in said] == ["mass deletion", "size collapsed"]


def test_a_renamed_folder_counts_its_files_as_renamed(company: Any) -> None:
    """And moving all of them is suspected; the content was known."""
    company.tree.rename(company.tree.with_name("elsewhere"))
    company.tree = company.tree.with_name("elsewhere")
    point = company.evening()
    files = len(company.files())
    assert files * 0.95 < point.change.renamed_entries <= files
    assert point.change.content.new_bytes == 0
    assert [said.partition(":")[0] for said in point.suspicions] == ["mass rename"]


def test_touching_everything_is_not_suspected(company: Any) -> None:
    """All is read again, and nothing is new."""
    for file in company.files():
        file.touch()
    point = company.evening()
    assert point.suspicions == ()
    assert point.id == company.points[-1].id or point.change.content.new_bytes == 0
