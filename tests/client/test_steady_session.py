"""Steady nodes in both shells: tasks, retries, silence, keep-alive, deadlines."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

import asys
from asys import isa
from asys.client import blocking_steady
from asys.client.aio_steady import SteadyNode
from asys.client.steady import Policy
from asys.isa import TaskStatus
from asys.protocol.apdu import Frame
from asys.protocol.status import SW
from client.losing import (
    HELLO_,
    SOON,
    SOON_AND_AGAIN,
    THROTTLE,
    asked,
    handing_over,
    mute,
    procs,
    until,
)
from support.wire_node import (
    HELLO,
    OK,
    Peer,
    Script,
    ThreadedWireNode,
    WireNode,
    answer,
    serve,
)

# Tasks


async def test_a_task_goes_with_its_session() -> None:
    script = handing_over(until(isa.TASK_QUERY.code), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        task = await session.svc_restart("nginx")
        with pytest.raises(asys.SessionEnded, match="the task goes on"):
            await task.wait()
        with pytest.raises(asys.SessionEnded):
            await task.query()
        assert len(node.peers) == 1
        await session.sys_hello()
        fresh = await session.svc_restart("nginx")
        assert fresh.handle == task.handle  # by chance, as a node may do
        with pytest.raises(asys.SessionEnded, match="belongs to a session that has ended"):
            await task.query()
        with pytest.raises(asys.SessionEnded):
            await task.cancel()
        assert await fresh.query() is TaskStatus.SUCCESS


def test_a_task_goes_with_its_session_in_blocking_code() -> None:
    script = handing_over(until(isa.TASK_QUERY.code), serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        task = session.svc_restart("nginx")
        with pytest.raises(asys.SessionEnded):
            task.query()
        session.sys_hello()
        with pytest.raises(asys.SessionEnded):
            task.cancel()
        assert session.svc_restart("nginx").query() is TaskStatus.SUCCESS
        assert len(node.node.peers) == 2


# Status words


@pytest.mark.parametrize("sw", [SW.BLOCKED, SW.NODE_BUSY])
async def test_what_passes_is_tried_again_with_a_seq_of_its_own(sw: SW) -> None:
    answers = [sw.wire, sw.wire, OK]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    script = serve(lambda frame: answers.pop(0) if frame.ins == THROTTLE else answer(frame))
    async with WireNode(script) as node:
        async with node.connect(retry=asys.Retry(random=lambda: 0.0)) as session:
            assert isinstance(session, SteadyNode)
            session._sleep = sleep
            await session.proc_throttle(7, "stop")
        assert waits == [0.05, 0.1]
        assert [frame.data[:4] for frame in node.peer.frames[4:]] == [
            b"\0\0\0\1",
            b"\0\0\0\2",
            b"\0\0\0\3",
        ]


@pytest.mark.parametrize(
    "sw",
    sorted({*SW} - {SW.SUCCESS, SW.BLOCKED, SW.NODE_BUSY}),
    ids=str,
)
async def test_what_does_not_pass_is_asked_once(sw: SW) -> None:
    script = serve(lambda frame: sw.wire if frame.ins == THROTTLE else answer(frame))
    async with WireNode(script) as node:
        async with node.connect(retry=True, reconnect=SOON_AND_AGAIN) as session:
            with pytest.raises(asys.StatusError) as caught:
                await session.proc_throttle(7, "stop")
            assert caught.value.sw == sw
            assert not session.closed
        assert asked(node.peer) == [THROTTLE]
        assert len(node.peers) == 1


async def test_retries_end_with_the_time_of_the_call() -> None:
    script = serve(lambda frame: SW.BLOCKED.wire if frame.ins == HELLO_ else answer(frame))
    async with WireNode(script) as node:
        async with node.connect(retry=asys.Retry(first=100, most=100)) as session:
            with pytest.raises(asys.Blocked):
                await session.sys_hello()
        assert asked(node.peer) == [HELLO_]


def test_blocking_code_tries_again_too() -> None:
    answers = [SW.BLOCKED.wire, HELLO.pack() + OK]
    script = serve(lambda frame: answers.pop(0) if frame.ins == HELLO_ else answer(frame))
    with ThreadedWireNode(script) as node:
        with node.connect(retry=asys.Retry(first=0.001)) as session:
            assert session.sys_hello() == HELLO
        assert asked(node.peer) == [HELLO_, HELLO_]


# Silence


async def test_a_silent_connection_is_given_up_and_made_again() -> None:
    policy = asys.Reconnect(first=0.002, most=0.01, silence=0.1)
    async with WireNode(handing_over(mute, serve())) as node:
        async with node.connect(reconnect=policy) as session:
            with asys.deadline(0.1), pytest.raises(asys.DeadlineExceeded):
                await session.sys_hello()
            assert await session.sys_hello() == HELLO
        assert len(node.peers) == 2


def test_a_silent_connection_is_given_up_in_blocking_code() -> None:
    policy = asys.Reconnect(first=0.002, most=0.01, silence=0.1)
    with ThreadedWireNode(handing_over(mute, serve())) as node:
        with node.connect(reconnect=policy) as session:
            with asys.deadline(0.1), pytest.raises(asys.DeadlineExceeded):
                session.sys_hello()
            assert session.sys_hello() == HELLO
        assert len(node.node.peers) == 2


# Keep-alive


def counting(heard: list[int], enough: Callable[[], None], *, most: int) -> Script:
    def answering(frame: Frame) -> bytes | None:
        heard.append(frame.ins)
        if len(heard) == most:
            enough()
        return answer(frame)

    return serve(answering)


async def test_a_session_is_kept_alive_and_only_while_it_is_open() -> None:
    heard: list[int] = []
    enough = asyncio.Event()
    async with WireNode(counting(heard, enough.set, most=3)) as node:
        async with node.connect(keepalive=0.02) as session:
            await enough.wait()
            assert not session.closed
        assert set(heard) == {HELLO_}
        assert isinstance(session, SteadyNode)
        assert session._keeping is not None
        assert session._keeping.done()


def test_blocking_code_keeps_its_session_alive_with_a_thread() -> None:
    heard: list[int] = []
    enough = threading.Event()
    with ThreadedWireNode(counting(heard, enough.set, most=3)) as node:
        with node.connect(keepalive=0.02) as session:
            enough.wait()
            assert not session.closed
        assert set(heard) == {HELLO_}
    for thread in threading.enumerate():
        if thread.name == "asys-keepalive":
            thread.join()


async def test_the_keep_alive_makes_a_lost_connection_again() -> None:
    heard: list[int] = []
    enough = asyncio.Event()
    script = handing_over(until(HELLO_), counting(heard, enough.set, most=1))
    async with WireNode(script) as node:
        async with node.connect(keepalive=0.02, reconnect=SOON) as session:
            await enough.wait()
            assert not session.closed
        assert len(node.peers) == 2


def test_the_keep_alive_makes_a_lost_connection_again_in_blocking_code() -> None:
    heard: list[int] = []
    enough = threading.Event()
    script = handing_over(until(HELLO_), counting(heard, enough.set, most=1))
    with ThreadedWireNode(script) as node:
        with node.connect(keepalive=0.02, reconnect=SOON) as session:
            enough.wait()
            assert not session.closed
        assert len(node.node.peers) == 2


async def test_the_keep_alive_does_not_hold_a_node_that_nobody_has() -> None:
    asleep = asyncio.Event()
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await gate.wait()

    async with WireNode() as node:
        plain = await node.connect()
        policy = Policy.of(None, None, 25, ())
        assert policy is not None
        steady = SteadyNode(plain._wire, 30, policy, sleep=sleep)
        task = steady._keeping
        assert task is not None
        await asleep.wait()
        gone = weakref.ref(steady)
        del steady
        gc.collect()
        assert gone() is None
        gate.set()
        await task
        await plain.close()


def test_the_thread_ends_with_a_node_that_nobody_has() -> None:
    policy = Policy.of(None, None, 0.01, ())
    assert policy is not None
    with ThreadedWireNode() as node, node.connect() as plain:
        before = set(threading.enumerate())
        steady = blocking_steady.SteadyNode(plain._wire, 30, policy)
        [thread] = set(threading.enumerate()) - before
        gone = weakref.ref(steady)
        del steady
        for _ in range(1000):  # it holds the node while it greets
            gc.collect()
            thread.join(0.02)
            if not thread.is_alive():
                break
        assert gone() is None


# Deadlines


async def test_a_deadline_tells_a_signed_instruction_apart_and_leaves_the_connection() -> None:
    async def once(peer: Peer) -> None:
        await peer.accept()
        held = await peer.request()
        later = await peer.request()
        peer.reply(answer(held) or b"", answer(later) or b"")
        await peer.silence()

    async with WireNode(once) as node, node.connect() as session:
        with asys.deadline(0.05), pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(7, "stop")
        assert isinstance(caught.value.__cause__, asys.DeadlineExceeded)
        assert await session.sys_hello() == HELLO
        with asys.deadline(0.001):
            await asyncio.sleep(0.01)
            for call in (session.sys_hello, session.refresh_capabilities):
                with pytest.raises(asys.DeadlineExceeded, match="was not made"):
                    await call()
        assert asked(node.peer) == [THROTTLE, HELLO_]


def test_a_deadline_holds_in_blocking_code() -> None:
    with ThreadedWireNode(mute) as node, node.connect() as session:
        with asys.deadline(0.05), pytest.raises(asys.DeadlineExceeded):
            session.sys_hello()
        assert not session.closed


def test_suspended_lets_go_over_a_new_connection() -> None:
    actions: list[int] = []

    def answering(frame: Frame) -> bytes | None:
        if frame.ins == THROTTLE:
            actions.append(frame.p1)
        return procs(frame)

    async def stops(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.request()).ins != THROTTLE:
            peer.reply(procs(frame) or b"")
        actions.append(frame.p1)
        peer.reply(OK)

    script = handing_over(stops, serve(answering))
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        session.sys_procs()
        with session.suspended(7):
            pass
    assert actions == [0, 1]
