"""Whom an instruction names: what is protected, then the scope, then the rate, then the target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from asys.node.platform.base import NoSuchTarget, NotPermitted, TableSnapshot
from support.frames import BLOCKED, DENIED, INVALID_PAYLOAD, OK
from support.node_rig import AGENT, Rig, RigAgent
from support.services import Services
from support.target import Machine, Target

PID = 4711
NOBODY = 4712


@asynccontextmanager
async def node(options: str) -> AsyncIterator[tuple[RigAgent, Target]]:
    """A session of an agent with these options, and the one process that there is, of uid 1000."""
    machine = Machine()
    machine.target.users = frozenset({1000})
    rig = Rig({AGENT: f"agent caps=all {options}"}, platform=machine, services=Services())
    yield rig.session(), machine.target
    await rig.close()
    assert machine.target.handles == 0


def throttle(agent: RigAgent, pid: int = PID) -> bytes:
    [answer] = agent.ask(agent.throttle(pid))
    return answer


async def restart(agent: RigAgent, name: str) -> bytes:
    agent.send(agent.restart(name))
    await agent.rig.settle()
    [answer] = agent.responses()
    return answer


# -- processes and whose they are


async def test_a_process_of_a_user_in_the_scope() -> None:
    async with node("users=1000,1001") as (agent, target):
        assert throttle(agent) == OK
        target.users = frozenset({1001, 1000})
        assert throttle(agent) == OK
        assert target.signals == ["stop", "stop"]


@pytest.mark.parametrize("users", [{0}, {1000, 0}, {0, 1000, 1001}])
async def test_a_process_with_any_uid_outside_the_scope(users: set[int]) -> None:
    """One that root has started, or that can become root again, is root's."""
    async with node("users=1000,1001") as (agent, target):
        target.users = frozenset(users)
        assert throttle(agent) == DENIED
        assert target.signals == []


async def test_without_users_everybody_is_in_the_scope_and_nobody_is_asked_for_it() -> None:
    async with node("") as (agent, target):
        target.ended = AssertionError("nobody needs to know")
        assert throttle(agent) == OK


@pytest.mark.parametrize(
    ("error", "answer"),
    [(NoSuchTarget("it has ended"), INVALID_PAYLOAD), (NotPermitted("hidden"), DENIED)],
)
async def test_whose_it_is_cannot_be_told(error: Exception, answer: bytes) -> None:
    async with node("users=1000") as (agent, target):
        target.ended = error
        assert throttle(agent) == answer
        assert target.signals == []


# -- rates


def protected(target: Target) -> None:
    target.protected = "it is the journal"


def outside(target: Target) -> None:
    target.users = frozenset({0})


def zombie(target: Target) -> None:
    target.zombie = True


def another(target: Target) -> None:
    target.start += 1


REFUSALS = [(protected, DENIED), (outside, DENIED), (zombie, INVALID_PAYLOAD)]


@pytest.mark.parametrize(("change", "answer"), [*REFUSALS, (another, INVALID_PAYLOAD)])
async def test_what_is_refused_costs_nothing(
    change: Callable[[Target], None], answer: bytes
) -> None:
    async with node("users=1000 rate=PROC_THROTTLE:1/h") as (agent, target):
        agent.session.shown.add(TableSnapshot(1, (), {PID: target.start}))
        change(target)
        assert [throttle(agent) for _ in range(3)] == [answer] * 3
        target.users, target.protected, target.zombie, target.start = (
            frozenset({1000}),
            "",
            False,
            100,
        )
        assert throttle(agent) == OK
        assert throttle(agent) == BLOCKED


@pytest.mark.parametrize(("change", "answer"), [(protected, DENIED), (outside, DENIED)])
async def test_over_the_rate_what_is_refused_to_all_is_still_refused(
    change: Callable[[Target], None], answer: bytes
) -> None:
    async with node("users=1000 rate=PROC_THROTTLE:1/h") as (agent, target):
        assert throttle(agent) == OK
        change(target)
        assert throttle(agent) == answer
        assert throttle(agent, 1) == DENIED


@pytest.mark.parametrize("change", [zombie, another])
async def test_over_the_rate_nobody_learns_what_became_of_a_process(
    change: Callable[[Target], None],
) -> None:
    async with node("users=1000 rate=PROC_THROTTLE:1/h") as (agent, target):
        agent.session.shown.add(TableSnapshot(1, (), {PID: target.start}))
        assert throttle(agent) == OK
        change(target)
        assert throttle(agent) == BLOCKED


async def test_over_the_rate_nobody_learns_whether_a_process_is_there() -> None:
    async with node("rate=PROC_THROTTLE:1/h") as (agent, _target):
        assert [throttle(agent, NOBODY) for _ in range(3)] == [INVALID_PAYLOAD] * 3
        assert throttle(agent) == OK
        assert throttle(agent, NOBODY) == BLOCKED


async def test_what_the_system_refuses_has_cost_one() -> None:
    async with node("rate=PROC_THROTTLE:1/h") as (agent, target):
        target.error = NotPermitted("no")
        assert throttle(agent) == DENIED
        assert throttle(agent) == BLOCKED


async def test_a_rate_comes_back_with_time() -> None:
    async with node("rate=PROC_THROTTLE:2/m") as (agent, _target):
        assert [throttle(agent) for _ in range(3)] == [OK, OK, BLOCKED]
        agent.rig.advance(30)
        assert [throttle(agent) for _ in range(2)] == [OK, BLOCKED]


# -- services


def services(agent: RigAgent) -> Services:
    made = agent.rig.node.services
    assert isinstance(made, Services)
    return made


async def test_a_service_is_judged_by_its_own_name() -> None:
    """The unit of web, here, is web.unit."""
    async with node("services=web.unit,db*") as (agent, _target):
        assert (await restart(agent, "web")).endswith(OK)
        assert (await restart(agent, "db2")).endswith(OK)
        assert await restart(agent, "cache") == DENIED
        assert services(agent).restarts == 2


async def test_a_service_that_was_in_the_scope_when_it_was_restarted() -> None:
    """The same again answers the same handle, unless the agent may not touch it any more."""
    async with node("services=web.unit") as (agent, _target):
        handle = await restart(agent, "web")
        assert await restart(agent, "web") == handle
        services(agent).protected.add("web.unit")
        assert await restart(agent, "web") == DENIED


async def test_the_rate_of_restarts() -> None:
    async with node("services=web.unit,db.unit rate=SVC_RESTART:1/h") as (agent, _target):
        assert await restart(agent, "cache") == DENIED
        services(agent).protected.add("db.unit")
        assert await restart(agent, "db") == DENIED
        services(agent).protected.clear()
        handle = await restart(agent, "web")
        assert handle.endswith(OK)
        assert await restart(agent, "db") == BLOCKED
        assert await restart(agent, "cache") == DENIED
        assert await restart(agent, "web") == handle  # nothing is done, so nothing is taken
        assert services(agent).restarts == 1


async def test_a_service_that_is_missing_is_not_to_be_told_over_the_rate() -> None:
    async with node("rate=SVC_RESTART:1/h") as (agent, _target):
        services(agent).missing.add("web.unit")
        handle = await restart(agent, "web")
        assert handle.endswith(OK)
        assert await restart(agent, "db") == BLOCKED
