"""Whatever stands in a policy file, the answer is a policy or a list of mistakes; never a traceback, never a hang."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cto_backups.config import document, reading
from cto_backups.config.document import DEEPEST
from cto_backups.config.mistakes import PolicyMistakesError

ROOT = Path(__file__).parents[3]
PATH = Path("/etc/backups.yaml")
SEEDS = [
    (ROOT / "examples" / "backups.yaml").read_bytes(),
    *(path.read_bytes() for path in sorted((ROOT / "tests" / "golden" / "policy-errors").glob("*.yaml"))),
]
SPICE = [
    *(
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"!<x>",
        b"%YAML 9.9\n",
        b"%TAG ! x\n",
        b"---\n",
        b"...\n",
        b"<<: ",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b"? ",
        b": ",
        b"- ",
        b"|",
        b">",
        b"|9",
        b"'",
        b'"',
        b'"\\ud800"',
        b'"\\x00"',
        b"#",
        b"\t",
    ),
    *(
        b"null",
        b"~",
        b"1e999",
        b"9" * 400,
        b"\xff",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\xe2\x80\xa8",
        b"\r",
        b"\x85",
        b"@",
        b"`",
    ),
    *(b"categories: {A: {based_on: A}}\n", b"classes: [1]\n", b"~nobody-here/x", b"{{", b"%s", b"{message}"),
]


def read(raw: bytes) -> None:
    """Fails by any other error than a list of mistakes that can be shown."""
    try:
        reading.parse(PATH, raw)
    except PolicyMistakesError as error:
        assert error.mistakes
        shown = f"{error}\n{error.todo}"
        shown.encode()
        assert all(char.isprintable() or char in "\n\t" for char in shown)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    read(raw)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    read(text.encode("utf-8", errors="surrogatepass"))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*SPICE, b" ", b"\n", b"a", b"a: ", b"sources:\n  x:"]), max_size=30).map(b"".join))
def test_any_heap_of_yaml_signs(raw: bytes) -> None:
    read(raw)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        stop = min(len(raw), start + draw(st.integers(0, 12)))
        raw = raw[:start] + draw(st.one_of(st.sampled_from(SPICE), st.binary(max_size=3))) + raw[stop:]
    return raw


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_any_change_to_a_policy(raw: bytes) -> None:
    read(raw)


def read_both_ways(raw: bytes) -> object:
    """What libyaml finds nothing wrong with is read alike by ruamel; what came out, None where it found something."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    quick = reading.parse_quickly(PATH, raw, text)
    if quick is not None:
        assert reading.parse(PATH, raw) == quick
    return quick


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_both_parsers_read_any_policy_alike(raw: bytes) -> None:
    read_both_ways(raw)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from([*SPICE, b" ", b"\n", b"a", b"a: ", b"b: ", b"  "]), max_size=30).map(b"".join))
def test_both_parsers_build_the_same_tree_of_any_heap_of_yaml_signs(raw: bytes) -> None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    quick = document.parse_quickly(text)
    if quick is not None:
        try:
            root = document.parse(text).root
        except document.SyntaxMistakeError:
            return  # libyaml takes a comment right after the sign of a block
        assert (quick.root and repr(quick.root.plain())) == (root and repr(root.plain()))


def test_the_example_is_read_both_ways() -> None:
    assert read_both_ways(SEEDS[0]) is not None


def test_a_mistake_in_a_large_policy_is_told_with_its_line_like_any_other() -> None:
    begin, line = "version: 1\nbusiness: acme\nsources:\n", "backups.yaml, line 1504"
    many = "".join(f"  s{n}: {{kind: files, class: documentation, paths: [/srv]}}\n" for n in range(1500))
    assert len(many) > reading.LARGE_BYTES
    assert line in refused(begin + many + "  last: {kind: fils, class: documentation, paths: [/srv]}\n")
    assert line in refused(begin + many + "  last: {kind: files\n")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.text(max_size=5), LEAVES, max_size=2)
LIKELY = ["files", "git", "A", "x", "documentation", "user-data", "weekly", "1 year", "file:x", "~u/x"]
INNER = ["kind", "class", "category", "based_on", "paths", "url", "path", "triggers", "vaults", "rpo", "retention"]
PART = st.dictionaries(st.sampled_from(INNER), st.sampled_from(LIKELY) | VALUES, max_size=6)
SECTION = st.dictionaries(st.sampled_from(["A", "x", "documentation"]), PART, max_size=3)
POLICY = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        **{name: VALUES for name in ("business", "timezone", "keys", "catalog", "state", "compression", "exclude")},
        **{name: SECTION | VALUES for name in ("vaults", "categories", "classes", "sources")},
    },
)


@settings(max_examples=300, deadline=None)
@given(POLICY)
def test_any_value_for_any_setting(policy: dict[str, object]) -> None:
    read(json.dumps(policy).encode())


def refused(raw: str) -> str:
    with pytest.raises(PolicyMistakesError) as raised:
        reading.parse(PATH, raw.encode())
    return str(raised.value)


def test_an_alias_bomb_is_refused_by_arithmetic() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    assert "repeat too much" in refused(bomb)


def test_an_alias_inside_what_it_refers_to_is_refused() -> None:
    assert "stands inside what it refers to" in refused("a: &a [1, *a]\n")


@pytest.mark.parametrize("nesting", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(nesting: str) -> None:
    told = refused("a:\n " + nesting * 5000)
    assert any(reason in told for reason in (f"more than {DEEPEST} deep", "not closed", "bracket", "a name must stand"))


def test_a_very_long_line_does_not_fill_the_screen() -> None:
    told = refused(f"version: 1\nbusiness: {'x' * 100_000}\n")
    assert max(len(line) for line in told.splitlines()) < 400


def test_very_many_mistakes_are_counted_and_the_first_are_shown() -> None:
    told = refused("version: 1\n" + "".join(f"setting{n}: 1\n" for n in range(5000)))
    assert "more." in told
    assert len(told.splitlines()) < 400


def test_a_number_of_many_digits_stays_text() -> None:
    assert "must be a whole number" in refused(f"version: 1\ncompression: {'9' * 5000}\n")
