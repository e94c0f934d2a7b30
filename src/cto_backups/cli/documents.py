"""The stable JSON form of what commands answer: moments ISO 8601 in UTC, lengths of time in seconds, sizes in bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cto_backups.cli.errors import as_document
from cto_backups.cli.screen import seconds, utc

if TYPE_CHECKING:
    from cto_backups.core.change import Change
    from cto_backups.core.facts import CopyFacts
    from cto_backups.core.governance import Approval, Identity
    from cto_backups.core.keeping import Hold, Mark
    from cto_backups.core.model import Copy, Evidence, Problem, RecoveryPoint
    from cto_backups.core.payloads import Damage
    from cto_backups.errors import BackupsError
    from cto_backups.flows.store_holds import InStore

Document = dict[str, Any]


def point(found: "RecoveryPoint") -> Document:
    """A recovery point."""
    return {
        "id": found.id,
        "source": found.source,
        "kind": found.kind,
        "category": found.category,
        "business": found.business,
        "captured_at": utc(found.captured_at),
        "newest_content_at": utc(found.newest_content_at),
        "log": log(found),
        "elsewhere": where(found),
        "started_at": utc(found.started_at),
        "finished_at": utc(found.finished_at),
        "complete": found.complete,
        "size_bytes": found.size_bytes,
        "added_bytes": found.added_bytes,
        "entries": found.entry_count,
        "label": found.label,
        "keep_until": utc(found.keep_until),
        "problems": problems(found.problems),
        "suspicions": list(found.suspicions),
    }


def log(found: "RecoveryPoint") -> Document | None:
    """The range of a point's log, any moment of which comes back; None without one.

    `summed_until` is there where what was written later is not compared by a restore test.
    """
    from cto_backups.core.log_range import log_range, summed_until

    told = log_range(found)
    if told is None:
        return None
    summed = summed_until(found.fingerprint)
    return {"since": utc(told[0]), "until": utc(told[1]), **({"summed_until": summed} if summed else {})}


def where(found: "RecoveryPoint") -> Document | None:
    """In whose repositories the data of a point lie; None where they lie in vaults."""
    from cto_backups.core.elsewhere import elsewhere

    told = elsewhere(found)
    if told is None:
        return None
    return {"program": told.program, "repositories": [{**asdict(each), "holds": each.holds} for each in told.keeping]}


def mark(found: "Mark") -> Document:
    """A point under suspicion; `cleared_at` None: nobody has cleared it."""
    return {
        "point": found.point,
        "source": found.source,
        "captured_at": utc(found.captured_at),
        "suspicions": list(found.suspicions),
        "cleared_at": utc(found.cleared_at),
        "cleared_by": found.cleared_by,
        "cleared_because": found.cleared_because,
    }


def change(found: "Change | None") -> Document | None:
    """What a point changed against the one before it; None where that is not known."""
    if found is None:
        return None
    figures = asdict(found)
    return {**figures, **figures.pop("content")}


def hold(found: "Hold") -> Document:
    """A legal hold; `point` None: on all of the source."""
    return {
        "id": found.id,
        "source": found.source,
        "point": found.point,
        "reason": found.reason,
        "placed_at": utc(found.placed_at),
        "placed_by": found.placed_by,
        "approver": found.approver,
        "released_at": utc(found.released_at),
        "released_by": found.released_by,
        "released_because": found.released_because,
    }


def in_store(found: "InStore") -> Document:
    """The legal holds in the store of one vault; `unheld` and `gone` are keys of files that holds need."""
    return {
        "held": found.held,
        "put_on": found.anew,
        "taken_off": found.taken_off,
        "unheld": list(found.unheld),
        "gone": list(found.gone),
        "stuck": list(found.stuck),
        "unread": list(found.unread),
    }


def approval(found: "Approval", now: datetime) -> Document:
    """An approval: for what, who asked, and what became of it by `now`."""
    return {
        "id": found.id,
        "standing": found.standing(now).value,
        "action": found.action.value,
        "parameters": dict(found.parameters),
        "action_digest": found.digest,
        "summary": found.summary,
        "who": found.who.value,
        "requested_at": utc(found.requested_at),
        "requested_by": _identity(found.requested_by),
        "expires_at": utc(found.expires_at),
        "decided_at": utc(found.decided_at),
        "decided_by": _identity(found.decided_by),
        "granted": found.granted,
        "reason": found.reason,
        "used_at": utc(found.used_at),
        "used_by": _identity(found.used_by),
    }


def _identity(found: "Identity | None") -> Document | None:
    return {"login": found.login, "uid": found.uid, "sudo_user": found.sudo_user} if found else None


def details(found: "RecoveryPoint", copies: Iterable["CopyFacts"]) -> Document:
    """A recovery point with its fingerprint and copies."""
    fingerprint = found.fingerprint
    return {
        **point(found),
        "root": found.root,
        "parent": found.parent,
        "paths": list(found.paths),
        "policy_digest": found.policy_digest,
        "change": change(found.change),
        "fingerprint": {
            "algorithm": fingerprint.algorithm,
            "checksums": dict(fingerprint.checksums),
            "counts": dict(fingerprint.counts),
            "samples": len(fingerprint.samples),
        },
        "copies": [copy_facts(facts) for facts in copies],
    }


def copy(made: "Copy") -> Document:
    """A copy: which vault, and what the repository there calls it."""
    return {
        "vault": made.vault,
        "snapshot": made.reference,
        "stored_at": utc(made.stored_at),
        "added_bytes": made.added_bytes,
    }


def copy_facts(facts: "CopyFacts") -> Document:
    """A copy with what is known of its proof."""
    return {
        **copy(facts.copy),
        "read_at": utc(facts.read_at),
        "read_passed": facts.read_passed,
        "read_since": utc(facts.read_since),
        "tested_at": utc(facts.tested_at),
        "test_passed": facts.test_passed,
    }


def problems(found: Iterable["Problem"]) -> list[Document]:
    """What could not be captured or restored."""
    return [{"path": problem.path, "kind": problem.kind, "detail": problem.detail} for problem in found]


def damages(found: Iterable["Damage"]) -> list[Document]:
    """What is damaged in a vault."""
    return [
        {
            "what": damage.what,
            "detail": damage.detail,
            "snapshots": list(damage.references),
            "paths": list(damage.paths),
        }
        for damage in found
    ]


def evidence(stored: "Evidence") -> Document:
    """The result of a verification or a restore test, step by step."""
    return {
        "id": stored.id,
        "kind": stored.kind,
        "source": stored.source,
        "point": stored.point,
        "vault": stored.vault,
        "started_at": utc(stored.started_at),
        "finished_at": utc(stored.finished_at),
        "seconds": seconds(stored.finished_at - stored.started_at),
        "passed": stored.passed,
        "rung": stored.rung.name.lower(),
        "reason": stored.reason,
        "read_since": utc(stored.read_since),
        "steps": [
            {
                "name": step.name,
                "started_at": utc(step.started_at),
                "seconds": step.seconds,
                "passed": step.passed,
                "detail": step.detail,
                "figures": dict(step.figures),
            }
            for step in stored.steps
        ],
    }


def vault_errors(found: Mapping[str, "BackupsError"]) -> Document:
    """What went wrong with which vault."""
    return {name: as_document(error) for name, error in found.items()}
