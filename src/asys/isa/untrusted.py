"""Text from a node that anyone on it may have written: log messages, names of processes.

It has a type of its own, which is no `str`: it cannot get into a command, a path or the prompt of a
language model by accident. Whoever wants the text itself writes `.raw`, and answers for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from asys.protocol.codec import Conversion, Field, long_text
from asys.protocol.fields import padded_text


@dataclass(frozen=True, slots=True, repr=False)
class UntrustedText:
    """Text that nobody vouches for. `str` and `repr` say so, on one line, quoted and escaped."""

    raw: str
    """The text as the node sent it: with control characters, and with whatever it tries to say."""

    @property
    def shown(self) -> str:
        """The text for a terminal: on one line, everything that is not printable escaped."""
        return "".join(map(_shown, self.raw))

    def __bool__(self) -> bool:
        """Whether there is any text."""
        return bool(self.raw)

    def __repr__(self) -> str:
        return f"UntrustedText({self.raw!r})"

    __str__ = __repr__


def _shown(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode("ascii")


def untrusted(doc: str, most: int) -> Field:
    """UTF-8 text behind its length, a u16, at most `most` bytes; the rest of the payload.

    What is too long is cut behind a whole character; bytes that are no UTF-8 read as U+FFFD.
    """

    def encode(value: UntrustedText) -> bytes:
        return value.raw.encode(errors="replace")[:most].decode(errors="ignore").encode()

    def decode(data: bytes) -> UntrustedText:
        return UntrustedText(data.decode(errors="replace"))

    return long_text(doc, most, Conversion(decode, encode, _of, f"text of up to {most} bytes"))


def untrusted_padded(doc: str, size: int) -> Field:
    """As `padded`, for text that nobody vouches for."""
    plain = padded_text(size)

    def encode(value: UntrustedText) -> bytes:
        return plain.encode(value.raw)

    def decode(data: bytes) -> UntrustedText:
        return UntrustedText(plain.decode(data))

    convert = Conversion(decode, encode, _of, plain.written)
    return Field("bytes", doc, size=size, convert=convert)


def _of(value: object) -> UntrustedText:
    return value if isinstance(value, UntrustedText) else UntrustedText(str(value))
