"""`id_curve25519.next`: the key that takes the place of the node's own (docs/protocol.md, 8.4).

    turning u8 (0: both keys are valid, 1: the next one takes over) || private key 32 || statement

One file, replaced as a whole: there is a next key with its statement, or none. To take over is a
row of writes, each of which may be the last one for now: whoever finds the file with a 1 does them
all again. At every moment one of the two files has each key that somebody may need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from asys.errors import HandshakeError
from asys.node.disk.files import ConfigError, is_there, quoted, read_private
from asys.node.disk.state_writer import OVERWRITE, REMOVE, REPLACE, Write, carry_out
from asys.protocol.keys import PrivateKey, Secret
from asys.protocol.limits import KEY_SIZE
from asys.protocol.statement import STATEMENT_SIZE, BadStatement, KeyStatement, parse_statements

NEXT_SIZE: Final = 1 + KEY_SIZE + STATEMENT_SIZE
"""Bytes of the file: 169."""

DAY: Final = 86_400
DEFAULT_OVERLAP: Final = 30 * DAY
LONGEST_OVERLAP: Final = 366 * DAY
"""Seconds for which both keys are valid."""

MAX_STATEMENTS: Final = 1 << 20
"""Bytes of `key_statements` that are read at most: some thousands of rotations."""

_BOTH: Final = b"\0"
_TURNING: Final = b"\1"


class KeyPlace(Protocol):
    """Where a key of the node and what belongs to it are."""

    @property
    def key_path(self) -> Path:
        """The private key."""

    @property
    def public_path(self) -> Path:
        """Its public key."""

    @property
    def next_path(self) -> Path:
        """The key that takes its place, if there is one."""

    @property
    def statements_path(self) -> Path:
        """What keys that have ended have stated."""


@dataclass(frozen=True, slots=True, repr=False)
class NextKey(Secret):
    """A key with what the one before has stated about it; `turning`: it is taking over."""

    key: PrivateKey
    statement: KeyStatement
    turning: bool = False

    @classmethod
    def make(cls, old: PrivateKey, now: int, overlap: int) -> NextKey:
        """A new one, which the old key states; both are valid for `overlap` seconds from now on."""
        key = PrivateKey.generate()
        return cls(key, KeyStatement.of(old, key.public, now, now + overlap))

    def pack(self) -> bytes:
        """What is in the file."""
        return (_TURNING if self.turning else _BOTH) + self.key.raw() + self.statement.pack()

    @classmethod
    def unpack(cls, data: bytes) -> NextKey:
        """Its inverse. ValueError: it was not made by `pack`."""
        if len(data) != NEXT_SIZE or data[:1] not in (_BOTH, _TURNING):
            raise ValueError("not of this form")
        key = PrivateKey(data[1 : 1 + KEY_SIZE])
        statement = KeyStatement.unpack(data[1 + KEY_SIZE :])
        statement.check()
        if statement.new_key != key.public:
            raise BadStatement("it is about another key")
        return cls(key, statement, data[:1] == _TURNING)

    def __repr__(self) -> str:
        return f"<NextKey {self.key.public.hex()}>"


def read_next(place: KeyPlace) -> NextKey | None:
    """What is in the file; None: there is no next key. ConfigError for a file that is damaged."""
    path = place.next_path
    if not is_there(path):
        return None
    data = read_private(path, forbidden=0o077, mend="600", limit=NEXT_SIZE)
    try:
        return NextKey.unpack(data)
    except (ValueError, HandshakeError):
        raise ConfigError(
            f"{path} is damaged. Restore it from a backup; or do without the next key, and let "
            f"agents that have moved to it trust the old one anew, and run: mv {quoted(path)} "
            f"{quoted(path.with_suffix('.damaged'))}"
        ) from None


def beginning(place: KeyPlace, next_key: NextKey) -> Write:
    """The write after which there is a next key."""
    return _write(place.next_path, REPLACE, next_key.pack(), 0o600)


def taking_over(place: KeyPlace, next_key: NextKey) -> Iterator[Write]:
    """The writes after which the next key is the node's own, and the old one is erased.

    With the second one it is decided. ConfigError: the statements of before cannot be read.
    """
    statement = next_key.statement
    kept = [one for one in read_statements(place) if one != statement]
    lines = "".join(f"{one.pack().hex()}\n" for one in (*kept, statement))
    yield _write(place.statements_path, REPLACE, lines.encode("ascii"), 0o644)
    yield _write(place.next_path, REPLACE, replace(next_key, turning=True).pack(), 0o600)
    # In its place, so that the bytes of the old key do not stay behind on the disk.
    yield _write(place.key_path, OVERWRITE, next_key.key.raw(), 0)
    yield _write(place.public_path, REPLACE, next_key.key.public, 0o644)
    yield _write(place.next_path, REMOVE, b"", 0)


@dataclass(frozen=True, slots=True, repr=False)
class LoadedKeys(Secret):
    """The keys that a node starts with; `ended` is set where the next one has just taken over."""

    key: PrivateKey
    next: NextKey | None = None
    ended: KeyStatement | None = None


def settle(place: KeyPlace, now: int) -> NextKey | KeyStatement | None:
    """The next key, if there is one that has not taken over. One that should have does it now: its
    statement.

    ConfigError: a file is damaged, or the disk does not take it.
    """
    next_key = read_next(place)
    if next_key is None:
        return None
    if next_key.turning or now >= next_key.statement.ends:
        do_all(taking_over(place, next_key))
        return next_key.statement
    return next_key


def do_all(writes: Iterator[Write]) -> None:
    """Does them one after the other. ConfigError when the disk does not take one."""
    for write in writes:
        try:
            carry_out(write)
        except OSError as error:
            path = os.fsdecode(write.path)
            raise ConfigError(
                f"{path}: {error.strerror or error}; mend the disk, and try again"
            ) from error


def read_statements(place: KeyPlace) -> list[KeyStatement]:
    """The statements of keys that have ended, the oldest first. ConfigError: a file is damaged."""
    path = place.statements_path
    if not is_there(path):
        return []
    data = read_private(path, forbidden=0o022, mend="644", limit=MAX_STATEMENTS)
    try:
        return parse_statements(data.decode("ascii"))
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged: {error}; to go on without the statements in it, run: "
            f"mv {quoted(path)} {quoted(path.with_suffix('.damaged'))}"
        ) from None


def _write(path: Path, what: int, data: bytes, mode: int) -> Write:
    return Write(0, what, mode, os.fsencode(path), data)
