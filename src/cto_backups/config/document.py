"""A policy file's text as a tree of nodes that know where they stand.

Built from ruamel's event stream instead of its constructors: no tag can build anything, aliases are bounded by
arithmetic before they are expanded, nesting is bounded, duplicate keys are all found, and every key and value keeps its
place for messages and for edits. Scalars follow YAML 1.2's core schema (``no`` is text, ``02:00`` is no number); dates
stay text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from cto_backups.config import quick_events

DEEPEST = 24
MOST_NODES = 1_000_000
_MOST_FROM_ALIASES = 50_000

Plain = Any  # text, number, bool, None, or lists and mappings of these

_NULL = re.compile(r"(?:~|null|Null|NULL)?\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the text: characters `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of a mapping: where its key stands, and its value."""

    key: Span
    node: "Node"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. Exactly one of `items` (mapping), `children` (sequence) and `scalar` counts, by `kind`.

    `style` is the scalar's quote or block sign, or "{" and "[" for flow collections, else "". An alias has the place of
    the alias and the content of what it refers to. `size` counts the nodes in it, aliases expanded.
    """

    span: Span
    kind: str
    scalar: str | int | float | bool | None = None
    items: dict[str, Item] = field(default_factory=dict)
    children: tuple["Node", ...] = ()
    style: str = ""
    alias: bool = False
    anchored: bool = False
    size: int = 1

    def plain(self) -> Plain:
        """The value without places."""
        if self.kind == "mapping":
            return {key: item.node.plain() for key, item in self.items.items()}
        if self.kind == "sequence":
            return [child.plain() for child in self.children]
        return self.scalar

    def get(self, *names: str) -> "Node | None":
        """The node at these keys, from here down."""
        node: Node | None = self
        for name in names:
            item = node.items.get(name) if node else None
            node = item.node if item else None
        return node

    def walk(self, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], "Node"]]:
        """Every scalar below, with the keys that lead to it; what aliases repeat comes once for each use."""
        if self.kind == "mapping":
            for key, item in self.items.items():
                yield from item.node.walk((*names, key))
        elif self.kind == "sequence":
            for child in self.children:
                yield from child.walk(names)
        else:
            yield names, self


@dataclass(frozen=True, slots=True)
class Blemish:
    """Something wrong with the text as YAML, at a place in it."""

    message: str
    span: Span
    todo: str = ""


class SyntaxMistakeError(Exception):
    """The text is not readable as YAML at all; `blemish` says where and why."""

    def __init__(self, blemish: Blemish) -> None:
        super().__init__(blemish.message)
        self.blemish = blemish


@dataclass(frozen=True, slots=True)
class Document:
    """The file's tree (None: there is nothing in it) and what is wrong with it as YAML."""

    root: Node | None
    blemishes: tuple[Blemish, ...]


def parse(text: str) -> Document:
    """Read a policy file's text. Raises SyntaxMistakeError when it is no YAML."""
    tab = re.search(r"^ *(\t)[ \t]*[^\s#]", text, re.MULTILINE)
    try:
        return _Builder(text).build(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        if tab:
            raise SyntaxMistakeError(
                Blemish("a tab is used for indentation", Span(tab.start(1), tab.end(1)), "Indent with spaces.")
            ) from error
        raise SyntaxMistakeError(_explain(error, text)) from error
    except ReaderError as error:
        place = error.position if isinstance(error.position, int) else 0
        raise SyntaxMistakeError(
            Blemish("a character that may not stand in YAML", Span(place, place + 1), "Remove it, or write it as \\u….")
        ) from error
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError, AssertionError, RecursionError) as error:
        # The parser answers some malformed directives and tags with plain Python errors.
        raise SyntaxMistakeError(Blemish("this is not readable as YAML", Span(0, 1))) from error


def parse_quickly(text: str) -> Document | None:
    """The same of a large text where nothing is wrong with it as YAML; None where `parse` has to read it."""
    try:
        found = quick_events.parse(text)
        tree = None if found is None else _Builder(text).build(found)
    except (SyntaxMistakeError, ValueError, RecursionError):
        return None
    return tree if tree is not None and not tree.blemishes else None


class _Builder:
    """Turns events into nodes; one use."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._blemishes: list[Blemish] = []
        self._anchors: dict[str, Node] = {}
        self._open: set[str] = set()
        self._nodes = 0
        self._from_aliases = 0

    def build(self, events: Iterable[Event]) -> Document:
        stream = iter(events)
        root: Node | None = None
        documents = 0
        for event in stream:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise SyntaxMistakeError(
                        Blemish("a second document starts here", self._span(event), "A policy file holds one document.")
                    )
            elif isinstance(event, NodeEvent):
                root = self._node(event, stream, 0)
        if root is not None and root.kind == "scalar" and root.scalar is None:
            root = None
        return Document(root, tuple(self._blemishes))

    def _span(self, event: Event) -> Span:
        return Span(event.start_mark.index, event.end_mark.index)

    def _node(self, event: NodeEvent, stream: Iterator[Event], depth: int) -> Node:
        self._nodes += 1
        span = self._span(event)
        if depth > DEEPEST:
            raise SyntaxMistakeError(Blemish(f"nested more than {DEEPEST} deep", span, "A policy needs no such depth."))
        if self._nodes > MOST_NODES:
            raise SyntaxMistakeError(Blemish("the file has more than a million values", span))
        if isinstance(event, AliasEvent):
            return self._alias(event, span)
        anchor = event.anchor
        if anchor:
            self._open.add(anchor)
        self._refuse_tag(event, span)
        if isinstance(event, MappingStartEvent):
            node = self._mapping(event, stream, depth)
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(event, stream, depth)
        else:
            assert isinstance(event, ScalarEvent)
            node = Node(span, "scalar", scalar=_resolve(event), style=event.style or "")
        if anchor:
            node = replace(node, anchored=True)
            self._open.discard(anchor)
            self._anchors[anchor] = node
        return node

    def _alias(self, event: AliasEvent, span: Span) -> Node:
        meant = self._anchors.get(event.anchor)
        if meant is None:
            inside = event.anchor in self._open
            message = (
                f"*{event.anchor} stands inside what it refers to" if inside else f"nothing is marked &{event.anchor}"
            )
            raise SyntaxMistakeError(Blemish(message, span, "Mark what is meant with &NAME, above this line."))
        self._from_aliases += meant.size
        if self._from_aliases > _MOST_FROM_ALIASES:
            raise SyntaxMistakeError(
                Blemish(
                    "the aliases of this file repeat too much",
                    span,
                    f"At most {_MOST_FROM_ALIASES:,} values may come from aliases.",
                )
            )
        return replace(meant, span=span, alias=True, anchored=False)

    def _refuse_tag(self, event: Event, span: Span) -> None:
        tag = getattr(event, "tag", None)
        if tag and str(tag) not in {"!", "tag:yaml.org,2002:str"}:
            self._blemishes.append(
                Blemish(
                    "tags are not used in a policy file",
                    span,
                    "Write the plain value without the word after the exclamation mark.",
                )
            )

    def _sequence(self, start: SequenceStartEvent, stream: Iterator[Event], depth: int) -> Node:
        children: list[Node] = []
        for event in stream:
            if isinstance(event, CollectionEndEvent):
                end = self._end(start, event, children[-1].span.end if children else None)
                return Node(
                    Span(start.start_mark.index, end),
                    "sequence",
                    children=tuple(children),
                    style="[" if start.flow_style else "",
                    size=1 + sum(child.size for child in children),
                )
            assert isinstance(event, NodeEvent)
            children.append(self._node(event, stream, depth + 1))
        raise AssertionError("the event stream ended inside a sequence")

    def _mapping(self, start: MappingStartEvent, stream: Iterator[Event], depth: int) -> Node:
        items: dict[str, Item] = {}
        merged: list[Node] = []
        last: int | None = None
        size = 1
        for event in stream:
            if isinstance(event, MappingEndEvent):
                for node in merged:
                    for key, item in node.items.items():
                        items.setdefault(key, item)
                return Node(
                    Span(start.start_mark.index, self._end(start, event, last)),
                    "mapping",
                    items=items,
                    style="{" if start.flow_style else "",
                    size=size,
                )
            assert isinstance(event, NodeEvent)
            key, span = self._key(event, stream, depth)
            value = next(stream)
            assert isinstance(value, NodeEvent)
            node = self._node(value, stream, depth + 1)
            last = max(node.span.end, span.end)
            size += node.size
            if key == "<<" and not getattr(event, "style", None):
                merged += self._merged(node)
            elif key in items:
                first = self._text.count("\n", 0, items[key].key.start) + 1
                self._blemishes.append(
                    Blemish(
                        f"{key} is written twice here", span, f"It stands on line {first} already; keep one of the two."
                    )
                )
            else:
                items[key] = Item(span, node)
        raise AssertionError("the event stream ended inside a mapping")

    def _key(self, event: NodeEvent, stream: Iterator[Event], depth: int) -> tuple[str, Span]:
        span = self._span(event)
        if not isinstance(event, ScalarEvent):
            raise SyntaxMistakeError(
                Blemish("a name must stand here", span, "Put text that starts with one of {}[]*&!%@ into quotes.")
            )
        self._refuse_tag(event, span)
        if event.anchor:
            self._anchors[event.anchor] = Node(span, "scalar", scalar=event.value, anchored=True)
        return event.value, span

    def _merged(self, node: Node) -> Sequence[Node]:
        parts = node.children if node.kind == "sequence" else (node,)
        for part in parts:
            if part.kind != "mapping":
                self._blemishes.append(Blemish("<< takes mappings only", part.span))
        return [part for part in parts if part.kind == "mapping"]

    def _end(self, start: Any, end: Event, last: int | None) -> int:
        # Block collections end, for the parser, where the next thing starts; for us, where their content ends.
        if start.flow_style:
            return int(end.end_mark.index)
        return int(start.start_mark.index) if last is None else last


def _resolve(event: ScalarEvent) -> str | int | float | bool | None:
    value: str = event.value
    if not event.implicit[0]:
        return _joined(value)
    if _NULL.match(value):
        return None
    if _TRUE.match(value):
        return True
    if _FALSE.match(value):
        return False
    if _INTEGER.match(value):
        return int(value)
    return float(value) if _FLOAT.match(value) else value


def _joined(value: str) -> str:
    """The text with JSON's two escapes for one character made one; a half that stands alone stays."""
    if not any("\ud800" <= char <= "\udfff" for char in value):
        return value
    try:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return value


_TAB = ("a tab stands where spaces belong", "Indent with spaces.")
_QUOTE = "Put the value into quotes."
_REASONS = {
    "mapping values are not allowed": (
        "a colon with a space after it stands inside a value",
        "Put the value into quotes, or check the indentation.",
    ),
    "could not find expected ':'": ("a colon is missing after this name", "Write NAME: VALUE."),
    "found character '\\t'": _TAB,
    "cannot start any token": ("this character cannot start a value", _QUOTE),
    "found unexpected end of stream": ("the file ends inside a quoted text", "Close the quotes."),
    "expected <block end>": (
        "the indentation does not fit what stands above",
        "Indent the entries of one section equally.",
    ),
    "expected ',' or": (
        "a comma or a closing bracket is missing",
        "Close what was opened, or separate it with a comma.",
    ),
    "found undefined tag handle": ("tags are not used in a policy file", _QUOTE),
    "while scanning an alias": ("a * must be followed by a name", _QUOTE),
    "while scanning an anchor": ("an & must be followed by a name", _QUOTE),
    "unknown escape character": (
        "this escape is not known between double quotes",
        "Use single quotes, or double the backslash.",
    ),
}  # what ruamel says, and what we say


def _explain(error: MarkedYAMLError, text: str) -> Blemish:
    said = f"{error.context or ''} {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    place = min(int(mark.index), len(text)) if mark else 0
    # What was opened and never closed is wrong where it was opened, not where the file or the line after it stops.
    opened = error.context_mark
    if opened and ("end of stream" in said or ("expected ',' or" in said and opened.line != getattr(mark, "line", 0))):
        place = int(opened.index)
    for sign, (message, todo) in _REASONS.items():
        if sign in said:
            return Blemish(message, Span(place, place + 1), todo)
    return Blemish(
        "this is not readable as YAML", Span(place, place + 1), "Check quotes, brackets and indentation here."
    )
