"""Which models a policy file is made of, by name: found by what `PolicyFile` names, so that no list has to be kept."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from cto_backups.config.models import PolicyFile
from cto_backups.config.part import Part


@cache
def parts() -> Mapping[str, type[Part]]:
    """Every part of a policy file, and what several of them share, by the name of its class."""
    found: dict[str, type[Part]] = {}
    waiting: list[type[Part]] = [PolicyFile]
    while waiting:
        model = waiting.pop()
        if model.__name__ in found:
            assert found[model.__name__] is model, f"two parts are called {model.__name__}"
            continue
        found[model.__name__] = model
        for field in model.model_fields.values():
            waiting += _named(field.annotation)
        waiting += [base for base in model.__bases__ if issubclass(base, Part) and base is not Part]
    return found


def _named(annotation: Any) -> Iterator[type[Part]]:
    """The parts in an annotation such as ``dict[str, Vault] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in get_args(annotation):
        yield from _named(argument)
