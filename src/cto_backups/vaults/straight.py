"""An answer's bytes straight into the memory that they are for.

The library that holds the connection would read them into memory of its own first, and copy them twice from there:
that takes more of a processor than to open and hash what comes.
"""

from typing import Any

from cto_backups.vaults.object_store import Body


def straight(answer: Any) -> Body:
    """The body of an answer of urllib3 that nobody has read from; the answer itself where its bytes are wrapped."""
    response = getattr(answer, "_fp", None)
    if not hasattr(response, "readinto") or getattr(response, "chunked", True):
        return answer  # type: ignore[no-any-return]
    return _Straight(answer, response)


class _Straight:
    """Bytes on their way, read below the library; its own business with the connection stays with it."""

    def __init__(self, answer: Any, response: Any) -> None:
        self._answer = answer
        self._response = response

    def read(self) -> bytes:
        """All that are left."""
        content: bytes = self._answer.read()
        return content

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill what comes of the buffer; 0 at the end."""
        came: int = self._response.readinto(buffer)
        if self._response.isclosed():
            self._answer.release_conn()  # all has come: the next request may have the connection
        return came

    def shutdown(self) -> None:
        """Wake whoever waits for them, from another thread: nothing more comes."""
        self._answer.shutdown()

    def close(self) -> None:
        """Let go of them."""
        self._answer.close()
