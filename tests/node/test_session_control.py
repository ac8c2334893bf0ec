"""What changes a session itself: REKEY, payloads that are encrypted, ABANDON."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable

import pytest

from asys.protocol.limits import MAGIC
from support.frames import (
    ALREADY_RECEIVED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.services import Services


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def agent_hello(agent: RigAgent) -> bytes:
    """What SYS_HELLO answers now."""
    node = agent.rig.node
    return MAGIC + struct.pack(">IQ", node.uid, agent.rig.clock.time_ns()) + OK


def sealed(agent: RigAgent, ins: int, payload: bytes = b"", p1: int = 0) -> bytes:
    """An Enc+Sign frame, as an agent of ours makes it."""
    agent.link.signer.seq = agent.seq
    request = agent.link.signer.seal(ins, p1, 0, payload)
    agent.seq += 1
    return request


# -- REKEY


def test_rekey_answers_under_the_old_keys_and_goes_on_under_new_ones(rig: Rig) -> None:
    agent = rig.connect()
    for _ in range(3):
        assert agent.ask(frame(0x13)) == [OK]
        agent.link.rekey()
        assert agent.ask(HELLO, agent.signed(0x01)) == [agent_hello(agent)] * 2
    assert agent.seq == 3  # which goes on


def test_old_keys_are_worth_nothing_behind_rekey(rig: Rig) -> None:
    agent = rig.connect()
    agent.ask(HELLO)
    old = agent.sealed(frame(0x13), HELLO)
    agent.write(old[: len(old) // 2])
    assert agent.responses() == [OK]
    agent.write(old[len(old) // 2 :])
    rig.run()
    assert agent.transport.over


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(lambda agent: agent.sealed(frame(0x13) + HELLO), id="a frame"),
        pytest.param(lambda agent: agent.sealed(frame(0x13) + b"\0"), id="half a frame"),
        pytest.param(lambda agent: agent.sealed(frame(0x13), HELLO), id="a message"),
        pytest.param(lambda agent: agent.sealed(frame(0x13), HELLO)[:-1], id="half a record"),
    ],
)
def test_nothing_may_follow_rekey_before_it_is_answered(
    rig: Rig, behind: Callable[[RigAgent], bytes]
) -> None:
    agent = rig.connect()
    agent.write(agent.sealed(HELLO) + behind(agent))
    assert agent.responses() == [agent_hello(agent), WRONG_LENGTH]
    assert agent.transport.eof_sent


# -- Enc+Sign


async def test_enc_sign_is_opened_and_executed_in_its_place() -> None:
    rig = Rig(services=Services())
    agent = rig.connect()
    agent.send(HELLO, sealed(agent, 0x01), sealed(agent, 0x22, b"web"), agent.signed(0x01))
    await rig.settle()
    first, second, handle, last = agent.responses()
    assert first == second == last == agent_hello(agent)
    assert handle[4:] == OK
    await rig.close()


@pytest.mark.parametrize(("byte", "answer"), [(12, DENIED), (-1, DENIED)], ids=["C", "tag"])
def test_enc_sign_with_a_bit_wrong_closes(rig: Rig, byte: int, answer: bytes) -> None:
    agent = rig.connect()
    request = bytearray(sealed(agent, 0x11, bytes(4)))
    request[byte] ^= 1
    if byte > 0:  # C alone: the tag is made for it
        request[-16:] = agent.tag(bytes(request[:5]), bytes(request[5:-17]))
    assert agent.ask(HELLO, bytes(request), HELLO) == [agent_hello(agent), answer]
    assert agent.transport.eof_sent


def test_enc_sign_sent_twice_is_not_opened_twice(rig: Rig) -> None:
    agent = rig.connect()
    request = sealed(agent, 0x04)
    wanted = [NO_SUCH_INSTRUCTION, ALREADY_RECEIVED, agent_hello(agent)]
    assert agent.ask(request, request, HELLO) == wanted


# -- ABANDON


async def test_abandon_closes_the_agents_other_sessions_and_frees_their_handles() -> None:
    rig = Rig({AGENT: "agent caps=all", OTHER: "other"}, services=Services())
    old, half, mine, other = rig.session(), rig.connect(), rig.session(), rig.session(OTHER)
    old.send(old.restart("web"))
    await rig.settle()
    assert len(rig.node.tasks) == 1
    assert mine.ask(frame(0x14), HELLO) == [b"\0\1" + OK, agent_hello(mine)]  # `half` was nobody
    assert old.transport.eof_sent
    assert half.transport.eof_sent
    assert len(rig.node.tasks) == 0
    assert other.ask(HELLO, frame(0x14)) == [agent_hello(other), NO_SUCH_INSTRUCTION]
    assert mine.ask(frame(0x14)) == [bytes(2) + OK]
    await rig.close()
