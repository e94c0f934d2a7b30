"""What trying a source's service came to, and whether backups can rely on it."""

import pytest

from cto_backups.core.source_check import Outcome, Tried, failing


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_relied_on_has_to_work_and_all_else_is_told(outcome: Outcome, wanted: bool) -> None:
    tried = Tried("load", outcome, wanted=wanted)
    assert tried.passed is (outcome is Outcome.WORKS or not wanted)
    assert failing([tried]) == ("" if tried.passed else f"load: {outcome}")


def test_a_sentence_names_all_that_failed() -> None:
    found = [Tried("load", Outcome.REFUSED), Tried("sums", Outcome.WORKS), Tried("extract", Outcome.DIFFERS)]
    assert failing(found) == "load: refused; extract: comes otherwise"
