"""How a check of one text in the policy file says what is wrong with it."""

from collections.abc import Iterable

from pydantic_core import PydanticCustomError


def problem(
    message: str, *, allowed: Iterable[str] = (), nearest: str | None = None, todo: str = ""
) -> PydanticCustomError:
    """A validation error that carries what a `Mistake` shows."""
    # The fixed template keeps braces in a value from being taken for pydantic's own.
    return PydanticCustomError(
        "policy", "{message}", {"message": message, "allowed": tuple(allowed), "nearest": nearest, "todo": todo}
    )
