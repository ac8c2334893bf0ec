"""From log entries to answers of LOG_SUMMARY and LOG_DETAIL, whatever the entries come from.

This runs in the process that reads the logs, never in asyd.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from asys.isa.diagnostics import (
    DEFAULT_EVENTS,
    MOST_MESSAGE,
    EntryFlags,
    LogDetail,
    LogEntry,
    LogEvent,
    LogSource,
    LogSummary,
    Severity,
    SummaryFlags,
)
from asys.isa.untrusted import UntrustedText

BUDGET_SECONDS: Final = 0.15
BUDGET_ENTRIES: Final = 15_000
"""After so much, newest first, LOG_SUMMARY reads no further."""

COMPARED: Final = 8192
"""Bytes of a message that are looked at, when messages are compared."""

UNIT_BYTES: Final = 256
"""Bytes of the name of a unit that are looked at."""

DEFAULT_PRIORITY: Final = 6
"""The priority, info, of an entry that has none."""

_SHORT: Final = 64
"""Up to so many bytes a message is kept as it is, to compare it; of a longer one its hash is."""


class Read(NamedTuple):
    """An entry as it is read."""

    time_ns: int
    priority: int
    unit: bytes
    message: bytes


class Source(Protocol):
    """Where log entries come from. All of it may raise OSError."""

    @property
    def kind(self) -> LogSource:
        """What they come from."""

    def refresh(self) -> None:
        """Takes notice of what has happened since the last question."""

    def newest_first(self, priority: int, since_ns: int | None) -> Iterator[Read]:
        """Entries from the last one back to that time, or where it is None to the last boot.

        Those less severe than `priority` may be among them.
        """

    def mark(self) -> tuple[bytes, int]:
        """The cursor and the PID of the entry that `newest_first` has just given."""

    def around(self, cursor: bytes, before: int, after: int) -> tuple[int, list[Around]] | None:
        """An entry and its neighbours in order, and which of them it is.

        None when it is not there any more.
        """

    def close(self) -> None:
        """Gives back what it holds open."""


class Around(NamedTuple):
    """An entry as LOG_DETAIL shows it."""

    time_ns: int
    pid: int
    priority: int
    message: bytes


@dataclass(slots=True)
class _Group:
    """Entries of one unit with the same message; `time_ns`, `cursor` and `pid` of the newest."""

    cursor: bytes
    time_ns: int
    pid: int
    priority: int
    unit: bytes
    repeats: int


def event_id(cursor: bytes) -> bytes:
    """What an entry with this cursor is called on the wire."""
    return hashlib.blake2b(cursor).digest()[:8]


def summarize(
    source: Source,
    window_s: int,
    priority: int,
    wanted: int,
    *,
    timer: Callable[[], float] = time.perf_counter,
    now_ns: Callable[[], int] = time.time_ns,
) -> tuple[bytes, list[bytes]]:
    """The payload of LOG_SUMMARY, and the cursors of its events in their order. OSError."""
    end = timer() + BUDGET_SECONDS
    source.refresh()
    since_ns = now_ns() - window_s * 1_000_000_000 if window_s else None
    groups: dict[tuple[bytes, bytes], _Group] = {}
    matched = read = 0
    flags = SummaryFlags(0)
    for entry in source.newest_first(priority, since_ns):
        read += 1
        if read > BUDGET_ENTRIES or timer() >= end:
            flags = SummaryFlags.STOPPED_EARLY
            break
        if entry.priority > priority:
            continue
        matched += 1
        key = entry.unit, _comparable(entry.message)
        group = groups.get(key)
        if group is None:
            cursor, pid = source.mark()
            groups[key] = _Group(cursor, entry.time_ns, pid, entry.priority, entry.unit, 1)
        else:
            group.repeats += 1
            group.priority = min(group.priority, entry.priority)
    # Groups stand in the order of their newest entry: of equally bad ones the newer comes first.
    shown = heapq.nsmallest(
        wanted or DEFAULT_EVENTS, groups.values(), key=lambda group: group.priority
    )
    events = tuple(_event(group) for group in shown)
    reply = LogSummary(matched, len(events), source.kind, flags, events)
    return reply.pack(), [group.cursor for group in shown]


def detail(source: Source, cursor: bytes, before: int, after: int) -> bytes | None:
    """The payload of LOG_DETAIL; None when the entry is not there any more. OSError."""
    source.refresh()
    found = source.around(cursor, before, after)
    if found is None:
        return None
    index, entries = found
    return LogDetail(len(entries), index, tuple(map(_entry, entries))).pack()


def priority_of(field: bytes | None) -> int:
    """The priority of an entry; where it has none, or nonsense, that of info."""
    if field is not None and len(field) == 1 and b"0" <= field <= b"7":
        return field[0] - 48
    return DEFAULT_PRIORITY


def pid_of(field: bytes | None) -> int:
    """A PID in digits, or 0."""
    return int(field) if field is not None and field.isdigit() and len(field) < 10 else 0


def _comparable(message: bytes) -> bytes:
    if len(message) <= _SHORT:
        return message
    return hashlib.blake2b(message, digest_size=_SHORT).digest() + b"#"


def _event(group: _Group) -> LogEvent:
    return LogEvent(
        int.from_bytes(event_id(group.cursor), "big"),
        group.time_ns,
        group.repeats,
        group.pid,
        Severity(group.priority),
        UntrustedText(group.unit.decode(errors="replace")),
    )


def _entry(entry: Around) -> LogEntry:
    text = entry.message.decode(errors="replace")
    long = len(text.encode()) > MOST_MESSAGE
    flags = EntryFlags.TRUNCATED if long else EntryFlags(0)
    return LogEntry(entry.time_ns, entry.pid, Severity(entry.priority), flags, UntrustedText(text))
