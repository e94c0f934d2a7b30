"""Dataclasses that are made without a compiler behave as those of Python do, of which a second copy is loaded here."""

import dataclasses
import importlib.util
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cto_backups.cli import dataclasses_sooner

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python makes them in another way")

Made = Callable[[Any], tuple[type, ...]]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Python's own, untouched."""
    assert dataclasses.__file__ is not None
    spec = importlib.util.spec_from_file_location("untouched_dataclasses", dataclasses.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["untouched_dataclasses"] = module
    spec.loader.exec_module(module)
    assert module._cmp_fn.__module__ == "untouched_dataclasses"
    return module


def plain(of: Any) -> tuple[type, ...]:
    @of.dataclass
    class Nothing:
        pass

    @of.dataclass
    class One:
        value: Any

    @of.dataclass
    class Several:
        first: Any
        second: Any = 2
        unseen: Any = of.field(default=3, repr=False, compare=False)
        counted: Any = of.field(default=None, hash=False)

    return Nothing, One, Several


def frozen(of: Any) -> tuple[type, ...]:
    @of.dataclass(frozen=True)
    class Nothing:
        pass

    @of.dataclass(frozen=True, slots=True, order=True)
    class One:
        value: Any

    @of.dataclass(frozen=True, slots=True)
    class Base:
        first: Any
        second: Any = 2

    @of.dataclass(frozen=True)
    class Below(Base):
        counted: Any = of.field(default=None, hash=False)
        unseen: Any = of.field(default=3, repr=False, compare=False)

    class Further(Below):
        pass

    return Nothing, One, Base, Below, Further


def told(ask: Callable[..., object], *given: object) -> object:
    """An answer, or which error it was, in words."""
    try:
        return ask(*given)
    except (TypeError, AttributeError) as error:
        return type(error).__name__, str(error)


def asked(made: type, do: Callable[..., object], *values: tuple[object, ...]) -> object:
    """The same of objects of these values; None where there can be none."""
    try:
        objects = [made(*each) for each in values]
    except TypeError:
        return None
    return told(do, *objects)


NAN = float("nan")
VALUES = [(), (1,), ("a",), (NAN,), ([1],), (1, 2), (1, 3), (NAN, 2), (1, 2, 3), (1, 2, "x"), (1, 2, 3, 4)]


@pytest.mark.parametrize("make", [plain, frozen])
def test_they_look_compare_and_hash_as_pythons_do(theirs: Any, make: Made) -> None:
    pairs = [(one, other) for one in VALUES for other in VALUES]
    for ours, python in zip(make(dataclasses), make(theirs), strict=True):
        for do in (repr, hash):
            answers = [asked(ours, do, each) for each in VALUES]
            assert answers == [asked(python, do, each) for each in VALUES]
            assert any(answers)
        for do in (operator.eq, operator.ne):
            assert [asked(ours, do, *each) for each in pairs] == [asked(python, do, *each) for each in pairs]
        assert ours.__eq__.__qualname__ == python.__eq__.__qualname__
        assert ours.__repr__.__qualname__ == python.__repr__.__qualname__


def test_what_has_an_order_has_pythons(theirs: Any) -> None:
    ours, python = frozen(dataclasses)[1], frozen(theirs)[1]
    for do in (operator.lt, operator.le, operator.gt, operator.ge):
        for one, other in ((1, 2), (2, 1), (2, 2), (1, "a")):
            assert asked(ours, do, (one,), (other,)) == asked(python, do, (one,), (other,))


def test_another_class_is_never_equal() -> None:
    nothing, one, base, below, further = frozen(dataclasses)
    assert base(1) != below(1) and below(1) != further(1) and one(1) != 1 and nothing() != ()
    assert one(1).__eq__(1) is NotImplemented


@pytest.mark.parametrize("name", ["value", "first", "counted", "none_such"])
def test_what_is_frozen_refuses_as_pythons_do(theirs: Any, name: str) -> None:
    kinds = zip(frozen(dataclasses), frozen(theirs), [(), (1,), (1,), (1,), (1,)], strict=True)
    for ours, python, values in kinds:
        answers = [
            (told(setattr, made, name, 5), told(delattr, made, name), repr(made))
            for made in (ours(*values), python(*values))
        ]
        assert answers[0] == answers[1], (ours, name)


def test_what_holds_itself_can_be_shown() -> None:
    _, one, _ = plain(dataclasses)
    made = one([])
    made.value.append(made)
    assert repr(made).endswith("One(value=[...])")


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    first: int
    second: str = "b"


def test_they_are_copied_replaced_and_pickled() -> None:
    kept = Kept(1)
    assert pickle.loads(pickle.dumps(kept)) == kept == dataclasses.replace(Kept(2), first=1)
    assert dataclasses.asdict(kept) == {"first": 1, "second": "b"}


def test_a_python_that_makes_them_in_another_way_is_left_alone(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataclasses, "_cmp_fn", theirs._cmp_fn)
    monkeypatch.setattr(dataclasses, "_hash_fn", lambda fields, builder: None)
    assert not dataclasses_sooner.install()
    assert dataclasses._cmp_fn is theirs._cmp_fn  # type: ignore[attr-defined]


def test_a_command_compiles_no_method_but_those_that_make_and_order() -> None:
    code = (
        "import dataclasses; made = dataclasses._create_fn; names = set()\n"
        "def noted(name, *given, **more):\n"
        "    names.add(name)\n"
        "    return made(name, *given, **more)\n"
        "dataclasses._create_fn = noted\n"
        "from cto_backups.cli.main import run; run(['version']); import cto_backups.core.policy; print(*sorted(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.splitlines()[-1].split())
    assert "__init__" in names
    assert names <= {"__init__", "__lt__", "__le__", "__gt__", "__ge__"}
