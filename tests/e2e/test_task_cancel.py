"""TASK_CANCEL against a real asyd whose service manager is a supervisord."""

from __future__ import annotations

import asys
import asys.sync
from asys.client.identity import Identity
from asys.isa import TaskStatus
from support.daemon import AGENT, CORE_AGENT, Daemon
from support.frames import NO_SUCH_INSTRUCTION, OK, WRONG_LENGTH, frame
from support.raw_agent import RawAgent

PENDING, NOT_FOUND = b"\0" + OK, b"\xff" + OK


def test_a_restart_under_supervisord_goes_on(asyd: Daemon, agent: RawAgent) -> None:
    handle = agent.ask(agent.restart("service-0"))[:4]
    assert agent.ask(frame(0x12, handle)) == PENDING
    assert agent.ask(agent.signed(0x12, handle)) == PENDING
    with asyd.connect() as other:
        assert other.ask(frame(0x12, handle)) == NOT_FOUND
    assert agent.ask(frame(0x11, handle)) == PENDING
    assert agent.ask(frame(0x12, handle[:3])) == WRONG_LENGTH


def test_it_does_not_exist_for_core_alone(core_agent: RawAgent) -> None:
    assert core_agent.ask(frame(0x12, bytes(4))) == NO_SUCH_INSTRUCTION


async def test_the_sdk_asks_for_what_may_still_be_taken_back(asyd: Daemon) -> None:
    host, port = asyd.endpoint
    async with asys.connect(host, port, identity=Identity(AGENT), node_key=asyd.key) as node:
        task = await node.svc_restart("service-1")
        assert await task.cancel() is TaskStatus.PENDING
        assert task.final is None
        gone = node.task(0x00010001)
        assert await gone.cancel() is TaskStatus.NOT_FOUND
        assert gone.final is TaskStatus.NOT_FOUND
        assert (await node.task_cancel(task.handle)).status is TaskStatus.PENDING


def test_the_sdk_without_asyncio(asyd: Daemon) -> None:
    host, port = asyd.endpoint
    with asys.sync.connect(host, port, identity=Identity(AGENT), node_key=asyd.key) as node:
        task = node.svc_restart("service-2")
        assert task.cancel() is TaskStatus.PENDING
        gone = node.task(0x00010001)
        assert gone.cancel() is gone.cancel() is TaskStatus.NOT_FOUND
    with asys.sync.connect(host, port, identity=Identity(CORE_AGENT), node_key=asyd.key) as node:
        assert not node.can("TASK_CANCEL")
