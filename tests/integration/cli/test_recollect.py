"""What people decided outlives the catalog: retentions that wait, approvals, governing documents."""

from typing import Any

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from integration.cli.test_governance import (
    ADA,
    BO,
    HOURS,
    IN_PLACE,
    Become,
    Later,
    approval_of,
    approve,
    become,
    govern,
    later,
    many,
    points,
    records,
    retain,
    standing,
)

__all__ = ["become", "later", "many"]


def rebuild_from_nothing(home: Home) -> Any:
    """Lose the catalog, and bring it back from the vaults."""
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    answer = home("catalog", "rebuild", "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    return answer.document


def test_a_shortened_retention_waits_on_from_when_it_was_first_seen(many: Home, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    first = points(home)
    assert home("verify", "one").status is ExitStatus.SUCCESS  # brings the records to the vaults
    later(50 * HOURS)
    assert rebuild_from_nothing(home)["retentions"] == 3
    assert "kept by the retention before, '90 days'" in home("expire", "--dry-run", "data-files").out
    later(21 * HOURS)
    home("expire")
    assert points(home) == first
    later(2 * HOURS)
    home("expire")
    assert points(home) == first[:2]
    assert rebuild_from_nothing(home)["retentions"] == 3
    assert points(home) == first[:2]
    assert "waits" not in home("expire", "--dry-run").out
    (changed,) = records(home, "policy")
    assert changed["retention_after"] == "2 versions"


def test_losing_the_catalog_is_no_way_round_the_wait(many: Home, later: Later) -> None:
    """The policy under which the newest point was made says what applied."""
    home = many
    first = points(home)
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    retain(home, "2 versions")
    rebuild_from_nothing(home)
    assert "kept by the retention before, '90 days'" in home("expire", "--dry-run", "data-files").out
    later(71 * HOURS)
    home("expire")
    assert points(home) == first
    later(2 * HOURS)
    home("expire")
    assert points(home) == first[:2]


def test_an_unreadable_policy_of_before_is_no_hindrance(many: Home) -> None:
    home = many
    retain(home, "2 versions")
    for policy in (home.vault("one") / "policies").iterdir():
        home.seal(policy, b"sources: [\n")
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    answer = home("catalog", "rebuild", "--from", "one", "--json")
    assert answer.status is ExitStatus.DAMAGE, answer
    assert answer.document["retentions"] == 0


def test_a_catalog_that_is_there_knows_better(many: Home, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    home("expire")
    answer = home("catalog", "rebuild", "--json").document
    assert (answer["retentions"], answer["approvals"], answer["alerts"]) == (0, 0, 0)
    later(73 * HOURS)
    home("expire")
    assert len(points(home)) == 2


def test_a_shortened_retention_stays_approved(many: Home, become: Become, later: Later) -> None:
    home = many
    first = points(home)
    govern(home, "approvals: {shorter-retention: second-person}")
    retain(home, "2 versions")
    home("expire")
    (asked,) = home("approvals", "--json").document["approvals"]
    become(BO)
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    assert rebuild_from_nothing(home)["approvals"] == 1
    assert standing(home, asked["id"]) == "used"
    later(71 * HOURS)
    home("expire")
    assert points(home) == first
    later(2 * HOURS)
    home("expire")
    assert points(home) == first[:2]


def test_approvals_count_once_whatever_becomes_of_the_catalog(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}")
    name = approval_of(home(*IN_PLACE))
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    before = home("approvals", "--all", "--json").document["approvals"]
    assert rebuild_from_nothing(home)["approvals"] == 1
    assert home("approvals", "--all", "--json").document["approvals"] == before
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    used = home("approvals", "--all", "--json").document["approvals"]
    assert rebuild_from_nothing(home)["approvals"] == 1
    assert home("approvals", "--all", "--json").document["approvals"] == used
    assert standing(home, name) == "used"
    assert home(*IN_PLACE).status is ExitStatus.REFUSED


def test_losing_the_catalog_is_no_way_round_governance(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}")
    approval_of(home(*IN_PLACE))
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    govern(home, "")
    rebuilt = home("catalog", "rebuild", "--json").document
    assert any("the section 'governance' is gone" in remark for remark in rebuilt["remarks"]), rebuilt
    assert home(*IN_PLACE).status is ExitStatus.REFUSED
    open_ones = home("approvals", "--json").document["approvals"]
    (asked,) = [each for each in open_ones if each["action"] == "governance-change"]
    become(BO)
    assert approve(home, asked["id"]).status is ExitStatus.SUCCESS
    become(ADA)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    rebuild_from_nothing(home)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS, "it is known that it was approved"


def test_the_accepted_version_of_a_document_is_known_again(home: Home, become: Become) -> None:
    rules = home.root / "ethics.md"
    rules.write_text("# Ethics\n")
    govern(home, "documents: [{path: ethics.md}]\n  approvals: {document-change: anyone}")
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    rules.write_text("# Ethics, loosened\n")
    rebuild_from_nothing(home)
    name = approval_of(home(*IN_PLACE))
    assert approve(home, name).status is ExitStatus.SUCCESS
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    rebuild_from_nothing(home)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS, "the version that was approved"
    rules.write_text("# Ethics\n")
    assert home(*IN_PLACE).status is ExitStatus.REFUSED


def lose(home: Home, *, key: bool = False) -> None:
    """Lose the catalog, and the evidence key too."""
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    if key:
        (home.root / "keys" / "evidence.key").unlink()


def signers(home: Home) -> list[str]:
    return sorted(folder.name for folder in (home.vault("one") / "records").iterdir())


def test_rules_come_back_with_the_records_of_a_key_that_was_lost(home: Home, become: Become) -> None:
    """Whoever loses both, and writes other rules, is bound by those before once the old signer is trusted."""
    govern(home, "approvals: {restore: second-person}")
    approval_of(home(*IN_PLACE))
    (before,) = signers(home)
    lose(home, key=True)
    govern(home, "approvals: {prune: anyone}")
    rebuilt = home("catalog", "rebuild", "--trust", before, "--json")
    assert rebuilt.status is ExitStatus.SUCCESS, rebuilt
    assert any("'restore' needs no approval" in remark for remark in rebuilt.document["remarks"])
    assert home(*IN_PLACE).status is ExitStatus.REFUSED


def test_losing_the_key_as_well_is_no_way_round_the_wait(many: Home, later: Later) -> None:
    home = many
    retain(home, "2 versions")
    home.change("one more, under the new policy\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    there = points(home)
    lose(home, key=True)
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    home("expire")
    assert points(home) == there
    later(71 * HOURS)
    home("expire")
    assert points(home) == there
    later(2 * HOURS)
    home("expire")
    assert points(home) == there[:2]


def test_what_somebody_else_writes_to_the_vault_shortens_nothing(many: Home, later: Later) -> None:
    """Another signer's point under a shorter policy: the retention under which our own were made binds."""
    home = many
    there = points(home)
    key = home.root / "keys" / "evidence.key"
    ours, catalog = key.read_bytes(), {file: file.read_bytes() for file in home.root.glob("catalog.db*")}
    lose(home, key=True)
    retain(home, "2 versions")
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    home.change("theirs\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    lose(home, key=True)
    key.write_bytes(ours)
    key.chmod(0o600)
    assert catalog
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    home("expire")
    assert set(there) <= set(points(home))


def older_copy(home: Home) -> dict[Any, bytes]:
    """The files of the catalog as they are now."""
    return {file: file.read_bytes() for file in home.root.glob("catalog.db*")}


def put_back(home: Home, copy: dict[Any, bytes]) -> None:
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    for file, content in copy.items():
        file.write_bytes(content)


def test_an_older_catalog_learns_of_a_longer_retention(many: Home) -> None:
    home = many
    retain(home, "2 versions")
    home("expire", "--dry-run")
    home.settle()
    copy = older_copy(home)
    retain(home, "2 years")
    home.change("longer\n")
    assert home("backup", "data-files").status is ExitStatus.SUCCESS
    there = points(home)
    put_back(home, copy)
    retain(home, "2 versions")
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    home("expire")
    assert points(home) == there


def test_an_approval_that_was_used_is_used_for_an_older_catalog_too(home: Home, become: Become) -> None:
    govern(home, "approvals: {restore: second-person}")
    name = approval_of(home(*IN_PLACE))
    become(BO)
    assert approve(home, name).status is ExitStatus.SUCCESS
    become(ADA)
    copy = older_copy(home)
    assert home(*IN_PLACE).status is ExitStatus.SUCCESS
    put_back(home, copy)
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    assert standing(home, name) == "used"
    assert home(*IN_PLACE).status is ExitStatus.REFUSED


def test_a_hold_binds_whoever_placed_it(home: Home) -> None:
    assert home("hold", "add", "data-files", "--reason", "case").status is ExitStatus.SUCCESS
    lose(home, key=True)
    rebuilt = home("catalog", "rebuild", "--json")
    assert rebuilt.document["holds"] == 1
    assert "case" in home("hold", "list").out


def test_a_source_that_was_taken_out_meanwhile_is_told_as_before(home: Home, become: Become) -> None:
    govern(home, "approvals: {source-removal: anyone}")
    assert home("backup").status is ExitStatus.SUCCESS
    lose(home)
    text = home.policy.read_text()
    begin = text.index("  ledger-database:")
    end = text.index("\n  ", begin + 10) if "\n  " in text[begin + 10 :] else len(text)
    while text[end + 1 : end + 5] == "    ":
        end = text.index("\n", end + 1)
    home.policy.write_text(text[:begin] + text[end + 1 :])
    rebuilt = home("catalog", "rebuild", "--json")
    assert rebuilt.status is ExitStatus.SUCCESS, rebuilt
    assert any("Taking source 'ledger-database' out of the policy" in each for each in rebuilt.document["remarks"])
