"""The process table from /proc, a process at a time.

psutil needs ten times as long for each process. What costs is the kernel's: opening and reading
/proc/PID/stat; nothing else is read but the owner of the few processes that are shown.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from asys.isa import ProcessFlags
from asys.node.platform.base import SystemFailure, TableSnapshot, node_failure
from asys.node.platform.meters import ProcessMeter
from asys.node.platform.processes.proclist import Listing, choose_listing
from asys.node.platform.procfs import PROC, STAT_SIZE, TICKS_PER_SECOND, read_small, stat_fields
from asys.protocol.status import SW

_STATES: Final = {b"Z": ProcessFlags.ZOMBIE.value, b"D": ProcessFlags.UNINTERRUPTIBLE.value}
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)
_GONE: Final = (errno.ENOENT, errno.ESRCH)


class ProcfsTable:
    """Scans /proc. `timer` is what tells how much later than its begin a scan reads a process."""

    def __init__(
        self,
        root: str = PROC,
        *,
        timer: Callable[[], float] = time.monotonic,
        listing: Listing | None = None,
    ) -> None:
        self._timer = timer
        self._list = listing or choose_listing()
        self._meter = ProcessMeter(TICKS_PER_SECOND, os.sysconf("SC_PHYS_PAGES"))
        self.latest = TableSnapshot(0, (), {})
        try:
            self._proc = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._spare = os.dup(self._proc)
        except OSError as error:
            raise node_failure(error, f"opening {root}") from error

    def forget(self) -> None:
        """As ProcessTable.forget."""
        self._meter.forget()

    def scan(self, now: float) -> Iterator[None]:
        """As ProcessTable.scan."""
        try:
            yield from self._scan(now)
        except OSError as error:
            raise node_failure(error, "reading the process table") from error
        except (ValueError, IndexError) as error:
            raise SystemFailure(f"/proc is not as expected: {error}", SW.NODE_IO_ERROR) from error

    def _scan(self, now: float) -> Iterator[None]:
        timer = self._timer
        meter = self._meter
        read = self._read
        ahead = now - timer()
        if self._spare < 0:  # lost while there were no descriptors left
            self._spare = os.dup(self._proc)
        meter.begin(now, int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_SECOND))
        for names in self._list(self._proc):
            yield
            for name in names:
                try:
                    stat = read(name)
                except PermissionError:  # it is there, and /proc hides what it does
                    meter.count += 1
                    stat = b""
                if stat:
                    fields = stat_fields(stat)
                    meter.add(
                        int(name),
                        int(fields[19]),
                        int(fields[11]) + int(fields[12]),
                        int(fields[21]),
                        timer() + ahead,
                        _STATES.get(fields[0], 0),
                    )
                yield
        roots = set()
        for pid in meter.leaders():
            if self._owned_by_root(pid):
                roots.add(pid)
            yield
        self.latest = meter.finish(roots)

    def _read(self, name: str) -> bytes:
        """/proc/PID/stat, or nothing when the process has ended."""
        try:
            return self._read_stat(name)
        except OSError as error:
            if error.errno in _GONE:
                return b""
            if error.errno not in _NO_DESCRIPTOR:
                raise
        return self._read_with_spare(name)

    def _read_with_spare(self, name: str) -> bytes:
        """As `_read`, when there is no descriptor left but the one that is kept for this."""
        os.close(self._spare)
        self._spare = -1
        try:
            return self._read_stat(name)
        except OSError as error:
            if error.errno in _GONE:
                return b""
            raise
        finally:
            self._spare = os.dup(self._proc)

    def _read_stat(self, name: str) -> bytes:
        return read_small(name + "/stat", STAT_SIZE, self._proc)

    def _owned_by_root(self, pid: int) -> bool:
        try:
            return os.stat(str(pid), dir_fd=self._proc).st_uid == 0
        except OSError:  # ended meanwhile
            return False

    def close(self) -> None:
        """Gives back what it holds open."""
        for fd in (self._proc, self._spare):
            if fd >= 0:
                os.close(fd)
        self._proc = self._spare = -1
