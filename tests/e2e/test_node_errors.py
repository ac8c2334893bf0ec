"""Status words of a machine that fails, over a real socket; the node runs in this process."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator

import pytest

from asys.isa import Status
from asys.node.clock import LoopClock
from asys.node.listen import listen, parse_address
from asys.node.platform.base import ProcessHandle, SystemFailure, Vitals
from asys.node.platform.portable import PortablePlatform
from asys.node.server import Node
from asys.node.session import Session
from asys.protocol.status import SW
from support.daemon import AGENT
from support.frames import PROCS, STATUS
from support.node_rig import NODE, book
from support.raw_agent import RawAgent

ERRORS = [
    (SystemFailure("?", SW.NODE_ERROR), SW.NODE_ERROR),
    (OSError(errno.ENOMEM, "ENOMEM"), SW.NODE_OUT_OF_MEMORY),
    (OSError(errno.EIO, "EIO"), SW.NODE_IO_ERROR),
    (OSError(errno.ENOSPC, "ENOSPC"), SW.NODE_NO_SPACE),
    (OSError(errno.ETIMEDOUT, "ETIMEDOUT"), SW.NODE_TIMED_OUT),
    (OSError(errno.EBUSY, "EBUSY"), SW.NODE_BUSY),
    (RuntimeError("nobody foresaw this"), SW.NODE_UNKNOWN_ERROR),
]


class BrokenVitals:
    """Vitals that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, now: float) -> Status:
        """As Vitals.read."""
        raise self.error

    def close(self) -> None:
        """As Vitals.close."""


class BrokenMachine(PortablePlatform):
    """Everything that is asked of it fails."""

    def __init__(self) -> None:
        self.error: Exception = RuntimeError()

    def can_throttle(self) -> bool:
        """As Platform.can_throttle."""
        return True

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        raise self.error

    def vitals(self) -> Vitals:
        """As Platform.vitals."""
        return BrokenVitals(OSError(errno.EMFILE, "EMFILE"))


@pytest.fixture
async def agent() -> AsyncIterator[tuple[RawAgent, BrokenMachine]]:
    machine = BrokenMachine()
    node = Node(
        key=NODE,
        book=book({AGENT: "agent caps=all"}),
        platform=machine,
        clock=LoopClock(asyncio.get_running_loop()),
    )
    server, address = await listen(lambda: Session(node), parse_address("127.0.0.1", 0))
    agent = await asyncio.to_thread(RawAgent, (address.host, address.port))
    await asyncio.to_thread(agent.handshake, AGENT)
    yield agent, machine
    agent.close()
    server.close()
    await node.close()
    await server.wait_closed()


@pytest.mark.parametrize(("error", "sw"), ERRORS)
async def test_an_instruction_that_fails(
    agent: tuple[RawAgent, BrokenMachine], error: Exception, sw: SW
) -> None:
    raw, machine = agent
    machine.error = error
    for _ in range(2):
        assert await asyncio.to_thread(raw.ask, raw.throttle(4711)) == sw.wire
    assert await asyncio.to_thread(raw.alive)


async def test_a_machine_half_of_which_cannot_be_read(
    agent: tuple[RawAgent, BrokenMachine],
) -> None:
    """Never old values, never zeros; and what can be read is answered, waited for or not."""
    raw, _ = agent
    requests = [PROCS, STATUS] * 2
    answers = [await asyncio.to_thread(raw.ask, request) for request in requests]
    assert [len(answer) for answer in answers[::2]] == [44, 44]
    assert answers[1::2] == [SW.NODE_IO_ERROR.wire] * 2
    assert await asyncio.to_thread(raw.alive)
