"""Instructions that wait until a collector has their intent (docs/audit.md, section 12)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from asys.node.audit.ring import Ring
from asys.node.clock import Clock

if TYPE_CHECKING:
    from asys.node.recorder import Recorder
    from asys.protocol.apdu import Frame

PATIENCE: Final = 0.5
"""Seconds in which the collector must have an intent."""

ALWAYS: Final = frozenset((*range(0x60, 0x70), *range(0xC0, 0x100)))
"""Codes that wait wherever there is a collector."""

BY_OPTION: Final = frozenset((*range(0x20, 0x60), *range(0x70, 0x90)))
"""Codes that wait only where an admin wants it so: who cuts the line must not disarm the node."""


class Unacknowledged(Exception):
    """An intent is on record and waits for the collector; its instruction has done nothing yet."""

    def __init__(self, strict: Strict, recorder: Recorder, frame: Frame) -> None:
        super().__init__(f"{frame.ins:02X} waits for the collector")
        self.frame: Final = frame
        self._strict = strict
        self._recorder = recorder
        self._slot = strict.slot

    async def acknowledged(self) -> bool:
        """Waits for it; True when the instruction may be tried once more, and run then."""
        if not await self._strict.acknowledged(self._slot):
            return False
        self._recorder.resume(self.frame)
        return True


class Strict:
    """Who waits for which slot of the ring. Owned by one event loop."""

    def __init__(
        self,
        ring: Ring,
        clock: Clock,
        *,
        more: bool = False,
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """`more`: BY_OPTION as well. `hurry` is called when somebody begins to wait."""
        codes = ALWAYS | BY_OPTION if more else ALWAYS
        self._demanded = tuple(code in codes for code in range(256))
        self._ring = ring
        self._clock = clock
        self._hurry = hurry
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()

    def demands(self, ins: int) -> bool:
        """Whether an instruction must not run before the collector has its intent."""
        return self._demanded[ins]

    @property
    def slot(self) -> int:
        """What must be acknowledged for all that is in the ring now."""
        return self._ring.head

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def acknowledged(self, slot: int) -> bool:
        """Waits until the collector has all up to a slot; False after PATIENCE seconds.

        Slots of later calls are not lower.
        """
        if self._ring.acknowledged >= slot:
            return True
        came: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        entry = slot, came
        self._waiting.append(entry)

        def late() -> None:
            if not came.done():
                came.set_result(False)

        timer = self._clock.call_later(PATIENCE, late)
        self._hurry()
        try:
            return await came
        finally:
            timer.cancel()
            if entry in self._waiting:
                self._waiting.remove(entry)

    def look(self) -> None:
        """The collector has more than before: whoever waited for that goes on, in order."""
        reached = self._ring.acknowledged
        waiting = self._waiting
        while waiting and waiting[0][0] <= reached:
            came = waiting.popleft()[1]
            if not came.done():
                came.set_result(True)
