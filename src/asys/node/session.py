"""What one agent asks: bytes in, frames, answers, one write (docs/protocol.md, sections 1-5).

Instructions run strictly in the order in which they arrived. One that must wait holds the later
ones of its own session, as answers go out in order anyway; other sessions notice nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from inspect import iscoroutine
from typing import Any, Final, TypeAlias, cast

from asys.audit.records import Refusal
from asys.errors import LinkError
from asys.node.connection import Connection
from asys.node.dispatch import NEW_KEYS, failure
from asys.node.health.counts import Closing
from asys.protocol.apdu import (
    BARE_FRAMES,
    BARE_MESSAGES,
    CLA_SEC,
    SEC_ENC_SIGN,
    Frame,
)
from asys.protocol.limits import AEAD_TAG_SIZE, RECORD_PREFIX_SIZE
from asys.protocol.status import SW

_log = logging.getLogger("asyd.session")

Waiting: TypeAlias = Coroutine[Any, Any, bytes]
"""An instruction that has its answer later."""

BARE_RECORD: Final = RECORD_PREFIX_SIZE + len(BARE_MESSAGES[0]) + AEAD_TAG_SIZE
"""Bytes of a record with a request that says nothing but its code."""

TURN: Final = 64
"""Requests in flight: so many are answered before others get their turn."""


class Session(Connection):
    """A connection, and after the handshake a session of one agent."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """The way of a byte begins here."""
        if self.closed:
            return  # the last answer is out; what a refused agent still sends is not read
        if not self._opened:
            self._handshake(data)
            return
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
            self._wait_for_rest(now)
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
