"""A real node that dies, comes back, changes its key, drops its agent, or is busy; both shells."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import asys
from asys.protocol.keys import PrivateKey
from support.children import resumed, suspended, waiting
from support.comeback import DIES_ONCE_DONE, Comeback
from support.daemon import AGENT, PATIENCE, running


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Comeback]:
    with Comeback(tmp_path) as comeback:
        yield comeback


def stops_since(pid: int) -> bool:
    """A child has been stopped since it was looked at last."""
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None


# Dies and comes back


async def test_calls_go_on_with_a_node_that_came_back(node: Comeback) -> None:
    async with node.connect() as session:
        uid = (await session.sys_hello()).node_uid
        os.kill(node.daemon.pid, signal.SIGSTOP)  # what is sent now is in flight when it dies
        calls = [asyncio.ensure_future(session.sys_hello()) for _ in range(40)]
        await asyncio.sleep(0)
        node.die()
        await asyncio.to_thread(node.start)

        assert {one.node_uid for one in await asyncio.gather(*calls)} == {uid}
        assert (await session.sys_procs()).count > 0
        assert not session.closed


def test_blocking_calls_go_on_with_a_node_that_came_back(node: Comeback) -> None:
    with node.connect_sync() as session:
        uid = session.sys_hello().node_uid
        node.die()
        node.start()
        assert session.sys_hello().node_uid == uid


async def test_a_watch_survives_a_restart(node: Comeback) -> None:
    async with node.connect() as session:
        vitals = session.watch(0.05)
        assert isinstance(await anext(vitals), asys.Vitals)
        node.die()
        reading = asyncio.ensure_future(anext(vitals))
        await asyncio.to_thread(node.start)
        after = await reading
        assert isinstance(after, asys.Vitals)
        assert after.status.available_mb > 0


async def test_an_instruction_in_flight_when_the_node_dies_runs_once_at_most(
    tmp_path: Path,
) -> None:
    """The node has stopped the process, and dies before it says so."""
    with Comeback(tmp_path, prelude=DIES_ONCE_DONE) as node, waiting() as child:
        async with node.connect() as session:
            with pytest.raises(asys.OutcomeUnknown) as caught:
                await session.proc_throttle(child.pid, "stop")
            assert (caught.value.instruction, caught.value.seq) == ("PROC_THROTTLE", 1)
            node.await_death()
            suspended(child.pid)
            child.send_signal(signal.SIGCONT)
            resumed(child.pid)
            await asyncio.to_thread(node.start)

            for _ in range(3):
                await session.sys_hello()

            assert not stops_since(child.pid)
            await session.proc_throttle(child.pid, "stop")
            suspended(child.pid)
            await session.proc_throttle(child.pid, "continue")
            resumed(child.pid)


def test_an_instruction_that_the_node_never_read_is_unknown_too(node: Comeback) -> None:
    with node.connect_sync() as session, waiting() as child:
        session.sys_hello()
        os.kill(node.daemon.pid, signal.SIGSTOP)
        with asys.deadline(0.2), pytest.raises(asys.OutcomeUnknown):
            session.proc_throttle(child.pid, "stop")
        node.die()
        node.start()
        session.sys_hello()
        assert not stops_since(child.pid)


async def test_where_the_caller_allows_it_it_is_sent_again(tmp_path: Path) -> None:
    policy = asys.Reconnect(first=0.01, most=0.1, resend=True)
    with Comeback(tmp_path, prelude=DIES_ONCE_DONE) as node, waiting() as child:
        async with node.connect(reconnect=policy) as session:
            call = asyncio.ensure_future(session.proc_throttle(child.pid, "stop"))
            await asyncio.to_thread(node.await_death)
            await asyncio.to_thread(node.start)
            await call
            suspended(child.pid)
            await session.proc_throttle(child.pid, "continue")
            resumed(child.pid)


# Never followed


async def test_a_node_that_comes_back_with_another_key_is_not_followed(node: Comeback) -> None:
    async with node.connect() as session:
        await session.sys_hello()
        proven = session.node_key
        node.die()
        node.forget_key()
        await asyncio.to_thread(node.start)
        for _ in range(2):
            with pytest.raises(asys.HostKeyChanged) as caught:
                await session.sys_hello()
            assert (caught.value.known, caught.value.key) == (proven, node.daemon.key)
        assert session.closed
    assert proven != node.daemon.key


def test_an_agent_whose_line_is_removed_does_not_come_back(tmp_path: Path) -> None:
    with running(tmp_path, agents={AGENT: "agent caps=all"}) as node:
        host, port = node.endpoint
        attempts: list[float] = []

        def chance() -> float:
            attempts.append(0.0)
            return 0.0

        with asys.sync.connect(
            host,
            port,
            identity=asys.Identity(AGENT),
            node_key=node.key,
            reconnect=asys.Reconnect(first=0.01, random=chance),
            timeout=PATIENCE,
        ) as session:
            session.sys_hello()
            node.reload({PrivateKey.generate(): "other"})
            for _ in range(5):
                with pytest.raises(asys.AgentRejected):
                    session.sys_hello()
            assert session.closed
        assert len(attempts) <= 2  # the delay before the one attempt, and that after it


# What passes


def test_a_rate_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, agents={AGENT: "agent caps=all rate=SYS_HELLO:1/s"}) as node:
        host, port = node.endpoint
        notes: list[int] = []

        def trace(exchange: asys.Exchange) -> None:
            if exchange.instruction == "SYS_HELLO":
                notes.append(exchange.sw)

        with asys.sync.connect(
            host,
            port,
            identity=asys.Identity(AGENT),
            node_key=node.key,
            retry=asys.Retry(blocked=50, first=0.05, most=0.2),
            timeout=PATIENCE,
            trace=trace,
        ) as session:
            for _ in range(3):
                assert session.sys_hello().magic == b"ASYS"
        assert notes.count(0x9000) == 3
        assert 0x6400 in notes
        assert set(notes) == {0x9000, 0x6400}


# Idle


BRIEFLY: Final = "import asys.node.connection as c; c.IDLE_SECONDS = 3.0\n"
"""An asyd whose sessions may be idle for 3 s."""


def idle_node(directory: Path) -> Comeback:
    return Comeback(directory, prelude=BRIEFLY)


async def test_a_session_is_kept_over_the_limit_and_another_one_is_not(tmp_path: Path) -> None:
    with idle_node(tmp_path) as node:
        async with (
            node.connect(reconnect=None, keepalive=0.1) as kept,
            node.connect(reconnect=None) as idle,
        ):
            await idle._wire.closed
            assert idle.closed
            assert not kept.closed
            assert (await kept.sys_hello()).magic == b"ASYS"
        node.daemon.wait_for("idle")


def test_a_blocking_session_is_kept_over_the_limit(tmp_path: Path) -> None:
    with idle_node(tmp_path) as node:
        kept, idle = node.connect_sync(reconnect=None, keepalive=0.1), node.connect_sync()
        with kept, idle:
            node.daemon.wait_for("idle")
            assert kept.sys_hello().magic == b"ASYS"
            assert idle.sys_hello().magic == b"ASYS"  # over a new connection
