"""NET_ISOLATE as an agent meets it: each of its answers, in the order of checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asys.isa.capmap import ALL
from asys.node.agents.directory import Delegate
from asys.node.held.isolations import MAX_ISOLATIONS, Isolations
from asys.node.platform.base import (
    NoSuchTarget,
    NotPermitted,
    SystemFailure,
    TableSnapshot,
    Unsupported,
)
from asys.node.server import Mode
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from support.clock import ManualClock
from support.frames import (
    BLOCKED,
    DENIED,
    INVALID_PAYLOAD,
    NOT_SUPPORTED,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.isolator import Machine, MadeIsolator
from support.node_rig import AGENT, OTHER, Rig, RigAgent

PID = 4711
CHILD = PrivateKey.generate()
GRANDCHILD = PrivateKey.generate()
ADMIN = PrivateKey.generate()
DELEGATES = (
    Delegate(CHILD.public, AGENT.public, ALL, "child", 0),
    Delegate(GRANDCHILD.public, CHILD.public, ALL, "grandchild", 0),
)


class Node:
    """A node whose isolator is made up."""

    def __init__(self, rig: Rig, machine: Machine, isolator: MadeIsolator) -> None:
        self.rig = rig
        self.machine = machine
        self.isolator = isolator
        self.agents: dict[PrivateKey, RigAgent] = {}

    async def ask(
        self, payload: bytes, p1: int = 0, p2: int = 0, *, key: PrivateKey = AGENT
    ) -> bytes:
        """The answer to a NET_ISOLATE with this payload."""
        agent = self.agents.setdefault(key, self.rig.session(key))
        agent.send(agent.signed(0x21, payload, p1, p2))
        return await self.answer(agent)

    async def answer(self, agent: RigAgent) -> bytes:
        """The next answer; threads may have to work for it."""
        while True:
            self.rig.run()
            found = agent.responses()
            if found:
                [one] = found
                return one
            await asyncio.sleep(0.001)

    async def isolate(
        self, pid: int = PID, ttl_s: int | None = None, *, p2: int = 0, key: PrivateKey = AGENT
    ) -> bytes:
        """Has a process isolated."""
        ttl = b"" if ttl_s is None else ttl_s.to_bytes(4, "big")
        return await self.ask(pid.to_bytes(4, "big") + ttl, 0, p2, key=key)

    async def release(self, pid: int = PID, *, key: PrivateKey = AGENT) -> bytes:
        """Has it released."""
        return await self.ask(pid.to_bytes(4, "big"), 1, key=key)


@asynccontextmanager
async def node(
    options: str = "", *, lack: str = "", without: bool = False, mode: Mode = Mode.FULL
) -> AsyncIterator[Node]:
    machine = Machine()
    isolator = MadeIsolator(lack)

    def isolations(clock: ManualClock) -> Isolations:
        return Isolations(isolator, clock)

    rig = Rig(
        {
            AGENT: f"agent caps=all {options}",
            OTHER: "other caps=all",
            ADMIN: "admin caps=all role=admin",
        },
        platform=machine,
        delegates=DELEGATES,
        isolations=None if without else isolations,
        mode=mode,
    )
    yield Node(rig, machine, isolator)
    isolator.held.set()
    await rig.close()
    assert all(one.handles == 0 for one in machine.targets.values())


async def test_isolate_and_release() -> None:
    async with node() as one:
        assert await one.isolate() == OK
        assert one.isolator.there == {(PID, 100): False}
        assert await one.isolate(p2=0xFF) == OK
        assert one.isolator.there == {(PID, 100): True}
        assert await one.isolate(p2=0xFE) == OK
        assert one.isolator.there == {(PID, 100): False}
        assert await one.release() == OK
        assert one.isolator.there == {}
        assert await one.release() == INVALID_PAYLOAD


async def test_the_ttl_is_by_the_nodes_clock_and_outlasts_the_session() -> None:
    async with node() as one:
        assert await one.isolate(ttl_s=30) == OK
        one.agents[AGENT].transport.lose()
        one.rig.advance(29.9)
        assert one.isolator.there
        one.rig.advance(0.2)
        while one.isolator.there:
            one.rig.run()
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("lacking", [{"lack": "no privileges"}, {"without": True}])
async def test_a_node_that_cannot(lacking: dict[str, bool]) -> None:
    async with node(**lacking) as one:  # type: ignore[arg-type]  # one of the two
        for payload in (b"", b"\0\0\0\0", b"\0\0\0\1"):
            assert await one.ask(payload) == NOT_SUPPORTED
        assert await one.release() == NOT_SUPPORTED


async def test_a_node_that_only_looks() -> None:
    async with node(mode=Mode.MONITOR) as one:
        assert await one.isolate() == NOT_SUPPORTED


async def test_sent_plain() -> None:
    async with node() as one:
        agent = one.rig.session()
        for payload in (b"", b"\0\0\0\1"):
            assert agent.ask(frame(0x21, payload)) == [DENIED]


@pytest.mark.parametrize("p1", [0, 1, 2, 255])
@pytest.mark.parametrize("size", [0, 3, 5, 7, 9])
async def test_a_wrong_length(size: int, p1: int) -> None:
    async with node() as one:
        assert await one.ask(bytes(size), p1) == WRONG_LENGTH


@pytest.mark.parametrize("ttl", [0, 1])
async def test_a_ttl_at_a_release(ttl: int) -> None:
    async with node() as one:
        assert await one.isolate() == OK
        assert await one.ask(PID.to_bytes(4, "big") + ttl.to_bytes(4, "big"), 1) == WRONG_LENGTH
        assert one.isolator.there


@pytest.mark.parametrize(("payload", "p1"), [(bytes(4), 0), (bytes(4), 1), (b"\0\0\0\1", 2)])
async def test_what_no_process_could_satisfy(payload: bytes, p1: int) -> None:
    async with node() as one:
        assert await one.ask(payload, p1) == INVALID_PAYLOAD


async def test_who_may_never_be_touched() -> None:
    async with node() as one:
        assert await one.isolate(1) == DENIED
        one.rig.node.protection.helpers = lambda: (PID,)
        assert await one.isolate() == DENIED
        one.rig.node.protection.helpers = lambda: ()
        one.machine.targets[PID].protected = "the journal"
        assert await one.isolate() == DENIED
        assert one.isolator.calls == []


async def test_the_scope_is_asked_at_isolation_alone() -> None:
    async with node("users=1000") as one:
        one.machine.targets[PID].users = frozenset({0, 1000})
        assert await one.isolate() == DENIED
        one.machine.targets[PID].users = frozenset({1000})
        assert await one.isolate() == OK
        one.machine.targets[PID].users = frozenset({0})
        assert await one.isolate() == DENIED
        assert await one.release() == OK


async def test_there_is_no_such_process() -> None:
    async with node() as one:
        assert await one.isolate(9999) == INVALID_PAYLOAD
        one.machine.targets[PID].zombie = True
        assert await one.isolate() == INVALID_PAYLOAD
        assert await one.release(9999) == INVALID_PAYLOAD


async def test_another_process_than_the_one_shown() -> None:
    async with node() as one:
        agent = one.agents[AGENT] = one.rig.session()
        agent.session.shown.add(TableSnapshot(1, (), {PID: 99}))
        assert await one.isolate() == INVALID_PAYLOAD
        agent.session.shown.add(TableSnapshot(1, (), {PID: 100}))
        assert await one.isolate() == OK


async def test_a_pid_that_was_given_away_since() -> None:
    """The new process is another one: not isolated, and a release is not for it."""
    async with node() as one:
        assert await one.isolate() == OK
        del one.machine.targets[PID]
        assert await one.isolate() == INVALID_PAYLOAD
        assert one.isolator.there
        assert await one.release() == OK  # it has ended, and its children may live
        assert one.isolator.there == {}


async def test_it_is_released_by_who_isolated_it_its_ancestors_and_admins() -> None:
    async with node() as one:
        for key in (CHILD, AGENT, ADMIN):
            assert await one.isolate(key=CHILD) == OK
            for stranger in (OTHER, GRANDCHILD):
                assert await one.release(key=stranger) == DENIED
                assert await one.isolate(key=stranger, p2=1) == DENIED
            assert one.isolator.there == {(PID, 100): False}
            assert await one.release(key=key) == OK
        for stranger in (CHILD, OTHER):
            assert await one.isolate(key=AGENT) == OK
            assert await one.release(key=stranger) == DENIED
            assert await one.release(key=AGENT) == OK


async def test_once_more_by_an_ancestor_makes_it_the_ancestors() -> None:
    async with node() as one:
        assert await one.isolate(key=CHILD) == OK
        assert await one.isolate(key=AGENT) == OK
        assert await one.release(key=CHILD) == DENIED
        assert await one.release(key=ADMIN) == OK


async def test_nobodys_is_the_admins() -> None:
    async with node() as one:
        isolations = one.rig.node.isolations
        assert isolations is not None
        one.isolator.there = {(PID, 100): False}
        await isolations.recover()
        for key in (AGENT, OTHER, CHILD):
            assert await one.release(key=key) == DENIED
            assert await one.isolate(key=key) == DENIED
        assert await one.release(key=ADMIN) == OK


async def test_the_rate() -> None:
    async with node("rate=NET_ISOLATE:3/h") as one:
        for _ in range(2):  # what is refused costs nothing
            assert await one.isolate(1) == DENIED
            assert await one.isolate(9999) == INVALID_PAYLOAD
            assert await one.release() == INVALID_PAYLOAD
        assert await one.isolate() == OK
        assert await one.release() == OK
        assert await one.isolate() == OK
        assert await one.release() == BLOCKED
        assert await one.release(9999) == BLOCKED
        assert await one.isolate(9999) == BLOCKED
        assert await one.isolate(1) == DENIED
        assert await one.release(key=ADMIN) == OK


async def test_whose_it_is_comes_before_the_rate() -> None:
    async with node("rate=NET_ISOLATE:1/h") as one:
        assert await one.isolate(key=OTHER) == OK
        assert await one.isolate(4712) == OK
        assert await one.isolate() == DENIED
        assert await one.release() == DENIED
        assert await one.release(4712) == BLOCKED


async def test_there_is_no_room() -> None:
    async with node("rate=NET_ISOLATE:1/h") as one:
        isolations = one.rig.node.isolations
        assert isolations is not None
        one.isolator.there = {(pid, 7): False for pid in range(10_000, 10_000 + MAX_ISOLATIONS)}
        await isolations.recover()
        assert await one.isolate() == BLOCKED
        assert await isolations.release(10_000) == 1
        assert await one.isolate() == OK


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (NoSuchTarget("it has ended"), INVALID_PAYLOAD),
        (NotPermitted("no"), DENIED),
        (Unsupported("no"), NOT_SUPPORTED),
        (SystemFailure("no", SW.NODE_BUSY), SW.NODE_BUSY.wire),
        (SystemFailure("no", SW.NODE_IO_ERROR), SW.NODE_IO_ERROR.wire),
        (OSError(28, "No space left on device"), SW.NODE_NO_SPACE.wire),
    ],
)
async def test_what_fails(error: Exception, answer: bytes) -> None:
    async with node() as one:
        one.isolator.error = error
        assert await one.isolate() == answer
        one.isolator.error = None
        assert await one.release() == INVALID_PAYLOAD
        assert await one.isolate() == OK
        one.isolator.error = SystemFailure("no", SW.NODE_IO_ERROR)
        assert await one.release() == SW.NODE_IO_ERROR.wire
        one.isolator.error = None
        assert await one.release() == OK


async def test_others_do_not_wait_while_it_works() -> None:
    async with node() as one:
        one.isolator.held.clear()
        agent = one.rig.session()
        agent.send(agent.signed(0x21, PID.to_bytes(4, "big")))
        other = one.rig.session(OTHER)
        assert len(other.ask(frame(0x01))) == 1
        assert agent.responses() == []
        one.isolator.held.set()
        assert await one.answer(agent) == OK


async def test_of_two_that_come_at_once_the_second_is_told_whose_it_is() -> None:
    async with node() as one:
        one.isolator.held.clear()
        first, second = one.rig.session(), one.rig.session(OTHER)
        for agent in (first, second):
            agent.send(agent.signed(0x21, PID.to_bytes(4, "big")))
            one.rig.run()
        one.isolator.held.set()
        assert await one.answer(first) == OK
        assert await one.answer(second) == DENIED
        assert await one.release() == OK
