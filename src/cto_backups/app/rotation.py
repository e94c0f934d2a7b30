"""Rotate the secrets that open the vaults of a policy. Run again, it finishes what a run before could not.

At any moment every vault opens with what the policy names: the new secret is added everywhere and seen to open, then
put in place, and only then is the old one taken away. Vaults with a key of their own have another secret: each secret
is exchanged by itself, in all the vaults that it opens.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups.app import opened
from cto_backups.app.wrapping import Wrapping
from cto_backups.core.wording import not_declared
from cto_backups.errors import BackupsError, RefusedError

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.config.repository_key import RepositoryKey
    from cto_backups.config.secrets import Secret


@dataclass
class Rotated:
    """How far the exchange of one secret came. `secret` is what holds it, `vaults` are those that it is to open, `keys`
    the new key files by vault, `removed` the old ones, `problems` what failed, `refused` why nothing was begun.

    `switched` says whether the policy's secret is the new one, `finished` whether the old one opens no vault any more.
    """

    secret: str
    vaults: tuple[str, ...]
    keys: dict[str, str] = field(default_factory=dict)
    removed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: dict[str, BackupsError] = field(default_factory=dict)
    switched: bool = False
    finished: bool = False
    refused: BackupsError | None = None


def rotate(policy: Path, vaults: Sequence[str] = ()) -> tuple[Rotated, ...]:
    """Exchange every secret, or those that open these vaults; what goes wrong with a vault is told of it.

    Raises NotFoundError; RefusedError where the only one that is meant lies in no file.
    """
    from cto_backups.config import load

    configuration = load(policy)
    for name in vaults:
        if name not in configuration.policy.vaults:
            raise not_declared("vault", name, configuration.policy.vaults)
    by_key = configuration.settings.by_key(configuration.policy.vaults)
    chosen = {key: names for key, names in by_key.items() if not vaults or not set(names).isdisjoint(vaults)}
    done = []
    for key, names in chosen.items():
        try:
            done.append(_Exchange(policy, key, tuple(names)).carry_out())
        except RefusedError as error:
            if len(chosen) == 1:
                raise
            done.append(Rotated(str(key), tuple(names), refused=error))
    return tuple(done)


class _Exchange:
    """The exchange of one secret."""

    def __init__(self, policy: Path, key: "RepositoryKey", vaults: tuple[str, ...]) -> None:
        self._policy = policy
        self._key = key
        self._vaults = vaults

    def carry_out(self) -> Rotated:
        """As far as it goes now. Raises RefusedError unless the secret lies in one file or with key services alone."""
        from cto_backups.config import load
        from cto_backups.config.rotation import Rotation

        settings, key = load(self._policy).settings, self._key
        if key.services and not key.plain:
            return self._of_services()
        places = key.paths(settings.home)
        if len(key.plain) != 1 or not places:
            only = "" if key == settings.repository_key else f" --vault {self._vaults[0]}"
            raise RefusedError(
                f"The secret {key} cannot be exchanged from here",
                why="this program replaces a secret in one file, and what key services wrapped; nothing else",
                todo=f"Add the new one (cto.backups key add --new …{only}), change the secret where it is kept, "
                f"then run: cto.backups key remove --opened-by …{only} for the old one.",
            )
        rotation = Rotation(places[0].resolve())
        done = Rotated(str(rotation.key), self._vaults, switched=rotation.switched)
        if not done.switched:
            with opened(self._policy) as opening, opening.installation.exclusive_keys():
                self._check_separate(opening)
                self._add(opening, rotation.begin(), rotation.now(), done)
                if not done.problems:
                    rotation.switch()
                    done.switched = True
        if done.switched:
            # Opened anew, with the new secret: it must open a vault before the old one is taken away there.
            with opened(self._policy) as opening, opening.installation.exclusive_keys():
                if not rotation.old.exists():
                    done.finished = True  # by another run, just now
                    return done
                self._remove(opening, [rotation.was()], done)
                if done.finished:
                    rotation.finish()
        return done

    def _of_services(self) -> Rotated:
        """Exchange what key services alone give. Between two runs, its two wrappings tell how far it came."""
        from cto_backups.config.secrets import Secret

        done = Rotated("Each vault's wrapped file", self._vaults)
        with opened(self._policy) as opening, opening.installation.exclusive_keys():
            known = Wrapping(opening).distinct(self._key, self._vaults)
            if not known:
                raise RefusedError(
                    "There is no secret to exchange",
                    why="nothing is wrapped with the key services of the policy",
                    todo="Name a place that still gives the secret, then run: cto.backups key wrap",
                )
            self._check_separate(opening)
            new, old = (known[0], known[1:]) if len(known) > 1 else (Secret(secrets.token_hex(32)), known)
            self._add(opening, new, old[0], done)
        if done.problems:
            return done
        done.switched = True
        with opened(self._policy) as opening, opening.installation.exclusive_keys():
            self._remove(opening, old, done)
        return done

    def _check_separate(self, opening: "Opened") -> None:
        """Raise RefusedError where the shared secret still opens a vault with a key of its own."""
        from cto_backups.app.own_keys import separated

        if self._key == opening.configuration.settings.repository_key:
            return
        shared = [name for name, apart in separated(opening, self._vaults).items() if not apart]
        if shared:
            raise RefusedError(
                f"The key of vault '{shared[0]}' is not exchanged",
                why="the shared secret opens that vault, too",
                todo=f"Run first: cto.backups key separate {shared[0]}",
            )

    def _others(self, opening: "Opened") -> tuple[str, ...]:
        """Vaults with a key of their own, which the shared secret may still open: then its successor has to, too."""
        settings = opening.configuration.settings
        return tuple(settings.vault_keys) if self._key == settings.repository_key else ()

    def _add(self, opening: "Opened", secret: "Secret", now: "Secret", done: Rotated) -> None:
        """Let the new secret open every vault that the one in use does, wrapped by every key service of the policy."""
        from cto_backups.flows import keys, records

        installation, wrapping = opening.installation, Wrapping(opening)
        for name in (*self._vaults, *self._others(opening)):
            try:
                if name not in self._vaults and not keys.key_ring(installation, name).opened_by(now.reveal()):
                    continue
                # First: where the secret is in no file, this alone remembers it.
                services = self._key.services
                for wrapped in wrapping.wrap(name, secret, services=services) if services else ():
                    if wrapped.problem is not None:
                        raise wrapped.problem
                done.keys[name] = keys.add(installation, name, secret.reveal(), chosen=False).key
            except BackupsError as error:
                done.problems[name] = error
        if done.problems:
            return
        payload = {"change": "rotated", "keys": dict(done.keys), "by": installation.user, "host": installation.host}
        records.write(installation, "key", payload)

    def _remove(self, opening: "Opened", old: "Sequence[Secret]", done: Rotated) -> None:
        """Take the old secrets away from every vault: their key files, then what wraps them."""
        from cto_backups.flows import keys

        installation, wrapping = opening.installation, Wrapping(opening)
        for name in (*self._vaults, *self._others(opening)):
            try:
                in_use = keys.key_ring(installation, name).in_use
                removed = [keys.remove_opened_by(installation, name, secret.reveal()) for secret in old]
                found = tuple(key for each in removed for key in each)
                if name in self._vaults or found:
                    done.keys[name], done.removed[name] = in_use, found
                if self._key.services:
                    wrapping.drop(name, old, self._key)
            except BackupsError as error:
                done.problems[name] = error
        done.finished = not done.problems
