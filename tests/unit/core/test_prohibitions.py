"""What governing documents forbid, for how long, and what in them is no rule."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from cto_backups.core.governance import DESTRUCTIVE, Governed
from cto_backups.core.prohibitions import Prohibition, parse_prohibitions

BERLIN = ZoneInfo("Europe/Berlin")


def document(*lines):
    return "\n".join(("---", "title: Ethics", *lines, "---", "", "# Ethics", ""))


def test_a_line_forbids_actions_to_the_end_of_a_day():
    (rule,) = parse_prohibitions(document("cto.backups: forbid prune until 2027-01-01"))
    assert rule == Prohibition(frozenset({Governed.PRUNE}), date(2027, 1, 1))
    last = datetime(2027, 1, 1, 22, 59, 59, tzinfo=UTC)
    assert rule.forbids(Governed.PRUNE, last, BERLIN)
    assert not rule.forbids(Governed.PRUNE, datetime(2027, 1, 1, 23, 0, tzinfo=UTC), BERLIN)
    assert not rule.forbids(Governed.EXPIRE, last, BERLIN)


def test_without_until_it_is_for_ever_and_several_rules_add_up():
    rules = parse_prohibitions(
        document("cto.backups: forbid  key-removal,hold-release", 'cto.backups : "forbid everything until 2027-01-01"')
    )
    assert [rule.actions for rule in rules] == [
        frozenset({Governed.KEY_REMOVAL, Governed.HOLD_RELEASE}),
        frozenset(DESTRUCTIVE),
    ]
    assert rules[0].forbids(Governed.KEY_REMOVAL, datetime(2999, 1, 1, tzinfo=UTC), BERLIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Ethics\n\ncto.backups: forbid prune\n",
        "\n---\ncto.backups: forbid prune\n---\n",
        "---\ntitle: a\n---\ncto.backups: forbid prune\n",
        "---\n  cto.backups: forbid prune\nxcto.backups: forbid prune\ncto-backups: forbid prune\n---\n",
    ],
)
def test_only_front_matter_counts(text):
    assert parse_prohibitions(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff---\ncto.backups: forbid prune\n---\n",
        "---\r\ncto.backups: forbid prune\r\n---\r\n",
        "--- \ncto.backups: forbid prune\n",
    ],
)
def test_marks_line_ends_and_a_block_that_does_not_end_hide_nothing(text):
    assert [rule.actions for rule in parse_prohibitions(text)] == [frozenset({Governed.PRUNE})]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("allow prune", "'allow prune' is no rule: write 'forbid'"),
        ("", "'' is no rule"),
        ("forbid", "'forbid' is no rule"),
        ("forbid prume", "'prume' is no action: they are expire, prune, .*; did you mean 'prune'?"),
        ("forbid prune, ", "'' is no action"),
        ("forbid everything, prune", "'everything' is no action"),
        ("forbid document-change", "'document-change' is no action"),
        ("forbid prune until tomorrow", "'tomorrow' is no date: write it like 2027-01-01"),
        ("forbid prune until 9999-12-31", "'9999-12-31' is too far away"),
        ("forbid prune until 2027-01-01 perhaps", "'prune until 2027-01-01 perhaps' is no action"),
    ],
)
def test_what_is_no_rule_is_told(rule, told):
    """A prohibition with a slip of the pen must not be none."""
    with pytest.raises(ValueError, match=told):
        parse_prohibitions(document(f"cto.backups: {rule}"))


def test_a_naive_moment_is_refused():
    (rule,) = parse_prohibitions(document("cto.backups: forbid prune"))
    with pytest.raises(ValueError, match="time zone"):
        rule.forbids(Governed.PRUNE, datetime(2027, 1, 1), BERLIN)  # noqa: DTZ001
