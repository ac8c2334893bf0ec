"""Task handles: every state and deadline of docs/protocol.md 7.4, then any order of events."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import chain, repeat

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from asys.isa import TaskStatus
from asys.node.tasks import NODE_TASKS, SESSION_TASKS, Task, TaskTable

ENDINGS = [TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED]
SESSION = 0x1234


def opened(table: TaskTable, session: int = SESSION, key: str = "nginx", now: float = 0.0) -> Task:
    task = table.open(session, key, key, now)
    assert task is not None
    return task


def test_the_limits_of_the_protocol() -> None:
    assert (SESSION_TASKS, NODE_TASKS) == (16, 256)


@pytest.mark.parametrize("status", ENDINGS)
def test_an_ending_is_answered_once(status: TaskStatus) -> None:
    table = TaskTable()
    task = opened(table)
    assert table.query(SESSION, task.handle, 0.0) is TaskStatus.PENDING
    assert table.query(SESSION, task.handle, 29.9) is TaskStatus.PENDING
    task.finish(status, 29.9)
    assert table.query(SESSION, task.handle, 29.95) is status
    assert table.query(SESSION, task.handle, 29.95) is TaskStatus.NOT_FOUND
    assert len(table) == 0


@pytest.mark.parametrize("status", ENDINGS)
def test_an_ending_nobody_asks_about_is_freed_at_30_s(status: TaskStatus) -> None:
    for asked, answer in ((29.999, status), (30.0, TaskStatus.NOT_FOUND)):
        table = TaskTable()
        task = opened(table)
        task.finish(status, 1.0)
        assert table.query(SESSION, task.handle, asked) is answer


@pytest.mark.parametrize("asked", [30.0, 45.0, 59.999])
def test_a_timeout_is_answered_once(asked: float) -> None:
    table = TaskTable()
    task = opened(table)
    assert table.query(SESSION, task.handle, asked) is TaskStatus.TIMEOUT
    assert table.query(SESSION, task.handle, asked) is TaskStatus.NOT_FOUND


def test_a_timeout_is_freed_at_60_s() -> None:
    table = TaskTable()
    task = opened(table)
    assert table.query(SESSION, task.handle, 60.0) is TaskStatus.NOT_FOUND
    assert len(table) == 0


@pytest.mark.parametrize("looked_at", [True, False])
@pytest.mark.parametrize("status", ENDINGS)
def test_what_ends_after_the_timeout_stays_a_timeout(status: TaskStatus, looked_at: bool) -> None:
    """Also when nobody has asked between the timeout and the end: the table has no timer."""
    table = TaskTable()
    task = opened(table)
    if looked_at:
        table.pending(SESSION, "other", 30.0)
    task.finish(status, 30.0)
    assert table.query(SESSION, task.handle, 31.0) is TaskStatus.TIMEOUT


def test_only_the_first_ending_counts() -> None:
    table = TaskTable()
    task = opened(table)
    task.finish(TaskStatus.SUCCESS, 1.0)
    task.finish(TaskStatus.FAILED, 2.0)
    assert table.query(SESSION, task.handle, 3.0) is TaskStatus.SUCCESS


@pytest.mark.parametrize("status", [None, *ENDINGS])
def test_a_foreign_session_sees_nothing_and_changes_nothing(status: TaskStatus | None) -> None:
    table = TaskTable()
    task = opened(table)
    if status is not None:
        task.finish(status, 1.0)
    for handle in (task.handle, 0x4321 << 16 | task.handle & 0xFFFF):
        assert table.query(0x4321, handle, 2.0) is TaskStatus.NOT_FOUND
    assert table.query(SESSION, task.handle, 2.0) is (status or TaskStatus.PENDING)
    for handle in (0, 0xFFFF_FFFF, SESSION << 16):
        assert table.query(SESSION, handle, 2.0) is TaskStatus.NOT_FOUND


def test_16_tasks_a_session() -> None:
    table = TaskTable()
    tasks = [opened(table) for _ in range(16)]
    assert table.open(SESSION, "more", "more.service", 1.0) is None
    opened(table, session=2)
    tasks[0].finish(TaskStatus.SUCCESS, 1.0)
    assert table.open(SESSION, "more", "more.service", 2.0) is None
    table.query(SESSION, tasks[0].handle, 2.0)
    opened(table, now=2.0)
    assert table.open(SESSION, "more", "more.service", 59.9) is None
    opened(table, now=60.0)


def test_256_tasks_a_node() -> None:
    table = TaskTable()
    tasks = [opened(table, session) for session in range(1, 17) for _ in range(16)]
    assert len({task.handle for task in tasks}) == 256
    assert table.open(17, "more", "more.service", 1.0) is None
    table.close_session(3)
    for _ in range(16):
        opened(table, 17, now=1.0)
    assert table.open(18, "more", "more.service", 1.0) is None


def test_no_half_of_a_handle_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no handle is given out twice."""
    chances = chain([0, 5, 0, 5, 7], repeat(9))
    monkeypatch.setattr(secrets, "randbits", lambda bits: next(chances))
    table = TaskTable()
    assert [opened(table).handle for _ in range(3)] == [0x1234_0005, 0x1234_0007, 0x1234_0009]
    assert opened(table, session=1).handle == 0x0001_0009


def test_the_random_half_is_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda bits: (1 << bits) - 1)
    assert opened(TaskTable(), session=0x8000).handle == 0x8000_FFFF


def test_the_task_that_is_pending_is_found_again() -> None:
    table = TaskTable()
    task = opened(table)
    opened(table, session=2)
    opened(table, key="other")
    assert table.pending(SESSION, "nginx", 1.0) is task
    assert table.pending(SESSION, "nginx", 29.9) is task
    assert table.pending(3, "nginx", 1.0) is None
    assert table.pending(SESSION, "ngin", 1.0) is None
    assert table.pending(SESSION, "nginx", 30.0) is None


def test_an_ended_task_is_not_found_again() -> None:
    table = TaskTable()
    opened(table).finish(TaskStatus.SUCCESS, 1.0)
    assert table.pending(SESSION, "nginx", 1.0) is None


def test_the_end_of_a_session_frees_its_handles_and_no_other() -> None:
    table = TaskTable()
    mine, others = [opened(table) for _ in range(3)], opened(table, session=2)
    table.close_session(SESSION)
    table.close_session(99)
    for task in mine:
        assert table.query(SESSION, task.handle, 1.0) is TaskStatus.NOT_FOUND
        task.finish(TaskStatus.SUCCESS, 1.0)
    assert table.query(2, others.handle, 1.0) is TaskStatus.PENDING


def test_a_discarded_task_leaves_room_and_takes_no_other_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda bits: 5)
    table = TaskTable()
    task = opened(table)
    table.discard(task)
    table.discard(task)
    assert len(table) == 0
    again = opened(table)
    assert again.handle == task.handle
    table.discard(task)
    assert table.query(SESSION, again.handle, 0.0) is TaskStatus.PENDING


def test_a_task_in_words() -> None:
    task = Task(0x1234_0005, SESSION, "nginx", "nginx.service", 0.0)
    assert repr(task) == "<Task 12340005 nginx PENDING>"


@dataclass
class Modelled:
    """What docs/protocol.md says of one task, as a function of the time."""

    task: Task
    session: int
    key: str
    created: float
    ending: TaskStatus | None = None
    freed: bool = False

    def status(self, now: float) -> TaskStatus:
        age = now - self.created
        if self.freed or age >= 60 or (age >= 30 and self.ending is not None):
            return TaskStatus.NOT_FOUND
        if self.ending is not None:
            return self.ending
        return TaskStatus.PENDING if age < 30 else TaskStatus.TIMEOUT


class AnyOrder(RuleBasedStateMachine):
    """The table against the model. Limits are small here, so that they are met often."""

    tasks = Bundle("tasks")
    sessions = st.integers(1, 3)
    keys = st.sampled_from(["a", "b"])

    @initialize()
    def begin(self) -> None:
        self.table = TaskTable(per_session=3, per_node=5)
        self.model: list[Modelled] = []
        self.now = 0.0

    def alive(self) -> list[Modelled]:
        return [one for one in self.model if one.status(self.now) is not TaskStatus.NOT_FOUND]

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 29.5, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=tasks, session=sessions, key=keys)
    def open(self, session: int, key: str) -> object:
        task = self.table.open(session, key, key, self.now)
        alive = self.alive()
        room = len(alive) < 5 and sum(one.session == session for one in alive) < 3
        assert (task is not None) == room
        if task is None:
            return multiple()
        assert task.handle >> 16 == session
        assert task.handle & 0xFFFF
        assert task.handle not in {one.task.handle for one in alive}
        self.model.append(Modelled(task, session, key, self.now))
        return self.model[-1]

    @rule(task=tasks, status=st.sampled_from(ENDINGS))
    def finish(self, task: Modelled, status: TaskStatus) -> None:
        task.task.finish(status, self.now)
        if task.status(self.now) is TaskStatus.PENDING:
            task.ending = status

    @rule(task=tasks, session=sessions)
    def query(self, task: Modelled, session: int) -> None:
        handle = task.task.handle
        # A freed handle may be given out again.
        task = next((one for one in self.alive() if one.task.handle == handle), task)
        expected = task.status(self.now) if session == task.session else TaskStatus.NOT_FOUND
        assert self.table.query(session, handle, self.now) is expected
        if expected not in (TaskStatus.PENDING, TaskStatus.NOT_FOUND):
            task.freed = True

    @rule(session=sessions, key=keys)
    def pending(self, session: int, key: str) -> None:
        found = self.table.pending(session, key, self.now)
        expected = [
            one.task
            for one in self.model
            if (one.session, one.key) == (session, key)
            and one.status(self.now) is TaskStatus.PENDING
        ]
        assert found in expected if expected else found is None

    @rule(task=tasks)
    def discard(self, task: Modelled) -> None:
        self.table.discard(task.task)
        task.freed = True

    @rule(session=sessions)
    def close_session(self, session: int) -> None:
        self.table.close_session(session)
        for one in self.model:
            one.freed = one.freed or one.session == session

    @invariant()
    def bounded(self) -> None:
        assert len(self.alive()) <= len(self.table) <= 5


TestAnyOrder = AnyOrder.TestCase
