"""What both shells know about a task: its last word, and when to ask again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from asys.errors import DeadlineExceeded, SessionEnded
from asys.isa import TaskState, TaskStatus

FIRST_INTERVAL: Final = 0.01
"""Seconds from the first question to the second."""

LAST_INTERVAL: Final = 0.5
"""Seconds between questions once a task turns out to take long."""

GROWTH: Final = 1.6

DEFAULT_WAIT: Final = 65.0
"""Seconds; a node answers timeout for a task after 30 s and forgets it after 60 s."""


class TaskMemory:
    """A task handle and its final answer. A node gives that once, for it frees the handle."""

    __slots__ = ("__weakref__", "final", "handle", "lost")

    def __init__(self, handle: int) -> None:
        self.handle: Final = handle
        self.final: TaskStatus | None = None
        self.lost = False
        """Its session has ended, and another one has taken its place."""

    def check(self) -> None:
        """SessionEnded when nobody can be asked any more."""
        if self.lost:
            raise SessionEnded(
                f"task {self.handle:08X} belongs to a session that has ended: it goes on, and what "
                "becomes of it cannot be asked any more"
            )

    def note(self, state: TaskState) -> None:
        """Keeps a final answer, also one that came when nobody waited for it any more."""
        if self.final is None and state.status is not TaskStatus.PENDING:
            self.final = state.status

    def still_pending(self, timeout: float) -> DeadlineExceeded:
        """The exception for a wait that ended before the task."""
        return DeadlineExceeded(f"task {self.handle:08X} is still pending after {timeout:g} s")

    def __repr__(self) -> str:
        state = "pending" if self.final is None else self.final.name.lower()
        return f"<Task {self.handle:08X} {state}>"


HANDLE_LIFE: Final = 60.0
"""Seconds after which a node has freed a handle, whatever became of its task."""


class Handles:
    """Handles that a node has given in one session, and not yet said how their tasks ended."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: dict[int, float] = {}

    def given(self, handle: int, now: float) -> None:
        """An instruction has started the task."""
        self._given.pop(handle, None)
        self._given[handle] = now
        self._drop(now)

    def said(self, handle: int, state: TaskState) -> None:
        """The node has said where the task stands; a final answer frees the handle."""
        if state.status is not TaskStatus.PENDING:
            self._given.pop(handle, None)

    def owed(self, now: float) -> bool:
        """The node still has something to say about a task."""
        self._drop(now)
        return bool(self._given)

    def _drop(self, now: float) -> None:
        while self._given:
            oldest = next(iter(self._given))
            if now - self._given[oldest] < HANDLE_LIFE:
                return
            del self._given[oldest]


T = TypeVar("T", bound=TaskMemory)


class TaskTable(Generic[T]):
    """The tasks of one connection by handle: one object each, so that all hear its final answer."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make
        self._tasks: WeakValueDictionary[int, T] = WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, handle: int) -> T:
        """The task with that handle."""
        with self._lock:
            task = self._tasks.get(handle)
            if task is None:
                task = self._tasks[handle] = self._make(handle)
            return task

    def started(self, handle: int) -> T:
        """The task whose handle the node has just given: that of an ended one is free again."""
        with self._lock:
            task = self._tasks.get(handle)
            if task is None or task.final is not None:
                task = self._tasks[handle] = self._make(handle)
            return task

    def lose(self) -> None:
        """The session has ended, and with it every handle."""
        with self._lock:
            for task in self._tasks.values():
                task.lost = True
            self._tasks.clear()


def intervals() -> Iterator[float]:
    """Seconds to let pass between questions: short at first, then longer and longer."""
    interval = FIRST_INTERVAL
    while True:
        yield interval
        interval = min(interval * GROWTH, LAST_INTERVAL)
