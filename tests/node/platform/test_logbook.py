"""How log entries become answers: merged, ordered, bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import EntryFlags, LogDetail, LogSource, LogSummary, Severity, SummaryFlags
from asys.node.platform.logs import logbook
from asys.node.platform.logs.logbook import Around, Read

SECOND = 1_000_000_000


class Entries:
    """A Source of entries that a test gives, oldest first; it counts those that were read."""

    kind = LogSource.JOURNAL

    def __init__(self, *entries: Read) -> None:
        self.entries = list(entries)
        self.read = 0
        self.refreshed = 0
        self._at = -1

    def refresh(self) -> None:
        self.refreshed += 1

    def newest_first(self, priority: int, since_ns: int | None) -> Iterator[Read]:
        for at in reversed(range(len(self.entries))):
            self._at = at
            if since_ns is not None and self.entries[at].time_ns < since_ns:
                return
            self.read += 1
            yield self.entries[at]

    def mark(self) -> tuple[bytes, int]:
        return b"cursor-%d" % self._at, 100 + self._at

    def around(self, cursor: bytes, before: int, after: int) -> tuple[int, list[Around]] | None:
        at = int(cursor.removeprefix(b"cursor-"))
        if at >= len(self.entries):
            return None
        first = max(at - before, 0)
        return at - first, [
            Around(one.time_ns, 7, one.priority, one.message)
            for one in self.entries[first : at + after + 1]
        ]

    def close(self) -> None:
        return


def entry(time: int, priority: int, unit: str, message: bytes = b"oh") -> Read:
    return Read(time * SECOND, priority, unit.encode(), message)


def summarize(
    source: Entries, window_s: int = 0, priority: int = 7, wanted: int = 32
) -> LogSummary:
    payload, cursors = logbook.summarize(
        source, window_s, priority, wanted, timer=lambda: 0.0, now_ns=lambda: 1000 * SECOND
    )
    found = LogSummary.unpack(payload)
    ids = [hashlib.blake2b(one).digest()[:8] for one in cursors]
    assert [one.event_id.to_bytes(8, "big") for one in found.events] == ids
    assert source.refreshed == 1
    return found


def shown(found: LogSummary) -> list[tuple[int, str, int, int]]:
    return [
        (one.priority, one.unit.raw, one.repeats, one.time_ns // SECOND) for one in found.events
    ]


def test_equal_messages_of_a_unit_are_one_event_worst_then_newest_first() -> None:
    found = summarize(
        Entries(
            entry(1, 3, "a"),
            entry(2, 3, "b"),
            entry(3, 3, "a", b"other"),
            entry(4, 2, "c"),
            entry(5, 3, "a"),
            entry(6, 6, "d"),
        )
    )
    assert shown(found) == [
        (2, "c", 1, 4),
        (3, "a", 2, 5),
        (3, "a", 1, 3),
        (3, "b", 1, 2),
        (6, "d", 1, 6),
    ]
    assert (found.matched, found.count, found.source) == (6, 5, LogSource.JOURNAL)
    assert found.flags == SummaryFlags(0)
    assert [one.pid for one in found.events] == [103, 104, 102, 101, 105]


def test_an_event_is_as_bad_as_the_worst_of_its_entries() -> None:
    found = summarize(Entries(entry(1, 0, "a"), entry(2, 6, "a"), entry(3, 3, "b")))
    assert shown(found) == [(0, "a", 2, 2), (3, "b", 1, 3)]


def test_what_is_not_bad_enough_is_read_and_not_counted() -> None:
    source = Entries(entry(1, 3, "a"), entry(2, 4, "a"), entry(3, 3, "a"))
    found = summarize(source, priority=3)
    assert source.read == 3
    assert (found.matched, shown(found)) == (2, [(3, "a", 2, 3)])


def test_the_window_begins_that_long_ago() -> None:
    source = Entries(*(entry(time, 3, "a") for time in (988, 989, 990, 1000)))
    assert summarize(source, window_s=10).matched == 2


@pytest.mark.parametrize(("wanted", "count"), [(0, 16), (1, 1), (32, 32)])
def test_so_many_events_are_shown(wanted: int, count: int) -> None:
    found = summarize(Entries(*(entry(at, 3, f"u{at}") for at in range(40))), wanted=wanted)
    assert (found.count, len(found.events), found.matched) == (count, count, 40)
    assert found.events[0].unit.raw == "u39"


def test_the_budget_of_entries() -> None:
    full = [entry(1, 3, "a")] * logbook.BUDGET_ENTRIES
    found = summarize(Entries(*full))
    assert (found.matched, found.flags) == (logbook.BUDGET_ENTRIES, SummaryFlags(0))
    found = summarize(Entries(*full, entry(1, 3, "a")))
    assert found.matched == logbook.BUDGET_ENTRIES
    assert found.flags == SummaryFlags.STOPPED_EARLY


def test_the_budget_of_time() -> None:
    now = iter([0.0, 0.1, 0.149, 0.15, 9.0])
    source = Entries(*(entry(at, 3, "a") for at in range(9)))
    payload, _ = logbook.summarize(source, 0, 7, 1, timer=lambda: next(now))
    found = LogSummary.unpack(payload)
    assert (found.matched, found.flags) == (2, SummaryFlags.STOPPED_EARLY)


def test_long_messages_are_compared_in_full_up_to_what_is_looked_at() -> None:
    long = b"x" * 4000
    found = summarize(
        Entries(
            entry(1, 3, "a", long + b"1"), entry(2, 3, "a", long + b"2"), entry(3, 3, "a", long)
        )
    )
    assert found.count == 3


def test_a_short_message_is_never_taken_for_a_long_one() -> None:
    long = b"x" * 4000
    forged = hashlib.blake2b(long, digest_size=64).digest()
    found = summarize(Entries(entry(1, 3, "a", long), entry(2, 3, "a", forged)))
    assert found.count == 2


@given(st.lists(st.binary(max_size=80)), st.binary(max_size=300))
def test_any_bytes_travel(messages: list[bytes], unit: bytes) -> None:
    source = Entries(*(Read(0, 3, unit, one) for one in messages))
    found = summarize(source)
    assert sum(one.repeats for one in found.events) == len(messages) or found.count == 32
    if messages:
        payload = logbook.detail(source, b"cursor-0", 30, 30)
        assert payload is not None
        entries = LogDetail.unpack(payload).entries
        assert [one.message.raw for one in entries] == [
            one.decode(errors="replace") for one in messages[:31]
        ]


@pytest.mark.parametrize(
    ("message", "expected", "flags"),
    [
        (b"y" * 1024, "y" * 1024, EntryFlags(0)),
        (b"y" * 1025, "y" * 1024, EntryFlags.TRUNCATED),
        (b"\xff" * 1024, "\ufffd" * 341, EntryFlags.TRUNCATED),
        ("é".encode() * 600, "é" * 512, EntryFlags.TRUNCATED),
        (b"a" + "é".encode() * 512, "a" + "é" * 511, EntryFlags.TRUNCATED),
        (b"", "", EntryFlags(0)),
    ],
)
def test_a_message_is_cut_behind_a_whole_character(
    message: bytes, expected: str, flags: EntryFlags
) -> None:
    payload = logbook.detail(Entries(entry(5, 2, "a", message)), b"cursor-0", 0, 0)
    assert payload is not None
    found = LogDetail.unpack(payload)
    assert (found.count, found.index) == (1, 0)
    [one] = found.entries
    assert (one.message.raw, one.flags) == (expected, flags)
    assert (one.time_ns, one.pid, one.priority) == (5 * SECOND, 7, Severity.CRIT)


def test_an_entry_that_has_gone() -> None:
    assert logbook.detail(Entries(), b"cursor-0", 1, 1) is None


@pytest.mark.parametrize(
    ("field", "priority"),
    [(b"0", 0), (b"7", 7), (b"8", 6), (b"", 6), (b"33", 6), (b"x", 6), (None, 6)],
)
def test_priority(field: bytes | None, priority: int) -> None:
    assert logbook.priority_of(field) == priority


@pytest.mark.parametrize(
    ("field", "pid"),
    [(b"12", 12), (None, 0), (b"", 0), (b"-1", 0), (b"x", 0), (b"9" * 11, 0)],
)
def test_pid(field: bytes | None, pid: int) -> None:
    assert logbook.pid_of(field) == pid
