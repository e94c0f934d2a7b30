"""Where the repositories' secret is: in one place or in several, each of which gives the same secret.

Beside plain references (`config.secrets`) it may be wrapped by a cloud's key service: ``aws-kms:ARN`` and
``gcp-kms:projects/…/cryptoKeys/…`` name the key that unwraps it. The wrapped secret itself lies beside each repository.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cto_backups.config.secrets import Secret, SecretReference
from cto_backups.errors import KeyProblemError

_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}")
_GOOGLE = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}")


class ServiceKind(StrEnum):
    """Whose key service."""

    AWS = "aws-kms"
    GOOGLE = "gcp-kms"


_SHAPES = {
    ServiceKind.AWS: (_ARN, "arn:aws:kms:REGION:ACCOUNT:key/ID, or its alias/NAME"),
    ServiceKind.GOOGLE: (_GOOGLE, "projects/PROJECT/locations/PLACE/keyRings/RING/cryptoKeys/KEY"),
}


@dataclass(frozen=True, slots=True)
class ServiceReference:
    """A key in a key service; printable. `key` is its full name there."""

    kind: ServiceKind
    key: str

    @classmethod
    def parse(cls, text: str) -> "ServiceReference | None":
        """Read ``aws-kms:ARN`` or ``gcp-kms:NAME``; None for what is of another kind. Raises KeyProblemError."""
        prefix, colon, key = text.partition(":")
        kind = next((kind for kind in ServiceKind if colon and prefix.strip() == kind.value), None)
        if kind is None:
            return None
        shape, written = _SHAPES[kind]
        if not shape.fullmatch(key.strip()):
            raise KeyProblemError(
                f"The reference {kind.value}: does not name a key in full",
                why=f"such a name is written {written}",
                todo=f"Write {kind.value}: and the name that its console shows, without a version.",
            )
        return cls(kind, key.strip())

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.key}"


KeyReference = SecretReference | ServiceReference


def parse_key_reference(text: str) -> KeyReference:
    """A reference of either sort. Raises KeyProblemError, which does not repeat the text."""
    return ServiceReference.parse(text) or SecretReference.parse(text)


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """Every place that gives the secret, in the order in which they are asked; any one is enough."""

    references: tuple[KeyReference, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.references))

    @property
    def plain(self) -> tuple[SecretReference, ...]:
        """The places that hold the secret itself."""
        return tuple(each for each in self.references if isinstance(each, SecretReference))

    @property
    def services(self) -> tuple[ServiceReference, ...]:
        """The key services that unwrap it."""
        return tuple(each for each in self.references if isinstance(each, ServiceReference))

    def paths(self, home: Path) -> tuple[Path, ...]:
        """The files that hold it."""
        return tuple(path for each in self.plain if (path := each.path(home)) is not None)

    def resolve(self, home: Path) -> Secret:
        """The secret, from the first place that holds it itself. Raises KeyProblemError when none gives it."""
        problems: list[KeyProblemError] = []
        for reference in self.plain:
            try:
                return reference.resolve(home)
            except KeyProblemError as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        raise KeyProblemError(
            "No place gives the repositories' secret",
            why="; ".join(map(str, problems)) or "the policy names key services alone, and nothing is wrapped yet",
            todo="Put one of them right, or add a place that has the secret under keys: repository: in the policy.",
        )
