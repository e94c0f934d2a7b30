"""Users of stores: made with one key and one policy, ended with all; on AWS's IAM as moto has it, and on versitygw."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cto_backups.errors import VaultError
from cto_backups.providers import s3_users
from servers.object_stores import REGION, ObjectStore

STATEMENTS = s3_users.statements("aws", "acme", "office/hosts/web1", repository="repositories/main", locks=True)


@pytest.fixture
def iam(moto: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", moto.endpoint)
    login = {"aws_access_key_id": moto.access_key, "aws_secret_access_key": moto.secret_key}
    client = boto3.client("iam", region_name=REGION, endpoint_url=moto.endpoint, **login)
    yield client
    client.close()


def test_a_user_of_aws_has_one_key_and_what_only_adding_takes_and_is_ended_with_all(
    moto: ObjectStore, iam: Any
) -> None:
    users = s3_users.users_of("aws", "cloud", moto.address("acme", "office/hosts/web1"), STATEMENTS)
    first = users.let_in("cto-backups-web1")
    second = users.let_in("cto-backups-web1")
    assert first[0] != second[0]
    assert first[1] != second[1]
    (key,) = iam.list_access_keys(UserName="cto-backups-web1")["AccessKeyMetadata"]
    assert key["AccessKeyId"] == second[0]
    document = iam.get_user_policy(UserName="cto-backups-web1", PolicyName="cto-backups")["PolicyDocument"]
    assert document["Statement"] == json.loads(s3_users.document(STATEMENTS))["Statement"]
    allowed = {each["Action"] for each in STATEMENTS if each["Effect"] == "Allow" and isinstance(each["Action"], str)}
    assert allowed == {"s3:ListBucket", "s3:DeleteObject"}
    (refused,) = [each for each in STATEMENTS if each["Effect"] == "Deny"]
    assert (refused["Action"], refused["Resource"]) == ("s3:PutObject", "arn:aws:s3:::acme/office/hosts/web1/*")
    assert refused["Condition"]["Null"] == {"s3:if-none-match": "true"}
    assert STATEMENTS[-1]["Resource"] == [
        "arn:aws:s3:::acme/office/hosts/web1/repositories/main/locks/*",
        "arn:aws:s3:::acme/office/hosts/web1/exports/main/locks/*",
    ]
    users.shut_out("cto-backups-web1")
    users.shut_out("cto-backups-web1")
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_user(UserName="cto-backups-web1")
    users.close()


def test_users_of_versitygw_come_and_go_beside_what_others_have_in_the_buckets_policy(versitygw: ObjectStore) -> None:
    bucket = versitygw.bucket()
    own = {"Sid": "Own", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
    own["Resource"] = f"arn:aws:s3:::{bucket}/public/*"
    versitygw.client.put_bucket_policy(Bucket=bucket, Policy=s3_users.document([own]))
    given = s3_users.statements("versitygw", bucket, "hosts/web", repository="repositories/main", locks=False)
    users = s3_users.users_of("versitygw", "cloud", versitygw.address(bucket, "hosts/web"), given)
    users.let_in("web")
    users.let_in("web1")  # the beginning of which is another's name
    users.shut_out("web")
    rules = json.loads(versitygw.client.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert [rule.get("Principal") for rule in rules] == ["*", *[{"AWS": ["web1"]}] * 3]
    users.shut_out("web1")
    users.shut_out("web1")
    rules = json.loads(versitygw.client.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert [rule["Sid"] for rule in rules] == ["Own"]
    users.close()


def test_a_login_that_may_not_make_users_is_told_so(versitygw: ObjectStore) -> None:
    bucket = versitygw.bucket()
    login = {"access_key": lambda: "NOBODY", "secret_key": lambda: "nothing"}
    address = versitygw.address(bucket, "p", logins=login)
    users = s3_users.users_of("versitygw", "cloud", address, STATEMENTS)
    with pytest.raises(VaultError, match="cannot be ended") as told:
        users.let_in("web")
    assert "administers the gateway" in told.value.todo
    users.close()


def test_other_stores_are_not_asked(moto: ObjectStore) -> None:
    assert not s3_users.can_be_asked("minio", moto.address("acme"))
    assert s3_users.can_be_asked("aws", moto.address("acme"))
