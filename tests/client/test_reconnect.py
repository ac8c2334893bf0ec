"""A new connection in the place of one that has outlived itself: when, and what it keeps."""

from __future__ import annotations

import asyncio
import struct
import threading
from time import perf_counter
from typing import Any

import pytest

import asys
from asys import isa
from asys.client.caller import Caller
from asys.client.renewal import Renewal
from asys.client.tasks import HANDLE_LIFE
from asys.isa import TaskStatus
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from client.pair import Pair, throttle
from support.wire_node import (
    HELLO,
    OK,
    PAGES,
    Answer,
    Peer,
    Script,
    ThreadedWireNode,
    WireNode,
    answer,
    serve,
    serve_b,
)

LATER = 1000.0
"""When the keys are due and nobody has called for long."""


def aged(lit: str = "core,process") -> Pair:
    return Pair(lit=lit, renewal=Renewal(100.0, None))


def outlived(pair: Pair, now: float = LATER) -> bool:
    return pair.caller.outlived(isa.SYS_HELLO, now)


# When


def test_only_when_due_and_idle() -> None:
    pair = aged()
    assert not outlived(pair, 99.0)
    assert outlived(pair, 100.0)
    pair.call(isa.SYS_HELLO, now=99.0)
    pair.requests()
    pair.reply(HELLO.pack() + OK)
    assert not outlived(pair, 128.9)
    assert outlived(pair, 129.0)


def test_not_before_an_instruction_about_a_pid_that_this_session_may_have_been_shown() -> None:
    with_pid = [one for one in isa.REGISTRY if "pid" in one.request.FIELDS]
    assert isa.PROC_THROTTLE in with_pid

    assert not any(aged().caller.outlived(one, LATER) for one in with_pid)
    assert aged().caller.outlived(isa.SVC_RESTART, LATER)


@pytest.mark.parametrize("instruction", [isa.TASK_QUERY, isa.REKEY, isa.ABANDON])
def test_not_before_what_is_about_this_session(instruction: isa.AnyInstruction) -> None:
    assert not aged().caller.outlived(instruction, LATER)


def test_not_while_something_is_in_flight() -> None:
    pair = aged()
    pair.call(isa.SYS_HELLO)
    pair.requests()
    assert not outlived(pair)

    pair.caller.expire(LATER)
    assert not outlived(pair)

    pair.reply(HELLO.pack() + OK)
    assert outlived(pair)


def test_not_after_its_end() -> None:
    pair = aged()
    pair.caller.lost()
    assert not outlived(pair)


def test_not_while_a_task_has_not_ended() -> None:
    pair = aged()

    def query(status: TaskStatus) -> None:
        pair.call(isa.TASK_QUERY, 0x00010002, now=50.0)
        pair.requests()
        pair.reply(bytes((status,)) + OK, now=50.0)

    pair.call(isa.SVC_RESTART, "nginx", now=50.0)
    pair.requests()
    pair.reply(struct.pack(">I", 0x00010002) + OK, now=50.0)
    assert not outlived(pair, 100.0)
    query(TaskStatus.PENDING)
    assert not outlived(pair, 100.0)
    query(TaskStatus.FAILED)
    assert outlived(pair, 100.0)


def test_a_task_that_the_node_has_forgotten_is_no_loss() -> None:
    pair = aged()
    pair.call(isa.SVC_RESTART, "nginx")
    pair.requests()
    pair.reply(struct.pack(">I", 0x00010002) + OK, now=LATER)

    assert not outlived(pair, LATER + HANDLE_LIFE - 0.1)
    assert outlived(pair, LATER + HANDLE_LIFE)


def test_not_while_an_outcome_is_unknown_to_its_caller() -> None:
    pair = aged()
    _, late = throttle(pair)
    pair.requests()
    pair.caller.expire(50.0)
    assert isinstance(late.heard[0], asys.OutcomeUnknown)
    pair.reply(OK)  # too late: known here, and never told
    assert not outlived(pair)

    pair.wait(pair.caller.resend(1, 50.0))
    pair.requests()
    pair.reply(SW.ALREADY_RECEIVED.wire)

    assert outlived(pair)


def test_not_while_the_node_itself_left_an_outcome_open() -> None:
    pair = aged()
    throttle(pair)
    pair.requests()
    pair.reply(SW.ALREADY_RECEIVED.wire)

    assert not outlived(pair)


@pytest.mark.parametrize("sw", [OK, b"\x6a\x80", b"\x69\x82"])
def test_an_outcome_that_was_told_is_no_loss(sw: bytes) -> None:
    pair = aged()
    throttle(pair)
    pair.requests()
    pair.reply(sw)

    assert outlived(pair)


def test_a_signed_request_that_never_left_is_no_loss() -> None:
    pair = aged()
    pending, _ = throttle(pair)
    pair.caller.abandon(pending)

    assert outlived(pair)


# What the next connection keeps


def test_the_next_connection_is_pinned_to_the_node_and_goes_on_above_the_seq() -> None:
    pair = aged()
    for _ in range(3):
        throttle(pair)
    pair.requests()
    pair.reply(*[OK] * 3)
    fresh = pair.caller.successor()

    assert isinstance(fresh, Caller)
    assert (fresh.address, fresh.agent_key) == (pair.caller.address, pair.caller.agent_key)
    other = PrivateKey.generate().public
    fresh.receive_data(b"ASYS\x01\x00" + other, 0.0)
    fresh.lost()
    assert isinstance(fresh.error, asys.HostKeyChanged)
    assert fresh.error.known == pair.caller.link.node_key


def test_where_no_connection_can_be_made_the_old_one_is_rekeyed_or_left_alone() -> None:
    with_rekey, without = aged(), Pair(renewal=Renewal(100.0, None))
    for pair in (with_rekey, without):
        assert outlived(pair)
        pair.caller.stay(LATER)
        pair.call(isa.SYS_HELLO, now=LATER)

    assert [frame.ins for frame in with_rekey.requests()] == [isa.REKEY.code]
    assert [frame.ins for frame in without.requests()] == [isa.SYS_HELLO.code]
    without.reply(HELLO.pack() + OK)
    assert not outlived(without, LATER + 99.0)
    assert outlived(without, LATER + 100.0)


# Both shells, over sockets


def age(session: asys.Node | asys.sync.Node) -> None:
    """Makes a connection as old as its limit, and long idle."""
    renewal = session._caller.renewal
    renewal.begin(perf_counter() - 5000.0)
    renewal.idle_from = 0.0


def both(answering: Answer = answer) -> list[Script]:
    return [serve(answering), serve_b(answering)]


@pytest.mark.parametrize("which", [0, 1])
async def test_an_idle_connection_is_replaced_before_the_next_reading(which: int) -> None:
    heard: list[str] = []

    def trace(exchange: asys.Exchange) -> None:
        heard.append(exchange.instruction)

    async with WireNode(both()[which]) as node, node.connect(trace=trace) as session:
        await session.proc_throttle(1, "stop")
        before = session.agent_key, session.node_key, session.caps, str(session.capability_map)
        age(session)
        heard.clear()

        assert await session.sys_hello() == HELLO

        assert len(node.peers) == 2
        assert [frame.ins for frame in node.peers[0].frames] == [0] * PAGES + [0x20]
        assert [frame.ins for frame in node.peers[1].frames] == [0] * PAGES + [0x01]
        assert before == (
            session.agent_key,
            session.node_key,
            session.caps,
            str(session.capability_map),
        )
        await session.proc_throttle(1, "continue")
        signed = node.peers[1].frames[-1]
        assert signed.data[:4] == b"\0\0\0\2"
        assert heard == ["SYS_HELLO", "PROC_THROTTLE"]
        with pytest.raises(asys.ArgumentError, match="seq 1 is not among"):
            await session.resend(1)
        assert not session.closed


async def test_calls_made_meanwhile_wait_for_the_new_connection() -> None:
    async with WireNode(serve_b()) as node, node.connect() as session:
        age(session)

        answers = await asyncio.gather(
            *(session.sys_hello() for _ in range(10)),
            session.proc_throttle(1, "stop"),
            session.refresh_capabilities(),
        )

        assert answers[:10] == [HELLO] * 10
        assert len(node.peers) == 2
        assert len(node.peers[0].frames) == PAGES
        assert len(node.peers[1].frames) == PAGES + 10 + 1 + PAGES


async def test_a_busy_connection_is_rekeyed_in_its_place() -> None:
    async with WireNode(serve_b()) as node, node.connect() as session:
        task = await session.svc_restart("nginx")
        age(session)
        assert await session.sys_hello() == HELLO
        assert (len(node.peers), node.peer.rekeys) == (1, 1)
        assert await task.wait(timeout=30) is TaskStatus.SUCCESS
        age(session)
        await session.proc_throttle(1, "stop")
        assert (len(node.peers), node.peer.rekeys) == (1, 2)
        age(session)
        await session.sys_hello()
        assert len(node.peers) == 2


async def test_a_node_that_takes_no_new_connection_keeps_the_old_one() -> None:
    for part_b, script in zip((False, True), both(), strict=True):
        first = True

        async def once(peer: Peer, script: Script = script) -> None:
            nonlocal first
            if first:
                first = False
                await script(peer)

        async with WireNode(once) as node, node.connect() as session:
            age(session)
            assert await session.sys_hello() == HELLO
            assert len(node.peers) == 2
            assert node.peer.rekeys == part_b
            age(session)
            session._caller.renewal.begin(perf_counter())
            assert await session.sys_hello() == HELLO
            assert len(node.peers) == 2


async def test_a_node_with_another_key_is_told_once_and_the_old_connection_goes_on() -> None:
    async with WireNode(serve()) as node, node.connect() as session:
        proven = session.node_key
        node.key = PrivateKey.generate()  # somebody else listens there now
        age(session)

        with pytest.raises(asys.HostKeyChanged) as caught:
            await session.sys_hello()

        assert (caught.value.known, caught.value.key) == (proven, node.key.public)
        assert await session.sys_hello() == HELLO
        assert session.node_key == proven


async def test_a_call_cancelled_during_the_change_leaves_a_usable_connection() -> None:
    gate = asyncio.Event()
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        if len(node.peers) == 2:
            arrived.set()
            await gate.wait()
        await serve_b()(peer)

    async with WireNode(script) as node, node.connect() as session:
        age(session)
        call = asyncio.ensure_future(session.sys_hello())
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await session.sys_hello() == HELLO
        assert len(node.peers) == 2


async def test_a_node_closed_during_the_change_leaves_nothing_open() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        if len(node.peers) == 2:
            arrived.set()
            await peer.silence()
        else:
            await serve_b()(peer)

    async with WireNode(script) as node, node.connect() as session:
        age(session)
        call = asyncio.ensure_future(session.sys_hello())
        await arrived.wait()
        await session.close()
        with pytest.raises(asys.ConnectionLost):
            await call
        assert session.closed


def test_blocking_code_gets_a_new_connection_too() -> None:
    heard: list[str] = []

    def trace(exchange: asys.Exchange) -> None:
        heard.append(exchange.instruction)

    with ThreadedWireNode(serve_b()) as node, node.connect(trace=trace) as session:
        session.proc_throttle(1, "stop")
        age(session)
        heard.clear()

        assert session.sys_hello() == HELLO

        assert len(node.node.peers) == 2
        session.proc_throttle(1, "continue")
        assert node.node.peers[1].frames[-1].data[:4] == b"\0\0\0\2"
        assert heard == ["SYS_HELLO", "PROC_THROTTLE"]
        with pytest.raises(asys.ArgumentError, match="seq 1 is not among"):
            session.resend(1)


def test_blocking_code_rekeys_what_it_would_lose() -> None:
    with ThreadedWireNode(serve_b()) as node, node.connect() as session:
        task = session.svc_restart("nginx")
        age(session)
        assert session.sys_hello() == HELLO
        assert (len(node.node.peers), node.peer.rekeys) == (1, 1)
        assert task.wait(timeout=30) is TaskStatus.SUCCESS


def test_blocking_code_keeps_the_old_connection_where_there_is_no_new_one() -> None:
    async def script(peer: Peer) -> None:
        if len(node.node.peers) == 1:
            await serve()(peer)

    with ThreadedWireNode(script) as node, node.connect() as session:
        age(session)
        assert session.sys_hello() == HELLO
        assert session.sys_hello() == HELLO
        assert len(node.node.peers) == 2


def test_blocking_code_is_told_of_another_key() -> None:
    with ThreadedWireNode(serve()) as node, node.connect() as session:
        node.node.key = PrivateKey.generate()  # somebody else listens there now
        age(session)
        with pytest.raises(asys.HostKeyChanged):
            session.sys_hello()
        assert session.sys_hello() == HELLO


def test_closing_wakes_a_thread_that_waits_for_a_new_connection() -> None:
    arrived = threading.Event()

    async def script(peer: Peer) -> None:
        if len(node.node.peers) == 1:
            await serve_b()(peer)
        else:
            arrived.set()
            await peer.silence()

    ended: list[BaseException] = []
    with ThreadedWireNode(script) as node, node.connect() as session:

        def work() -> None:
            try:
                session.sys_hello()
            except asys.AsysError as error:
                ended.append(error)

        age(session)
        thread = threading.Thread(target=work)
        thread.start()
        arrived.wait()
        session.close()
        thread.join()

    assert [type(one) for one in ended] == [asys.ConnectionLost]


# REKEY over sockets


async def test_rekeys_among_many_calls_at_once() -> None:
    async with WireNode(serve_b()) as node, node.connect(rekey_requests=7) as session:
        for _ in range(10):
            answers = await asyncio.gather(
                *(session.sys_hello() for _ in range(5)),
                *(session.proc_throttle(1, "stop") for _ in range(5)),
            )
            assert answers == [HELLO] * 5 + [None] * 5
        assert node.peer.rekeys >= 9
        assert len(node.peers) == 1


def test_rekeys_among_the_calls_of_many_threads() -> None:
    with ThreadedWireNode(serve_b()) as node, node.connect(rekey_requests=5) as session:

        def work() -> None:
            for _ in range(20):
                assert session.sys_hello() == HELLO
                session.proc_throttle(1, "stop")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.rekey()

        assert node.peer.rekeys > 160 / 6
        assert not session.closed


async def test_a_call_whose_time_runs_out_behind_an_unanswered_rekey_was_not_sent() -> None:
    late = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept(part_b=True)
        assert (await peer.request()).ins == isa.REKEY.code
        await late.wait()
        peer.rekey()
        frame = peer.opened(await peer.request())
        assert frame.data == struct.pack(">II", 2, 7)
        peer.reply(OK)
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        rekey = asyncio.ensure_future(session.rekey())
        await asyncio.sleep(0)
        session.timeout = 0.05
        with pytest.raises(asys.DeadlineExceeded):
            await session.proc_throttle(6, "stop")
        session.timeout = 30.0
        late.set()
        await session.proc_throttle(7, "stop")
        await rekey


@pytest.mark.parametrize(
    "wrong", [{"rekey_seconds": 0}, {"rekey_seconds": "1"}, {"rekey_requests": 0}]
)
async def test_limits_are_checked_before_anybody_is_called(wrong: dict[str, Any]) -> None:
    async with WireNode() as node:
        with pytest.raises(asys.ArgumentError, match="rekey_"):
            await node.connect(**wrong)
        with pytest.raises(asys.ArgumentError, match="rekey_"):
            asys.sync.connect(node.host, node.port, **node.options(**wrong))
        assert node.peers == []


async def test_abandon_is_never_sent_unasked_and_tells_how_many_went() -> None:
    def reply(frame: Any) -> bytes | None:
        return b"\0\3" + OK if frame.ins == isa.ABANDON.code else answer(frame)

    async with WireNode(serve_b(reply)) as node, node.connect(rekey_requests=5) as session:
        for _ in range(20):
            await session.sys_hello()
        age(session)
        await session.sys_hello()
        assert isa.ABANDON.code not in {frame.ins for peer in node.peers for frame in peer.frames}
        assert (await session.abandon()).closed == 3


def test_abandon_in_blocking_code() -> None:
    def reply(frame: Any) -> bytes | None:
        return b"\0\0" + OK if frame.ins == isa.ABANDON.code else answer(frame)

    with ThreadedWireNode(serve_b(reply)) as node, node.connect() as session:
        assert session.abandon() == isa.Abandoned(closed=0)
