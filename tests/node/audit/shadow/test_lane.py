"""What goes out for one chain, and what the collector's answers are worth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.audit.push import Ack, FromCollector, FromNode, Open, Put, Reason, Refused, Stands
from asys.audit.segments import AUDIT, segment_name
from asys.node.audit.ring import Position
from asys.node.audit.shadow.lane import MARKS, Declined, Lane, Lied
from asys.node.audit.shadow.source import Astray, Source
from support.audit import ENVIRONMENT
from support.shadow_collector import Kept
from support.shadow_files import Written, same

NOTHING = Stands(AUDIT, 0, 0, 0, bytes(32))
ROOM = 5

WRITER = """
import sys
from asys.node.audit.ring import Position, Ring
ring = Ring(int(sys.argv[1]))
number = 0
while True:
    number = (number + 1) % 256
    ring.position = Position(*[number] * 5, bytes([number]) * 32)
"""
"""A process that says a new place again and again; all numbers of one are equal."""


class Talk:
    """A lane, and a collector that answers as it should when it is let."""

    def __init__(self, written: Written) -> None:
        self.said: list[str] = []
        self.written = written
        self.lane = Lane(Source(written.directory, AUDIT), written.ring, self.said.append)
        self.kept = Kept()
        self.anew = 0
        self.connect()

    def connect(self) -> None:
        """A new connection."""
        self.lane.connect()
        self.kept.part = b""

    @property
    def acknowledged(self) -> int:
        """Slots."""
        return self.written.ring.acknowledged

    def answers(self, messages: list[FromNode]) -> list[FromCollector]:
        """What an honest collector says to these."""
        found: list[FromCollector] = []
        for message in messages:
            if isinstance(message, Open):
                if message.anew:
                    self.anew += 1
                    self.kept = Kept()
                found.append(self.kept.stands(AUDIT))
                continue
            taken = self.kept.put(message)
            assert taken is not False
            if taken:
                found.append(Ack(AUDIT, self.kept.count, self.kept.h))
        return found

    def hear(self, answers: list[FromCollector]) -> None:
        """The lane gets them."""
        for answer in answers:
            if isinstance(answer, Stands):
                self.lane.stands(answer)
            elif isinstance(answer, Ack):
                self.lane.acknowledged(answer)
            else:
                assert isinstance(answer, Refused)
                self.lane.refused(answer)

    def settle(self) -> None:
        """Until nothing is sent any more."""
        while messages := self.lane.send(ROOM):
            self.hear(self.answers(messages))


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    written = Written(tmp_path / "audit")
    yield Talk(written)
    written.ring.close()


def test_nothing_is_said_before_there_is_a_writer(talk: Talk) -> None:
    assert talk.lane.send(ROOM) == []
    assert not talk.lane.waits
    assert not talk.lane.followed
    assert not talk.lane.done


def test_it_asks_first_where_the_collector_stands(talk: Talk) -> None:
    talk.written.tell()
    assert talk.lane.send(ROOM) == [Open(AUDIT)]
    assert talk.lane.waits
    assert talk.lane.send(ROOM) == []
    talk.lane.stands(NOTHING)
    assert (talk.lane.followed, talk.lane.waits) == (True, False)  # there is nothing


def test_slots_are_acknowledged_with_the_place_of_the_writer(talk: Talk) -> None:
    written = talk.written
    written.tell()
    talk.settle()
    written.some(1)
    written.ring.put(1, 0, bytes(24))
    written.tell(1)
    messages = talk.lane.send(ROOM)
    written.act(0, 1, 0x20)
    written.ring.put(1, 0, bytes(24))
    written.tell(2)
    messages += talk.lane.send(ROOM)
    first, *rest = talk.answers(messages)
    assert rest
    talk.hear([first])
    assert talk.acknowledged == 1
    talk.hear(rest)
    assert talk.acknowledged == 2
    same(talk.kept, written)
    assert not talk.lane.done
    written.end()
    written.tell(2, ended=True)
    assert not talk.lane.done
    talk.settle()
    written.ring.put(1, 0, bytes(24))
    assert not talk.lane.done
    written.tell(written.ring.head, ended=True)
    assert talk.lane.done


def test_it_follows_when_all_that_was_there_is_acknowledged(talk: Talk) -> None:
    written = talk.written
    written.some(1)
    for _ in range(3):
        written.ring.put(1, 0, bytes(24))
    written.tell(2)
    talk.hear(talk.answers(talk.lane.send(ROOM)))
    assert not talk.lane.followed
    talk.settle()
    assert talk.acknowledged == 2
    assert not talk.lane.followed
    written.act(0, 1, 0x20)
    written.tell(3)
    talk.settle()
    assert talk.lane.followed


def test_no_more_goes_out_than_there_is_room_for(talk: Talk) -> None:
    written = talk.written
    written.some(9)
    written.tell()
    talk.hear(talk.answers(talk.lane.send(ROOM)))
    messages = talk.lane.send(ROOM)
    assert len(messages) == ROOM
    assert talk.lane.send(ROOM) == []
    answers = talk.answers(messages)
    talk.hear(answers[:2])
    messages = talk.lane.send(ROOM)
    assert len(messages) == 2
    talk.hear(answers[2:] + talk.answers(messages))
    talk.settle()
    same(talk.kept, written)


def test_it_goes_on_where_the_collector_stands(talk: Talk) -> None:
    written = talk.written
    written.some(3)
    written.tell(5)
    messages = talk.lane.send(ROOM)
    talk.hear(talk.answers(messages))
    talk.answers(talk.lane.send(2))  # and the answers are lost
    talk.connect()
    talk.settle()
    assert talk.anew == 0
    assert talk.acknowledged == 5
    same(talk.kept, written)
    talk.connect()
    opened = talk.lane.send(ROOM)
    talk.hear(talk.answers(opened))
    assert talk.lane.send(ROOM) == []
    assert talk.lane.followed


def test_more_places_than_are_remembered(talk: Talk) -> None:
    written = talk.written
    written.some(1)
    written.tell()
    talk.hear(talk.answers(talk.lane.send(ROOM)))
    messages = []
    for tail in range(1, 2 * MARKS):
        written.act(0, tail, 0x20)
        written.tell(tail)
        messages += talk.lane.send(1)
    talk.hear(talk.answers(messages))
    talk.settle()
    assert talk.acknowledged == 2 * MARKS - 1
    same(talk.kept, written)


def test_a_writer_that_goes_on_elsewhere(talk: Talk) -> None:
    """What it could not sync may be in the old segment all the same, and counts."""
    written = talk.written
    written.some(1)
    written.tell(1)
    talk.settle()
    written.act(0, 50, 0x20)
    written.tell(1, closed=True)
    talk.settle()
    same(talk.kept, written)
    written.some(1)
    written.tell(2)
    talk.settle()
    assert talk.acknowledged == 2
    same(talk.kept, written)


def test_a_writer_whose_disk_has_lost_something_begins_anew(talk: Talk) -> None:
    written = talk.written
    written.some(1)
    written.tell(1)
    talk.settle()
    size = written.path.stat().st_size
    written.act(0, 50, 0x20)
    written.path.write_bytes(written.path.read_bytes()[:size])  # cut off again
    written.tell(2, closed=True)
    talk.settle()
    assert talk.acknowledged == 1
    written.some(1)
    written.tell(3)
    with pytest.raises(Astray):
        talk.settle()
    talk.connect()
    talk.settle()
    assert (talk.anew, talk.acknowledged) == (1, 3)
    same(talk.kept, written, first=2)


def test_a_place_of_another_writer_that_is_behind_the_collector(talk: Talk) -> None:
    written = talk.written
    written.some(1)
    before = written.mark(1)
    written.act(0, 50, 0x20)
    written.tell(2)
    talk.settle()
    talk.connect()
    written.ring.position = before._replace(tail=2)
    talk.hear(talk.answers(talk.lane.send(ROOM)))
    assert talk.lane.send(ROOM) == []
    written.tell(3)
    talk.settle()
    assert talk.acknowledged == 3


# -- what is not on the chain


def test_a_collector_elsewhere_gets_it_anew_once_a_connection(talk: Talk) -> None:
    written = talk.written
    written.some(2)
    written.tell(7)
    talk.lane.send(ROOM)
    talk.lane.stands(Stands(AUDIT, 1, 99, 3, bytes(32)))
    assert "stands with the audit chain at segment 1, 3:0000" in talk.said[0]
    assert not talk.lane.followed
    [opened] = talk.lane.send(ROOM)
    assert opened == Open(AUDIT, anew=True)
    with pytest.raises(Lied, match="begins anew with"):
        talk.lane.stands(Stands(AUDIT, 1, 99, 3, bytes(32)))
    talk.connect()
    talk.settle()
    assert (talk.anew, talk.acknowledged) == (1, 7)
    same(talk.kept, written)
    assert len(talk.said) == 1


def test_what_somebody_has_changed_begins_anew_behind_it(talk: Talk) -> None:
    written = talk.written
    written.some(3)
    path = written.directory / segment_name(AUDIT, 2)
    data = bytearray(path.read_bytes())
    data[-160] ^= 1
    path.write_bytes(data)
    written.tell(1)
    with pytest.raises(Astray):
        talk.settle()
    assert talk.kept.count
    talk.connect()
    talk.settle()
    assert (talk.anew, talk.acknowledged) == (1, 1)
    same(talk.kept, written, first=3)


def test_it_waits_for_a_segment_that_can_be_the_first(talk: Talk) -> None:
    written = talk.written
    written.some(1)
    written.tell()
    path = written.path
    data = bytearray(path.read_bytes())
    data[-160] ^= 1
    path.write_bytes(data)
    with pytest.raises(Astray):
        talk.settle()
    talk.connect()
    assert talk.lane.send(ROOM) == []
    assert not talk.lane.waits
    written.some(1)
    written.tell(4)
    talk.settle()
    assert (talk.anew, talk.acknowledged) == (1, 4)


# -- lies and refusals


@pytest.mark.parametrize("what", ["h", "count"])
def test_an_acknowledgement_that_is_not_the_chain_is_none(talk: Talk, what: str) -> None:
    talk.written.some(1)
    talk.written.tell(1)
    talk.hear(talk.answers(talk.lane.send(ROOM)))
    [answer] = talk.answers(talk.lane.send(ROOM))
    assert isinstance(answer, Ack)
    lie = Ack(AUDIT, answer.count, bytes(32)) if what == "h" else Ack(AUDIT, 9**9, answer.h)
    with pytest.raises(Lied, match=f"{lie.anchor} of the audit chain"):
        talk.lane.acknowledged(lie)
    assert talk.acknowledged == 0


def test_answers_that_nobody_asked_for(talk: Talk) -> None:
    talk.written.tell()
    with pytest.raises(Lied, match="was not asked"):
        talk.lane.stands(NOTHING)
    talk.connect()
    talk.settle()
    with pytest.raises(Lied, match="was sent nothing"):
        talk.lane.acknowledged(Ack(AUDIT, 0, bytes(32)))


def refuse(talk: Talk, reason: int) -> list[FromNode]:
    """A new connection that ends with a refusal of what is sent."""
    talk.connect()
    opened = talk.lane.send(ROOM)
    talk.hear(talk.answers(opened))
    sent = talk.lane.send(ROOM)
    with pytest.raises(Declined):
        talk.lane.refused(Refused(AUDIT, reason))
    return opened + sent


@pytest.mark.parametrize("reason", [Reason.NOT_CONTINUED, Reason.MALFORMED])
def test_what_is_refused_again_and_again_begins_anew(talk: Talk, reason: Reason) -> None:
    talk.written.some(3)
    talk.written.tell(3)
    for _ in range(2):
        opened, put, *_ = refuse(talk, reason)
        assert opened == Open(AUDIT)
        assert isinstance(put, Put)
        assert put.segment == 1
    opened, put, *_ = refuse(talk, reason)
    assert opened == Open(AUDIT, anew=True)
    assert isinstance(put, Put)
    assert put.segment == 1
    opened, put, *_ = refuse(talk, reason)
    assert isinstance(put, Put)
    assert put.segment == 2
    talk.connect()
    talk.settle()
    assert talk.acknowledged == 3


@pytest.mark.parametrize("reason", [Reason.DISK, Reason.GENERATIONS, 99])
def test_other_refusals_change_nothing(talk: Talk, reason: int) -> None:
    talk.written.some(1)
    talk.written.tell(1)
    for _ in range(4):
        assert refuse(talk, reason)[0] == Open(AUDIT)
    talk.connect()
    talk.settle()
    assert (talk.anew, talk.acknowledged) == (0, 1)


def test_a_refusal_of_nothing(talk: Talk) -> None:
    talk.written.tell()
    for _ in range(3):
        talk.connect()
        talk.lane.send(ROOM)
        with pytest.raises(Declined, match="cannot make sense"):
            talk.lane.refused(Refused(AUDIT, Reason.MALFORMED))
    talk.connect()
    assert talk.lane.send(ROOM) == [Open(AUDIT)]


def test_the_place_of_a_writer_is_seen_whole(talk: Talk) -> None:
    ring = talk.written.ring
    assert ring.observed is None
    position = Position(1, 2, 3, 4, 5, bytes(range(32)), True)
    ring.position = position
    assert ring.observed == ring.position == position


def test_no_place_is_seen_half(talk: Talk) -> None:
    """While another processor writes one place after the other."""
    ring = talk.written.ring
    words = [sys.executable, "-c", WRITER, str(ring.fd)]
    with subprocess.Popen(words, pass_fds=[ring.fd], env=ENVIRONMENT) as writer:
        try:
            seen = 0
            last = None
            while seen < 2000:
                position = ring.observed
                if position is not None:
                    assert {*position[:5], *position.h} == {position.tail}
                    seen += position.tail != last
                    last = position.tail
        finally:
            writer.kill()
