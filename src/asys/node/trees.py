"""PROC_TREE beside the sessions: one look at the process table at a time, a little in a turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from typing import Final, TypeVar

from asys.node.platform.base import ProcessTrees, Tree

SLICE: Final = 0.00005
"""Seconds after which others get their turn, as with the sampler."""

WAITING: Final = 8
"""Trees that are asked for at a time, the one that is being made among them."""

T = TypeVar("T")


class Trees:
    """Makes trees one after the other. `timer` measures slices, in seconds."""

    def __init__(
        self, trees: ProcessTrees, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._trees = trees
        self._timer = timer
        self._turn = asyncio.Lock()
        self._asked = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be asked for."""
        return self._asked < WAITING

    def holds(self, pid: int) -> bool:
        """As ProcessTrees.holds."""
        return self._trees.holds(pid)

    async def tree(self, pid: int, depth: int, busy: Callable[[], Mapping[int, float]]) -> Tree:
        """As ProcessTrees.tree; `busy` is asked when the look begins. PlatformError."""
        self._asked += 1
        try:
            async with self._turn:
                return await in_slices(self._trees.tree(pid, depth, busy()), self._timer)
        finally:
            self._asked -= 1

    def close(self) -> None:
        """Gives back what it holds open."""
        self._trees.close()


async def in_slices(steps: Generator[None, None, T], timer: Callable[[], float]) -> T:
    """What a generator returns; others get their turn between its steps."""
    end = timer() + SLICE
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if timer() >= end:
            await asyncio.sleep(0)
            end = timer() + SLICE
