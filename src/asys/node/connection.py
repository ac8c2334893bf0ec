"""One agent's connection: its opening, its deadlines, its end (docs/protocol.md, section 1)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from asys.audit.records import Refusal
from asys.errors import LinkError
from asys.node.alarm import Alarm
from asys.node.health.counts import EVICTED, TOO_SLOW, Closing
from asys.node.knock import Knock
from asys.node.logs import clean
from asys.node.recorder import NOTHING
from asys.node.shown import Shown
from asys.protocol.apdu import FrameParser
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.grant import Grant
    from asys.node.recorder import NoRecorder, Recorder
    from asys.node.server import Node

_log = logging.getLogger("asyd.session")

WRITE_BUFFER: Final = 64 << 10
"""Bytes of unread answers above which a session's requests are no longer read."""

MAGIC_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 5.0
FRAME_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0

LINGER_SECONDS: Final = 1.0
"""How long a refused agent has to read the last answer before the connection is cut."""


class Connection(asyncio.Protocol):
    """A connection, and what is known of its agent. What the agent asks is for `Session`."""

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

    def _handshake(self, data: bytes) -> None:
        """Bytes from somebody who has not shown who it is."""
        try:
            self._link.receive_data(data)
        except LinkError as error:
            self.node.count_refusal(self.refusal)
            self._drop(f"handshake refused: {error}")
            return
        self._transport.write(self._link.data_to_send())
        if self._link.state is LinkState.OPEN:
            self._open()

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

    # -- answers

    def _turn(self) -> None:
        """Goes on with what the agent has asked."""
        raise NotImplementedError

    def _release(self) -> None:
        """One reason less not to go on."""
        raise NotImplementedError

    def _answer(self, answers: list[bytes]) -> None:
        """Answers go out, all of one turn in one write."""
        self._transport.write(self._channel.seal(answers))
        self._last_frame = self.node.courtesy.answered()
        self.node.counts.answered(answers)

    def _pause(self) -> None:
        """Leaves further requests in the kernel, where they hold up their sender alone.

        And the end of them: when it is read, every answer is with the transport, which may close.
        """
        if self._reading and not self.closed:
            self._reading = False
            self._transport.pause_reading()

    # -- deadlines

    def _wait_for_rest(self, now: float) -> None:
        """Half a frame has come; the rest has FRAME_SECONDS from now on."""
        self._begun = now
        self._alarm.set(now + FRAME_SECONDS, self._ring)

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
