"""The JSON Schema of the policy file, for editors: made from the models that also check the file."""

import json
from typing import Any

from pydantic import BaseModel

from cto_backups.config.descriptions import descriptions
from cto_backups.config.models import VERSION, PolicyFile
from cto_backups.config.parts import parts

PLACE = "docs/reference/backups.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). What it refuses is a mistake; what it accepts may still not fit together."""
    made = PolicyFile.model_json_schema(by_alias=True)
    _describe(made["properties"], PolicyFile)
    for name, part in made["$defs"].items():
        _describe(part["properties"], parts()[name])
    schema = _plain(made)
    assert isinstance(schema, dict)
    schema["properties"]["version"] |= {"const": VERSION}
    for section in ("vaults", "categories", "classes", "sources"):
        # pydantic's patternProperties would let entries of any other name pass unseen.
        part = schema["properties"][section]
        ((pattern, entries),) = part.pop("patternProperties").items()
        part |= {"propertyNames": {"pattern": pattern}, "additionalProperties": entries}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cto.backups policy",
        **{name: part for name, part in schema.items() if name != "title"},
    }


def _describe(properties: dict[str, dict[str, Any]], model: type[BaseModel]) -> None:
    """Add what the model says of its settings; keys in alphabetical order, as pydantic has them."""
    for name, text in descriptions(model).items():
        key = model.model_fields[name].alias or name
        properties[key] = dict(sorted((properties[key] | {"description": text}).items()))


def rendered() -> str:
    """The schema as it is published in `PLACE`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _plain(part: Any) -> Any:
    """Without null (an optional setting is left out, never empty) and without the titles that repeat the names."""
    if isinstance(part, list):
        return [_plain(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    plain = {name: _plain(entry) for name, entry in part.items() if not _is_noise(name, entry)}
    choices = plain.get("anyOf")
    if isinstance(choices, list):
        choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1:
            del plain["anyOf"]
            return choices[0] | plain
        plain["anyOf"] = choices
    return plain


def _is_noise(name: str, entry: Any) -> bool:
    return (name == "title" and isinstance(entry, str)) or (name == "default" and entry in (None, {}, []))
