"""When the keys of a connection have served long enough, without I/O.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

import math
from typing import Final

from asys.client.pending import FOREVER
from asys.errors import ArgumentError

DEFAULT_SECONDS: Final = 3600.0
"""Age of the keys after which they are renewed."""

DEFAULT_REQUESTS: Final = 1_000_000
"""Requests under the same keys after which they are renewed."""

IDLE: Final = 30.0
"""Seconds without a call after which a connection is idle: a new one is better than new keys."""


class Renewal:
    """The age of a connection's keys and what they have carried, against what they may.

    Nothing is due before `begin`.
    """

    __slots__ = ("_due_at", "_most", "_requests", "_seconds", "carried", "idle_from")

    def __init__(
        self, seconds: float | None = DEFAULT_SECONDS, requests: int | None = DEFAULT_REQUESTS
    ) -> None:
        """None: never for that reason. ArgumentError unless both are positive."""
        self._seconds: Final = None if seconds is None else _positive(seconds)
        self._requests: Final = None if requests is None else _count(requests)
        self._most: Final[float] = FOREVER if requests is None else requests
        self._due_at = FOREVER
        self.carried = 0
        """Requests that left under these keys; whoever sends them counts."""
        self.idle_from = FOREVER
        """The moment from which on the connection is idle, unless it is called before."""

    def begin(self, now: float) -> None:
        """The keys are new, or the node refused new ones: age and count start again."""
        self._due_at = FOREVER if self._seconds is None else now + self._seconds
        self.carried = 0

    def called(self, now: float) -> bool:
        """A call is made. True: the keys are due to be renewed before it."""
        self.idle_from = now + IDLE
        return now >= self._due_at or self.carried >= self._most

    def due(self, now: float) -> bool:
        """The keys are due to be renewed."""
        return now >= self._due_at or self.carried >= self._most

    def again(self) -> Renewal:
        """The same limits for another connection."""
        return Renewal(self._seconds, self._requests)


def _positive(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ArgumentError(f"rekey_seconds must be a number of seconds or None, not {seconds!r}")
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ArgumentError(f"rekey_seconds must be more than 0 and finite, not {seconds}")
    return float(seconds)


def _count(requests: int) -> int:
    if isinstance(requests, bool) or not isinstance(requests, int):
        raise ArgumentError(f"rekey_requests must be a whole number or None, not {requests!r}")
    if requests < 1:
        raise ArgumentError(f"rekey_requests must be at least 1, not {requests}")
    return requests
