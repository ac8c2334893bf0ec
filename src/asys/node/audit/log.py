"""What sessions call: a record of every step, into shared memory, without a wait (docs/audit.md).

Nothing here takes a lock, makes a system call or touches a file.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, Protocol

from asys.audit.records import INTENT, EntryType
from asys.node.audit.coalesce import NO_KEY, Coalesced
from asys.node.audit.ring import MAX_BODY, Ring
from asys.node.clock import Clock, Handle

DEGRADED: Final = 1
"""Bit 0 of the node flags: AUDIT_DEGRADED."""

LATE_SECONDS: Final = 2.0
"""A record that is older than this and not on the disk raises it."""

TICK_SECONDS: Final = 0.05
"""How often this looks whether the writer follows, while anything is not on the disk."""

GONE_SESSIONS: Final = 1024
"""Sessions that have ended and are remembered for tasks that have not."""

MAX_PAYLOAD: Final = MAX_BODY - 9
"""Bytes of a payload that fits an entry."""

_OPENED: Final = struct.Struct(">32sIQ")
_MOMENT: Final = struct.Struct(">Q")
_GAP: Final = struct.Struct(">QQQ")
_PAYLOAD: Final = struct.Struct(">IB")
_NODE_KEY: Final = struct.Struct(">BQ32s32sI")
_TEXT: Final = 255
_EMPTY: Final = blake2b(b"").digest()[:4]


class Audit(Protocol):
    """The audit as sessions see it. A session's number is what `open_session` gave it."""

    @property
    def flags(self) -> int:
        """DEGRADED or 0."""

    def open_session(self, key: bytes, label: str, line: int, peer: str) -> int:
        """A confirmed session: the agent's key, and the line of `authorized_agents` it rests on."""

    def close_session(self, number: int) -> None:
        """Its connection has ended."""

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """Every check has passed; False: there is no room, so it must not run."""

    def outcome(
        self,
        number: int,
        cla: int,
        ins: int,
        seq: int,
        payload: bytes,
        sw: int,
        *,
        intended: bool = False,
    ) -> None:
        """The answer to an instruction. `intended`: its intent was taken, so there is room."""

    def task_end(self, number: int, ins: int, seq: int, digest: bytes, status: int) -> None:
        """An asynchronous task has ended; its session may have gone before it."""

    def payload(self, number: int, seq: int, ins: int, payload: bytes) -> bool:
        """A whole payload, before its intent; False: there is no room."""

    def read(self, number: int, ins: int, sw: int, count: int = 1) -> None:
        """The same answer to `count` instructions of Core ISA, or to TASK_QUERY."""

    def refused(self, reason: int, key_hash: bytes = NO_KEY) -> None:
        """A handshake that led to no session; `key_hash` where a key was proven."""

    def node_key(self, event: int, old_key: bytes, new_key: bytes, ends: int) -> None:
        """What became of the node's own key; `ends` in Unix seconds."""


class NoAudit:
    """No audit at all."""

    flags: Final = 0

    def open_session(self, key: bytes, label: str, line: int, peer: str) -> int:
        """As Audit.open_session."""
        return 0

    def close_session(self, number: int) -> None:
        """As Audit.close_session."""

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """As Audit.intent."""
        return True

    def outcome(
        self,
        number: int,
        cla: int,
        ins: int,
        seq: int,
        payload: bytes,
        sw: int,
        *,
        intended: bool = False,
    ) -> None:
        """As Audit.outcome."""

    def task_end(self, number: int, ins: int, seq: int, digest: bytes, status: int) -> None:
        """As Audit.task_end."""

    def payload(self, number: int, seq: int, ins: int, payload: bytes) -> bool:
        """As Audit.payload."""
        return True

    def read(self, number: int, ins: int, sw: int, count: int = 1) -> None:
        """As Audit.read."""

    def refused(self, reason: int, key_hash: bytes = NO_KEY) -> None:
        """As Audit.refused."""

    def node_key(self, event: int, old_key: bytes, new_key: bytes, ends: int) -> None:
        """As Audit.node_key."""


class _Session:
    """`ours` is its number in the ring; None until the ring had room for its entry."""

    __slots__ = ("body", "closed_ns", "key_hash", "ours")

    def __init__(self, key_hash: bytes, body: bytes) -> None:
        self.key_hash = key_hash
        self.body = body
        self.ours: int | None = None
        self.closed_ns = 0


class AuditLog:
    """The audit of a node, on the loop's thread. Its writer is somebody else's care."""

    def __init__(self, clock: Clock, doing: Ring, reading: Ring) -> None:
        self.doing: Final = doing
        self.reading: Final = reading
        self.shadowed = False
        """A record is safe only when the collector has it too."""
        self.fault = False
        """The writer cannot be started."""
        self.lost = 0
        """Records of doing that found no room, ever; gaps tell of them."""
        self.hurry: Callable[[], object] | None = None
        """Wakes a writer that has had nothing to do; not called while an instruction runs."""
        self._clock = clock
        self._time_ns = clock.time_ns
        self._reads = Coalesced(reading)
        self._sessions: dict[int, _Session] = {}
        self._known: dict[int, tuple[int, bytes]] = {}
        """Sessions that the ring knows: their number there, and the key hash of their records."""
        self._gone: dict[int, tuple[int, bytes]] = {}
        self._numbers = 0
        self._next = 0
        self._closing: deque[int] = deque()
        self._hashed: tuple[bytes, bytes] = (b"", _EMPTY)
        self._lost = 0
        self._lost_first = self._lost_last = 0
        self._late = False
        self._marks: deque[tuple[float, int, int]] = deque()
        self._seen = (0, 0)
        self._timer: Handle | None = None
        self._slow = False
        """The timer only waits for the end of a second."""

    # -- sessions

    def open_session(self, key: bytes, label: str, line: int, peer: str) -> int:
        """As Audit.open_session."""
        self._numbers = number = self._numbers + 1
        body = _OPENED.pack(key, line, self._time_ns()) + _counted(label) + _counted(peer)
        self._sessions[number] = _Session(blake2b(key).digest()[:4], body)
        self._reads.open_session(number, body)
        self._announce(number)
        return number

    def close_session(self, number: int) -> None:
        """As Audit.close_session."""
        session = self._sessions.get(number)
        if session is None or session.closed_ns:
            return
        session.closed_ns = self._time_ns()
        self._reads.close_session(number, session.closed_ns)
        self._closing.append(number)
        self._close_sessions()
        self._wake()

    def _announce(self, number: int) -> tuple[int, bytes] | None:
        """Tells the ring of a session; None while there is no room, or when there is none."""
        session = self._sessions.get(number)
        if session is None or session.closed_ns:
            return None
        ours = self._next
        if not self._put(EntryType.SESSION_OPENED, ours, session.body):
            return None
        self._next += 1
        session.ours = ours
        known = self._known[number] = (ours, session.key_hash)
        return known

    def _close_sessions(self) -> None:
        while self._closing:
            session = self._sessions[self._closing[0]]
            if session.ours is not None and not self.doing.put(
                EntryType.SESSION_CLOSED,
                session.ours,
                _MOMENT.pack(session.closed_ns),
            ):
                return
            number = self._closing.popleft()
            del self._sessions[number]
            known = self._known.pop(number, None)
            if known is not None:
                self._gone[number] = known
                if len(self._gone) > GONE_SESSIONS:
                    del self._gone[next(iter(self._gone))]

    # -- records

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """As Audit.intent."""
        if self._timer is None or self._slow:
            self._wake()
        known = self._known.get(number) or self._announce(number)
        if known is None or (self._lost and not self._put_gap()):
            return False
        ours, key_hash = known
        digest = blake2b(payload).digest()[:4] if payload else _EMPTY
        self._hashed = (payload, digest)
        if self.doing.record(ours, self._time_ns(), key_hash, ins, cla, seq, digest, INTENT):
            return True
        self._late = True
        return False

    def outcome(
        self,
        number: int,
        cla: int,
        ins: int,
        seq: int,
        payload: bytes,
        sw: int,
        *,
        intended: bool = False,
    ) -> None:
        """As Audit.outcome."""
        if self._timer is None or self._slow:
            self._wake()
        now = self._time_ns()
        known = self._known.get(number) or self._announce(number)
        if known is None or (self._lost and not intended and not self._put_gap()):
            self._lose(now)
            return
        hashed, digest = self._hashed
        if hashed is not payload:
            digest = blake2b(payload).digest()[:4] if payload else _EMPTY
        ours, key_hash = known
        if not self.doing.record(ours, now, key_hash, ins, cla, seq, digest, sw, reserved=intended):
            self._lose(now)

    def task_end(self, number: int, ins: int, seq: int, digest: bytes, status: int) -> None:
        """As Audit.task_end."""
        self._wake()
        now = self._time_ns()
        known = self._known.get(number) or self._gone.get(number)
        if known is None or not self.doing.record(
            known[0], now, known[1], ins, 0, seq, digest, status & 0xFF, reserved=True
        ):
            self._lose(now)

    def payload(self, number: int, seq: int, ins: int, payload: bytes) -> bool:
        """As Audit.payload. ValueError: longer than MAX_PAYLOAD."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a payload of {len(payload)} bytes is longer than {MAX_PAYLOAD}")
        known = self._known.get(number) or self._announce(number)
        if known is None:
            return False
        return self._put(EntryType.PAYLOAD, known[0], _PAYLOAD.pack(seq, ins) + payload)

    def read(self, number: int, ins: int, sw: int, count: int = 1) -> None:
        """As Audit.read."""
        if self._timer is None:
            self._wake()
        self._reads.read(number, ins, sw, self._time_ns(), count)

    def refused(self, reason: int, key_hash: bytes = NO_KEY) -> None:
        """As Audit.refused."""
        if self._timer is None:
            self._wake()
        self._reads.refused(reason, key_hash, self._time_ns())

    def node_key(self, event: int, old_key: bytes, new_key: bytes, ends: int) -> None:
        """As Audit.node_key. Where there is no room a gap tells of it."""
        now = self._time_ns()
        if not self._put(EntryType.NODE_KEY, 0, _NODE_KEY.pack(event, now, old_key, new_key, ends)):
            self._lose(now)

    def _put(self, kind: int, session: int, body: bytes) -> bool:
        """Puts what needs no room that is reserved, behind a gap that is not told yet."""
        self._wake()
        if self._lost and not self._put_gap():
            return False
        return self.doing.put(kind, session, body)

    def _lose(self, now: int) -> None:
        if not self._lost:
            self._lost_first = now
        self._lost += 1
        self.lost += 1
        self._lost_last = now
        self._late = True

    def _put_gap(self) -> bool:
        body = _GAP.pack(self._lost, self._lost_first, self._lost_last)
        if not self.doing.put(EntryType.GAP, 0, body):
            return False
        self._lost = 0
        return True

    @property
    def lost_reads(self) -> int:
        """Readings of which only the number is on record, ever."""
        return self._reads.lost_ever

    # -- whether it gets to the disk

    @property
    def flags(self) -> int:
        """As Audit.flags."""
        if self._late or self.doing.flags or self.reading.flags or self.fault:
            return DEGRADED
        return DEGRADED if self.shadowed and not self.doing.followed else 0

    def _wake(self) -> None:
        """Looks again in a moment; while everything is on the disk nobody looks."""
        if self._timer is not None and self._slow:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._slow = False
            self._timer = self._clock.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._close_sessions()
        if self._lost:
            self._put_gap()
        self._reads.due(self._time_ns())
        self._look(self._clock.now())
        if self._marks and self.hurry is not None:
            self.hurry()
        if self._late or self._marks or self._lost or self._closing or self._reads.waits:
            self._wake()
        elif not self._reads.empty:
            left = self._reads.seconds_left(self._time_ns())
            self._slow = True
            self._timer = self._clock.call_later(max(left, TICK_SECONDS), self._tick)

    def _look(self, now: float) -> None:
        """Marks how far the rings are filled, and finds the oldest mark that is not on the disk.

        What was there at a mark is older than it, by one tick at most. Where there is a collector,
        what that has not acknowledged counts as if it were not on the disk.
        """
        heads = self.doing.head, self.reading.head
        if self.shadowed:
            tails = self.doing.acknowledged, self.reading.acknowledged
        else:
            tails = self.doing.tail, self.reading.tail
        lost = bool(self._lost) or self._reads.lost
        marks = self._marks
        while marks and marks[0][1] <= tails[0] and marks[0][2] <= tails[1]:
            marks.popleft()
        if self._late:
            self._late = lost or tails[0] < self._seen[0] or tails[1] < self._seen[1]
        else:
            self._late = lost or (bool(marks) and now - marks[0][0] >= LATE_SECONDS)
        if self._late:
            marks.clear()  # how late it is does not matter any more
        elif heads != tails:
            marks.append((now, *heads))
        self._seen = heads

    def close(self) -> None:
        """Puts what is still counted; nothing comes any more."""
        for number in list(self._sessions):
            self.close_session(number)
        self._reads.turn(self._time_ns())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def digest_of(payload: bytes) -> bytes:
    """As records.digest; quick for what has no payload."""
    return blake2b(payload).digest()[:4] if payload else _EMPTY


def _counted(text: str) -> bytes:
    """A text behind its length, cut to 255 bytes between two characters."""
    data = text.encode("utf-8", "replace")[:_TEXT].decode("utf-8", "ignore").encode()
    return bytes((len(data),)) + data
