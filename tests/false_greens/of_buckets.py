"""Faults of buckets that are sources: emptied, gone, open to everybody, or declared by nobody."""

from cto_backups.errors import ExitStatus
from false_greens.site import Site
from false_greens.table import declare, ends, fault, finding
from servers.object_stores import REGION, ObjectStore

_NEEDS = ("moto",)


def _bucket(site: Site, **settings: str) -> tuple[ObjectStore, str]:
    """A store, and a bucket of it with three objects that is declared as a source."""
    store: ObjectStore = site.servers["moto"]
    bucket = store.bucket(**settings)
    for number in range(3):
        store.put(bucket, f"{number}.jpg", b"a picture" * 100)
    for name, content in (("access", store.access_key), ("secret", store.secret_key)):
        file = site.home / "keys" / name
        file.write_text(content)
        file.chmod(0o600)
    where = f"url: s3://{bucket}, region: {REGION}, endpoint: '{store.endpoint}', tls: none"
    login = "access_key: file:keys/access, secret_key: file:keys/secret"
    declare(site, "pictures", f"kind: bucket, class: configuration, {where}, {login}")
    return store, bucket


@fault(
    "Bucket emptied",
    "all objects of a bucket that is a source are deleted",
    ends(ExitStatus.SOURCE, "backup", "pictures", saying="there is no object"),
    finding("failed-runs", "pictures"),
    needs=_NEEDS,
)
def bucket_emptied(site: Site) -> None:
    store, bucket = _bucket(site)
    site.well("backup", "pictures")
    for number in range(3):
        store.delete(bucket, f"{number}.jpg")


@fault(
    "Bucket deleted",
    "the bucket that is a source is deleted, with all that is in it",
    ends(ExitStatus.SOURCE, "backup", "pictures"),
    finding("failed-runs", "pictures"),
    finding("reachable", "pictures"),
    needs=_NEEDS,
)
def bucket_deleted(site: Site) -> None:
    bucket_emptied(site)
    store, bucket = site.servers["moto"], site.policy.read_text().partition("s3://")[2].partition(",")[0]
    store.delete(bucket)


@fault(
    "Bucket that anybody may read",
    "a bucket that is a source is opened to everybody, and keeps no versions",
    finding("bucket-settings", "pictures"),
    needs=_NEEDS,
)
def bucket_open(site: Site) -> None:
    _bucket(site, ACL="public-read")
    site.well("backup", "pictures")


@fault(
    "Bucket that nobody declared",
    "beside the bucket that is a source, somebody makes another one",
    finding("coverage"),
    needs=_NEEDS,
)
def bucket_undeclared(site: Site) -> None:
    store, _ = _bucket(site)
    site.well("backup", "pictures")
    store.put(store.bucket(), "invoice.pdf", b"nobody knows of it")
