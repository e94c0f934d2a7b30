"""All versions below a prefix; a listing of them that does not come whole is not taken for one."""

from typing import Any

import pytest
from botocore.exceptions import PaginationError

from cto_backups.core.vaults import StoreAddress
from cto_backups.vaults.s3_versions import versions


class _Client:
    """A client whose store tells of these pages."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self._pages = pages

    def get_paginator(self, _: str) -> "_Client":
        return self

    def paginate(self, **_: str) -> tuple[dict[str, Any], ...]:
        return self._pages


def test_a_listing_of_versions_that_goes_on_and_does_not_say_how_is_told() -> None:
    """Else what an intruder deleted would count as not hidden."""
    address = StoreAddress("acme", "office", "r")
    client = _Client({"IsTruncated": True, "NextKeyMarker": "a"}, {"IsTruncated": True})
    with pytest.raises(PaginationError, match="does not tell how to ask for the rest"):
        list(versions(client, lambda _doing, _key, ask: ask(), address))
    assert list(versions(_Client({"IsTruncated": False}), lambda _doing, _key, ask: ask(), address)) == []
