"""How many nodes are worked on at a time, and why those that do not answer hold up nobody.

What must be bounded is work: handshakes and answers that are due at once. Waiting for a node costs
nothing. So a turn is given back when it has lasted for HANDOVER, although its node is still waited
for; and nodes that did not answer the last time have a lane of their own.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from asys.errors import ArgumentError

HANDOVER: Final = 0.25
"""Seconds after which a node that is waited for does not count any more."""

CONCURRENCY: Final = 64
"""Nodes that are worked on at a time, if nobody says otherwise."""


class Lanes:
    """One lane for nodes that answer, one of the same width for those that did not."""

    def __init__(self, width: int) -> None:
        """ArgumentError unless `width` is a positive whole number."""
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ArgumentError(f"concurrency must be at least 1, not {width!r}")
        self._good: Final = asyncio.Semaphore(width)
        self._doubtful: Final = asyncio.Semaphore(width)

    def turn(self, *, doubtful: bool) -> Turn:
        """A turn in the lane of the node: `async with lanes.turn(...)`."""
        return Turn(self._doubtful if doubtful else self._good)


class Turn:
    """A node's turn: it begins when there is room, and makes room again after HANDOVER."""

    __slots__ = ("_lane", "_timer")

    def __init__(self, lane: asyncio.Semaphore) -> None:
        self._lane = lane
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._lane.acquire()
        self._timer = asyncio.get_running_loop().call_later(HANDOVER, self._give_back)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._lane.release()
