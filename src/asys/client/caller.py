"""Calls without I/O: arguments -> request -> bytes, and bytes -> answer -> result or exception.

Both shells of the SDK are thin because this knows everything but sockets and waiting. Time is an
argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from asys.client.address import Address
from asys.client.arguments import pack
from asys.client.exchange import Exchange, is_success
from asys.client.pending import FOREVER, Pending
from asys.errors import (
    AgentRejected,
    ArgumentError,
    AsysError,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    LinkError,
    OutcomeUnknown,
    ProtocolError,
    SessionLimit,
    UnknownHost,
    status_error,
)
from asys.isa import SYS_CAPS, AnyInstruction, Capabilities, Empty, Level
from asys.protocol.apdu import MAX_STANDARD_DATA, encode_plain, split_response
from asys.protocol.codec import LayoutError
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import AEAD_TAG_SIZE, RECORD_PREFIX_SIZE, SEQ_SIZE
from asys.protocol.link import AgentLink, LinkState
from asys.protocol.status import SW

REMEMBERED: Final = 64
"""Signed frames and their outcomes kept for `resend`; as many as a node takes in flight."""

MAX_ABANDONED: Final = 1024
"""Requests given up on and not yet answered, after which the node counts as dead."""

MAX_BATCH: Final = 65536
"""Bytes of requests after which a write ends; a node that does not read is noticed in between."""

RECORD_OVERHEAD: Final = RECORD_PREFIX_SIZE + AEAD_TAG_SIZE

_PAGE_MASK: Final = 0x03
_PROBE_PAGE: Final = 1


class Caller:
    """The agent's end of one connection, from the first byte to the last, without a socket.

    Write what `data_to_send` gives, feed what arrives to `receive_data`, report the end to `lost`.
    None of these raises; `error` says what ended the connection. `opening` is answered once the
    node has accepted this agent: every connection begins with SYS_CAPS, which an authorised agent
    is never refused with 6982, so that a refused agent can tell.
    """

    def __init__(
        self,
        key: PrivateKey,
        address: Address,
        trusted: bytes | None,
        *,
        trace: Callable[[Exchange], None] | None = None,
    ) -> None:
        """`trusted` is the node's key if it is known. `trace` must not raise."""
        self.link: Final = AgentLink(key)
        self.address: Final = address
        self.agent_key: Final = key.public
        self.error: LinkError | None = None
        self.caps: Capabilities | None = None
        self.speaks_part_b = False
        self._trusted = trusted
        self._trace = trace
        self._unsent: list[Pending] = []
        self._queue: deque[Pending] = deque()
        self._signed: dict[int, Pending] = {}
        self._abandoned = 0
        self._greeted = False
        self.opening: Final = Pending(SYS_CAPS, encode_plain(SYS_CAPS.code), 0)
        self.opening.note = self._note_caps

    @property
    def in_flight(self) -> int:
        """Requests made and not yet answered, those given up on included."""
        return len(self._queue) + len(self._unsent)

    @property
    def stage(self) -> str:
        """What the node owes this agent, for messages about its silence."""
        if self.link.state is LinkState.MAGIC:
            return "show its key"
        if self.link.state is not LinkState.OPEN:
            return "answer the handshake"
        return "answer" if self._greeted else "answer the first request"

    # Requests

    def request(
        self,
        instruction: AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        now: float,
    ) -> Pending:
        """A new request, signed where its instruction must be; it leaves with `data_to_send`.

        ArgumentError: nothing will be sent. ConnectionLost when the connection has ended,
        ProtocolError when the session has used up its Seq.
        """
        if self.error is not None:
            raise self._ended(self.error)
        if instruction.request is Empty and not args and not kwargs:
            p1 = p2 = 0
            payload = b""
        else:
            p1, p2, payload = pack(instruction, args, kwargs)
        if instruction.level is Level.PLAIN:
            pending = Pending(instruction, encode_plain(instruction.code, p1, p2, payload), 0)
        else:
            pending = self._sign(instruction, p1, p2, payload)
        pending.started = now
        self._unsent.append(pending)
        return pending

    def resend(self, seq: int, now: float) -> Pending:
        """The very same signed frame again.

        Its answer is the outcome of the first delivery where the node gave one; 6985 without one
        is AlreadyReceived. ArgumentError when the frame is not among the last REMEMBERED.
        """
        if self.error is not None:
            raise self._ended(self.error)
        original = self._signed.get(seq)
        if original is None:
            raise ArgumentError(
                f"seq {seq} is not among the last {REMEMBERED} signed requests of this connection"
            )
        pending = Pending(original.instruction, original.frame, seq, original)
        pending.started = now
        self._unsent.append(pending)
        return pending

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for `pending` any more. One that has not left yet never will."""
        if pending.answered or pending.abandoned:
            return
        pending.abandoned = True
        if pending in self._unsent:
            self._unsent.remove(pending)
            if self._signed.get(pending.seq) is pending:
                del self._signed[pending.seq]  # its Seq stays unused; gaps are allowed
            return
        self._abandoned += 1
        if self._abandoned > MAX_ABANDONED:
            self.fail(
                DeadlineExceeded(f"{self.address} has left {self._abandoned} requests unanswered")
            )

    def expire(self, now: float) -> None:
        """Gives up on every request whose deadline has passed; the connection stays usable.

        Except when the node has not accepted this agent by the deadline of `opening`.
        """
        if self.opening.deadline <= now and not self.opening.answered:
            self.fail(DeadlineExceeded(f"{self.address} did not {self.stage} in time"))
        late = [
            pending
            for pending in (*self._queue, *self._unsent)
            if pending.deadline <= now and not pending.abandoned
        ]
        for pending in late:
            sent = pending not in self._unsent
            self.abandon(pending)
            silence = DeadlineExceeded(f"{self.address} did not {self.stage} in time")
            pending.give_up(self._unknown(pending, silence) if sent else silence)

    def next_deadline(self) -> float:
        """When `expire` has something to do next; infinity: never."""
        return min(
            (one.deadline for one in (*self._queue, *self._unsent) if not one.abandoned),
            default=FOREVER,
        )

    # Bytes

    def data_to_send(self) -> bytes:
        """Bytes for the node; write them in one piece, and ask again until there are none.

        A piece is little more than MAX_BATCH, so that whoever writes can stop in between.
        """
        if not self._unsent:
            return self.link.data_to_send()
        batch = self._unsent
        if len(batch) > 1:
            batch = _first(batch, MAX_BATCH)
        self._unsent = self._unsent[len(batch) :]
        self._queue.extend(batch)
        return self.link.seal([pending.frame for pending in batch])

    def receive_data(self, data: bytes, now: float) -> None:
        """Takes bytes from the node and settles what they answer."""
        try:
            link = self.link
            link.receive_data(data)
            if link.state is LinkState.OPEN:
                self._receive_messages(now)
                if not self._greeted and not self._queue and not self._unsent:
                    self._probe(now)
            elif link.state is LinkState.KEY_SHOWN:
                self._check_host_key(link.node_key)
                link.begin_handshake()
        except LinkError as error:
            self.fail(error)

    def lost(self, reason: OSError | None = None) -> None:
        """The connection has ended: the node closed it, or `reason`."""
        why = f" ({reason.strerror or reason})" if reason is not None else ""
        state = self.link.state
        if state is LinkState.MAGIC:
            what = (
                "closed the connection before it showed its key; it may have no room for another "
                "session, or something else than asyd listens there"
            )
        elif state is not LinkState.OPEN:
            what = "closed the connection during the handshake"
        elif not self._greeted:
            what = (
                "closed the connection before its first answer; it may not know this agent's key "
                f"{self.agent_key.hex()}, or have no room for another session"
            )
        else:
            what = "closed the connection"
        self.fail(ConnectionLost(f"{self.address} {what}{why}"))

    def fail(self, error: LinkError) -> None:
        """Ends the connection for `error`; whoever waits is told. Only the first error counts."""
        if self.error is not None:
            return
        self.error = error
        self.link.fail()
        sent, unsent = list(self._queue), self._unsent
        self._queue.clear()
        self._unsent = []
        for pending in sent:
            pending.give_up(self._unknown(pending, error))
        for pending in unsent:
            pending.give_up(_anew(error))
        self.opening.give_up(error)

    # Inside

    def _sign(self, instruction: AnyInstruction, p1: int, p2: int, payload: bytes) -> Pending:
        if instruction.level is not Level.SIGNED:
            raise ArgumentError(
                f"{instruction.name} must be encrypted and signed; this version cannot send that"
            )
        if len(payload) > MAX_STANDARD_DATA - SEQ_SIZE and not self.speaks_part_b:
            raise ArgumentError(
                f"{instruction.name} with {len(payload)} bytes needs an extended signed frame, "
                f"which {self.address} cannot verify; it takes {MAX_STANDARD_DATA - SEQ_SIZE} bytes"
            )
        signer = self.link.signer
        frame = signer.sign(instruction.code, p1, p2, payload)
        pending = Pending(instruction, frame, signer.seq)
        self._signed[signer.seq] = pending
        if len(self._signed) > REMEMBERED:
            del self._signed[next(iter(self._signed))]
        return pending

    def _check_host_key(self, key: bytes) -> None:
        if self._trusted is None:
            raise UnknownHost(str(self.address), key)
        if self._trusted != key:
            raise HostKeyChanged(str(self.address), key, self._trusted)

    def _probe(self, now: float) -> None:
        """Asks who this agent is to the node: both pages in one write, so in one round trip."""
        probe = Pending(SYS_CAPS, encode_plain(SYS_CAPS.code, p1=_PROBE_PAGE), 0)
        probe.note = self._note_page
        probe.started = self.opening.started = now
        self._unsent += (probe, self.opening)

    def _note_page(self, caps: Capabilities) -> None:
        self.speaks_part_b = caps.page & _PAGE_MASK == _PROBE_PAGE

    def _note_caps(self, caps: Capabilities) -> None:
        self.caps = caps

    def _receive_messages(self, now: float) -> None:
        link = self.link
        while messages := link.messages():
            for message in messages:
                self._take(message, now)
            if not link.channel.buffered:
                return

    def _take(self, message: bytes, now: float) -> None:
        """One response: finds its request and settles it."""
        payload, sw = split_response(message)
        if not self._greeted:
            self._check_greeting(sw)
        if not self._queue:
            raise ProtocolError(f"{self.address} answered {sw:04X} to nothing that was asked")
        pending = self._queue[0]
        if is_success(sw):
            try:
                pending.result = pending.instruction.reply.unpack(payload)
            except LayoutError as error:
                raise ProtocolError(
                    f"{self.address} answered {pending.instruction.name} with {sw:04X} and a "
                    f"malformed payload: {error}"
                ) from None
        elif sw == SW.ALREADY_RECEIVED:
            self._repeat_outcome(pending)
        else:
            pending.error = status_error(sw, pending.instruction.name, pending.seq)
        self._queue.popleft()
        if pending.abandoned:
            self._abandoned -= 1
        if self._trace is not None:
            self._trace(_exchange(pending, sw, len(message), now))
        pending.settle()
        original = pending.original
        if original is not None and not original.has_outcome:
            original.result, original.error = pending.result, pending.error
            original.answered = True

    def _check_greeting(self, sw: int) -> None:
        """The node's first message says whether it takes this agent (docs/protocol.md, 1)."""
        if sw == SW.DENIED:
            raise AgentRejected(
                f"{self.address} does not know this agent; an admin of the node adds it with: "
                f"asyd agents add {self.agent_key.hex()}"
            )
        if sw == SW.BLOCKED:
            raise SessionLimit(
                f"{self.address} has no room for another session; back off and try again"
            )
        self._greeted = True

    def _repeat_outcome(self, pending: Pending) -> None:
        """6985 says that the frame came before, and nothing more: the first answer counts."""
        name = pending.instruction.name
        first = pending.original
        if first is None or not first.has_outcome:
            pending.error = status_error(SW.ALREADY_RECEIVED, name, pending.seq)
        elif first.error is None:
            pending.result = first.result
        else:
            pending.error = status_error(first.error.sw, name, pending.seq)

    def _unknown(self, pending: Pending, reason: LinkError) -> AsysError:
        """What the waiter of a request is told that was sent and got no answer."""
        if not pending.seq:
            return _anew(reason)
        name = pending.instruction.name
        unknown = OutcomeUnknown(
            f"{name} (Seq {pending.seq}) was sent to {self.address}, and whether it ran is not "
            f"known: {reason}",
            instruction=name,
            seq=pending.seq,
        )
        unknown.__cause__ = reason
        return unknown

    def _ended(self, error: LinkError) -> ConnectionLost:
        ended = ConnectionLost(f"the connection to {self.address} has ended: {error}")
        ended.__cause__ = error
        return ended


def _first(requests: list[Pending], size: int) -> list[Pending]:
    """The requests at the front that reach `size` bytes together, or all."""
    total = 0
    for count, pending in enumerate(requests, start=1):
        total += len(pending.frame)
        if total >= size:
            return requests[:count]
    return requests


def _exchange(pending: Pending, sw: int, size: int, now: float) -> Exchange:
    """What is told about a request whose answer has `size` bytes."""
    return Exchange(
        pending.instruction.name,
        sw,
        pending.seq or None,
        round((now - pending.started) * 1e9),
        RECORD_OVERHEAD + len(pending.frame),
        RECORD_OVERHEAD + size,
    )


def _anew(error: LinkError) -> LinkError:
    """The same error as an exception of its own, for one of several that it is raised to."""
    return type(error)(*error.args)  # these take one message; host key errors precede any request
