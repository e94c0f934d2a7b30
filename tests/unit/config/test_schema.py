"""What is published about the policy file is what checks it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cto_backups.config import document, load, reference, schema
from cto_backups.config.mistakes import PolicyMistakesError
from cto_backups.config.parts import parts
from cto_backups.config.sample import render
from cto_backups.core.defaults import CATEGORIES, CLASSES

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "backups.yaml"
GOLDEN = ROOT / "tests" / "golden" / "policy-errors"


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())
    return jsonschema.Draft202012Validator(schema.json_schema())


def plain(text: str) -> Any:
    root = document.parse(text).root
    assert root is not None
    return root.plain()


def test_the_published_schema_is_the_one_of_the_models() -> None:
    published = (ROOT / schema.PLACE).read_text(encoding="utf-8")
    assert published == schema.rendered(), "run tools/policy-reference"


def test_the_reference_lists_every_setting_as_the_models_have_it() -> None:
    page = (ROOT / reference.PLACE).read_text(encoding="utf-8")
    assert page == reference.with_tables(page), "run tools/policy-reference"
    for name in (*CATEGORIES, *CLASSES):
        assert name in page


def test_every_part_of_the_file_has_its_table_in_the_reference() -> None:
    page = (ROOT / reference.PLACE).read_text(encoding="utf-8")
    for name in schema.json_schema()["$defs"]:
        assert parts()[name].__doc__ in page, name


def test_every_setting_says_what_it_is() -> None:
    for title, definition in {"file": schema.json_schema(), **schema.json_schema()["$defs"]}.items():
        for name, part in definition["properties"].items():
            assert part.get("description"), f"{title}.{name}"


def test_the_example_loads_and_passes_the_schema(validator: Any) -> None:
    load(EXAMPLE)
    assert list(validator.iter_errors(plain(EXAMPLE.read_text()))) == []


def test_the_example_shows_every_setting() -> None:
    text = EXAMPLE.read_text()
    for definition in (schema.json_schema(), *schema.json_schema()["$defs"].values()):
        for name in definition["properties"]:
            assert f"{name}:" in text, f"examples/backups.yaml does not show {name}"


def test_the_sample_passes_the_schema(validator: Any) -> None:
    vault = {"url": "file:vaults/one", "provider": "local-disk", "region": "this-machine", "storage": "disk"}
    source = {"kind": "files", "class": "configuration", "paths": ["/srv/app"]}
    assert list(validator.iter_errors(plain(render(business="a", sources={"s": source}, vaults={"one": vault})))) == []


@pytest.mark.parametrize(
    "case",
    [
        *("unknown-setting", "unknown-top-level-setting", "unknown-kind", "bad-name", "wrong-types", "out-of-range"),
        *("missing-settings", "setting-without-value", "no-vaults", "no-sources", "newer-version", "inline-key"),
    ],
)
def test_editors_see_the_mistakes_that_a_schema_can_see(validator: Any, case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    with pytest.raises(PolicyMistakesError):
        load(path)
    assert list(validator.iter_errors(plain(path.read_text())))


def test_a_text_may_stand_for_a_list_of_one(validator: Any) -> None:
    data = plain(EXAMPLE.read_text())
    data["sources"]["checkout"] |= {"paths": "~/src", "vaults": "one", "exclude": "*.pyc", "triggers": "hourly"}
    assert list(validator.iter_errors(data)) == []


def test_every_example_in_the_schema_is_accepted_by_the_loader(tmp_path: Path) -> None:
    """Examples that editors offer must not be mistakes."""
    base = plain(EXAMPLE.read_text())
    properties = schema.json_schema()["$defs"]["FilesSource"]["properties"]
    for name, part in properties.items():
        for choice in [part, *part.get("anyOf", [])]:
            for example in choice.get("examples", []):
                data = json.loads(json.dumps(base))
                data["sources"]["checkout"][name] = example
                path = tmp_path / "backups.yaml"
                path.write_text(json.dumps(data))
                load(path)
