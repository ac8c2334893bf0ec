"""A node as deployed: it answers what the recorded sessions answer, and ends where they end.

The tag of a signed request depends on the session, so a request is looked up without it.
"""

from __future__ import annotations

import asyncio

import pytest

import asys
from asys import isa
from asys.protocol.apdu import Frame, FrameParser
from asys.protocol.limits import MAGIC
from client.instructions import LONG
from support.sessions import SESSIONS, Session
from support.wire_node import Peer, Script, WireNode


def content(frame: Frame) -> tuple[bytes, bytes]:
    """What is said, whatever the session."""
    return frame.header, frame.data


def answers(*names: str) -> dict[tuple[bytes, bytes], bytes]:
    """The recorded answers by request."""
    found: dict[tuple[bytes, bytes], bytes] = {}
    for name in (*names, "core-isa"):
        for exchange in SESSIONS[name].exchanges:
            frames = FrameParser().feed(exchange.request)
            if frames and exchange.response is not None:
                found.setdefault(content(frames[0]), exchange.response)
    return found


def replay(*names: str) -> Script:
    """A node that answers as recorded; SYS_CAPS, which every connection begins with, always.

    Like the deployed one it ends the session with 6985, and after a request that was never asked.
    """
    recorded = answers(*names)
    caps = recorded[b"\0\0\0\0\0", b""]

    async def script(peer: Peer) -> None:
        await peer.handshake()
        seqs = set()
        while True:
            frame = await peer.request()
            reply = caps if frame.ins == 0 else recorded[content(frame)]
            if frame.cla:
                assert peer.verifier.verify(frame) in (None, 0x6985)
                if frame.data[:4] in seqs:
                    reply = b"\x69\x85"
                seqs.add(frame.data[:4])
            peer.reply(reply)
            if reply == b"\x69\x85":
                return

    return script


def response(session: Session, what: str) -> bytes:
    """A recorded answer by its name, without the status word."""
    (found,) = (one.response for one in session.exchanges if one.what == what)
    assert found is not None
    return found[:-2]


async def test_core_isa() -> None:
    recorded = SESSIONS["core-isa"]
    async with WireNode(replay()) as node, node.connect() as session:
        assert not session.speaks_part_b
        assert session.caps == isa.Capabilities.unpack(response(recorded, "SYS_CAPS"))
        assert session.caps is not None
        assert session.caps.instructions == (0, 1, 2, 3, 0x11, 0x20, 0x22)
        hello = await session.sys_hello()
        assert (hello.magic, hello.node_uid) == (MAGIC, 0x3D1219C7)
        status = await session.sys_status()
        assert (status.load1, status.cpu_percent, status.available_mb) == (2.4, 100, 22798)
        procs = await session.sys_procs()
        assert (procs.count, len(procs.top)) == (124, 5)
        assert (procs.top[0].pid, procs.top[0].cpu_percent) == (0x6420, 92.68)


async def test_signed_instructions_and_their_refusals() -> None:
    async with WireNode(replay("signed")) as node, node.connect() as session:
        await session.proc_throttle(16073, "stop")
        await session.proc_throttle(16073, "continue")
        session._caller.link.signer.seq = 4  # the recorded Seq 3 and 4 are arguments refused here
        with pytest.raises(asys.InvalidPayload):
            await session.proc_throttle(0x7FFFFFF0, "stop")
        for refused in ("Nginx", "nginx.service", "../etc/passwd", "a" * 65, ""):
            with pytest.raises(asys.ArgumentError):
                await session.svc_restart(refused)


async def test_a_task_of_a_missing_service_fails_once_and_is_forgotten() -> None:
    async with WireNode(replay("levels")) as node, node.connect() as session:
        session._caller.link.signer.seq = 5
        task = await session.svc_restart("no-such-unit")

        assert task.handle == 0x00057BB0
        assert await task.wait(timeout=30) is isa.TaskStatus.FAILED
        assert await task.query() is isa.TaskStatus.FAILED


async def test_6985_closes_the_connection_and_the_outcome_is_known_all_the_same() -> None:
    async with WireNode(replay("replayed-seq")) as node, node.connect() as session:
        session._caller.link.signer.seq = 4
        await session.proc_throttle(21299, "continue")

        assert await session.resend(5) is None
        await asyncio.wait((session._wire.closed,))
        with pytest.raises(asys.ConnectionLost, match="closed the connection"):
            await session.sys_hello()


async def test_an_unknown_agent_is_told_by_the_first_message() -> None:
    recorded = SESSIONS["unknown-agent"]

    async def script(peer: Peer) -> None:
        await peer.handshake()
        peer.reply(recorded.first_message)

    async with WireNode(script) as node:
        with pytest.raises(asys.AgentRejected):
            await node.connect()


async def test_the_ninth_connection_is_closed_right_after_accept() -> None:
    sessions = 0

    async def script(peer: Peer) -> None:
        nonlocal sessions
        if sessions == 8:
            return
        sessions += 1
        try:
            await peer.accept()
            await peer.silence()
        finally:
            sessions -= 1

    async with WireNode(script) as node:
        eight = [await node.connect() for _ in range(8)]
        with pytest.raises(asys.ConnectionLost, match="no room for another session"):
            await node.connect()
        for session in eight:
            await session.close()


async def test_extended_signed_frames_are_never_sent_to_it() -> None:
    async with WireNode(replay()) as node, node.connect() as session:
        before = node.peer.received
        with pytest.raises(asys.ArgumentError, match="extended signed frame"):
            await session.call(LONG, body=bytes(252))
        await session.sys_hello()

        assert node.peer.received == before + 24
