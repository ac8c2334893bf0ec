"""Counters into rates: what changed since the last reading, never less than nothing.

Times are monotonic seconds. The first reading is the baseline; its rates are 0.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping
from typing import ClassVar, Final

from asys.isa import Process, ProcessFlags
from asys.node.platform.base import TableSnapshot

TOP: Final = 5
"""Processes that SYS_PROCS shows."""


class _Readings:
    """CPU time used, and when that was read, of each process that a scan has seen.

    By PID and start in one number, in many small dictionaries of bare numbers: one large dictionary
    would hold everybody when it grows, and the garbage collector would visit each tuple.
    """

    SHARDS: ClassVar[int] = 64

    __slots__ = ("at", "cpu")

    def __init__(self) -> None:
        self.cpu: list[dict[int, float]] = [{} for _ in range(self.SHARDS)]
        self.at: list[dict[int, float]] = [{} for _ in range(self.SHARDS)]


class CpuMeter:
    """CPU in use and I/O wait of the whole machine."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float, float] | None = None

    def update(self, now: float, busy: float, idle: float, io_wait: float) -> tuple[int, int]:
        """Percent in use and ms of I/O wait since the last update.

        The counters are seconds summed over all CPUs; `idle` does not include `io_wait`. I/O wait
        is at most the time that has passed. Kernels let idle and io_wait go back a little.
        """
        last, self._last = self._last, (now, busy, idle, io_wait)
        if last is None:
            return 0, 0
        elapsed = max(now - last[0], 0.0)
        used = max(busy - last[1], 0.0)
        waited = max(io_wait - last[3], 0.0)
        total = used + waited + max(idle - last[2], 0.0)
        percent = round(100 * used / total) if total else 0
        return percent, int(min(waited, elapsed) * 1000)


class NetworkMeter:
    """Traffic over all interfaces that it is given; leave loopback out."""

    def __init__(self) -> None:
        self._last: tuple[float, Mapping[str, tuple[int, int]]] | None = None

    def update(self, now: float, counters: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
        """Mbit/s received and sent since the last update.

        `counters` has bytes received and sent by interface. One that is new, or whose counter went
        back (it wrapped, or the interface was made anew), adds nothing this time.
        """
        last, self._last = self._last, (now, counters)
        if last is None or now <= last[0]:
            return 0, 0
        received = sent = 0
        for name, (inbound, outbound) in counters.items():
            before = last[1].get(name)
            if before is not None:
                received += max(inbound - before[0], 0)
                sent += max(outbound - before[1], 0)
        unit = (now - last[0]) * 1_000_000 / 8
        return round(received / unit), round(sent / unit)


class ProcessMeter:
    """CPU of each process between two scans, and the few that used most.

    `per_second` is how many units of CPU time one second has, `memory` the machine's memory in the
    unit that resident memory is given in.
    """

    def __init__(self, per_second: float, memory: int) -> None:
        self._percent = 100 / per_second
        self._memory = max(memory, 1)
        self._seen = _Readings()
        self._next = _Readings()
        self._top: list[tuple[float, int, int, int, int]] = []
        self._busy: dict[int, float] = {}
        self._began: tuple[float, int] | None = None
        self._since: tuple[float, int] | None = None
        self.count = 0

    def forget(self) -> None:
        """The next scan is a baseline again: its CPU is 0."""
        self._began = None

    def begin(self, now: float, start_now: int) -> None:
        """A scan begins. `start_now` is the start that a process born now would have."""
        self._since, self._began = self._began, (now, start_now)
        self._next = _Readings()
        self._top = []
        self._busy = {}
        self.count = 0

    def add(self, pid: int, start: int, cpu: float, resident: int, now: float, flags: int) -> None:
        """One process as read at `now`; `cpu` is all the CPU time it has ever used."""
        self.count += 1
        key = start << 32 | pid
        shard = pid % _Readings.SHARDS
        # Taken out one by one: thousands of entries given up at once would hold everybody.
        before = self._seen.cpu[shard].pop(key, None)
        since = self._since
        used = elapsed = 0.0
        if since is not None:
            if before is not None:
                used = cpu - before
                elapsed = now - self._seen.at[shard].pop(key)
            elif start >= since[1]:
                # Born since the last scan: all it has used, it used in this interval. One that is
                # older and was only not readable then starts from here.
                used = cpu
                elapsed = now - since[0]
        self._next.cpu[shard][key] = cpu
        self._next.at[shard][key] = now
        percent = used * self._percent / elapsed if used > 0 and elapsed > 0 else 0.0
        if percent:
            self._busy[key] = percent
        top = self._top
        if len(top) < TOP or (percent, resident, -pid) > top[0]:
            insort(top, (percent, resident, -pid, start, flags))
            del top[:-TOP]

    def leaders(self) -> list[int]:
        """PIDs of the processes that used most, most first."""
        return [-entry[2] for entry in reversed(self._top)]

    def finish(self, owned_by_root: Collection[int]) -> TableSnapshot:
        """The scan has ended; `owned_by_root` has those of the leaders that are uid 0's."""
        self._seen = self._next
        top = []
        for percent, resident, negative_pid, _, flags in reversed(self._top):
            pid = -negative_pid
            if pid in owned_by_root:
                flags |= ProcessFlags.ROOT.value
            memory = min(resident * 100 // self._memory, 100)
            top.append(Process(pid, percent, memory, ProcessFlags(flags)))
        starts = {-entry[2]: entry[3] for entry in self._top}
        return TableSnapshot(self.count, tuple(top), starts, self._busy)
