"""The kernel's log, /dev/kmsg, as a source of log entries where there is no journal."""

from __future__ import annotations

import errno
import os
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from asys.isa.diagnostics import LogSource
from asys.node.platform.logs.logbook import BUDGET_ENTRIES, Around, Read, pid_of

DEVICE: Final = "/dev/kmsg"

RECORD_BYTES: Final = 16384
"""More than the longest record that the kernel gives in one read."""

DRIFT_NS: Final = 10_000_000
"""How far Unix time and the kernel's clock drift apart before times of entries follow."""

_RECORD: Final = re.compile(rb"(\d+),(\d+),(\d+),[^;]*;(.*)", re.DOTALL)
_WRITER: Final = re.compile(rb"([^\s:\[\]]{1,64})(?:\[(\d+)\])?: ")
"""How a program that writes to the kernel's log says who it is."""

_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")
_KERNEL: Final = b"kernel"


class KmsgSource:
    """The kernel's log since the last boot, as far as it was still there. OSError.

    The device gives records in their order only, so they are kept as they come: the latest 15,000.
    `read` gives one record, and `clock` the time of the kernel's own clock, in ns.
    """

    kind: Final = LogSource.KERNEL

    def __init__(
        self,
        boot_id: bytes,
        path: str = DEVICE,
        *,
        read: Callable[[int, int], bytes] = os.read,
        clock: Callable[[], int] = time.monotonic_ns,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._boot = boot_id.hex().encode("ascii")
        self._read = read
        self._clock = clock
        self._now_ns = now_ns
        self._numbers: deque[int] = deque(maxlen=BUDGET_ENTRIES)
        self._records: deque[bytes] = deque(maxlen=BUDGET_ENTRIES)
        self._at = 0
        self._offset = 0
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """As Source.close."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def refresh(self) -> None:
        """As Source.refresh."""
        offset = self._now_ns() - self._clock()
        if abs(offset - self._offset) > DRIFT_NS:  # else an entry keeps the time that it was shown
            self._offset = offset
        while True:
            try:
                record = self._read(self._fd, RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                continue  # what was to come next has been overwritten; the oldest is there comes
            found = _RECORD.match(record)
            if found is not None:
                self._numbers.append(int(found[2]))
                self._records.append(record)

    def newest_first(self, priority: int, since_ns: int | None) -> Iterator[Read]:
        """As Source.newest_first."""
        for at in range(len(self._records) - 1, -1, -1):
            self._at = at
            time_ns, severity, unit, _, message = self._parsed(at)
            if since_ns is not None and time_ns < since_ns:
                return
            yield Read(time_ns, severity, unit, message)

    def mark(self) -> tuple[bytes, int]:
        """As Source.mark."""
        cursor = b"kmsg:%b:%d" % (self._boot, self._numbers[self._at])
        return cursor, self._parsed(self._at)[3]

    def around(self, cursor: bytes, before: int, after: int) -> tuple[int, list[Around]] | None:
        """As Source.around."""
        device, _, rest = cursor.partition(b":")
        boot, _, number = rest.partition(b":")
        if device != b"kmsg" or boot != self._boot or not number.isdigit():
            return None
        at = bisect_left(self._numbers, int(number))
        if at == len(self._numbers) or self._numbers[at] != int(number):
            return None
        first = max(at - before, 0)
        last = min(at + after, len(self._numbers) - 1)
        entries = []
        for one in range(first, last + 1):
            time_ns, severity, _, pid, message = self._parsed(one)
            entries.append(Around(time_ns, pid, severity, message))
        return at - first, entries

    def _parsed(self, at: int) -> tuple[int, int, bytes, int, bytes]:
        """Time, priority, unit, PID and message of a record."""
        found = _RECORD.match(self._records[at])
        if found is None:
            raise OSError(errno.EBADMSG, "a record of the kernel's log is not as expected")
        head, micros = int(found[1]), int(found[3])
        text = found[4].partition(b"\n")[0]  # behind it stands which device it is about
        message = _ESCAPED.sub(lambda escaped: bytes((int(escaped[1], 16),)), text)
        unit, pid = _KERNEL, 0
        if head >> 3:  # not the kernel itself
            writer = _WRITER.match(message)
            unit = writer[1] if writer is not None else b""
            pid = pid_of(writer[2]) if writer is not None else 0
            message = message[writer.end() :] if writer is not None else message
        return self._offset + micros * 1000, head & 7, unit, pid, message
