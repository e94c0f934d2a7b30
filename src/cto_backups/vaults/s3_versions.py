"""All versions of what lies below a vault's prefix, as a store that speaks S3 lists them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cto_backups.core.vaults import StoreAddress
from cto_backups.vaults.object_store import Version


def versions(
    client: Any, asked: Callable[[str, str, Callable[[], Any]], Any], address: StoreAddress
) -> Iterator[Version]:
    """Every version, those of a key one after the other, the newest first; `asked` tells refusals in plain words."""
    own = len(address.key(""))
    place = {"Bucket": address.bucket, "Prefix": address.key("")}
    pages = iter(client.get_paginator("list_object_versions").paginate(**place))
    while (page := asked("list the versions of", "files", lambda: next(pages, None))) is not None:
        found = [(entry, False) for entry in page.get("Versions", ())]
        found += [(entry, True) for entry in page.get("DeleteMarkers", ())]
        for entry, marker in sorted(found, key=_newest_first):
            yield Version(
                key=entry["Key"][own:],
                id=str(entry["VersionId"]),
                size_bytes=int(entry.get("Size", 0)),
                tag=str(entry.get("ETag", "")),
                current=bool(entry["IsLatest"]),
                marker=marker,
            )


def _newest_first(found: tuple[Mapping[str, Any], bool]) -> tuple[str, bool, float]:
    """Of a page of versions and markers, which come apart; the current one before what is as old."""
    entry = found[0]
    return str(entry["Key"]), not entry["IsLatest"], -entry["LastModified"].timestamp()
