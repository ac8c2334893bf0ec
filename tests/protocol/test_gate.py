"""What a node asks before it spends work on a stranger: when it asks, and what a refusal does."""

from __future__ import annotations

import pytest
from hypothesis import given

from asys.errors import HandshakeError
from asys.protocol import keys
from asys.protocol.keys import PrivateKey
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.noise import Initiator
from protocol.links import AGENT, NODE, SHOWN, assert_failed
from protocol.streams import cut, marks

EPHEMERAL = PrivateKey(bytes([3]) * 32)
MESSAGE_1 = Initiator(AGENT, NODE.public, ephemeral=EPHEMERAL).write_message_1()


class Doorkeeper:
    """Answers as it is told to and notes what it is asked."""

    def __init__(self, greeted: str = "", knocked: str = "") -> None:
        self.answers = {"greeted": greeted, "knocked": knocked}
        self.asked: list[str | bytes] = []

    def greeted(self) -> str:
        self.asked.append("greeted")
        return self.answers["greeted"]

    def knocked(self, ephemeral: bytes) -> str:
        self.asked.append(ephemeral)
        return self.answers["knocked"]


@given(marks)
def test_each_question_is_asked_once_and_in_order(at: list[int]) -> None:
    gate = Doorkeeper()
    node = NodeLink(NODE, gate)
    assert gate.asked == []
    for piece in cut(b"ASYS" + MESSAGE_1, at):
        node.receive_data(piece)
    assert gate.asked == ["greeted", EPHEMERAL.public]
    assert node.state is LinkState.OPEN
    assert (node.agent_key, node.ephemeral) == (AGENT.public, EPHEMERAL.public)


def test_each_question_is_asked_as_soon_as_it_can_be() -> None:
    gate = Doorkeeper()
    node = NodeLink(NODE, gate)
    node.receive_data(b"ASY")
    assert gate.asked == []
    node.receive_data(b"S")
    assert gate.asked == ["greeted"]
    node.receive_data(MESSAGE_1[:-1])
    assert gate.asked == ["greeted"]
    assert node.ephemeral == b""
    node.receive_data(MESSAGE_1[-1:])
    assert gate.asked == ["greeted", EPHEMERAL.public]


@pytest.mark.parametrize("together", [False, True])
def test_who_is_not_let_in_after_the_magic_gets_no_byte(together: bool) -> None:
    gate = Doorkeeper(greeted="too many handshakes")
    node = NodeLink(NODE, gate)
    with pytest.raises(HandshakeError, match=r"^too many handshakes$"):
        node.receive_data(b"ASYS" + MESSAGE_1 * together)
    assert gate.asked == ["greeted"]
    assert node.agent_key == b""
    assert_failed(node)


@pytest.mark.parametrize("together", [False, True])
def test_who_knocks_a_second_time_gets_no_answer(together: bool) -> None:
    """What had not been sent by then is not sent any more."""
    gate = Doorkeeper(knocked="seen before")
    node = NodeLink(NODE, gate)
    if not together:
        node.receive_data(b"ASYS")
        assert node.data_to_send() == SHOWN
    with pytest.raises(HandshakeError, match=r"^seen before$"):
        node.receive_data(b"ASYS" * together + MESSAGE_1)
    assert gate.asked == ["greeted", EPHEMERAL.public]
    assert (node.agent_key, node.ephemeral) == (b"", b"")
    assert_failed(node)


class Counted:
    """Counts every elliptic-curve operation that the node does, and can forbid them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done = 0
        exchange, generate = keys.PrivateKey.exchange, keys.PrivateKey.generate

        def counted_exchange(key: PrivateKey, public: bytes) -> bytes:
            self.done += 1
            return exchange(key, public)

        def counted_generate() -> PrivateKey:
            self.done += 1
            return generate()

        patch.setattr(keys.PrivateKey, "exchange", counted_exchange)
        patch.setattr(keys.PrivateKey, "generate", counted_generate)


def test_the_counter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """es and ss, then a new key, ee and se: what a refusal saves."""
    work = Counted(monkeypatch)
    node = NodeLink(NODE, Doorkeeper())
    node.receive_data(b"ASYS")
    assert work.done == 0
    node.receive_data(MESSAGE_1)
    assert node.state is LinkState.OPEN
    assert work.done == 5


@pytest.mark.parametrize("gate", [Doorkeeper(greeted="no"), Doorkeeper(knocked="no")])
@pytest.mark.parametrize("message", [MESSAGE_1, bytes(96), b"\xff" * 96])
def test_a_refusal_costs_no_elliptic_curve_work(
    gate: Doorkeeper, message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Counted(monkeypatch)
    node = NodeLink(NODE, gate)
    with pytest.raises(HandshakeError, match=r"^no$"):
        node.receive_data(b"ASYS" + message)
    assert work.done == 0
    assert_failed(node)


def test_a_stranger_is_asked_about_before_it_has_proven_anything() -> None:
    """The gate hears of every message 1; whether it authenticates is found out after that."""
    gate = Doorkeeper()
    node = NodeLink(NODE, gate)
    damaged = MESSAGE_1[:-1] + bytes((MESSAGE_1[-1] ^ 1,))
    with pytest.raises(HandshakeError, match="does not authenticate"):
        node.receive_data(b"ASYS" + damaged)
    assert gate.asked == ["greeted", EPHEMERAL.public]
    assert (node.agent_key, node.ephemeral) == (b"", b"")
    assert_failed(node)


def test_who_does_not_say_the_magic_is_not_asked_about() -> None:
    gate = Doorkeeper(greeted="no")
    node = NodeLink(NODE, gate)
    with pytest.raises(HandshakeError, match="does not speak ASys"):
        node.receive_data(b"GET ")
    assert gate.asked == []
    assert_failed(node)
