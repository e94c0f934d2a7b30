"""How a bucket of Google Cloud Storage is set: one resource tells nearly all, and who may read it is asked apart.

https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from collections.abc import Callable
from typing import Any, Final

from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.vault_settings import LOCKED, Change, Setting

Ask = Callable[[str], Any]
"""The answer to a GET of the bucket, or of a path below it such as "/iam". Raises NotToldError."""

_ALL: Final = (
    *("versioning", "kept_days", "public", "replicated", "soft_delete_days", "access_logs", "log_bucket"),
    *("encryption", "key", "locks", "region", "ends", "retention_days"),
)


class NotToldError(Exception):
    """The store does not tell; `denied`: not to this login."""

    def __init__(self, why: str, *, denied: bool) -> None:
        super().__init__(why)
        self.denied = denied


def settings(ask: Ask, prefix: str = "") -> BucketSettings:
    """Every setting that the store tells; `unanswered` has the reasons for the others.

    Of rules, those are told that touch what lies below the prefix.
    """
    try:
        told = ask("")
    except NotToldError as error:
        why = "this login may not storage.buckets.get" if error.denied else str(error)
        return BucketSettings(unanswered=dict.fromkeys(_ALL, why))
    prevented = told.get("iamConfiguration", {}).get("publicAccessPrevention") == "enforced"
    public, unanswered = (False, {}) if prevented else _public(ask)
    soft = told.get("softDeletePolicy", {}).get("retentionDurationSeconds")
    key = told.get("encryption", {}).get("defaultKmsKeyName")
    kept = told.get("retentionPolicy", {})
    rules = [rule for rule in told.get("lifecycle", {}).get("rule", ()) if _touches(rule, prefix)]
    return BucketSettings(
        versioning=bool(told.get("versioning", {}).get("enabled")),
        kept_days=_kept_days(rules),
        public=public,
        encryption=f"key {key}" if key else "keys of Google",
        replicated=told.get("locationType") in ("multi-region", "dual-region"),
        soft_delete_days=None if soft is None else int(soft) // 86400,
        access_logs=bool(told.get("logging", {}).get("logBucket")),
        region=told.get("location"),
        log_bucket=told.get("logging", {}).get("logBucket", ""),
        key=key or "",
        locks=told.get("objectRetention", {}).get("mode") == "Enabled",
        ends=_ends(rules),
        retention_days=-(-int(kept.get("retentionPeriod", 0)) // 86400),
        retention_mode=LOCKED if kept.get("isLocked") else "",
        unanswered=unanswered,
    )


def changed(ask: Ask, change: Change, prefix: str) -> dict[str, Any]:
    """What a PATCH of the bucket is to say so that this change is made; of versions, for what lies below the prefix.

    Raises NotToldError.
    """
    match change.setting:
        case Setting.VERSIONING:
            return {"versioning": {"enabled": True}}
        case Setting.NONCURRENT:
            rules = ask("").get("lifecycle", {}).get("rule", ())
            others = [rule for rule in rules if not _of_old_versions(rule) or not _covers(rule, prefix)]
            condition = {
                "daysSinceNoncurrentTime": int(change.value),
                **({"matchesPrefix": [prefix]} if prefix else {}),
            }
            return {"lifecycle": {"rule": [*others, {"action": {"type": "Delete"}, "condition": condition}]}}
        case Setting.PUBLIC:
            return {"iamConfiguration": {"publicAccessPrevention": "enforced"}}
        case Setting.SOFT_DELETE:
            return {"softDeletePolicy": {"retentionDurationSeconds": str(int(change.value) * 86400)}}
        case Setting.KEY:
            return {"encryption": {"defaultKmsKeyName": change.value}}
        case Setting.LOGS:
            return {"logging": {"logBucket": change.value}}
        case Setting.RETENTION:
            return {"retentionPolicy": None}
    raise AssertionError(f"{change.setting} is not set at Google")


def _public(ask: Ask) -> tuple[bool | None, dict[str, str]]:
    try:
        policy = ask("/iam")
    except NotToldError as error:
        return None, {"public": "this login may not storage.buckets.getIamPolicy" if error.denied else str(error)}
    members = {member for binding in policy.get("bindings", ()) for member in binding.get("members", ())}
    return bool(members & {"allUsers", "allAuthenticatedUsers"}), {}


def _touches(rule: Any, prefix: str) -> bool:
    """Whether a rule is for anything below the prefix."""
    begins = rule.get("condition", {}).get("matchesPrefix") or [""]
    return any(prefix.startswith(begin) or begin.startswith(prefix) for begin in begins)


def _covers(rule: Any, prefix: str) -> bool:
    """Whether a rule is for the whole bucket, or for what lies below the prefix."""
    return bool(rule.get("condition", {}).get("matchesPrefix", [prefix]) == [prefix])


def _of_old_versions(rule: Any) -> bool:
    """Whether a rule deletes what is no longer current, and nothing else."""
    condition = rule.get("condition", {})
    if rule.get("action", {}).get("type") != "Delete" or condition.get("isLive") is True:
        return False
    return "daysSinceNoncurrentTime" in condition or condition.get("isLive") is False or "numNewerVersions" in condition


def _ends(rules: Any) -> str:
    """What rules do to what is current: delete it; "" for not. What Google calls an archive is read at once."""
    for rule in rules:
        dead = _of_old_versions(rule) or rule.get("condition", {}).get("isLive") is False
        if rule.get("action", {}).get("type") == "Delete" and not dead:
            return "a rule deletes what is current"
    return ""


def _kept_days(rules: Any) -> int:
    """After how many days the first of the rules deletes what is no longer current; 0 for never."""
    days = []
    for rule in rules:
        condition = rule.get("condition", {})
        if rule.get("action", {}).get("type") != "Delete" or condition.get("isLive") is True:
            continue
        if "daysSinceNoncurrentTime" in condition:
            days.append(int(condition["daysSinceNoncurrentTime"]))
        elif condition.get("isLive") is False or "numNewerVersions" in condition:
            days.append(int(condition.get("age", 1)))
    return min(days, default=0)
