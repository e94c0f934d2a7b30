"""Valid documents made wrong: a few changes to their structure, or to their bytes, each chosen by a `Choose`.

Choices come from hypothesis in the tests, and from bytes in the fuzzer: both find, and shrink, the same mistakes.
"""

import copy
from collections.abc import Callable
from typing import Any

import orjson

Choose = Callable[[int], int]
"""Given a count, a number from 0 to below it."""


def nested(depth: int, inner: object = None) -> object:
    """Lists in lists."""
    for _ in range(depth):
        inner = [inner]
    return inner


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 1e308, -0.0, 0.5,
    "", "x", "0", "ab" * 32, "AB" * 32, "zz" * 32, "ab" * 31, "/", "..", ".", "a/b", "\0", "é", "\u2028", "\\x",
    "\\777",
    "\\ud800", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+23:59", "0000-01-01T00:00:00Z", "AAAA", "====",
    "file", "dir", "symlink", "dev", "tree", "data", "x" * 100_000, [], {}, [[]], [{}], [None], {"": None},
    {"nodes": []}, nested(60),
)  # fmt: skip


def mutated(document: object, choose: Choose) -> bytes:
    """The document as JSON with one to three changes in it, or with its bytes changed."""
    changed = [copy.deepcopy(document)]
    for _ in range(1 + choose(3)):
        _change(changed, choose)
    content = orjson.dumps(changed[0])
    return spoiled(content, choose) if choose(4) == 0 else content


def spoiled(content: bytes, choose: Choose) -> bytes:
    """Bytes with one change: flipped, cut, inserted, repeated, or many of something."""
    at = choose(len(content) + 1)
    way = choose(7)
    if way == 0 and at < len(content):
        return content[:at] + bytes([content[at] ^ 1 << choose(8)]) + content[at + 1 :]
    if way == 1:
        return content[:at]
    if way == 2:
        return content[:at] + bytes(choose(256) for _ in range(1 + choose(8))) + content[at:]
    if way == 3:
        return content[:at] + content[: 1 + choose(64)] + content[at:]
    if way == 4:
        return b"[" * (1 + choose(200_000))
    if way == 5:
        return b'{"a":' * (1 + choose(100_000)) + b"1"
    return content + b"\0" * choose(64)


def _change(parent: Any, choose: Choose) -> None:
    """Change something in a list or an object, at any depth."""
    while True:
        places = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        if not places:
            _add(parent, choose)
            return
        place = places[choose(len(places))]
        child = parent[place]
        if isinstance(child, dict | list) and choose(4):
            parent = child
            continue
        way = choose(4)
        if way == 0 and len(places) > 1:
            del parent[place]
        elif way == 1 and isinstance(parent, list):
            parent.insert(place, copy.deepcopy(child))
        elif way == 2 and isinstance(parent, dict):
            parent[place + "_"] = parent.pop(place)
        else:
            parent[place] = copy.deepcopy(ODD[choose(len(ODD))])
        return


def _add(parent: Any, choose: Choose) -> None:
    odd = copy.deepcopy(ODD[choose(len(ODD))])
    if isinstance(parent, dict):
        parent["id"] = odd
    else:
        parent.append(odd)
