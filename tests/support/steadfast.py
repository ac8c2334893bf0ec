"""Agents of the SDK that go on asking while their node dies and comes back, and keep a ledger.

Each has processes of its own, which it suspends and lets go on. One whose fate is not known is not
touched again: so what is on record of a process tells what became of the one call in question.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import asys
from asys.isa import ThrottleAction
from asys.protocol.keys import PrivateKey
from support.audit import until
from support.comeback import Comeback
from support.daemon import PATIENCE

FIRST: Final = 0.05
"""Seconds before the first attempt to connect again, at most."""


class Steadfast:
    """One agent, and what it was told of its calls: `returned` and `unknown` count them by PID."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.key: Final = PrivateKey.generate()
        self.pids: Final = tuple(pids)
        self.returned: Counter[int] = Counter()
        self.unknown: Counter[int] = Counter()
        self.last: dict[int, ThrottleAction] = {}
        """What was done to a process last, of which this is known."""
        self.others: list[str] = []
        """What calls raised beside OutcomeUnknown."""
        self.delays = 0
        """Delays before an attempt to connect."""
        self.read = 0
        """Plain instructions that were answered."""
        self._known = deque(self.pids)

    def options(self) -> dict[str, object]:
        """Arguments for `connect`."""
        return {
            "identity": asys.Identity(self.key),
            "timeout": PATIENCE,
            "reconnect": asys.Reconnect(first=FIRST, most=2.0, random=self._chance),
        }

    def _chance(self) -> float:
        self.delays += 1
        return random.random()  # noqa: S311  as the SDK does

    def _next(self) -> tuple[int, ThrottleAction]:
        self._known.rotate()
        pid = self._known[0]
        if self.last.get(pid) is ThrottleAction.STOP:
            return pid, ThrottleAction.CONTINUE
        return pid, ThrottleAction.STOP

    def _done(self, pid: int, action: ThrottleAction) -> None:
        self.returned[pid] += 1
        self.last[pid] = action

    def _in_doubt(self, pid: int) -> None:
        self.unknown[pid] += 1
        self.last.pop(pid, None)
        self._known.remove(pid)

    async def work(self, node: Comeback, ending: threading.Event) -> None:
        """Asks without a pause until the end."""
        async with node.connect(**self.options()) as session:
            while not ending.is_set():
                pid, action = self._next()
                try:
                    await session.proc_throttle(pid, action)
                    self._done(pid, action)
                except asys.OutcomeUnknown:
                    self._in_doubt(pid)
                except asys.AsysError as error:
                    self.others.append(repr(error))
                await session.sys_status()
                self.read += 1

    def work_in_a_thread(self, node: Comeback, ending: threading.Event) -> None:
        """The same in blocking code."""
        with node.connect_sync(**self.options()) as session:
            while not ending.is_set():
                pid, action = self._next()
                try:
                    session.proc_throttle(pid, action)
                    self._done(pid, action)
                except asys.OutcomeUnknown:
                    self._in_doubt(pid)
                except asys.AsysError as error:
                    self.others.append(repr(error))
                session.sys_status()
                self.read += 1


async def all_read(agents: Sequence[Steadfast], times: int = 2) -> None:
    """Returns when each has had so many more answers: they come as they come."""
    wanted = {one: one.read + times for one in agents}
    await until(lambda: all(one.read >= read for one, read in wanted.items()))
