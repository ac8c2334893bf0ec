"""Task handles: what became of an asynchronous instruction (docs/protocol.md, section 7).

Time is an argument, in seconds of a monotonic clock. A handle belongs to one session; nobody else
can tell it from one that never was.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from asys.isa import TaskStatus

if TYPE_CHECKING:
    from asys.node.platform.base import RestartJob
    from asys.node.recorder import TaskRecord

TASK_TIMEOUT: Final = 30.0
"""Seconds after which a pending task turns into a timeout, and a finished one is freed."""

TASK_LIFETIME: Final = 60.0
"""Seconds after which a handle is freed whatever became of it."""

SESSION_TASKS: Final = 16
NODE_TASKS: Final = 256

MAX_JOINED: Final = 15
"""With these the ends of all tasks still fit the room that the audit keeps for ends."""


class Task:
    """One asynchronous instruction. `key` names what it works on, to find it again; `target` is
    what that turned out to be. `job` is what the service manager does for it, once it is queued.
    """

    __slots__ = (
        "created",
        "handle",
        "job",
        "joined",
        "key",
        "session",
        "status",
        "target",
        "timed_out",
    )

    def __init__(self, handle: int, session: int, key: str, target: str, created: float) -> None:
        self.handle = handle
        self.session = session
        self.key = key
        self.target = target
        self.created = created
        self.job: RestartJob | None = None
        self.joined: list[TaskRecord] = []
        """Of instructions that were answered with this task, as it was pending."""
        self.status = TaskStatus.PENDING
        self.timed_out = False

    def finish(self, status: TaskStatus, now: float) -> None:
        """Sets how it ended. Too late after the timeout, whether or not anybody asked since."""
        if self.status is TaskStatus.PENDING and now - self.created < TASK_TIMEOUT:
            self.status = status

    def join(self, record: TaskRecord) -> None:
        """Another instruction waits for the same end; beyond MAX_JOINED its record has none."""
        if len(self.joined) < MAX_JOINED:
            self.joined.append(record)

    def __repr__(self) -> str:
        return f"<Task {self.handle:08x} {self.key} {self.status.name}>"


class TaskTable:
    """All tasks of a node."""

    def __init__(self, *, per_session: int = SESSION_TASKS, per_node: int = NODE_TASKS) -> None:
        self._tasks: dict[int, Task] = {}
        self._per_session = per_session
        self._per_node = per_node

    def __len__(self) -> int:
        return len(self._tasks)

    def open(self, session: int, key: str, target: str, now: float) -> Task | None:
        """A new pending task; None when the session or the node has too many."""
        self._expire(now)
        if len(self._tasks) >= self._per_node:
            return None
        if sum(task.session == session for task in self._tasks.values()) >= self._per_session:
            return None
        handle = 0
        while not handle & 0xFFFF or handle in self._tasks:
            handle = session << 16 | secrets.randbits(16)
        task = Task(handle, session, key, target, now)
        self._tasks[handle] = task
        return task

    def pending(self, session: int, key: str, now: float) -> Task | None:
        """The session's task for `key` that is still pending."""
        self._expire(now)
        for task in self._tasks.values():
            if (task.session, task.key, task.status) == (session, key, TaskStatus.PENDING):
                return task
        return None

    def pending_handle(self, session: int, handle: int, now: float) -> Task | None:
        """The session's task with that handle, while it is pending."""
        self._expire(now)
        task = self._tasks.get(handle)
        if task is None or task.session != session or task.status is not TaskStatus.PENDING:
            return None
        return task

    def query(self, session: int, handle: int, now: float) -> TaskStatus:
        """Where a task stands. A terminal answer frees the handle."""
        self._expire(now)
        task = self._tasks.get(handle)
        if task is None or task.session != session:
            return TaskStatus.NOT_FOUND
        if task.status is not TaskStatus.PENDING:
            del self._tasks[handle]
        return task.status

    def discard(self, task: Task) -> None:
        """Takes back a task whose handle was never given out."""
        if self._tasks.get(task.handle) is task:
            del self._tasks[task.handle]

    def close_session(self, session: int) -> None:
        """Frees every handle of a session that has ended; the operations go on."""
        for handle in [task.handle for task in self._tasks.values() if task.session == session]:
            del self._tasks[handle]

    def _expire(self, now: float) -> None:
        for task in list(self._tasks.values()):
            age = now - task.created
            if age < TASK_TIMEOUT:
                continue
            if task.status is TaskStatus.PENDING:
                task.status = TaskStatus.TIMEOUT
                task.timed_out = True
            elif not task.timed_out:
                del self._tasks[task.handle]
                continue
            if age >= TASK_LIFETIME:
                del self._tasks[task.handle]
