"""Rotate the secret that opens every vault of a policy. Run again, it finishes what a run before could not.

At any moment every vault opens with what the policy names: the new secret is added everywhere and seen to open, then
put in place, and only then is the old one taken away.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import opened
from cto_backups.errors import BackupsError, RefusedError

if TYPE_CHECKING:
    from cto_backups.config.rotation import Rotation
    from cto_backups.flows.installation import Installation


@dataclass
class Rotated:
    """How far a rotation came. `keys` are the new key files by vault, `removed` the old ones, `problems` what failed.

    `switched` says whether the policy's secret is the new one, `finished` whether the old one opens no vault any more.
    """

    secret: Path
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
    reference = settings.repository_key
    place = reference.path(settings.home)
    if place is None:
        raise RefusedError(
            f"The secret {reference} cannot be exchanged from here",
            why="only a secret in a file can be replaced by this program",
            todo="Add the new one (cto.backups key add --new …), change the secret where it is kept, "
            "then run: cto.backups key remove --opened-by … for the old one.",
        )
    rotation = Rotation(place.resolve())
    done = Rotated(rotation.key, switched=rotation.switched)
    if not done.switched:
        with opened(policy) as opening, opening.installation.exclusive_keys():
            _spread(opening.installation, rotation, done)
    if done.switched:
        # Opened anew, with the new secret: it must open a vault before the old one is taken away there.
        with opened(policy) as opening, opening.installation.exclusive_keys():
            _withdraw(opening.installation, rotation, done)
    return done


def _spread(installation: "Installation", rotation: "Rotation", done: Rotated) -> None:
    from cto_backups.flows import keys, records

    secret = rotation.begin().reveal()
    for name in installation.policy.vaults:
        try:
            done.keys[name] = keys.add(installation, name, secret, chosen=False).key
        except BackupsError as error:
            done.problems[name] = error
    if done.problems:
        return
    payload = {"change": "rotated", "keys": dict(done.keys), "by": installation.user, "host": installation.host}
    records.write(installation, "key", payload)
    rotation.switch()
    done.switched = True


def _withdraw(installation: "Installation", rotation: "Rotation", done: Rotated) -> None:
    from cto_backups.flows import keys

    if not rotation.old.exists():
        done.finished = True  # by another run, just now
        return
    old = rotation.was().reveal()
    for name in installation.policy.vaults:
        try:
            done.keys[name] = keys.key_ring(installation, name).in_use
            done.removed[name] = keys.remove_opened_by(installation, name, old)
        except BackupsError as error:
            done.problems[name] = error
    if not done.problems:
        rotation.finish()
        done.finished = True
