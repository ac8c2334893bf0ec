"""Sec = 10: the tag, then Seq, then the ciphertext, and all of them before anything else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC, MAX_DATA
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import AGENT_ADD, AGENT_LIST, addition, page, sealed
from support.frames import (
    ALREADY_RECEIVED,
    CLASS_NOT_SUPPORTED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
    pid_payload,
)
from support.raw_agent import RawAgent
from support.supervised import FOR_EVER, supervisord

UNKNOWN = 0xEE
WRONG_C = ("c", "nonce", "endian", "epoch", "header", "seq", "key")
"""What can be wrong with C while its tag is right: a byte of it, or one of its inputs."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {AGENT: "agent caps=all,security", CORE_AGENT: "other"}
    with (
        supervisord({"web": "sleep infinity"}, startsecs=FOR_EVER) as url,
        running(
            tmp_path_factory.mktemp("asyd"),
            *("--supervisord", url, "--handshake-rate", "0"),
            agents=agents,
        ) as daemon,
    ):
        yield daemon


@pytest.fixture
def agent(node: Daemon) -> Iterator[RawAgent]:
    with node.connect() as agent:
        yield agent


def closes(agent: RawAgent, request: bytes, answer: bytes = DENIED) -> None:
    """The answer is the last one, and what was sent behind is not answered."""
    agent.send(HELLO, request, HELLO)
    first, *last = agent.final()
    assert (first[:4], last) == (MAGIC, [answer])


def stays(agent: RawAgent, request: bytes, answer: bytes) -> None:
    """The answer, and the session goes on."""
    assert agent.ask(request) == answer
    assert agent.alive()


# -- more than the least is accepted


def test_plain_instructions(agent: RawAgent) -> None:
    for ins, size in [(0x00, 36), (0x01, 18), (0x02, 23), (0x03, 44)]:
        answer = agent.ask(sealed(agent, ins))
        assert (len(answer), answer[-2:]) == (size, OK)
    assert agent.ask(sealed(agent, 0x11, bytes(4))) == b"\xff" + OK
    assert agent.ask(sealed(agent, 0x14)) == bytes(2) + OK
    assert agent.ask(sealed(agent, 0x01, b"ignored"))[-2:] == OK


def test_signed_instructions(agent: RawAgent) -> None:
    with waiting() as child:
        assert agent.ask(sealed(agent, 0x20, pid_payload(child.pid))) == OK
        suspended(child.pid)
        assert agent.ask(sealed(agent, 0x20, pid_payload(child.pid), 1)) == OK
        resumed(child.pid)
    handle = agent.ask(sealed(agent, 0x22, b"web"))
    assert handle[4:] == OK
    assert agent.ask(agent.restart("web")) == handle


def test_rekey_itself(agent: RawAgent) -> None:
    assert agent.ask(sealed(agent, 0x13)) == OK
    agent.link.rekey()
    assert agent.ask(sealed(agent, 0x01))[-2:] == OK


@pytest.mark.parametrize("ins", [0x60, 0x61, 0x62])
def test_less_than_the_least_is_refused(agent: RawAgent, ins: int) -> None:
    for payload in (b"", bytes(32), addition(PrivateKey.generate().public)):
        stays(agent, frame(ins, payload), DENIED)
        stays(agent, agent.signed(ins, payload), DENIED)
    stays(agent, agent.signed(ins, bytes(32), cla=0x14), DENIED)  # before M


# -- the order of the rules


@pytest.mark.parametrize("ins", [0x01, 0x20, AGENT_LIST, UNKNOWN])
@pytest.mark.parametrize("cla", [0x08, 0x0A, 0x18])
def test_1_a_bad_tag_closes(agent: RawAgent, ins: int, cla: int) -> None:
    closes(agent, sealed(agent, ins, bytes(4), cla=cla, bad="tag"))


def test_1_a_bad_tag_closes_before_seq_is_looked_at(agent: RawAgent) -> None:
    assert agent.ask(sealed(agent, 0x01))[-2:] == OK
    closes(agent, sealed(agent, 0x01, seq=1, bad="tag"))


@pytest.mark.parametrize("size", range(4))
def test_1_no_room_for_seq(agent: RawAgent, size: int) -> None:
    closes(agent, agent.tagged(0x01, bytes(size), cla=0x08))


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("byte", [1, 2, 3, 5, 8, 9, 12, 24, 28, 30, 45])
def test_1_any_byte_that_is_covered(agent: RawAgent, byte: int, bit: int) -> None:
    """INS, P1, P2, Seq, C, and the tag itself, which is behind Le."""
    request = bytearray(sealed(agent, 0x11, bytes(4)))
    assert len(request) == 5 + 4 + 20 + 1 + 16
    request[byte] ^= 1 << bit
    closes(agent, bytes(request))


def test_1_le_is_not_covered(agent: RawAgent) -> None:
    request = bytearray(sealed(agent, 0x11, bytes(4)))
    request[29] = 0xFF
    stays(agent, bytes(request), b"\xff" + OK)


def test_1_a_signed_frame_is_no_sealed_one(agent: RawAgent) -> None:
    """The level is covered by the tag."""
    request = bytearray(sealed(agent, 0x01))
    request[0] = 0x04
    closes(agent, bytes(request))


def test_1_another_sessions_frame(agent: RawAgent, node: Daemon) -> None:
    with node.connect() as other:
        closes(agent, sealed(other, 0x01))
        assert other.alive()


@pytest.mark.parametrize("bad", WRONG_C)
def test_2_a_replay_is_6985_and_c_is_not_opened(agent: RawAgent, bad: str) -> None:
    assert agent.ask(sealed(agent, 0x01, seq=5))[-2:] == OK
    for seq in (0, 1, 4, 5):
        stays(agent, sealed(agent, 0x01, seq=seq, bad=bad), ALREADY_RECEIVED)
    stays(agent, agent.tagged(0x01, (5).to_bytes(4, "big"), cla=0x08), ALREADY_RECEIVED)


@pytest.mark.parametrize("ins", [0x01, 0x20, AGENT_ADD, UNKNOWN])
def test_2_a_replay_is_6985_before_existence(agent: RawAgent, ins: int) -> None:
    request = sealed(agent, ins, b"payload")
    assert agent.ask(request)[-2:] in (OK, WRONG_LENGTH, NO_SUCH_INSTRUCTION)
    stays(agent, request, ALREADY_RECEIVED)


@pytest.mark.parametrize("ins", [0x01, 0x20, AGENT_ADD, UNKNOWN, 0x90])
@pytest.mark.parametrize("bad", WRONG_C)
def test_3_a_bad_c_closes_before_existence(agent: RawAgent, bad: str, ins: int) -> None:
    closes(agent, sealed(agent, ins, bytes(4), bad=bad))


@pytest.mark.parametrize("size", range(16))
def test_3_a_c_that_is_shorter_than_its_own_tag(agent: RawAgent, size: int) -> None:
    closes(agent, agent.tagged(0x01, (1).to_bytes(4, "big") + bytes(size), cla=0x08))


def test_3_a_payload_in_clear(agent: RawAgent) -> None:
    closes(agent, agent.signed(0x11, bytes(20), cla=0x08))


def test_3_who_is_granted_little_learns_no_more(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        closes(agent, sealed(agent, AGENT_ADD, bad="c"))
    with node.connect(CORE_AGENT) as agent:
        stays(agent, sealed(agent, AGENT_ADD, bytes(9)), NO_SUCH_INSTRUCTION)
        stays(agent, sealed(agent, UNKNOWN, bytes(9)), NO_SUCH_INSTRUCTION)


def test_4_then_existence(agent: RawAgent) -> None:
    for ins in (0x04, 0x10, 0x63, 0x90, UNKNOWN):
        stays(agent, sealed(agent, ins, bytes(9)), NO_SUCH_INSTRUCTION)


def test_5_then_m_length_and_parameters(agent: RawAgent) -> None:
    stays(agent, sealed(agent, 0x20, bytes(4), cla=0x18), WRONG_LENGTH)
    stays(agent, sealed(agent, AGENT_LIST, cla=0x18), WRONG_LENGTH)
    stays(agent, sealed(agent, 0x20, bytes(5)), WRONG_LENGTH)
    stays(agent, sealed(agent, 0x20, bytes(4)), INVALID_PAYLOAD)
    stays(agent, sealed(agent, 0x20, pid_payload(1)), DENIED)


def test_sec_11_and_the_version_stand_before_all(agent: RawAgent) -> None:
    closes(agent, sealed(agent, 0x01, cla=0x0C, bad="tag"), CLASS_NOT_SUPPORTED)


def test_the_reserved_bit_stands_before_the_tag(agent: RawAgent) -> None:
    closes(agent, sealed(agent, 0x01, cla=0x09, bad="tag"), WRONG_LENGTH)


# -- Seq


def test_both_levels_share_one_seq(agent: RawAgent) -> None:
    for seq, is_sealed in enumerate([False, True, True, False, True, False, False], 1):
        request = sealed(agent, 0x01) if is_sealed else agent.signed(0x01)
        assert agent.ask(request)[-2:] == OK
        stays(agent, sealed(agent, 0x01, seq=seq), ALREADY_RECEIVED)
        stays(agent, agent.signed(0x01, seq=seq), ALREADY_RECEIVED)


def test_every_answer_uses_a_seq_up(agent: RawAgent) -> None:
    refusals = [
        (UNKNOWN, b"", NO_SUCH_INSTRUCTION),
        (AGENT_ADD, b"", WRONG_LENGTH),
        (AGENT_ADD, addition(bytes(32)), INVALID_PAYLOAD),
        (0x20, pid_payload(1), DENIED),
    ]
    for ins, payload, answer in refusals:
        request = sealed(agent, ins, payload)
        assert agent.ask(request) == answer
        assert agent.ask(request) == ALREADY_RECEIVED


def test_the_last_seq(agent: RawAgent) -> None:
    last = sealed(agent, 0x01, seq=0xFFFFFFFF)
    assert agent.ask(last)[-2:] == OK
    for request in (last, sealed(agent, 0x01, seq=0), sealed(agent, 0x01, seq=0xFFFFFFFE)):
        stays(agent, request, ALREADY_RECEIVED)


# -- extended frames


def test_extended_frames(agent: RawAgent) -> None:
    assert agent.ask(sealed(agent, 0x01, cla=0x0A))[-2:] == OK
    assert agent.ask(sealed(agent, 0x01, bytes(20_000), cla=0x0A))[-2:] == OK
    assert agent.ask(sealed(agent, 0x01, bytes(MAX_DATA - 20), cla=0x0A))[-2:] == OK
    key = PrivateKey.generate().public
    assert agent.ask(sealed(agent, AGENT_ADD, addition(key), cla=0x0A))[4:] == OK
    assert page(agent, 0)[0] == 1
    assert agent.ask(sealed(agent, 0x61, key, cla=0x0A)) == OK
    stays(agent, sealed(agent, AGENT_ADD, bytes(3000), cla=0x0A), WRONG_LENGTH)
    stays(agent, sealed(agent, UNKNOWN, bytes(3000), cla=0x0A), NO_SUCH_INSTRUCTION)


@pytest.mark.parametrize("bad", ["tag", *WRONG_C])
def test_bad_extended_frames(agent: RawAgent, bad: str) -> None:
    closes(agent, sealed(agent, 0x01, bytes(1000), cla=0x0A, bad=bad))


def test_many_in_one_write_and_in_one_message(agent: RawAgent) -> None:
    agent.send(*[sealed(agent, 0x01) for _ in range(300)])
    agent.send(b"".join(sealed(agent, 0x01) for _ in range(300)))
    assert [agent.answer()[-2:] for _ in range(600)] == [OK] * 600
