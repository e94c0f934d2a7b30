"""The sample that a new installation starts with explains itself and loads."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.config import load, writing
from cto_backups.config.document import parse
from cto_backups.config.models import SOURCE_MODELS, Vault
from cto_backups.config.sample import HINTS, render

Write = Callable[[str], Path]

VAULTS = {
    name: {"url": f"file:vaults/{name}", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    for name in ("one", "two", "three")
}
SOURCES: dict[str, dict[str, object]] = {
    "app-files": {"kind": "files", "class": "configuration", "paths": ["/srv/my app"], "exclude": ["*.pyc", ".venv"]},
    "app-repository": {"kind": "git", "class": "code-repositories", "url": "/srv/app.git"},
    "2nd": {"kind": "sqlite", "class": "user-data", "path": "/srv/données #1: a.db", "retention": "1 year"},
}


def test_the_sample_loads_and_says_what_was_asked_for(policy_file: Write) -> None:
    configuration = load(policy_file(render(business="acme", sources=SOURCES, vaults=VAULTS)))
    policy = configuration.policy
    assert policy.business == "acme"
    assert list(policy.vaults) == ["one", "two", "three"]
    assert list(policy.sources) == list(SOURCES)
    assert policy.sources["2nd"].options["path"] == "/srv/données #1: a.db"
    assert policy.sources["app-files"].options["exclude"] == ("*.pyc", ".venv")
    assert str(configuration.settings.repository_key) == "file:keys/repository.key"


def test_every_part_can_be_chosen(policy_file: Write) -> None:
    text = render(
        business="acme",
        sources=SOURCES,
        vaults=VAULTS,
        timezone="Europe/Berlin",
        keys={"repository": "env:KEY", "evidence": "command:pass show 'the key'"},
        catalog="sqlite:/srv/catalog.db",
        state="/srv/state",
    )
    configuration = load(policy_file(text))
    assert configuration.policy.timezone == "Europe/Berlin"
    assert str(configuration.settings.evidence_key) == "command:pass show 'the key'"
    assert configuration.settings.catalog_url == "sqlite:/srv/catalog.db"
    assert configuration.settings.state == Path("/srv/state")


def test_every_setting_is_explained_at_its_first_use_or_above_it() -> None:
    text = render(business="acme", sources=SOURCES, vaults=VAULTS)
    explained: set[str] = set()
    previous = ""
    for line in text.splitlines():
        name = line.split(":")[0].strip()
        if line and not line.lstrip().startswith("#") and line.endswith(":") is False:
            if "  # " in line or previous.lstrip().startswith("#"):
                explained.add(name)
            elif len(line) < 60:
                assert name in explained or name in {"evidence", "repository", "state"}, line
        previous = line


def test_there_is_a_hint_for_each_setting_of_vaults_and_sources() -> None:
    models = [Vault, *SOURCE_MODELS.values()]
    known = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert set(HINTS) == known


def test_the_lines_stay_readable() -> None:
    assert max(len(line) for line in render(business="acme", sources=SOURCES, vaults=VAULTS).splitlines()) <= 120


def test_the_exclusions_that_the_sample_shows_load_when_their_marks_are_taken_away(policy_file: Write) -> None:
    text = render(business="acme", sources=SOURCES, vaults=VAULTS)
    head, mark, tail = text.partition("# exclude:")
    shown = "\n".join(line.removeprefix("# ") for line in (mark + tail).splitlines())
    (exclusion,) = load(policy_file(head + shown + "\n")).policy.exclusions
    assert exclusion.owner == "cto@example.com"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT, st.sampled_from(["", "'", '"']))
def test_any_text_is_written_so_that_it_reads_as_the_same_text(text: str, style: str) -> None:
    line = f"a: {writing.value(text, style)}  # comment\nb: [{writing.value(text)}, 1]\n"
    root = parse(line).root
    assert root is not None
    assert root.plain() == {"a": text, "b": [text, 1]}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abc/ .:#'\"{}[],&*!|>%@`~é-", min_size=1).filter(lambda text: text.strip() != ""))
def test_any_path_reaches_the_policy_as_it_was_found(policy_file: Write, name: str) -> None:
    sources = {"db": {"kind": "sqlite", "class": "documentation", "path": f"/srv/x{name}x"}}
    policy = load(policy_file(render(business="acme", sources=sources, vaults=VAULTS))).policy
    assert policy.sources["db"].options["path"] == os.path.normpath(f"/srv/x{name}x")


@pytest.mark.parametrize(
    "text", ["yes", "no", "NULL", "~", "true", "1", "1.5", "1e3", "02:00", "0x1f", ".inf", "-", "a: b", "a #b", ""]
)
def test_what_a_reader_could_take_for_something_else_is_quoted(text: str) -> None:
    assert writing.value(text).startswith('"')
