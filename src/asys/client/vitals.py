"""Readings at an interval, and what is said when some are missing; without I/O.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from asys.client.backoff import check_seconds
from asys.errors import AsysError, Blocked, LinkError, NodeError
from asys.isa import Status


@dataclass(frozen=True, slots=True)
class Vitals:
    """A reading. `missed` counts those that were due since the one before, and were not taken."""

    status: Status
    missed: int


@dataclass(frozen=True, slots=True)
class Gap:
    """From here on readings are missing; the next Vitals says how many. `error` says why."""

    error: AsysError


class Ticks:
    """The moments at which a reading is due; the first is now. Those that pass are not made up."""

    def __init__(self, interval: float, now: float) -> None:
        """`interval` in seconds. ArgumentError unless it is positive and finite."""
        check_seconds("interval", interval)
        self._interval = interval
        self._due = now
        self._missed = 0
        self._in_gap = False

    def left(self, now: float) -> float:
        """Seconds until the next reading is due; 0 when it is."""
        return max(self._due - now, 0.0)

    def begin(self, now: float) -> None:
        """A reading is taken now, for the last moment that has come; those before are missed."""
        passed = max(int((now - self._due) / self._interval), 0)
        self._missed += passed
        self._due += (passed + 1) * self._interval

    def read(self, status: Status) -> Vitals:
        """The reading has been taken."""
        vitals = Vitals(status, self._missed)
        self._missed = 0
        self._in_gap = False
        return vitals

    def failed(self, error: AsysError, *, closed: bool) -> Gap | None:
        """The reading has failed: a Gap where one begins here. Raises what ends all readings."""
        if closed or not isinstance(error, LinkError | Blocked | NodeError):
            raise error
        self._missed += 1
        begins, self._in_gap = not self._in_gap, True
        return Gap(error) if begins else None
