"""Time as the node sees it: one small interface, so that tests can turn the clock by hand."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Takes it back; nothing happens when it has run already."""


class Clock(Protocol):
    """What tells the time and calls back."""

    def now(self) -> float:
        """Monotonic time in seconds; only differences mean anything."""

    def time_ns(self) -> int:
        """Unix time in nanoseconds; may jump."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Handle:
        """Calls `callback` once, `delay` seconds from now at the earliest."""

    def call_soon(self, callback: Callable[[], object]) -> Handle:
        """Calls `callback` once, after whatever is ready to run or to be read now."""


class LoopClock:
    """The real time, with the callbacks of an event loop.

    Not the loop's own time: uvloop keeps it in whole milliseconds and does not move it while a
    callback runs.
    """

    __slots__ = ("_loop", "now", "time_ns")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.now = time.monotonic
        self.time_ns = time.time_ns

    def call_later(self, delay: float, callback: Callable[[], object]) -> Handle:
        """As Clock.call_later."""
        return self._loop.call_later(delay, callback)

    def call_soon(self, callback: Callable[[], object]) -> Handle:
        """As Clock.call_soon."""
        return self._loop.call_soon(callback)
