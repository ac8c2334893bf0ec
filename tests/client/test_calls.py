"""Calls over real sockets: results, refusals, pipelining, cancellation, lost answers."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest

import asys
from asys import isa
from asys.errors import STATUS_ERRORS
from asys.protocol.apdu import Frame
from asys.protocol.status import SW
from client.instructions import LARGE
from support.wire_node import CAPS, HELLO, OK, Peer, Script, WireNode, answer, serve

STATUS = isa.Status(
    load1=2.4,
    load5=1.8,
    cpu_percent=100,
    available_mb=22795,
    root_used_percent=11,
    io_wait_ms=7,
    inbound_mbps=1,
    outbound_mbps=2,
    rpi_percent=50,
)
PROCS = isa.Processes(
    count=124,
    top=(isa.Process(pid=8228, cpu_percent=133.33, memory_percent=4, flags=isa.ProcessFlags.ROOT),),
)


def numbered(number: int) -> bytes:
    """A SYS_HELLO answer that can be told from others."""
    return isa.Hello(magic=b"ASYS", node_uid=number, time_ns=0).pack() + OK


def answering(sw: bytes) -> Callable[[Frame], bytes | None]:
    return lambda frame: sw


async def test_every_instruction_is_a_method_with_a_typed_result() -> None:
    replies = {isa.SYS_STATUS.code: STATUS.pack() + OK, isa.SYS_PROCS.code: PROCS.pack() + OK}
    script = serve(lambda frame: replies.get(frame.ins) or answer(frame))
    async with WireNode(script) as node, node.connect() as session:
        assert await session.sys_caps() == CAPS
        assert await session.sys_hello() == HELLO
        assert await session.sys_status() == STATUS
        assert await session.sys_procs() == PROCS
        state = await session.task_query(handle=1)
        assert state.status is isa.TaskStatus.SUCCESS
        await session.proc_throttle(pid=8228, action="stop")
        await session.proc_throttle(8228, isa.ThrottleAction.CONTINUE)
        task = await session.svc_restart("nginx")
        assert task.handle == 0x00057BB0

    stop, go, restart = (frame for frame in node.peer.frames if frame.cla)
    assert (stop.ins, stop.p1, stop.p2, stop.data) == (0x20, 0, 0, struct.pack(">II", 1, 8228))
    assert (go.ins, go.p1, go.p2, go.data) == (0x20, 1, 0, struct.pack(">II", 2, 8228))
    assert (restart.ins, restart.data) == (0x22, struct.pack(">I", 3) + b"nginx")
    assert [node.peer.verifier.verify(frame) for frame in (stop, go, restart)] == [None] * 3


async def test_a_method_that_is_done_when_answered_gives_none() -> None:
    async with WireNode() as node, node.connect() as session:
        done: Any = await session._call(isa.PROC_THROTTLE, (1, "stop"), {})
        given: Any = await asyncio.ensure_future(session.proc_throttle(1, "stop"))

    assert done == isa.Empty()
    assert given is None


async def test_call_takes_any_instruction_and_gives_its_reply_as_declared() -> None:
    async with WireNode() as node, node.connect() as session:
        assert await session.call(isa.SYS_HELLO) == HELLO
        assert await session.call(isa.PROC_THROTTLE, 1, action="stop") == isa.Empty()
        assert await session.call(isa.SVC_RESTART, "nginx") == isa.TaskHandle(handle=0x57BB0)


@pytest.mark.parametrize("sw", [sw for sw in SW if sw is not SW.SUCCESS])
async def test_each_status_word_is_its_own_exception(sw: SW) -> None:
    async with WireNode(serve(answering(sw.wire))) as node, node.connect() as session:
        with pytest.raises(STATUS_ERRORS[sw]) as caught:
            await session.proc_throttle(1, "stop")

        assert type(caught.value) is STATUS_ERRORS[sw]
        assert f"{sw:04X}" in str(caught.value)
        assert "PROC_THROTTLE" in str(caught.value)
        assert not session.closed


@pytest.mark.parametrize(
    "wrong",
    [
        {"pid": 0, "action": "stop"},
        {"pid": -1, "action": "stop"},
        {"pid": 2**32, "action": "stop"},
        {"pid": "1", "action": "stop"},
        {"pid": True, "action": "stop"},
        {"pid": 1, "action": "kill"},
        {"pid": 1, "action": 2},
        {"pid": 1},
        {"pid": 1, "action": "stop", "force": True},
    ],
)
async def test_wrong_arguments_are_refused_before_a_byte_is_sent(wrong: dict[str, Any]) -> None:
    async with WireNode() as node, node.connect() as session:
        before = node.peer.received
        for _ in range(3):
            with pytest.raises(asys.ArgumentError):
                await session.proc_throttle(**wrong)
        with pytest.raises(asys.ArgumentError):
            await session.svc_restart("nginx.service")
        await session.sys_hello()

        assert node.peer.received == before + 24
        assert [frame.ins for frame in node.peer.frames] == [0, 0, 0, 0, 1]


async def test_a_hundred_coroutines_share_a_connection() -> None:
    counter = iter(range(1000))
    script = serve(lambda frame: numbered(next(counter)))
    async with WireNode(script) as node, node.connect() as session:
        answers = await asyncio.gather(*(session.sys_hello() for _ in range(100)))

    assert [one.node_uid for one in answers] == list(range(100))


async def test_answers_find_their_callers_among_different_instructions() -> None:
    def reply(frame: Frame) -> bytes | None:
        if frame.ins == isa.TASK_QUERY.code:
            handle = int.from_bytes(frame.data, "big")
            return bytes((handle % 5,)) + OK
        if frame.ins == isa.PROC_THROTTLE.code:
            pid = int.from_bytes(frame.data[4:], "big")
            return OK if pid % 2 else b"\x6a\x80"
        return answer(frame)

    async def ask(session: asys.Node, number: int) -> None:
        if number % 3 == 0:
            assert (await session.task_query(number)).status == number % 5
        elif number % 2:
            await session.proc_throttle(number, "stop")
        else:
            with pytest.raises(asys.InvalidPayload):
                await session.proc_throttle(number, "stop")

    async with WireNode(serve(reply)) as node, node.connect() as session:
        await asyncio.gather(*(ask(session, number) for number in range(200)))
    signed = [frame for frame in node.peer.frames if frame.cla]
    assert [int.from_bytes(frame.data[:4], "big") for frame in signed] == list(
        range(1, len(signed) + 1)
    )


async def test_requests_of_one_turn_of_the_loop_leave_in_one_write() -> None:
    chunks: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(5):
            before = peer.received
            await peer.request()
            chunks.append(peer.received - before)
        peer.reply(*[HELLO.pack() + OK] * 5)
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        await asyncio.gather(*(session.sys_hello() for _ in range(5)))

    assert sum(chunks) == 5 * 24
    assert chunks[0] in (24, 5 * 24)  # the first at once, the others together
    assert len([size for size in chunks if size]) <= 2


async def test_a_cancelled_call_leaves_the_connection_usable() -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        asked.set()
        await release.wait()
        peer.reply(numbered(1))
        for number in (2, 3):
            await peer.request()
            peer.reply(numbered(number))
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        cancelled = asyncio.ensure_future(session.sys_hello())
        await asked.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        waiting = asyncio.ensure_future(session.sys_hello())
        await asyncio.sleep(0)
        release.set()

        assert (await waiting).node_uid == 2
        assert (await session.sys_hello()).node_uid == 3


async def test_a_call_that_is_cancelled_before_it_left_is_never_sent() -> None:
    async with WireNode() as node, node.connect() as session:
        first = asyncio.ensure_future(session.sys_hello())
        doomed = asyncio.ensure_future(session.proc_throttle(1, "stop"))
        asyncio.get_running_loop().call_soon(doomed.cancel)
        await asyncio.gather(first, doomed, return_exceptions=True)
        await session.proc_throttle(2, "stop")

        assert doomed.cancelled()
        sent = [int.from_bytes(frame.data[4:], "big") for frame in node.peer.frames if frame.cla]
        assert sent[-1] == 2
        assert len(sent) in (1, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not to be had on Windows")
def test_it_works_on_uvloop() -> None:
    import uvloop

    async def main() -> None:
        silent = serve(lambda frame: None if frame.ins == isa.SYS_STATUS.code else answer(frame))
        async with WireNode(silent) as node, node.connect() as session:
            answers = await asyncio.gather(*(session.sys_hello() for _ in range(100)))
            assert answers == [HELLO] * 100
            session.timeout = 0.05
            with pytest.raises(asys.DeadlineExceeded):
                await session.sys_status()

    uvloop.run(main())


# Silence and lost connections


async def test_a_silent_node_hits_the_deadline_and_may_still_answer() -> None:
    late = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        await peer.request()
        await late.wait()
        peer.reply(numbered(1), numbered(2))
        await peer.request()
        peer.reply(numbered(3))
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        session.timeout = 0.05
        first = asyncio.ensure_future(session.sys_hello())
        with pytest.raises(asys.DeadlineExceeded, match="did not answer in time"):
            await session.sys_hello()
        with pytest.raises(asys.DeadlineExceeded):
            await first
        assert not session.closed
        session.timeout = 30.0
        late.set()

        assert (await session.sys_hello()).node_uid == 3


async def test_a_signed_call_without_an_answer_is_unknown_not_failed() -> None:
    async with WireNode(serve(lambda frame: None)) as node, node.connect() as session:
        session.timeout = 0.05

        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(1, "stop")

        assert not isinstance(caught.value, asys.LinkError | asys.StatusError)
        assert (caught.value.instruction, caught.value.seq) == ("PROC_THROTTLE", 1)
        assert isinstance(caught.value.__cause__, asys.DeadlineExceeded)


def _close_at_first_request(reset: bool) -> Script:
    async def script(peer: Peer) -> None:
        await peer.accept()
        if not reset:
            await peer.request()

    return script


async def test_a_node_that_goes_away_during_a_plain_call() -> None:
    async with WireNode(_close_at_first_request(False)) as node, node.connect() as session:
        with pytest.raises(asys.ConnectionLost, match="closed the connection"):
            await session.sys_hello()
        assert session.closed
        with pytest.raises(asys.ConnectionLost, match="has ended"):
            await session.proc_throttle(1, "stop")


async def test_a_node_that_goes_away_during_a_signed_call() -> None:
    async with WireNode(_close_at_first_request(False)) as node, node.connect() as session:
        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.svc_restart("nginx")

        assert (caught.value.instruction, caught.value.seq) == ("SVC_RESTART", 1)
        assert isinstance(caught.value.__cause__, asys.ConnectionLost)


async def test_a_node_that_goes_away_between_calls() -> None:
    async with WireNode(_close_at_first_request(True)) as node, node.connect() as session:
        await asyncio.wait((session._wire.closed,))

        with pytest.raises(asys.ConnectionLost, match="closed the connection"):
            await session.proc_throttle(1, "stop")
        assert session.closed


async def test_an_answer_to_nothing_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        peer.reply(HELLO.pack() + OK, HELLO.pack() + OK)
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        assert await session.sys_hello() == HELLO
        with pytest.raises(asys.ConnectionLost, match="to nothing that was asked") as caught:
            await session.sys_hello()
        assert type(caught.value.__cause__) is asys.ProtocolError


async def test_a_node_that_does_not_read_fills_no_memory_here() -> None:
    stop = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await stop.wait()

    async with WireNode(script) as node, node.connect() as session:
        transport = session._wire._transport
        assert transport is not None
        session.timeout = 0.5
        calls = []
        for _ in range(40):
            calls += [
                asyncio.ensure_future(session.call(LARGE, body=bytes(60_000))) for _ in range(10)
            ]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() < 500_000  # of 24,000,000
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert {type(one) for one in outcomes} == {asys.DeadlineExceeded}
        session.timeout = 0.05  # for what close() would still send
        stop.set()


# What is told


async def test_a_trace_hears_of_each_answer_before_its_caller_goes_on() -> None:
    heard: list[asys.Exchange] = []
    replies = {isa.SYS_STATUS.code: STATUS.pack() + b"\x91\x01", 0x22: b"\x64\x00"}
    script = serve(lambda frame: replies.get(frame.ins) or answer(frame))
    async with WireNode(script) as node, node.connect(trace=heard.append) as session:
        assert [(one.instruction, one.sw) for one in heard] == [("SYS_CAPS", 0x9000)] * 4
        heard.clear()
        await session.proc_throttle(1, "stop")
        (one,) = heard
        assert (one.instruction, one.sw, one.seq) == ("PROC_THROTTLE", 0x9000, 1)
        assert (one.bytes_sent, one.bytes_received) == (18 + 5 + 8 + 1 + 16, 18 + 2)
        assert one.round_trip_ns > 0
        await session.sys_status()
        assert heard[1].node_flags == 1
        with pytest.raises(asys.Blocked):
            await session.svc_restart("nginx")
        assert (heard[2].sw, heard[2].seq) == (0x6400, 2)


async def test_a_trace_that_raises_harms_nobody() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def trace(exchange: asys.Exchange) -> None:
        raise ZeroDivisionError

    async with WireNode() as node, node.connect(trace=trace) as session:
        assert await session.sys_hello() == HELLO

    assert [type(context["exception"]) for context in told] == [ZeroDivisionError] * 5


# Sending again


async def test_resend_sends_the_very_same_frame_and_knows_its_outcome() -> None:
    seen: list[Frame] = []

    def reply(frame: Frame) -> bytes | None:
        if not frame.cla:
            return answer(frame)
        seen.append(frame)
        return b"\x69\x85" if frame in seen[:-1] else answer(frame)

    async with WireNode(serve(reply)) as node, node.connect() as session:
        await session.proc_throttle(1, "stop")
        task = await session.svc_restart("nginx")

        assert await session.resend(1) is None
        assert await session.resend(2) is task
        assert seen[2:] == seen[:2]
        with pytest.raises(asys.ArgumentError):
            await session.resend(3)


async def test_resend_after_a_deadline_is_never_plain_success() -> None:
    async with WireNode(serve(answering(b"\x69\x85"))) as node, node.connect() as session:
        with pytest.raises(asys.AlreadyReceived) as caught:
            await session.proc_throttle(1, "stop")
        assert isinstance(caught.value, asys.OutcomeUnknown)
        with pytest.raises(asys.AlreadyReceived):
            await session.resend(caught.value.seq)


async def test_resend_gives_the_answer_that_came_too_late() -> None:
    late = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        first = await peer.request()
        await late.wait()
        peer.reply(b"\x6a\x80")
        assert await peer.request() == first
        peer.reply(b"\x69\x85")
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        session.timeout = 0.05
        with pytest.raises(asys.OutcomeUnknown) as caught:
            await session.proc_throttle(1, "stop")
        session.timeout = 30.0
        late.set()

        with pytest.raises(asys.InvalidPayload):
            await session.resend(caught.value.seq)
