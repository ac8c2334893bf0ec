"""What a node's key states about the one that takes its place (docs/protocol.md, section 8.4)."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from asys.protocol.keys import PrivateKey, is_low_order
from asys.protocol.limits import KEY_SIZE
from asys.protocol.xeddsa import SIGNATURE_SIZE, sign, verify

_CONTEXT: Final = b"asys-key-statement-v1"
_DATES: Final = struct.Struct(">II")

STATEMENT_SIZE: Final = 2 * KEY_SIZE + _DATES.size + SIGNATURE_SIZE
"""Bytes of a statement: 136."""


class BadStatement(ValueError):
    """A statement that carries nobody over; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class KeyStatement:
    """`old_key` says that `new_key` takes its place; `made` and `ends` are Unix time in seconds.

    Whether it is true says `check`; nothing else looks at the signature.
    """

    old_key: bytes
    new_key: bytes
    made: int
    ends: int
    signature: bytes

    @classmethod
    def of(cls, old: PrivateKey, new_key: bytes, made: int, ends: int) -> KeyStatement:
        """The statement of a key about the next one, signed."""
        message = _message(old.public, new_key, made, ends)
        return cls(old.public, new_key, made, ends, sign(old, message))

    @classmethod
    def unpack(cls, data: bytes) -> KeyStatement:
        """The statement in 136 bytes. BadStatement: they are not as many."""
        if len(data) != STATEMENT_SIZE:
            raise BadStatement(f"a statement has {STATEMENT_SIZE} bytes, not {len(data)}")
        made, ends = _DATES.unpack_from(data, 2 * KEY_SIZE)
        return cls(
            data[:KEY_SIZE],
            data[KEY_SIZE : 2 * KEY_SIZE],
            made,
            ends,
            data[-SIGNATURE_SIZE:],
        )

    def pack(self) -> bytes:
        """The 136 bytes."""
        dates = _DATES.pack(self.made, self.ends)
        return self.old_key + self.new_key + dates + self.signature

    def check(self) -> None:
        """BadStatement unless the old key has signed it, about a key that can be one."""
        message = _message(self.old_key, self.new_key, self.made, self.ends)
        if not verify(self.old_key, message, self.signature):
            raise BadStatement(f"the key {self.old_key.hex()} has not signed it")
        if self.new_key == self.old_key:
            raise BadStatement("it puts a key in its own place")
        if is_low_order(self.new_key):
            raise BadStatement(f"{self.new_key.hex()} can be nobody's key")


def follow(
    key: bytes, statements: Iterable[KeyStatement], superseded: Container[bytes] = ()
) -> list[KeyStatement]:
    """The statements that lead on from a key, in their order; the last one names the key to trust.

    Those of other keys are passed over. BadStatement for one of the way that is not signed, or that
    leads back: to a key of the way, or of `superseded`.
    """
    way: list[KeyStatement] = []
    been = {key}
    left = list(statements)
    while found := [one for one in left if one.old_key == key]:
        statement = found[0]
        statement.check()
        key = statement.new_key
        if key in been or key in superseded:
            raise BadStatement(f"it leads back to the key {key.hex()}, which has ended")
        been.add(key)
        way.append(statement)
        left.remove(statement)
    return way


def parse_statements(text: str) -> list[KeyStatement]:
    """The statements in a text: one a line, 272 hex digits; # begins a comment.

    BadStatement names the line that is none.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        try:
            found.append(KeyStatement.unpack(bytes.fromhex(written)))
        except BadStatement as error:
            raise BadStatement(f"line {number}: {error}") from None
        except ValueError:
            raise BadStatement(
                f"line {number}: a statement is {2 * STATEMENT_SIZE} hex digits"
            ) from None
    return found


def _message(old_key: bytes, new_key: bytes, made: int, ends: int) -> bytes:
    return _CONTEXT + old_key + new_key + _DATES.pack(made, ends)
