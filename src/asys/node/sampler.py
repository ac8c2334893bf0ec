"""The sampler: the latest vitals and process table, ready to send, while anybody asks for them.

Nothing is sampled on a request. The first one, or a session that opens, wakes the sampler; 5 s
after the last one it sleeps, and then has no timer at all.

It stays out of the way of those it samples for: it works in slices with pauses between them, not
right behind an answer, and at no round intervals (docs/decisions/0037-sampler-gives-way.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from asys.isa import Processes
from asys.node.clock import Clock, Handle
from asys.node.health.counts import Costs, Lag
from asys.node.platform.base import (
    Platform,
    PlatformError,
    SystemFailure,
    TableSnapshot,
    node_failure,
)
from asys.protocol.status import SW

VITALS_INTERVAL: Final = 0.187
"""Seconds between two readings of the vitals; 4 Hz or more. Not round: agents poll at round
intervals, and the reading would meet the same agent's question every time."""

TABLE_LEAST_INTERVAL: Final = 0.233
"""Seconds from the begin of a scan of the process table to the next, at the least. Not round."""

TABLE_MOST_INTERVAL: Final = 0.8
"""The same, at the most: a scan still ends before what it replaces is too old."""

TABLE_SHARE: Final = 0.05
"""Of one CPU, for scanning the process table, where the two intervals leave a choice."""

SETTLE: Final = 0.1
"""Seconds from the baseline after sleep to the first real reading."""

SLICE: Final = 0.00005
"""Seconds after which a scan lets others run. With the step that crosses it, that stays far below
0.3 ms, and a request that meets it hardly waits."""

LONGEST_SLICE: Final = 0.0002
"""The same where the table is so large that a scan would else have more than `MOST_SLICES`."""

MOST_SLICES: Final = 400

PAUSE: Final = 0.001
"""Seconds between two slices while what agents get is fresh: asyd sleeps, and whoever it has
answered on the same CPU runs, also where asyd goes before it."""

JUST_NOW: Final = 0.0005
"""Seconds from a request in which a reading puts itself off by a pause, once: an answer on its way
goes before a reading that has time."""

MAX_AGE: Final = 1.0
"""Seconds after which a request waits for something newer."""

IDLE: Final = 5.0
"""Seconds without a request after which the sampler sleeps."""

_SUCCESS: Final = SW.SUCCESS.wire

_log = logging.getLogger("asyd.sampler")


class Sampler:
    """Keeps `status_reply` and `procs_reply`: whole responses to SYS_STATUS and SYS_PROCS.

    When one of the two cannot be read its reply is the status word that says so; the other goes on.
    `processes` is the table behind `procs_reply`, another object after each scan; a failed scan
    leaves it. `timer` measures slices, in seconds; `lag` is told how late the sampler's timer runs.
    PlatformError when there is nothing to read at all.
    """

    __slots__ = (
        "_awake",
        "_clock",
        "_closed",
        "_fresh_until",
        "_lag",
        "_logged",
        "_now",
        "_procs_at",
        "_procs_good",
        "_scan_began",
        "_scan_cost",
        "_slice",
        "_slice_put_off",
        "_status_at",
        "_status_good",
        "_steps",
        "_table",
        "_table_based",
        "_table_timer",
        "_timer",
        "_touched",
        "_vitals",
        "_vitals_based",
        "_vitals_due",
        "_vitals_put_off",
        "_vitals_timer",
        "_waiting",
        "processes",
        "procs_reply",
        "status_reply",
        "table_costs",
        "vitals_costs",
    )

    def __init__(
        self,
        platform: Platform,
        clock: Clock,
        *,
        timer: Callable[[], float] = time.perf_counter,
        lag: Lag | None = None,
    ) -> None:
        self._clock = clock
        self._now = clock.now
        self._timer = timer
        self._lag = lag or Lag()
        self.vitals_costs: Final = Costs()
        self.table_costs: Final = Costs()
        self._vitals = platform.vitals()
        self._table = platform.process_table()
        self.status_reply: bytes = SW.NODE_BUSY.wire
        self.procs_reply: bytes = SW.NODE_BUSY.wire
        self.processes = TableSnapshot(0, (), {})
        self._fresh_until = float("-inf")
        self._status_at = self._procs_at = float("-inf")
        self._status_good = self._procs_good = False
        self._vitals_based = self._table_based = False
        self._touched = float("-inf")
        self._awake = self._closed = False
        self._vitals_due: float | None = None
        self._vitals_timer: Handle | None = None
        self._table_timer: Handle | None = None
        self._steps: Iterator[None] = iter(())
        self._scan_began = 0.0
        self._scan_cost = 0.0
        self._slice = SLICE
        self._vitals_put_off = self._slice_put_off = False
        self._waiting: list[Callable[[bool], object]] = []
        self._logged: set[tuple[str, SW]] = set()

    @property
    def awake(self) -> bool:
        """Whether it samples now."""
        return self._awake

    def wake(self) -> None:
        """A session has opened: samples for the next 5 s at least."""
        self.touch()

    def touch(self) -> bool:
        """A SYS_STATUS or SYS_PROCS has arrived: samples for the next 5 s at least.

        True when both replies may be sent as they are: neither is older than 1 s.
        """
        read = self._now
        now = self._touched = read()
        if not self._awake:
            self._start()
        return now <= self._fresh_until

    def fresh(self, now: float) -> bool:
        """Whether both replies are at most 1 s old at `now`."""
        return now <= self._fresh_until

    def when_fresh(self, callback: Callable[[bool], object]) -> None:
        """Calls back, from the event loop, as soon as both replies are fresh.

        With False when one of them had to be a status word, or when the sampler was closed.
        """
        self.touch()
        self._waiting.append(callback)
        self._answer_waiting()

    def close(self) -> None:
        """Ends sampling for good; whoever waits is told."""
        self._closed = True
        self._sleep()
        self._vitals.close()
        self._table.close()
        self._answer_waiting()

    def _start(self) -> None:
        """From sleep: what was counted before it is forgotten, so no rate spans it."""
        if self._closed:
            return
        self._awake = True
        self._vitals_based = self._table_based = False
        self._table.forget()
        self._logged.clear()
        self._vitals_due = None
        self._vitals_timer = self._clock.call_soon(self._read_vitals)
        self._table_timer = self._clock.call_soon(self._begin_scan)

    def _sleep(self) -> None:
        self._awake = False
        for timer in (self._vitals_timer, self._table_timer):
            if timer is not None:
                timer.cancel()
        self._vitals_timer = self._table_timer = None
        self._steps = iter(())

    def _read_vitals(self) -> None:
        now = self._clock.now()
        if self._vitals_due is not None:
            self._lag.observe(now - self._vitals_due)
            self._vitals_due = None
        if now - self._touched >= IDLE and not self._waiting:
            self._sleep()
            return
        if not self._vitals_put_off and self._gives_way(now):
            self._vitals_put_off = True
            self._vitals_timer = self._clock.call_later(PAUSE, self._read_vitals)
            return
        self._vitals_put_off = False
        pause = VITALS_INTERVAL
        began = self._timer()
        try:
            status = self._vitals.read(now)
            reply = status.pack() + _SUCCESS
        except Exception as error:
            self._vitals_based = False
            self.vitals_costs.failures += 1
            self._publish_status(self._failure(error, "vitals"), now, good=False)
        else:
            if self._vitals_based:
                self._publish_status(reply, now, good=True)
            else:
                self._vitals_based = True
                pause = SETTLE
        self.vitals_costs.readings += 1
        self.vitals_costs.took(self._timer() - began)
        self._vitals_due = now + pause
        self._vitals_timer = self._clock.call_later(pause, self._read_vitals)

    def _begin_scan(self) -> None:
        self._scan_began = self._clock.now()
        self._slice = min(max(SLICE, self._scan_cost / MOST_SLICES), LONGEST_SLICE)
        self._scan_cost = 0.0
        try:
            self._steps = self._table.scan(self._scan_began)
        except Exception as error:
            self._scan_failed(error)
        else:
            self._scan_slice()

    def _scan_slice(self) -> None:
        """Scans until the slice is used up, then lets others run and goes on."""
        if not self._slice_put_off and self._gives_way(self._clock.now()):
            self._slice_put_off = True
            self._table_timer = self._clock.call_later(PAUSE, self._scan_slice)
            return
        self._slice_put_off = False
        timer = self._timer
        began = timer()
        end = began + self._slice
        try:
            for _ in self._steps:
                if timer() >= end:
                    self._took(timer() - began)
                    self._table_timer = self._after_slice()
                    return
            self._took(timer() - began)
            self._end_scan()
        except Exception as error:
            self._took(timer() - began)
            self._scan_failed(error)

    def _after_slice(self) -> Handle:
        if self.fresh(self._clock.now()):
            return self._clock.call_later(PAUSE, self._scan_slice)
        return self._clock.call_soon(self._scan_slice)

    def _gives_way(self, now: float) -> bool:
        """Whether somebody asked just now, and what is there is fresh: nobody waits for more."""
        return now - self._touched < JUST_NOW and self.fresh(now)

    def _scan_failed(self, error: Exception) -> None:
        self.table_costs.readings += 1
        self.table_costs.failures += 1
        self._table.forget()
        self._table_based = False
        reply = self._failure(error, "process table")
        self._publish_procs(reply, good=False)
        self._next_scan(self._interval())

    def _took(self, seconds: float) -> None:
        self._scan_cost += seconds
        self.table_costs.took(seconds)

    def _end_scan(self) -> None:
        self.table_costs.readings += 1
        if self._table_based:
            snapshot = self._table.latest
            reply = Processes(snapshot.count, snapshot.top).pack() + _SUCCESS
            self.processes = snapshot
            self._publish_procs(reply, good=True)
            self._next_scan(self._interval())
        else:
            self._table_based = True
            self._next_scan(self._clock.now() - self._scan_began + SETTLE)

    def _interval(self) -> float:
        """Seconds from the begin of the last scan to the next, by what the last one took."""
        wanted = max(self._scan_cost / TABLE_SHARE, TABLE_LEAST_INTERVAL)
        return min(wanted, TABLE_MOST_INTERVAL)

    def _next_scan(self, interval: float) -> None:
        delay = self._scan_began + interval - self._clock.now()
        self._table_timer = self._clock.call_later(max(delay, 0.0), self._begin_scan)

    def _publish_status(self, reply: bytes, now: float, *, good: bool) -> None:
        self.status_reply = reply
        self._status_good = good
        self._status_at = now
        self._published()

    def _publish_procs(self, reply: bytes, *, good: bool) -> None:
        self.procs_reply = reply
        self._procs_good = good
        self._procs_at = self._clock.now()
        self._published()

    def _published(self) -> None:
        self._fresh_until = min(self._status_at, self._procs_at) + MAX_AGE
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._waiting and (self._closed or self.fresh(self._clock.now())):
            good = self._status_good and self._procs_good and not self._closed
            waiting, self._waiting = self._waiting, []
            for callback in waiting:  # each on its own, so that none can hold up the next
                self._clock.call_soon(partial(callback, good))

    def _failure(self, error: Exception, what: str) -> bytes:
        """The reply for what could not be read. Each kind is logged once until the next sleep."""
        if isinstance(error, OSError):
            error = node_failure(error, what)
        foreseen = isinstance(error, PlatformError)
        if isinstance(error, SystemFailure):
            sw = error.sw
        elif isinstance(error, MemoryError):
            sw = SW.NODE_OUT_OF_MEMORY
        else:
            sw = SW.NODE_IO_ERROR if foreseen else SW.NODE_UNKNOWN_ERROR
        if (what, sw) not in self._logged:
            self._logged.add((what, sw))
            trace = None if foreseen else error
            with suppress(MemoryError):  # what goes on by itself must not end with a line of a log
                _log.warning("%s: the %s cannot be read: %s", sw, what, error, exc_info=trace)
        return sw.wire
