"""asys.sync over real sockets, from one thread and from several."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import asys
from asys import isa
from asys.client import aio, aio_task, blocking
from asys.errors import STATUS_ERRORS
from asys.protocol.apdu import Frame
from asys.protocol.status import SW
from client.instructions import LARGE
from client.steps import STEPS, Step, then_silence
from support.wire_node import CAPS, HELLO, OK, PAGES, Peer, ThreadedWireNode, answer, serve


def test_the_names_are_those_of_the_async_api() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(blocking.Node) == public(aio.Node)
    assert public(blocking.Task) == public(aio_task.Task)


def test_every_instruction_is_a_method_with_a_typed_result() -> None:
    with ThreadedWireNode() as node, node.connect() as session:
        assert session.sys_caps() == session.caps == CAPS
        assert session.sys_hello() == HELLO
        session.proc_throttle(pid=7, action="stop")
        assert session.svc_restart("nginx").handle == 0x57BB0
        assert session.call(isa.SYS_HELLO) == HELLO
        assert session.call(isa.PROC_THROTTLE, 7, action="stop") == isa.Empty()
        assert (session.host, session.port) == ("127.0.0.1", node.node.port)
        assert session.node_key == node.node.key.public
        signed = [frame for frame in node.peer.frames if frame.cla]
        assert [node.peer.verifier.verify(frame) for frame in signed] == [None] * 3
    assert session.closed


def test_after_close_a_call_says_so() -> None:
    with ThreadedWireNode() as node:
        session = node.connect()
        session.close()
        session.close()

        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            session.sys_hello()


def test_nagle_is_off() -> None:
    with ThreadedWireNode() as node, node.connect() as session:
        sock = session._wire._socket

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("sw", [sw for sw in SW if sw is not SW.SUCCESS])
def test_each_status_word_is_its_own_exception(sw: SW) -> None:
    with ThreadedWireNode(serve(lambda frame: sw.wire)) as node, node.connect() as session:
        with pytest.raises(STATUS_ERRORS[sw]) as caught:
            session.proc_throttle(1, "stop")

        assert type(caught.value) is STATUS_ERRORS[sw]
        assert not session.closed


def test_wrong_arguments_are_refused_before_a_byte_is_sent() -> None:
    with ThreadedWireNode() as node, node.connect() as session:
        wrong: Any = "kill"
        with pytest.raises(asys.ArgumentError):
            session.proc_throttle(1, wrong)
        with pytest.raises(asys.ArgumentError):
            session.svc_restart("")
        session.sys_hello()

        assert [frame.ins for frame in node.peer.frames] == [0, 0, 0, 0, 1]


def test_unix_sockets(tmp_path: Path) -> None:
    with ThreadedWireNode(path=str(tmp_path / "asyd.sock")) as node, node.connect() as session:
        assert session.sys_hello() == HELLO
        assert (session.host, session.port) == (f"unix:{tmp_path}/asyd.sock", 0)


def test_threads_take_turns_and_get_their_own_answers() -> None:
    def reply(frame: Frame) -> bytes | None:
        if frame.ins == isa.PROC_THROTTLE.code:
            return OK if frame.data[-1] % 2 else b"\x6a\x80"
        return answer(frame)

    def work(number: int) -> str:
        try:
            session.proc_throttle(number, "stop")
        except asys.InvalidPayload:
            return "even"
        return "odd"

    with (
        ThreadedWireNode(serve(reply)) as node,
        node.connect() as session,
        ThreadPoolExecutor(8) as pool,
    ):
        outcomes = list(pool.map(work, range(1, 101)))

        assert outcomes == ["odd", "even"] * 50
        seqs = [int.from_bytes(frame.data[:4], "big") for frame in node.peer.frames if frame.cla]
        assert seqs == list(range(1, 101))


def test_a_thread_whose_turn_does_not_come_in_time_sends_nothing() -> None:
    release = threading.Event()
    asked = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        asked.set()
        await asyncio.to_thread(release.wait)
        peer.reply(HELLO.pack() + OK)
        await peer.silence()

    with (
        ThreadedWireNode(script) as node,
        node.connect() as session,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(session.sys_hello)
        asked.wait()
        session.timeout = 0.05
        try:
            with pytest.raises(asys.DeadlineExceeded, match="other calls held the connection"):
                session.proc_throttle(1, "stop")
        finally:
            release.set()

        assert first.result() == HELLO
        assert len(node.peer.frames) == 5


def test_close_ends_a_call_in_another_thread() -> None:
    asked = threading.Event()

    def reply(frame: Frame) -> bytes | None:
        asked.set()
        return None

    with ThreadedWireNode(serve(reply)) as node, ThreadPoolExecutor(1) as pool:
        session = node.connect()
        call = pool.submit(session.sys_hello)
        asked.wait()

        session.close()

        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            call.result()


# Silence and disconnects


@pytest.mark.parametrize("step", STEPS)
def test_silence_at_any_step_ends_at_the_deadline(step: Step) -> None:
    with (
        ThreadedWireNode(then_silence(step)) as node,
        pytest.raises(asys.DeadlineExceeded, match="did not"),
    ):
        node.connect(timeout=0.2)


@pytest.mark.parametrize("step", STEPS)
def test_a_disconnect_at_any_step_is_a_lost_connection(step: Step) -> None:
    with (
        ThreadedWireNode(step) as node,
        pytest.raises(asys.ConnectionLost, match="closed the connection"),
    ):
        node.connect()


def test_a_silent_node_hits_the_deadline_and_may_still_answer() -> None:
    late = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        await asyncio.to_thread(late.wait)
        peer.reply(b"\x6a\x80")
        await peer.request()
        peer.reply(HELLO.pack() + OK)
        await peer.request()
        peer.reply(b"\x69\x85")
        await peer.silence()

    with ThreadedWireNode(script) as node, node.connect() as session:
        session.timeout = 0.05
        try:
            with pytest.raises(asys.OutcomeUnknown) as caught:
                session.proc_throttle(1, "stop")
        finally:
            late.set()
        assert not session.closed
        session.timeout = 30.0

        assert session.sys_hello() == HELLO
        with pytest.raises(asys.InvalidPayload):
            session.resend(caught.value.seq)


def test_resend_gives_what_the_method_gave() -> None:
    seen: list[Frame] = []

    def reply(frame: Frame) -> bytes | None:
        if not frame.cla:
            return answer(frame)
        seen.append(frame)
        return b"\x69\x85" if frame in seen[:-1] else answer(frame)

    with ThreadedWireNode(serve(reply)) as node, node.connect() as session:
        session.proc_throttle(1, "stop")
        task = session.svc_restart("nginx")

        assert session.resend(1) is None
        assert session.resend(2) is task
        assert seen[2:] == seen[:2]


def _throttle(session: asys.sync.Node) -> None:
    session.proc_throttle(1, "stop")


def _hello(session: asys.sync.Node) -> None:
    session.sys_hello()


@pytest.mark.parametrize(
    ("call", "kind"), [(_hello, asys.ConnectionLost), (_throttle, asys.OutcomeUnknown)]
)
def test_a_node_that_goes_away_during_a_call(
    call: Callable[[asys.sync.Node], None], kind: type[asys.AsysError]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()

    with ThreadedWireNode(script) as node, node.connect() as session:
        with pytest.raises(kind):
            call(session)
        with pytest.raises(asys.ConnectionLost, match="has ended"):
            call(session)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a thread")
def test_an_interrupted_call_ends_the_connection() -> None:
    class Interrupted(BaseException):
        """What the signal raises."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    def reply(frame: Frame) -> bytes | None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        return None

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadedWireNode(serve(reply)) as node:
            session = node.connect()
            with pytest.raises(Interrupted):
                session.sys_hello()

            assert session.closed
            with pytest.raises(asys.ConnectionLost, match="was interrupted"):
                session.sys_hello()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_answer_that_does_not_authenticate() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        record = bytearray(peer.link.seal([HELLO.pack() + OK]))
        record[-1] ^= 1
        peer.write(bytes(record))
        await peer.silence()

    with ThreadedWireNode(script) as node, node.connect() as session:
        with pytest.raises(asys.ChannelError):
            session.sys_hello()
        assert session.closed


def test_a_node_that_does_not_read_hits_the_deadline() -> None:
    stop = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await asyncio.to_thread(stop.wait)

    with ThreadedWireNode(script) as node, node.connect() as session:
        session.timeout = 0.01
        try:
            while not session.closed:  # until the buffers on the way are full
                with pytest.raises(asys.DeadlineExceeded):
                    session.call(LARGE, body=bytes(60_000))
        finally:
            stop.set()
        with pytest.raises(asys.ConnectionLost, match="did not read in time"):
            session.sys_hello()


def test_a_connection_that_was_reset_between_calls() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.abort()

    with ThreadedWireNode(script) as node, node.connect() as session:
        reset = select.select([session._wire._socket], [], [], 30)
        assert reset[0]

        with pytest.raises((asys.ConnectionLost, asys.OutcomeUnknown), match="reset by peer"):
            session.proc_throttle(1, "stop")
        assert session.closed


# Who is trusted, who is refused


def test_an_unknown_host_is_not_trusted(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    with ThreadedWireNode() as node:
        with pytest.raises(asys.UnknownHost) as caught:
            node.connect(node_key=None, known_hosts=hosts)
        assert not hosts.path.exists()
        hosts.add("127.0.0.1", node.node.port, caught.value.key)
        with node.connect(node_key=None, known_hosts=hosts) as session:
            assert session.sys_hello() == HELLO


def test_a_changed_host_key_is_refused() -> None:
    with ThreadedWireNode() as node, pytest.raises(asys.HostKeyChanged):
        node.connect(node_key=bytes(range(32)))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    ("first", "kind"), [(b"\x69\x82", asys.AgentRejected), (b"\x64\x00", asys.SessionLimit)]
)
def test_a_refused_agent_is_told_so(asked: bool, first: bytes, kind: type[asys.LinkError]) -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        if asked:
            await peer.read()
        peer.reply(first)

    with ThreadedWireNode(script) as node:
        for _ in range(5):
            with pytest.raises(kind):
                node.connect()


def test_an_agent_without_sys_caps_connects_all_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(PAGES):
            await peer.request()
            peer.reply(b"\x6a\x81")
        await peer.request()  # whether there is a next key
        peer.reply(b"\x6a\x81")
        await peer.silence()

    with ThreadedWireNode(script) as node, node.connect() as session:
        assert session.caps is None


def test_a_node_in_trouble_is_no_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(PAGES):
            await peer.request()
            peer.reply(b"\x6f\x00")
        await peer.silence()

    with ThreadedWireNode(script) as node, pytest.raises(asys.NodeError):
        node.connect()


def test_nobody_listens(tmp_path: Path) -> None:
    options: dict[str, Any] = {"identity": asys.Identity.generate(), "node_key": bytes(32)}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(asys.ConnectFailed, match="Connection refused"):
            asys.sync.connect(*unused.getsockname(), **options)
    with pytest.raises(asys.ConnectFailed, match="No such file"):
        asys.sync.connect(f"unix:{tmp_path}/none", **options)
    for host in ("a..b", "a" * 64):
        with pytest.raises(asys.ConnectFailed, match="cannot reach"):
            asys.sync.connect(host, **options)


def test_nobody_accepts() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        where = deaf.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.setblocking(False)
                one.connect_ex(where)

            with pytest.raises(asys.DeadlineExceeded, match="accept a connection"):
                asys.sync.connect(
                    *where,
                    identity=asys.Identity.generate(),
                    node_key=bytes(32),
                    timeout=0.1,
                )


def test_arguments_are_checked_before_anybody_is_called() -> None:
    with ThreadedWireNode() as node:
        with pytest.raises(asys.ArgumentError):
            node.connect(timeout=0)
        with pytest.raises(asys.ArgumentError):
            node.connect(node_key=b"")
        assert node.node.peers == []


# What is told


def test_a_trace_hears_of_each_answer_before_the_call_returns() -> None:
    heard: list[asys.Exchange] = []
    with ThreadedWireNode() as node, node.connect(trace=heard.append) as session:
        assert [one.instruction for one in heard] == ["SYS_CAPS"] * 4
        session.proc_throttle(1, "stop")
        assert (heard[-1].instruction, heard[-1].sw, heard[-1].seq) == ("PROC_THROTTLE", 0x9000, 1)
        assert (heard[-1].bytes_sent, heard[-1].bytes_received) == (48, 20)
        assert heard[-1].round_trip_ns > 0


def test_a_trace_may_call_the_node() -> None:
    heard: list[str] = []

    def trace(exchange: asys.Exchange) -> None:
        heard.append(exchange.instruction)
        if exchange.instruction == "PROC_THROTTLE":
            session.sys_hello()

    with ThreadedWireNode() as node, node.connect(trace=trace) as session:
        session.proc_throttle(1, "stop")

    assert heard == [*["SYS_CAPS"] * 4, "PROC_THROTTLE", "SYS_HELLO"]
