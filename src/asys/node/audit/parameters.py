"""The writer's side of the parameter journal (docs/audit.md, section 10): from a ring to lines on
the disk. `journaled_log` is asyd's side.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asys.audit.parameters import (
    DIRECTORY,
    MAX_LINE,
    Lost,
    Parameters,
    file_name,
    file_number,
    heading,
    parse_heading,
)
from asys.node.audit.place import Place, sync
from asys.node.audit.ring import ERROR, MESSAGE, SLOT, Position, Ring

JOURNAL: Final = 16_384
"""Slots of the ring: room for what the writer cannot write in a moment, no more."""

BATCH: Final = 4096
"""Slots that are written at once."""

SYNC_SECONDS: Final = 1.0
"""What a loss of power may take, when the disk is well."""

RETRY_SECONDS: Final = 1.0
"""How often it tries again after an error; an error shows for so long at least."""

FILE_SECONDS: Final = 86_400
"""So long a file is written at most: it can go when all that is in it is old enough."""

MAX_FILES: Final = 64
"""Files that are kept at most, however young."""

ENTRY: Final = 2
LOST: Final = 3
"""Kinds of messages in the ring."""

ENTRY_HEAD: Final = struct.Struct(">Q4sBBBBII")
"""What an entry begins with in the ring: the fields of Parameters but the last, in their order."""

LOST_BODY: Final = struct.Struct(">QQQ")


@dataclass(frozen=True, slots=True)
class ParameterKeeping:
    """How much is kept. `file_bytes`: above it a new file begins; `days`: a file's age."""

    file_bytes: int = 8 << 20
    days: int = 7


def lines_of(data: bytes) -> tuple[bytes, int]:
    """The lines for whole messages in slots of the ring, and how many slots these are."""
    parts: list[bytes] = []
    at, size = 0, len(data)
    while at < size:
        kind, length, _ = MESSAGE.unpack_from(data, at)
        end = at - (-(MESSAGE.size + length) // SLOT) * SLOT
        if end > size:
            break
        body = data[at + MESSAGE.size : at + MESSAGE.size + length]
        if kind == ENTRY:
            entry = Parameters._make((*ENTRY_HEAD.unpack_from(body), body[ENTRY_HEAD.size :]))
            parts.append(entry.line())
        elif kind == LOST:
            parts.append(Lost(*LOST_BODY.unpack(body)).line())
        at = end
    return b"".join(parts), at // SLOT


class Journal:
    """The files of the journal, in a directory below that of the audit.

    Nothing here raises OSError: an error is told, shows in the ring's flags, and what is in the
    ring waits. The chains come first.
    """

    def __init__(
        self, place: Place, ring: Ring | None, keeping: ParameterKeeping, say: Callable[[str], None]
    ) -> None:
        """Without a `ring` only what is too old is removed."""
        self._place = place
        self._ring = ring
        self._keeping = keeping
        self._say = say
        self._directory = -1
        self._fd = -1
        self._number = 0
        self._offset = 0
        self._begun = 0.0
        self._unsynced = False
        self._sync_at = 0.0
        self._error_at = -RETRY_SECONDS
        self._error_words = ""

    def take(self) -> None:
        """Waits until no other process writes from this ring. OSError."""
        if self._ring is not None:
            self._ring.take()

    def step(self) -> bool:
        """Writes one batch; False when there was nothing to do."""
        ring = self._ring
        if ring is None or time.monotonic() < self._error_at + RETRY_SECONDS:
            return False
        try:
            busy = self._write(ring)
            if self._unsynced and time.monotonic() >= self._sync_at:
                self._sync()
        except OSError as error:
            self._failed(ring, error)
            return False
        if ring.flags:
            ring.flags = 0
            self._error_words = ""
            self._say("the parameter journal is written again")
        return busy

    def finish(self) -> None:
        """Writes what is left, once: asyd has ended, and the chains have their end."""
        ring = self._ring
        if ring is None:
            return
        try:
            while self._write(ring):
                pass
            if self._unsynced:
                self._sync()
        except OSError as error:
            self._failed(ring, error)
        self.let_go()

    def let_go(self) -> None:
        """Closes what is open; the next step opens it again."""
        for fd in (self._fd, self._directory):
            if fd >= 0:
                os.close(fd)
        self._fd = self._directory = -1
        self._unsynced = False

    def expire(self, now: float) -> None:
        """Removes files that are too old, or too many. `now` is Unix time."""
        try:
            if self._directory < 0:
                self._open_directory(make=False)
            numbers = self._numbers()
            oldest = now - self._keeping.days * 86_400
            for number in numbers:
                name = file_name(number)
                info = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
                many = number <= max(numbers) - MAX_FILES
                if many or info.st_mtime < oldest:
                    if number == self._number and self._fd >= 0:
                        self._leave_file()
                    os.unlink(name, dir_fd=self._directory)
                    why = "one too many" if many else f"older than {self._keeping.days} days"
                    self._say(f"{DIRECTORY}/{name} is {why}: removed")
        except FileNotFoundError:
            return  # there is no journal, or somebody else removes what is in it
        except OSError as error:
            self._say(f"old parameters cannot be removed: {error.strerror or error}")

    # -- one batch

    def _write(self, ring: Ring) -> bool:
        """OSError."""
        position = ring.position
        tail = position.tail if position is not None else 0
        if ring.head == tail:
            return False
        self._open(position)
        lines, slots = lines_of(ring.peek(tail, BATCH))
        view = memoryview(lines)
        at = self._offset
        while view:
            done = os.pwrite(self._fd, view, at)
            view, at = view[done:], at + done
        self._offset = at
        # A writer that takes over cuts off what is behind this offset, and writes it again.
        ring.position = Position(tail + slots, 0, self._number, at, 0, bytes(32))
        if not self._unsynced:
            self._unsynced = True
            self._sync_at = time.monotonic() + SYNC_SECONDS
        return True

    def _sync(self) -> None:
        self._unsynced = False
        sync(self._fd)

    def _failed(self, ring: Ring, error: OSError) -> None:
        self._error_at = time.monotonic()
        ring.flags = ERROR
        self.let_go()
        words = f"{error.filename or self._place.path / DIRECTORY}: {error.strerror or error}"
        if words != self._error_words:
            self._error_words = words
            self._say(f"the parameter journal cannot be written: {words}")

    # -- files

    def _open(self, position: Position | None) -> None:
        """The file that takes the next batch is open. OSError."""
        if self._directory >= 0 and not os.fstat(self._directory).st_nlink:
            self.let_go()
        if self._directory < 0:
            self._open_directory(make=True)
        if self._fd < 0:
            self._go_on(position)
        if self._fd >= 0:
            info = os.fstat(self._fd)
            age = time.time() - self._begun
            # One that somebody has changed or removed is left as it is.
            if (
                info.st_nlink
                and info.st_size == self._offset < self._keeping.file_bytes
                and 0 <= age < FILE_SECONDS
            ):
                return
            self._leave_file()
        self._begin()

    def _open_directory(self, *, make: bool) -> None:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(DIRECTORY, 0o700, dir_fd=self._place.fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._directory = os.open(DIRECTORY, flags, dir_fd=self._place.fd)
        if os.fstat(self._directory).st_dev != os.fstat(self._place.fd).st_dev:
            self.let_go()
            raise OSError(
                errno.EXDEV,
                "it must be on the file system of the audit: another one that hangs would hold up "
                "the chains",
                str(self._place.path / DIRECTORY),
            )

    def _numbers(self) -> list[int]:
        return sorted(filter(None, map(file_number, os.listdir(self._directory))))

    def _go_on(self, position: Position | None) -> None:
        """Opens the newest file, if it is good to go on in: what is torn at its end is cut off."""
        numbers = self._numbers()
        if not numbers:
            return
        self._number = numbers[-1]
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(file_name(self._number), flags, dir_fd=self._directory)
        except OSError:
            return  # it is not of this journal, whatever it is
        try:
            head = os.pread(fd, 64, 0).partition(b"\n")
            self._begun = float(parse_heading(head[0]))
            size = os.fstat(fd).st_size
            if position is not None and position.segment == self._number:
                end = position.offset
            else:
                at = max(size - MAX_LINE, 0)
                end = at + os.pread(fd, MAX_LINE, at).rfind(b"\n") + 1
            if end < size:
                os.ftruncate(fd, end)
        except (OSError, ValueError):
            os.close(fd)
            return
        self._fd, self._offset = fd, end

    def _begin(self) -> None:
        """A new file behind the last one, with its head."""
        numbers = self._numbers()
        number = max(self._number, *numbers, 0) + 1 if numbers else self._number + 1
        now = int(time.time())
        data = heading(now)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(file_name(number), flags, 0o600, dir_fd=self._directory)
        try:
            os.fchmod(fd, 0o600)
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file_name(number))
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(file_name(number), dir_fd=self._directory)
            raise
        self._fd, self._number, self._offset, self._begun = fd, number, len(data), float(now)
        self.expire(time.time())

    def _leave_file(self) -> None:
        if self._unsynced:
            self._sync()
        os.close(self._fd)
        self._fd = -1
