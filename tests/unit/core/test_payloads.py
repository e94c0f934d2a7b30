"""What a repair says of itself."""

import pytest

from cto_backups.core.payloads import Damage, Repaired


def test_a_repair_that_found_nothing_is_clean() -> None:
    assert Repaired(done=True).clean


@pytest.mark.parametrize(
    "repaired",
    [
        Repaired(done=True, damages=(Damage("pack 1f0c9a4be2d7", "it is not there"),)),
        Repaired(done=True, relisted=("1f0c9a4be2d7",)),
        Repaired(done=True, fetched_blobs={"two": 3}),
        Repaired(done=True, lost_blobs=1),
    ],
)
def test_a_repair_that_found_anything_is_not_clean(repaired: Repaired) -> None:
    assert not repaired.clean
