"""What pydantic says about a policy file, in words for people and at its place in the file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from cto_backups.config import alert_models, governance_models, models
from cto_backups.config.any_source import AnySource
from cto_backups.config.bandwidth_models import BandwidthLimit
from cto_backups.config.document import Node, Span
from cto_backups.config.elsewhere_models import KeptRepository
from cto_backups.config.kinds import KINDS
from cto_backups.config.mistakes import Mistake, closest
from cto_backups.config.page import Page
from cto_backups.config.worker_models import HeavyWindow

Place = tuple[str | int, ...]

MOST_EXPLAINED = 500  # looking for the closest name costs time, and nobody reads as many

_CALLED: dict[type[BaseModel], str] = {
    models.PolicyFile: "a policy file",
    models.Vault: "a vault",
    models.Category: "a category",
    models.DataClass: "a class",
    models.Exclusion: "an exclusion",
    BandwidthLimit: "a limit",
    HeavyWindow: "a window",
    KeptRepository: "a repository",
    alert_models.Person: "a person",
    alert_models.AlertRule: "a rule",
    governance_models.GoverningDocument: "a governing document",
}
_CHANNEL_KINDS = tuple(alert_models.CHANNEL_MODELS)
_EXAMPLES = {
    "version": "version: 1",
    "business": "business: acme",
    "keys": "keys: {repository: file:keys/repository.key, evidence: file:keys/evidence.key}",
    "vaults": "vaults: {one: {url: file:vaults/one, provider: local-disk, region: this-machine, storage: disk}}",
    "sources": "sources: {app: {kind: files, class: documentation, paths: [~/src/app]}}",
}
_MUST_BE = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "settings by name",
    "model_type": "settings by name",
    "model_attributes_type": "settings by name",
}


def place_of(details: ErrorDetails) -> Place:
    """Where in the file an error is: keys and list positions, without what pydantic adds to them."""
    place = tuple(part for part in details["loc"] if part != "[key]")
    if len(place) > 2 and place[0] == "sources" and place[2] in KINDS:
        return place[:2] + place[3:]
    if len(place) > 3 and place[:2] == ("alerts", "channels") and place[3] in _CHANNEL_KINDS:
        return place[:3] + place[4:]
    return place


def find(root: Node, place: Place) -> tuple[Node, Span | None, bool]:
    """The deepest node that is there along a place, the span of its key, and whether the place was reached."""
    node, key = root, None
    for part in place:
        if node.kind == "mapping" and isinstance(part, str) and part in node.items:
            key, node = node.items[part].key, node.items[part].node
        elif node.kind == "sequence" and isinstance(part, int) and part < len(node.children):
            key, node = None, node.children[part]
        else:
            return node, key, False
    return node, key, True


def explain(errors: Iterable[ErrorDetails], root: Node, page: Page) -> list[Mistake]:
    """The mistakes that validation errors stand for."""
    return [_explain(details, root, page) for details in islice(errors, MOST_EXPLAINED)]


def _explain(details: ErrorDetails, root: Node, page: Page) -> Mistake:
    place, kind = place_of(details), details["type"]
    context: Mapping[str, Any] = details.get("ctx", {})
    node, key, reached = find(root, place)
    setting = ".".join(str(part) for part in place)
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    # What is wrong with a name is marked at the name, everything else at the value. A text that stands for a list of
    # one has no place of its own in that list.
    on_key = details["loc"][-1:] == ("[key]",) or not (reached or node.kind == "scalar")
    span = key if key and on_key else node.span
    if kind == "policy":
        if place == ():
            span, setting = root.get("version").span, "version"  # type: ignore[union-attr]  # only raised for it
        return page.mistake(
            span,
            context["message"],
            setting=setting,
            allowed=context["allowed"],
            closest=context["nearest"],
            todo=context["todo"],
        )
    if kind == "missing":
        todo = f"Add a line like: {_EXAMPLES[name]}" if len(place) == 1 else _about(details, name)
        return page.mistake(key if place[:-1] else None, f"{name} is missing", setting=setting, todo=todo)
    if kind == "extra_forbidden":
        return _unknown_setting(details, place, key or node.span, page)
    if kind == "union_tag_not_found":
        return page.mistake(key, "kind is missing", setting=f"{setting}.kind", allowed=_kinds(place)[1])
    if kind == "union_tag_invalid":
        written = node.get("kind")
        what, kinds = _kinds(place)
        return page.mistake(
            written.span if written else key,
            f"there is no kind of {what} named '{context['tag']}'",
            setting=f"{setting}.kind",
            allowed=kinds,
            closest=closest(str(context["tag"]), kinds),
        )
    message, allowed, todo = _value_error(kind, context, node, name)
    near = closest(str(node.scalar), allowed) if allowed and isinstance(node.scalar, str) else None
    if kind == "bool_type" and isinstance(node.scalar, str):
        near = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(node.scalar.lower(), near)
    return page.mistake(span, message, setting=setting, allowed=allowed, closest=near, todo=todo)


def _kinds(place: Place) -> tuple[str, tuple[str, ...]]:
    """What has a kind at this place, and which ones there are."""
    return ("channel", _CHANNEL_KINDS) if place[0] == "alerts" else ("source", tuple(KINDS))


def _value_error(kind: str, context: Mapping[str, Any], node: Node, name: str) -> tuple[str, tuple[str, ...], str]:
    if kind == "literal_error":
        allowed = tuple(re.findall(r"'([^']*)'", str(context["expected"])))
        value = f"'{node.scalar}'" if isinstance(node.scalar, str) else _described(node)
        return f"{name} cannot be {value}", allowed, ""
    if kind in _MUST_BE:
        is_scalar = node.kind == "scalar" and not isinstance(node.scalar, str)
        todo = "Put it into quotes." if kind == "string_type" and is_scalar else ""
        allowed = ("true", "false") if kind == "bool_type" else ()
        return f"{name} must be {_MUST_BE[kind]}, but is {_described(node)}", allowed, todo
    if kind == "too_short":
        if name in {"vaults", "sources"} and node.kind == "mapping":
            return f"there are no {name}", (), f"Add a line like: {_EXAMPLES[name]}"
        return f"{name} is an empty list", (), "Name at least one, or remove the line."
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"{name} must be {bound}", (), ""
    return f"{name} cannot be {_described(node)}", (), ""


def _described(node: Node) -> str:
    if node.kind != "scalar":
        return "settings by name" if node.kind == "mapping" else "a list"
    if isinstance(node.scalar, bool):
        return "true" if node.scalar else "false"
    if node.scalar is None:
        return "empty"
    return "a number" if isinstance(node.scalar, int | float) else "text"


def _model_at(details: ErrorDetails) -> type[BaseModel]:
    """The model of the section in which the last part of an error's place stands: the models themselves say which."""
    model: type[BaseModel] = models.PolicyFile
    shape: Any = model
    for part in details["loc"][:-1]:
        shape = _inside(shape, part)
        model = next((one for one in _alternatives(shape) if _is_model(one)), model)
    return model


def _inside(shape: Any, part: str | int) -> Any:
    """What stands under a part of a place; sources and channels are told apart by their kind, which is a part, too."""
    for one in _alternatives(shape):
        if _is_model(one):
            for name, field in one.model_fields.items():
                if part in {name, field.alias}:
                    return field.annotation
            if "kind" in one.model_fields and part in get_args(one.model_fields["kind"].annotation):
                return one
        elif get_origin(one) in (dict, list):
            return get_args(one)[-1]
    return shape


def _alternatives(shape: Any) -> Iterator[Any]:
    """What a value may be, without what annotates it."""
    if get_origin(shape) is Annotated:
        yield from _alternatives(get_args(shape)[0])
    elif get_origin(shape) in (Union, UnionType):
        for one in get_args(shape):
            yield from _alternatives(one)
    else:
        yield shape


def _is_model(shape: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def settings_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The names of a section's settings as the file writes them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _unknown_setting(details: ErrorDetails, place: Place, span: Span, page: Page) -> Mistake:
    name = str(place[-1])
    section = _section(details)
    allowed = settings_of(_model_at(details))
    nearest = closest(name, allowed)
    # What stands among the keys and is no name of a setting may be a key.
    quoted = "" if place[0] == "keys" and nearest is None else f" named '{name}'"
    return page.mistake(
        span,
        f"{section} has no setting{quoted}",
        setting=".".join(map(str, place)) if quoted else "keys",
        allowed=allowed,
        closest=nearest,
    )


def _section(details: ErrorDetails) -> str:
    model, within = _model_at(details), place_of(details)[:-1]
    if issubclass(model, AnySource):
        return f"a source of kind {details['loc'][2]}"
    if issubclass(model, alert_models.AnyChannel):
        return f"a channel of kind {details['loc'][3]}"
    return _CALLED.get(model) or f"the section {within[-1]}"


def _about(details: ErrorDetails, name: str) -> str:
    from cto_backups.config.descriptions import descriptions

    model = _model_at(details)
    attribute = next((key for key, field in model.model_fields.items() if name in {key, field.alias}), "")
    return descriptions(model).get(attribute, "")
