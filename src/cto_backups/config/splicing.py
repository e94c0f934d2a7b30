"""New text at its place in a policy file's text, with everything around it left as people wrote it."""

import re
from collections.abc import Mapping

from cto_backups.config import document, writing
from cto_backups.config.document import Item, Node


def with_triggers(text: str, source: str, triggers: str) -> str | None:
    """The text of a policy file with other triggers for a source that it declares.

    None when nothing of the source stands at its own place: it is an alias of another, or merged as a whole.
    """
    root = document.parse(text).root
    section = root.get("sources", source) if root else None
    assert section is not None, "the file was read a moment ago, and had this source"
    # What comes from an alias or a merge stands elsewhere, and is left to the others that share it.
    own = {
        name: item for name, item in section.items.items() if section.span.start <= item.key.start < section.span.end
    }
    if section.alias or not own:
        return None
    if "triggers" in own:
        return _with_value(text, own["triggers"], triggers)
    setting = "triggers: " + writing.value(triggers, '"' if "," in triggers else "")
    behind = next(
        (own[name] for name in ("class", "category", "kind") if name in own and _is_short(own[name], text)), None
    )
    if behind is None:
        first = min(item.key.start for item in own.values())
        gap = ", " if section.style == "{" else _newline(text) + " " * _column(text, first)
        return f"{text[:first]}{setting}{gap}{text[first:]}"
    if section.style == "{":
        return f"{text[: behind.node.span.end]}, {setting}{text[behind.node.span.end :]}"
    line_end = _line_end(text, behind.node.span.end)
    indent = " " * _column(text, behind.key.start)
    return f"{text[:line_end]}{_newline(text)}{indent}{setting}{text[line_end:]}"


def _with_value(text: str, item: Item, triggers: str) -> str:
    """Another value in place of one, in its quotes; comments inside a list of several lines stay below it."""
    node = item.node
    start, end = node.span.start, node.span.end
    old = text[start:end]
    if node.style in {"|", ">"}:
        end = start + len(old.rstrip())
    style = node.style if node.style in {"'", '"'} else "" if node.kind == "scalar" else '"'
    new = writing.value(triggers, style)
    kept = _comments(text, node)
    if node.kind == "sequence" and node.style != "[":
        # A block list starts on a line of its own; the text takes its place behind the colon.
        colon = text.index(":", item.key.end)
        beside, *below = text[colon + 1 : start].splitlines()
        head = text[: colon + 1] + " " + new + ("  " + beside.strip() if beside.strip().startswith("#") else "")
        kept = [line.rstrip() for line in below if line.strip().startswith("#")] + kept
        return head + "".join(_newline(text) + line for line in kept) + text[_line_end(text, end) :]
    if "\n" in old and kept:
        line_end = _line_end(text, end)
        below_it = "".join(_newline(text) + line for line in kept)
        return text[:start] + new + text[end:line_end] + below_it + text[line_end:]
    return text[:start] + new + text[end:]


def _comments(text: str, node: Node) -> list[str]:
    """The comments between and behind the entries of a list, each as a line of its own."""
    if node.kind != "sequence":
        return []
    line_start = text.rfind("\n", 0, node.span.start) + 1
    indent = re.match(r"[ ]*", text[line_start:])
    stop = _line_end(text, node.span.end) if node.style != "[" else node.span.end
    gaps, position = [], node.span.start
    for child in node.children:
        gaps.append(text[position : child.span.start])
        position = child.span.end
    gaps.append(text[position:stop])
    found = [match for gap in gaps for match in re.findall(r"#[^\r\n]*", gap)]
    return [f"{indent[0] if indent else ''}{comment.rstrip()}" for comment in found]


def _is_short(item: Item, text: str) -> bool:
    """Whether a setting and its value stand on one line."""
    node = item.node
    return node.kind == "scalar" and node.style not in {"|", ">"} and "\n" not in text[item.key.start : node.span.end]


def with_entry(text: str, part: str, name: str, mapping: Mapping[str, object]) -> str:
    """The text of a policy file with one more source or vault, after the others and the last one's comments."""
    root = document.parse(text).root
    section = root.get(part) if root else None
    assert section is not None, "the file was read a moment ago, and had this part"
    if section.style == "{":
        last = max(item.node.span.end for item in section.items.values())
        return f"{text[:last]}, {writing.value(name)}: {writing.value(mapping)}{text[last:]}"
    first = min(item.key.start for item in section.items.values() if item.key.start >= section.span.start)
    indent = _column(text, first)
    place = _after_comments(text, _line_end(text, section.span.end), indent)
    step = _step(text, section, indent)
    added = [f"{' ' * indent}{writing.value(name)}:", *writing.lines(mapping, indent + step)]
    return text[:place] + "".join(_newline(text) + line for line in added) + text[place:]


def _after_comments(text: str, place: int, indent: int) -> int:
    """Past the comment lines that are indented like the last source's settings: they are about it."""
    while match := re.compile(rf"\r?\n {{{indent + 1},}}#[^\n]*").match(text, place):
        place = match.end() - (1 if match[0].endswith("\r") else 0)
    return place


def _step(text: str, sources: Node, indent: int) -> int:
    """How far the settings of the other sources are indented."""
    for item in sources.items.values():
        if item.node.kind == "mapping" and item.node.style == "" and item.node.span.start > item.key.start:
            column = _column(text, item.node.span.start)
            if column > indent:
                return column - indent
    return 2


def _column(text: str, place: int) -> int:
    return place - text.rfind("\n", 0, place) - 1


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    return end - 1 if end > place and text[end - 1] == "\r" else end


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
