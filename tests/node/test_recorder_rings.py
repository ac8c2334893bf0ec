"""What a node with real rings leaves in them, byte for byte as the writer takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.audit.chain import HEAD_SIZE, Chain
from asys.audit.entries import Entry, Gap, Payload, Reads, Run, SessionClosed, SessionOpened, parse
from asys.audit.records import Record, digest
from asys.isa import TaskStatus
from asys.node.audit.encode import encode, split
from asys.node.audit.log import DEGRADED, AuditLog
from asys.node.audit.ring import Position, Ring
from asys.protocol.keys import PrivateKey
from support.audit import small_rings
from support.delegates import addition, key_hash, sealed
from support.frames import BLOCKED, HELLO, INVALID_PAYLOAD, OK, frame, pid_payload
from support.node_rig import AGENT, PEER
from support.on_record import Place

PID = pid_payload(4711)
HASH = key_hash(AGENT.public)
NOW = 1_700_000_000 * 10**9
SLOTS = 200


class Rings(Place):
    """A node that fills real rings; nobody writes them anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.doing, self.reading = small_rings(SLOTS)
        self.log = AuditLog(self.rig.clock, self.doing, self.reading)
        self.rig.node.audit = self.log
        self.agent.transport.lose()
        self.agent = self.rig.session()

    def entries(self, ring: Ring) -> list[Entry]:
        """What waits in a ring."""
        data = ring.peek(ring.tail, 1 << 20)
        return [parse(one[0], one[HEAD_SIZE:]) for one in split(encode(Chain(), data, 0).data)]

    def written(self) -> list[Entry]:
        """What has come since the last call; now it is on the disk."""
        entries = self.entries(self.doing)
        for ring in (self.doing, self.reading):
            ring.position = Position(ring.head, 0, 1, 41, 0, bytes(32))
        return entries

    def records(self) -> list[tuple[int, int, int, bytes, int]]:
        """The records among them: INS, CLA, Seq, digest and SW; all are the agent's."""
        found = [one for entry in self.written() if isinstance(entry, Run) for one in entry.records]
        assert {one.key_hash for one in found} == {HASH}
        return [(one.ins, one.cla, one.seq, one.digest, one.sw) for one in found]

    @property
    def degraded(self) -> bool:
        """Whether AUDIT_DEGRADED is up."""
        return self.rig.node.flags == DEGRADED

    def fill(self) -> None:
        """Until there is no room for what could still be refused."""
        while self.doing.record(0, NOW, HASH, 0x20, 4, 0, bytes(4), 0):
            pass


@pytest.fixture
async def node() -> AsyncIterator[Rings]:
    node = Rings()
    yield node
    await node.rig.close()
    node.log.close()
    node.doing.close()
    node.reading.close()


async def test_a_session_from_its_first_to_its_last_entry(node: Rings) -> None:
    agent = node.agent
    assert await node.ask(agent.throttle(4711)) == OK
    assert await node.ask(sealed(agent, 0x20, PID, 1)) == OK
    node.rig.advance(3.0)
    agent.transport.lose()
    opened, run, closed = node.written()
    assert opened == SessionOpened(0, AGENT.public, 1, NOW, "agent", f"{PEER[0]}:{PEER[1]}")
    assert isinstance(run, Run)
    assert [(one.ins, one.cla, one.seq, one.digest, one.sw) for one in run.records] == [
        (0x20, 0x04, 1, digest(PID), 0),
        (0x20, 0x04, 1, digest(PID), 0x9000),
        (0x20, 0x08, 2, digest(PID), 0),
        (0x20, 0x08, 2, digest(PID), 0x9000),
    ]
    assert {one.key_hash for one in run.records} == {HASH}
    assert isinstance(closed, SessionClosed)
    assert (closed.session, closed.time_ns) == (0, node.rig.clock.time_ns())


async def test_refusals_and_plain_frames(node: Rings) -> None:
    agent = node.agent
    assert await node.ask(frame(0x14)) == b"\0\0" + OK
    assert await node.ask(frame(0x23, b"dark")) == b"\x6a\x81"
    assert await node.ask(agent.throttle(4712)) == INVALID_PAYLOAD
    assert node.records() == [
        (0x14, 0, 0, digest(b""), 0),
        (0x14, 0, 0, digest(b""), 0x9000),
        (0x23, 0, 0, digest(b"dark"), 0x6A81),
        (0x20, 4, 1, digest(pid_payload(4712)), 0x6A80),
    ]


async def test_the_payload_itself(node: Rings) -> None:
    payload = addition(PrivateKey.generate().public, label=b"helper")
    assert (await node.ask(sealed(node.agent, 0x60, payload)))[-2:] == OK
    _, entry, run = node.written()
    assert entry == Payload(0, 1, 0x60, payload)
    assert isinstance(run, Run)
    assert [one.sw for one in run.records] == [0, 0x9000]
    assert {one.digest for one in run.records} == {digest(payload)}


async def test_a_task_of_a_session_that_has_gone(node: Rings) -> None:
    assert (await node.ask(node.agent.restart("web")))[-2:] == OK
    node.agent.transport.lose()
    await node.rig.settle()
    node.written()
    node.services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await node.rig.settle()
    assert node.records() == [(0x22, 0, 1, digest(b"web"), TaskStatus.SUCCESS)]


async def test_a_session_that_goes_while_its_instruction_waits_loses_no_record(
    node: Rings,
) -> None:
    payload = addition(PrivateKey.generate().public)
    node.agent.send(sealed(node.agent, 0x60, payload))
    node.agent.transport.lose()
    await node.rig.settle()
    _, entry, run, closed = node.written()
    assert isinstance(entry, Payload)
    assert isinstance(run, Run)
    assert [one.sw for one in run.records] == [0, 0x9000]
    assert isinstance(closed, SessionClosed)
    assert not node.log.flags


async def test_a_full_ring_stops_what_acts_and_what_was_taken_is_answered(node: Rings) -> None:
    node.services.restarting.clear()
    node.agent.send(node.agent.restart("web"))
    await node.rig.settle()
    other = node.rig.session()
    node.fill()
    assert other.ask(other.throttle(4711)) == [BLOCKED]
    assert node.machine.target.signals == []
    assert node.rig.node.flags == DEGRADED
    assert other.ask(frame(0x14)) == [b"\0\1\x91\x01"]  # this ends the session that waits
    node.services.restarting.set()
    await node.rig.settle()
    runs = [one for one in node.written() if isinstance(one, Run)]
    assert _of(runs, 0x22) == [0, 0x9000]
    assert _of(runs, 0x14) == []
    node.rig.advance(0.2)
    [gap, *_] = [one for one in node.entries(node.doing) if isinstance(one, Gap)]
    assert gap.count == 2  # 6400 of the one, and the answer of the other
    node.written()
    node.rig.advance(0.2)
    assert not node.rig.node.flags
    assert other.ask(other.throttle(4711)) == [OK]


def _of(runs: list[Run], ins: int) -> list[int]:
    records: list[Record] = [one for run in runs for one in run.records]
    return [one.sw for one in records if one.ins == ins]


async def test_readings_add_up_over_turns_and_seconds(node: Rings) -> None:
    node.rig.advance(2.0)
    node.written()
    for _ in range(3):
        node.agent.send(*[HELLO, HELLO, frame(0x11)] * 100)
        await node.rig.settle()
        assert len(node.agent.responses()) == 300
        node.rig.advance(1.0)
    node.rig.advance(1.0)
    counts: dict[tuple[int, int], int] = {}
    for entry in node.entries(node.reading):
        assert isinstance(entry, Reads)
        for _, ins, sw, times in entry.reads:
            counts[ins, sw] = counts.get((ins, sw), 0) + times
    assert counts == {(0x01, 0x9000): 600, (0x11, 0x6700): 300}
    assert node.entries(node.doing) == []


async def test_a_hang_shows_in_time_though_readings_are_counted_meanwhile(node: Rings) -> None:
    """What is only counted may wait for the end of its second; what was done may not."""
    node.rig.advance(2.0)
    node.written()
    node.rig.advance(1.0)
    assert not node.degraded
    assert node.agent.ask(HELLO)[0][-2:] == OK
    node.rig.advance(0.1)
    assert node.agent.ask(node.agent.throttle(4711)) == [OK]
    for _ in range(19):
        node.rig.advance(0.1)
        assert not node.degraded
        node.agent.ask(HELLO)
    node.rig.advance(0.3)
    assert node.degraded
