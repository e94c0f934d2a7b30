"""Actions as jobs of a queue on a server: what is written there, and what of it this release understands."""

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cto_backups.core.lanes import POOL
from cto_backups.core.looks import place_of
from cto_backups.core.model import Action, ActionKind

FORMAT: Final = 1
"""Counted up when a worker that does not know what is new would do the wrong thing."""
TASKS: Final = {kind: f"cto_backups.{kind.value}" for kind in ActionKind}
_FIELDS: Final = frozenset({"kind", "key", "reason", "due_at", "source", "vault", "point"})
_CHANNEL: Final = "procrastinate_queue_v1#"
_LONGEST: Final = 63 - len(_CHANNEL)  # a channel on which PostgreSQL notifies has a name of 63 bytes at most


class NotUnderstoodError(ValueError):
    """A job says what this release does not know; why, in a few words."""


def queue_name(lane: str) -> str:
    """The queue of a lane: by its name, or by a digest of it where that is too long."""
    if lane == POOL:
        return "pool"
    name = f"host:{lane}"
    return name if len(name.encode()) <= _LONGEST else f"host#{hashlib.sha256(lane.encode()).hexdigest()[:32]}"


def channel(lane: str) -> str:
    """Where the server tells that a job has come into a lane."""
    return _CHANNEL + queue_name(lane)


def written(action: Action, policy: str, *, by: int, put_at: datetime, vaults: Collection[str] = ()) -> dict[str, Any]:
    """An action as the arguments of a job that a worker puts; a release that does not know `at` works without."""
    return {
        "format": FORMAT,
        "policy": policy,
        "by": by,
        "place": place_of(action).key,
        "at": " ".join(vaults),
        "put_at": put_at.timestamp(),
        "action": {
            "kind": action.kind.value,
            "key": action.key,
            "reason": action.reason,
            "due_at": action.due_at.isoformat(),
            "source": action.source,
            "vault": action.vault,
            "point": action.point,
        },
    }


def read(arguments: Mapping[str, Any]) -> Action:
    """The action of a job. Raises NotUnderstoodError."""
    told = arguments.get("action")
    if arguments.get("format") != FORMAT or not isinstance(told, dict):
        raise NotUnderstoodError(f"its format is {arguments.get('format')}, this release knows {FORMAT}")
    if told.keys() != _FIELDS:
        names = ", ".join(sorted(told.keys() ^ _FIELDS))
        raise NotUnderstoodError(f"it has other fields than this release knows: {names}")
    try:
        kind, due_at = ActionKind(told["kind"]), datetime.fromisoformat(told["due_at"])
        put_at = datetime.fromtimestamp(arguments["put_at"], UTC)
    except ValueError:
        raise NotUnderstoodError(f"it is of the kind '{told['kind']}'") from None
    except TypeError:
        raise NotUnderstoodError("its fields are of other types") from None
    return Action(kind, told["key"], told["reason"], due_at, told["source"], told["vault"], told["point"], put_at)
