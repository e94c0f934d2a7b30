"""What the owner of a bucket on S3 has set: asked setting by setting, since each of them needs a right of its own."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore import exceptions as client_side

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.providers.aws_words import code_of

# A setting that is not made is answered with an error, which each call has a name of its own for.
_NOT_SET: Final = (
    "NoSuchLifecycleConfiguration",
    "ReplicationConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchBucketPolicy",
    "ServerSideEncryptionConfigurationNotFoundError",
)
_DENIED: Final = ("AccessDenied", "403")


def settings(client: Any, bucket: str) -> BucketSettings:
    """Every setting that the store tells; `unanswered` has the reasons for the others."""
    unanswered: dict[str, str] = {}

    def asked(name: str, right: str, call: str) -> Mapping[str, Any] | None:
        try:
            answer: Mapping[str, Any] = getattr(client, call)(Bucket=bucket)
        except client_side.ClientError as error:
            code = code_of(error)
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
    return BucketSettings(
        versioning=_of(versioning, lambda answer: answer.get("Status") == "Enabled"),
        kept_days=_of(lifecycle, _kept_days),
        public=_public(asked),
        encryption=_of(encryption, _encryption),
        replicated=_of(replication, _replicates),
        access_logs=_of(logging, lambda answer: bool(answer.get("LoggingEnabled"))),
        region=_of(location, lambda answer: answer.get("LocationConstraint") or "us-east-1"),
        unanswered=unanswered,
    )


def _of(answer: Mapping[str, Any] | None, judge: Callable[[Mapping[str, Any]], Any]) -> Any:
    return None if answer is None else judge(answer)


def _kept_days(answer: Mapping[str, Any]) -> int:
    """After how many days the first of the rules deletes what is no longer current; 0 for never."""
    days = [
        int(rule["NoncurrentVersionExpiration"].get("NoncurrentDays", 0))
        for rule in answer.get("Rules", ())
        if rule.get("Status") == "Enabled" and "NoncurrentVersionExpiration" in rule
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
