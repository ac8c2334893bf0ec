"""What lasts some time lasts as long, however the machine's clock is set meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.isa import TASK_QUERY, TaskStatus
from asys.node.connection import FRAME_SECONDS, IDLE_SECONDS, MAGIC_SECONDS
from asys.node.door import GENERATION_SECONDS
from support.frames import BLOCKED, HELLO, OK, frame
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.services import Services

YEAR = 365 * 86_400
LINES = {AGENT: "agent caps=all rate=SVC_RESTART:1/m", OTHER: "other caps=all"}


@pytest.fixture(params=[-YEAR, YEAR], ids=["back", "on"])
def step(request: pytest.FixtureRequest) -> int:
    step: int = request.param
    return step


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig(LINES, services=Services())
    yield rig
    await rig.close()


async def restart(rig: Rig, agent: RigAgent, name: str) -> bytes:
    agent.send(agent.restart(name))
    await rig.settle()
    [answer] = agent.responses()
    return answer


def over(agent: RigAgent) -> bool:
    return agent.transport.over


async def test_a_task_has_its_30_seconds(rig: Rig, step: int) -> None:
    agent = rig.session()
    handle = (await restart(rig, agent, "nginx"))[:4]
    rig.clock.set_unix(step)
    rig.advance(29.9)
    query = frame(TASK_QUERY.code, handle)
    assert agent.ask(query) == [bytes((TaskStatus.PENDING,)) + OK]
    rig.advance(0.1)
    assert agent.ask(query) == [bytes((TaskStatus.TIMEOUT,)) + OK]


async def test_a_rate_is_filled_by_time_alone(rig: Rig, step: int) -> None:
    agent = rig.session()
    assert (await restart(rig, agent, "one"))[-2:] == OK
    rig.clock.set_unix(step)
    assert await restart(rig, agent, "two") == BLOCKED
    rig.advance(59.9)
    assert agent.ask(HELLO)  # it is not idle
    assert await restart(rig, agent, "two") == BLOCKED
    rig.advance(0.1)
    assert (await restart(rig, agent, "two"))[-2:] == OK


async def test_sessions_and_those_who_do_not_come_in_have_their_time(rig: Rig, step: int) -> None:
    agent, silent, half = rig.session(), rig.dial(), rig.session(OTHER)
    half.write(half.sealed(HELLO)[:5])
    rig.clock.set_unix(step)
    rig.advance(MAGIC_SECONDS - 0.1)
    assert not over(silent)
    rig.advance(0.1)
    assert over(silent)
    rig.advance(FRAME_SECONDS - MAGIC_SECONDS - 0.1)
    assert not over(half)
    rig.advance(0.1)
    assert over(half)
    rig.advance(IDLE_SECONDS - FRAME_SECONDS - 0.1)
    assert not over(agent)
    rig.advance(2)
    assert over(agent)


async def test_a_handshake_is_as_old_as_it_is(rig: Rig, step: int) -> None:
    agent = rig.connect()
    before = agent.session._link.ephemeral
    rig.clock.set_unix(step)
    assert rig.node.replays.seen(before, rig.clock.now())
    rig.advance(GENERATION_SECONDS)
    assert rig.node.replays.seen(before, rig.clock.now())
    rig.advance(GENERATION_SECONDS)
    assert not rig.node.replays.seen(before, rig.clock.now())


async def test_readings_are_no_older_and_the_new_time_is_told(rig: Rig, step: int) -> None:
    agent = rig.session()
    rig.clock.set_unix(step)
    [hello] = agent.ask(HELLO)
    assert int.from_bytes(hello[8:16], "big") == rig.clock.time_ns()
    rig.advance(1)
    status, procs = agent.ask(frame(0x02), frame(0x03))
    assert (len(status), len(procs)) == (23, 44)
