"""What goes wrong with a vault in a bucket, told to people; the stores' own refusals are told in a module for each."""

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TypeVar

from cto_backups.config.redaction import redact
from cto_backups.core.objects import ObjectState
from cto_backups.core.vaults import StoreAddress
from cto_backups.core.wording import LISTING_GOES_ON, NO_SUCH_STORE
from cto_backups.errors import (
    KeyProblemError,
    NotCopiedError,
    VaultError,
    VaultExistsError,
    VaultLockedError,
    VaultMissingError,
)

_Kind = TypeVar("_Kind", bound=VaultError)


class Wording(ABC):
    """Words for what fails in one vault; no secret in any of them."""

    def __init__(self, name: str, location: str, address: StoreAddress) -> None:
        self._name = name
        self._location = location
        self._address = address

    @abstractmethod
    def making_the_bucket(self) -> str:
        """The command that makes the bucket, seen by nobody else."""

    def absent(self, why: str) -> VaultMissingError:
        """The bucket is there, and no vault in it."""
        return VaultMissingError(
            f"Vault {self._name} is not at {self._location}",
            why=why,
            todo="Correct the vault's url in the policy, or see who removed it. "
            f"A vault that is new is made by: cto.backups vault init {self._name}",
        )

    def no_bucket(self) -> VaultMissingError:
        """The bucket is not there."""
        return VaultMissingError(
            f"Vault {self._name} is not at {self._location}",
            why=f"there is no bucket {self._address.bucket}",
            todo=f"If it is new, make it: {self.making_the_bucket()}. If it was there, see who deleted it.",
        )

    def missing(self, key: str) -> VaultMissingError:
        """The vault is there, and has no such file."""
        return VaultMissingError(
            f"Vault {self._name} has no {key}",
            why=f"there is no such object in {self._location}",
            todo="Verify this vault; if the file should be there, it has lost data.",
        )

    def exists(self, key: str) -> VaultExistsError:
        """There is a file under that key already."""
        return VaultExistsError(
            f"Vault {self._name} holds {key} already",
            why="stored files are never rewritten in passing",
            todo="Nothing, unless the two differ: then find out who else writes to this vault.",
        )

    def contradicted(self, key: str) -> VaultError:
        """A file was not stored because it is there, and it is not there."""
        return VaultError(
            f"Vault {self._name} did not store {key}",
            why=f"{self._location} said that there is such an object, and then that there is none",
            todo="Run again; if it stays, see who else writes there, and what stands between here and the store.",
        )

    def short(self, key: str, offset: int, wanted: int, there: int) -> VaultError:
        """A file has fewer bytes than were asked for."""
        return VaultError(
            f"Vault {self._name}: {key} is shorter than it should be",
            why=f"{wanted} bytes from {offset} were asked for, {there} are there",
            todo="Verify this vault; it has lost data.",
        )

    def torn(self, key: str, why: str) -> VaultError:
        """An answer ended before its end, again and again."""
        return VaultError(
            f"Vault {self._name} at {self._location} cannot read {key}",
            why=f"the answer was cut short each time: {redact(why)}",
            todo="See to the network between here and the store, then run again.",
        )

    def otherwise(self, key: str, why: str) -> VaultError:
        """What was stored is not what was sent."""
        return VaultError(
            f"Vault {self._name} at {self._location} cannot store {key}",
            why=why,
            todo="Run again; if it happens again, the way there or the store damages data.",
        )

    def otherwise_encrypted(self, key: str, told: str, wanted: str) -> VaultError:
        """It is stored, under another key than the policy's."""
        return VaultError(
            f"Vault {self._name} at {self._location} does not encrypt {key} as the policy says",
            why=f"it is encrypted under {told or 'no key of a key service'}, not under {wanted}",
            todo="Look at the kms_key of this vault, the store's default key, and who may use either.",
        )

    def no_key(self, error: KeyProblemError) -> VaultError:
        """What the policy refers to for logging in is not there: other vaults are no worse for it."""
        return VaultError(
            f"Vault {self._name} at {self._location} cannot be logged in to", why=redact(str(error)), todo=error.todo
        )

    def heedless(self, condition: str) -> VaultError:
        """The store lets two writers replace each other's files."""
        return VaultError(
            f"Vault {self._name} at {self._location} cannot be used",
            why=f"its store takes no notice of {condition}: two writers could replace each other's files unnoticed",
            todo="Take a store, or a newer version of it, that has conditional writes.",
        )

    def not_copied(self, state: ObjectState, why: str, right: str = "") -> NotCopiedError:
        """The provider does not copy an object; `right` is what the vault's login lacks, where that is told."""
        todo = "Nothing: what is not copied there is sent from here."
        if right:
            why = f"{why}: the login of vault {self._name} may not {right}"
            todo = f"Allow it {right}; docs/how-to/protect-a-bucket.md has the role. Until then it is sent from here."
        error = NotCopiedError(
            f"Vault {self._name} at {self._location} cannot have {state.place} copied by the provider",
            why=redact(why),
            todo=todo,
        )
        error.lasting = bool(right)
        return error

    def other_range(self, key: str) -> VaultError:
        """What came is not the range that was asked for."""
        return VaultError(
            f"Vault {self._name} at {self._location} cannot read {key}",
            why="its store answers with another part than it was asked for",
            todo="See what stands between here and the store: it does not know ranges.",
        )

    def locked(self, key: str, until: datetime) -> VaultLockedError:
        """A file is not deleted, since its lock stands."""
        error = VaultLockedError(
            f"Vault {self._name} at {self._location} keeps {key}",
            why=f"it is locked until {shown(until)}",
            todo="Nothing: once nothing needs it, its lock is not renewed, and it goes after that.",
        )
        error.until = until
        return error

    def held(self, key: str, looked_at: datetime) -> VaultLockedError:
        """A file is not deleted, since the store's own hold is on it."""
        error = VaultLockedError(
            f"Vault {self._name} at {self._location} keeps {key}",
            why="a legal hold is on it",
            todo="Nothing: the next run that looks at the locks takes off a hold that nothing needs any more.",
        )
        error.until = looked_at
        return error

    def in_circles(self, folder: str) -> VaultError:
        """A listing has no end."""
        return VaultError(
            self._cannot("list", folder.rstrip("/")),
            why="its store gives the same page of the listing again and again",
            todo=NO_SUCH_STORE,
        )

    def cut_short(self, folder: str) -> VaultError:
        """A listing goes on, and nobody knows how: what was told of it is not the whole."""
        return VaultError(
            self._cannot("list", folder.rstrip("/")),
            why=LISTING_GOES_ON,
            todo=NO_SUCH_STORE,
        )

    @staticmethod
    def calmed(todo: str) -> str:
        """What to do, with what is asked first where it says to wait: how it is with the copies that there are."""
        return todo.replace("Run again later", "Run again later (what was stored before is intact)", 1)

    @staticmethod
    def of(kind: type[_Kind], error: VaultError) -> _Kind:
        """The same words as an error of another kind."""
        return kind(error.what, why=error.why, todo=error.todo)

    def _cannot(self, doing: str, key: str) -> str:
        return f"Vault {self._name} at {self._location} cannot {doing} {key}".rstrip()


def shown(moment: datetime) -> str:
    """A moment, for people."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
