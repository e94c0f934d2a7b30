"""How a bucket on S3 is set: asked and set one by one, since each setting needs a right of its own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from botocore import exceptions as client_side

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.vault_settings import Change, Setting

# A setting that is not made is answered with an error, which each call has a name of its own for.
_NOT_SET: Final = (
    "NoSuchLifecycleConfiguration",
    "ReplicationConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchBucketPolicy",
    "ServerSideEncryptionConfigurationNotFoundError",
    "ObjectLockConfigurationNotFoundError",
)
_DENIED: Final = ("AccessDenied", "403")
_RULE: Final = "cto-backups-old-versions"
_ARCHIVES: Final = ("GLACIER", "DEEP_ARCHIVE")
_ACTS: Final = {"Expiration", "Transitions", "NoncurrentVersionTransitions", "AbortIncompleteMultipartUpload"}
_RIGHTS: Final = {
    Setting.VERSIONING: "s3:PutBucketVersioning",
    Setting.NONCURRENT: "s3:PutLifecycleConfiguration, s3:GetLifecycleConfiguration",
    Setting.PUBLIC: "s3:PutBucketPublicAccessBlock",
    Setting.KEY: "s3:PutEncryptionConfiguration",
    Setting.LOGS: "s3:PutBucketLogging",
    Setting.LOCKS: "s3:PutBucketObjectLockConfiguration",
    Setting.RETENTION: "s3:PutBucketObjectLockConfiguration",
}


def settings(client: Any, bucket: str, prefix: str = "") -> BucketSettings:
    """Every setting that the store tells; `unanswered` has the reasons for the others.

    Of rules, those are told that touch what lies below the prefix.
    """
    unanswered: dict[str, str] = {}

    def asked(name: str, right: str, call: str) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = getattr(client, call)(Bucket=bucket)
        except client_side.ClientError as error:
            code = _code(error)
            if code in _NOT_SET:
                return {}
            unanswered[name] = f"this login may not {right}" if code in _DENIED else f"the store says {code}"
            return None
        except client_side.BotoCoreError as error:
            unanswered[name] = str(error)
            return None
        return answer

    versioning = asked("versioning", "s3:GetBucketVersioning", "get_bucket_versioning")
    lifecycle = asked("kept_days", "s3:GetLifecycleConfiguration", "get_bucket_lifecycle_configuration")
    encryption = asked("encryption", "s3:GetEncryptionConfiguration", "get_bucket_encryption")
    replication = asked("replicated", "s3:GetReplicationConfiguration", "get_bucket_replication")
    logging = asked("access_logs", "s3:GetBucketLogging", "get_bucket_logging")
    location = asked("region", "s3:GetBucketLocation", "get_bucket_location")
    locks = asked("locks", "s3:GetBucketObjectLockConfiguration", "get_object_lock_configuration")
    return BucketSettings(
        versioning=_of(versioning, lambda answer: answer.get("Status") == "Enabled"),
        kept_days=_of(lifecycle, lambda answer: _kept_days(_touching(answer, prefix))),
        public=_public(asked),
        encryption=_of(encryption, _encryption),
        replicated=_of(replication, _replicates),
        access_logs=_of(logging, lambda answer: bool(answer.get("LoggingEnabled"))),
        region=_of(location, lambda answer: answer.get("LocationConstraint") or "us-east-1"),
        log_bucket=_of(logging, lambda answer: answer.get("LoggingEnabled", {}).get("TargetBucket", "")),
        key=_of(encryption, _key),
        locks=_of(locks, _locks),
        ends=_of(lifecycle, lambda answer: _ends(_touching(answer, prefix))),
        retention_days=_of(locks, lambda answer: _retention(answer)[0]),
        retention_mode=_of(locks, lambda answer: _retention(answer)[1]) or "",
        unanswered=unanswered,
    )


def _of(answer: Mapping[str, Any] | None, judge: Callable[[Mapping[str, Any]], Any]) -> Any:
    return None if answer is None else judge(answer)


def _touching(answer: Mapping[str, Any], prefix: str) -> list[Any]:
    """The rules in force for anything below the prefix."""
    rules = [rule for rule in answer.get("Rules", ()) if rule.get("Status") == "Enabled"]
    return [rule for rule in rules if prefix.startswith(begin := _begin(rule)) or begin.startswith(prefix)]


def _begin(rule: Mapping[str, Any]) -> str:
    """With what the names begin that a rule is for."""
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _kept_days(rules: Iterable[Any]) -> int:
    """After how many days the first of the rules deletes what is no longer current; 0 for never."""
    days = [
        int(rule["NoncurrentVersionExpiration"].get("NoncurrentDays", 0))
        for rule in rules
        if "NoncurrentVersionExpiration" in rule
    ]
    return min(days, default=0)


def _public(asked: Callable[[str, str, str], Mapping[str, Any] | None]) -> bool | None:
    """Whether anybody may read it: not where public access is blocked, else as the bucket's policy has it."""
    block = asked("public", "s3:GetBucketPublicAccessBlock", "get_public_access_block")
    blocked = (block or {}).get("PublicAccessBlockConfiguration", {})
    if blocked.get("RestrictPublicBuckets") and blocked.get("IgnorePublicAcls"):
        return False
    status = asked("public", "s3:GetBucketPolicyStatus", "get_bucket_policy_status")
    rights = asked("public", "s3:GetBucketAcl", "get_bucket_acl")
    if (status or {}).get("PolicyStatus", {}).get("IsPublic") or _anybody(rights or {}):
        return True
    return None if status is None or rights is None else False


def _anybody(rights: Mapping[str, Any]) -> bool:
    groups = (grant.get("Grantee", {}).get("URI", "") for grant in rights.get("Grants", ()))
    return any(group.endswith(("/global/AllUsers", "/global/AuthenticatedUsers")) for group in groups)


def _encryption(answer: Mapping[str, Any]) -> str | None:
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    names = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "") for rule in rules]
    return next(filter(None, names), None)


def _replicates(answer: Mapping[str, Any]) -> bool:
    rules = answer.get("ReplicationConfiguration", {}).get("Rules", ())
    return any(rule.get("Status") == "Enabled" for rule in rules)


def _key(answer: Mapping[str, Any]) -> str:
    """The key of AWS KMS by default; "" for none."""
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    names = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID", "") for rule in rules]
    return next(filter(None, names), "")


def _locks(answer: Mapping[str, Any]) -> bool:
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def _retention(answer: Mapping[str, Any]) -> tuple[int, str]:
    """For how many days whatever is stored is kept by default, and in which mode; 0 for not at all."""
    rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    days = int(rule.get("Days") or 0) or 365 * int(rule.get("Years") or 0)
    return days, str(rule.get("Mode") or "").lower()


def _ends(rules: Iterable[Any]) -> str:
    """What rules do to what is current: delete it, or move it where it cannot be read at once; "" for neither."""
    ends = ""
    for rule in rules:
        if {"Days", "Date"} & set(rule.get("Expiration", {})):
            return "a rule deletes what is current"
        if any(each.get("StorageClass") in _ARCHIVES for each in rule.get("Transitions", ())):
            ends = "a rule moves what is current to an archive"
    return ends


def apply(client: Any, bucket: str, change: Change, prefix: str) -> str:
    """Make one change; why it could not be made, or "" once the store has taken it. Rules are for the prefix alone."""
    right = _RIGHTS[change.setting]
    try:
        call, asked = _asked_for(client, bucket, change, prefix)
        getattr(client, call)(Bucket=bucket, **asked)
    except client_side.ClientError as error:
        if _code(error) not in _DENIED:
            return f"the store says {error.response.get('Error', {}).get('Message') or _code(error)}"
        return f"this login may not {right}"
    except client_side.BotoCoreError as error:
        return str(error)
    return ""


def _asked_for(client: Any, bucket: str, change: Change, prefix: str) -> tuple[str, dict[str, Any]]:
    """The call that makes a change, and what it is told."""
    match change.setting:
        case Setting.VERSIONING:
            return "put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}
        case Setting.NONCURRENT:
            rules = [*_other_rules(client, bucket, prefix), _rule(int(change.value), prefix)]
            return "put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": rules}}
        case Setting.PUBLIC:
            every = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            return "put_public_access_block", {"PublicAccessBlockConfiguration": dict.fromkeys(every, True)}
        case Setting.KEY:
            default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": change.value}
            rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}
            return "put_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}
        case Setting.LOGS:
            logging = {"TargetBucket": change.value, "TargetPrefix": f"{bucket}/"}
            return "put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": logging}}
        case Setting.LOCKS:
            return "put_object_lock_configuration", {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
        case Setting.RETENTION:
            mode, _, days = change.value.partition(" ")
            rule = {"Rule": {"DefaultRetention": {"Mode": mode.upper(), "Days": int(days)}}} if days else {}
            asked = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", **rule}}
            return "put_object_lock_configuration", asked
    raise AssertionError(f"{change.setting} is not set on S3")


def _other_rules(client: Any, bucket: str, prefix: str) -> list[Any]:
    """The rules that there are: one call replaces them all. Ours goes, and what deletes old versions of the same."""
    try:
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules", [])
    except client_side.ClientError as error:
        if _code(error) in _NOT_SET:
            return []
        raise
    kept = []
    for rule in rules:
        others = {name: value for name, value in rule.items() if name != "NoncurrentVersionExpiration"}
        if rule.get("ID") == _RULE:
            continue
        if others == rule or rule.get("Filter", {"Prefix": rule.get("Prefix", "")}) not in ({}, *_filters(prefix)):
            kept.append(rule)
        elif _ACTS & set(others):
            kept.append(others)
    return kept


def _filters(prefix: str) -> list[dict[str, str]]:
    return [{"Prefix": ""}, {"Prefix": prefix}]


def _rule(days: int, prefix: str) -> dict[str, Any]:
    return {
        "ID": _RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }


def _code(error: client_side.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
