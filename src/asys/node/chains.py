"""Payloads that come in fragments, until they are whole (docs/protocol.md, section 7.14).

A chain belongs to one session. What refuses a fragment of it ends it: fragments may be on their way
already behind one that is missing, and an instruction must never run on what is left of a payload.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

from asys.isa import CONTINUE, ChainHandle
from asys.isa.control import Fragment
from asys.node.alarm import Alarm
from asys.node.refusal import Refused
from asys.protocol.apdu import CLA_MORE, CLA_SEC, Frame
from asys.protocol.codec import WrongSize
from asys.protocol.limits import MAX_CHAIN, SEQ_SIZE
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.clock import Clock
    from asys.node.dispatch import Answer
    from asys.node.session import Session

_log = logging.getLogger("asyd.chains")

CHAIN_SECONDS: Final = 30.0
"""How long after its first fragment a chain ends."""

NODE_BYTES: Final = 16 << 20
"""Bytes that all chains of a node hold together."""


class Joined(Frame):
    """The frame of an instruction whose payload came in fragments.

    CLA and Seq are those of the last fragment, INS, P1 and P2 those of the first. There is no
    header and no tag: each fragment had its own, and they have been checked. The payload may be
    longer than one frame carries, up to MAX_CHAIN.
    """

    __slots__ = ()


class Chain:
    """What has come of one payload, for the instruction `ins`."""

    __slots__ = ("ends", "handle", "ins", "p1", "p2", "payload", "sec", "session")

    def __init__(self, handle: int, session: int, first: Frame, ends: float) -> None:
        self.handle = handle
        self.session = session
        self.ins = first.ins
        self.p1 = first.p1
        self.p2 = first.p2
        self.sec = first.cla & CLA_SEC
        self.ends = ends
        self.payload = bytearray()

    def __repr__(self) -> str:
        return f"<Chain {self.handle:08x} for {self.ins:02X}, {len(self.payload)} bytes>"


class Chains:
    """All chains of a node, at most one a session."""

    def __init__(self, clock: Clock, *, node_bytes: int = NODE_BYTES) -> None:
        self._clock = clock
        self._node_bytes = node_bytes
        self._chains: dict[int, Chain] = {}  # by session; in the order in which they end
        self._alarm = Alarm(clock)
        self.held = 0
        """Bytes that they hold."""

    def __len__(self) -> int:
        return len(self._chains)

    def begin(self, session: Session, frame: Frame) -> bytes:
        """The answer to the first fragment for an instruction that is chainable.

        That it exists, that the node can do it and that the frame has its level has been checked. A
        chain that the session has already ends. Refused: the node has no room.
        """
        self.close_session(session.id)
        handle = session.id << 16 | secrets.randbelow(0xFFFF) + 1
        chain = Chain(handle, session.id, frame, self._clock.now() + CHAIN_SECONDS)
        self._add(chain, _payload(frame))
        self._chains[session.id] = chain
        self._alarm.set(chain.ends, self._ring)
        return ChainHandle(handle).pack() + session.node.success

    def find(self, session: int, handle: int) -> Chain:
        """The session's chain with that handle. Refused where there is none, or no more."""
        self._expire()
        chain = self._chains.get(session)
        if chain is None or chain.handle != handle:
            raise Refused(SW.INVALID_PAYLOAD, "no such chain")
        return chain

    def add(self, chain: Chain, frame: Frame, fragment: bytes) -> None:
        """Adds a fragment. Refused, and the chain has ended: another Sec, too long, no room."""
        try:
            if frame.cla & CLA_SEC != chain.sec:
                raise Refused(SW.DENIED, "a fragment with another Sec than the first")
            self._add(chain, fragment)
        except Refused:
            self.close_session(chain.session)
            raise

    def take(self, chain: Chain, last: Frame) -> Joined:
        """The frame of a chain that is whole with the fragment in `last`; the chain ends."""
        seq = last.data[:SEQ_SIZE] if chain.sec else b""
        whole = Joined(last.cla, chain.ins, chain.p1, chain.p2, seq + chain.payload)
        self.close_session(chain.session)
        return whole

    def close_session(self, session: int) -> None:
        """Ends the chain of a session, if it has one."""
        chain = self._chains.pop(session, None)
        if chain is not None:
            self.held -= len(chain.payload)

    def close(self) -> None:
        """Ends all of them."""
        self._chains.clear()
        self.held = 0
        self._alarm.stop()

    def _add(self, chain: Chain, fragment: bytes) -> None:
        if len(chain.payload) + len(fragment) > MAX_CHAIN:
            raise Refused(SW.WRONG_LENGTH, f"more than {MAX_CHAIN} bytes in a chain")
        if self.held + len(fragment) > self._node_bytes:
            raise Refused(SW.BLOCKED, "the chains of all sessions are too long")
        chain.payload += fragment
        self.held += len(fragment)

    def _expire(self) -> None:
        now = self._clock.now()
        while self._chains:
            oldest = next(iter(self._chains.values()))
            if now < oldest.ends:
                return
            self.close_session(oldest.session)

    def _ring(self) -> None:
        self._expire()
        if self._chains:
            self._alarm.set(next(iter(self._chains.values())).ends, self._ring)


def first(session: Session, frame: Frame) -> bytes:
    """The answer to a first fragment, as Chains.begin."""
    try:
        return session.node.chains.begin(session, frame)
    except Refused as refusal:
        return _refused(session, frame, refusal)


def proceed(session: Session, frame: Frame) -> Answer:
    """CONTINUE: takes a fragment; with the last one, whatever the instruction itself answers."""
    session.recorder.begin(frame)
    try:
        whole = _proceed(session, frame)
    except Refused as refusal:
        return _refused(session, frame, refusal)
    if whole is None:
        return session.node.success
    session.recorder.joined(frame, whole)
    return session.grant.table[whole.ins](session, whole)


def _proceed(session: Session, frame: Frame) -> Joined | None:
    """What is whole with this fragment, if it is the last one. Refused."""
    chains = session.node.chains
    try:
        request = Fragment.unpack(_payload(frame))
    except WrongSize as error:
        raise Refused(SW.WRONG_LENGTH, str(error)) from None
    chain = chains.find(session.id, request.handle)
    chains.add(chain, frame, request.fragment)
    try:
        session.grant.check_rate(CONTINUE.code, session.node.clock.now())
    except Refused:
        chains.close_session(session.id)
        raise
    session.grant.take_rate(CONTINUE.code, session.node.clock.now())
    return None if frame.cla & CLA_MORE else chains.take(chain, frame)


def _refused(session: Session, frame: Frame, refusal: Refused) -> bytes:
    _log.info("%s %02X for %s: %s", refusal.sw, frame.ins, session.name, refusal)
    return refusal.sw.wire


def _payload(frame: Frame) -> bytes:
    return frame.data[SEQ_SIZE:] if frame.cla & CLA_SEC else frame.data
