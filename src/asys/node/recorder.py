"""What one session leaves in the audit (docs/audit.md): a record before each deed, one after it.

Reading, which is the Core ISA and TASK_QUERY, is counted; all else has a record of its own. So has
whatever does not exist for the agent, also a reading: all of that takes one way here too, and time
tells nothing about why it does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asys.isa import TASK_QUERY, Group
from asys.node.audit.log import NoAudit, digest_of
from asys.node.audit.shadow.strict import Unacknowledged
from asys.node.refusal import Refused
from asys.protocol.apdu import CLA_SEC, Frame
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.audit.journaled_log import JournaledLog
    from asys.node.audit.log import Audit
    from asys.node.audit.shadow.strict import Strict

READS: Final = tuple(code >> 4 == Group.CORE or code == TASK_QUERY.code for code in range(256))
"""For each code, whether it is only counted."""

DARK: Final = SW.NO_SUCH_INSTRUCTION.wire
"""The one answer to what does not exist for an agent: this very object."""

STANDARD: Final = 0x20
"""The first code that must not run without room for its record."""


class Recorder:
    """The records of a session, from its confirmation to its end."""

    __slots__ = (
        "_audit",
        "_count",
        "_ended",
        "_frame",
        "_held",
        "_intended",
        "_last",
        "_needed",
        "_number",
        "_payload",
        "_read",
        "_resumed",
        "_seq",
        "_strict",
        "_sw",
        "_whole",
    )

    def __init__(
        self,
        audit: Audit,
        key: bytes,
        label: str,
        line: int,
        peer: str,
        *,
        needed: bool = True,
        strict: Strict | None = None,
    ) -> None:
        """`needed`: what can leave no record does not run. `strict`: nor does some of the rest,
        while no collector has its record.
        """
        self._audit = audit
        self._needed = needed
        self._strict = strict
        self._resumed: Frame | None = None
        self._number = audit.open_session(key, label, line, peer)
        self._held = self._ended = False
        self._frame: Frame | None = None
        self._last: Frame | None = None
        self._whole: Frame
        self._intended = False
        self._seq = 0
        self._payload = b""
        self._read = 0
        self._sw = b""
        self._count = 0

    def close(self) -> None:
        """The session has ended; on record that is behind the answer that it waits for."""
        self._ended = True
        self.flush()
        if not self._held:
            self._audit.close_session(self._number)

    def hold(self) -> None:
        """An instruction has its answer later, which `release` follows."""
        self._held = True

    def release(self) -> None:
        """It has been answered, or never will be."""
        self._held = False
        if self._ended:
            self._audit.close_session(self._number)

    def begin(self, frame: Frame) -> None:
        """An instruction is about to be checked that is more than reading; its payload is clear."""
        self._frame = frame
        self._intended = frame is self._resumed
        self._seq, self._payload = _parts(frame)

    def intend(self, *, whole: bool = False) -> None:
        """Every check has passed. Refused where a deed would leave no record.

        Unacknowledged: it is on record, and has to wait until a collector has that. Nothing has
        been done yet, and nothing may be now. When the same frame comes again this only returns.
        `whole`: the payload itself is kept, not only its digest.
        """
        frame = self._frame
        if frame is None or self._intended:
            return
        audit = self._audit
        strict = self._strict
        waits = strict is not None and strict.demands(frame.ins)
        room = not whole or audit.payload(self._number, self._seq, frame.ins, self._payload)
        if room and audit.intent(self._number, frame.cla, frame.ins, self._seq, self._payload):
            self._intended = True
            if strict is not None and waits:
                raise Unacknowledged(strict, self, frame)
        elif waits or (self._needed and frame.ins >= STANDARD):
            raise Refused(SW.BLOCKED, "the audit has no room")

    def resume(self, frame: Frame) -> None:
        """The intent of a frame is acknowledged; it is checked once more, then it may run."""
        self._resumed = frame

    def joined(self, last: Frame, whole: Frame) -> None:
        """The answer to `last` will be that to `whole`, whose fragments have all come with it."""
        self._last = last
        self._whole = whole

    def answered(self, frame: Frame, answer: bytes) -> None:
        """The answer to a frame, whatever it is. `flush` follows, when there are no more."""
        if frame is self._last:
            frame = self._whole
            self._last = None
        ins = frame.ins
        if answer is not DARK and READS[ins]:
            sw = answer[-2:]
            if ins != self._read or sw != self._sw:
                self.flush()
                self._read = ins
                self._sw = sw
            self._count += 1
            return
        begun, self._frame = self._frame, None
        if begun is frame:
            seq, payload, intended = self._seq, self._payload, self._intended
        else:
            seq, payload = _parts(frame)
            intended = False
        self._audit.outcome(
            self._number,
            frame.cla,
            ins,
            seq,
            payload,
            answer[-2] << 8 | answer[-1],
            intended=intended,
        )

    def flush(self) -> None:
        """Puts on record what was counted since the last time."""
        if self._count:
            sw = int.from_bytes(self._sw, "big")
            self._audit.read(self._number, self._read, sw, self._count)
            self._count = 0

    def task(self) -> TaskRecord:
        """The task that the present instruction starts, for its last record."""
        ins = self._frame.ins if self._frame is not None else 0
        return TaskRecord(self._audit, self._number, ins, self._seq, digest_of(self._payload))


class JournalingRecorder(Recorder):
    """A Recorder whose audit also keeps the parameters of what has a record of its own."""

    __slots__ = ("_log",)

    def __init__(
        self,
        log: JournaledLog,
        key: bytes,
        label: str,
        line: int,
        peer: str,
        *,
        needed: bool = True,
        strict: Strict | None = None,
    ) -> None:
        super().__init__(log, key, label, line, peer, needed=needed, strict=strict)
        self._log = log

    def intend(self, *, whole: bool = False) -> None:
        """As Recorder.intend."""
        self._log.frame = self._frame
        super().intend(whole=whole)

    def answered(self, frame: Frame, answer: bytes) -> None:
        """As Recorder.answered."""
        self._log.frame = self._whole if frame is self._last else frame
        super().answered(frame, answer)


class NoRecorder:
    """In place of a Recorder where nothing is on record."""

    answered: Final = None

    def close(self) -> None:
        """As Recorder.close."""

    def hold(self) -> None:
        """As Recorder.hold."""

    def release(self) -> None:
        """As Recorder.release."""

    def begin(self, frame: Frame) -> None:
        """As Recorder.begin."""

    def joined(self, last: Frame, whole: Frame) -> None:
        """As Recorder.joined."""

    def intend(self, *, whole: bool = False) -> None:
        """As Recorder.intend."""

    def flush(self) -> None:
        """As Recorder.flush."""

    def task(self) -> TaskRecord:
        """As Recorder.task."""
        return TaskRecord(NoAudit(), 0, 0, 0, b"")


NOTHING: Final = NoRecorder()


class TaskRecord:
    """What the end of a task is recorded with, long after its session."""

    __slots__ = ("_audit", "_digest", "_ins", "_number", "_seq")

    def __init__(self, audit: Audit, number: int, ins: int, seq: int, digest: bytes) -> None:
        self._audit = audit
        self._number = number
        self._ins = ins
        self._seq = seq
        self._digest = digest

    def ended(self, status: int) -> None:
        """How the task has ended."""
        self._audit.task_end(self._number, self._ins, self._seq, self._digest, status)


def _parts(frame: Frame) -> tuple[int, bytes]:
    """Seq and payload; a plain frame has 0 for the one."""
    if not frame.cla & CLA_SEC:
        return 0, frame.data
    return int.from_bytes(frame.data[:SEQ_SIZE], "big"), frame.data[SEQ_SIZE:]
