"""A node that has two keys for a time: which it takes message 1 for, and what that costs."""

from __future__ import annotations

import pytest

from asys.errors import HandshakeError
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.noise import Initiator
from protocol.links import AGENT

OLD, NEXT, OTHER = (PrivateKey(bytes([number]) * 32) for number in (11, 12, 13))
MAGIC = b"ASYS"


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The public key of whoever does a DH, one for each."""
    done: list[bytes] = []
    exchange = PrivateKey.exchange

    def counted(self: PrivateKey, public: bytes) -> bytes:
        done.append(self.public)
        return exchange(self, public)

    monkeypatch.setattr(PrivateKey, "exchange", counted)
    return done


def node(*, rotating: bool = True) -> NodeLink:
    link = NodeLink(OLD, more=(NEXT,) if rotating else ())
    link.receive_data(MAGIC)
    return link


@pytest.mark.parametrize("key", [OLD, NEXT], ids=["old", "next"])
def test_both_keys_open_a_session_and_the_old_one_is_shown(key: PrivateKey) -> None:
    agent, end = AgentLink(AGENT), node()
    assert agent.data_to_send() == MAGIC
    agent.receive_data(end.data_to_send())
    assert agent.shown_key == agent.node_key == OLD.public
    agent.begin_handshake(key.public)
    end.receive_data(agent.data_to_send())
    agent.receive_data(end.data_to_send())
    assert (agent.state, end.state) == (LinkState.OPEN, LinkState.OPEN)
    assert agent.shown_key == OLD.public
    assert agent.node_key == end.node_key == key.public
    assert end.agent_key == AGENT.public
    assert agent.keys is not None
    assert end.keys is not None
    assert agent.keys.handshake_hash == end.keys.handshake_hash
    end.receive_data(agent.seal([b"hello"]))
    assert end.messages() == [b"hello"]


@pytest.mark.parametrize(("rotating", "key"), [(True, OTHER), (False, NEXT)])
def test_no_other_key_does(rotating: bool, key: PrivateKey) -> None:
    end = node(rotating=rotating)
    end.data_to_send()
    with pytest.raises(HandshakeError):
        end.receive_data(Initiator(AGENT, key.public).write_message_1())
    assert end.state is LinkState.FAILED
    assert end.data_to_send() == b""


def by_node(exchanges: list[bytes]) -> int:
    return sum(one in (OLD.public, NEXT.public) for one in exchanges)


@pytest.mark.parametrize(
    ("rotating", "key", "most"),
    [(False, OLD, 2), (True, NEXT, 2), (True, OLD, 3)],
    ids=["one key", "next key", "old key"],
)
def test_an_agent_costs_one_exchange_more_at_most(
    exchanges: list[bytes], rotating: bool, key: PrivateKey, most: int
) -> None:
    message = Initiator(AGENT, key.public).write_message_1()
    exchanges.clear()
    node(rotating=rotating).receive_data(message)
    assert by_node(exchanges) == most


@pytest.mark.parametrize(("rotating", "most"), [(False, 1), (True, 2)])
def test_garbage_costs_one_exchange_for_each_key(
    exchanges: list[bytes], rotating: bool, most: int
) -> None:
    end = node(rotating=rotating)
    with pytest.raises(HandshakeError):
        end.receive_data(PrivateKey.generate().public + bytes(64))
    assert by_node(exchanges) == most


@pytest.mark.parametrize(("key", "most"), [(NEXT, 2), (OLD, 3)])
def test_a_bad_proof_is_not_tried_with_the_other_key(
    exchanges: list[bytes], key: PrivateKey, most: int
) -> None:
    """Who knows the node's keys can get as far as `ss`, and there it ends."""
    message = bytearray(Initiator(AGENT, key.public).write_message_1())
    message[-1] ^= 1
    end = node()
    exchanges.clear()
    with pytest.raises(HandshakeError):
        end.receive_data(bytes(message))
    assert by_node(exchanges) == most


def test_a_key_of_low_order_costs_one_exchange(exchanges: list[bytes]) -> None:
    end = node()
    with pytest.raises(HandshakeError):
        end.receive_data(bytes(96))
    assert by_node(exchanges) == 1
