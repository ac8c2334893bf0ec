"""Decisions that a fuzzer's bytes stand for, and the bytes that stand for given decisions.

A target takes its decisions off the front of its input; where the input ends, every decision is 0
and every text is empty, so any bytes are an input. `Script` writes inputs, for the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeVar

T = TypeVar("T")


class Choices:
    """Takes decisions off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that nothing has been made of."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or as many as there are."""
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """0 to 255."""
        return int.from_bytes(self.take(1), "big")

    def u16(self) -> int:
        """0 to 65,535."""
        return int.from_bytes(self.take(2).ljust(2, b"\0"), "big")

    def u32(self) -> int:
        """0 to 2^32 - 1."""
        return int.from_bytes(self.take(4).ljust(4, b"\0"), "big")

    def below(self, limit: int) -> int:
        """0 to `limit` - 1; `limit` is at least 1."""
        return (self.byte() if limit <= 256 else self.u16()) % limit

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.byte() & 1)

    def pick(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[self.below(len(among))]

    def blob(self) -> bytes:
        """Up to 65,535 bytes: their number, a u16, stands before them."""
        return self.take(self.u16())

    def text(self) -> str:
        """A blob as text; what is no UTF-8 is replaced."""
        return self.blob().decode("utf-8", "replace")

    def pieces(self, stream: bytes | None = None) -> list[bytes]:
        """A stream, or all that is left, as a network might deliver it: cut at up to 15 places."""
        sizes = [self.byte() for _ in range(self.byte() & 0x0F)]
        left = self.rest() if stream is None else stream
        found = []
        for size in sizes:
            found.append(left[:size])
            left = left[size:]
        return [*found, left]


class Script:
    """Writes what `Choices` reads."""

    def __init__(self) -> None:
        self._data = bytearray()

    def byte(self, *values: int) -> Self:
        """Decisions of one byte each."""
        self._data += bytes(values)
        return self

    def u16(self, value: int) -> Self:
        """A number of two bytes."""
        self._data += value.to_bytes(2, "big")
        return self

    def u32(self, value: int) -> Self:
        """A number of four bytes."""
        self._data += value.to_bytes(4, "big")
        return self

    def raw(self, data: bytes) -> Self:
        """Bytes as they are."""
        self._data += data
        return self

    def blob(self, data: bytes | str) -> Self:
        """Bytes behind their number."""
        encoded = data.encode() if isinstance(data, str) else data
        return self.u16(len(encoded)).raw(encoded)

    def __bytes__(self) -> bytes:
        return bytes(self._data)
