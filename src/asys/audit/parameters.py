"""The parameter journal: what an instruction said, beside the record of it (docs/audit.md, 10).

Lines of text in files of their own, which nothing chains: who deletes a line leaves no trace.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from asys.audit.records import digest

if TYPE_CHECKING:
    from asys.audit.reading import Action

DIRECTORY: Final = "parameters"
"""Where the files lie, below the directory of the audit."""

MAX_PAYLOAD: Final = 4096
"""Bytes of a payload that are kept; a longer one is cut."""

MAX_LINE: Final = 2 * MAX_PAYLOAD + 128
"""Characters of a line at most."""

MAX_ENTRIES: Final = 65_536
MAX_BYTES: Final = 16 << 20
"""What a reader remembers at most; the oldest is forgotten first."""

SLACK_NS: Final = 10**9
"""Entries are in the order of their times, but for a clock that was set back by less than this."""

_CHUNK: Final = 256 << 10
_OVERHEAD: Final = 300
"""Bytes that a remembered entry costs beside its payload."""

_NAME: Final = re.compile(r"parameters-(\d{8,10})\.txt")
_HEADING: Final = re.compile(rb"asys-parameters ([0-9]{1,4}) ([0-9]{1,12})")
_ENTRY: Final = re.compile(
    rb"([0-9]{1,20}) ([0-9a-f]{8}) ([0-9a-f]{2}) ([0-9a-f]{2}) ([0-9a-f]{2}) ([0-9a-f]{2}) "
    rb"([0-9]{1,10}) ([0-9]{1,10}) (-|(?:[0-9a-f]{2})+)"
)
_LOST: Final = re.compile(rb"lost ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,20})")
_VERSION: Final = 1


class Parameters(NamedTuple):
    """What one instruction said. `time_ns` and `seq` are those of its first record.

    `payload` is in clear and without Seq: the first MAX_PAYLOAD of `length` bytes.
    """

    time_ns: int
    key_hash: bytes
    cla: int
    ins: int
    p1: int
    p2: int
    seq: int
    length: int
    payload: bytes

    def __repr__(self) -> str:
        return f"<Parameters of {self.ins:02X}, Seq {self.seq}, {self.length} bytes>"

    @property
    def is_cut(self) -> bool:
        """Whether the payload was longer than what is here."""
        return self.length > len(self.payload)

    def line(self) -> bytes:
        """As the file has it, with its newline."""
        return (
            f"{self.time_ns} {self.key_hash.hex()} {self.cla:02x} {self.ins:02x} {self.p1:02x} "
            f"{self.p2:02x} {self.seq} {self.length} {self.payload.hex() or '-'}\n"
        ).encode()


class Lost(NamedTuple):
    """So many instructions have no entry, as the disk did not take them in time. Unix time in ns.

    `first_ns` and `last_ns` are the times of the first and of the last of them.
    """

    entries: int
    first_ns: int
    last_ns: int

    def line(self) -> bytes:
        """As the file has it, with its newline."""
        return f"lost {self.entries} {self.first_ns} {self.last_ns}\n".encode()


class Unreadable(NamedTuple):
    """What cannot be read, in words."""

    words: str


def parse_line(line: bytes) -> Parameters | Lost:
    """A line without its newline. ValueError: it is none of a journal."""
    match = _ENTRY.fullmatch(line)
    if match is None:
        lost = _LOST.fullmatch(line)
        if lost is None:
            raise ValueError("it is neither an entry nor a gap")
        return Lost(*map(int, lost.groups()))
    payload = b"" if match[9] == b"-" else bytes.fromhex(match[9].decode())
    length = int(match[8])
    if len(payload) != min(length, MAX_PAYLOAD):
        raise ValueError(f"{len(payload)} bytes of a payload of {length} are not what is kept")
    cla, ins, p1, p2 = (int(match[number], 16) for number in range(3, 7))
    key_hash = bytes.fromhex(match[2].decode())
    return Parameters(int(match[1]), key_hash, cla, ins, p1, p2, int(match[7]), length, payload)


def heading(begun: int) -> bytes:
    """The first line of a file that was begun at this second of Unix time."""
    return f"asys-parameters {_VERSION} {begun}\n".encode()


def parse_heading(line: bytes) -> int:
    """When a file was begun, from its first line without the newline. ValueError."""
    match = _HEADING.fullmatch(line)
    if match is None:
        raise ValueError("it does not begin as a parameter journal does")
    if int(match[1]) != _VERSION:
        raise ValueError(f"its version is {int(match[1])}; this program knows {_VERSION}")
    return int(match[2])


def file_name(number: int) -> str:
    """`parameters-00000001.txt`; longer where the number is."""
    return f"parameters-{number:08d}.txt"


def file_number(name: str) -> int:
    """The number in the name of a file; 0 for the name of another file."""
    match = _NAME.fullmatch(name)
    number = int(match[1]) if match is not None else 0
    return number if name == file_name(number) else 0


# -- reading


class Proof(StrEnum):
    """What a record says of the payload that the journal has for it."""

    PROVED = "proved"
    """Its digest is that of the record."""
    DIFFERS = "differs"
    """It is not: the entry or the record was changed."""
    CUT = "cut"
    """The payload is not here whole, so its digest cannot be known."""
    MISSING = "missing"
    """The journal has nothing for this record."""


class Found(NamedTuple):
    """What the journal has for an action, and what it is worth."""

    proof: Proof
    parameters: Parameters | None = None


Aside: TypeAlias = Lost | Unreadable
"""What a reader meets beside entries."""

_Key: TypeAlias = tuple[int, bytes, int, int]
"""Time, key hash, INS and Seq: of an entry, and of the first record of its instruction."""


class JournalReader:
    """Finds the parameters of actions, which come in about the order of the records.

    It reads on only as far as it has to; a journal that grows is read on at the next call.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` is that of the audit; there need be no journal in it (yet)."""
        self.directory: Final = directory / DIRECTORY
        self._known: dict[_Key, Parameters] = {}
        self._bytes = 0
        self._asides: list[Aside] = []
        self._lines = _Lines(self.directory)

    @property
    def exists(self) -> bool:
        """Whether there is a journal."""
        return self.directory.is_dir()

    def find(self, action: Action) -> Found:
        """The parameters of an action; once. OSError: the directory cannot be read."""
        moment = action.intent_ns if action.intent_ns is not None else action.outcome_ns
        if moment is None:
            return Found(Proof.MISSING)
        key = (moment, action.key_hash, action.ins, action.seq)
        if key not in self._known:
            self._read_to(key)
        found = self._known.pop(key, None)
        if found is None:
            return Found(Proof.MISSING)
        self._bytes -= _cost(found)
        if found.is_cut:
            return Found(Proof.CUT, found)
        proved = digest(found.payload) == action.digest
        return Found(Proof.PROVED if proved else Proof.DIFFERS, found)

    def close(self) -> None:
        """Lets go of the file that it is in; for whoever wants no more. Once is enough."""
        self._lines.close()

    def asides(self) -> list[Aside]:
        """What was met beside entries since the last call."""
        asides, self._asides = self._asides, []
        return asides

    def finish(self) -> list[Aside]:
        """As `asides`, when everything that is there has been read. OSError."""
        for one in self._lines:
            if not isinstance(one, Parameters):
                self._asides.append(one)
        return self.asides()

    def _read_to(self, key: _Key) -> None:
        for one in self._lines:
            if not isinstance(one, Parameters):
                self._asides.append(one)
                continue
            its_key = (one.time_ns, one.key_hash, one.ins, one.seq)
            before = self._known.pop(its_key, None)
            if before is not None:
                self._bytes -= _cost(before)
            self._known[its_key] = one
            self._bytes += _cost(one)
            while len(self._known) > MAX_ENTRIES or self._bytes > MAX_BYTES:
                self._bytes -= _cost(self._known.pop(next(iter(self._known))))
            if its_key == key or one.time_ns > key[0] + SLACK_NS:
                return


def _cost(one: Parameters) -> int:
    return len(one.payload) + _OVERHEAD


class _Lines:
    """The lines of all files, one after the other; at its end it may be asked again.

    OSError when the directory cannot be read; what is wrong with a file is told, and passed over.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._file = -1
        self._buffer = b""
        self._line = 0
        self._told = False
        self._ready: deque[Parameters | Aside] = deque()

    def __iter__(self) -> Iterator[Parameters | Aside]:
        """All that is there and was not given before."""
        while True:
            while self._ready:
                yield self._ready.popleft()
            if not self._more():
                return

    def close(self) -> None:
        """Lets go of the file."""
        if self._file >= 0:
            self._leave()

    def _more(self) -> bool:
        """Reads on, in this file or in the next one; False: there is nothing more now."""
        # Asked first: what was written before the later one began is then there to be read.
        later = self._later()
        if self._file >= 0:
            data = os.read(self._file, _CHUNK)
            if data:
                self._split(data)
                return True
            if not later:
                return False
            self._close()
        if not later:
            return False
        self._open(later)
        return True

    def _later(self) -> int:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return 0
        numbers = [number for name in names if (number := file_number(name)) > self._number]
        return min(numbers, default=0)

    def _open(self, number: int) -> None:
        self._number = number
        self._line, self._told = 0, False
        path = self._directory / file_name(number)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(path, flags)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                self._tell("it is no regular file")
                self._leave()
        except FileNotFoundError:
            return  # removed just now, as it is too old
        except OSError as error:
            self._tell(error.strerror or str(error))

    def _close(self) -> None:
        if self._buffer:
            self._split(b"\n")  # the piece of a line: it is told
        if self._file >= 0:
            self._leave()

    def _leave(self) -> None:
        os.close(self._file)
        self._file = -1
        self._buffer = b""

    def _split(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > MAX_LINE:
            self._buffer = self._buffer[: MAX_LINE + 1]  # no line is so long; its end is awaited
        for line in lines:
            self._line += 1
            try:
                if self._line == 1:
                    parse_heading(line)
                else:
                    self._ready.append(parse_line(line))
            except ValueError as error:
                self._tell(str(error))
                if self._line == 1:
                    self._leave()
                    return

    def _tell(self, words: str) -> None:
        """Once a file."""
        if not self._told:
            self._told = True
            where = f", line {self._line}" if self._line else ""
            path = Path(DIRECTORY, file_name(self._number))
            self._ready.append(Unreadable(f"{path}{where}: {words}"))
