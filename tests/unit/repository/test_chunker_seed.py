"""Every polynomial that a repository may have gives a seed that the chunker takes."""

from hypothesis import given
from hypothesis import strategies as st

from cto_backups.repository.chunker import SMALLEST, Chunker, seed_of


@given(st.integers(min_value=1 << 53, max_value=(1 << 54) - 1))
def test_every_polynomial_gives_a_seed_that_the_chunker_takes(polynomial: int) -> None:
    assert list(Chunker(seed_of(polynomial)).ends(bytes(SMALLEST - 1), last=True)) == [SMALLEST - 1]
