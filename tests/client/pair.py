"""A caller and the node's end of a link, joined in memory."""

from __future__ import annotations

from typing import Any

from asys import isa
from asys.client.address import Address
from asys.client.caller import Caller
from asys.client.exchange import Exchange
from asys.client.pending import Pending
from asys.client.renewal import Renewal
from asys.isa.capmap import parse_caps
from asys.protocol.apdu import Frame, FrameParser
from asys.protocol.keys import PrivateKey
from asys.protocol.link import LinkState, NodeLink
from support.wire_node import OK, answer_caps, page_of


class Ear:
    """A waiter that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def done(self) -> bool:
        return bool(self.heard)

    def set_result(self, result: Any, /) -> None:
        self.heard.append(result)

    def set_exception(self, exception: BaseException, /) -> None:
        self.heard.append(exception)


class Pair:
    """A caller and a node, joined by hand."""

    def __init__(
        self,
        *,
        part_b: bool = False,
        accept: bool = True,
        lit: str = "",
        renewal: Renewal | None = None,
    ) -> None:
        """`lit`: a node that speaks part B with this capability map."""
        agent, key = PrivateKey.generate(), PrivateKey.generate()
        self.exchanges: list[Exchange] = []
        self.caller = Caller(
            agent, Address.of("node", 1), key.public, trace=self.exchanges.append, renewal=renewal
        )
        self.node = NodeLink(key)
        self.parser = FrameParser()
        self.opening = Ear()
        self.caller.opening.waiter = self.opening
        while self.node.state is not LinkState.OPEN:
            self.node.receive_data(self.caller.data_to_send())
            self.caller.receive_data(self.node.data_to_send(), 0.0)
        if accept:
            for frame in self.requests():
                if lit:
                    self.reply(page_of(parse_caps(lit), frame.p1))
                else:
                    self.reply(answer_caps(frame, part_b=part_b))
            self.exchanges.clear()

    def requests(self) -> list[Frame]:
        """What the caller has to send, as frames."""
        self.node.receive_data(self.caller.data_to_send())
        return [frame for message in self.node.messages() for frame in self.parser.feed(message)]

    def reply(self, *messages: bytes, now: float = 0.0) -> None:
        """Answers of the node."""
        self.caller.receive_data(self.node.seal(messages), now)

    def rekey(self, now: float = 0.0) -> None:
        """The node's answer to REKEY, and its new keys."""
        self.reply(OK, now=now)
        self.node.rekey()

    def call(
        self, instruction: isa.AnyInstruction, *args: Any, deadline: float = 10.0, now: float = 0.0
    ) -> tuple[Pending, Ear]:
        """A request with somebody who waits for it."""
        pending = self.caller.request(instruction, args, {}, now)
        pending.deadline = deadline
        return self.wait(pending)

    def wait(self, pending: Pending) -> tuple[Pending, Ear]:
        """Lets somebody wait for a request."""
        ear = Ear()
        pending.waiter = ear
        return pending, ear


def throttle(pair: Pair, now: float = 0.0) -> tuple[Pending, Ear]:
    return pair.call(isa.PROC_THROTTLE, 7, "stop", now=now)
