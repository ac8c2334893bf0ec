"""Reading for people: intents find their outcomes, whatever stands in between."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.audit import reading
from asys.audit.entries import (
    CleanEnd,
    Entry,
    Gap,
    Payload,
    Read,
    Reads,
    Refused,
    Run,
    SessionOpened,
)
from asys.audit.reading import HORIZON_NS, Action, Damage, Item, Notice, Pairing, State, read
from asys.audit.records import Record, Refusal, digest
from asys.audit.segments import AUDIT, READS, find_segments
from support.audit_files import KEY, MS, START_NS, AuditFiles, usual

OPENED = SessionOpened(7, KEY, 3, START_NS, "planner", "192.0.2.7:1")


def record(seq: int, ins: int, sw: int, at_ms: int = 0) -> Record:
    return Record(START_NS + at_ms * MS, digest(KEY), ins, 4, seq, digest(b""), sw)


def fed(
    *records: Record, pairing: Pairing | None = None, flush: bool = True, session: int = 7
) -> list[Action]:
    """The actions that records of one session give."""
    pairing = pairing or Pairing()
    list(pairing.feed(OPENED))
    found = [one for r in records for one in pairing.feed(Run.of(session, [r]))]
    if flush:
        found += pairing.flush()
    return [one for one in found if isinstance(one, Action)]


def actions(items: Iterator[Item]) -> list[Action]:
    return [one for one in items if isinstance(one, Action)]


# -- pairing


def test_an_intent_and_its_outcome_are_one_action() -> None:
    (action,) = fed(record(1, 0x20, 0), record(1, 0x20, 0x9000, 5))
    assert action.state is State.ANSWERED
    assert action.sw == 0x9000
    assert action.time_ns == action.intent_ns == START_NS
    assert action.outcome_ns == START_NS + 5 * MS
    assert action.who == OPENED
    assert (action.agent, action.instruction) == ("planner", "PROC_THROTTLE")
    assert action.succeeded


def test_a_refusal_has_no_intent() -> None:
    (action,) = fed(record(1, 0x20, 0x6982, 5))
    assert (action.state, action.intent_ns, action.sw) == (State.ANSWERED, None, 0x6982)
    assert action.time_ns == START_NS + 5 * MS
    assert not action.succeeded


def test_an_intent_without_an_outcome_is_unfinished() -> None:
    (action,) = fed(record(1, 0x20, 0))
    assert (action.state, action.sw, action.outcome_ns) == (State.UNFINISHED, None, None)
    assert not action.succeeded


def test_sessions_seqs_and_instructions_are_kept_apart() -> None:
    pairing = Pairing()
    fed(record(1, 0x20, 0), pairing=pairing, flush=False)
    for other in (
        fed(record(2, 0x20, 0x9000), pairing=pairing, flush=False),
        fed(record(1, 0x21, 0x9000), pairing=pairing, flush=False),
        fed(record(1, 0x20, 0x9000), pairing=pairing, flush=False, session=8),
    ):
        assert [one.intent_ns for one in other] == [None]
    (action,) = fed(record(1, 0x20, 0x9000), pairing=pairing)
    assert action.intent_ns == START_NS


def test_a_task_is_one_action_with_its_end() -> None:
    (action,) = fed(record(1, 0x22, 0), record(1, 0x22, 0x9000, 1), record(1, 0x22, 2, 900))
    assert (action.state, action.sw, action.task) == (State.ENDED, 0x9000, 2)
    assert action.task_ns == START_NS + 900 * MS
    assert not action.succeeded
    (action,) = fed(record(1, 0x22, 0), record(1, 0x22, 0x9101, 1), record(1, 0x22, 1, 900))
    assert action.succeeded


def test_a_task_without_an_end_is_queued_and_a_refused_one_is_not() -> None:
    assert [one.state for one in fed(record(1, 0x22, 0), record(1, 0x22, 0x9000))] == [State.QUEUED]
    assert [one.state for one in fed(record(1, 0x22, 0), record(1, 0x22, 0x6400))] == [
        State.ANSWERED
    ]


def test_an_end_whose_beginning_is_gone_stands_alone() -> None:
    (action,) = fed(record(1, 0x22, 1, 3))
    assert (action.state, action.sw, action.task) == (State.ENDED, None, 1)
    assert action.time_ns == START_NS + 3 * MS
    assert action.succeeded


def test_who_follows_sees_a_task_when_it_is_queued_and_when_it_ends() -> None:
    eager = Pairing(eager=True)
    first = fed(record(1, 0x22, 0), record(1, 0x22, 0x9000, 1), pairing=eager, flush=False)
    assert [one.state for one in first] == [State.QUEUED]
    second = fed(record(1, 0x22, 1, 9), pairing=eager, flush=False)
    assert [(one.state, one.intent_ns) for one in second] == [(State.ENDED, START_NS)]
    assert fed(record(2, 0x22, 0x9000), pairing=eager)[0].state is State.QUEUED
    assert list(eager.flush()) == []


def test_a_repeated_seq_leaves_the_first_delivery_alone() -> None:
    found = fed(
        record(1, 0x22, 0), record(1, 0x22, 0x9000, 1), record(1, 0x22, 0x6985, 2),
        record(1, 0x22, 1, 3),
    )  # fmt: skip
    assert [(one.sw, one.intent_ns) for one in found] == [(0x6985, None), (0x9000, START_NS)]
    found = fed(record(1, 0x20, 0), record(1, 0x20, 0x6985, 2), record(1, 0x20, 0x9000, 3))
    assert [(one.sw, one.intent_ns) for one in found] == [(0x6985, None), (0x9000, START_NS)]


def test_plain_instructions_pair_in_their_order() -> None:
    found = fed(
        record(0, 0x13, 0, 1), record(0, 0x13, 0x9000, 2), record(0, 0x13, 0, 3),
        record(0, 0x13, 0, 4), record(0, 0x13, 0x9000, 5),
    )  # fmt: skip
    assert [(one.state, one.intent_ns) for one in found] == [
        (State.ANSWERED, START_NS + 1 * MS),
        (State.UNFINISHED, START_NS + 3 * MS),
        (State.ANSWERED, START_NS + 4 * MS),
    ]


def test_an_intent_is_given_up_when_nothing_can_come_any_more() -> None:
    pairing = Pairing()
    late = HORIZON_NS // MS
    assert (
        fed(record(1, 0x20, 0), record(2, 0x20, 0x6982, late), pairing=pairing, flush=False)[0].seq
        == 2
    )
    found = fed(record(3, 0x20, 0x6982, late + 1), pairing=pairing, flush=False)
    assert [(one.seq, one.state) for one in found] == [
        (3, State.ANSWERED),
        (1, State.UNFINISHED),
    ]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_OPEN", 3)
    monkeypatch.setattr(reading, "MAX_SESSIONS", 2)
    monkeypatch.setattr(reading, "MAX_PAYLOADS", 1000)
    pairing = Pairing()
    found = fed(*(record(seq, 0x20, 0) for seq in range(1, 6)), pairing=pairing, flush=False)
    assert [one.seq for one in found] == [1, 2]
    for number in range(3):
        list(pairing.feed(SessionOpened(number, KEY, 1, 2, f"agent{number}", "")))
    names = [
        fed(record(9, 0x20, 0x6982), pairing=pairing, flush=False, session=number)[0].agent
        for number in (0, 2)
    ]
    assert names == [digest(KEY).hex(), "agent2"]
    for seq in range(100, 110):
        list(pairing.feed(Payload(7, seq, 0x60, b"x" * 100)))
    payloads = [
        fed(record(seq, 0x60, 0x6982), pairing=pairing, flush=False)[0].payload
        for seq in (100, 106, 107, 109)
    ]
    assert payloads == [None, None, b"x" * 100, b"x" * 100]


@pytest.mark.parametrize("before", [True, False])
def test_a_payload_finds_its_action(before: bool) -> None:
    payload = Payload(7, 1, 0x61, b"payload")
    intent, answer = (Run.of(7, [record(1, 0x61, sw)]) for sw in (0, 0x9000))
    order: list[Entry] = [payload, intent, answer] if before else [intent, payload, answer]
    pairing = Pairing()
    (action,) = (one for entry in order for one in pairing.feed(entry))
    assert isinstance(action, Action)
    assert action.payload == b"payload"
    assert "payload'" not in repr(payload)


STEPS = st.sampled_from([0, 1, 0x9000, 0x6982, 0x6985])


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0x13, 0x20, 0x22, 0xC0]), STEPS)),
    st.booleans(),
)
def test_no_record_is_lost_and_none_counts_twice(
    steps: list[tuple[int, int, int]], eager: bool
) -> None:
    records = [record(seq, ins, sw, at) for at, (seq, ins, sw) in enumerate(steps)]
    found = fed(*records, pairing=Pairing(eager=eager))
    if eager:  # what was shown as queued may come again
        found = [
            one
            for one in found
            if one.state is not State.QUEUED
            or not any(
                two.outcome_ns == one.outcome_ns and two is not one and two.task is not None
                for two in found
            )
        ]
    moments = [
        moment
        for one in found
        for moment in (one.intent_ns, one.outcome_ns, one.task_ns)
        if moment is not None
    ]
    assert sorted(moments) == [r.time_ns for r in records]
    assert all(one.seq == steps[(one.time_ns - START_NS) // MS][0] for one in found)


# -- a directory


def test_a_directory_from_end_to_end(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=2)
    items = list(read(files.directory))
    found = [one for one in items if isinstance(one, Action)]
    assert [(one.agent, one.instruction, one.sw, one.state) for one in found] == [
        ("planner", "PROC_THROTTLE", 0x9000, State.ANSWERED),
        ("planner", "PROC_THROTTLE", 0x6982, State.ANSWERED),
        ("planner", "PROC_THROTTLE", 0x9000, State.ANSWERED),
        ("planner", "PROC_THROTTLE", 0x6982, State.ANSWERED),
        ("web", "SVC_RESTART", 0x9000, State.QUEUED),
        ("web", "SVC_RESTART", 0x9000, State.QUEUED),
    ]
    notices = [one.entry.type.name for one in items if isinstance(one, Notice)]
    assert notices == [
        *["SESSION_OPENED", "SESSION_OPENED", "SESSION_CLOSED"] * 2,
        "CLEAN_END",
    ]


def test_a_live_session_is_told_of_once_and_known_in_each_segment(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    session = files.open()
    opened = SessionOpened(session, KEY, 3, START_NS, "planner", "192.0.2.7:40000")
    files.add(Run.of(session, [files.record(1, 0x20, 0)]))
    files.segment()
    files.add(opened)
    files.add(Run.of(session, [files.record(1, 0x20, 0x9000)]))
    items = list(read(files.directory))
    assert [type(one) for one in items] == [Notice, Action]
    (action,) = actions(iter(items))
    assert action.intent_ns is not None
    find_segments(files.directory, AUDIT)[0].path.unlink()
    (action,) = actions(read(files.directory))
    assert (action.agent, action.intent_ns) == ("planner", None)


def test_what_is_not_an_action_is_told_too(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    entries = (
        Gap(9, START_NS, START_NS + 5),
        Refused(Refusal.REPLAY, 3, START_NS, START_NS + 9),
        CleanEnd(START_NS + 11),
    )
    files.add(*entries)
    items = list(read(files.directory))
    assert [(one.time_ns - START_NS, one.entry) for one in items if isinstance(one, Notice)] == [
        (5, entries[0]),
        (9, entries[1]),
        (11, entries[2]),
    ]


def test_readings_have_files_of_their_own(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", READS)
    files.segment()
    session = files.open()
    files.add(Reads(session, (Read(1_790_000_001, 0x01, 0x9000, 40), Read(5, 0x11, 0x6700, 1))))
    assert list(read(files.directory)) == []
    first, second = actions(read(files.directory, READS))
    assert (first.agent, first.instruction, first.times) == ("planner", "SYS_HELLO", 40)
    assert (first.time_ns, first.key_hash) == (1_790_000_001 * 10**9, digest(KEY))
    assert (second.instruction, second.sw, second.succeeded) == ("TASK_QUERY", 0x6700, False)


def test_what_nobody_knows_keeps_its_numbers(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    files.act(99, 1, 0xC5)
    (action,) = actions(read(files.directory))
    assert (action.agent, action.instruction) == (digest(KEY).hex(), "C5")


def test_damage_is_told_and_passed_over(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=4)
    segments = find_segments(files.directory, AUDIT)
    data = bytearray(segments[0].path.read_bytes())
    data[41] = 0x77
    segments[0].path.write_bytes(bytes(data))
    segments[2].path.unlink()
    items = list(read(files.directory))
    assert [one.words for one in items if isinstance(one, Damage)] == [
        "audit-00000001.seg, offset 41: 77 is no type of entry",
        "segments 3 to 3 are missing",
    ]
    assert len(actions(iter(items))) == 6


def test_an_unfinished_entry_is_not_shown(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=2)
    before = list(read(files.directory))
    files.append(b"\x01\x00\x1c")
    assert list(read(files.directory)) == before


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    session = files.open()
    packed = b"".join(files.record(n, 0x20, 0x6982).pack() for n in range(2700))

    def peak() -> int:
        tracemalloc.start()
        try:
            for _ in read(files.directory):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    for _ in range(8):
        files.append(files.chain.add_records(session, packed))
    small = peak()
    for _ in range(24):
        files.append(files.chain.add_records(session, packed))
    assert peak() < 1.5 * small


# -- following


class Steps:
    """A `wait` that does one thing after the other, then ends."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def __call__(self) -> bool:
        if not self.steps:
            return False
        self.steps.pop(0)()
        return True


def test_who_follows_sees_what_comes_also_in_new_segments(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    half: list[bytes] = []

    def begin() -> None:
        files.segment()
        files.act(files.open(), 1, 0x20, 0x6982)

    def first_half() -> None:
        framed = files.chain.add(Run.of(1, [files.record(2, 0x20, 0x6982)]))
        files.append(framed[:10])
        half.append(framed[10:])

    def second_half_and_next_segment() -> None:
        files.append(half.pop())
        files.act(1, 3, 0x20, 0x6982)
        files.segment()

    def more() -> None:
        files.act(1, 4, 0x20, 0x6982)

    seen: list[int] = []
    wait = Steps(lambda: None, begin, first_half, second_half_and_next_segment, more, lambda: None)
    for item in read(files.directory, wait=wait):
        if isinstance(item, Action):
            seen.append(item.seq)
    assert seen == [1, 2, 3, 4]
    assert not wait.steps


def test_who_follows_may_begin_with_the_newest_segment(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=3, end=False)
    wait = Steps(lambda: files.act(1, 9, 0x20, 0x6982))
    found = actions(read(files.directory, wait=wait, newest=True))
    assert [one.seq for one in found] == [1, 1, 2, 9]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert list(read(empty, wait=Steps(), newest=True)) == []


def test_who_follows_sees_items_before_it_waits(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1)

    def never() -> bool:
        raise AssertionError("it waited")

    items = read(files.directory, wait=never)
    assert [next(items) for _ in range(7)]
    with pytest.raises(AssertionError, match="it waited"):
        next(items)
