"""Canonical JSON is that of the rule, whichever way it was written."""

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.evidence.canonical import canonical

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_what_the_rule_says(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_keys_beyond_the_basic_plane_are_ordered_by_halves_of_utf_16() -> None:
    assert canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


def test_every_control_character_is_written_as_the_rule_says() -> None:
    every = "".join(map(chr, range(0x100))) + "\u2028\u2029"
    assert canonical([every, {every[:0x80]: every}]) == rfc8785.dumps([every, {every[:0x80]: every}])


@pytest.mark.parametrize("value", [2**53, -(2**53), float("nan"), "\ud800", {"a": "\udfff"}, {1: 2}, {"a": b""}])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical(value)


@given(st.floats(-1e16, 1e16) | st.floats(-1e-3, 1e-3))
def test_fractions_are_written_as_the_rule_says(value: float) -> None:
    assert canonical([value]) == rfc8785.dumps([value])


@pytest.mark.parametrize("value", [1e-4, 0.00010000000000000002, 9.99e-5, 1e15, 999999999999999.9, 1e16, 0.1, 5e-324])
def test_fractions_at_the_edges_too(value: float) -> None:
    assert canonical([value, -value]) == rfc8785.dumps([value, -value])
