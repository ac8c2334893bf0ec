"""`node.suspended(pid)`: whatever happens in the block, the process goes on at its end."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import asys
from asys import isa
from asys.client.aio import Connecting
from support.asyd_cli import told
from support.children import resumed, suspended, waiting
from support.daemon import Daemon, running
from support.wire_node import OK, Gone, Peer, ThreadedWireNode, WireNode, answer

STOP, CONTINUE = 0, 1
PID = 4711


class Told:
    """A node that keeps what it is told to do to processes, over all of its connections.

    `answers` are its status words by turn, then success; None: it answers with success, and not
    before the next one. `closing`: it closes the connection before that turn.
    """

    def __init__(self, *answers: bytes | None, closing: int = -1) -> None:
        self.actions: list[int] = []
        self._answers = list(answers)
        self._closing = closing
        self.came = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.accept()
        owed: list[bytes] = []
        while True:
            frame = await peer.request()
            if frame.ins != isa.PROC_THROTTLE.code:
                peer.reply(answer(frame) or b"")
                continue
            self._closing -= 1
            if self._closing == -1:
                raise Gone
            self.actions.append(frame.p1)
            self.came.set()
            reply = self._answers.pop(0) if self._answers else OK
            if reply is None:
                owed.append(OK)
            else:
                peer.reply(*owed, reply)
                owed.clear()


async def test_stopped_for_the_block() -> None:
    told = Told()
    async with WireNode(told) as node, node.connect() as session:
        async with session.suspended(PID):
            assert told.actions == [STOP]
        assert told.actions == [STOP, CONTINUE]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
async def test_it_goes_on_whatever_the_block_raises(error: type[BaseException]) -> None:
    told = Told()
    async with WireNode(told) as node, node.connect() as session:
        with pytest.raises(error):
            async with session.suspended(PID):
                raise error
        assert told.actions == [STOP, CONTINUE]


async def test_what_cannot_be_stopped_is_not_continued() -> None:
    told = Told(b"\x69\x82")
    async with WireNode(told) as node, node.connect() as session:
        with pytest.raises(asys.Denied):
            async with session.suspended(PID):
                raise AssertionError("it was refused")
        assert told.actions == [STOP]


async def test_a_pid_that_is_none() -> None:
    told = Told()
    async with WireNode(told) as node, node.connect() as session:
        with pytest.raises(asys.ArgumentError):
            async with session.suspended(-1):
                raise AssertionError("there is no such process")
        assert told.actions == []


async def test_a_process_that_ends_in_the_block_is_no_error() -> None:
    told = Told(OK, b"\x6a\x80")
    async with WireNode(told) as node, node.connect() as session:
        async with session.suspended(PID):
            pass
        assert told.actions == [STOP, CONTINUE]


@pytest.mark.parametrize("sw", [b"\x64\x00", b"\x6f\xff"])
async def test_one_that_cannot_be_continued_is_named(sw: bytes) -> None:
    async with WireNode(Told(OK, sw)) as node, node.connect() as session:
        with pytest.raises(asys.StillSuspended, match="4711 is still stopped") as caught:
            async with session.suspended(PID):
                raise ValueError("in the block")

    error = caught.value
    assert error.pid == PID
    assert isinstance(error.__cause__, asys.StatusError)
    assert isinstance(error.__context__, ValueError)
    assert "asyd throttled release 4711" in str(error)
    assert "--throttle-lease" in str(error)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert (str(again), again.pid, again.reason) == (str(error), PID, error.reason)


async def test_a_connection_that_ends_in_the_block_is_made_anew_for_that() -> None:
    told = Told(closing=1)
    async with WireNode(told) as node, node.connect() as session:
        async with session.suspended(PID):
            assert told.actions == [STOP]

        assert told.actions == [STOP, CONTINUE]
        assert len(node.peers) == 2
        assert session.closed


async def test_one_that_was_closed_in_the_block_too() -> None:
    told = Told()
    async with WireNode(told) as node, node.connect() as session:
        async with session.suspended(PID):
            await session.close()

        assert told.actions == [STOP, CONTINUE]


async def test_a_node_that_is_gone_leaves_it_stopped() -> None:
    node = WireNode(Told(closing=1))
    async with node, node.connect() as session:
        assert node._server is not None
        with pytest.raises(asys.StillSuspended) as caught:
            async with session.suspended(PID):
                node._server.close()
    assert isinstance(caught.value.__cause__, asys.ConnectFailed)


async def test_a_stop_whose_answer_is_not_known_is_taken_back() -> None:
    told = Told(None)
    async with WireNode(told) as node, node.connect(timeout=0.2) as session:
        with pytest.raises(asys.OutcomeUnknown):
            async with session.suspended(PID):
                raise AssertionError("it is not known to stand")
        assert told.actions == [STOP, CONTINUE]


async def test_a_stop_that_is_cancelled_is_taken_back() -> None:
    told = Told(None)
    async with WireNode(told) as node, node.connect() as session:

        async def work() -> None:
            async with session.suspended(PID):
                raise AssertionError("it was cancelled before")

        task = asyncio.create_task(work())
        await told.came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told.actions == [STOP, CONTINUE]


async def test_being_cancelled_while_it_is_continued_does_not_keep_it_from_that() -> None:
    gate = asyncio.Event()
    reached = asyncio.Event()
    actions: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            frame = await peer.request()
            actions.append(frame.p1)
            if frame.p1 == CONTINUE:
                reached.set()
                await gate.wait()
            peer.reply(OK)

    async with WireNode(script) as node, node.connect() as session:

        async def work() -> None:
            async with session.suspended(PID):
                pass

        task = asyncio.create_task(work())
        await reached.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert actions == [STOP, CONTINUE]
        assert not session.closed


async def test_what_nobody_foresaw_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with WireNode(Told(closing=1)) as node, node.connect() as session:

        async def fail() -> asys.Node:
            raise RuntimeError("a fault")

        monkeypatch.setattr(session, "_another", fail)
        with pytest.raises(RuntimeError, match="a fault"):
            async with session.suspended(PID):
                pass


# -- without asyncio


def test_blocking_stopped_for_the_block() -> None:
    told = Told()
    with ThreadedWireNode(told) as node, node.connect() as session:
        with session.suspended(PID):
            assert told.actions == [STOP]
        assert told.actions == [STOP, CONTINUE]

        with pytest.raises(KeyboardInterrupt), session.suspended(PID):
            raise KeyboardInterrupt
        assert told.actions == [STOP, CONTINUE] * 2


def test_blocking_refused() -> None:
    told = Told(b"\x69\x82", OK, b"\x6a\x80", OK, b"\x64\x00")
    with ThreadedWireNode(told) as node, node.connect() as session:
        with pytest.raises(asys.Denied), session.suspended(PID):
            raise AssertionError("it was refused")
        assert told.actions == [STOP]

        with session.suspended(PID):
            pass  # it ends in the block
        with pytest.raises(asys.StillSuspended) as caught, session.suspended(PID):
            pass
        assert isinstance(caught.value.__cause__, asys.Blocked)


def test_blocking_a_stop_whose_answer_is_not_known_is_taken_back() -> None:
    told = Told(None)
    with ThreadedWireNode(told) as node, node.connect(timeout=0.2) as session:
        with pytest.raises(asys.OutcomeUnknown), session.suspended(PID):
            raise AssertionError("it is not known to stand")
        assert told.actions == [STOP, CONTINUE]


def test_blocking_an_interrupted_stop_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    with ThreadedWireNode(told) as node, node.connect() as session:
        throttle: Callable[..., None] = session.proc_throttle

        def interrupted(pid: int, action: isa.ThrottleAction) -> None:
            throttle(pid, action)
            if action is isa.ThrottleAction.STOP:
                raise KeyboardInterrupt

        monkeypatch.setattr(session, "proc_throttle", interrupted)
        with pytest.raises(KeyboardInterrupt), session.suspended(PID):
            raise AssertionError("it was interrupted before")
        assert told.actions == [STOP, CONTINUE]


def test_blocking_a_connection_that_ends_in_the_block_is_made_anew_for_that() -> None:
    told = Told()
    with ThreadedWireNode(told) as node, node.connect() as session:
        with session.suspended(PID):
            session.close()
        assert told.actions == [STOP, CONTINUE]
        assert len(node.node.peers) == 2


# -- a real one


@pytest.fixture
def identity() -> asys.Identity:
    return asys.Identity.generate()


def started(node: Daemon, identity: asys.Identity) -> Connecting:
    """A connection to it."""
    host, port = node.endpoint
    return asys.connect(host, port, identity=identity, node_key=node.key, timeout=60.0)


async def test_against_asyd(tmp_path: Path, identity: asys.Identity) -> None:
    with waiting() as child, running(tmp_path, agents={}) as daemon:
        path = daemon.config_dir / "authorized_agents"
        path.write_text(f"{identity.public.hex()} agent caps=all\n")
        told(daemon.config_dir, "reload")
        async with started(daemon, identity) as session:
            async with session.suspended(child.pid):
                suspended(child.pid)
            resumed(child.pid)

            async with session.suspended(child.pid):
                suspended(child.pid)
                child.kill()
                child.wait()
