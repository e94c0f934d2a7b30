"""Hosts that have a trust domain of their own, and how what belongs to one is called; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cto_backups.core.wording import listed

FOLDER = "hosts"
"""Below which the domains of hosts lie in a vault."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Host:
    """A host that was enrolled. `names` are those that belong to it, by kind: sources, vaults, signers, keys."""

    name: str
    role: str
    enrolled_at: datetime
    joined_at: datetime | None = None
    revoked_at: datetime | None = None
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def standing(self) -> str:
        """What has become of it, in a word."""
        return "revoked" if self.revoked_at else "joined" if self.joined_at else "enrolled"

    @property
    def left(self) -> tuple[str, ...]:
        """The vaults at which people have to end its login since it was revoked."""
        return tuple(step.partition("/")[2] for step in self.names.get("left", ()))

    @property
    def unended(self) -> tuple[str, ...]:
        """Where its revocation has not come, or failed: vaults, or "catalog"; it is to be run again."""
        return tuple(place.partition("/")[2] for place in self.names.get("unended", ()))

    @property
    def half_revoked(self) -> str | None:
        """What its revocation has left undone, in a sentence; None: nothing."""
        told = []
        if self.unended:
            told.append(f"its revocation was not finished at {listed(self.unended)}: run it again")
        if self.left:
            told.append(f"nobody has said that its login at {listed(self.left)} is ended")
        return f"host {self.name} may still get in: {'; '.join(told)}" if told else None


def is_host_name(name: str) -> bool:
    """Whether a host may be called so: as systems call themselves."""
    return _NAME.fullmatch(name) is not None


def domain_vault(vault: str, host: str) -> str:
    """How a host's domain in a vault is called."""
    return f"{vault}-{host.lower().replace('.', '-')}"


def domain_url(url: str, host: str) -> str:
    """Where a host's domain in a vault is."""
    return f"{url.rstrip('/')}/{FOLDER}/{host}"


def source_of(host: str) -> str:
    """How the source is called that a host's folders are, when it is enrolled."""
    return f"{host.lower().replace('.', '-')}-files"
