"""Task objects: asked until they have ended, and never again after that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import pytest

import asys
from asys import isa
from asys.client.tasks import LAST_INTERVAL, TaskMemory, intervals
from asys.isa import TaskStatus
from asys.protocol.apdu import Frame
from support.wire_node import OK, Peer, ThreadedWireNode, WireNode, answer, serve


def states(*statuses: TaskStatus) -> Callable[[Frame], bytes | None]:
    """A node whose tasks go through these states, and are not found afterwards."""
    left = list(statuses)

    def reply(frame: Frame) -> bytes | None:
        if frame.ins != isa.TASK_QUERY.code:
            return answer(frame)
        return bytes((left.pop(0) if left else TaskStatus.NOT_FOUND,)) + OK

    return reply


def queries(peer: Peer) -> list[bytes]:
    return [frame.data for frame in peer.frames if frame.ins == isa.TASK_QUERY.code]


FINAL = [status for status in TaskStatus if status is not TaskStatus.PENDING]


@pytest.mark.parametrize("final", FINAL)
async def test_wait_asks_until_the_task_has_ended(final: TaskStatus) -> None:
    script = serve(states(TaskStatus.PENDING, TaskStatus.PENDING, final))
    async with WireNode(script) as node, node.connect() as session:
        task = await session.svc_restart("nginx")
        assert "pending" in repr(task)

        assert await task.wait(timeout=30) is final

        assert queries(node.peer) == [b"\x00\x05\x7b\xb0"] * 3
        assert await task.wait() is final
        assert await task.query() is final
        assert len(queries(node.peer)) == 3
        assert final.name.lower() in repr(task)


async def test_query_asks_once() -> None:
    script = serve(states(TaskStatus.PENDING, TaskStatus.FAILED))
    async with WireNode(script) as node, node.connect() as session:
        task = await session.svc_restart("nginx")

        assert await task.query() is TaskStatus.PENDING
        assert await task.query() is TaskStatus.FAILED
        assert await task.query() is TaskStatus.FAILED
        assert len(queries(node.peer)) == 2


async def test_wait_ends_at_its_timeout_and_may_be_repeated() -> None:
    status = TaskStatus.PENDING

    def reply(frame: Frame) -> bytes | None:
        return bytes((status,)) + OK if frame.ins == isa.TASK_QUERY.code else answer(frame)

    async with WireNode(serve(reply)) as node, node.connect() as session:
        task = await session.svc_restart("nginx")
        with pytest.raises(asys.DeadlineExceeded):
            await task.wait(timeout=0.05)
        status = TaskStatus.SUCCESS

        assert await task.wait(timeout=30) is TaskStatus.SUCCESS
        for wrong in (0, -1, float("inf")):
            with pytest.raises(asys.ArgumentError):
                await task.wait(timeout=wrong)


async def test_wait_of_a_silent_node_ends_at_its_timeout() -> None:
    script = serve(lambda frame: None if frame.ins == isa.TASK_QUERY.code else answer(frame))
    async with WireNode(script) as node, node.connect() as session:
        task = await session.svc_restart("nginx")

        with pytest.raises(asys.DeadlineExceeded):
            await task.wait(timeout=0.05)


async def test_a_final_answer_that_nobody_waited_for_is_not_lost() -> None:
    asked = asyncio.Event()
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        peer.reply(b"\x00\x05\x7b\xb0" + OK)
        await peer.request()
        asked.set()
        await release.wait()
        peer.reply(b"\x02" + OK)
        await peer.request()
        peer.reply(b"\xff" + OK)
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        task = await session.svc_restart("nginx")
        cancelled = asyncio.ensure_future(task.query())
        await asked.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        release.set()

        assert await task.query() is TaskStatus.FAILED


async def test_everybody_who_waits_for_one_task_hears_its_one_final_answer() -> None:
    script = serve(states(*[TaskStatus.PENDING] * 4, TaskStatus.TIMEOUT))
    async with WireNode(script) as node, node.connect() as session:
        first = await session.svc_restart("nginx")
        second = await session.svc_restart("nginx")
        assert second is first  # a pending task for the same name has its handle again
        assert session.task(first.handle) is first

        outcomes = await asyncio.gather(*(first.wait(timeout=30) for _ in range(3)))

        assert set(outcomes) == {TaskStatus.TIMEOUT}


async def test_a_handle_that_is_given_again_after_the_end_is_a_new_task() -> None:
    script = serve(states(TaskStatus.SUCCESS, TaskStatus.FAILED))
    async with WireNode(script) as node, node.connect() as session:
        first = await session.svc_restart("nginx")
        assert await first.query() is TaskStatus.SUCCESS

        second = await session.svc_restart("nginx")

        assert second is not first
        assert await second.query() is TaskStatus.FAILED
        assert await first.query() is TaskStatus.SUCCESS


def test_the_blocking_twin() -> None:
    script = serve(states(TaskStatus.PENDING, TaskStatus.PENDING, TaskStatus.CANCELLED))
    with ThreadedWireNode(script) as node, node.connect() as session:
        task = session.svc_restart("nginx")
        assert task.query() is TaskStatus.PENDING
        assert task.wait(timeout=30) is TaskStatus.CANCELLED
        assert task.wait() is task.query() is TaskStatus.CANCELLED
        assert len(queries(node.peer)) == 3
        with pytest.raises(asys.ArgumentError):
            task.wait(timeout=0)
        assert session.task(task.handle) is task


def test_the_blocking_twin_ends_at_its_timeout() -> None:
    script = serve(states(*[TaskStatus.PENDING] * 1000))
    with ThreadedWireNode(script) as node, node.connect() as session:
        task = session.svc_restart("nginx")

        with pytest.raises(asys.DeadlineExceeded):
            task.wait(timeout=0.05)
        assert isinstance(task, asys.sync.Task)


def test_a_task_that_is_still_pending_says_which_it_is() -> None:
    memory = TaskMemory(0x57BB0)

    assert "task 00057BB0 is still pending after 1.5 s" in str(memory.still_pending(1.5))
    assert repr(memory) == "<Task 00057BB0 pending>"


def test_questions_become_ever_rarer() -> None:
    seconds = list(islice(intervals(), 20))

    assert seconds == sorted(seconds)
    assert seconds[0] <= 0.01
    assert seconds[-1] == LAST_INTERVAL
