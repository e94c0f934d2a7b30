"""What went wrong with one entry."""

import pytest

from cto_backups.core.model import Problem


@pytest.mark.parametrize(
    ("kind", "elsewhere"), [("damaged", True), ("missing", True), ("permission", False), ("altered", False)]
)
def test_what_is_damaged_or_missing_may_be_whole_in_another_vault(kind: str, elsewhere: bool) -> None:
    assert Problem("/a", kind, "it is so").elsewhere is elsewhere
