"""Enrol a host: make its trust domain in each vault, its login at catalog and stores, and the bundle it joins with.

Each step may be done again: after a killed run `host enrol` is run anew, and what the former one had made opens nothing
any more. The host is known to the catalog before anything lets it in.
"""

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cto_backups import clock
from cto_backups.app import Opened, ProgressFactory, opened, silent
from cto_backups.app.host_access import Access, HostAccess
from cto_backups.core.enrolment import Host, domain_url, domain_vault, is_host_name, source_of
from cto_backups.core.lanes import EVERY_HOST
from cto_backups.core.wording import not_declared
from cto_backups.errors import BackupsError, RefusedError, UsageError

if TYPE_CHECKING:
    from cto_backups.config import Configuration

_TAKEN_ALONG = (
    *("provider", "region", "storage", "off_site", "lock", "lock_for", "endpoint", "tls", "exports", "kms_key"),
    *("copies", "bandwidth", "read_part"),
)
"""What a host's policy says of a vault as the fleet's does."""
_OF_THE_DOMAIN = (
    *_TAKEN_ALONG,
    *("legal_holds", "key", "access_key", "secret_key", "credentials", "settings", "prices", "checks"),
)


@dataclass(frozen=True)
class Asked:
    """What is to be enrolled. `vaults` are those of the policy to make a domain in, `protect` folders of the host.

    `passphrase` is asked for once all else is known to be right.
    """

    host: str
    vaults: tuple[str, ...]
    protect: tuple[str, ...]
    passphrase: Callable[[], str]
    bundle: Path
    again: bool = False


@dataclass(frozen=True)
class Enrolled:
    """What was made: the host, where its repositories are, what people still do, and which vaults lack the record."""

    host: Host
    places: Mapping[str, str]
    fingerprint: str
    left: tuple[str, ...]
    problems: Mapping[str, BackupsError]


def enrol(policy: Path, asked: Asked, *, progress: ProgressFactory = silent) -> Enrolled:
    """Enrol a host. Raises UsageError, RefusedError, NotFoundError, what keeps a vault or the catalog from serving."""
    from cto_backups.catalog import database
    from cto_backups.config import edit, load

    configuration = load(policy)
    _check(configuration, asked)
    if not database.is_on_server(configuration.settings.catalog_url):
        raise RefusedError(
            "Hosts are enrolled in a fleet, whose catalog is on a server",
            why=f"this one is the file {database.place_of(configuration.settings.catalog_url)}",
            todo="Move it: docs/how-to/run-a-fleet.md says how.",
        )
    bases = _bases(configuration, asked)
    before = configuration
    for base in bases:
        configuration = _with_domain(configuration, base, asked.host)
    configuration = _with_source(configuration, asked, [domain_vault(base, asked.host) for base in bases])
    passphrase = asked.passphrase()
    if configuration is not before:
        edit.save(before, configuration)
    with opened(policy, progress=progress) as opening, opening.installation.exclusive_keys():
        return _Enrolling(opening, asked, bases, passphrase).carry_out()


def _check(configuration: "Configuration", asked: Asked) -> None:
    if not is_host_name(asked.host):
        raise UsageError(
            f"'{asked.host}' is no name of a host",
            todo="Give the name that `hostname` prints on it: letters, digits, dots and dashes.",
        )
    if configuration.policy.enrolled_as is not None:
        raise RefusedError(
            "This is the installation of an enrolled host",
            why=f"its policy says: enrolled_as: {configuration.policy.enrolled_as}",
            todo="Run it where the fleet is administered.",
        )
    if asked.bundle.exists():
        raise RefusedError(f"{asked.bundle} is there already", todo="Choose another place for the bundle.")
    if relative := [folder for folder in asked.protect if not folder.startswith("/")]:
        raise UsageError(f"{relative[0]} is not the whole path of a folder", todo="Folders of the host begin with /.")


def _bases(configuration: "Configuration", asked: Asked) -> tuple[str, ...]:
    shared = {name: vault for name, vault in configuration.policy.vaults.items() if vault.domain_of is None}
    for name in asked.vaults:
        if name not in shared:
            raise not_declared("vault", name, shared)
        if (other := shared[name].on_host) not in (None, EVERY_HOST, asked.host):
            raise RefusedError(
                f"Vault {name} is a folder of host {other}, where {asked.host} reaches nothing",
                todo=f"Choose a vault that {asked.host} reaches, such as a bucket.",
            )
    reached = tuple(name for name, vault in shared.items() if vault.on_host in (None, EVERY_HOST, asked.host))
    if not reached:
        raise RefusedError(
            f"No vault of the policy is one that {asked.host} reaches",
            why="all of them are folders of other hosts",
            todo="Add one to the policy, such as a bucket, and make it: cto.backups vault init NAME.",
        )
    return asked.vaults or reached


def _with_domain(configuration: "Configuration", base: str, host: str) -> "Configuration":
    """The policy with a host's domain in a vault; as it is where that is in it already."""
    from cto_backups.config import edit

    vault, name = configuration.policy.vaults[base], domain_vault(base, host)
    if (there := configuration.policy.vaults.get(name)) is not None:
        if there.domain_of != host or there.url != domain_url(vault.url, host):
            raise RefusedError(
                f"There is a vault named '{name}' already, and it is not the domain of host {host}",
                todo="Call it otherwise, or choose other vaults with --vault.",
            )
        return configuration
    written = _written(configuration, "vaults", base)
    given = {setting: written[setting] for setting in _OF_THE_DOMAIN if setting in written}
    return edit.with_vault(
        configuration, name, {"url": domain_url(str(written["url"]), host), **given, "domain_of": host}
    )


def _with_source(configuration: "Configuration", asked: Asked, vaults: Sequence[str]) -> "Configuration":
    """The policy with what is to be protected of the host, so that it is judged and restored here."""
    from cto_backups.config import edit

    name = source_of(asked.host)
    if not asked.protect:
        return configuration
    written = {"kind": "files", "class": "configuration", "paths": list(asked.protect), "vaults": list(vaults)}
    if name in configuration.policy.sources:
        if _written(configuration, "sources", name) == written:
            return configuration  # of a run that was killed
        raise RefusedError(
            f"There is a source named '{name}' already",
            why="what a host protects is said once, when it is enrolled first",
            todo="Leave --protect out, and change its paths in the policy.",
        )
    return edit.with_source(configuration, name, written)


def _written(configuration: "Configuration", *place: str) -> Mapping[str, Any]:
    """A part of the policy file, as people wrote it."""
    from cto_backups.config import document, reading

    root = document.parse(configuration.text.decode().removeprefix(reading.BOM)).root
    part = root.get(*place) if root else None
    found: Any = part.plain() if part is not None else {}
    assert isinstance(found, dict)
    return found


class _Enrolling:
    """One enrolment, in its order."""

    def __init__(self, opening: Opened, asked: Asked, bases: Sequence[str], passphrase: str) -> None:
        from cto_backups.catalog.postgresql import hosts as roles
        from cto_backups.catalog.postgresql.address import Address

        self._opening = opening
        self._installation = opening.installation
        self._settings = opening.configuration.settings
        self._asked = asked
        self._passphrase = passphrase
        self._domains = {domain_vault(base, asked.host): base for base in bases}
        self._roles = roles
        self._role = roles.role_of(Address.of(self._settings.catalog_url).schema, asked.host)

    def carry_out(self) -> Enrolled:
        """All of it."""
        from cto_backups.app.vaults import init_vault
        from cto_backups.config.bundle import Bundle, seal
        from cto_backups.evidence.records import SigningKey
        from cto_backups.flows import hosts, keys

        url, login = self._settings.catalog_url, self._settings.catalog_login
        book, name = self._installation.catalog.hosts, self._asked.host
        former = book.one(name)
        self._end_former(former)
        key, password = SigningKey.generate(), secrets.token_hex(24)
        for vault in self._domains:
            init_vault(self._opening, vault)
        places = self._key_places()
        secret = {place: secrets.token_hex(32) for place in ("keys/repository.key", *places.values())}
        made = [
            f"{vault}/{keys.add(self._installation, vault, secret[place], chosen=False).key}"
            for vault, place in places.items()
        ]
        host = Host(name, self._role, clock.now(), names=self._names(former, key.signer, made))
        sources = self._sources()
        seal(Bundle(name, "", {}), self._passphrase)  # before anything lets it in
        self._roles.secure(url, login)
        book.enrol(host)
        self._roles.let_in(url, self._role, password, login)
        access = {vault: HostAccess(self._opening, name, vault).let_in() for vault in self._domains}
        files = {
            **secret,
            "keys/evidence.key": key.secret(),
            "keys/catalog.password": password,
            **{path: content for each in access.values() for path, content in each.files.items()},
        }
        there = tuple(step for each in access.values() for step in each.there)
        text = self._policy_text(sources, access, places)
        _write(self._asked.bundle, seal(Bundle(name, text, files, there), self._passphrase))
        problems = hosts.record_enrolment(self._installation, host, key.fingerprint, former)
        locations = {vault: self._installation.vault(vault).location for vault in self._domains}
        return Enrolled(host, locations, key.fingerprint, tuple(s for a in access.values() for s in a.here), problems)

    def _end_former(self, former: Host | None) -> None:
        from cto_backups.flows import hosts

        if former is None:
            if self._roles.is_taken(self._settings.catalog_url, self._role, self._settings.catalog_login):
                raise RefusedError(
                    f"The catalog's server has a role {self._role} already",
                    why="it is not of a host of this fleet, or of an enrolment that was not finished",
                    todo=f"If nobody uses it: DROP ROLE {self._role}. Then run this again.",
                )
            return
        if former.standing != "enrolled" and not self._asked.again:
            raise RefusedError(
                f"Host '{former.name}' {'was revoked' if former.revoked_at else 'has joined'} already",
                why="another enrolment ends the one that it has",
                todo="If that is meant, as for a new machine in its place, say --again.",
            )
        if former.standing == "joined":
            hosts.allow_ending(self._installation, former.name)
        ended = hosts.end_keys(self._installation, former)
        for problem in ended.problems.values():
            raise problem

    def _names(self, former: Host | None, signer: str, made: Sequence[str]) -> dict[str, tuple[str, ...]]:
        own = former.names if former else {}
        policy = self._opening.configuration.policy
        sources = [name for name in policy.sources if policy.enrolled_host(name) == self._asked.host]
        if not sources:
            raise UsageError(
                f"Nothing of host {self._asked.host} is to be protected",
                todo="Name folders of it with --protect; or add a source whose vaults are "
                f"{', '.join(self._domains)} to the policy.",
            )
        vaults = dict.fromkeys((*own.get("vault", ()), *self._domains))
        return {
            "source": tuple(dict.fromkeys((*own.get("source", ()), *sources))),
            "vault": tuple(vaults),
            "signer": (signer,),
            "key": tuple(made),
        }

    def _sources(self) -> dict[str, Mapping[str, object]]:
        """What the fleet's policy says of the host's sources, for its own."""
        policy = self._opening.configuration.policy
        own = [name for name in policy.sources if policy.enrolled_host(name) == self._asked.host]
        return {name: _written(self._opening.configuration, "sources", name) for name in own}

    def _key_places(self) -> dict[str, str]:
        """Where the host has the secret of each domain: off-site ones have one each, the others share the usual one."""
        policy = self._opening.configuration.policy
        off_site = [vault for vault in self._domains if policy.vaults[vault].off_site]
        alone = off_site if len(off_site) < len(self._domains) else off_site[1:]
        return {vault: f"keys/{vault}.key" if vault in alone else "keys/repository.key" for vault in self._domains}

    def _policy_text(
        self, sources: Mapping[str, Mapping[str, object]], access: Mapping[str, Access], key_places: Mapping[str, str]
    ) -> str:
        """The host's policy: its own sources and vaults, and what the fleet's says of categories and classes."""
        from cto_backups.config import sample, writing

        policy, vaults = self._opening.configuration.policy, {}
        for vault, base in self._domains.items():
            written = _written(self._opening.configuration, "vaults", base)
            kept = {setting: written[setting] for setting in _TAKEN_ALONG if setting in written}
            vaults[vault] = {
                "url": policy.vaults[vault].url,
                **kept,
                "access": "append-only",
                **({"key": f"file:{place}"} if (place := key_places[vault]) != "keys/repository.key" else {}),
                **access[vault].settings,
            }
        text = sample.render(
            business=policy.business,
            timezone=policy.timezone,
            sources=sources,
            vaults=vaults,
            catalog=_as_role(self._settings.catalog_url, self._role),
        )
        own = f"\nenrolled_as: {writing.value(self._asked.host)}\ncatalog_password: file:keys/catalog.password\n"
        text = text.replace("\nstate: ", f"{own}state: ", 1)
        for part in ("categories", "classes"):
            if settings := _written(self._opening.configuration, part):
                text += "\n".join([f"\n{part}:", *writing.lines(settings, 2), ""])
        return text


def _as_role(url: str, role: str) -> str:
    """The catalog's address, for another role."""
    return re.sub(r"\Apostgresql://(?:[^@/?]*@)?", f"postgresql://{quote(role)}@", url, count=1)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
