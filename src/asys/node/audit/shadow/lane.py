"""One chain on its way to the collector: what is pushed, and what an answer is worth. No sockets.

What the collector says is compared with the chain: it cannot acknowledge what it was not sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from asys.audit.chain import format_anchor
from asys.audit.push import Ack, FromNode, Open, Reason, Refused, Stands
from asys.node.audit.ring import Position, Ring
from asys.node.audit.shadow.source import Astray, Cursor, Source

MARKS: Final = 64
"""Places of the writer that are remembered; acknowledged slots are told at these."""


class Lied(Exception):
    """The collector said what cannot be so."""


class Declined(Exception):
    """The collector does not take what it was sent."""


class _State(Enum):
    CLOSED = auto()
    ASKED = auto()
    ASKED_ANEW = auto()
    SHIPPING = auto()


class Lane:
    """One chain. `say` takes words for asyd's log."""

    def __init__(self, source: Source, ring: Ring, say: Callable[[str], None]) -> None:
        self.kind: Final = source.kind
        self._source = source
        self._ring = ring
        self._say = say
        self._state = _State.CLOSED
        self._marks: deque[Position] = deque()
        self._seen: Position | None = None
        self._sent: deque[tuple[Cursor, Position | None]] = deque()
        """Where each answer that is awaited must stand, and the mark that is reached with it."""
        self._parts = 0
        self._anew = False
        """What the collector has cannot be continued."""
        self._lowest = 0
        self._refusals = 0
        self._target = 0

    # -- the connection

    def connect(self) -> None:
        """A new connection: nothing has been said on it."""
        self._state = _State.CLOSED
        self._marks.clear()
        self._sent.clear()
        self._parts = 0
        self._seen = None
        self._source.leave()

    @property
    def waits(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._sent) or self._state in (_State.ASKED, _State.ASKED_ANEW)

    @property
    def followed(self) -> bool:
        """Whether the collector has had everything since it is connected."""
        return self._state is _State.SHIPPING and self._ring.acknowledged >= self._target

    @property
    def done(self) -> bool:
        """Whether the chain has come to its clean end, and the collector has all of it."""
        position = self._ring.observed
        return (
            position is not None
            and position.ended
            and position.tail == self._ring.head
            and self._state is _State.SHIPPING
            and not self._sent
            and self._reached(position)
        )

    # -- what goes out

    def send(self, room: int) -> list[FromNode]:
        """What goes out now, with at most `room` PUTs unanswered. Astray; OSError."""
        self._look()
        if self._state is _State.CLOSED:
            return self._open()
        messages: list[FromNode] = []
        if self._state is not _State.SHIPPING:
            return messages
        if self._source.cursor is None:
            self._source.begin()
        while self._marks and len(self._sent) + self._parts < room:
            mark = self._marks[0]
            try:
                pieces = self._source.read(mark)
            except Astray as astray:
                if self._sent:
                    break  # what is good is still delivered
                self._go_anew(astray.start)
                raise
            for piece in pieces:
                messages.append(piece.put)
                if piece.end is None:
                    self._parts += 1
                else:
                    self._sent.append((piece.end, None))
            if self._reached(mark):
                self._marks.popleft()
                self._reach(mark)
            elif not pieces:
                if len(self._marks) == 1 and not self._passed(mark):
                    break  # the writer will go on elsewhere
                self._marks.popleft()
        return messages

    def _look(self) -> None:
        """Remembers where the writer is."""
        position = self._ring.observed
        if position is None or (self._seen is not None and position[:6] == self._seen[:6]):
            return
        self._seen = position
        if len(self._marks) >= MARKS:
            self._marks.pop()
        self._marks.append(position)

    def _open(self) -> list[FromNode]:
        if self._seen is None:
            return []  # there is no writer yet
        if not self._anew:
            self._state = _State.ASKED
            return [Open(self.kind)]
        if not self._source.begin(self._lowest):
            return []  # there is nothing yet that could be the begin of a chain
        self._state = _State.ASKED_ANEW
        return [Open(self.kind, anew=True)]

    def _reached(self, mark: Position) -> bool:
        cursor = self._source.cursor
        if cursor is None:
            return not mark.entries
        return (cursor.entries, cursor.h) == (mark.entries, mark.h)

    def _passed(self, mark: Position) -> bool:
        cursor = self._source.cursor
        return cursor is not None and cursor.entries > mark.entries

    def _reach(self, mark: Position) -> None:
        """Everything up to a mark has been sent."""
        if self._sent:
            self._sent[-1] = self._sent[-1][0], mark
        else:
            self._ring.acknowledged = max(mark.tail, self._ring.acknowledged)

    # -- what comes in

    def stands(self, stands: Stands) -> None:
        """Where the collector stands. Lied; OSError."""
        state, self._state = self._state, _State.SHIPPING
        if state is _State.ASKED_ANEW:
            if stands.segment:
                raise Lied(f"it begins anew with {_words(stands)}")
            self._anew = False
        elif state is not _State.ASKED:
            raise Lied("it says where it stands, and was not asked")
        elif (
            stands.segment and self._seen is not None and not self._source.stand(stands, self._seen)
        ):
            self._say(
                f"the collector stands with the {self.kind} chain at {_words(stands)}, where this "
                "node's chain never was, or is not any more: it begins anew"
            )
            self._go_anew(0)
            self._state = _State.CLOSED
            return
        self._target = self._ring.head

    def acknowledged(self, ack: Ack) -> None:
        """The collector has more. Lied."""
        if not self._sent:
            raise Lied(f"it acknowledges {ack.anchor} and was sent nothing")
        end, mark = self._sent.popleft()
        if (ack.count, ack.h) != (end.entries, end.h):
            raise Lied(
                f"it acknowledges {ack.anchor} of the {self.kind} chain, and the chain there is "
                f"{format_anchor(end.entries, end.h)}"
            )
        self._parts = 0
        self._refusals = 0
        if mark is not None:
            self._ring.acknowledged = max(mark.tail, self._ring.acknowledged)

    def refused(self, refused: Refused) -> None:
        """The collector has refused. Declined, always."""
        if refused.reason in (Reason.NOT_CONTINUED, Reason.MALFORMED):
            self._refusals += 1
            if self._refusals > 1 and self._sent:
                # The same again: what is there cannot be continued, or not from there.
                self._go_anew(self._sent[0][0].segment + (self._refusals > 2))
        raise Declined(f"it refuses the {self.kind} chain: {_REASONS.get(refused.reason, '?')}")

    def _go_anew(self, lowest: int) -> None:
        self._anew = True
        self._lowest = lowest


_REASONS: Final = {
    int(Reason.NOT_CONTINUED): "what it was sent does not continue what it has",
    int(Reason.DISK): "its disk does not take it",
    int(Reason.MALFORMED): "it cannot make sense of what it was sent",
    int(Reason.GENERATIONS): "the chain began anew too often today",
}


def _words(stands: Stands) -> str:
    return f"segment {stands.segment}, {format_anchor(stands.count, stands.h)}"
