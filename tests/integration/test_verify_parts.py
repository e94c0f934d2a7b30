"""Verification that walks forward, on real adapters: the ledger, the evidence, and what may be claimed of it."""

import os
from datetime import timedelta
from fractions import Fraction
from typing import Any

from cto_backups import clock
from cto_backups.core.model import Rung, Status
from cto_backups.core.verification import Part
from cto_backups.flows.protect import protect
from cto_backups.flows.status import status
from cto_backups.flows.verify import verify
from integration.test_flows import flip, packs


def test_verifications_in_parts_claim_the_rung_only_once_every_byte_was_read(workshop: Any) -> None:
    """Each is evidence of what it read, and the vault counts as read only when all of it was."""
    for number in range(3):
        (workshop.data / "files" / "more.bin").write_bytes(os.urandom(30_000) + bytes([number]))
        point = protect(workshop.installation, "documents").backup.point
    half = Part(share=Fraction(1, 2))
    first = verify(workshop.installation, "one", part=half)
    figures = first.evidence.steps[0].figures
    assert first.passed and first.evidence.rung is Rung.STORED and first.evidence.read_since is None
    assert 0 < figures["bytes_read"] < figures["bytes_stored"]
    assert figures["packs_read"] < figures["packs_stored"]

    def known() -> Any:
        vault = workshop.catalog.facts(clock.now()).vaults["one"]
        (copy,) = [facts for facts in workshop.catalog.copies(point.id) if facts.copy.vault == "one"]
        return vault, copy

    vault, copy_there = known()
    assert (vault.read_at, vault.read_passed, vault.read_since) == (first.evidence.finished_at, True, None)
    assert (copy_there.read_passed, copy_there.read_since) == (True, None)
    second = verify(workshop.installation, "one", part=half)
    assert second.evidence.rung is Rung.READ
    since = second.evidence.read_since
    assert since is not None and first.evidence.started_at - timedelta(seconds=1) <= since < second.evidence.started_at
    vault, copy_there = known()
    assert vault.read_since == copy_there.read_since == since
    assert workshop.catalog.evidence(kind="verify")[0] == second.evidence


def test_a_full_verification_writes_the_ledger_too(workshop: Any) -> None:
    """Parts continue where it ended."""
    protect(workshop.installation, "documents")
    whole = verify(workshop.installation, "one")
    ledger = workshop.catalog.ledger("one")
    assert whole.evidence.rung is Rung.READ
    assert len(ledger.last_read) == whole.verified.packs > 0
    assert ledger.read_since is not None
    part = verify(workshop.installation, "one", part=Part(size_bytes=1))
    assert part.verified.packs_read == 1
    assert part.evidence.rung is Rung.READ


def test_damage_that_a_part_finds_stays_found_until_it_is_repaired(workshop: Any) -> None:
    """The next part does not step over it."""
    protect(workshop.installation, "documents")
    assert verify(workshop.installation, "one").passed
    hurt = packs(workshop, "one")[0]
    flip(hurt)
    part = Part(size_bytes=1)
    runs = [verify(workshop.installation, "one", part=part).passed for _ in range(5)]
    assert runs[-1] is False
    assert runs == sorted(runs, reverse=True)
    assert status(workshop.installation).verdicts["documents"].status is Status.FAILED_TEST
    flip(hurt)
    assert verify(workshop.installation, "one", part=part).passed
