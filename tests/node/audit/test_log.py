"""What sessions call, against real rings; the tests play the writer, and move the clock."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from hashlib import blake2b
from types import ModuleType

import pytest

from asys.audit.chain import HEAD_SIZE, Chain
from asys.audit.entries import (
    Entry,
    Gap,
    Payload,
    Read,
    Reads,
    Refused,
    Run,
    SessionClosed,
    SessionOpened,
    parse,
)
from asys.audit.records import EntryType, Record, digest
from asys.node.audit import coalesce, log, ring
from asys.node.audit.coalesce import MAX_REFUSALS
from asys.node.audit.encode import encode, split
from asys.node.audit.log import DEGRADED, GONE_SESSIONS, MAX_PAYLOAD, Audit, AuditLog, NoAudit
from asys.node.audit.ring import RESERVE, Position, Ring
from support.audit import KEY, small_rings
from support.clock import ManualClock

HASH = blake2b(KEY).digest()[:4]
SECOND = 1_000_000_000


class Rig:
    """An AuditLog, and the writer's side of its rings."""

    def __init__(self, slots: int = 2000) -> None:
        self.clock = ManualClock()
        self.doing, self.reading = small_rings(slots)
        self.log = AuditLog(self.clock, self.doing, self.reading)

    def taken(self, which: Ring) -> list[Entry]:
        """What waits in a ring."""
        data = which.peek(which.tail, 1 << 20)
        return [parse(one[0], one[HEAD_SIZE:]) for one in split(encode(Chain(), data, 0).data)]

    def written(self, which: Ring) -> list[Entry]:
        """As a writer that gets all of it to the disk."""
        entries = self.taken(which)
        which.position = Position(which.head, 0, 1, 41, 0, bytes(32))
        return entries

    def write_all(self) -> None:
        self.written(self.doing)
        self.written(self.reading)

    def open(self) -> int:
        return self.log.open_session(KEY, "label", 7, "10.0.0.1:5")

    def fill(self, number: int) -> int:
        """Intents until there is no room; how many."""
        count = 0
        while self.log.intent(number, 0x84, 0x20, count, b""):
            count += 1
        return count


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.doing.close()
    made.reading.close()


def only_runs(entries: list[Entry]) -> list[Record]:
    return [record for one in entries if isinstance(one, Run) for record in one.records]


def test_an_instruction_leaves_an_intent_an_outcome_and_the_end_of_its_task(rig: Rig) -> None:
    number = rig.open()
    assert rig.log.intent(number, 0x84, 0x21, 9, b"payload")
    rig.clock.skip(1.0)
    rig.log.outcome(number, 0x84, 0x21, 9, b"payload", 0x9000, intended=True)
    rig.log.outcome(number, 0x80, 0x99, 0, b"", 0x6A81)
    rig.log.close_session(number)
    rig.log.task_end(number, 0x21, 9, digest(b"payload"), 2)
    now = 1_700_000_000 * SECOND
    entries = rig.taken(rig.doing)
    assert entries[0] == SessionOpened(0, KEY, 7, now, "label", "10.0.0.1:5")
    assert only_runs(entries) == [
        Record(now, HASH, 0x21, 0x84, 9, digest(b"payload"), 0),
        Record(now + SECOND, HASH, 0x21, 0x84, 9, digest(b"payload"), 0x9000),
        Record(now + SECOND, HASH, 0x99, 0x80, 0, digest(b""), 0x6A81),
        Record(now + SECOND, HASH, 0x21, 0, 9, digest(b"payload"), 2),
    ]
    assert entries[2] == SessionClosed(0, now + SECOND)


def test_a_payload_stands_whole_before_its_intent(rig: Rig) -> None:
    number = rig.open()
    payload = bytes(range(256)) * 40
    assert rig.log.payload(number, 5, 0x60, payload)
    assert rig.log.intent(number, 0x88, 0x60, 5, payload)
    _, first, second = rig.taken(rig.doing)
    assert first == Payload(0, 5, 0x60, payload)
    assert isinstance(second, Run)
    with pytest.raises(ValueError, match="longer than"):
        rig.log.payload(number, 6, 0x60, bytes(MAX_PAYLOAD + 1))


def test_the_longest_payload_fits() -> None:
    rig = Rig(6000)
    number = rig.open()
    assert rig.log.payload(number, 5, 0x60, bytes(MAX_PAYLOAD))
    assert rig.taken(rig.doing)[1] == Payload(0, 5, 0x60, bytes(MAX_PAYLOAD))


def test_labels_and_peers_that_are_too_long_are_cut_between_characters(rig: Rig) -> None:
    rig.log.open_session(KEY, "é" * 200, 0, "x" * 300)
    (opened,) = rig.taken(rig.doing)
    assert isinstance(opened, SessionOpened)
    assert (opened.label, opened.peer) == ("é" * 127, "x" * 255)


def test_a_full_ring_takes_no_intent_but_what_was_taken_gets_its_outcome(rig: Rig) -> None:
    number = rig.open()
    count = rig.fill(number)
    assert not rig.log.intent(number, 0x84, 0x20, 0, b"")
    for seq in range(count):
        rig.log.outcome(number, 0x84, 0x20, seq, b"", 0x9000, intended=True)
    rig.log.task_end(number, 0x20, 1, bytes(4), 1)
    assert rig.doing.head == rig.doing.slots - RESERVE + count + 1
    records = only_runs(rig.written(rig.doing))
    assert [r.seq for r in records if r.sw == 0x9000] == list(range(count))
    assert rig.log.intent(number, 0x84, 0x20, 0, b"")
    assert not [one for one in rig.taken(rig.doing) if isinstance(one, Gap)]


def test_what_there_was_no_room_for_is_counted_and_told_before_the_next_record(rig: Rig) -> None:
    number = rig.open()
    rig.fill(number)
    start = rig.clock.time_ns()
    for _ in range(5):
        rig.clock.skip(1.0)
        rig.log.outcome(number, 0x80, 0x99, 0, b"", 0x6A81)
    rig.written(rig.doing)
    assert rig.log.intent(number, 0x84, 0x20, 77, b"")
    entries = rig.taken(rig.doing)
    assert entries[0] == Gap(5, start + SECOND, start + 5 * SECOND)
    assert (rig.log.lost, rig.log.lost_reads) == (5, 0)
    assert [record.seq for record in only_runs(entries)] == [77]


def test_a_gap_is_told_even_when_nothing_follows_and_degrades_until_then(rig: Rig) -> None:
    number = rig.open()
    rig.fill(number)
    rig.log.outcome(number, 0x80, 0x99, 0, b"", 0x6A81)
    rig.clock.advance(0.1)
    assert rig.log.flags == DEGRADED
    rig.write_all()
    rig.clock.advance(0.1)
    assert [type(one) for one in rig.taken(rig.doing)] == [Gap]
    rig.write_all()
    rig.clock.advance(0.1)
    assert rig.log.flags == 0


def test_a_session_of_a_full_ring_is_named_before_its_first_record(rig: Rig) -> None:
    first = rig.open()
    rig.fill(first)
    second = rig.log.open_session(bytes(32), "second", 1, "")
    third = rig.log.open_session(bytes(32), "third", 1, "")
    assert not rig.log.intent(second, 0x84, 0x20, 1, b"")
    rig.log.outcome(second, 0x84, 0x20, 1, b"", 0x6400)
    rig.log.close_session(third)
    rig.log.task_end(third, 0x20, 1, bytes(4), 1)
    rig.written(rig.doing)
    assert rig.log.intent(second, 0x84, 0x20, 2, b"")
    rig.log.close_session(first)
    gap, opened, run, closed = rig.taken(rig.doing)
    assert isinstance(gap, Gap)
    assert gap.count == 2
    assert isinstance(opened, SessionOpened)
    assert opened.label == "second"
    assert isinstance(run, Run)
    assert run.session == opened.session == 1
    assert isinstance(closed, SessionClosed)
    assert closed.session == 0


def test_a_session_that_ends_while_there_is_no_room_is_closed_later(rig: Rig) -> None:
    number = rig.open()
    rig.fill(number)
    rig.log.close_session(number)
    rig.log.close_session(number)
    moment = rig.clock.time_ns()
    rig.written(rig.doing)
    rig.clock.advance(0.1)
    assert rig.taken(rig.doing) == [SessionClosed(0, moment)]
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000)  # nobody can send it any more
    rig.clock.advance(0.1)
    assert isinstance(rig.taken(rig.doing)[-1], Gap)


def test_only_so_many_ended_sessions_are_remembered_for_their_tasks(rig: Rig) -> None:
    first = rig.open()
    rig.log.close_session(first)
    for _ in range(GONE_SESSIONS):
        rig.log.close_session(rig.open())
        rig.written(rig.doing)
    rig.log.task_end(first, 0x20, 1, bytes(4), 1)
    rig.clock.advance(0.1)
    assert [type(one) for one in rig.taken(rig.doing)] == [Gap]


# -- whether it gets to the disk


def test_it_degrades_when_a_record_is_two_seconds_old_and_recovers_when_all_is_written(
    rig: Rig,
) -> None:
    number = rig.open()
    rig.write_all()
    rig.clock.advance(10)
    assert rig.log.flags == 0
    assert rig.log.intent(number, 0x84, 0x20, 1, b"")
    rig.clock.advance(1.9)
    assert rig.log.flags == 0
    rig.clock.advance(0.3)
    assert rig.log.flags == DEGRADED
    rig.clock.advance(1000)
    assert len(rig.log._marks) < 5
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000, intended=True)
    rig.write_all()
    rig.clock.advance(0.1)
    assert rig.log.flags == 0


def test_a_writer_that_follows_never_degrades_whatever_the_load(rig: Rig) -> None:
    number = rig.open()
    for step in range(200):
        rig.log.intent(number, 0x84, 0x20, step, b"")
        tail = rig.doing.head
        rig.log.intent(number, 0x84, 0x20, step, b"")  # there is always something unwritten
        rig.clock.advance(0.05)
        rig.doing.position = Position(tail, 0, 1, 41, 0, bytes(32))
        assert rig.log.flags == 0


def test_under_load_it_recovers_when_what_was_late_is_written(rig: Rig) -> None:
    number = rig.open()
    rig.clock.advance(3)
    assert rig.log.flags == DEGRADED
    for step in range(5):
        tail = rig.doing.head
        rig.log.intent(number, 0x84, 0x20, step, b"")
        rig.doing.position = Position(tail, 0, 1, 41, 0, bytes(32))
        rig.clock.advance(0.05)
    assert rig.log.flags == 0


def test_a_clock_that_jumps_changes_nothing(rig: Rig) -> None:
    rig.open()
    rig.clock._unix_ns += 3600 * SECOND
    rig.clock.advance(1.0)
    assert rig.log.flags == 0
    rig.clock._unix_ns -= 7200 * SECOND
    rig.clock.advance(1.3)
    assert rig.log.flags == DEGRADED


@pytest.mark.parametrize("which", ["doing", "reading", "fault"])
def test_an_error_degrades_at_once(rig: Rig, which: str) -> None:
    if which == "fault":
        rig.log.fault = True
    else:
        getattr(rig, which).flags = 1
    assert rig.log.flags == DEGRADED


def test_when_everything_is_written_nothing_runs_any_more(rig: Rig) -> None:
    number = rig.open()
    rig.log.read(number, 0x01, 0x9000)
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000)
    rig.clock.advance(1.5)
    rig.write_all()
    rig.clock.advance(1.5)
    assert rig.clock.pending == []


# -- what is only read


def test_equal_reads_of_a_second_are_one_line(rig: Rig) -> None:
    number = rig.open()
    rig.clock.skip(0.2)
    for _ in range(300):
        rig.log.read(number, 0x01, 0x9000)
    rig.log.read(number, 0x02, 0x9000)
    rig.log.read(number, 0x01, 0x6700)
    rig.clock.advance(0.9)
    for _ in range(4):
        rig.log.read(number, 0x01, 0x9000)
    rig.clock.advance(1.0)
    second = 1_700_000_000
    opened, first, following = rig.taken(rig.reading)
    assert isinstance(opened, SessionOpened)
    assert opened == rig.taken(rig.doing)[0]
    assert first == Reads(
        0,
        (
            Read(second, 1, 0x9000, 300),
            Read(second, 2, 0x9000, 1),
            Read(second, 1, 0x6700, 1),
        ),
    )
    assert following == Reads(0, (Read(second + 1, 1, 0x9000, 4),))
    assert rig.doing.head == 3  # the session alone


def test_a_session_that_only_does_is_no_line_in_the_ring_of_reads(rig: Rig) -> None:
    number = rig.open()
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000)
    rig.log.close_session(number)
    rig.clock.advance(2)
    assert rig.taken(rig.reading) == []


def test_a_session_that_ends_has_its_reads_before_its_end(rig: Rig) -> None:
    number = rig.open()
    rig.log.read(number, 0x01, 0x9000)
    rig.log.close_session(number)
    rig.clock.advance(0.1)
    assert [type(one) for one in rig.taken(rig.reading)] == [SessionOpened, Reads, SessionClosed]


def test_while_there_is_no_room_counts_grow_and_come_later() -> None:
    rig = Rig(20)
    sessions = [rig.open() for _ in range(4)]
    for _ in range(50):
        for number in sessions:
            for _ in range(3):
                rig.log.read(number, 0x01, 0x9000)
        rig.clock.advance(1.0)
    assert rig.log.flags == DEGRADED
    got: list[Entry] = []
    for _ in range(10):
        got += rig.written(rig.reading)
        rig.written(rig.doing)
        rig.clock.advance(1.0)
    counts: dict[int, int] = {}
    for one in got:
        if isinstance(one, Reads):
            for read in one.reads:
                counts[one.session] = counts.get(one.session, 0) + read.times
    assert counts == dict.fromkeys(range(4), 150)
    assert rig.log.flags == 0


def test_beyond_a_bound_of_lines_only_their_number_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coalesce, "MAX_LINES", 10)
    rig = Rig(8)
    number = rig.open()
    for _ in range(8):
        assert rig.reading.put(EntryType.GAP, 0, Gap(1, 2, 3).body())
    for ins in range(30):
        rig.log.read(number, ins, 0x9000)
    rig.clock.advance(1.5)
    assert rig.log.flags == DEGRADED
    rig.written(rig.reading)
    got: list[Entry] = []
    for _ in range(30):
        rig.clock.advance(1.0)
        got += rig.written(rig.reading)
        rig.written(rig.doing)
    assert sum(one.count for one in got if isinstance(one, Gap)) == 20
    assert (rig.log.lost, rig.log.lost_reads) == (0, 20)
    assert sum(len(one.reads) for one in got if isinstance(one, Reads)) == 10
    rig.clock.advance(1.0)
    assert not rig.log.flags


def test_refusals_are_counted_by_reason_and_key(rig: Rig) -> None:
    start = rig.clock.time_ns()
    for _ in range(3):
        rig.log.refused(1, b"keyA")
        rig.clock.skip(0.1)
    rig.log.refused(4)
    rig.clock.advance(1.0)
    assert rig.taken(rig.reading) == [
        Refused(1, 3, start, start + SECOND // 5, b"keyA"),
        Refused(4, 1, start + 3 * SECOND // 10, start + 3 * SECOND // 10),
    ]


def test_a_stranger_with_a_million_keys_costs_a_bounded_number_of_entries(rig: Rig) -> None:
    for number in range(1, 5001):
        rig.log.refused(1, number.to_bytes(4, "big"))
    rig.clock.advance(1.1)
    refused = [one for one in rig.taken(rig.reading) if isinstance(one, Refused)]
    assert len(refused) == MAX_REFUSALS + 1
    assert sum(one.count for one in refused) == 5000


def test_a_flood_of_reads_and_refusals_does_not_touch_the_ring_of_doing(rig: Rig) -> None:
    number = rig.open()
    before = rig.doing.head
    for _ in range(300):
        for ins in range(256):
            rig.log.read(number, ins, 0x9000)
        rig.log.refused(1)
        rig.clock.advance(0.5)
    assert rig.doing.head == before


def test_a_clock_that_is_set_back_by_an_hour_does_not_hold_counts_for_an_hour(rig: Rig) -> None:
    number = rig.open()
    rig.log.read(number, 1, 0x9000)
    rig.clock._unix_ns -= 3600 * SECOND
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000)
    rig.clock.advance(0.2)
    assert any(isinstance(one, Reads) for one in rig.taken(rig.reading))


def test_closing_ends_all_sessions_and_puts_what_is_counted(rig: Rig) -> None:
    for _ in range(2):
        rig.log.read(rig.open(), 1, 0x9000)
    rig.log.close()
    assert rig.clock.pending == []
    kinds = [type(one) for one in rig.taken(rig.reading)]
    assert kinds.count(Reads) == kinds.count(SessionClosed) == 2


# -- both kinds


def test_without_an_audit_everything_is_allowed_and_nothing_is_kept() -> None:
    audit: Audit = NoAudit()
    number = audit.open_session(KEY, "label", 1, "peer")
    assert audit.intent(number, 0x84, 0x20, 1, b"")
    assert audit.payload(number, 1, 0x60, b"")
    audit.outcome(number, 0x84, 0x20, 1, b"", 0x9000)
    audit.task_end(number, 0x20, 1, bytes(4), 1)
    audit.read(number, 1, 0x9000)
    audit.refused(1)
    audit.close_session(number)
    assert audit.flags == 0


def test_a_log_is_an_audit(rig: Rig) -> None:
    audit: Audit = rig.log
    assert audit.flags == 0


@pytest.mark.parametrize("module", [log, coalesce, ring])
def test_the_way_of_a_record_knows_no_lock_and_no_file(module: ModuleType) -> None:
    """What could wait is in the creation of the ring, and on the writer's side."""
    source = inspect.getsource(module)
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not imported & {"threading", "socket", "asyncio", "time", "pathlib", "subprocess"}


def test_the_writer_is_woken_beside_instructions_and_only_for_what_waits(rig: Rig) -> None:
    woken: list[float] = []
    rig.log.hurry = lambda: woken.append(rig.clock.now())
    number = rig.open()
    assert rig.log.intent(number, 0x84, 0x20, 1, b"")
    rig.log.outcome(number, 0x84, 0x20, 1, b"", 0x9000, intended=True)
    assert not woken
    rig.clock.advance(0.06)
    assert len(woken) == 1
    rig.write_all()
    rig.clock.advance(10.0)
    assert len(woken) == 1
