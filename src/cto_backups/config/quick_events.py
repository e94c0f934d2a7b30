"""The events of a large YAML text, by libyaml: many times as quick as ruamel, and not in the words of its errors.

It follows YAML 1.1 where ruamel follows 1.2. Texts with what the two may read differently are left to ruamel, and so is
every text with something wrong in it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ruamel.yaml import events

_READ_DIFFERENTLY = re.compile("[\t\r\x85\u2028\u2029\ufeff]|^(?:%|---|\\.\\.\\.)", re.MULTILINE)


def parse(text: str) -> Iterable[events.Event] | None:
    """The events; None where ruamel has to read it. Iterating raises a ValueError for what is no YAML."""
    if _READ_DIFFERENTLY.search(text):
        return None
    try:
        from yaml import YAMLError, parse
        from yaml.cyaml import CSafeLoader
    except ImportError:  # built without libyaml
        return None
    return _converted(parse(text, Loader=CSafeLoader), YAMLError)


def _converted(found: Iterable[Any], error: type[Exception]) -> Iterator[events.Event]:
    try:
        for event in found:
            name, start, end = type(event).__name__, event.start_mark, event.end_mark
            if name == "ScalarEvent":
                yield events.ScalarEvent(event.anchor, event.tag, event.implicit, event.value, start, end, event.style)
            elif name in ("MappingStartEvent", "SequenceStartEvent"):
                kind = getattr(events, name)
                yield kind(event.anchor, event.tag, event.implicit, start, end, event.flow_style)
            elif name == "AliasEvent":
                yield events.AliasEvent(event.anchor, start, end)
            else:
                yield getattr(events, name)(start, end)
    except error as reason:
        raise ValueError("no YAML, for libyaml") from reason
