"""Wrap the secrets of repositories with the key services that the policy names, and see that they unwrap them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cto_backups import clock
from cto_backups.app import Opened
from cto_backups.app.repository_secret import service, unwrap
from cto_backups.errors import (
    BackupsError,
    KeyProblemError,
    KeyServiceAwayError,
    RefusedError,
    VaultError,
    VaultReadOnlyError,
)

if TYPE_CHECKING:
    from cto_backups.config.repository_key import RepositoryKey, ServiceReference
    from cto_backups.config.secrets import Secret
    from cto_backups.core.vaults import Vault
    from cto_backups.repository.envelope import Envelope, Envelopes


@dataclass(frozen=True)
class Wrapped:
    """What became of one vault and one key service; `new` when the secret was wrapped now."""

    service: str
    new: bool
    problem: BackupsError | None = None


class Wrapping:
    """The wrapped secrets of an opened installation."""

    def __init__(self, opening: Opened) -> None:
        self._opening = opening
        self._adapters = opening.adapters
        self._settings = opening.configuration.settings

    def services(self, vault_name: str) -> "Sequence[ServiceReference]":
        """The key services that are to unwrap the secret of a vault."""
        return self._settings.key_of(vault_name).services

    def check(self, vault_names: Iterable[str]) -> None:
        """Raises RefusedError when the policy names no key service for any of these vaults."""
        if not any(self.services(name) for name in vault_names):
            raise RefusedError(
                "The policy names no key service",
                why="keys: repository: has neither aws-kms: nor gcp-kms: in it; nor has the key of a vault here",
                todo="Add one to the list there, and keep what gives the secret now until it is wrapped.",
            )

    def secret_of(self, vault_name: str) -> "Secret":
        """The secret that opens a vault now. Raises what keeps it from opening."""
        self._adapters.store(vault_name)
        return self._adapters.secrets.in_use[vault_name]

    def wrap(
        self,
        vault_name: str,
        secret: "Secret",
        *,
        anew: bool = False,
        services: "Sequence[ServiceReference] | None" = None,
    ) -> tuple[Wrapped, ...]:
        """Wrap the secret for a vault with each service that has not done so, with all of them when `anew`.

        The services are the vault's, unless others are named. Each is unwrapped again before it counts. What is wrong
        with one service keeps no other from it. Raises VaultError, and what keeps the repository from opening.
        """
        services = self.services(vault_name) if services is None else services
        place = self._adapters.vault(vault_name)
        place.check()
        self._opening.installation.store(vault_name)
        repository = self._opening.installation.catalog.repository_of(vault_name)
        assert repository is not None  # noted when it is opened
        envelopes = self._adapters.secrets.envelopes(place)
        return tuple(self._wrap(repository, envelopes, reference, secret, anew) for reference in services)

    def _wrap(
        self,
        repository: str,
        envelopes: "Envelopes",
        reference: "ServiceReference",
        secret: "Secret",
        anew: bool,
    ) -> Wrapped:
        from cto_backups.flows import keys
        from cto_backups.repository.envelope import Envelope, context_of

        vault = envelopes.vault
        try:
            same = [each for each in _of(envelopes, reference, repository) if _holds(reference, each, secret)]
            in_vault = envelopes.in_vault()
            is_whole = any(_of(envelopes.there(), reference, repository))
            if same and not anew and (is_whole or same[0].name not in in_vault):  # else what is there is damaged
                if same[0].name not in in_vault or not envelopes.is_here(same[0]):
                    envelopes.put(same[0])
                return Wrapped(str(reference), new=False)
            context = context_of(vault.name, repository)
            wrapped = service(reference).wrap(secret.reveal().encode("ascii"), context)
            envelope = Envelope(str(reference), vault.name, repository, clock.now(), wrapped)
            if unwrap(reference, envelope) != secret:
                why = "the service gave back another text than it was given"
                raise KeyProblemError(f"What {reference} wrapped does not unwrap", why=why)
            envelopes.put(envelope)
            with suppress(VaultReadOnlyError):  # this host may only add: what was wrapped before is its owner's
                for former in same:
                    envelopes.remove(former)
            installation = self._opening.installation
            in_use = keys.key_ring(installation, vault.name).in_use
            keys.record(installation, vault.name, in_use, "wrapped", service=str(reference))
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            problem = KeyProblemError(f"What {reference} wrapped cannot be kept here", why=why)
            return Wrapped(str(reference), False, problem)
        except VaultError:
            raise
        except BackupsError as error:
            return Wrapped(str(reference), False, error)
        return Wrapped(str(reference), new=True)

    def distinct(self, key: "RepositoryKey", vault_names: Iterable[str]) -> "list[Secret]":
        """Every secret that the services of a key unwrap for its vaults, the newest first: two during an exchange."""
        found: list[tuple[Envelope, Secret | None]] = []
        for name in vault_names:
            envelopes = self._adapters.secrets.envelopes(self._adapters.vault(name))
            found += [each for reference in key.services for each in _unwrapped(envelopes, reference)]
        distinct: list[Secret] = []
        for _, secret in sorted(found, key=lambda pair: pair[0].created_at, reverse=True):
            if secret is not None and secret not in distinct:
                distinct.append(secret)
        return distinct

    def drop(self, vault_name: str, old: "Sequence[Secret]", *keys: "RepositoryKey") -> None:
        """Forget where services of these keys wrapped one of these for a vault, and what they unwrap no more.

        Raises VaultError, KeyProblemError.
        """
        envelopes = self._adapters.secrets.envelopes(self._adapters.vault(vault_name))
        for reference in dict.fromkeys(each for key in keys for each in key.services):
            for envelope, secret in _unwrapped(envelopes, reference):
                if secret is None or secret in old:
                    envelopes.remove(envelope)


def key_service_problems(opening: Opened) -> dict[str, str]:
    """Of each key service, what is wrong with it, or nothing: it is asked, and unwraps each vault's secret."""
    keys = opening.configuration.settings.by_key(opening.configuration.policy.vaults)
    references = tuple(dict.fromkeys(each for key in keys for each in key.services))
    if not references:
        return {}
    found = {}
    for reference in references:
        problems = _problems(reference, opening)
        found[str(reference)] = "; ".join(dict.fromkeys(problems))
    return found


def _problems(reference: "ServiceReference", opening: Opened) -> Iterator[str]:
    try:
        service(reference).check()
    except KeyServiceAwayError as error:
        yield error.why or error.what
        return  # each try of it costs seconds
    except BackupsError as error:
        yield error.why or error.what
    settings, adapters = opening.configuration.settings, opening.adapters
    for name in opening.configuration.policy.vaults:
        if reference not in settings.key_of(name).services:
            continue
        envelopes = adapters.secrets.envelopes(adapters.vault(name))
        wrapped = next(_of(envelopes, reference), None)
        if wrapped is None:
            yield f"nothing is wrapped with it for vault '{name}'"
            continue
        with suppress(VaultError):  # one that is away is told by itself
            if not any(_of(envelopes.there(), reference)):
                yield f"what is wrapped with it for vault '{name}' is not there whole: it lies on this machine alone"
        try:
            secret = unwrap(reference, wrapped)
        except BackupsError as error:
            yield error.why or error.what
            continue
        if opens(adapters.vault(name), opening.configuration.policy.vaults[name].repository, secret) is False:
            yield f"what it unwraps does not open vault '{name}'"


def opens(vault: "Vault", place: str, secret: "Secret") -> bool | None:
    """Whether a secret opens a repository; None when that is not there to be tried."""
    from cto_backups.repository.keys import open_key

    try:
        open_key(vault, place, secret.reveal())
    except KeyProblemError:
        return False
    except BackupsError:
        return None
    return True


def _of(
    envelopes: "Iterable[Envelope]", reference: "ServiceReference", repository: str | None = None
) -> "Iterator[Envelope]":
    for envelope in envelopes:
        if envelope.service == str(reference) and repository in (None, envelope.repository):
            yield envelope


def _unwrapped(
    envelopes: "Iterable[Envelope]", reference: "ServiceReference"
) -> "Iterator[tuple[Envelope, Secret | None]]":
    """What a service wrapped, with the secrets in it, the newest first.

    None for what it unwraps no more although it does what is newer: the version of its key is gone, or it is damaged.
    Raises KeyProblemError.
    """
    has_newer = False
    for envelope in _of(envelopes, reference):
        try:
            secret = unwrap(reference, envelope)
        except KeyServiceAwayError:
            raise
        except KeyProblemError:
            if not has_newer:
                raise
            yield envelope, None
            continue
        has_newer = True
        yield envelope, secret


def _holds(reference: "ServiceReference", envelope: "Envelope", secret: "Secret") -> bool:
    """Whether the service still unwraps this, and to the secret."""
    try:
        return unwrap(reference, envelope) == secret
    except KeyProblemError:
        return False
