"""One agent's connection: bytes in, frames, answers, one write (docs/protocol.md, sections 1-5).

Instructions run strictly in the order in which they arrived. One that must wait holds the later
ones of its own session, as answers go out in order anyway; other sessions notice nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from asys.audit.records import Refusal
from asys.errors import LinkError
from asys.node.alarm import Alarm
from asys.node.dispatch import NEW_KEYS, failure
from asys.node.health.counts import EVICTED, TOO_SLOW, Closing
from asys.node.knock import Knock
from asys.node.logs import clean
from asys.node.recorder import NOTHING
from asys.node.shown import Shown
from asys.protocol.apdu import (
    BARE_FRAMES,
    BARE_MESSAGES,
    CLA_SEC,
    SEC_ENC_SIGN,
    Frame,
    FrameParser,
)
from asys.protocol.limits import AEAD_TAG_SIZE, RECORD_PREFIX_SIZE
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.grant import Grant
    from asys.node.recorder import NoRecorder, Recorder
    from asys.node.server import Node

_log = logging.getLogger("asyd.session")

Waiting: TypeAlias = Coroutine[Any, Any, bytes]
"""An instruction that has its answer later."""

BARE_RECORD: Final = RECORD_PREFIX_SIZE + len(BARE_MESSAGES[0]) + AEAD_TAG_SIZE
"""Bytes of a record with a request that says nothing but its code."""

TURN: Final = 64
"""Requests in flight: so many are answered before others get their turn."""

WRITE_BUFFER: Final = 64 << 10
"""Bytes of unread answers above which a session's requests are no longer read."""

MAGIC_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 5.0
FRAME_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0

LINGER_SECONDS: Final = 1.0
"""How long a refused agent has to read the last answer before the connection is cut."""


class Session(asyncio.Protocol):
    """A connection, and after the handshake a session of one agent."""

    __slots__ = (
        "_alarm",
        "_begun",
        "_channel",
        "_clock",
        "_held",
        "_last_frame",
        "_link",
        "_messages",
        "_opened",
        "_parser",
        "_peer",
        "_reading",
        "_started",
        "_transport",
        "_verify",
        "agent_key",
        "closed",
        "ending",
        "grant",
        "id",
        "node",
        "opened_ns",
        "peername",
        "recorder",
        "refusal",
        "shown",
    )

    grant: Grant

    def __init__(self, node: Node) -> None:
        self.node = node
        self.id = 0  # until it is confirmed
        self.agent_key = b""  # until the handshake is done
        self.opened_ns = 0
        self.recorder: Recorder | NoRecorder = NOTHING
        self.peername: object = None
        self.closed = False
        self.ending = Closing.AGENT  # why, when it is closed
        self.shown = Shown()
        self._clock = node.clock
        self._parser = FrameParser()
        self._messages: deque[bytes] = deque()
        self._opened = False
        self._held = 0  # reasons not to go on: a waiting instruction, a reader who does not read
        self._reading = True
        self.refusal = Refusal.BAD_HANDSHAKE  # why, if the handshake ended now
        self._peer = ""
        self._started = self._last_frame = self._clock.now()
        self._begun: float | None = None
        self._alarm = Alarm(node.clock)

    @property
    def name(self) -> str:
        """Who this is, for logs."""
        return self.grant.name if self._opened else self._peer

    @property
    def node_key(self) -> bytes:
        """For which of the node's keys the agent has made the handshake, once it is done."""
        return self._link.node_key

    @property
    def peer(self) -> str:
        """Where it comes from, for logs and admins."""
        return self._peer

    @property
    def idle_seconds(self) -> float:
        """How long ago its last request was answered, or its handshake done."""
        return self._clock.now() - self._last_frame

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection in, or refuses it at once when there is no room."""
        self._transport = cast(asyncio.Transport, transport)
        # Of the next key first: where it is due to take over, it does so before the other is taken.
        more = self.node.keys.more
        self._link = NodeLink(self.node.key, Knock(self, self._transport), more=more)
        peer = self.peername = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = f"{peer[0]}:{peer[1]}"
        else:
            self._peer = "unix" if peer is not None else "gone"
        if not self.node.admit(self):
            self.node.count_refusal(Refusal.LIMIT)
            self._drop("no room for another connection", expected=True)
            return
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._alarm.set(self._started + MAGIC_SECONDS, self._ring)

    def data_received(self, data: bytes) -> None:
        """The way of a byte begins here."""
        if self.closed:
            return  # the last answer is out; what a refused agent still sends is not read
        if self._opened:
            if (
                len(data) == BARE_RECORD
                and self._begun is None
                and not self._held
                and self.id
                and self._read_alone(data)
            ):
                return
            self._channel.feed(data)
            if self._held:
                self._pause()
            else:
                self._turn()
            return
        try:
            self._link.receive_data(data)
        except LinkError as error:
            self.node.count_refusal(self.refusal)
            self._drop(f"handshake refused: {error}")
            return
        self._transport.write(self._link.data_to_send())
        if self._link.state is LinkState.OPEN:
            self._open()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        if self.id and not self.closed:
            _log.info("closed %s %s: %s", self.name, self._peer, exc or self.ending)
        self._leave()
        self._alarm.stop()
        self.node.forget(self)

    def pause_writing(self) -> None:
        """The agent does not read its answers: nothing more is done for it until it does."""
        self._held += 1
        self._pause()

    def resume_writing(self) -> None:
        """The agent has read; go on."""
        self._release()

    # -- opening and closing

    def _open(self) -> None:
        """The handshake is done: is this an agent?"""
        link = self._link
        self._channel = link.channel
        self._verify = link.verifier.verify
        grant = self.node.knows(link.agent_key, self.peername, link.ephemeral)
        if grant is None:
            who = f"{link.agent_key.hex()} from {self._peer}"
            self.node.noticed.log("unknown key, or not from there:", who, self._clock.now())
            known = self.node.grant(link.agent_key) is not None
            why = Refusal.WRONG_ADDRESS if known else Refusal.UNKNOWN_KEY
            self.node.count_refusal(why, link.agent_key)
            self._answer([SW.DENIED.wire])
            self._finish()
            return
        self.grant = grant
        self.agent_key = link.agent_key
        self._opened = True
        self._last_frame = self._clock.now()
        self._turn()

    def _confirm(self) -> bool:
        """A message has come that only the agent can have made: is there room for it?"""
        refusal = self.node.confirm(self)
        if refusal is None:
            self.opened_ns = self._clock.time_ns()
            self.recorder = self.node.record(self)
            _log.info("opened %s %s session %d", self.name, self._peer, self.id)
            return True
        self.node.noticed.log(
            "too many sessions:", f"{self.name} from {self._peer}", self._clock.now()
        )
        self.node.count_refusal(Refusal.LIMIT, self.agent_key)
        self._answer([refusal.wire])
        self._finish()
        return False

    def evict(self) -> None:
        """Ends a connection that has not shown who it is, to make room for another."""
        self.node.counts.refused[EVICTED] += 1
        self._drop("had not shown who it is when another came", expected=True)

    def close(self, reason: Closing) -> None:
        """Ends the session from the node's side, after the answers that are under way."""
        if not self.closed:
            self.ending = reason
            if self.id:
                _log.info("closed %s %s: %s", self.name, self._peer, reason)
            self._finish()

    def abort(self) -> None:
        """Ends the connection now."""
        self._leave()
        self._transport.abort()

    def _finish(self) -> None:
        """Lets the last answer arrive, then ends: an agent must be able to read why."""
        self._leave()
        self._transport.write_eof()
        self._started = self._clock.now()
        self._alarm.stop()
        self._alarm.set(self._started + LINGER_SECONDS, self._ring)
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _drop(self, reason: str, *, expected: bool = False) -> None:
        """Ends the connection without a word; before the handshake that is all a peer gets."""
        if self.id:
            self.ending = Closing.FAULT
            _log.info("dropped %s %s: %s", self.name, self._peer, clean(reason))
        else:
            kind = "refused" if expected else "dropped"
            self.node.noticed.log(
                f"{kind}: {clean(reason)}", f"from {self._peer}", self._clock.now()
            )
        self.abort()

    def _fail(self, error: Exception) -> None:
        """Ends a session in which an answer was lost, as memory ran out: nothing may come after it,
        and whoever asked finds out at once.
        """
        with suppress(MemoryError):
            _log.error("dropped %s %s", self.name, self._peer, exc_info=error)
        self.ending = Closing.LOST
        self.abort()

    def _leave(self) -> None:
        if not self.closed:
            self.closed = True
            self._link.fail()
            self._messages.clear()
            self.node.leave(self)

    # -- requests

    def _read_alone(self, record: bytes) -> bool:
        """The short way, on which agents poll: a request came alone, says nothing but its code,
        and all that is to be done is to read. False: nothing has been taken.
        """
        channel = self._channel
        message = channel.open_alone(record)
        if message is None:
            return False
        ins = message[1]
        reading = self.grant.readings[ins]
        answer: object = None
        try:
            if reading is not None and message == BARE_MESSAGES[ins]:
                read, request, name = reading
                try:
                    answer = read(self, request)
                except Exception as error:
                    answer = failure(self, name, error)
            if type(answer) is bytes:
                self._transport.write(channel.seal_alone(answer))
                self._last_frame = self.node.courtesy.answered()
                channel.took()
                channel.sent()
                self.node.counts.answered((answer,))
                if self.recorder.answered is not None:
                    self.recorder.answered(BARE_FRAMES[ins], answer)
                    self.recorder.flush()
                return True
        except Exception as error:
            self._fail(error)
            return True
        if iscoroutine(answer):
            answer.close()  # it has not begun; the long way waits for it
        channel.took()
        self._messages.append(message)
        self._turn()
        return True

    def _turn(self) -> None:
        """Answers up to TURN requests that have arrived, and writes the answers in one piece."""
        grant = self.grant
        if grant.ends_ns and self._clock.time_ns() >= grant.ends_ns:
            # Which closes this session, for one.
            self.node.authority.expire(grant.ends_ns // 1_000_000_000)
            return
        answers: list[bytes] = []
        messages = self._messages
        parser = self._parser
        table = grant.table
        record = self.recorder.answered
        waiting: Coroutine[Any, Any, bytes] | None = None
        refused: SW | None = None
        new_keys = False
        try:
            if not messages:
                messages.extend(self._channel.receive(TURN))
                if not self.id and messages:
                    if not self._confirm():
                        return
                    record = self.recorder.answered
            while len(answers) < TURN:
                frame = parser.next_frame()
                if frame is None:
                    if not messages:
                        break
                    frame = parser.push(messages.popleft())
                    if frame is None:
                        refused = parser.error
                        if refused is not None:
                            break
                        continue
                if frame.cla & CLA_SEC:
                    fault = self._verify(frame)
                    if fault is not None:
                        if record is not None:
                            record(frame, fault.wire)
                        if fault is SW.DENIED:
                            refused = fault
                            break
                        answers.append(fault.wire)
                        continue
                    if frame.cla & CLA_SEC == SEC_ENC_SIGN:
                        opened = self._link.verifier.open(frame)
                        if opened is None:
                            if record is not None:
                                record(frame, SW.DENIED.wire)
                            refused = SW.DENIED
                            break
                        frame = opened
                try:
                    answer = table[frame.ins](self, frame)
                except Exception as error:  # what entries do not catch: memory has run out
                    answer = failure(self, f"{frame.ins:02X}", error)
                if type(answer) is not bytes:
                    if answer is NEW_KEYS:
                        if messages or parser.pending or self._channel.buffered:
                            refused = SW.WRONG_LENGTH  # nothing may follow until it is answered
                            answer = refused.wire
                        else:
                            self.recorder.intend()
                            new_keys = True
                            answer = self.node.success
                            answers.append(answer)
                    else:
                        waiting = self._recorded(frame, cast("Waiting", answer))
                        break
                    if record is not None:
                        record(frame, answer)
                    break
                if record is not None:
                    record(frame, answer)
                answers.append(answer)
            refused = refused or parser.error
            if refused is not None:
                answers.append(refused.wire)
            if answers:
                self._answer(answers)
            if new_keys:
                self._link.rekey()
            if not messages and waiting is None and self._channel.buffered:
                messages.extend(self._channel.receive(TURN))  # more, or half a record, or a bad one
        except LinkError as error:
            self._drop(str(error))
            return
        except Exception as error:
            self._fail(error)
            return
        if refused is not None:
            _log.info("closed %s %s: answered %s", self.name, self._peer, refused)
            self.ending = Closing.REFUSED
            self._finish()
        else:
            self._after_turn(len(answers), waiting)

    def _answer(self, answers: list[bytes]) -> None:
        """Every answer goes out here, all of one turn in one write."""
        self._transport.write(self._channel.seal(answers))
        self._last_frame = self.node.courtesy.answered()
        self.node.counts.answered(answers)

    def _after_turn(self, answered: int, waiting: Coroutine[Any, Any, bytes] | None) -> None:
        """Sees to what is left: an instruction that waits, requests beyond TURN, half a frame."""
        now = self._last_frame if answered else self._clock.now()
        if answered:
            self.recorder.flush()
        if waiting is not None:
            self._held += 1
            self.recorder.hold()
            self.node.spawn(self._answer_later(waiting))
        elif self._messages or (answered == TURN and self._parser.pending):
            self._held += 1
            self._clock.call_soon(self._release)
        if self._held:
            self._begun = None
            self._pause()
            return
        if not self._channel.buffered and not self._parser.pending:
            self._begun = None
        elif self._begun is None or answered:
            self._begun = now
            self._alarm.set(now + FRAME_SECONDS, self._ring)
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    async def _recorded(self, frame: Frame, waiting: Waiting) -> bytes:
        try:
            answer = await waiting
            if self.recorder.answered is not None:
                self.recorder.answered(frame, answer)
                self.recorder.flush()
        finally:
            self.recorder.release()
        return answer

    async def _answer_later(self, waiting: Coroutine[Any, Any, bytes]) -> None:
        try:
            answer = await waiting
            if self.closed:
                return
            self._answer([answer])
        except Exception as error:
            self._fail(error)
            return
        self._release()

    def _release(self) -> None:
        """One reason less not to go on."""
        self._held -= 1
        if not self._held and not self.closed:
            self._turn()

    def _pause(self) -> None:
        """Leaves further requests in the kernel, where they hold up their sender alone.

        And the end of them: when it is read, every answer is with the transport, which may close.
        """
        if self._reading and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    # -- deadlines

    def _due(self) -> float:
        """When the connection ends if nothing more happens."""
        if self.closed:
            return self._started + LINGER_SECONDS
        if not self._opened:
            magic = self._link.state is LinkState.MAGIC
            return self._started + (MAGIC_SECONDS if magic else HANDSHAKE_SECONDS)
        idle = self._last_frame + IDLE_SECONDS
        return idle if self._begun is None else min(idle, self._begun + FRAME_SECONDS)

    def _ring(self) -> None:
        due = self._due()
        if self._clock.now() < due:
            self._alarm.set(due, self._ring)
        elif self.closed:
            self._transport.abort()
        elif not self._opened:
            self.node.counts.refused[TOO_SLOW] += 1
            self._drop("handshake refused: too slow", expected=True)
        elif self._begun is not None:
            self._drop("half a frame and no more")
        else:
            self.close(Closing.IDLE)
