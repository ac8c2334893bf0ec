"""Groups C to F, vendors' instructions: checked here, done by the vendor's worker.

The order of checks is that of docs/protocol.md, sections 5.2 and 7.19. A vendor that is not there
and one that the agent may not use take one way: one look into what the agent may use.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, NamedTuple

from asys.node.audit.shadow.strict import Unacknowledged
from asys.node.chains import first
from asys.node.dispatch import Answer, again, serves
from asys.node.recorder import DARK
from asys.node.refusal import Refused
from asys.protocol.apdu import CLA_MORE, CLA_SEC, Frame
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.status import SW
from asys.vendor.definition import CODES, ID_SIZE, MAX_BODY, MAX_JOINED_BODY

if TYPE_CHECKING:
    from asys.node.session import Session
    from asys.node.vendor.pool import Pool
    from asys.vendor.wire import Described

_log = logging.getLogger("asyd.vendor")

_BLOCKED: Final = SW.BLOCKED.wire
_DENIED: Final = SW.DENIED.wire
_WRONG_LENGTH: Final = SW.WRONG_LENGTH.wire


class _Meant(NamedTuple):
    """What a request is for."""

    pool: Pool
    instruction: Described
    body: bytes


@serves(CODES)
def vendor(session: Session, frame: Frame) -> Answer:
    """The entry of every vendor's code that is lit."""
    recorder = session.recorder
    recorder.begin(frame)
    if frame.cla & CLA_MORE:
        return may_begin(session, frame) or first(session, frame)
    # What has been joined of fragments has no header of its own.
    meant = _meant(session, frame, MAX_BODY if frame.header else MAX_JOINED_BODY)
    if isinstance(meant, bytes):
        return meant
    pool, instruction, body = meant
    size = len(body)
    if size != instruction.body_size if instruction.body_exact else size < instruction.body_size:
        return _WRONG_LENGTH
    grant = session.grant
    now = session.node.clock.now()
    try:
        grant.check_rate(frame.ins, now)
        busy = pool.busy()
        if busy:
            raise Refused(SW.BLOCKED, busy)
        recorder.intend()
        grant.take_rate(frame.ins, now)
    except Unacknowledged as wait:
        return again(session, wait)
    except Refused as refusal:
        _log.info("%s %s for %s: %s", refusal.sw, instruction.name, session.name, refusal)
        return refusal.sw.wire
    return _answer(session, pool.ask(frame.ins, frame.p1, frame.p2, body))


def may_begin(session: Session, frame: Frame) -> bytes | None:
    """Whether the first fragment of a chain, with M = 1, is for an instruction that takes one: the
    status word that it is answered otherwise, or None.
    """
    meant = _meant(session, frame, MAX_JOINED_BODY)
    if isinstance(meant, bytes):
        return meant
    return None if meant.instruction.chainable else _WRONG_LENGTH


def _meant(session: Session, frame: Frame, most: int) -> _Meant | bytes:
    """Whom a request is for; or the status word that it is answered."""
    sec = frame.cla & CLA_SEC
    if not sec:
        return _DENIED
    start = SEQ_SIZE + ID_SIZE
    data = frame.data
    if not start <= len(data) <= start + most:
        return _WRONG_LENGTH
    pool = session.grant.vendors.get(int.from_bytes(data[SEQ_SIZE:start], "big"))
    if pool is None:
        return _DENIED
    instruction = pool.get(frame.ins)
    if instruction is None:
        return DARK
    if sec < instruction.level << 2:
        return _DENIED
    return _Meant(pool, instruction, data[start:])


async def _answer(session: Session, asked: Awaitable[tuple[SW, bytes]]) -> bytes:
    sw, reply = await asked
    return reply + session.node.success if sw is SW.SUCCESS else sw.wire
