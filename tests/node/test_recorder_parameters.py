"""What a node keeps of what instructions said, as its writer takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.audit.parameters import Parameters, parse_line
from asys.audit.records import INTENT, Record, iter_unpack
from asys.node.audit.journaled_log import JournaledLog
from asys.node.audit.parameters import lines_of
from asys.node.audit.ring import KIND_RECORD, MESSAGE, SLOT, Position, Ring
from asys.node.audit.shadow.strict import Strict
from support.audit import small_rings
from support.delegates import key_hash, sealed
from support.frames import (
    ALREADY_RECEIVED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    frame,
    pid_payload,
)
from support.node_rig import AGENT
from support.on_record import Place

PID = pid_payload(4711)
HASH = key_hash(AGENT.public)


class Kept(Place):
    """A node that keeps parameters; nobody writes them anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.doing, self.reading = small_rings(500)
        self.journal = Ring.create("test-parameters", 500)
        self.log = JournaledLog(self.rig.clock, self.doing, self.reading, self.journal)
        self.rig.node.audit = self.log
        self.agent.transport.lose()
        self.agent = self.rig.session()
        self.records()

    def parameters(self) -> list[Parameters]:
        """What has come since the last call."""
        lines, _ = lines_of(self.journal.peek(self.journal.tail, 10_000))
        self.journal.position = Position(self.journal.head, 0, 1, 1, 0, bytes(32))
        found = [parse_line(line) for line in lines.splitlines()]
        assert all(isinstance(one, Parameters) for one in found)
        return [one for one in found if isinstance(one, Parameters)]

    def records(self) -> list[Record]:
        """The records since the last call."""
        data = self.doing.peek(self.doing.tail, 10_000)
        self.doing.position = Position(self.doing.head, 0, 1, 41, 0, bytes(32))
        slots = [data[at : at + SLOT] for at in range(0, len(data), SLOT)]
        whole = b"".join(one[MESSAGE.size :] for one in slots if one[0] == KIND_RECORD)
        return list(iter_unpack(whole))

    def said(self) -> list[tuple[int, int, int, int, int, bytes]]:
        """CLA, INS, P1, P2, Seq and payload; each is beside the first record of its instruction."""
        records, found = self.records(), self.parameters()
        firsts = [one for one in records if one.sw == INTENT]
        begun = {(one.seq, one.ins) for one in firsts}
        firsts += [
            one
            for one in records
            if one.sw != INTENT and ((one.seq, one.ins) not in begun or one.sw == 0x6985)
        ]
        assert sorted((one.time_ns, one.seq, one.ins) for one in firsts) == sorted(
            (one.time_ns, one.seq, one.ins) for one in found
        )
        assert {one.key_hash for one in found} <= {HASH}
        return [(one.cla, one.ins, one.p1, one.p2, one.seq, one.payload) for one in found]


@pytest.fixture
async def node() -> AsyncIterator[Kept]:
    made = Kept()
    yield made
    await made.rig.close()
    made.log.close()
    for ring in (made.doing, made.reading, made.journal):
        ring.close()


async def test_whatever_has_a_record_has_its_parameters(node: Kept) -> None:
    agent = node.agent
    assert agent.ask(agent.throttle(4711, 1)) == [OK]
    node.rig.clock.advance(0.01)
    assert agent.ask(agent.throttle(1)) == [DENIED]
    node.rig.clock.advance(0.01)
    assert agent.ask(frame(0x77, b"what", 3, 4)) == [NO_SUCH_INSTRUCTION]
    node.rig.clock.advance(0.01)
    assert agent.ask(agent.signed(0x20, PID, 1, seq=1)) == [ALREADY_RECEIVED]
    node.rig.clock.advance(0.01)
    assert (await node.ask(agent.restart("web")))[-2:] == OK
    assert node.said() == [
        (0x04, 0x20, 1, 0, 1, PID),
        (0x04, 0x20, 0, 0, 2, pid_payload(1)),
        (0x00, 0x77, 3, 4, 0, b"what"),
        (0x04, 0x20, 1, 0, 1, PID),
        (0x04, 0x22, 0, 0, 3, b"web"),
    ]


async def test_what_is_only_read_is_not_kept(node: Kept) -> None:
    assert len(node.agent.ask(HELLO, HELLO)) == 2
    assert node.said() == []


async def test_what_came_encrypted_is_kept_in_clear(node: Kept) -> None:
    assert node.agent.ask(sealed(node.agent, 0x20, PID, 1)) == [OK]
    [(cla, *rest)] = node.said()
    assert cla & 0x0C == 0x08
    assert rest == [0x20, 1, 0, 1, PID]


async def test_a_bad_tag_is_the_last_that_is_kept(node: Kept) -> None:
    assert node.agent.ask(node.agent.signed(0x20, PID, bad=True)) == [DENIED]
    assert node.said() == [(0x04, 0x20, 0, 0, 1, PID)]


async def test_what_waits_for_a_collector_is_kept_once(node: Kept) -> None:
    strict = node.rig.node.strict = Strict(node.doing, node.rig.clock, more=True)
    node.agent.transport.lose()
    agent = node.agent = node.rig.session()
    node.records()
    agent.send(agent.throttle(4711, 1))
    await node.rig.settle()
    assert strict.waiting
    node.doing.acknowledged = node.doing.head
    strict.look()
    await node.rig.settle()
    assert agent.responses() == [OK]
    assert node.said() == [(0x04, 0x20, 1, 0, 1, PID)]
