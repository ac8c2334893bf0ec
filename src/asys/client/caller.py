"""Calls without I/O: arguments -> request -> bytes, and bytes -> answer -> result or exception.

Both shells of the SDK are thin because this knows everything but sockets and waiting. Time is an
argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asys.client.address import Address
from asys.client.arguments import pack
from asys.client.chained import Chains, is_too_long
from asys.client.endings import anew, closed, ended, refusal, unanswered
from asys.client.exchange import Exchange, exchange_of
from asys.client.lit import Lit
from asys.client.next_key import Carry, KeyRecord
from asys.client.pending import FOREVER, Pending
from asys.client.pipeline import Pipeline
from asys.client.renewal import Renewal
from asys.client.signed import SignedRequests
from asys.client.silence import Silence
from asys.client.tasks import Handles
from asys.client.upkeep import Upkeep, capability_pages
from asys.errors import DeadlineExceeded, LinkError, ProtocolError, UnknownHost
from asys.isa import (
    ABANDON,
    REKEY,
    SYS_HELLO,
    TASK_CANCEL,
    TASK_QUERY,
    AnyInstruction,
    Empty,
    Level,
)
from asys.protocol.apdu import encode_plain, split_response
from asys.protocol.codec import LayoutError
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState

MAX_ABANDONED: Final = 1024
"""Requests given up on and not yet answered, after which the node counts as dead."""

OF_THIS_SESSION: Final = (TASK_QUERY, TASK_CANCEL, REKEY, ABANDON)
"""Instructions that mean something else in another session."""


class Caller:
    """The agent's end of one connection, from the first byte to the last, without a socket.

    Write what `data_to_send` gives, feed what arrives to `receive_data`, report the end to `lost`.
    None of these raises; `error` says what ended the connection. `opening` is answered once the
    node has accepted this agent: every connection begins with SYS_CAPS, which an authorised agent
    is never refused with 6982, so that a refused agent can tell.

    Keys that have served long enough are renewed by a REKEY in front of the next request, where the
    node has it.
    """

    def __init__(
        self,
        key: PrivateKey,
        address: Address,
        trusted: bytes | None,
        *,
        trace: Callable[[Exchange], None] | None = None,
        renewal: Renewal | None = None,
        superseded: frozenset[bytes] = frozenset(),
        carry: Carry | None = None,
    ) -> None:
        """`trusted` is the node's key if it is known, `superseded` are those that it had before.
        `trace` must not raise. `carry` is called with what the node's key states about the next.
        """
        self.link: Final = AgentLink(key)
        self.address: Final = address
        self.agent_key: Final = key.public
        self.error: LinkError | None = None
        self.lit: Final = Lit()
        self.renewal: Final = renewal or Renewal()
        self.handles: Final = Handles()
        self.silence: Final = Silence()
        self.session = 1  # 2 for the connection that took the place of the first, and so on
        self.spoke = 0.0  # when a request was last made
        self.node_keys: Final = KeyRecord(address, trusted, superseded, carry)
        self._key = key
        self._trace = trace
        self._pipeline = Pipeline()
        self._upkeep = Upkeep(self.link, self.lit, self.node_keys, self.handles, self._pipeline)
        self.opening: Final = self._upkeep.opening
        self._signed = SignedRequests(address)
        self._chains = Chains(self.link, self.lit, self._signed, self._leave, self._drop)
        self._now = 0.0  # when bytes were last received
        self._abandoned = 0
        self._greeted = False

    @property
    def in_flight(self) -> int:
        """Requests made and not yet answered, those given up on included."""
        return len(self._pipeline)

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
            raise ended(self.address, self.error)
        if instruction.request is Empty and not args and not kwargs:
            parts = (0, 0, b"")
        else:
            parts = pack(instruction, args, kwargs)
            if is_too_long(instruction, parts[2]):
                self._now = now
                return self._chains.call(instruction, parts, now)
        if instruction.level is Level.PLAIN:
            pending = Pending(instruction, encode_plain(instruction.code, *parts), 0)
            pending.parts = parts
        else:
            pending = self._signed.make(
                self.link.signer, instruction, parts, speaks_part_b=self.lit.speaks_part_b
            )
        self._append(pending, now)
        return pending

    def refresh(self, now: float) -> Pending:
        """Asks for all pages of the capability map anew; the one to wait for is the last of them.

        ConnectionLost when the connection has ended.
        """
        if self.error is not None:
            raise ended(self.address, self.error)
        pages = capability_pages()
        for page in pages:
            self._append(page, now)
        return pages[-1]

    def resend(self, seq: int, now: float) -> Pending:
        """The very same signed request again: same Seq, same bytes unless the keys changed.

        Its answer is the outcome of the first delivery where the node gave one; 6985 without one
        is AlreadyReceived. ArgumentError when it is not among the last that are kept.
        """
        if self.error is not None:
            raise ended(self.address, self.error)
        pending = self._signed.again(self.link.signer, seq)
        self._append(pending, now)
        return pending

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for `pending` any more. One that has not left yet never will."""
        if pending.answered or pending.abandoned:
            return
        pending.abandoned = True
        if self._chains.abandon(pending) or self._drop(pending):
            return
        self._abandoned += 1
        if self._abandoned > MAX_ABANDONED:
            self.fail(
                DeadlineExceeded(f"{self.address} has left {self._abandoned} requests unanswered")
            )

    def keep_alive(self, now: float) -> Pending:
        """A SYS_HELLO that is no call: it neither renews keys nor makes the connection busy.

        ConnectionLost when the connection has ended.
        """
        if self.error is not None:
            raise ended(self.address, self.error)
        self._upkeep.look(now)
        pending = Pending(SYS_HELLO, encode_plain(SYS_HELLO.code), 0)
        pending.started = self.spoke = now
        self._pipeline.append(pending)
        return pending

    def expire(self, now: float) -> None:
        """Gives up on every request whose deadline has passed; the connection stays usable.

        Except when the node has not accepted this agent by the deadline of `opening`, leaves REKEY
        unanswered, or has been silent for too long.
        """
        if self.opening.deadline <= now and not self.opening.answered:
            self.fail(DeadlineExceeded(f"{self.address} did not {self.stage} in time"))
        elif self.silence.until(self._pipeline.sent) <= now:
            self.fail(DeadlineExceeded(f"{self.address} owes an answer and says nothing any more"))
        late = [pending for pending in self._awaited() if pending.deadline <= now]
        if self._pipeline.rekeying in late:  # nothing could ever follow it
            self.fail(DeadlineExceeded(f"{self.address} did not answer REKEY in time"))
            return
        for pending in late:
            sent = pending in self._pipeline.sent
            self.abandon(pending)
            silence = DeadlineExceeded(f"{self.address} did not {self.stage} in time")
            pending.give_up(unanswered(pending, self.address, silence) if sent else silence)

    def next_deadline(self) -> float:
        """When `expire` has something to do next; infinity: never."""
        first = min((pending.deadline for pending in self._awaited()), default=FOREVER)
        return min(first, self.silence.until(self._pipeline.sent))

    # Renewal

    def outlived(self, instruction: AnyInstruction, now: float) -> bool:
        """A new connection is better than this one, and nothing would be lost with this one.

        So its keys are due, nobody called for a while, nothing is under way, no task and no signed
        request has an outcome that its caller may still ask for, and the next call is not about
        this session: nor about a PID, which it may have been shown here, so that the node knows
        whether it is still the same process.
        """
        return (
            instruction not in OF_THIS_SESSION
            and "pid" not in instruction.request.FIELDS
            and now >= self.renewal.idle_from
            and self.renewal.due(now)
            and self.error is None
            and not self.in_flight
            and not self._signed.unsettled
            and not self.handles.owed(now)
        )

    def successor(self) -> Caller:
        """The caller of a connection that may take this one's place: same node, same agent."""
        keys = self.node_keys.again(self.link)
        return Caller(
            self._key,
            self.address,
            keys.trusted,
            renewal=self.renewal.again(),
            superseded=keys.superseded,
            carry=keys.carry,
        )

    def take_over(self, before: Caller) -> None:
        """Goes on for the caller of an earlier connection: with its trace, and above its Seq.

        So a Seq names one request for ever, and none of this session is taken for another of that.
        """
        self._trace = before._trace
        self.link.signer.seq = before.link.signer.seq
        self.silence.limit = before.silence.limit
        self.session = before.session + 1

    def stay(self, now: float) -> None:
        """No new connection could be made; this one goes on, with new keys where it can."""
        if not self.lit.has(REKEY.code):
            self.renewal.begin(now)

    # Bytes

    def data_to_send(self) -> bytes:
        """Bytes for the node; write them in one piece, and ask again until there are none.

        A piece is little more than `pipeline.MAX_BATCH`, so whoever writes can stop in between.
        """
        if not self._pipeline.unsent:
            return self.link.data_to_send()
        batch = self._pipeline.batch()
        if not batch:
            return b""
        self.renewal.carried += len(batch)
        return self.link.seal([pending.frame for pending in batch])

    def receive_data(self, data: bytes, now: float) -> None:
        """Takes bytes from the node and settles what they answer."""
        self._now = self.silence.heard = now
        try:
            link = self.link
            link.receive_data(data)
            if link.state is LinkState.OPEN:
                self.node_keys.proven = True
                self._receive_messages(now)
                if not self._greeted and not self.in_flight:
                    self._greet(now)
            elif link.state is LinkState.KEY_SHOWN:
                if self.node_keys.trusted is None:
                    raise UnknownHost(str(self.address), link.shown_key)
                link.begin_handshake(self.node_keys.trusted)
        except LinkError as error:
            self.fail(error)

    def lost(self, reason: OSError | None = None) -> None:
        """The connection has ended: the node closed it, or `reason`."""
        state = self.link.state
        self.fail(closed(self.address, self.agent_key, state, self._greeted, reason))

    def fail(self, error: LinkError) -> None:
        """Ends the connection for `error`; whoever waits is told. Only the first error counts."""
        if self.error is not None:
            return
        self.error = error = self.node_keys.explained(error, self.link)
        self.link.fail()
        sent, unsent = self._pipeline.clear()
        unmade = self._chains.unmade()
        self._chains.clear()
        for pending in sent:
            pending.give_up(unanswered(pending, self.address, error))
        for pending in (*unsent, *unmade):
            pending.give_up(anew(error))
        self.opening.give_up(error)

    # Inside

    def _awaited(self) -> Iterator[Pending]:
        """The requests without an answer that somebody may still wait for."""
        for pending in (*self._pipeline.sent, *self._pipeline.unsent, *self._chains.unmade()):
            if not pending.abandoned:
                yield pending

    def _greet(self, now: float) -> None:
        """The handshake is done."""
        self.renewal.begin(now)
        for page in self._upkeep.greeting(now):
            self._append(page, now)

    def _append(self, pending: Pending, now: float) -> None:
        """Lets a request leave when its turn comes, behind a REKEY where one is due."""
        self._upkeep.look(now)
        if self.renewal.called(now) and pending.instruction is not REKEY:
            self._upkeep.rekey(now)
        pending.started = pending.started or now
        self.spoke = now
        self._pipeline.append(pending)

    def _leave(self, pending: Pending) -> None:
        self._append(pending, self._now)

    def _drop(self, pending: Pending) -> bool:
        """Keeps a request back. False: it has left."""
        if not self._pipeline.withdraw(pending):
            return False
        self._signed.forget(pending)
        self._upkeep.withdrawn(pending)
        return True

    def _rekeyed(self, pending: Pending, now: float) -> None:
        """The node has answered REKEY; with success, all that follows has new keys."""
        if pending.error is None:
            self.link.rekey()
            self._signed.rekeyed(self.link.signer, self._pipeline.unsent)
        self.renewal.begin(now)

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
            refused = refusal(self.address, self.agent_key, sw)
            if refused is not None:
                raise refused
            self._greeted = True
        if not self._pipeline.sent:
            raise ProtocolError(f"{self.address} answered {sw:04X} to nothing that was asked")
        pending = self._pipeline.sent[0]
        try:
            pending.answer(sw, payload)
        except LayoutError as error:
            raise ProtocolError(
                f"{self.address} answered {pending.instruction.name} with {sw:04X} and a malformed "
                f"payload: {error}"
            ) from None
        if pending is self._pipeline.rekeying:
            self._rekeyed(pending, now)
        self._pipeline.answered()
        if pending.abandoned:
            self._abandoned -= 1
        settled = self._upkeep.answered(pending, now)
        if self._trace is not None and not pending.unasked:
            self._trace(exchange_of(pending, sw, len(message), now))
        if settled:
            pending.settle()
