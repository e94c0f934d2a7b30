"""Dataclasses are made without a compiler, where Python would compile five methods of each that are all alike.

A command loads some 260 of them before it does anything, and that was a sixth of its start. `__init__` stays Python's
own. docs/adr/0063-dataclasses-made-sooner.md has the reasons; from Python 3.13 on, all is left as it is.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any

_EXPECTED = {
    "_repr_fn": ("fields", "globals"),
    "_frozen_get_del_attr": ("cls", "fields", "globals"),
    "_cmp_fn": ("name", "op", "self_tuple", "other_tuple", "globals"),
    "_hash_fn": ("fields", "globals"),
}


def install() -> bool:
    """Do it from now on in this process; False where Python makes them in a way that is not known here."""
    if sys.version_info >= (3, 13):
        return False
    theirs = vars(dataclasses)
    for name, arguments in _EXPECTED.items():
        code = getattr(theirs.get(name), "__code__", None)
        if code is None or code.co_varnames[: code.co_argcount] != arguments:
            return False
    compiled = theirs["_cmp_fn"]

    def comparison(name: str, op: str, self_tuple: str, other_tuple: str, globals: dict[str, Any]) -> Any:
        if name != "__eq__":
            return compiled(name, op, self_tuple, other_tuple, globals=globals)
        names = [field.removeprefix("self.") for field in self_tuple.strip("(),").split(",") if field]
        return _equality(_values(names))

    for name, ours in (
        ("_repr_fn", _representation),
        ("_frozen_get_del_attr", _refusals),
        ("_cmp_fn", comparison),
        ("_hash_fn", _hash),
    ):
        setattr(dataclasses, name, ours)
    return True


def _values(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes these fields of an object, always as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda self: ()
    get = attrgetter(names[0])
    return lambda self: (get(self),)


def _representation(fields: Sequence[Any], globals: dict[str, Any]) -> Any:
    names = [field.name for field in fields]

    def __repr__(self: Any) -> str:  # noqa: N807
        told = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({told})"

    return recursive_repr()(__repr__)


def _equality(values: Callable[[Any], tuple[Any, ...]]) -> Any:
    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(fields: Sequence[Any], globals: dict[str, Any]) -> Any:
    values = _values([field.name for field in fields])

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _refusals(cls: Any, fields: Sequence[Any], globals: dict[str, Any]) -> tuple[Any, Any]:
    names = frozenset(field.name for field in fields)

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__
