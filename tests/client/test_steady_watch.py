"""`node.watch`: readings at an interval, over lost connections and silent nodes; both shells."""

from __future__ import annotations

import asyncio

import pytest

import asys
from asys import isa
from asys.client import blocking_watch, watch
from asys.protocol.apdu import Frame
from asys.protocol.status import SW
from client.losing import SOON, bare, handing_over, refuse
from support.wire_node import OK, Gone, Peer, Script, ThreadedWireNode, WireNode, answer, serve

READING = isa.Status(
    load1=0.1,
    load5=0.1,
    cpu_percent=1,
    available_mb=1,
    root_used_percent=1,
    io_wait_ms=0,
    inbound_mbps=0,
    outbound_mbps=0,
    rpi_percent=0,
)

SYS_STATUS = isa.SYS_STATUS.code


def vital(frame: Frame) -> bytes | None:
    """A node that has vitals."""
    return READING.pack() + OK if frame.ins == SYS_STATUS else answer(frame)


def readings(count: int) -> Script:
    """Answers so many readings; the connection ends with the next."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(count):
            peer.reply(vital(await peer.request()) or b"")
        await peer.request()
        raise Gone

    return script


class Time:
    """A clock that moves while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def block(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.block(seconds)


async def test_a_reading_at_each_interval() -> None:
    time = Time()
    async with WireNode(serve(vital)) as node, node.connect() as session:
        vitals = watch.Watch(session, 2.0, now=time, sleep=time.sleep)
        assert aiter(vitals) is vitals
        assert [await anext(vitals) for _ in range(3)] == [asys.Vitals(READING, 0)] * 3
        assert time.slept == [2.0, 2.0]


async def test_who_is_slow_gets_fewer_readings_and_none_is_made_meanwhile() -> None:
    time = Time()
    async with WireNode(serve(vital)) as node, node.connect() as session:
        vitals = watch.Watch(session, 1.0, now=time, sleep=time.sleep)
        await anext(vitals)
        time.now += 5.5
        assert await anext(vitals) == asys.Vitals(READING, 4)
        assert await anext(vitals) == asys.Vitals(READING, 0)
        assert time.slept == [0.5]
        assert [frame.ins for frame in node.peer.frames[4:]] == [SYS_STATUS] * 3


async def test_it_survives_a_lost_connection() -> None:
    script = handing_over(readings(2), bare, serve(vital))
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        async for reading in session.watch(0.001):
            assert isinstance(reading, asys.Vitals)
            if len(node.peers) == 3:
                break
        assert not session.closed


async def test_it_reports_a_gap_once_and_how_many_are_missing() -> None:
    time = Time()
    answers = [READING.pack() + OK, SW.BLOCKED.wire, SW.NODE_IO_ERROR.wire, SW.BLOCKED.wire]

    def answering(frame: Frame) -> bytes | None:
        return answers.pop(0) if frame.ins == SYS_STATUS and answers else vital(frame)

    async with WireNode(serve(answering)) as node, node.connect() as session:
        vitals = watch.Watch(session, 1.0, now=time, sleep=time.sleep)
        assert await anext(vitals) == asys.Vitals(READING, 0)
        gap = await anext(vitals)
        assert isinstance(gap, asys.Gap)
        assert isinstance(gap.error, asys.Blocked)
        assert await anext(vitals) == asys.Vitals(READING, 3)
        assert await anext(vitals) == asys.Vitals(READING, 0)


async def test_a_call_without_an_answer_is_a_gap() -> None:
    held = True

    def answering(frame: Frame) -> bytes | None:
        return None if held and frame.ins == SYS_STATUS else vital(frame)

    async with WireNode(serve(answering)) as node, node.connect() as session:
        session.timeout = 0.05
        gap = await anext(session.watch(1.0))
        assert isinstance(gap, asys.Gap)
        assert isinstance(gap.error, asys.DeadlineExceeded)
        assert not session.closed


async def test_it_ends_where_there_will_be_no_other_reading() -> None:
    async with WireNode(readings(1)) as node, node.connect() as session:
        vitals = session.watch(0.001)
        await anext(vitals)
        with pytest.raises(asys.ConnectionLost):
            await anext(vitals)
    script = handing_over(readings(1), refuse)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        vitals = session.watch(0.001)
        await anext(vitals)
        with pytest.raises(asys.AgentRejected):
            await anext(vitals)


async def test_it_ends_for_an_agent_that_may_not_look() -> None:
    async with WireNode() as node, node.connect(reconnect=SOON) as session:
        with pytest.raises(asys.NoSuchInstruction):
            await anext(session.watch(1.0))


async def test_it_can_be_cancelled_and_goes_on() -> None:
    async with WireNode(serve(vital)) as node, node.connect() as session:
        vitals = session.watch(1000.0)
        await anext(vitals)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(vitals), 0.01)
        assert (await session.sys_status()) == READING


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
async def test_the_interval_must_be_one(wrong: float) -> None:
    async with WireNode() as node, node.connect() as session:
        with pytest.raises(asys.ArgumentError, match="interval"):
            session.watch(wrong)


def test_blocking_code_watches_too() -> None:
    time = Time()
    answers = [READING.pack() + OK, SW.BLOCKED.wire, SW.BLOCKED.wire]

    def answering(frame: Frame) -> bytes | None:
        return answers.pop(0) if frame.ins == SYS_STATUS and answers else vital(frame)

    with ThreadedWireNode(serve(answering)) as node, node.connect() as session:
        vitals = blocking_watch.Watch(session, 1.0, now=time, sleep=time.block)
        assert iter(vitals) is vitals
        assert next(vitals) == asys.Vitals(READING, 0)
        assert isinstance(next(vitals), asys.Gap)
        assert next(vitals) == asys.Vitals(READING, 2)
        assert time.slept == [1.0] * 3


def test_blocking_code_watches_over_a_lost_connection() -> None:
    script = handing_over(readings(2), serve(vital))
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        for reading in session.watch(0.001):
            assert isinstance(reading, asys.Vitals)
            if len(node.node.peers) == 2:
                break


def test_blocking_code_ends_where_there_will_be_no_other_reading() -> None:
    with ThreadedWireNode(readings(0)) as node, node.connect() as session:
        vitals = session.watch(0.001)
        with pytest.raises(asys.ConnectionLost):
            next(vitals)
