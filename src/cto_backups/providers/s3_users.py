"""Users of stores that speak S3: each may add below one prefix of a bucket, read and list there, and nothing else.

AWS is asked by IAM. versitygw has users by an API of its own, and policies of buckets say what they may. What other
stores do differs: there the rights are told, and people make the user.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from xml.sax.saxutils import escape

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.core.vaults import StoreAddress, lock_folders
from cto_backups.errors import VaultError
from cto_backups.providers import aws

Statements = Sequence[Mapping[str, Any]]

# Parts of an upload create no object: what puts them together does, and has to say it.
_OVERWRITING = {
    "Action": "s3:PutObject",
    "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
}


class S3Users(Protocol):
    """The users of one store."""

    def let_in(self, user: str) -> tuple[str, str]:
        """Make a user, or give the one that is there a new key and take the others; its access key and its secret."""
        ...

    def shut_out(self, user: str) -> None:
        """End what a user may do, and its keys; fine when there is none."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def statements(provider: str, bucket: str, prefix: str, *, repository: str, locks: bool) -> Statements:
    """What one who only adds may do: IAM's statements for a vault below a prefix, as a provider understands them.

    Unfinished uploads can be listed of a whole bucket alone, so a host lists none: the bucket's owner removes them.
    AWS is told to refuse what does not say that it replaces nothing; other stores may refuse such a statement.
    """
    within = f"arn:aws:s3:::{bucket}/{prefix}/*"
    adding = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    if locks:
        adding += ["s3:PutObjectRetention", "s3:GetObjectRetention"]
    return (
        {
            "Sid": "List",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
            "Condition": {"StringLike": {"s3:prefix": [f"{prefix}/*"]}},
        },
        {"Sid": "Add", "Effect": "Allow", "Action": adding, "Resource": within},
        *([{"Sid": "Overwrite", "Effect": "Deny", **_OVERWRITING, "Resource": within}] if provider == "aws" else []),
        {
            "Sid": "Unlock",
            "Effect": "Allow",
            "Action": "s3:DeleteObject",
            "Resource": [f"arn:aws:s3:::{bucket}/{prefix}/{folder}*" for folder in lock_folders(repository)],
        },
    )


def document(given: Statements) -> str:
    """A policy document of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(given)}, indent=2)


def can_be_asked(provider: str, address: StoreAddress) -> bool:
    """Whether the store of a provider makes users on request."""
    return provider == "aws" or (provider == "versitygw" and address.endpoint is not None)


def users_of(provider: str, vault: str, address: StoreAddress, given: Statements) -> S3Users:
    """The users of a store that can be asked, who may do what these statements say."""
    assert can_be_asked(provider, address)
    return IamUsers(vault, address, given) if provider == "aws" else GatewayUsers(vault, address, given)


class IamUsers:
    """Users of AWS, each with one policy and one key."""

    _POLICY = "cto-backups"

    def __init__(self, vault: str, address: StoreAddress, given: Statements) -> None:
        self._vault = vault
        self._document = document(given)
        self._client = aws.iam_client(f"vault {vault}", VaultError, address)

    def let_in(self, user: str) -> tuple[str, str]:
        """See `S3Users`."""
        try:
            try:
                self._client.create_user(UserName=user)
            except self._client.exceptions.EntityAlreadyExistsException:
                self._end_keys(user)
            self._client.put_user_policy(UserName=user, PolicyName=self._POLICY, PolicyDocument=self._document)
            made = self._client.create_access_key(UserName=user)["AccessKey"]
        except (ClientError, BotoCoreError) as error:
            raise _failed(self._vault, f"User {user} of AWS cannot be made", error) from None
        return str(made["AccessKeyId"]), str(made["SecretAccessKey"])

    def shut_out(self, user: str) -> None:
        """See `S3Users`."""
        gone = self._client.exceptions.NoSuchEntityException
        try:
            try:
                self._end_keys(user)
                for name in self._client.list_user_policies(UserName=user)["PolicyNames"]:
                    self._client.delete_user_policy(UserName=user, PolicyName=name)
                self._client.delete_user(UserName=user)
            except gone:
                return
        except (ClientError, BotoCoreError) as error:
            raise _failed(self._vault, f"User {user} of AWS cannot be ended", error) from None

    def close(self) -> None:
        """See `S3Users`."""
        self._client.close()

    def _end_keys(self, user: str) -> None:
        for key in self._client.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            self._client.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])


class GatewayUsers:
    """Users of versitygw, whose access key is their name; the bucket's policy has statements for each."""

    def __init__(self, vault: str, address: StoreAddress, given: Statements) -> None:
        self._vault = vault
        self._address = address
        self._given = given
        self._client = aws.s3_client(f"vault {vault}", VaultError, address)

    def let_in(self, user: str) -> tuple[str, str]:
        """See `S3Users`."""
        self.shut_out(user)
        secret = secrets.token_hex(20)
        account = f"<Account><Access>{escape(user)}</Access><Secret>{secret}</Secret><Role>user</Role></Account>"
        self._ask(f"User {user} of versitygw cannot be made", "/create-user", account.encode())
        mine = [
            {**statement, "Sid": self._sid(user) + statement["Sid"], "Principal": {"AWS": [user]}}
            for statement in self._given
        ]
        self._rule([*self._others(user), *mine])
        return user, secret

    def shut_out(self, user: str) -> None:
        """See `S3Users`. The user goes first: with it goes every session."""
        self._ask(f"User {user} of versitygw cannot be ended", f"/delete-user?access={user}", absent_is_fine=True)
        before = self._policy()
        if (others := self._others(user)) != before:
            self._rule(others)

    def close(self) -> None:
        """See `S3Users`."""
        self._client.close()

    def _ask(self, what: str, path: str, body: bytes = b"", *, absent_is_fine: bool = False) -> None:
        try:
            status, answer = aws.sent_signed(self._address, "PATCH", path, body)
        except BotoCoreError as error:
            raise _failed(self._vault, what, error) from None
        if status < 300 or (absent_is_fine and b"AdminUserNotFound" in answer):
            return
        said = re.search(rb"<Message>(.*?)</Message>", answer)
        raise VaultError(
            what,
            why=said[1].decode(errors="replace") if said else f"it answered {status}",
            todo=f"The login at vault {self._vault} has to be one that administers the gateway.",
        )

    def _policy(self) -> list[Mapping[str, Any]]:
        try:
            text = self._client.get_bucket_policy(Bucket=self._address.bucket)["Policy"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchBucketPolicy":
                return []
            raise _failed(self._vault, f"The policy of bucket {self._address.bucket} cannot be read", error) from None
        return list(json.loads(text)["Statement"])

    def _others(self, user: str) -> list[Mapping[str, Any]]:
        return [each for each in self._policy() if not str(each.get("Sid", "")).startswith(self._sid(user))]

    def _rule(self, rules: Statements) -> None:
        try:
            if rules:
                text = document(rules)
                self._client.put_bucket_policy(Bucket=self._address.bucket, Policy=text)
            else:
                self._client.delete_bucket_policy(Bucket=self._address.bucket)
        except (ClientError, BotoCoreError) as error:
            raise _failed(self._vault, f"The policy of bucket {self._address.bucket} cannot be set", error) from None

    @staticmethod
    def _sid(user: str) -> str:
        """How the names of a user's statements begin; none is the beginning of another user's."""
        return "CtoBackups" + user.encode().hex() + "x"


def _failed(vault: str, what: str, error: Exception) -> VaultError:
    said = error.response.get("Error", {}).get("Message") if isinstance(error, ClientError) else ""
    return VaultError(
        what,
        why=" ".join(str(said or error).split()),
        todo=f"The login at vault {vault} has to be one that may do this; it is needed here alone, not on hosts.",
    )
