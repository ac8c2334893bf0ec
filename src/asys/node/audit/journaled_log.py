"""asyd's side of the parameter journal (docs/audit.md, section 10).

It has a ring of its own, which may be full: what has no room is only counted. Nothing that an agent
does waits for it, or is refused because of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asys.audit.parameters import MAX_PAYLOAD
from asys.node.audit.log import DEGRADED, AuditLog
from asys.node.audit.parameters import ENTRY, ENTRY_HEAD, LOST, LOST_BODY
from asys.node.audit.ring import Ring
from asys.node.clock import Clock

if TYPE_CHECKING:
    from asys.protocol.apdu import Frame


class JournaledLog(AuditLog):
    """An AuditLog that also keeps what instructions said, in a third ring.

    Whoever makes a record sets `frame` to the instruction before.
    """

    def __init__(self, clock: Clock, doing: Ring, reading: Ring, journal: Ring) -> None:
        super().__init__(clock, doing, reading)
        self.journal: Final = journal
        self.frame: Frame | None = None
        self._unix_ns = clock.time_ns
        self._stamp = 0
        self._time_ns = self._stamped
        self.left_out = 0
        """Entries that found no room, ever."""
        self._left_out = 0
        self._left_out_first = self._left_out_last = 0

    def _stamped(self) -> int:
        """The time; that of a record is the last one that was asked for."""
        self._stamp = now = self._unix_ns()
        return now

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """As Audit.intent."""
        taken = super().intent(number, cla, ins, seq, payload)
        if taken:
            self._keep(number, cla, ins, seq, payload)
        return taken

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
        super().outcome(number, cla, ins, seq, payload, sw, intended=intended)
        if intended:
            self.frame = None
        else:
            self._keep(number, cla, ins, seq, payload)

    def _keep(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> None:
        """Puts an entry for the record that was just made, or counts it."""
        frame, self.frame = self.frame, None
        known = self._known.get(number)
        if frame is None or known is None:
            return
        now = self._stamp
        body = ENTRY_HEAD.pack(now, known[1], cla, ins, frame.p1, frame.p2, seq, len(payload))
        if (self._left_out and not self._tell_left_out()) or not self.journal.put(
            ENTRY, 0, body + payload[:MAX_PAYLOAD]
        ):
            if not self._left_out:
                self._left_out_first = now
            self._left_out += 1
            self.left_out += 1
            self._left_out_last = now

    def _tell_left_out(self) -> bool:
        body = LOST_BODY.pack(self._left_out, self._left_out_first, self._left_out_last)
        if not self.journal.put(LOST, 0, body):
            return False
        self._left_out = 0
        return True

    def _tick(self) -> None:
        super()._tick()
        if self._left_out and not self._tell_left_out():
            self._wake()

    @property
    def flags(self) -> int:
        """As Audit.flags; a journal that is full or late raises nothing, one that fails does."""
        return super().flags or (DEGRADED if self.journal.flags else 0)

    def close(self) -> None:
        """As AuditLog.close."""
        super().close()
        if self._left_out:
            self._tell_left_out()
