"""Segment files: their names, and their entries one after the other (docs/audit.md, section 3)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from asys.audit.chain import HEAD_SIZE, HEADER_SIZE, MAGIC, VERSION, header

AUDIT: Final = "audit"
"""The chain of what agents did."""

READS: Final = "reads"
"""The chain of what they only read, coalesced."""

KINDS: Final = (AUDIT, READS)

CHUNK: Final = 256 << 10
"""Bytes read at once; with one entry of 64 KiB the most that a reader holds."""

_OPEN: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Without O_NONBLOCK opening a pipe of that name would wait for ever."""

_NAME: Final = re.compile(r"(audit|reads)-(\d{8,10})\.seg")


class Segment(NamedTuple):
    """A segment's number and its file."""

    number: int
    path: Path


class Framed(NamedTuple):
    """One entry where it stands: `data` is type, length and body."""

    offset: int
    data: bytes


class BadSegment(Exception):
    """A segment holds what nobody writes there; where, and what, in words."""

    def __init__(self, path: Path, offset: int, words: str) -> None:
        super().__init__(f"{path.name}, offset {offset}: {words}")
        self.path = path
        self.offset = offset
        self.words = words


def segment_name(kind: str, number: int) -> str:
    """`audit-00000001.seg`; longer where the number is."""
    return f"{kind}-{number:08d}.seg"


def find_segments(directory: Path, kind: str) -> list[Segment]:
    """The segments of a chain that are there, in order; other files are passed over. OSError."""
    found = []
    for name in os.listdir(directory):
        match = _NAME.fullmatch(name)
        if match is None or match[1] != kind:
            continue
        number = int(match[2])
        if number and name == segment_name(kind, number):
            found.append(Segment(number, directory / name))
    return sorted(found)


class SegmentReader:
    """Reads one segment, also one that still grows; at most CHUNK and an entry in memory."""

    def __init__(self, segment: Segment) -> None:
        """Opens it. OSError, also when it is no regular file."""
        self.segment: Final = segment
        self._fd = os.open(segment.path, _OPEN)
        self._buffer = b""
        self._offset = 0
        self._zeros = 0
        self.previous: bytes | None = None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise OSError(f"{segment.path} is no regular file; move it away")

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    @property
    def rest(self) -> int:
        """Bytes behind the last whole entry, or head, that are not one (yet)."""
        return len(self._buffer) + self._zeros

    @property
    def end(self) -> int:
        """The offset behind the last whole entry."""
        return self._offset

    def read_header(self) -> bool:
        """Reads the head, and sets `previous`; False while it is not there whole. BadSegment."""
        if self.previous is not None:
            return True
        self._buffer += os.read(self._fd, HEADER_SIZE - len(self._buffer))
        size = len(self._buffer)
        expected = header(self.segment.number, bytes(32))[: HEADER_SIZE - 32]
        if self._buffer[: len(expected)] != expected[:size]:
            if size < HEADER_SIZE and not any(self._buffer):
                return False  # the file had its length before it had its bytes
            raise self._bad_header()
        if size < HEADER_SIZE:
            return False
        self.previous = self._buffer[-32:]
        self._buffer = b""
        self._offset = HEADER_SIZE
        return True

    def torn_header(self) -> bytes:
        """The bytes of a head that is not there whole."""
        return self._buffer

    def batch(self) -> list[Framed]:
        """The next whole entries; empty when there are none for now. BadSegment; OSError.

        What follows the last one is counted in `rest`: the piece of an entry, or zeros to the end.
        """
        while True:
            if self._zeros or self._buffer[:1] == b"\0":
                self._pass_zeros()
            data = os.read(self._fd, CHUNK)
            if not data:
                return []
            self._buffer += data
            entries = self._split() if not self._zeros else []
            if entries:
                return entries

    def _split(self) -> list[Framed]:
        data, base = self._buffer, self._offset
        at, size = 0, len(self._buffer)
        entries = []
        while size - at >= HEAD_SIZE and data[at]:
            end = at + HEAD_SIZE + (data[at + 1] << 8 | data[at + 2])
            if end > size:
                break
            entries.append(Framed(base + at, data[at:end]))
            at = end
        self._buffer = data[at:]
        self._offset = base + at
        return entries

    def _pass_zeros(self) -> None:
        """A file system may give a file its length before its bytes; no entry begins with 00."""
        if self._buffer.count(0) != len(self._buffer):
            raise BadSegment(self.segment.path, self._offset, "00 is no type of entry")
        self._zeros += len(self._buffer)
        self._buffer = b""

    def _bad_header(self) -> BadSegment:
        path, seen = self.segment.path, self._buffer
        if seen[:4] != MAGIC[: len(seen)]:
            return BadSegment(path, 0, "it does not begin with ASAU")
        if len(seen) > 4 and seen[4] != VERSION:
            return BadSegment(path, 4, f"its version is {seen[4]}; this program knows {VERSION}")
        number = int.from_bytes(seen[5:9], "big")
        return BadSegment(path, 5, f"its head says segment {number}, its name another one")
