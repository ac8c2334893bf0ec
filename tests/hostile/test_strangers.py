"""Peers that never show who they are; a well-behaved session gets right answers all the while."""

from __future__ import annotations

import contextlib

import pytest

from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC, MESSAGE_1_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon
from support.frames import DENIED, HELLO, scrambled
from support.raw_agent import RawAgent

GARBAGE = {
    "zero": bytes(4),
    "ones": b"\xff" * 4,
    "lower case": b"asys",
    "late": b"ASYT",
    "http": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    "tls": bytes.fromhex("16030100f1010000ed0303"),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a lot": bytes(1 << 20),
}


def message_1(node_key: bytes, agent: PrivateKey = AGENT) -> bytes:
    """What an agent sends to the node with that key."""
    link = AgentLink(agent)
    link.data_to_send()
    link.receive_data(MAGIC + b"\x01\x00" + node_key)
    link.begin_handshake()
    return link.data_to_send()


def write(agent: RawAgent, data: bytes) -> None:
    """Sends what the node takes of it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        agent.write(data)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_answered_with_nothing(node: Daemon, garbage: str) -> None:
    with node.dial() as agent:
        write(agent, GARBAGE[garbage])
        assert agent.rest() == b""


def test_random_bytes_are_answered_with_nothing(node: Daemon) -> None:
    for number in range(200):
        with node.dial() as agent:
            write(agent, scrambled(4 + number, f"stranger {number}"))
            assert agent.rest() == b""


def test_a_right_magic_and_garbage(node: Daemon) -> None:
    for number in range(100):
        with node.dial() as agent:
            agent.magic()
            write(agent, scrambled(MESSAGE_1_SIZE + number, f"message {number}"))
            assert agent.rest() == b""


def test_everything_in_one_segment(node: Daemon) -> None:
    with node.dial() as agent:
        agent.write(MAGIC + bytes(MESSAGE_1_SIZE))
        assert agent.rest() == b""


@pytest.mark.parametrize("byte", [0, 31, 32, 79, 80, 95])
def test_a_message_1_with_one_bit_wrong(node: Daemon, byte: int) -> None:
    with node.dial() as agent:
        wrong = bytearray(message_1(agent.magic()))
        wrong[byte] ^= 1
        agent.write(bytes(wrong))
        assert agent.rest() == b""


def test_a_message_1_to_another_node(node: Daemon) -> None:
    with node.dial() as agent:
        agent.magic()
        agent.write(message_1(STRANGER.public))
        assert agent.rest() == b""


@pytest.mark.parametrize(
    "point", [bytes(32), b"\x01" + bytes(31), b"\xed" + b"\xff" * 30 + b"\x7f"]
)
def test_a_key_of_low_order(node: Daemon, point: bytes) -> None:
    with node.dial() as agent:
        agent.magic()
        agent.write(point + bytes(MESSAGE_1_SIZE - 32))
        assert agent.rest() == b""


def test_silence_at_every_step(node: Daemon) -> None:
    """Each is closed by its own deadline, and without a word."""
    agents = []
    for sent in (b"", b"A", b"ASY", MAGIC, MAGIC + bytes(1), MAGIC + bytes(MESSAGE_1_SIZE - 1)):
        agent = node.dial()
        agent.write(sent)
        if sent.startswith(MAGIC):
            agent.read_exactly(PRE_HANDSHAKE_SIZE)
        agents.append(agent)
    for agent in agents:
        assert agent.rest() == b""
        agent.close()


def test_one_byte_at_a_time_is_no_fault(node: Daemon) -> None:
    with node.dial() as agent:
        for byte in MAGIC:
            agent.write(bytes((byte,)))
        key = agent.read_exactly(PRE_HANDSHAKE_SIZE)[-32:]
        for byte in message_1(key):
            agent.write(bytes((byte,)))
        assert len(agent.read_exactly(48)) == 48


@pytest.mark.parametrize("how", ["close", "reset", "finish"])
def test_an_end_at_every_byte_of_the_handshake(node: Daemon, how: str) -> None:
    stream = MAGIC + message_1(node.key)
    for size in range(len(stream) + 1):
        agent = node.dial()
        agent.write(stream[:size])
        if how == "reset":
            agent.reset()
            continue
        if how == "finish":
            agent.finish()
            answer = agent.rest()
            assert len(answer) == (0 if size < 4 else 38 if size < len(stream) else 38 + 48)
        agent.close()
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()


def test_a_stranger_gets_one_word_whatever_it_sends_along(node: Daemon) -> None:
    for count in (0, 1, 2000):
        with node.connect(STRANGER) as agent:
            write(agent, agent.sealed(*[HELLO] * count))
            assert agent.final() == [DENIED]


def test_many_strangers_at_once(node: Daemon) -> None:
    strangers = [node.connect(STRANGER) for _ in range(30)]
    for agent in strangers:
        assert agent.answer() == DENIED
        assert agent.ended()
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()
    for agent in strangers:
        agent.close()
