"""ABANDON: the other sessions of the same key end, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from asys.node.tasks import NODE_TASKS, SESSION_TASKS
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import add, sealed
from support.frames import (
    BLOCKED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    WRONG_LENGTH,
    frame,
)
from support.raw_agent import RawAgent
from support.supervised import FOR_EVER, supervisord

ABANDON = frame(0x14)
AGENTS = {AGENT: "agent caps=all,security", CORE_AGENT: "other"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    programs = {f"service-{number}": "sleep infinity" for number in range(SESSION_TASKS)}
    with (
        supervisord(programs, startsecs=FOR_EVER) as url,
        running(
            tmp_path_factory.mktemp("asyd"),
            *("--supervisord", url, "--handshake-rate", "0", "--max-sessions-per-key", "30"),
            agents=AGENTS,
        ) as daemon,
    ):
        yield daemon


def told(count: int) -> bytes:
    """The answer."""
    return count.to_bytes(2, "big") + OK


def opened(node: Daemon, stack: ExitStack, count: int) -> list[RawAgent]:
    """Sessions of the agent."""
    agents = [stack.enter_context(node.connect()) for _ in range(count)]
    assert all(agent.alive() for agent in agents)
    return agents


def test_nobody_else(node: Daemon) -> None:
    with node.connect() as agent:
        assert agent.ask(ABANDON) == told(0)
        assert agent.alive()


def test_the_others_are_closed_before_the_answer(node: Daemon) -> None:
    with ExitStack() as stack, node.connect(CORE_AGENT) as other:
        assert other.alive()
        agent, *rest = opened(node, stack, 8)
        assert agent.ask(ABANDON) == told(7)
        for one in rest:
            one.send(frame(0x20))
            assert one.final() == []
        assert agent.ask(ABANDON) == told(0)
        assert other.alive()
        assert agent.alive()


def test_in_whatever_state_they_are(node: Daemon) -> None:
    with ExitStack() as stack:
        agent, half, waiting, busy = opened(node, stack, 4)
        half.send(HELLO[:2])
        waiting.send(*[PROCS] * 50)
        busy.send(*[HELLO] * 2000)
        assert agent.ask(ABANDON) == told(3)
        assert half.final() == []
        assert {len(one) for one in waiting.final()} <= {44}
        assert {len(one) for one in busy.final()} <= {18}


def test_a_handshake_that_was_not_confirmed_is_closed_and_not_counted(node: Daemon) -> None:
    with node.connect() as agent, node.connect() as unconfirmed:
        assert agent.ask(ABANDON) == told(0)
        assert unconfirmed.final() == []


def test_delegates_are_other_agents(node: Daemon) -> None:
    key = PrivateKey.generate()
    with node.connect() as agent, node.connect() as other:
        assert other.alive()
        assert add(agent, key.public, {0x01, 0x14})[4:] == OK
        with node.connect(key) as child:
            assert child.alive()
            assert agent.ask(ABANDON) == told(1)
            assert child.ask(ABANDON) == told(0)
            assert agent.alive()
            assert child.alive()
        assert agent.ask(sealed(agent, 0x61, key.public)) == OK


def test_it_frees_places(node: Daemon) -> None:
    """30 sessions a key; the one that is there already makes room for 29 others."""
    with ExitStack() as stack:
        agent, *_ = opened(node, stack, 30)
        with node.connect() as extra:
            extra.send(HELLO)
            assert extra.final() == [BLOCKED]
        assert agent.ask(ABANDON) == told(29)
        opened(node, stack, 29)
        assert agent.ask(ABANDON) == told(29)


def test_it_frees_handles(node: Daemon) -> None:
    """Of every task that the node can hold, none is left but one's own."""
    with ExitStack() as stack:
        agent, *rest = opened(node, stack, NODE_TASKS // SESSION_TASKS + 1)
        handles = []
        for one in rest:
            one.send(*(one.restart(f"service-{number}") for number in range(SESSION_TASKS)))
            handles += [one.answer() for _ in range(SESSION_TASKS)]
        assert {handle[4:] for handle in handles} == {OK}
        assert len(set(handles)) == NODE_TASKS
        assert agent.ask(agent.restart("service-0")) == BLOCKED
        assert agent.ask(ABANDON) == told(len(rest))
        mine = agent.ask(agent.restart("service-0"))
        assert mine[4:] == OK
        assert agent.ask(frame(0x11, mine[:4])) == b"\0" + OK
        assert agent.ask(frame(0x11, handles[0][:4])) == b"\xff" + OK
        assert agent.ask(ABANDON) == told(0)
        assert agent.ask(frame(0x11, mine[:4])) == b"\0" + OK  # its own stays


def test_a_payload_is_refused_and_nobody_is_closed(node: Daemon) -> None:
    with node.connect() as agent, node.connect() as other:
        assert other.alive()
        for payload in (b"x", bytes(4)):
            assert agent.ask(frame(0x14, payload)) == WRONG_LENGTH
            assert agent.ask(agent.signed(0x14, payload)) == WRONG_LENGTH
        assert agent.ask(frame(0x14, cla=0x10)) == WRONG_LENGTH
        assert other.alive()


def test_signed_and_sealed(node: Daemon) -> None:
    with ExitStack() as stack:
        agent, *rest = opened(node, stack, 2)
        assert agent.ask(agent.signed(0x14)) == told(1)
        rest = opened(node, stack, 2)
        assert agent.ask(sealed(agent, 0x14)) == told(2)
        assert [one.final() for one in rest] == [[], []]


def test_two_at_once_leave_one(node: Daemon) -> None:
    with ExitStack() as stack:
        one, other = opened(node, stack, 2)
        one.send(ABANDON)
        other.send(ABANDON)
        first, second = one.ended(), other.ended()
        assert first != second  # one is closed, the other is told so
        left = other if first else one
        assert left.answer() == told(1)
        assert left.alive()


def test_core_does_not_have_it(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent, node.connect(CORE_AGENT) as other:
        assert other.alive()
        assert agent.ask(ABANDON) == NO_SUCH_INSTRUCTION
        assert other.alive()


def test_a_session_that_was_closed_answers_nothing_more(node: Daemon) -> None:
    with node.connect() as agent, node.connect() as other:
        assert other.alive()
        assert agent.ask(ABANDON) == told(1)
        other.send(HELLO, frame(0x20))
        assert other.final() == []
        with node.connect() as again:
            assert again.ask(frame(0x20)) == DENIED
