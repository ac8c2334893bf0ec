"""A clock that only moves when a test says so."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class ManualHandle:
    """A callback of a ManualClock."""

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Takes it back."""
        self.cancelled = True


class ManualClock:
    """A Clock whose time a test moves; callbacks run inside `advance` and `run_ready`.

    `unix_ns` is the Unix time at the start; it moves along. `others` is how many seconds everybody
    else takes before what was asked for with `call_soon` runs.
    """

    def __init__(self, start: float = 1000.0, unix_ns: int = 1_700_000_000_000_000_000) -> None:
        self.others = 0.0
        self._start = start
        self._now = start
        self._unix_ns = unix_ns
        self._order = count()
        self._queue: list[tuple[float, int, ManualHandle]] = []

    def now(self) -> float:
        """As Clock.now."""
        return self._now

    def time_ns(self) -> int:
        """As Clock.time_ns."""
        return self._unix_ns + round((self._now - self._start) * 1_000_000_000)

    def call_later(self, delay: float, callback: Callable[[], object]) -> ManualHandle:
        """As Clock.call_later."""
        handle = ManualHandle(self._now + max(delay, 0.0), callback)
        heapq.heappush(self._queue, (handle.due, next(self._order), handle))
        return handle

    def call_soon(self, callback: Callable[[], object]) -> ManualHandle:
        """As Clock.call_soon: runs at the next `run_ready` or `advance`."""
        return self.call_later(self.others, callback)

    @property
    def pending(self) -> list[ManualHandle]:
        """What has not run and was not cancelled, next first."""
        while self._queue and self._queue[0][2].cancelled:
            heapq.heappop(self._queue)
        return [entry[2] for entry in sorted(self._queue) if not entry[2].cancelled]

    def run_ready(self) -> None:
        """Runs everything that is due now, and what that makes due at once."""
        self.advance(0.0)

    def step(self) -> bool:
        """Runs the one callback that is due first, now at the latest; False when there is none."""
        pending = self.pending
        return bool(pending) and pending[0].due <= self._now and self.run_next()

    def run_next(self) -> bool:
        """Moves time on to the next callback and runs that one; False when there is none."""
        while self._queue:
            handle = heapq.heappop(self._queue)[2]
            if not handle.cancelled:
                self._now = max(self._now, handle.due)
                handle.callback()
                return True
        return False

    def advance(self, seconds: float) -> None:
        """Moves time on, stopping at each callback that falls due, in order."""
        end = self._now + seconds
        while pending := self.pending:
            if pending[0].due > end:
                break
            self.run_next()
        self._now = max(self._now, end)

    def set_unix(self, seconds: float) -> None:
        """Sets the Unix time on by so many seconds, or back; nothing else moves."""
        self._unix_ns += round(seconds * 1_000_000_000)

    def skip(self, seconds: float) -> None:
        """Moves time on and runs nothing: as where the event loop comes too late."""
        self._now += seconds
