"""Nodes that reconnect: what is repeated, who waits, what is never followed; both shells."""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter

import pytest

import asys
from asys import isa
from asys.client.aio_steady import SteadyNode
from asys.client.steady import MOST_LOST
from asys.protocol.apdu import Frame
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from client.losing import (
    HELLO_,
    RESTART,
    SOON,
    SOON_AND_AGAIN,
    THROTTLE,
    asked,
    bare,
    handing_over,
    procs,
    refuse,
    shows_and_dies,
    until,
)
from support.wire_node import (
    HELLO,
    Peer,
    ThreadedWireNode,
    WireNode,
    answer,
    serve,
)


async def lost(session: asys.Node) -> None:
    """Returns when the session knows that its connection has ended."""
    await session._wire.closed


# What is repeated


async def test_a_reading_is_made_again_over_a_new_connection() -> None:
    script = handing_over(until(HELLO_), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        assert await session.sys_hello() == HELLO
        assert [asked(peer) for peer in node.peers] == [[HELLO_], [HELLO_]]
        assert not session.closed


def test_a_reading_is_made_again_in_blocking_code() -> None:
    script = handing_over(until(HELLO_), bare, serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        assert session.sys_hello() == HELLO
        assert len(node.node.peers) == 3
        assert session.refresh_capabilities() is not None or not session.speaks_part_b


async def test_without_reconnect_a_lost_connection_is_lost() -> None:
    async with WireNode(handing_over(until(HELLO_), serve())) as node:
        async with node.connect(retry=True) as session:
            with pytest.raises(asys.ConnectionLost):
                await session.sys_hello()
            assert session.closed
            with pytest.raises(asys.ConnectionLost):
                await session.sys_hello()
            with pytest.raises(asys.ConnectionLost):
                await session.refresh_capabilities()
        assert len(node.peers) == 1


def test_without_reconnect_a_lost_connection_is_lost_in_blocking_code() -> None:
    with ThreadedWireNode(handing_over(until(HELLO_), serve())) as node:
        with node.connect(retry=True) as session:
            with pytest.raises(asys.ConnectionLost):
                session.sys_hello()
            assert session.closed
            with pytest.raises(asys.ConnectionLost):
                session.sys_hello()
        assert len(node.node.peers) == 1


async def test_a_signed_instruction_that_was_sent_is_not_sent_again() -> None:
    script = handing_over(until(THROTTLE), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(7, "stop")
        assert (caught.value.instruction, caught.value.seq) == ("PROC_THROTTLE", 1)
        assert await session.sys_hello() == HELLO
        assert [asked(peer) for peer in node.peers] == [[THROTTLE], [HELLO_]]
        with pytest.raises(asys.ArgumentError, match="seq 1"):
            await session.resend(1)


def test_a_signed_instruction_that_was_sent_is_not_sent_again_in_blocking_code() -> None:
    script = handing_over(until(THROTTLE), serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        with pytest.raises(asys.OutcomeUnknown):
            session.proc_throttle(7, "stop")
        assert session.sys_hello() == HELLO
        assert [asked(peer) for peer in node.node.peers] == [[THROTTLE], [HELLO_]]


async def test_a_signed_instruction_that_was_not_sent_is_sent() -> None:
    script = handing_over(until(HELLO_, answered=True), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        await session.sys_hello()
        await lost(session)
        await session.proc_throttle(7, "stop")
        assert asked(node.peers[1]) == [THROTTLE]
        assert node.peers[1].frames[-1].data[:4] == b"\0\0\0\1"


async def test_it_is_sent_again_where_the_policy_says_so() -> None:
    script = handing_over(until(THROTTLE), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON_AND_AGAIN) as session:
        await session.proc_throttle(7, "stop")
        assert [asked(peer) for peer in node.peers] == [[THROTTLE], [THROTTLE]]
        assert node.peers[1].frames[-1].data[:4] == b"\0\0\0\2"


def test_it_is_sent_again_where_the_policy_says_so_in_blocking_code() -> None:
    script = handing_over(until(THROTTLE), serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON_AND_AGAIN) as session:
        session.proc_throttle(7, "stop")
        assert [asked(peer) for peer in node.node.peers] == [[THROTTLE], [THROTTLE]]


async def test_what_goes_on_after_its_answer_is_never_sent_again() -> None:
    script = handing_over(until(RESTART), serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON_AND_AGAIN) as session:
        with pytest.raises(asys.OutcomeUnknown):
            await session.svc_restart("nginx")
        assert len(node.peers) == 1


async def test_a_repetition_that_is_refused_leaves_the_outcome_unknown() -> None:
    """The first delivery may have ended the process that the second one does not find."""

    def refusing(frame: Frame) -> bytes | None:
        return SW.INVALID_PAYLOAD.wire if frame.ins == THROTTLE else answer(frame)

    script = handing_over(until(THROTTLE), serve(refusing))
    async with WireNode(script) as node, node.connect(reconnect=SOON_AND_AGAIN) as session:
        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(7, "stop")
        assert isinstance(caught.value.__cause__, asys.InvalidPayload)
        assert caught.value.seq == 1


async def test_a_pid_of_the_lost_session_is_not_acted_on_again() -> None:
    script = handing_over(shows_and_dies, serve(procs))
    async with WireNode(script) as node, node.connect(reconnect=SOON_AND_AGAIN) as session:
        assert (await session.sys_procs()).top[0].pid == 7
        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(7, "stop")
        assert isinstance(caught.value.__cause__, asys.SessionEnded)
        with pytest.raises(asys.SessionEnded, match="look again"):
            await session.proc_throttle(7, "stop")
        await session.proc_throttle(7, "continue")
        await session.sys_procs()
        await session.proc_throttle(7, "stop")
        assert [frame.p1 for frame in node.peers[1].frames if frame.ins == THROTTLE] == [1, 0]


def test_a_pid_of_the_lost_session_is_not_acted_on_in_blocking_code() -> None:
    script = handing_over(shows_and_dies, serve(procs))
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        session.sys_procs()
        with pytest.raises(asys.OutcomeUnknown):
            session.proc_throttle(7, "stop")
        with pytest.raises(asys.SessionEnded):
            session.proc_throttle(7, "stop")
        session.proc_throttle(7, "continue")
        assert [frame.p1 for frame in node.node.peers[1].frames if frame.ins == THROTTLE] == [1]


async def test_a_request_that_ends_every_connection_does_not_do_so_for_ever() -> None:
    async with WireNode(until(HELLO_)) as node, node.connect(reconnect=SOON) as session:
        with pytest.raises(asys.ConnectionLost):
            await session.sys_hello()
        assert len(node.peers) == 1 + MOST_LOST


# Who waits


async def test_many_that_wait_get_one_connection() -> None:
    script = handing_over(until(HELLO_), bare, bare, serve())
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        calls = [session.sys_hello() for _ in range(50)]
        waiting = [session.refresh_capabilities(), session.proc_throttle(7, "stop")]
        answers = await asyncio.gather(*calls, *waiting, return_exceptions=True)

        assert answers[:50] == [HELLO] * 50
        assert isinstance(answers[51], asys.OutcomeUnknown | None)
        assert len(node.peers) == 4


def test_many_threads_get_one_connection() -> None:
    script = handing_over(until(HELLO_), bare, serve())
    answers: list[isa.Hello] = []
    with ThreadedWireNode(script) as node, node.connect(reconnect=SOON) as session:
        threads = [
            threading.Thread(target=lambda: answers.append(session.sys_hello())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [HELLO] * 8
        assert len(node.node.peers) == 3


async def test_a_call_waits_no_longer_than_it_may_and_the_connection_is_made_all_the_same() -> None:
    gate = asyncio.Event()

    async def gated(peer: Peer) -> None:
        await gate.wait()
        await serve()(peer)

    script = handing_over(until(HELLO_), gated)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        with pytest.raises(asys.DeadlineExceeded, match="still being made"), asys.deadline(0.05):
            await session.sys_hello()
        assert not session.closed
        gate.set()
        assert await session.sys_hello() == HELLO
        assert len(node.peers) == 2


def test_a_blocking_call_waits_no_longer_than_it_may() -> None:
    never = asys.Reconnect(first=1000, most=1000)
    script = handing_over(until(HELLO_), serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=never) as session:
        for _ in range(2):
            with asys.deadline(0.05), pytest.raises(asys.DeadlineExceeded, match="no new conn"):
                session.sys_hello()
        assert not session.closed
        assert len(node.node.peers) == 1


async def test_a_cancelled_wait_leaves_the_node_usable() -> None:
    gate = asyncio.Event()
    arrived = asyncio.Event()

    async def gated(peer: Peer) -> None:
        arrived.set()
        await gate.wait()
        await serve()(peer)

    script = handing_over(until(HELLO_), gated)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        call = asyncio.ensure_future(session.sys_hello())
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await session.sys_hello() == HELLO
        assert len(node.peers) == 2


async def test_a_cancelled_call_leaves_the_connection_usable() -> None:
    came = asyncio.Event()
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        frame = await peer.request()
        came.set()
        await gate.wait()
        peer.reply(answer(frame) or b"")
        await serve_on(peer)

    async def serve_on(peer: Peer) -> None:
        while True:
            peer.reply(answer(await peer.request()) or b"")

    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        call = asyncio.ensure_future(session.proc_throttle(7, "stop"))
        await came.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await session.sys_hello() == HELLO
        await session.resend(1)  # the outcome of what was cancelled
        assert len(node.peers) == 1


async def test_closing_ends_all_waiting() -> None:
    arrived = asyncio.Event()

    async def silent(peer: Peer) -> None:
        arrived.set()
        await peer.silence()

    script = handing_over(until(HELLO_), silent)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        call = asyncio.ensure_future(session.sys_hello())
        await arrived.wait()
        await session.close()
        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            await call
        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            await session.sys_hello()
        assert session.closed


def test_closing_ends_all_waiting_in_blocking_code() -> None:
    waits = threading.Event()
    ended: list[BaseException] = []

    def chance() -> float:
        waits.set()
        return 0.0

    never = asys.Reconnect(first=1000, most=1000, random=chance)
    script = handing_over(until(HELLO_), serve())
    with ThreadedWireNode(script) as node, node.connect(reconnect=never) as session:

        def work() -> None:
            try:
                session.sys_hello()
            except asys.AsysError as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        waits.wait()
        session.close()
        thread.join()
        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            session.sys_hello()
    assert [type(one) for one in ended] == [asys.ConnectionLost]


async def test_a_connection_that_is_made_anyway_is_waited_for() -> None:
    """The keys are old, so a new connection is being made when the old one is lost."""
    gate = asyncio.Event()
    arrived = asyncio.Event()

    async def gated(peer: Peer) -> None:
        arrived.set()
        await gate.wait()
        await serve()(peer)

    script = handing_over(until(THROTTLE), gated)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        renewal = session._caller.renewal
        renewal.begin(perf_counter() - 5000.0)
        renewal.idle_from = 0.0
        first = asyncio.ensure_future(session.sys_hello())
        await arrived.wait()
        session._caller.lost()
        second = asyncio.ensure_future(session.sys_hello())
        assert isinstance(session, SteadyNode)
        for _ in range(2):  # it begins, and finds out what it has to wait for
            await asyncio.sleep(0)
        assert session._reviving is not None
        gate.set()
        assert await first == await second == HELLO
        assert len(node.peers) == 2
        assert session._caller.session == 2


# What is never followed


async def test_another_key_is_told_to_everybody_and_never_followed() -> None:
    async with WireNode(handing_over(until(HELLO_), serve())) as node:
        async with node.connect(reconnect=SOON_AND_AGAIN) as session:
            proven, node.key = session.node_key, PrivateKey.generate()
            for _ in range(2):
                with pytest.raises(asys.HostKeyChanged) as caught:
                    await session.sys_hello()
                assert (caught.value.known, caught.value.key) == (proven, node.key.public)
            with pytest.raises(asys.HostKeyChanged):
                await session.proc_throttle(7, "stop")
            assert session.closed
        assert len(node.peers) == 2
        assert not node.peers[1].frames


def test_another_key_is_never_followed_in_blocking_code() -> None:
    with ThreadedWireNode(handing_over(until(HELLO_), serve())) as node:
        with node.connect(reconnect=SOON) as session:
            node.node.key = PrivateKey.generate()
            for _ in range(2):
                with pytest.raises(asys.HostKeyChanged):
                    session.sys_hello()
            assert session.closed
        assert len(node.node.peers) == 2


async def test_a_refused_agent_does_not_come_back() -> None:
    async with WireNode(handing_over(until(HELLO_), refuse, serve())) as node:
        async with node.connect(reconnect=SOON) as session:
            for _ in range(3):
                with pytest.raises(asys.AgentRejected):
                    await session.sys_hello()
        assert len(node.peers) == 2


async def test_after_its_time_an_outage_is_for_good() -> None:
    moments: list[float] = []

    async def sleep(seconds: float) -> None:
        moments.append(seconds)

    async with WireNode(handing_over(until(HELLO_), bare)) as node:
        brief = asys.Reconnect(first=10, most=20, within=12, random=lambda: 0.5)
        async with node.connect(reconnect=brief) as session:
            assert isinstance(session, SteadyNode)
            session._sleep = sleep
            with pytest.raises(asys.ConnectionLost):
                await session.sys_hello()
            assert session.closed
        assert len(node.peers) == 2
        [moment] = moments
        assert 0 < moment <= 7.5


def test_after_its_time_an_outage_is_for_good_in_blocking_code() -> None:
    brief = asys.Reconnect(first=0.002, within=0.002)
    with ThreadedWireNode(handing_over(until(HELLO_), bare)) as node:
        with node.connect(reconnect=brief) as session:
            for _ in range(2):
                with pytest.raises(asys.ConnectionLost):
                    session.sys_hello()
            assert session.closed
        assert len(node.node.peers) == 2
