"""What was done, for people: records paired to actions (docs/audit.md, section 7).

It does not judge the chain; `verify` does. Memory does not grow with the files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

from asys.audit.chain import HEAD_SIZE
from asys.audit.entries import (
    BadEntry,
    CleanEnd,
    Entry,
    Gap,
    NodeKey,
    Payload,
    Reads,
    Refused,
    Run,
    SessionClosed,
    SessionOpened,
    parse,
)
from asys.audit.records import INTENT, LAST_TASK_END, Record, digest
from asys.audit.segments import AUDIT, BadSegment, Segment, SegmentReader, find_segments
from asys.isa import REGISTRY, Mode, TaskStatus
from asys.protocol.status import SW

HORIZON_NS: Final = 600 * 10**9
"""An intent that is that much older than the newest record will have no outcome any more."""

MAX_OPEN: Final = 65_536
"""Intents and tasks without their end that are remembered; the oldest is given up first."""

MAX_SESSIONS: Final = 65_536
"""Sessions that are remembered; the one that was opened first is forgotten first."""

MAX_PAYLOADS: Final = 16 << 20
"""Bytes of payloads that wait for their intent; the oldest is forgotten first."""

_OVERHEAD: Final = 200
"""Bytes that a remembered payload costs beside its own."""


class State(StrEnum):
    """How far an action came, as far as the records tell."""

    ANSWERED = "answered"
    QUEUED = "queued"
    """Answered with a task handle; how the task ended is not known (yet)."""
    ENDED = "ended"
    """The task has ended."""
    UNFINISHED = "unfinished"
    """There is an intent and no outcome: asyd ended in between, or the record was lost."""


@dataclass(frozen=True, slots=True)
class Action:
    """One instruction that an agent sent, or `times` equal readings in one second.

    Times are Unix time in ns. `who` is None where the session's entry is gone. `intent_ns` is None
    for what was refused before it ran, and for readings. `sw` is None while there is no outcome.
    """

    session: int
    who: SessionOpened | None
    key_hash: bytes
    ins: int
    cla: int
    seq: int
    digest: bytes
    state: State
    intent_ns: int | None = None
    outcome_ns: int | None = None
    sw: int | None = None
    task_ns: int | None = None
    task: int | None = None
    payload: bytes | None = None
    times: int = 1

    @property
    def time_ns(self) -> int:
        """When it began, as far as it is known."""
        for moment in (self.intent_ns, self.outcome_ns, self.task_ns):
            if moment is not None:
                return moment
        return 0

    @property
    def agent(self) -> str:
        """The label that the session's entry recorded, else the key hash in hex."""
        return (self.who.label if self.who is not None else "") or self.key_hash.hex()

    @property
    def instruction(self) -> str:
        """The instruction's name; its code where this version knows none."""
        known = REGISTRY.get(self.ins)
        return f"{self.ins:02X}" if known is None else known.name

    @property
    def succeeded(self) -> bool:
        """It was answered with success and, if its task's end is known, that was success too."""
        return is_success(self.sw) if self.task is None else self.task == TaskStatus.SUCCESS


@dataclass(frozen=True, slots=True)
class Notice:
    """Something beside actions: who came and went, who was refused, what was lost."""

    time_ns: int
    entry: SessionOpened | SessionClosed | Gap | Refused | CleanEnd | NodeKey
    who: SessionOpened | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """What cannot be read; the rest of that segment is passed over."""

    words: str


Item: TypeAlias = Action | Notice | Damage
"""What a reader meets."""

_Key: TypeAlias = tuple[int, int, int]
"""Session, Seq, INS: what an intent, its outcome and its task's end have in common."""


def is_success(sw: int | None) -> bool:
    """Whether a status word is 9000 or 91xx."""
    return sw is not None and (sw == SW.SUCCESS or sw >> 8 == 0x91)


class Pairing:
    """Makes actions out of entries.

    An action comes when its last record has come; what waits too long comes as it is. `eager`: what
    is only queued comes at once, and again when its task has ended.
    """

    def __init__(self, *, eager: bool = False) -> None:
        self._eager = eager
        self._open: dict[_Key, Action] = {}
        self._sessions: dict[int, SessionOpened] = {}
        self._payloads: dict[_Key, bytes] = {}
        self._payload_bytes = 0

    def feed(self, entry: Entry) -> Iterator[Action | Notice]:
        """What an entry brings to an end."""
        if isinstance(entry, Run):
            for record in entry.records:
                yield from self._record(entry.session, record)
        elif isinstance(entry, Reads):
            yield from self._reads(entry)
        elif isinstance(entry, SessionOpened):
            known = self._sessions.pop(entry.session, None)
            self._sessions[entry.session] = entry
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            if known != entry:
                yield Notice(entry.time_ns, entry, entry)
        elif isinstance(entry, SessionClosed):
            yield Notice(entry.time_ns, entry, self._sessions.get(entry.session))
        elif isinstance(entry, Payload):
            self._payload(entry)
        elif isinstance(entry, Gap | Refused):
            yield Notice(entry.last_ns, entry)
        elif isinstance(entry, CleanEnd | NodeKey):
            yield Notice(entry.time_ns, entry)

    def flush(self) -> Iterator[Action]:
        """All that still waits: no more records come."""
        waiting, self._open = self._open, {}
        yield from (one for one in waiting.values() if not self._shown(one))

    def _record(self, session: int, record: Record) -> Iterator[Action]:
        key = (session, record.seq, record.ins)
        if record.sw == INTENT:
            left = self._open.pop(key, None)
            if left is not None and not self._shown(left):
                yield left
            self._open[key] = self._action(session, record, State.UNFINISHED)
        elif record.sw <= LAST_TASK_END:
            begun = self._open.pop(key, None)
            if begun is None:
                begun = self._action(session, record, State.ENDED)
            yield replace(begun, state=State.ENDED, task=record.sw & 0xFF, task_ns=record.time_ns)
        else:
            yield from self._outcome(key, record)
        yield from self._give_up(record.time_ns)

    def _outcome(self, key: _Key, record: Record) -> Iterator[Action]:
        begun = self._open.get(key)
        # A repeated Seq never had an intent; the one that waits belongs to the first delivery.
        if begun is None or begun.outcome_ns is not None or record.sw == SW.ALREADY_RECEIVED:
            action = self._action(key[0], record, State.ANSWERED)
        else:
            action = replace(begun, state=State.ANSWERED)
            del self._open[key]
        action = replace(action, outcome_ns=record.time_ns, sw=record.sw)
        if is_success(record.sw) and _is_async(record.ins):
            action = replace(action, state=State.QUEUED)
            left = self._open.pop(key, None)
            if left is not None and not self._shown(left):
                yield left
            self._open[key] = action
        if not (action.state is State.QUEUED and not self._eager):
            yield action

    def _give_up(self, now_ns: int) -> Iterator[Action]:
        while self._open:
            key = next(iter(self._open))
            oldest = self._open[key]
            if len(self._open) <= MAX_OPEN and oldest.time_ns + HORIZON_NS >= now_ns:
                return
            del self._open[key]
            if not self._shown(oldest):
                yield oldest

    def _shown(self, waiting: Action) -> bool:
        return self._eager and waiting.state is State.QUEUED

    def _action(self, session: int, record: Record, state: State) -> Action:
        payload = self._payloads.pop((session, record.seq, record.ins), None)
        if payload is not None:
            self._payload_bytes -= len(payload) + _OVERHEAD
        return Action(
            session,
            self._sessions.get(session),
            record.key_hash,
            record.ins,
            record.cla,
            record.seq,
            record.digest,
            state,
            intent_ns=record.time_ns if record.sw == INTENT else None,
            payload=payload,
        )

    def _payload(self, entry: Payload) -> None:
        key = (entry.session, entry.seq, entry.ins)
        waiting = self._open.get(key)
        if waiting is not None:
            self._open[key] = replace(waiting, payload=entry.payload)
            return
        before = self._payloads.pop(key, None)
        if before is not None:
            self._payload_bytes -= len(before) + _OVERHEAD
        self._payloads[key] = entry.payload
        self._payload_bytes += len(entry.payload) + _OVERHEAD
        while self._payload_bytes > MAX_PAYLOADS:
            oldest = self._payloads.pop(next(iter(self._payloads)))
            self._payload_bytes -= len(oldest) + _OVERHEAD

    def _reads(self, entry: Reads) -> Iterator[Action]:
        who = self._sessions.get(entry.session)
        for second, ins, sw, times in entry.reads:
            yield Action(
                entry.session,
                who,
                bytes(4) if who is None else digest(who.key),
                ins,
                0,
                0,
                bytes(4),
                State.ANSWERED,
                outcome_ns=second * 10**9,
                sw=sw,
                times=times,
            )


def read(
    directory: Path,
    kind: str = AUDIT,
    *,
    wait: Callable[[], bool] | None = None,
    newest: bool = False,
) -> Iterator[Item]:
    """What stands in the segments of a directory, in their order. OSError.

    With `wait` it goes on when everything has been read: `wait()` returns True when there may be
    more, and False for the end. `newest`: begins with the last segment that is there.
    """
    pairing = Pairing(eager=wait is not None)
    begun, done = False, 0
    if newest:
        done = max((one.number for one in find_segments(directory, kind)), default=1) - 1
    while True:
        segment = _after(directory, kind, done)
        if segment is None:
            if wait is None or not wait():
                break
            continue
        if begun and segment.number > done + 1:
            yield Damage(f"segments {done + 1} to {segment.number - 1} are missing")
        begun, done = True, segment.number
        # It may be rotated away just now.
        with contextlib.suppress(FileNotFoundError), SegmentReader(segment) as reader:
            stopped = yield from _read_segment(reader, pairing, directory, kind, wait)
            if stopped:
                break
    yield from pairing.flush()


def _read_segment(
    reader: SegmentReader,
    pairing: Pairing,
    directory: Path,
    kind: str,
    wait: Callable[[], bool] | None,
) -> Generator[Item, None, bool]:
    """Everything in a segment, until there is a later one; True when `wait` said that it ends."""
    while True:
        # Asked first: what was written before the later one began is then there to be read.
        finished = wait is None or _after(directory, kind, reader.segment.number) is not None
        try:
            while reader.read_header() and (batch := reader.batch()):
                for offset, data in batch:
                    try:
                        yield from pairing.feed(parse(data[0], data[HEAD_SIZE:]))
                    except BadEntry as bad:
                        raise BadSegment(reader.segment.path, offset, str(bad)) from None
        except BadSegment as bad:
            yield Damage(str(bad))
            return False
        if finished:
            return False
        if wait is not None and not wait():
            return True


def _after(directory: Path, kind: str, number: int) -> Segment | None:
    """The first segment that is there behind that number."""
    return next((one for one in find_segments(directory, kind) if one.number > number), None)


def _is_async(ins: int) -> bool:
    known = REGISTRY.get(ins)
    return known is not None and known.mode is Mode.ASYNC
