"""Rotate the secret that opens every vault of a policy. Run again, it finishes what a run before could not.

At any moment every vault opens with what the policy names: the new secret is added everywhere and seen to open, then
put in place, and only then is the old one taken away.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import opened
from cto_backups.app.wrapping import Wrapping
from cto_backups.errors import BackupsError, RefusedError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.config.rotation import Rotation
    from cto_backups.config.secrets import Secret


@dataclass
class Rotated:
    """How far a rotation came. `secret` is what holds it, `keys` are the new key files by vault, `removed` the old
    ones, `problems` what failed.

    `switched` says whether the policy's secret is the new one, `finished` whether the old one opens no vault any more.
    """

    secret: str
    keys: dict[str, str] = field(default_factory=dict)
    removed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: dict[str, BackupsError] = field(default_factory=dict)
    switched: bool = False
    finished: bool = False


def rotate(policy: Path) -> Rotated:
    """Exchange the secret. Raises RefusedError unless it lies in a file; what goes wrong with a vault is told of it."""
    from cto_backups.config import load
    from cto_backups.config.rotation import Rotation

    settings = load(policy).settings
    key = settings.repository_key
    if key.services and not key.plain:
        return _rotate_wrapped(policy)
    places = key.paths(settings.home)
    if len(key.plain) != 1 or not places:
        raise RefusedError(
            f"The secret {key} cannot be exchanged from here",
            why="this program replaces a secret in one file, and what key services wrapped; nothing else",
            todo="Add the new one (cto.backups key add --new …), change the secret where it is kept, "
            "then run: cto.backups key remove --opened-by … for the old one.",
        )
    rotation = Rotation(places[0].resolve())
    done = Rotated(str(rotation.key), switched=rotation.switched)
    if not done.switched:
        with opened(policy) as opening, opening.installation.exclusive_keys():
            _spread(opening, rotation, done)
    if done.switched:
        # Opened anew, with the new secret: it must open a vault before the old one is taken away there.
        with opened(policy) as opening, opening.installation.exclusive_keys():
            _withdraw(opening, rotation, done)
    return done


def _spread(opening: "Opened", rotation: "Rotation", done: Rotated) -> None:
    _add(opening, rotation.begin(), done)
    if not done.problems:
        rotation.switch()
        done.switched = True


def _add(opening: "Opened", secret: "Secret", done: Rotated) -> None:
    """Let the new secret open every vault, wrapped by every key service of the policy."""
    from cto_backups.flows import keys, records

    installation, wrapping = opening.installation, Wrapping(opening)
    for name in installation.policy.vaults:
        try:
            # First: where the secret is in no file, this alone remembers it.
            for wrapped in wrapping.wrap(name, secret) if wrapping.services else ():
                if wrapped.problem is not None:
                    raise wrapped.problem
            done.keys[name] = keys.add(installation, name, secret.reveal(), chosen=False).key
        except BackupsError as error:
            done.problems[name] = error
    if done.problems:
        return
    payload = {"change": "rotated", "keys": dict(done.keys), "by": installation.user, "host": installation.host}
    records.write(installation, "key", payload)


def _withdraw(opening: "Opened", rotation: "Rotation", done: Rotated) -> None:
    if not rotation.old.exists():
        done.finished = True  # by another run, just now
        return
    _remove(opening, [rotation.was()], done)
    if done.finished:
        rotation.finish()


def _remove(opening: "Opened", old: "Sequence[Secret]", done: Rotated) -> None:
    """Take the old secrets away from every vault: their key files, then what wraps them."""
    from cto_backups.flows import keys

    installation, wrapping = opening.installation, Wrapping(opening)
    for name in installation.policy.vaults:
        try:
            done.keys[name] = keys.key_ring(installation, name).in_use
            removed = [keys.remove_opened_by(installation, name, secret.reveal()) for secret in old]
            done.removed[name] = tuple(key for each in removed for key in each)
            if wrapping.services:
                wrapping.drop(name, old)
        except BackupsError as error:
            done.problems[name] = error
    done.finished = not done.problems


def _rotate_wrapped(policy: Path) -> Rotated:
    """Exchange a secret that key services alone give. Between two runs, its two wrappings tell how far it came."""
    from cto_backups.config.secrets import Secret

    done = Rotated("Each vault's wrapped file")
    with opened(policy) as opening, opening.installation.exclusive_keys():
        known = Wrapping(opening).distinct()
        if not known:
            raise RefusedError(
                "There is no secret to exchange",
                why="nothing is wrapped with the key services of the policy",
                todo="Name a place that still gives the secret, then run: cto.backups key wrap",
            )
        new, old = (known[0], known[1:]) if len(known) > 1 else (Secret(secrets.token_hex(32)), known)
        _add(opening, new, done)
    if done.problems:
        return done
    done.switched = True
    with opened(policy) as opening, opening.installation.exclusive_keys():
        _remove(opening, old, done)
    return done
