"""Find the secret that opens a repository: from whichever of the places that the policy names gives it first."""

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from cto_backups import registry
from cto_backups.errors import BackupsError, DamageError, KeyProblemError, KeyServiceAwayError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.config.repository_key import ServiceReference
    from cto_backups.config.secrets import Secret, SecretReference
    from cto_backups.core.keys import KeyService
    from cto_backups.core.vaults import Vault
    from cto_backups.repository.envelope import Envelope, Envelopes
    from cto_backups.repository.store import RepositoryStore


@cache
def _service(kind: str, key: str) -> "KeyService":
    service: KeyService = registry.load(registry.KEY_SERVICES, kind)(key)
    return service


def service(reference: "ServiceReference") -> "KeyService":
    """The key service that a reference means, made once. Raises PolicyError when what it needs is not installed."""
    return _service(reference.kind.value, reference.key)


def unwrap(reference: "ServiceReference", envelope: "Envelope") -> "Secret":
    """The secret in an envelope. Raises KeyProblemError, PolicyError."""
    from cto_backups.config.secrets import Secret

    opened = service(reference).unwrap(envelope.wrapped, envelope.context)
    try:
        return Secret(opened.decode("ascii"))
    except UnicodeDecodeError:
        raise KeyProblemError(f"What {reference} unwraps is no secret", why="it is not text") from None


class RepositorySecret:
    """The one secret of all vaults. What opened one is tried first: a command may ask a person, and services cost."""

    def __init__(self, configuration: "Configuration", vaults: "Callable[[str], Vault]") -> None:
        self._configuration = configuration
        self._vaults = vaults
        self._answers: dict[object, Secret | BackupsError] = {}
        self._known: Secret | None = None
        self._lock = threading.RLock()

    def open(self, vault: "Vault", opening: "Callable[[str], RepositoryStore]") -> "RepositoryStore":
        """The repository in a vault, opened with the first secret that does. Raises what keeps it from opening."""
        problems: list[BackupsError] = []
        with self._lock:
            tried: list[Secret] = []
            for secret, envelope in self._candidates(vault, problems):
                if secret in tried:
                    continue
                tried.append(secret)
                try:
                    store = opening(secret.reveal())
                except KeyProblemError as error:
                    problems.append(error)
                    continue
                if envelope is not None and envelope.repository != store.repository_id:
                    raise DamageError(
                        f"The wrapped secret in vault '{vault.name}' is of another repository",
                        why=f"it was wrapped for {envelope.repository[:12]}…, and here is {store.repository_id[:12]}…",
                        todo="Find out who changed the vault; then run: cto.backups key wrap",
                    )
                self._known = secret
                return store
        raise self._none_opens(vault, problems)

    def any(self) -> "Secret":
        """The secret: what opened a repository before, or the first that is given. Raises KeyProblemError."""
        with self._lock:
            if self._known is not None:
                return self._known
            settings = self._configuration.settings
            key = settings.repository_key
            if key.plain or not key.services:
                try:
                    return key.resolve(settings.home)
                except KeyProblemError:
                    if not key.services:
                        raise
            problems: list[BackupsError] = []
            first = next(iter(self._configuration.policy.vaults), None)
            for secret, _ in self._candidates(self._vaults(first), problems) if first else ():
                return secret
            raise _gathered("No place gives the repositories' secret", problems)

    def envelopes(self, vault: "Vault") -> "Envelopes":
        """The wrapped secrets of a vault."""
        from cto_backups.repository.envelope import Envelopes

        return Envelopes(vault, self._configuration.settings.state)

    def _candidates(self, vault: "Vault", problems: list[BackupsError]) -> "Iterator[tuple[Secret, Envelope | None]]":
        from cto_backups.config.secrets import SecretReference

        if self._known is not None:
            yield self._known, None
        for reference in self._configuration.settings.repository_key.references:
            if isinstance(reference, SecretReference):
                answer = self._asked(reference)
                if isinstance(answer, BackupsError):
                    problems.append(answer)
                else:
                    yield answer, None
                continue
            wrapped = [envelope for envelope in self.envelopes(vault) if envelope.service == str(reference)]
            if not wrapped:
                problems.append(_not_wrapped(reference, vault))
            for envelope in wrapped:
                answer = self._unwrapped(reference, envelope)
                if isinstance(answer, BackupsError):
                    problems.append(answer)
                else:
                    yield answer, envelope
                if isinstance(answer, KeyServiceAwayError):
                    break
        yield from self._of_other_vaults(vault)

    def _of_other_vaults(self, vault: "Vault") -> "Iterator[tuple[Secret, Envelope | None]]":
        """What is wrapped for the other vaults: there is one secret for all, and one of them may have lost its own."""
        for reference in self._configuration.settings.repository_key.services:
            for name in self._configuration.policy.vaults:
                for envelope in self.envelopes(self._vaults(name)) if name != vault.name else ():
                    if envelope.service != str(reference):
                        continue
                    answer = self._unwrapped(reference, envelope)
                    if not isinstance(answer, BackupsError):
                        yield answer, None

    def _asked(self, reference: "SecretReference") -> "Secret | BackupsError":
        try:
            return reference.resolve(self._configuration.settings.home)
        except KeyProblemError as error:
            return error

    def _unwrapped(self, reference: "ServiceReference", envelope: "Envelope") -> "Secret | BackupsError":
        if isinstance(away := self._answers.get(reference), KeyServiceAwayError):
            return away
        if envelope not in self._answers:
            try:
                self._answers[envelope] = unwrap(reference, envelope)
            except BackupsError as error:
                self._answers[envelope] = error
                if isinstance(error, KeyServiceAwayError):
                    self._answers[reference] = error  # each try of it costs seconds
        return self._answers[envelope]

    def _none_opens(self, vault: "Vault", problems: list[BackupsError]) -> BackupsError:
        return _gathered(f"No place gives a secret that opens vault '{vault.name}'", problems)


def _gathered(what: str, problems: list[BackupsError]) -> BackupsError:
    if len(problems) == 1:
        return problems[0]
    return KeyProblemError(
        what,
        why="; ".join(f"{problem.what}: {problem.why}" if problem.why else problem.what for problem in problems),
        todo="Put one of them right. With the word shares of enough custodians: cto.backups key drill --help",
    )


def _not_wrapped(reference: "ServiceReference", vault: "Vault") -> KeyProblemError:
    return KeyProblemError(
        f"Nothing is wrapped with {reference} for vault '{vault.name}'",
        why="no such file lies in the vault, or here",
        todo="While another place still gives the secret, run: cto.backups key wrap",
    )
