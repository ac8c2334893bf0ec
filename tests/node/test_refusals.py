"""Where what an instruction answers depends on the machine or the service manager.

The order of checks is that of docs/protocol.md, section 5.2; the numbers below are its rows.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator

import pytest

from asys.isa import TaskStatus
from asys.node.platform.base import (
    NoSuchTarget,
    NotPermitted,
    SystemFailure,
    TableSnapshot,
    Unsupported,
)
from asys.node.platform.portable import PortablePlatform
from asys.node.tasks import NODE_TASKS, SESSION_TASKS
from asys.protocol.status import SW
from support.frames import (
    BLOCKED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NOT_SUPPORTED,
    OK,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.services import Services, SlowServices
from support.target import Machine, Target

PENDING = b"\x00" + OK
NOT_FOUND = b"\xff" + OK


@pytest.fixture
def target() -> Target:
    return Target(4711)


@pytest.fixture
async def agent(target: Target) -> AsyncIterator[RigAgent]:
    machine = Machine()
    machine.target = target
    rig = Rig(platform=machine)
    yield rig.connect()
    await rig.close()
    assert target.handles == 0


def throttle(agent: RigAgent, action: int = 0, pid: int = 4711) -> bytes:
    (answer,) = agent.ask(agent.throttle(pid, action))
    return answer


def shown(agent: RigAgent, start: int) -> None:
    """The session has been shown the process that had the PID since `start`."""
    agent.session.shown.add(TableSnapshot(1, (), {4711: start}))


# -- PROC_THROTTLE


def test_it_does_what_it_says(agent: RigAgent, target: Target) -> None:
    assert [throttle(agent), throttle(agent, 1), throttle(agent)] == [OK] * 3
    assert target.signals == ["stop", "continue", "stop"]


def test_the_process_that_was_shown_is_the_one(agent: RigAgent, target: Target) -> None:
    shown(agent, 100)
    assert throttle(agent) == OK


@pytest.mark.parametrize("action", [0, 1])
def test_a_pid_that_was_shown_and_passed_on_is_refused(
    agent: RigAgent, target: Target, action: int
) -> None:
    shown(agent, 99)
    assert throttle(agent, action) == INVALID_PAYLOAD
    assert target.signals == []


def test_only_to_the_session_that_was_shown_it(agent: RigAgent, target: Target) -> None:
    shown(agent, 99)
    assert throttle(agent.rig.connect()) == OK


def test_a_pid_shown_again_is_the_process_shown_last(agent: RigAgent, target: Target) -> None:
    shown(agent, 99)
    shown(agent, 100)
    assert throttle(agent) == OK


def test_scope_comes_before_target(agent: RigAgent, target: Target) -> None:
    """Rows 11 and 13."""
    target.protected = "a kernel thread"
    target.zombie = True
    shown(agent, 99)
    assert throttle(agent) == DENIED


def test_target_comes_before_execution(agent: RigAgent, target: Target) -> None:
    """Rows 13 and 14."""
    target.error = SystemFailure("broken", SW.NODE_IO_ERROR)
    target.zombie = True
    assert throttle(agent) == INVALID_PAYLOAD
    target.zombie = False
    assert throttle(agent) == SW.NODE_IO_ERROR.wire


FAILURES = [
    (NotPermitted("not asyd's"), DENIED),
    (NoSuchTarget("it has just ended"), INVALID_PAYLOAD),
    (Unsupported("no pidfd"), NOT_SUPPORTED),
    (SystemFailure("?", SW.NODE_ERROR), SW.NODE_ERROR.wire),
    (OSError(errno.ENOMEM, "ENOMEM"), SW.NODE_OUT_OF_MEMORY.wire),
    (MemoryError(), SW.NODE_OUT_OF_MEMORY.wire),
    (OSError(errno.EIO, "EIO"), SW.NODE_IO_ERROR.wire),
    (OSError(errno.ENOSPC, "ENOSPC"), SW.NODE_NO_SPACE.wire),
    (OSError(errno.ETIMEDOUT, "ETIMEDOUT"), SW.NODE_TIMED_OUT.wire),
    (OSError(errno.EBUSY, "EBUSY"), SW.NODE_BUSY.wire),
    (OSError(errno.EPERM, "EPERM"), DENIED),
    (OSError(errno.ESRCH, "ESRCH"), INVALID_PAYLOAD),
    (OSError(errno.EMFILE, "EMFILE"), SW.NODE_UNKNOWN_ERROR.wire),
    (ZeroDivisionError("a mistake"), SW.NODE_UNKNOWN_ERROR.wire),
]


@pytest.mark.parametrize(("error", "answer"), FAILURES)
def test_what_goes_wrong_has_its_status_word(
    agent: RigAgent, target: Target, error: Exception, answer: bytes
) -> None:
    target.error = error
    assert throttle(agent) == answer
    target.error = None
    assert throttle(agent) == OK


def test_a_mistake_of_the_node_is_in_its_log_and_costs_nobody_the_session(
    agent: RigAgent, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    target.error = ZeroDivisionError("a mistake")
    with caplog.at_level(logging.ERROR, "asyd"):
        throttle(agent)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert agent.ask(HELLO)[0].endswith(OK)


# -- what a platform cannot do


async def test_a_platform_that_cannot_hold_processes_says_so_first() -> None:
    """Rows 6, 7 and 8."""
    rig = Rig({AGENT: "agent caps=all", OTHER: "other"}, platform=PortablePlatform())
    agent, other = rig.connect(), rig.connect(OTHER)
    assert agent.ask(frame(0x20)) == [NOT_SUPPORTED]
    assert agent.ask(agent.throttle(1)) == [NOT_SUPPORTED]
    assert other.ask(frame(0x20)) == [b"\x6a\x81"]
    await rig.close()


async def test_a_node_without_a_service_manager_says_so_first() -> None:
    rig = Rig()
    agent = rig.connect()
    assert agent.ask(frame(0x22), agent.restart("web"), agent.restart("")) == [NOT_SUPPORTED] * 3
    await rig.close()


async def test_the_map_shows_only_what_can_be_done() -> None:
    for services, lit in ((None, 0), (Services(), 4)):
        rig = Rig(platform=PortablePlatform(), services=services)
        assert rig.connect().ask(bytes(6))[0][4:8] == lit.to_bytes(4, "big")
        await rig.close()


# -- SVC_RESTART


@pytest.fixture
async def services() -> Services:
    return Services()


@pytest.fixture
async def rig(services: Services) -> AsyncIterator[Rig]:
    rig = Rig(services=services)
    yield rig
    await rig.close()


async def restart(agent: RigAgent, name: str) -> bytes:
    agent.send(agent.restart(name))
    await agent.rig.settle()
    (answer,) = agent.responses()
    return answer


def query(agent: RigAgent, handle: bytes) -> bytes:
    (answer,) = agent.ask(frame(0x11, handle))
    return answer


async def fill(agent: RigAgent, count: int) -> None:
    for number in range(count):
        assert (await restart(agent, f"service-{number}"))[4:] == OK


async def test_a_session_has_room_for_16_tasks(rig: Rig) -> None:
    agent = rig.connect()
    await fill(agent, SESSION_TASKS)
    assert await restart(agent, "one-more") == BLOCKED
    assert (await restart(agent, "service-3"))[4:] == OK  # pending: the same task
    assert (await restart(rig.connect(), "one-more"))[4:] == OK


async def test_a_node_has_room_for_256_tasks(rig: Rig) -> None:
    agents = [rig.connect() for _ in range(NODE_TASKS // SESSION_TASKS)]
    for agent in agents:
        await fill(agent, SESSION_TASKS)
    late = rig.connect()
    assert await restart(late, "one-more") == BLOCKED
    agents[0].transport.lose()
    assert (await restart(late, "one-more"))[4:] == OK


async def test_scope_comes_before_room_and_room_before_target(rig: Rig, services: Services) -> None:
    """Rows 11, 12 and 13."""
    agent = rig.connect()
    await fill(agent, SESSION_TASKS)
    services.protected.add("asyd.unit")
    services.missing |= {"asyd.unit", "nothing.unit"}
    assert await restart(agent, "asyd") == DENIED
    assert await restart(agent, "nothing") == BLOCKED
    assert (await restart(rig.connect(), "nothing"))[4:] == OK


async def test_room_that_is_not_there_restarts_nothing(rig: Rig, services: Services) -> None:
    agent = rig.connect()
    await fill(agent, SESSION_TASKS)
    await restart(agent, "one-more")
    assert services.restarts == SESSION_TASKS


@pytest.mark.parametrize(
    ("status", "answer"),
    [(TaskStatus.SUCCESS, b"\x01"), (TaskStatus.FAILED, b"\x02"), (TaskStatus.CANCELLED, b"\x04")],
)
async def test_a_task_ends_as_the_manager_says(
    rig: Rig, services: Services, status: TaskStatus, answer: bytes
) -> None:
    agent = rig.connect()
    handle = (await restart(agent, "web"))[:4]
    assert query(agent, handle) == PENDING
    services.jobs["web.unit"].result.set_result(status)
    await rig.settle()
    assert query(agent, handle) == answer + OK
    assert query(agent, handle) == NOT_FOUND


async def test_a_service_that_is_not_there_is_a_failed_task(rig: Rig, services: Services) -> None:
    services.missing.add("web.unit")
    agent = rig.connect()
    handle = (await restart(agent, "web"))[:4]
    assert query(agent, handle) == b"\x02" + OK


async def test_a_task_that_takes_30_s_is_a_timeout(rig: Rig, services: Services) -> None:
    agent = rig.connect()
    handle = (await restart(agent, "web"))[:4]
    rig.advance(29.9)
    assert query(agent, handle) == PENDING
    rig.advance(0.1)
    services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()
    assert query(agent, handle) == b"\x03" + OK
    assert query(agent, handle) == NOT_FOUND


async def test_a_handle_is_its_sessions_own(rig: Rig) -> None:
    agent, other = rig.connect(), rig.connect()
    handle = (await restart(agent, "web"))[:4]
    assert int.from_bytes(handle[:2], "big") == agent.session.id
    assert query(other, handle) == NOT_FOUND
    assert query(agent, handle) == PENDING


async def test_the_same_restart_again_is_the_same_task(rig: Rig, services: Services) -> None:
    agent = rig.connect()
    first = await restart(agent, "web")
    assert await restart(agent, "web") == first
    assert services.restarts == 1
    assert await restart(rig.connect(), "web") != first
    assert services.restarts == 2
    services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()


@pytest.mark.parametrize(
    ("error", "answer"), [one for one in FAILURES if one[1] != INVALID_PAYLOAD]
)
async def test_a_manager_that_fails_leaves_no_task(
    rig: Rig, services: Services, error: Exception, answer: bytes
) -> None:
    services.error = error
    agent = rig.connect()
    assert await restart(agent, "web") == answer
    assert len(rig.node.tasks) == 0


async def test_a_restart_that_waits_holds_its_own_session_alone() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent, other = rig.connect(), rig.connect()
    agent.send(agent.restart("web"), HELLO)
    await rig.settle()
    assert agent.responses() == []
    assert other.ask(HELLO)[0].endswith(OK)
    services.resolving.set()
    await rig.settle()
    assert agent.responses() == []
    services.restarting.set()
    await rig.settle()
    assert [len(answer) for answer in agent.responses()] == [6, 18]
    await rig.close()


async def test_the_end_of_the_node_gives_the_task_of_a_waiting_restart_back() -> None:
    services = SlowServices()
    services.resolving.set()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"))
    await rig.settle()
    assert len(rig.node.tasks) == 1
    await rig.close()
    assert len(rig.node.tasks) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
