"""The chains of one node on the disk: appended to, never rewritten (docs/audit.md, section 11).

    <label>/1/audit-00000001.seg ...    the first generation
    <label>/2/...                       the next one, where the node began anew

Whatever a method has taken in, `sync` alone makes it count: after an OSError, or a kill, everything
behind the last sync is cut off before anything goes on. Owned by one thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from asys.audit.chain import header
from asys.audit.collector.incoming import NOTHING, NotTaken, Standing, take
from asys.audit.push import Put, Reason
from asys.audit.records import EntryType
from asys.audit.segments import (
    BadSegment,
    Segment,
    SegmentReader,
    find_segments,
    segment_name,
)

GENERATIONS_A_DAY: Final = 24
"""Generations of a chain that may begin, or change, within a day."""

_DAY: Final = 86_400
_GENERATION: Final = re.compile(r"[1-9][0-9]{0,8}")
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class ChainStore:
    """One chain of one node. `open` comes first, and again after whatever has failed."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        say: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`say` is told what an admin should know; `now` is Unix time in s."""
        self.kind: Final = kind
        self._directory = directory
        self._say = say
        self._now = now
        self._read = False
        self._astray = False
        # What the disk has, synced, and what it will have after the next sync. Of a generation
        # whose standing is NOTHING, nothing can be gone on with: the next one begins.
        self._synced, self._synced_generation = NOTHING, 0
        self._standing, self._generation = NOTHING, 0
        self._fd = -1
        self._dirty = False
        self.lost = 0
        """How often what was put and not synced was taken back."""
        self._made: list[Path] = []
        """Directories with new names in them, not synced yet; the innermost first."""

    @property
    def standing(self) -> Standing:
        """Where the chain stands, with what is not synced yet."""
        return self._standing

    @property
    def directory(self) -> Path:
        """Of the generation that is written."""
        return self._directory / str(self._generation)

    def open(self, *, anew: bool) -> Standing:
        """What is on the disk. `anew`: it is left as it is, and the next generation begins.

        OSError; NotTaken when too many generations have begun.
        """
        if self._astray:
            self._mend()
        if not self._read:
            self._recover()
        self._standing, self._generation = self._synced, self._synced_generation
        if anew and self._standing.segment:
            if self._recent() >= GENERATIONS_A_DAY:
                raise NotTaken(
                    Reason.GENERATIONS,
                    f"{GENERATIONS_A_DAY} generations of the {self.kind} chain have begun, or "
                    "changed, within a day",
                )
            self._say(
                f"the {self.kind} chain BEGINS ANEW: the node says that it does not go on from "
                f"{self._standing.anchor}, where what is kept in {self.directory} ends. What is "
                "there stays; find out why"
            )
            self._standing = NOTHING
        return self._standing

    def put(self, put: Put) -> bool:
        """Appends what a PUT carries; False when it was only a piece. NotTaken; OSError."""
        if self._astray or not self._read:
            raise NotTaken(Reason.MALFORMED, "a PUT for a chain that was not opened")
        taken = take(self._standing, put)
        if taken.data:
            if taken.rolls:
                self._begin_segment(put.segment)
            self._append(taken.data, 0 if taken.rolls else self._standing.offset)
        self._standing = taken.standing
        return taken.whole

    def sync(self) -> None:
        """What was put is on the disk when this returns. OSError: all of it is taken back."""
        if not self._dirty:
            return
        try:
            os.fsync(self._fd)
            while self._made:
                _sync_directory(self._made[0])
                del self._made[0]
        except OSError:
            self._take_back()
            raise
        self._dirty = False
        # A piece of an entry lives as long as its connection; it is not on the disk.
        self._synced = replace(self._standing, begun=b"")
        self._synced_generation = self._generation

    def close(self) -> None:
        """Lets the file go. OSError."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    # -- writing

    def _begin_segment(self, number: int) -> None:
        self.sync()
        self.close()
        try:
            if not self._standing.segment:
                self._generation += 1
                for path in (self._directory, self.directory):
                    if not path.is_dir():
                        path.mkdir(mode=0o700)
                        self._made.insert(0, path.parent)
            self._made.insert(0, self.directory)
            name = self.directory / segment_name(self.kind, number)
            self._fd = os.open(name, _APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            self._take_back()
            raise

    def _append(self, data: bytes, offset: int) -> None:
        """Appends whole or not at all. OSError."""
        try:
            if self._fd < 0:
                name = segment_name(self.kind, self._standing.segment)
                self._fd = os.open(self.directory / name, _APPEND)
            info = os.fstat(self._fd)
            if info.st_size != offset or not info.st_nlink:
                raise OSError(
                    f"somebody else has changed the {self.kind} chain in {self.directory}"
                )
        except OSError:
            self._let_go()
            self._read = False  # nothing is cut off: what is there has to be looked at
            raise
        before, self._dirty = self._dirty, True
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            if not offset:
                self._take_back()
                raise
            try:
                os.ftruncate(self._fd, offset)
                self._dirty = before
            except OSError:
                self._take_back()
            raise

    def _take_back(self) -> None:
        """What is not synced does not count; it is cut off now, or else when the chain is opened.

        It must not stay: what could not be synced once is clean to the kernel ever after.
        """
        self._let_go()
        self._astray = True
        with contextlib.suppress(OSError):
            self._mend()

    def _let_go(self) -> None:
        self.lost += 1
        self._dirty = False
        self._made.clear()
        self._standing, self._generation = self._synced, self._synced_generation
        with contextlib.suppress(OSError):
            self.close()

    def _mend(self) -> None:
        """Cuts off what stands behind the last sync. OSError."""
        kept = self._synced
        for generation in self._generations():
            if generation < self._synced_generation:
                continue
            directory = self._directory / str(generation)
            ours = generation == self._synced_generation and kept.segment > 0
            for number, path in find_segments(directory, self.kind):
                if generation > self._synced_generation or (ours and number > kept.segment):
                    path.unlink()
                elif ours and number == kept.segment and path.stat().st_size > kept.offset:
                    _cut(path, kept.offset)
            if generation > self._synced_generation:
                with contextlib.suppress(OSError):  # the other chain may be in it
                    directory.rmdir()
                    continue
            _sync_directory(directory)
        self._astray = False

    # -- what is there

    def _generations(self) -> list[int]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if _GENERATION.fullmatch(name))

    def _recent(self) -> int:
        """Generations of this chain that have begun or changed within a day."""
        since = self._now() - _DAY
        found = 0
        for generation in self._generations():
            directory = self._directory / str(generation)
            if directory.stat().st_mtime > since and find_segments(directory, self.kind):
                found += 1
        return found

    def _recover(self) -> None:
        """Finds where the newest generation stands; what no entry holds is cut off. OSError."""
        for generation in reversed(self._generations()):
            directory = self._directory / str(generation)
            segments = find_segments(directory, self.kind)
            self._drop_headless(segments)
            if not segments:
                continue
            self._synced_generation = generation
            try:
                self._synced = self._replay(segments)
            except (BadSegment, NotTaken) as bad:
                self._say(
                    f"WHAT IS KEPT IN {directory} WAS CHANGED OR DAMAGED HERE ({bad}): it stays "
                    f"as it is, and the {self.kind} chain goes on in the next generation"
                )
                self._synced = NOTHING
            for path in (directory, self._directory, self._directory.parent):
                _sync_directory(path)
            break
        else:
            self._synced, self._synced_generation = NOTHING, 0
        self._read = True

    def _drop_headless(self, segments: list[Segment]) -> None:
        """A last segment without a whole head holds nothing that was ever acknowledged."""
        while segments:
            with SegmentReader(segments[-1]) as reader:
                try:
                    if reader.read_header():
                        return
                except BadSegment:
                    return  # to be told where it is read
            self._say(f"{segments[-1].path} was never begun whole: it is removed")
            segments.pop().path.unlink()

    def _replay(self, segments: list[Segment]) -> Standing:
        """Follows the chain from the last segment that tells its count. BadSegment; NotTaken."""
        start = len(segments) - 1
        while start > 0 and not _tells_count(segments[start]):
            start -= 1
        standing = NOTHING
        for segment in segments[start:]:
            with SegmentReader(segment) as reader:
                if not reader.read_header():
                    raise BadSegment(segment.path, 0, "its head is not whole")
                data = header(segment.number, reader.previous or b"")
                offset = 0
                while True:
                    data += b"".join(framed.data for framed in reader.batch())
                    if not data:
                        break
                    put = Put(self.kind, segment.number, offset, data)
                    standing = take(standing, put).standing
                    offset, data = reader.end, b""
                if reader.rest and segment is segments[-1]:
                    self._say(
                        f"{segment.path} ends with {reader.rest} bytes that are no whole entry and "
                        "were never acknowledged: they are cut off"
                    )
                    _cut(segment.path, reader.end)
        _sync_file(segments[-1].path)
        return standing


def _tells_count(segment: Segment) -> bool:
    """Whether it begins with a checkpoint, or with nothing before it. BadSegment; OSError."""
    if segment.number == 1:
        return True
    with SegmentReader(segment) as reader:
        found = reader.batch() if reader.read_header() else []
        return bool(found) and found[0].data[0] == EntryType.CHECKPOINT


def _cut(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
