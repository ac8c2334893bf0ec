"""A deadline that is put off far more often than it passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from asys.node.clock import Clock, Handle


class Alarm:
    """Rings at the time that was set or earlier; whoever is rung looks again what is due.

    So a deadline that moves away costs nothing. Times are those of the clock, in seconds.
    """

    __slots__ = ("_at", "_clock", "_handle")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = 0.0
        self._handle: Handle | None = None

    def set(self, when: float, ring: Callable[[], None]) -> None:
        """Sees to it that `ring` is called at `when` or earlier."""
        if self._handle is None or when < self._at:
            self.stop()
            self._at = when
            delay = max(0.0, when - self._clock.now())
            self._handle = self._clock.call_later(delay, partial(self._rung, ring))

    def stop(self) -> None:
        """Takes it back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _rung(self, ring: Callable[[], None]) -> None:
        self._handle = None
        ring()
