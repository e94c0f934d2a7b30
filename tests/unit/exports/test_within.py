"""Which copies of a provider are taken away again: never what others may have found, and rely on."""

from typing import Any

import pytest

from cto_backups.core.objects import ObjectState
from cto_backups.errors import NotCopiedError
from cto_backups.exports.within import ByProvider

STATE = ObjectState("s3", None, "media", "film", 4)


class _Raced:
    """A vault into which another writer brings the same object while it is to be copied."""

    name = "cloud"

    def __init__(self) -> None:
        self.there: set[str] = set()

    def copies(self, state: ObjectState) -> bool:
        return True

    def state_of(self, key: str) -> ObjectState:
        return STATE

    def copy_within(self, key: str, state: ObjectState) -> dict[str, str]:
        self.there.add(key)
        raise NotCopiedError("It cannot be copied", why="PreconditionFailed")


class _View:
    def __init__(self, vault: Any) -> None:
        self.vault = vault

    def object_key(self, name: str) -> str:
        return name

    def delete_object(self, name: str) -> None:
        self.vault.there.discard(name)


@pytest.mark.parametrize(("name", "stays"), [("ab" * 32, True), ("ab" * 24, False)], ids=["content", "random"])
def test_what_is_named_by_its_content_may_be_anothers_and_stays(name: str, stays: bool) -> None:
    """Another copy of the same content is just as well; a random name is nobody else's."""
    vault = _Raced()
    view: Any = _View(vault)
    assert ByProvider(view).copied(name, STATE) is None
    assert (name in vault.there) is stays
