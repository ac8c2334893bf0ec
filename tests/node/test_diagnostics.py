"""LOG_SUMMARY, LOG_DETAIL and PROC_TREE in a node: the order of checks, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from pathlib import Path

import pytest

from asys.isa import ProcessTree
from asys.node.platform.base import NoSuchTarget, SystemFailure, Tree
from asys.node.trees import SLICE, WAITING, Trees, in_slices
from asys.protocol.status import SW
from support.frames import (
    BLOCKED,
    DENIED,
    INVALID_PAYLOAD,
    NOT_SUPPORTED,
    OK,
    PROCS,
    WRONG_LENGTH,
    frame,
)
from support.kin import kin
from support.machine import MadePlatform
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.on_record import Witnessed

SUMMARY, DETAIL, TREE = 0x40, 0x41, 0x42
EVENT = bytes(range(8))
RATES = "rate=LOG_SUMMARY:2/h,LOG_DETAIL:2/h,PROC_TREE:2/h"


class Logs:
    """Logs that hold what a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.known = {int.from_bytes(EVENT, "big")}
        self.error: Exception | None = None
        self.has_room = True
        self.pids = (4711,)
        self.closed = False

    def start(self) -> None:
        return

    def remembers(self, event: int) -> bool:
        return event in self.known

    async def summary(self, window_s: int, priority: int, wanted: int) -> bytes:
        return await self._answer("summary", window_s, priority, wanted)

    async def detail(self, event: int, before: int, after: int) -> bytes:
        return await self._answer("detail", event, before, after)

    async def _answer(self, *asked: object) -> bytes:
        self.asked.append(asked)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return b"payload"

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
async def rig(logs: Logs) -> AsyncIterator[Rig]:
    rig = Rig({AGENT: "agent caps=all", OTHER: f"other caps=all users=nobody {RATES}"}, logs=logs)
    yield rig
    await rig.close()
    assert logs.closed


@pytest.fixture
def audit(rig: Rig) -> Witnessed:
    made = Witnessed()
    rig.node.audit = made
    return made


async def ask(rig: Rig, agent: RigAgent, message: bytes) -> bytes:
    """The answer to a request that may have to wait."""
    agent.send(message)
    answers: list[bytes] = []

    def answered() -> bool:
        answers.extend(agent.responses())
        return bool(answers)

    await rig.until(answered)
    [answer] = answers
    return answer


def pid(number: int) -> bytes:
    return number.to_bytes(4, "big")


def start_of(number: int) -> int:
    """When a process was started."""
    stat = Path(f"/proc/{number}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[19])


async def test_what_the_logs_are_asked(rig: Rig, logs: Logs) -> None:
    agent = rig.session()
    answer = await ask(rig, agent, agent.signed(SUMMARY, pid(3600), 3, 32))
    assert answer == b"payload" + OK
    assert await ask(rig, agent, agent.signed(SUMMARY, pid(0), 7, 0)) == b"payload" + OK
    assert await ask(rig, agent, agent.signed(DETAIL, EVENT, 30, 0)) == b"payload" + OK
    event = int.from_bytes(EVENT, "big")
    assert logs.asked == [
        ("summary", 3600, 3, 32),
        ("summary", 0, 7, 0),
        ("detail", event, 30, 0),
    ]


async def test_flags_show_in_the_answer(rig: Rig, audit: Witnessed) -> None:
    agent = rig.session()
    audit.flags = 1  # type: ignore[misc]  # an audit that only watches has no trouble of its own
    for message in (agent.signed(SUMMARY, pid(0), 3, 0), agent.signed(TREE, pid(os.getpid()))):
        assert (await ask(rig, agent, message))[-2:] == b"\x91\x01"


@pytest.mark.parametrize(
    ("code", "payload", "p1", "p2", "answer"),
    [
        (SUMMARY, b"\0\0\0", 0, 0, WRONG_LENGTH),
        (SUMMARY, b"\0\0\0\0\0", 0, 0, WRONG_LENGTH),
        (SUMMARY, pid(0), 8, 0, INVALID_PAYLOAD),
        (SUMMARY, pid(0), 3, 33, INVALID_PAYLOAD),
        (DETAIL, EVENT[:7], 0, 0, WRONG_LENGTH),
        (DETAIL, EVENT, 31, 0, INVALID_PAYLOAD),
        (DETAIL, EVENT, 0, 31, INVALID_PAYLOAD),
        (DETAIL, bytes(8), 0, 0, INVALID_PAYLOAD),
        (TREE, b"", 0, 0, WRONG_LENGTH),
        (TREE, pid(0), 0, 0, INVALID_PAYLOAD),
        (TREE, pid(0x7FFFFFFF), 0, 0, INVALID_PAYLOAD),
    ],
)
async def test_what_is_refused_costs_nothing_and_is_not_done(
    rig: Rig,
    logs: Logs,
    audit: Witnessed,
    code: int,
    payload: bytes,
    p1: int,
    p2: int,
    answer: bytes,
) -> None:
    agent = rig.session(OTHER)
    for _ in range(3):
        assert await ask(rig, agent, agent.signed(code, payload, p1, p2)) == answer
    assert logs.asked == []
    assert not [step for step in audit.take() if step.startswith("intent")]
    assert agent.ask(frame(code, payload, p1, p2)) == [DENIED]


async def test_the_rate_comes_before_the_target(rig: Rig) -> None:
    agent = rig.session(OTHER)
    for code, good, missing in (
        (SUMMARY, pid(0), pid(0)),
        (DETAIL, EVENT, bytes(8)),
        (TREE, pid(os.getpid()), pid(0x7FFFFFFF)),
    ):
        for _ in range(2):
            assert (await ask(rig, agent, agent.signed(code, good))).endswith(OK)
        assert await ask(rig, agent, agent.signed(code, missing)) == BLOCKED


async def test_no_room_to_wait(rig: Rig, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = rig.session(OTHER)
    logs.has_room = False
    assert rig.node.trees is not None
    monkeypatch.setattr(Trees, "has_room", False)
    for code, payload in ((SUMMARY, pid(0)), (DETAIL, bytes(8)), (TREE, pid(0x7FFFFFFF))):
        for _ in range(3):
            assert await ask(rig, agent, agent.signed(code, payload)) == BLOCKED
    assert logs.asked == []


async def test_an_intent_when_every_check_has_passed(
    rig: Rig, logs: Logs, audit: Witnessed
) -> None:
    agent = rig.session()
    me = pid(os.getpid())
    for code, payload in ((SUMMARY, pid(0)), (DETAIL, EVENT), (TREE, me)):
        audit.take()
        assert (await ask(rig, agent, agent.signed(code, payload))).endswith(OK)
        intent, outcome = audit.take()
        assert intent == f"intent {code:02X} {agent.seq} {payload.hex()}"
        assert outcome.startswith(f"outcome {code:02X} ")
        assert outcome.endswith("9000 intended")
    logs.asked.clear()
    audit.room = False
    for code, payload in ((SUMMARY, pid(0)), (DETAIL, EVENT), (TREE, me)):
        assert await ask(rig, agent, agent.signed(code, payload)) == BLOCKED
    assert logs.asked == []


@pytest.mark.parametrize(
    "error",
    [
        NoSuchTarget("gone"),
        SystemFailure("late", SW.NODE_TIMED_OUT),
        SystemFailure("broken", SW.NODE_IO_ERROR),
    ],
)
async def test_what_goes_wrong_with_the_logs(
    rig: Rig, logs: Logs, error: NoSuchTarget | SystemFailure
) -> None:
    agent = rig.session()
    logs.error = error
    assert await ask(rig, agent, agent.signed(SUMMARY, pid(0))) == error.sw.wire
    assert await ask(rig, agent, agent.signed(DETAIL, EVENT)) == error.sw.wire


async def test_a_node_that_cannot() -> None:
    rig = Rig(platform=MadePlatform())
    agent = rig.session()
    for code in (SUMMARY, DETAIL, TREE):
        assert agent.ask(frame(code)) == [NOT_SUPPORTED]
        assert not agent.session.grant.lit >> code & 1
    await rig.close()


async def test_a_tree_is_shown_to_everybody_and_its_pids_are_remembered(rig: Rig) -> None:
    agent = rig.session(OTHER)  # who may touch nobody's processes but nobody's
    with kin([[], []]) as pids:
        answer = await ask(rig, agent, agent.signed(TREE, pid(pids[0])))
        found = ProcessTree.unpack(answer[:-2])
        assert [one.pid for one in found.processes[found.index :]] == [
            pids[0],
            *sorted((pids[1][0], pids[2][0])),
        ]
        for one in found.processes:
            assert agent.session.shown.differs(one.pid, -1)
            assert not agent.session.shown.differs(one.pid, start_of(one.pid))


async def test_cpu_is_the_sampler_s(rig: Rig) -> None:
    agent = rig.session()
    await ask(rig, agent, PROCS)
    snapshot = rig.node.sampler.processes
    assert isinstance(snapshot.busy, dict)
    snapshot.busy[start_of(os.getpid()) << 32 | os.getpid()] = 37.5
    answer = await ask(rig, agent, agent.signed(TREE, pid(os.getpid())))
    found = ProcessTree.unpack(answer[:-2])
    assert found.processes[found.index].cpu_percent == 37.5


# One tree at a time, in slices.


class Forest:
    """Trees of steps that a test counts; each step takes `cost` seconds of its timer."""

    def __init__(self, steps: int, cost: float) -> None:
        self.now = 0.0
        self.steps = steps
        self.cost = cost
        self.under_way = self.most = 0

    def timer(self) -> float:
        return self.now

    def holds(self, pid: int) -> bool:
        return pid == 1

    def tree(self, pid: int, depth: int, busy: Mapping[int, float]) -> Generator[None, None, Tree]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for _ in range(self.steps):
            self.now += self.cost
            yield
        self.under_way -= 1
        return Tree(b"%d" % pid, {})

    def close(self) -> None:
        return


async def turns_during(work: Callable[[], asyncio.Task[Tree]]) -> int:
    """How often others get their turn until something is done."""
    task = work()
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    await task
    return turns


async def test_others_get_their_turn_after_each_slice() -> None:
    forest = Forest(100, SLICE)
    made = Trees(forest, timer=forest.timer)
    assert made.holds(1)
    assert await turns_during(lambda: asyncio.create_task(made.tree(1, 0, dict))) >= 100
    forest.cost = 0.0
    assert await turns_during(lambda: asyncio.create_task(made.tree(1, 0, dict))) < 10


async def test_one_tree_at_a_time_and_no_more_than_so_many_wait() -> None:
    forest = Forest(3, SLICE)
    made = Trees(forest, timer=forest.timer)
    tasks = [asyncio.create_task(made.tree(one, 0, dict)) for one in range(WAITING)]
    await asyncio.sleep(0)
    room = [made.has_room]
    tasks[-1].cancel()
    assert [one.payload for one in await asyncio.gather(*tasks[:-1])] == [
        b"%d" % one for one in range(WAITING - 1)
    ]
    room.append(made.has_room)
    assert room == [False, True]
    assert forest.most == 1
    made.close()


async def test_an_error_ends_it() -> None:
    def steps() -> Generator[None, None, int]:
        yield
        raise NoSuchTarget("gone")

    with pytest.raises(NoSuchTarget):
        await in_slices(steps(), lambda: 0.0)
