"""What asyd takes of the memory: after its start, for each session, and for those that want more.

With the lock in force. After the start it is the share that asyd has of all its memory (PSS); what
sessions add is anonymous, and the room that asyd has taken in advance for them counts as added.
Neither depends on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.node.platform.memory import BUFFERS, OBJECTS
from support.daemon import AGENT, Daemon, running
from support.frames import CAPS, HELLO, PROCS, STATUS, header
from support.raw_agent import RawAgent

pytestmark = pytest.mark.root

MB = 1 << 10
"""In KiB."""

AFTER_START = 60 * MB
SESSION = 40
SESSIONS = 600
HOSTILE = 3

IN_ADVANCE = (OBJECTS + BUFFERS) >> 10

HOSTILE_SESSION = 1 * MB
"""The sum of the bounds in docs/resilience.md, and something for its pieces."""

SENT = 6 << 20
"""Bytes that a hostile session sends, if they are taken: more than the kernel holds for it. What it
asks for is twice as much.
"""


@pytest.fixture
def asyd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """One that is as an admin has it: nobody measures which of its lines run."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    options = ("--audit", "on", "--memory-lock", "require", "--max-sessions-per-key", "1000")
    with running(tmp_path, *options, agents={AGENT: "boss caps=all,security"}) as one:
        yield one


def test_after_its_start_and_for_each_session(asyd: Daemon) -> None:
    before = asyd.resident_kb()
    print(f"{before / MB:.1f} MB after the start")
    assert before <= AFTER_START
    alone = asyd.anonymous_kb()
    with ExitStack() as stack:
        for _ in range(SESSIONS):
            agent = stack.enter_context(asyd.connect())
            for request in (HELLO, STATUS, CAPS, agent.signed(0x42, bytes(4))):
                agent.ask(request)
        each = (asyd.anonymous_kb() - alone + IN_ADVANCE) / SESSIONS
    print(f"{each:.1f} KB for each session")
    assert each <= SESSION


def half_a_frame(agent: RawAgent) -> bytes:
    """All of the largest frame that there is but its end."""
    return agent.sealed(header(0x60, 0, 0, 65_000, 0x0A) + bytes(65_000 - 100))


def half_a_record(_agent: RawAgent) -> bytes:
    return b"\xff\xff" + bytes(65_000)


def questions(agent: RawAgent) -> bytes:
    """More than will ever be answered to somebody who does not read."""
    return b"".join(agent.sealed(*[PROCS] * 1000) for _ in range(SENT // 24_000))


def large_ones(agent: RawAgent) -> bytes:
    requests = (agent.signed(0x42, bytes(60_000), cla=0x06) for _ in range(SENT // 60_000))
    return b"".join(map(agent.sealed, requests))


@pytest.mark.parametrize("what", [half_a_frame, half_a_record, questions, large_ones])
def test_a_session_that_wants_more_does_not_get_it(asyd: Daemon, what: object) -> None:
    """It never reads, and sends as long as somebody takes it."""
    assert callable(what)
    with asyd.connect() as watcher, ExitStack() as stack:
        assert watcher.alive()
        before = asyd.anonymous_kb()
        for _ in range(HOSTILE):
            agent = stack.enter_context(asyd.connect())
            assert agent.alive()
            agent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            agent.socket.setblocking(False)
            left = memoryview(what(agent))
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while left and select.select([], [agent.socket], [], 0.2)[1]:
                    left = left[agent.socket.send(left) :]
            assert watcher.alive()
        each = (asyd.anonymous_kb() - before) / HOSTILE
        print(f"{each:.0f} KB for each")
        assert each <= HOSTILE_SESSION
