"""How an enrolled host logs in at the vaults of its domain: by users of the store, or by what people do there."""

import hashlib
import re
import shlex
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cto_backups.core.object_locks import locking
from cto_backups.core.vaults import lock_folders

if TYPE_CHECKING:
    from cto_backups.app import Opened
    from cto_backups.core.policy import VaultPolicy
    from cto_backups.core.vaults import StoreAddress
    from cto_backups.providers.s3_users import S3Users, Statements


@dataclass(frozen=True)
class Access:
    """What the host's policy says of its login, the files with it, and what people have to do: here and there."""

    settings: Mapping[str, object]
    files: Mapping[str, str]
    here: tuple[str, ...] = ()
    there: tuple[str, ...] = ()


def told_apart(name: str, most: int) -> str:
    """A name of so many signs at most, which differs where names do: what is left out is summed up at its end."""
    if len(name) <= most:
        return name
    return f"{name[: most - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class HostAccess:
    """The login of a host at one vault of its domain."""

    def __init__(self, opening: "Opened", host: str, vault: str) -> None:
        self._policy: VaultPolicy = opening.configuration.policy.vaults[vault]
        self._opening = opening
        self._host = host
        self._vault = vault

    @property
    def user(self) -> str:
        """How the host's user of the store is called."""
        return told_apart(f"cto-backups-{self._vault}", 64)

    @property
    def needs_people(self) -> bool:
        """Whether people have to end the login."""
        from cto_backups.providers import s3_users

        asked = self._policy.url.startswith("s3:") and s3_users.can_be_asked(self._policy.provider, self._address())
        return not asked

    def let_in(self) -> Access:
        """Make the login, or a new one. Raises VaultError, KeyProblemError."""
        scheme = self._policy.url.partition(":")[0]
        if scheme == "file":
            return Access({}, {}, here=(self._folder(),))
        if scheme == "gs":
            key = f"keys/{self._vault}.json"
            there = f"Put the key file of its service account into {key}, mode 600."
            return Access({"credentials": f"file:{key}"}, {}, self._google(), (there,))
        named = {"access_key": f"keys/{self._vault}.access", "secret_key": f"keys/{self._vault}.secret"}
        settings = {setting: f"file:{path}" for setting, path in named.items()}
        if self.needs_people:
            there = f"Put the access key of its user into {named['access_key']}, and its secret into "
            there += f"{named['secret_key']}, mode 600 both."
            here = f"{self._vault}: make a user {self.user} of the store, with this policy:\n{self.rights}"
            return Access(settings, {}, (here,), (there,))
        with closing(self._users()) as users:
            access, secret = users.let_in(self.user)
        return Access(settings, {named["access_key"]: access, named["secret_key"]: secret})

    def shut_out(self) -> str | None:
        """End the login; where people have to, what they do. Raises VaultError, KeyProblemError."""
        scheme = self._policy.url.partition(":")[0]
        if scheme == "file":
            return f"{self._vault}: as root, take the folder from the host's user:\nchown -R root {self._path}"
        if scheme == "gs":
            return f"{self._vault}: delete its service account:\ngcloud iam service-accounts delete {self._account}"
        if self.needs_people:
            return f"{self._vault}: delete user {self.user} of the store, and its keys"
        with closing(self._users()) as users:
            users.shut_out(self.user)
        return None

    @property
    def rights(self) -> str:
        """The policy of the host's user, where the store speaks S3."""
        from cto_backups.providers import s3_users

        return s3_users.document(self._statements())

    def _statements(self) -> "Statements":
        from cto_backups.providers import s3_users

        address = self._address()
        return s3_users.statements(
            self._policy.provider,
            address.bucket,
            address.prefix,
            repository=self._policy.repository,
            locks=locking(self._policy) is not None,
        )

    def _users(self) -> "S3Users":
        from cto_backups.providers import s3_users

        return s3_users.users_of(self._policy.provider, self._vault, self._address(), self._statements())

    def _address(self) -> "StoreAddress":
        return self._opening.adapters.address(self._policy)

    @property
    def _path(self) -> str:
        return shlex.quote(self._policy.url.partition(":")[2])

    def _folder(self) -> str:
        return (
            f"{self._vault}: in a folder, users and modes keep hosts apart. As root, for a user and a group of this "
            f"host alone, and seal it as docs/how-to/write-only.md says:\nchown -R HOST-USER:HOST-GROUP {self._path}"
            f"\nchmod 3770 {self._path}"
        )

    @property
    def _account(self) -> str:
        # 6 to 30 small letters, digits and dashes, and the last sign is no dash.
        name = f"cto-backups-{self._vault}"
        if not re.fullmatch("[a-z0-9-]*[a-z0-9]", name):
            told = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{re.sub('[^a-z0-9-]', '-', name.lower())}-{told}"
        return f"{told_apart(name, 30)}@PROJECT.iam.gserviceaccount.com"

    def _google(self) -> tuple[str, ...]:
        place = f"{self._policy.url}/"
        locks = [f"{place}{folder}" for folder in lock_folders(self._policy.repository)]
        account = self._account
        member = f"--member=serviceAccount:{account}"
        adding, role = ["storage.objects.create", "storage.objects.get", "storage.objects.list"], "backupsAdd"
        if locking(self._policy) is not None:
            adding, role = [*adding, "storage.objects.setRetention", "storage.objects.update"], "backupsAddLocked"
        once = (
            f"gcloud iam roles create {role} --project=PROJECT --permissions={','.join(adding)}",
            "gcloud iam roles create backupsUnlock --project=PROJECT --permissions=storage.objects.delete",
        )
        commands = (
            f"gcloud iam service-accounts create {account.partition('@')[0]} --project=PROJECT",
            f"gcloud storage managed-folders create {place}",
            *(f"gcloud storage managed-folders create {folder}" for folder in locks),
            f"gcloud storage managed-folders add-iam-policy-binding {place} {member} "
            f"--role=projects/PROJECT/roles/{role}",
            *(
                f"gcloud storage managed-folders add-iam-policy-binding {folder} {member} "
                "--role=projects/PROJECT/roles/backupsUnlock"
                for folder in locks
            ),
            f"gcloud iam service-accounts keys create {self._vault}.json --iam-account={account}",
        )
        return (
            f"{self._vault}: once for all hosts, in a bucket with uniform access:\n" + "\n".join(once),
            f"{self._vault}: make a service account for this host alone:\n" + "\n".join(commands),
        )
