"""Calls whose payload leaves in fragments (docs/protocol.md, section 7.14), without I/O.

The first fragment goes alone, for its answer is the handle that all others need; these then leave
together. One chain at a time begins on a connection, as a node keeps one a session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from asys.client.arguments import room
from asys.client.lit import Lit
from asys.client.pending import Pending
from asys.client.signed import SignedRequests
from asys.errors import ArgumentError, AsysError, LinkError, OutcomeUnknown
from asys.isa import CONTINUE, AnyInstruction, ChainHandle, Empty, Level
from asys.protocol.apdu import encode_plain
from asys.protocol.codec import Layout
from asys.protocol.link import AgentLink

FRAGMENT: Final = 16_384
"""Bytes of payload in each fragment: many fit the node's memory, and one is no long work for it."""

HANDLE_SIZE: Final = 4

Parts = tuple[int, int, bytes]
"""P1, P2 and payload."""


def is_too_long(instruction: AnyInstruction, payload: bytes) -> bool:
    """Whether a request must leave in fragments; what is not chainable never does."""
    return instruction.chainable and len(payload) > room(instruction)


def fragments(payload: bytes) -> Iterator[bytes]:
    """A payload in pieces of FRAGMENT bytes at most; one empty piece where it is empty."""
    yield payload[:FRAGMENT]
    for start in range(FRAGMENT, len(payload), FRAGMENT):
        yield payload[start : start + FRAGMENT]


class Chain:
    """One call. `last` is the request whose answer its caller waits for; its frame is made when the
    handle is there.
    """

    def __init__(self, instruction: AnyInstruction, parts: Parts) -> None:
        self.last: Final = Pending(instruction, b"", 0)
        self.last.parts = parts
        self.pieces: Final = list(fragments(parts[2]))
        self.before: Final[list[Pending]] = []
        """The requests of the fragments before the last one, as far as they are made."""


class Chains:
    """The chained calls of one connection."""

    def __init__(
        self,
        link: AgentLink,
        lit: Lit,
        signed: SignedRequests,
        leave: Callable[[Pending], None],
        drop: Callable[[Pending], bool],
    ) -> None:
        """`leave` lets a request leave in its turn, `drop` keeps one back unless it has left."""
        self._link = link
        self._lit = lit
        self._signed = signed
        self._leave = leave
        self._drop = drop
        self._waiting: deque[Chain] = deque()  # the first one waits for its handle
        self._begun: deque[Chain] = deque()  # all fragments are made, and the last has no answer

    def call(self, instruction: AnyInstruction, parts: Parts, now: float) -> Pending:
        """The request to wait for. It leaves when the chains before it have their handles.

        ArgumentError: the node takes none. ProtocolError: Seq is used up.
        """
        chain = Chain(instruction, parts)
        chain.last.started = now
        if not self._waiting:
            self._begin(chain)
        self._waiting.append(chain)
        return chain.last

    def unmade(self) -> list[Pending]:
        """The requests that are waited for and have no frame yet: nothing has been done."""
        return [chain.last for chain in self._waiting]

    def abandon(self, last: Pending) -> bool:
        """Nobody waits for `last` any more. True: it has no frame, and never will."""
        for chain in self._waiting:
            if chain.last is last:
                if chain is not self._waiting[0]:
                    self._waiting.remove(chain)
                elif self._drop(chain.before[0]):
                    self._waiting.popleft()
                    self._begin_next()
                else:
                    last.abandoned = True  # its handle is waited for all the same
                return True
        for chain in self._begun:
            if chain.last is last:
                for pending in chain.before:
                    self._drop(pending)
        return False

    def clear(self) -> None:
        """The connection has ended."""
        self._waiting.clear()
        self._begun.clear()

    def _begin(self, chain: Chain) -> None:
        """Lets the first fragment leave."""
        last = chain.last
        p1, p2, _ = last.parts
        parts = (p1, p2, chain.pieces[0])
        first = self._make(last.instruction, last.instruction.code, parts, ChainHandle)
        first.waiter = _First(self, chain)
        chain.before.append(first)
        self._leave(first)

    def _begin_next(self) -> None:
        while self._waiting:
            try:
                self._begin(self._waiting[0])
                return
            except AsysError as error:
                self._waiting.popleft().last.give_up(error)

    def _end(self, chain: Chain) -> None:
        if chain in self._waiting:
            self._waiting.remove(chain)

    def started(self, chain: Chain, handle: int) -> None:
        """The node has given a chain its handle: all other fragments leave."""
        self._end(chain)
        if not chain.last.abandoned:
            self._go_on(chain, handle.to_bytes(HANDLE_SIZE, "big"))
        self._begin_next()

    def _go_on(self, chain: Chain, handle: bytes) -> None:
        last = chain.last
        try:
            for piece in chain.pieces[1:-1]:
                parts = (0, 0, handle + piece)
                pending = self._make(last.instruction, CONTINUE.code, parts, Empty)
                pending.waiter = _Between(chain)
                chain.before.append(pending)
                self._leave(pending)
            self._fill(last, CONTINUE.code, (0, 0, handle + chain.pieces[-1]))
        except AsysError as error:  # out of Seq: what has been made is of no use without the last
            for pending in chain.before:
                self._drop(pending)
            last.give_up(error)
            return
        while self._begun and self._begun[0].last.answered:
            self._begun.popleft()
        self._begun.append(chain)
        self._leave(last)

    def _make(
        self, instruction: AnyInstruction, code: int, parts: Parts, reply: type[Layout]
    ) -> Pending:
        """The request of a fragment that is not the last. ArgumentError, ProtocolError."""
        if not self._lit.speaks_part_b:
            raise ArgumentError(
                f"{instruction.name} is too long for one frame, and this node takes no fragments: "
                "it does not speak part B of the protocol, or does not let this agent see that it "
                "does (SYS_CAPS)"
            )
        pending = Pending(instruction, b"", 0)
        pending.reply = reply
        pending.more = True
        self._fill(pending, code, parts)
        return pending

    def _fill(self, pending: Pending, code: int, parts: Parts) -> None:
        """Makes the frame of a request. ProtocolError: Seq is used up."""
        pending.code = code
        if pending.instruction.level is Level.PLAIN:
            pending.parts = parts
            pending.frame = encode_plain(code, *parts, more=pending.more)
        else:
            self._signed.fill(self._link.signer, pending, parts)

    def refused(self, chain: Chain, error: BaseException) -> None:
        """The node does not take the first fragment, or the connection has ended before it said so.

        Either way nothing has been done.
        """
        self._end(chain)
        if isinstance(error, OutcomeUnknown) and isinstance(error.__cause__, LinkError):
            error = type(error.__cause__)(*error.__cause__.args)
        if isinstance(error, AsysError):
            chain.last.give_up(error)
        self._begin_next()


class _First:
    """Waits for the handle of a chain."""

    def __init__(self, chains: Chains, chain: Chain) -> None:
        self._chains = chains
        self._chain = chain

    def done(self) -> bool:
        """As Waiter.done."""
        return False

    def set_result(self, result: Any, /) -> None:
        """As Waiter.set_result."""
        self._chains.started(self._chain, result.handle)

    def set_exception(self, exception: BaseException, /) -> None:
        """As Waiter.set_exception."""
        self._chains.refused(self._chain, exception)


class _Between:
    """Waits for what a fragment is answered that is neither the first nor the last.

    A status word is what the call has come to: the node has ended the chain. Of a lost connection
    the last fragment tells, which may have left or not.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def done(self) -> bool:
        """As Waiter.done."""
        return False

    def set_result(self, result: Any, /) -> None:
        """As Waiter.set_result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """As Waiter.set_exception."""
        if isinstance(exception, AsysError) and not isinstance(
            exception, LinkError | OutcomeUnknown
        ):
            self._chain.last.give_up(exception)
