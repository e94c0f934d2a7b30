"""Find the secrets that open repositories: each from whichever of the places that the policy names gives it first."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import clock, registry
from cto_backups.errors import BackupsError, DamageError, KeyProblemError, KeyServiceAwayError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.config.repository_key import RepositoryKey, ServiceReference
    from cto_backups.config.secrets import Secret, SecretReference
    from cto_backups.core.keys import KeyService
    from cto_backups.core.vaults import Vault
    from cto_backups.repository.envelope import Envelope, Envelopes
    from cto_backups.repository.store import RepositoryStore

REMEMBERED_SECONDS = 60.0
"""For how long a service that failed is not asked again: each try may cost seconds, and a worker runs for months."""


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


class Secrets:
    """The secrets that open the vaults of a policy: one that most share, and those of vaults with a key of their own.

    `in_use` is what opened each vault that was opened; `by_shared` are those of them that have a key of their own in
    the policy, and opened with the shared one.
    """

    def __init__(self, configuration: "Configuration", vaults: "Callable[[str], Vault]") -> None:
        self._configuration = configuration
        self._places = _Places(configuration, vaults)
        self._made: dict[RepositoryKey, RepositorySecret] = {}
        self._lock = self._places.lock
        self.in_use: dict[str, Secret] = {}
        self.by_shared: set[str] = set()

    @property
    def shared(self) -> "RepositorySecret":
        """The one under ``keys: repository:``."""
        return self._secret(self._configuration.settings.repository_key)

    def of(self, vault: str) -> "RepositorySecret":
        """The one that a vault is to be opened with."""
        return self._secret(self._configuration.settings.key_of(vault))

    def open(self, vault: "Vault", opening: "Callable[[str], RepositoryStore]") -> "RepositoryStore":
        """The repository in a vault, opened with the first secret that does. Raises what keeps it from opening.

        A vault that got a key of its own in the policy opens with the shared secret until `key separate` was run.
        """
        problems: list[BackupsError] = []
        with self._lock:
            own, shared = self.of(vault.name), self.shared
            tried: list[Secret] = []
            for secret in (own,) if own is shared else (own, shared):
                store = secret.open(vault, opening, tried, problems)
                if store is not None:
                    self.in_use[vault.name] = secret.any()
                    if secret is not own:
                        self.by_shared.add(vault.name)
                    return store
            self._places.ask_again()
        raise _gathered(f"No place gives a secret that opens vault '{vault.name}'", problems)

    def gone(self, vault: str) -> KeyProblemError | None:
        """What is wrong where every place of the secrets that open a vault is a file, and none of these is there.

        Nothing else is asked: services and commands cost, and what only the worker's environment has is not missing.
        """
        settings = self._configuration.settings
        own = settings.key_of(vault)
        for key in (own, settings.repository_key):
            files = key.paths(settings.home)
            if len(files) < len(key.references) or not all(map(_is_missing, files)):
                return None
        try:
            own.resolve(settings.home)
        except KeyProblemError as error:
            return error
        return None

    def envelopes(self, vault: "Vault") -> "Envelopes":
        """The wrapped secrets of a vault."""
        return self._places.envelopes(vault)

    def _secret(self, key: "RepositoryKey") -> "RepositorySecret":
        with self._lock:
            if key not in self._made:
                vaults = self._configuration.settings.by_key(self._configuration.policy.vaults).get(key, [])
                self._made[key] = RepositorySecret(key, tuple(vaults), self._places)
            return self._made[key]


def _is_missing(path: Path) -> bool:
    """Whether there certainly is no such file. Who may not look does not know."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


class _Places:
    """The places of all secrets of a policy. A person whom a command asks is asked once, and services cost."""

    def __init__(self, configuration: "Configuration", vaults: "Callable[[str], Vault]") -> None:
        self.home, self._state, self.vault = configuration.settings.home, configuration.settings.state, vaults
        self._answers: dict[object, Secret] = {}
        self._failures: dict[object, tuple[float, BackupsError]] = {}
        self.lock = threading.RLock()

    def envelopes(self, vault: "Vault") -> "Envelopes":
        from cto_backups.repository.envelope import Envelopes

        return Envelopes(vault, self._state)

    def asked(self, reference: "SecretReference") -> "Secret | BackupsError":
        if (known := self._answers.get(reference)) is not None:
            return known
        try:
            secret = reference.resolve(self.home)
        except KeyProblemError as error:
            return error
        if reference.kind == "command":
            self._answers[reference] = secret
        return secret

    def ask_again(self) -> None:
        """What commands said opened nothing: they may say something else next time."""
        from cto_backups.config.secrets import SecretReference

        self._answers = {
            asked: found for asked, found in self._answers.items() if not isinstance(asked, SecretReference)
        }

    def unwrapped(self, reference: "ServiceReference", envelope: "Envelope") -> "Secret | BackupsError":
        if (known := self._answers.get(envelope)) is not None:
            return known
        for asked in (reference, envelope):
            at, error = self._failures.get(asked, (float("-inf"), None))
            if error is not None and clock.monotonic() - at <= REMEMBERED_SECONDS:
                return error
        try:
            secret = unwrap(reference, envelope)
        except BackupsError as failure:
            away = isinstance(failure, KeyServiceAwayError)
            self._failures[reference if away else envelope] = clock.monotonic(), failure
            return failure
        self._answers[envelope] = secret
        return secret


class RepositorySecret:
    """One secret, and the vaults that it is to open. What opened one of them is tried first."""

    def __init__(self, key: "RepositoryKey", vaults: "Sequence[str]", places: _Places) -> None:
        self.key = key
        self._vaults = vaults
        self._places = places
        self._known: Secret | None = None

    def open(
        self,
        vault: "Vault",
        opening: "Callable[[str], RepositoryStore]",
        tried: "list[Secret]",
        problems: list[BackupsError],
    ) -> "RepositoryStore | None":
        """The repository in a vault; None when this does not open it, which is noted. Raises what else is wrong."""
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
        return None

    def any(self) -> "Secret":
        """The secret: what opened a repository before, or the first that is given. Raises KeyProblemError."""
        with self._places.lock:
            if self._known is not None:
                return self._known
            problems: list[BackupsError] = []
            for reference in self.key.plain:
                answer = self._places.asked(reference)
                if not isinstance(answer, BackupsError):
                    return answer
                problems.append(answer)
            first = next(iter(self._vaults), None)
            if first is not None and self.key.services:
                problems.clear()
                for secret, _ in self._candidates(self._places.vault(first), problems):
                    return secret
            raise _gathered("No place gives the repositories' secret", problems)

    def given(self, vault: "Vault") -> "list[Secret]":
        """Every secret that its places give for a vault now. Raises KeyProblemError when none does."""
        with self._places.lock:
            problems: list[BackupsError] = []
            found: list[Secret] = []
            for secret, _ in self._candidates(vault, problems):
                if secret not in found:
                    found.append(secret)
            if not found:
                raise _gathered(f"No place gives the secret {self.key}", problems)
            return found

    def _candidates(self, vault: "Vault", problems: list[BackupsError]) -> "Iterator[tuple[Secret, Envelope | None]]":
        from cto_backups.config.secrets import SecretReference

        if self._known is not None:
            yield self._known, None
        for reference in self.key.references:
            if isinstance(reference, SecretReference):
                answer = self._places.asked(reference)
                if isinstance(answer, BackupsError):
                    problems.append(answer)
                else:
                    yield answer, None
                continue
            wrapped = [envelope for envelope in self._places.envelopes(vault) if envelope.service == str(reference)]
            if not wrapped:
                problems.append(_not_wrapped(reference, vault))
            for envelope in wrapped:
                answer = self._places.unwrapped(reference, envelope)
                if isinstance(answer, BackupsError):
                    problems.append(answer)
                else:
                    yield answer, envelope
                if isinstance(answer, KeyServiceAwayError):
                    break
        yield from self._of_other_vaults(vault)

    def _of_other_vaults(self, vault: "Vault") -> "Iterator[tuple[Secret, Envelope | None]]":
        """What is wrapped for the other vaults that it opens: one of them may have lost its own."""
        for reference in self.key.services:
            for name in self._vaults:
                for envelope in self._places.envelopes(self._places.vault(name)) if name != vault.name else ():
                    if envelope.service != str(reference):
                        continue
                    answer = self._places.unwrapped(reference, envelope)
                    if not isinstance(answer, BackupsError):
                        yield answer, None


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
