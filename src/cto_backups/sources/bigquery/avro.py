"""How many rows are in an Avro file, told from its bytes as they pass: each block says it, compressed or not.

The container is described in https://avro.apache.org/docs/1.12.0/specification/#object-container-files.
"""

from collections.abc import Generator
from typing import Final

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_LONGEST_NUMBER: Final = 10

_Reading = Generator[int, bytes, None]
"""Asks for so many bytes, or with a number below zero, to have so many passed over."""


class DamagedAvroError(Exception):
    """What came is no whole Avro file."""


class AvroRows:
    """Counts the rows of one file; `add` takes its bytes in order, `end` says that there are no more."""

    def __init__(self) -> None:
        self.rows = 0
        self._whole = False
        self._taken = bytearray()
        self._reading = self._file()
        self._wanted = next(self._reading)

    def add(self, data: memoryview) -> None:
        """Take the bytes that follow. Raises DamagedAvroError."""
        while data:
            if self._wanted < 0:
                passed = min(len(data), -self._wanted)
                data = data[passed:]
                self._wanted += passed
                if not self._wanted:
                    self._wanted = self._reading.send(b"")
                continue
            part = data[: self._wanted - len(self._taken)]
            self._taken += part
            data = data[len(part) :]
            if len(self._taken) == self._wanted:
                taken, self._taken = bytes(self._taken), bytearray()
                self._wanted = self._reading.send(taken)

    def end(self) -> None:
        """Raises DamagedAvroError when the file ended too soon."""
        if not self._whole or self._taken:
            raise DamagedAvroError("it ended too soon")

    def _file(self) -> _Reading:
        if (yield len(_MAGIC)) != _MAGIC:
            raise DamagedAvroError("it is no Avro file")
        while count := (yield from self._number()):
            if count < 0:  # then the bytes of the block of settings are told as well
                yield from self._number()
            for _ in range(abs(count)):
                yield from self._pass(2)
        sync = yield _SYNC_BYTES
        while True:
            self._whole = True
            first = yield 1
            self._whole = False
            rows = yield from self._number(first)
            size = yield from self._number()
            if rows < 0 or size < 0:
                raise DamagedAvroError("a block has a size below zero")
            if size:
                yield -size
            if (yield _SYNC_BYTES) != sync:
                raise DamagedAvroError("a block does not end where it should")
            self.rows += rows

    def _pass(self, values: int) -> _Reading:
        """Pass over texts, each with its length before it."""
        for _ in range(values):
            size = yield from self._number()
            if size < 0:
                raise DamagedAvroError("a text has a length below zero")
            if size:
                yield -size

    def _number(self, first: bytes = b"") -> Generator[int, bytes, int]:
        """A number: seven bits in each byte, the lowest first; and zigzag, so that those below zero are short."""
        value = 0
        for place in range(_LONGEST_NUMBER):
            byte = first if place == 0 and first else (yield 1)
            value |= (byte[0] & 0x7F) << (7 * place)
            if byte[0] < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise DamagedAvroError("a number has no end")
