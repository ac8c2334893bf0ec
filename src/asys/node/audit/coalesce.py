"""What agents only read, and who was refused at the door: counted, not recorded one by one.

It has a ring of its own. While that is full the counts stay here and grow, so reading never costs
a record of doing, nor much memory.
"""

from __future__ import annotations

import struct
from typing import Final

from asys.audit.entries import MAX_READS
from asys.audit.records import EntryType
from asys.node.audit.ring import Ring

MAX_LINES: Final = 65_536
"""Lines that wait for room; what would be one more is only counted."""

MAX_REFUSALS: Final = 64
"""Kinds of refusals told apart at a time; of the rest, only reasons are."""

NO_KEY: Final = bytes(4)

_SECOND: Final = 1_000_000_000
_MAX_COUNT: Final = 0xFFFFFFFF
_LINE: Final = struct.Struct(">IBHIx")
_REFUSED: Final = struct.Struct(">BIQQ4s")
_MOMENT: Final = struct.Struct(">Q")
_GAP: Final = struct.Struct(">QQQ")


class Coalesced:
    """Counts per session, INS, SW and second. Times are Unix time in ns."""

    def __init__(self, ring: Ring) -> None:
        self.ring: Final = ring
        self._until = 0
        self._counts: dict[int, int] = {}
        self._lines: dict[int, list[tuple[int, int, int, int]]] = {}
        """What waits for room: for each session second, INS, SW and count."""
        self._waiting = 0
        self._refused: dict[tuple[int, bytes], list[int]] = {}
        self._opened: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        """Sessions that the ring knows, and how it calls them."""
        self._next = 0
        self._closed: dict[int, int] = {}
        self._gap = [0, 0, 0]
        self.lost_ever = 0
        """Readings that were only counted."""

    def open_session(self, number: int, body: bytes) -> None:
        """A session; `body` is what its entry says. The ring learns of it when it reads."""
        self._opened[number] = body

    def close_session(self, number: int, time_ns: int) -> None:
        """It reads no more."""
        self._closed[number] = time_ns

    def read(self, number: int, ins: int, sw: int, time_ns: int, count: int = 1) -> None:
        """Readings that had the same answer."""
        if time_ns >= self._until:
            self.turn(time_ns)
        key = number << 24 | ins << 16 | sw
        counts = self._counts
        if key in counts:
            counts[key] += count
        else:
            counts[key] = count

    def refused(self, reason: int, key_hash: bytes, time_ns: int) -> None:
        """One handshake that led to no session."""
        if time_ns >= self._until:
            self.turn(time_ns)
        known = self._refused.get((reason, key_hash))
        if known is None and len(self._refused) >= MAX_REFUSALS:
            key_hash = NO_KEY
            known = self._refused.get((reason, key_hash))
        if known is None:
            self._refused[reason, key_hash] = [1, time_ns, time_ns]
        else:
            known[0] = min(known[0] + 1, _MAX_COUNT)
            known[2] = time_ns

    @property
    def empty(self) -> bool:
        """Whether nothing waits here."""
        return not (self._counts or self._lines or self._refused or self._closed or self._gap[0])

    @property
    def waits(self) -> bool:
        """Whether something does not wait for the end of its second, but for room."""
        return bool(self._lines or self._closed or self._gap[0])

    @property
    def lost(self) -> bool:
        """Whether something was only counted, and that is not in the ring yet."""
        return bool(self._gap[0])

    def due(self, time_ns: int) -> None:
        """Puts what belongs to a second that has passed, or waits for room."""
        set_back = time_ns < self._until - _SECOND
        if self._closed or self._waiting or set_back or time_ns >= self._until:
            self.turn(time_ns)

    def seconds_left(self, time_ns: int) -> float:
        """How long until `due` has something to do, if nothing waits for room."""
        return max(self._until - time_ns, 0) / _SECOND

    def turn(self, time_ns: int) -> None:
        """Puts everything into the ring, as far as there is room; the next second begins."""
        second = max(self._until - _SECOND, 0) // _SECOND
        self._until = time_ns // _SECOND * _SECOND + _SECOND
        self._collect(second & 0xFFFFFFFF)
        if self._gap[0] and self.ring.put(EntryType.GAP, 0, _GAP.pack(*self._gap)):
            self._gap = [0, 0, 0]
        for (reason, key_hash), (count, first, last) in list(self._refused.items()):
            if not self.ring.put(
                EntryType.REFUSED, 0, _REFUSED.pack(reason, count, first, last, key_hash)
            ):
                break
            del self._refused[reason, key_hash]
        for number in list(self._lines):
            if not self._put_lines(number):
                break
        for number, closed_ns in list(self._closed.items()):
            if number not in self._lines and self._forget(number, closed_ns):
                del self._closed[number]

    def _collect(self, second: int) -> None:
        """The counts of a second become lines; where lines wait already, they grow instead."""
        counts, self._counts = self._counts, {}
        for key, count in counts.items():
            number, ins, sw = key >> 24, key >> 16 & 0xFF, key & 0xFFFF
            lines = self._lines.setdefault(number, [])
            for index, (since, other_ins, other_sw, so_far) in enumerate(lines):
                if (other_ins, other_sw) == (ins, sw) and so_far + count <= _MAX_COUNT:
                    lines[index] = (since, ins, sw, so_far + count)
                    break
            else:
                if self._waiting >= MAX_LINES:
                    self._count_only(count, second * _SECOND)
                else:
                    lines.append((second, ins, sw, min(count, _MAX_COUNT)))
                    self._waiting += 1
            if not lines:
                del self._lines[number]

    def _count_only(self, count: int, time_ns: int) -> None:
        gap = self._gap
        gap[0] += count
        self.lost_ever += count
        gap[1] = gap[1] or time_ns
        gap[2] = time_ns

    def _put_lines(self, number: int) -> bool:
        ours = self._numbers.get(number)
        if ours is None:
            ours = self._next
            body = self._opened.get(number)
            if body is not None and not self.ring.put(EntryType.SESSION_OPENED, ours, body):
                return False
            self._next += 1
            self._numbers[number] = ours
        lines = self._lines[number]
        while lines:
            part = lines[:MAX_READS]
            body = b"".join(_LINE.pack(*line) for line in part)
            if not self.ring.put(EntryType.READS, ours, body):
                return False
            del lines[:MAX_READS]
            self._waiting -= len(part)
        del self._lines[number]
        return True

    def _forget(self, number: int, closed_ns: int) -> bool:
        ours = self._numbers.get(number)
        body = _MOMENT.pack(closed_ns)
        if ours is not None and not self.ring.put(EntryType.SESSION_CLOSED, ours, body):
            return False
        self._numbers.pop(number, None)
        self._opened.pop(number, None)
        return True
