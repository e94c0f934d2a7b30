"""The adapters that a policy names, each made once, when it is first asked for, or ahead on a thread."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cto_backups import registry
from cto_backups.app.repository_secret import Secrets
from cto_backups.core.policy import Access, Tls
from cto_backups.core.wording import not_declared
from cto_backups.errors import BackupsError, NotFoundError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.config.secrets import SecretReference
    from cto_backups.core.alerts import Channel
    from cto_backups.core.bandwidth import Direction
    from cto_backups.core.payloads import PayloadStore
    from cto_backups.core.policy import VaultPolicy
    from cto_backups.core.ports import Source
    from cto_backups.core.reporting import Report
    from cto_backups.core.traffic import Traffic
    from cto_backups.core.vault_settings import Settable
    from cto_backups.core.vaults import StoreAddress, Vault
    from cto_backups.core.watched import Watch
    from cto_backups.flows.check_vault import Found
    from cto_backups.repository.store import RepositoryStore
    from cto_backups.vaults.counted import Counter
    from cto_backups.vaults.pacing import Pace


@dataclass
class Adapters:
    """Makes each adapter once, when first asked for. `in_haste`: no bandwidth limits, since somebody waits for it.

    `fence` raises what stands against deleting anything in a vault.
    """

    configuration: "Configuration"
    expect_repository: Callable[[str, str], None] = lambda _vault, _repository: None
    fence: Callable[[], None] = lambda: None
    _vaults: "dict[str, Vault]" = field(default_factory=dict)
    in_haste: bool = False
    _paces: "list[tuple[str, Pace]]" = field(default_factory=list)
    _counters: "dict[str, Counter]" = field(default_factory=dict)
    _stores: "dict[str, PayloadStore]" = field(default_factory=dict)
    _ahead: "dict[str, _Opening]" = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    # Apart: who opens a repository ahead looks at vaults while somebody waits for it.
    _stores_lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.secrets = Secrets(self.configuration, self.vault)

    def source(self, name: str) -> "Source":
        """The source's adapter, a new one each time. Raises NotFoundError."""
        policy = self.configuration.policy.sources.get(name)
        if policy is None:
            raise NotFoundError(
                f"There is no source named '{name}' in the policy any more",
                todo="Recovery points of former sources are restored under the name and kind they had: add it again.",
            )
        adapter: Source = registry.load(registry.SOURCES, policy.kind)(
            name, self._completed(policy.kind, policy.options), state=self.configuration.settings.state
        )
        return adapter

    def _completed(self, kind: str, options: Mapping[str, object]) -> Mapping[str, object]:
        if kind == "files":
            return self._with_own_places(options)
        if kind == "bigquery":
            return self._with_revealed(options, "credentials")
        if kind == "command":
            return self._with_secrets(options)
        if kind == "bucket":
            return self._with_logins(options)
        if kind in ("barman", "mysql", "pgbackrest", "postgresql", "wal-g"):
            return self._with_revealed(options, "password")
        if kind == "cloudsql":
            return self._with_revealed(self._with_revealed(options, "password"), "credentials")
        return options

    def _with_revealed(self, options: Mapping[str, object], setting: str) -> Mapping[str, object]:
        """What one logs in with is looked up when somebody does."""
        reference: Any = options[setting]
        home = self.configuration.settings.home
        return {**options, setting: reference and partial(_reveal, reference, home)}

    def _with_logins(self, options: Mapping[str, object]) -> Mapping[str, object]:
        """A bucket's keys are looked up when somebody logs in; the buckets of vaults are nothing left uncovered."""
        references: Any = options["logins"]
        home = self.configuration.settings.home
        logins = {setting: partial(_reveal, reference, home) for setting, reference in references.items()}
        vaults = self.configuration.policy.vaults.values()
        own = tuple("/".join(vault.url.split("/", 3)[:3]) for vault in vaults if "://" in vault.url)
        return {**options, "logins": logins, "own": own}

    def _with_secrets(self, options: Mapping[str, object]) -> Mapping[str, object]:
        """A command's variables are looked up when it runs."""
        references = options["environment"]
        assert isinstance(references, Mapping)
        home = self.configuration.settings.home
        revealing = {name: partial(_reveal, reference, home) for name, reference in references.items()}
        return {**options, "environment": revealing}

    def _with_own_places(self, options: Mapping[str, object]) -> Mapping[str, object]:
        """A files source never captures this installation's own vaults, state, keys and catalog."""
        exclude = options.get("exclude", ())
        assert isinstance(exclude, tuple)
        return {**options, "exclude": (*exclude, *map(str, own_places(self.configuration)))}

    def vault(self, name: str) -> "Vault":
        """The vault's adapter. Raises NotFoundError."""
        with self._lock:
            if name not in self._vaults:
                policy = self.configuration.policy.vaults.get(name)
                if policy is None:
                    raise not_declared("vault", name, self.configuration.policy.vaults)
                place = local_roots(self.configuration).get(name) or self.address(policy)
                from cto_backups.vaults.fenced import FencedVault

                vault: Vault = registry.load(registry.VAULTS, policy.url.partition(":")[0])(name, place)
                vault = FencedVault(vault, lambda: self.fence())
                if "://" in policy.url:
                    from cto_backups.vaults.counted import CountedVault, Counter

                    vault = CountedVault(vault, self._counters.setdefault(name, Counter()))
                if policy.access is Access.APPEND_ONLY:
                    from cto_backups.vaults.append_only import AppendOnlyVault

                    vault = AppendOnlyVault(vault)
                if policy.bandwidth:
                    from cto_backups.vaults.throttled import ThrottledVault

                    vault = ThrottledVault(vault, self._pace(policy, "up"), self._pace(policy, "down"))
                self._vaults[name] = vault
            return self._vaults[name]

    def examine(self, name: str) -> "Found":
        """What each rule comes to in the vault now. Raises VaultError where it is not there."""
        from cto_backups.app.checking import examine

        return examine(self.configuration, self.vault(name), self.source)

    def bucket(self, name: str) -> "Settable":
        """The vault, as one whose bucket has settings. Raises RefusedError for a folder."""
        from cto_backups.app.checking import bucket_of

        return bucket_of(self.vault(name))

    def _pace(self, policy: "VaultPolicy", direction: "Direction") -> "Pace":
        from cto_backups import clock
        from cto_backups.core.bandwidth import rate_at
        from cto_backups.vaults.pacing import Pace

        zone = ZoneInfo(self.configuration.policy.timezone)
        pace = Pace(lambda: None if self.in_haste else rate_at(policy.bandwidth, direction, clock.now(), zone))
        self._paces.append((policy.name, pace))
        return pace

    def travelled(self) -> "Mapping[str, Traffic]":
        """What was asked of vaults in object stores since this was last called; nothing of those left alone."""
        seen = {name: counter.take() for name, counter in self._counters.items()}
        return {name: traffic for name, traffic in seen.items() if traffic.requests}

    def limited(self) -> Sequence[tuple[str, int]]:
        """The vaults that are waited for now by their bandwidth limits, with these, in bytes a second."""
        return [(name, pace.limit) for name, pace in self._paces if pace.limit is not None and pace.slows()]

    def address(self, policy: "VaultPolicy") -> "StoreAddress":
        """Where in an object store a vault lies; its keys are looked up when they are used."""
        from cto_backups.core.object_locks import locking
        from cto_backups.core.vaults import StoreAddress

        bucket, _, prefix = policy.url.partition("://")[2].partition("/")
        home = self.configuration.settings.home
        references: Mapping[str, Any] = policy.logins
        logins = {setting: partial(_reveal, reference, home) for setting, reference in references.items()}
        tls = policy.tls or Tls.V1_3
        return StoreAddress(
            bucket, prefix, policy.region, policy.endpoint, tls, logins, policy.kms_key, locking(policy)
        )

    def store(self, name: str) -> "PayloadStore":
        """The vault's repository and the exports beside it, opened. Raises what keeps it from opening."""
        with self._stores_lock:
            if name not in self._stores:
                ahead = self._ahead.pop(name, None)
                store = ahead.result() if ahead else open_store(self.configuration, self.vault(name), self.secrets)
                self.expect_repository(name, store.repository_id)
                from cto_backups.exports.joined import joined

                self._stores[name] = joined(store, plain=self.configuration.policy.vaults[name].plain_exports)
            return self._stores[name]

    def key_gone(self, name: str) -> "BackupsError | None":
        """Why no key opens the vault, where that is certain without asking any service or command."""
        return self.secrets.gone(name)

    def channel(self, name: str) -> "Channel":
        """The channel's adapter; its secrets are looked up when it is used. Raises NotFoundError."""
        from cto_backups.config.secrets import SecretReference

        channels = self.configuration.policy.alerts.channels
        if name not in channels:
            raise not_declared("channel", name, channels)
        home = self.configuration.settings.home
        options = {
            option: partial(_reveal, value, home) if isinstance(value, SecretReference) else value
            for option, value in channels[name].options.items()
        }
        adapter: Channel = registry.load(registry.CHANNELS, channels[name].kind)(name, options)
        return adapter

    def report(self) -> "Report":
        """The place that policy wants reports in; its secret is looked up when it is used."""
        asked = self.configuration.policy.report_to
        assert asked is not None, "policy names no place for reports"
        options = self._with_revealed(asked.options, "credentials")
        adapter: Report = registry.load(registry.REPORTS, asked.kind)(asked.name, options)
        return adapter

    def watch(self) -> "Watch":
        """A new watch for changes on this machine."""
        watch: Watch = registry.load(registry.WATCHES, "inotify")()
        return watch

    def open_ahead(self, name: str) -> None:
        """Begin to open a repository that will be asked for: a key's derivation takes long, and leaves others running.

        Whatever goes wrong is told to whoever asks for it. Only for a key in a file: the commands of other keys may ask
        a person something, one at a time and in an order that is expected.
        """
        from cto_backups.config.secrets import SecretReference

        settings = self.configuration.settings
        if not isinstance(first := settings.key_of(name).references[0], SecretReference) or not first.path(
            settings.home
        ):
            return
        try:
            vault = self.vault(name)
        except BackupsError:
            return
        # Loaded here: on the thread, loading would take turns with what is loaded meanwhile, and only then derive.
        from cto_backups.repository import store  # noqa: F401

        self._ahead[name] = _Opening(self.configuration, vault, self.secrets)

    def close(self) -> None:
        """Wait for what was begun and never asked for."""
        for ahead in self._ahead.values():
            ahead.join()


def _reveal(reference: "SecretReference", home: Path) -> str:
    return reference.resolve(home).reveal()


_HEAD_START_SECONDS = 0.05


class _Opening:
    """A repository that is being opened on a thread of its own.

    One that is far away gets a head start: its client is made in about that time, if nobody takes turns with it. All
    that is loaded meanwhile is loaded while the first answers are on their way, and the key is derived.
    """

    def __init__(self, configuration: "Configuration", vault: "Vault", secrets: Secrets) -> None:
        self._store: RepositoryStore | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(configuration, vault, secrets), name=f"open {vault.name}"
        )
        self._thread.start()
        from cto_backups.core.vaults import requests_at_once

        if requests_at_once(vault) > 1:
            self._thread.join(_HEAD_START_SECONDS)

    def _run(self, configuration: "Configuration", vault: "Vault", secrets: Secrets) -> None:
        try:
            self._store = open_store(configuration, vault, secrets)
        except BaseException as error:  # noqa: BLE001 - raised where the repository is asked for
            self._error = error

    def join(self) -> None:
        self._thread.join()

    def result(self) -> "RepositoryStore":
        """The repository. Raises what kept it from opening."""
        self.join()
        if self._error is not None:
            raise self._error
        assert self._store is not None
        return self._store


def open_store(configuration: "Configuration", vault: "Vault", secrets: Secrets) -> "RepositoryStore":
    """Open the repository in a vault, with the secret from the first place of the policy that gives one which does.

    Raises KeyProblemError, NotFoundError, VaultError, DamageError.
    """
    from cto_backups.core.vaults import requests_at_once
    from cto_backups.repository.options import RepositoryOptions
    from cto_backups.repository.store import RepositoryStore

    settings = configuration.settings
    options = RepositoryOptions(
        compression_level=settings.compression,
        verify=settings.verify_on_write,
        prune_unused=settings.prune_unused,
        prune_grace=settings.prune_grace,
        far=requests_at_once(vault) > 1,
    )
    place = configuration.policy.vaults[vault.name].repository
    return secrets.open(vault, lambda password: RepositoryStore.open(vault, place, password, options=options))


def own_places(configuration: "Configuration") -> tuple[Path, ...]:
    """The files and folders of this machine in which an installation keeps its things; not the policy file, which
    people write.
    """
    from cto_backups.config.rotation import beside

    settings = configuration.settings
    own = [settings.state]
    if (catalog := catalog_path(configuration)) is not None:
        own += (catalog.with_name(f"{catalog.name}{suffix}") for suffix in ("", "-wal", "-shm"))
    own += local_roots(configuration).values()
    references: list[Any] = [settings.evidence_key]
    for vault in configuration.policy.vaults.values():
        references += vault.logins.values()
    others = [reference.path(settings.home) for reference in references]
    secrets = [
        path for key in (settings.repository_key, *settings.vault_keys.values()) for path in key.paths(settings.home)
    ]
    for path in (*secrets, *others):
        own += [path, *beside(path)] if path else []
    return tuple(own)


def local_roots(configuration: "Configuration") -> dict[str, Path]:
    """The folders of those vaults that are folders of this machine, by the vaults' names."""
    home = configuration.settings.home
    return {
        name: home / Path(path).expanduser()
        for name, vault in configuration.policy.vaults.items()
        for scheme, _, path in (vault.url.partition(":"),)
        if scheme == "file"
    }


def catalog_path(configuration: "Configuration") -> Path | None:
    """The catalog's file; None where it is on a server."""
    scheme, _, path = configuration.settings.catalog_url.partition(":")
    return Path(path) if scheme == "sqlite" else None
