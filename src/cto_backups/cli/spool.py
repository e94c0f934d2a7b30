"""Keep an answer back until it is whole, whatever its size: a machine must not take half of one for all of it."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from cto_backups.errors import UsageError

IN_MEMORY: Final = 8 * 2**20
"""Bytes of an answer up to which no file is made for it."""
_AT_ONCE: Final = 2**20


def whole(parts: Iterable[str]) -> Iterator[str]:
    """The same ASCII text, of which nothing comes before all of `parts` have: what fails until then, fails before it.

    A file has no name, or one that is gone at once, and is for this user alone. Raises UsageError without room for it.
    """
    # Closed by hand: what could not be written fails a second time there.
    kept = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="cto-backups-")  # noqa: SIM115
    try:
        for part in parts:
            content = part.encode("ascii")
            try:
                kept.write(content)
            except OSError as error:
                raise _no_room(error) from error
        try:
            kept.seek(0)
        except OSError as error:
            raise _no_room(error) from error
        while content := kept.read(_AT_ONCE):
            yield content.decode("ascii")
    finally:
        with suppress(OSError):
            kept.close()


def _no_room(error: OSError) -> UsageError:
    folder = tempfile.tempdir or os.environ.get("TMPDIR", "no folder for temporary files")
    return UsageError(
        "There is no room in which to put the answer together",
        why=f"{folder}: {error.strerror or type(error).__name__}",
        todo="Make room there, or name another folder in $TMPDIR.",
    )
