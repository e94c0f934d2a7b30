"""What the docstring below each setting of a model says.

Read from the source when somebody asks (the schema, the reference page, a message about a missing setting): pydantic
would do it for every model whenever a policy is read, which takes longer than reading the policy.
"""

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from textwrap import dedent

from pydantic import BaseModel


@cache
def descriptions(model: type[BaseModel]) -> Mapping[str, str]:
    """The descriptions of a model's settings, those that it inherits among them, by the names of its attributes."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _own(kind)
    return {name: found[name] for name in model.model_fields if name in found}


def _own(model: type[BaseModel]) -> dict[str, str]:
    (written,) = ast.parse(dedent(inspect.getsource(model))).body
    assert isinstance(written, ast.ClassDef)
    return {
        setting.target.id: inspect.cleandoc(below.value.value)
        for setting, below in zip(written.body, written.body[1:], strict=False)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
