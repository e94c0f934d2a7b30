"""All versions of what lies below a vault's prefix, as a store that speaks S3 lists them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import PaginationError

from cto_backups.core.vaults import StoreAddress
from cto_backups.vaults.object_store import Version


def versions(
    client: Any, asked: Callable[[str, str, Callable[[], Any]], Any], address: StoreAddress
) -> Iterator[Version]:
    """Every version, those of a key one after the other, the newest first; `asked` tells refusals in plain words."""
    own = len(address.key(""))
    place = {"Bucket": address.bucket, "Prefix": address.key("")}
    pages = iter(client.get_paginator("list_object_versions").paginate(**place))
    while (page := asked("list the versions of", "files", lambda: _next_of(pages))) is not None:
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


def _next_of(pages: Iterator[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The next page. Raises PaginationError for one that is not the last, and the client would take for it."""
    page = next(pages, None)
    if page is not None and page.get("IsTruncated") and not page.get("NextKeyMarker"):
        raise PaginationError(message="the listing goes on, and the store does not tell how to ask for the rest")
    return page


def _newest_first(found: tuple[Mapping[str, Any], bool]) -> tuple[str, bool, float]:
    """Of a page of versions and markers, which come apart; the current one before what is as old."""
    entry = found[0]
    return str(entry["Key"]), not entry["IsLatest"], -entry["LastModified"].timestamp()
