"""TASK_CANCEL on a node whose service manager does each step when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.isa import TASK_CANCEL, TASK_QUERY, TaskStatus
from asys.node.platform.base import NotPermitted
from support.frames import (
    BLOCKED,
    CAPS,
    DENIED,
    NOT_SUPPORTED,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book
from support.on_record import Witnessed
from support.services import Services

LINE = "agent caps=all rate=TASK_CANCEL:4/h"
PENDING, SUCCESS, TIMEOUT, CANCELLED, NOT_FOUND = (
    bytes((status,)) + OK
    for status in (
        TaskStatus.PENDING,
        TaskStatus.SUCCESS,
        TaskStatus.TIMEOUT,
        TaskStatus.CANCELLED,
        TaskStatus.NOT_FOUND,
    )
)


@pytest.fixture
async def services() -> Services:
    return Services()


@pytest.fixture
async def rig(services: Services) -> AsyncIterator[Rig]:
    rig = Rig({AGENT: LINE, OTHER: "other caps=all"}, services=services)
    yield rig
    await rig.close()


async def later(rig: Rig, agent: RigAgent, *requests: bytes) -> list[bytes]:
    agent.send(*requests)
    await rig.settle()
    return agent.responses()


async def restarted(rig: Rig, agent: RigAgent, name: str = "nginx") -> bytes:
    """The handle of a restart that is pending."""
    [answer] = await later(rig, agent, agent.restart(name))
    assert answer[-2:] == OK
    return answer[:4]


def cancel(handle: bytes) -> bytes:
    return frame(TASK_CANCEL.code, handle)


def query(handle: bytes) -> bytes:
    return frame(TASK_QUERY.code, handle)


@pytest.mark.parametrize("signed", [False, True])
async def test_a_queued_restart_is_cancelled_and_its_handle_freed(
    rig: Rig, services: Services, signed: bool
) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    request = agent.signed(TASK_CANCEL.code, handle) if signed else cancel(handle)
    assert await later(rig, agent, request, query(handle)) == [CANCELLED, NOT_FOUND]
    assert services.jobs["nginx.unit"].cancels == 1


async def test_one_that_goes_on_is_pending_and_keeps_its_handle(
    rig: Rig, services: Services
) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    services.jobs["nginx.unit"].queued = False
    assert await later(rig, agent, cancel(handle), query(handle)) == [PENDING, PENDING]
    services.jobs["nginx.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()
    assert await later(rig, agent, query(handle)) == [SUCCESS]


async def test_what_has_ended_says_how_and_frees_its_handle(rig: Rig, services: Services) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    services.jobs["nginx.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()
    assert await later(rig, agent, cancel(handle), cancel(handle)) == [SUCCESS, NOT_FOUND]
    assert services.jobs["nginx.unit"].cancels == 0


async def test_a_timeout_is_not_cancelled_any_more(rig: Rig, services: Services) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    rig.advance(30.0)
    assert await later(rig, agent, cancel(handle), cancel(handle)) == [TIMEOUT, NOT_FOUND]
    assert services.jobs["nginx.unit"].cancels == 0


async def test_unknown_and_foreign_handles_have_one_answer(rig: Rig, services: Services) -> None:
    agent, second, other = rig.session(), rig.session(), rig.session(OTHER)
    handle = await restarted(rig, agent)
    assert await later(rig, agent, cancel(b"\x12\x34\x56\x78")) == [NOT_FOUND]
    for thief in (second, other):
        assert await later(rig, thief, cancel(handle)) == [NOT_FOUND]
    assert services.jobs["nginx.unit"].cancels == 0
    assert await later(rig, agent, query(handle)) == [PENDING]


@pytest.mark.parametrize(
    "line", ["agent caps=all services=other", "agent caps=core,TASK_CANCEL", "protected"]
)
async def test_what_is_not_permitted_any_more_is_denied(
    rig: Rig, services: Services, line: str
) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    if line == "protected":
        services.protected.add("nginx.unit")
    else:
        rig.node.authority.replace_book(book({AGENT: line}))
    assert await later(rig, agent, cancel(handle), query(handle)) == [DENIED, PENDING]
    assert services.jobs["nginx.unit"].cancels == 0
    services.jobs["nginx.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()
    assert await later(rig, agent, cancel(handle)) == [SUCCESS]


async def test_what_the_manager_does_not_allow_is_denied(rig: Rig, services: Services) -> None:
    agent = rig.session()
    handle = await restarted(rig, agent)
    services.jobs["nginx.unit"].error = NotPermitted("polkit says no")
    assert await later(rig, agent, cancel(handle), query(handle)) == [DENIED, PENDING]


async def test_a_rate_and_a_wrong_length(rig: Rig, services: Services) -> None:
    agent = rig.session()
    assert (
        await later(rig, agent, *(cancel(bytes(size)) for size in (0, 3, 5))) == [WRONG_LENGTH] * 3
    )
    handle = bytes.fromhex("00010001")
    assert await later(rig, agent, *(cancel(handle),) * 5) == [NOT_FOUND] * 4 + [BLOCKED]


async def test_without_a_service_manager_there_is_nothing_to_cancel() -> None:
    rig = Rig({AGENT: LINE})
    agent = rig.session()
    assert agent.ask(cancel(bytes(4))) == [NOT_SUPPORTED]
    [answer] = agent.ask(CAPS)
    assert not answer[1] & 0x04
    await rig.close()


async def test_intent_outcome_and_the_end_of_the_task_are_on_record(services: Services) -> None:
    audit = Witnessed()
    rig = Rig({AGENT: LINE}, services=services)
    rig.node.audit = audit
    agent = rig.session()
    handle = await restarted(rig, agent)
    audit.take()
    await later(rig, agent, cancel(handle), cancel(handle))
    one = handle.hex()
    steps = audit.take()
    [end] = [step for step in steps if step.startswith("end")]
    assert end.startswith("end 22 1 ")
    assert end.endswith(" 4")
    assert [step for step in steps if step != end] == [
        f"intent 12 0 {one}",
        f"outcome 12 0 {one} 9000 intended",
        f"intent 12 0 {one}",
        f"outcome 12 0 {one} 9000 intended",
    ]
    await rig.close()
