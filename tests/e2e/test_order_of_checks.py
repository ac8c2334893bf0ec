"""The order of checks (docs/protocol.md, section 5.2), over real sockets.

Each check is provoked alone; then each pair of neighbours by a request that fails both, and gets
the answer of the earlier one. What needs a failing machine is in test_node_errors.
"""

from __future__ import annotations

import os

import pytest

from asys.node.tasks import SESSION_TASKS
from asys.protocol.limits import MAGIC
from support.children import gone
from support.daemon import CORE_AGENT, Daemon
from support.frames import (
    ALREADY_RECEIVED,
    BLOCKED,
    CLASS_NOT_SUPPORTED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    NOT_SUPPORTED,
    OK,
    WRONG_LENGTH,
    frame,
    pid_payload,
)
from support.raw_agent import RawAgent

THROTTLE = 0x20
RESTART = 0x22
QUERY = 0x11
REKEY = 0x13
NOBODY = pid_payload(0x7FFFFFF0)
"""No PID is as high as this."""


def closes(agent: RawAgent, request: bytes, answer: bytes) -> None:
    """The answer is the last one: what was sent before is answered, what was sent behind is not."""
    agent.send(HELLO, HELLO, request, HELLO)
    first, second, *last = agent.final()
    assert (first[:4], second[:4], last) == (MAGIC, MAGIC, [answer])


def stays(agent: RawAgent, request: bytes, answer: bytes) -> None:
    """The answer, and the session goes on."""
    assert agent.ask(request) == answer
    assert agent.alive()


# -- 1 and 2: framing

BAD_CLASS = [
    pytest.param(bytes((cla, 1, 0, 0, 0, 0)), id=f"{cla:02x}")
    for cla in (0x20, 0x40, 0x80, 0xE0, 0xFF, 0x0C, 0x0E, 0x1C)
]
MALFORMED = [
    pytest.param(b"\x01\x01\0\0\0\0", id="reserved bit"),
    pytest.param(b"\x03\x01\0\0\0\0\0\0\0", id="reserved bit, extended"),
    pytest.param(b"\x05\x20\0\0\0\0", id="reserved bit, signed"),
    pytest.param(b"\x02\x01\0\0\x01\0\0\0\0", id="placeholder"),
    pytest.param(b"\x06\x20\0\0\xff\0\x04\0\0", id="placeholder, signed"),
    pytest.param(b"\x02\x01\0\0\0\xff\xd7", id="65,495 bytes"),
    pytest.param(b"\x06\x20\0\0\0\xff\xff", id="65,535 bytes, signed"),
]


@pytest.mark.parametrize("request_", BAD_CLASS)
def test_1_version_and_sec_11(agent: RawAgent, request_: bytes) -> None:
    closes(agent, request_, CLASS_NOT_SUPPORTED)


@pytest.mark.parametrize("request_", MALFORMED)
def test_2_form(agent: RawAgent, request_: bytes) -> None:
    closes(agent, request_, WRONG_LENGTH)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x21\x01\0\0\0\0",  # version, and the reserved bit
        b"\x22\x01\0\0\x01\0\0\0\0",  # version, and the placeholder
        b"\x0d\x20\0\0\0\0",  # Sec = 11, and the reserved bit
        b"\x0e\x20\0\0\0\xff\xff",  # Sec = 11, and too long
    ],
)
def test_1_before_2(agent: RawAgent, request_: bytes) -> None:
    closes(agent, request_, CLASS_NOT_SUPPORTED)


def test_2_before_3(agent: RawAgent) -> None:
    closes(agent, agent.tagged(THROTTLE, bytes(8), cla=0x05, bad=True), WRONG_LENGTH)


def test_a_frame_is_judged_by_its_first_byte(agent: RawAgent) -> None:
    agent.send(b"\x20")
    assert agent.final() == [CLASS_NOT_SUPPORTED]


def test_one_message_with_a_bad_frame_in_the_middle(agent: RawAgent) -> None:
    agent.send(HELLO + HELLO + b"\x20\x01\0\0\0\0" + HELLO)
    first, second, *last = agent.final()
    assert (first[:4], second[:4], last) == (MAGIC, MAGIC, [CLASS_NOT_SUPPORTED])


# -- 3: the tag


@pytest.mark.parametrize("ins", [THROTTLE, 0x01, 0x04, 0xBE])
@pytest.mark.parametrize("cla", [0x04, 0x06, 0x08, 0x14])
def test_3_a_wrong_tag(agent: RawAgent, cla: int, ins: int) -> None:
    closes(agent, agent.tagged(ins, bytes(4), cla=cla, bad=True), DENIED)


@pytest.mark.parametrize("size", range(4))
def test_3_no_room_for_a_seq(agent: RawAgent, size: int) -> None:
    closes(agent, agent.tagged(THROTTLE, bytes(size)), DENIED)


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("byte", [1, 2, 3, 5, 8, 9, 12, 14, 29])
def test_3_any_byte_that_is_covered(agent: RawAgent, byte: int, bit: int) -> None:
    """INS, P1, P2, Seq, payload and the tag itself."""
    request = bytearray(agent.throttle(1))
    request[byte] ^= 1 << bit
    closes(agent, bytes(request), DENIED)


def test_3_m_is_covered_and_le_is_not(agent: RawAgent) -> None:
    request = bytearray(agent.signed(0x04))
    request[9] = 0xFF
    stays(agent, bytes(request), NO_SUCH_INSTRUCTION)
    request = bytearray(agent.signed(0x04))
    request[0] |= 0x10
    closes(agent, bytes(request), DENIED)


def test_3_the_tag_of_another_session(agent: RawAgent, asyd: Daemon) -> None:
    with asyd.connect() as other:
        closes(agent, other.signed(0x01), DENIED)
        assert other.alive()


def test_3_before_4(agent: RawAgent) -> None:
    agent.ask(agent.signed(0x01))
    closes(agent, agent.signed(0x01, seq=1, bad=True), DENIED)


# -- 4: Seq


def test_4_a_seq_that_was_received(agent: RawAgent) -> None:
    first = agent.signed(0x01)
    assert agent.ask(first)[-2:] == OK
    stays(agent, first, ALREADY_RECEIVED)
    stays(agent, agent.signed(THROTTLE, bytes(4), seq=1), ALREADY_RECEIVED)


def test_4_zero_is_never_valid(agent: RawAgent) -> None:
    stays(agent, agent.signed(0x01, seq=0), ALREADY_RECEIVED)


def test_4_gaps_are_allowed_and_there_is_no_way_back(agent: RawAgent) -> None:
    for seq, answer in [(5, OK), (4, ALREADY_RECEIVED), (6, OK), (0xFFFFFFFF, OK)]:
        assert agent.ask(agent.signed(0x01, seq=seq))[-2:] == answer
    stays(agent, agent.signed(0x01, seq=0xFFFFFFFE), ALREADY_RECEIVED)
    stays(agent, agent.signed(0x01, seq=0xFFFFFFFF), ALREADY_RECEIVED)


def test_4_every_refusal_uses_its_seq_up(agent: RawAgent) -> None:
    refusals = [
        (agent.signed(0xBE), NO_SUCH_INSTRUCTION),
        (agent.signed(THROTTLE, b""), WRONG_LENGTH),
        (agent.signed(THROTTLE, bytes(4)), INVALID_PAYLOAD),
        (agent.throttle(1), DENIED),
        (agent.signed(THROTTLE, NOBODY), INVALID_PAYLOAD),
    ]
    for request, answer in refusals:
        assert agent.ask(request) == answer
        assert agent.ask(request) == ALREADY_RECEIVED
    stays(agent, agent.signed(0x01, seq=len(refusals)), ALREADY_RECEIVED)


def test_4_a_plain_frame_uses_none(agent: RawAgent) -> None:
    agent.ask(frame(THROTTLE, (9).to_bytes(4, "big")))
    assert agent.ask(agent.signed(0x01, seq=1))[-2:] == OK


def test_4_before_5(agent: RawAgent) -> None:
    """With a Seq that was received it does not matter that there is no C."""
    agent.ask(agent.signed(0x01))
    stays(agent, agent.signed(0x01, seq=1, cla=0x08), ALREADY_RECEIVED)


def test_4_before_6(agent: RawAgent) -> None:
    agent.ask(agent.signed(0x01))
    stays(agent, agent.signed(0xBE, seq=1), ALREADY_RECEIVED)


# -- 5: C (more in test_enc_sign)


@pytest.mark.parametrize("cla", [0x08, 0x0A, 0x18])
@pytest.mark.parametrize("ins", [0x01, THROTTLE, 0xBE, 0x04])
@pytest.mark.parametrize("size", [0, 15, 16, 20])
def test_5_what_does_not_open_closes_whatever_it_is(
    agent: RawAgent, ins: int, cla: int, size: int
) -> None:
    closes(agent, agent.signed(ins, bytes(size), cla=cla), DENIED)


# -- 6: existence


UNDEFINED = [0x04, 0x0F, 0x10, 0x15, 0x23, 0x43, 0x60, 0x8F, 0x90, 0xB0, 0xBE, 0xBF]


@pytest.mark.parametrize("ins", UNDEFINED)
def test_6_what_this_version_does_not_have(agent: RawAgent, ins: int) -> None:
    """Granted or not: codes 10 to 8F but for 60 to 62, the vendors' and B0 are, to this agent."""
    stays(agent, frame(ins), NO_SUCH_INSTRUCTION)
    stays(agent, agent.signed(ins, bytes(9)), NO_SUCH_INSTRUCTION)


def test_6_every_code_there_is(core_agent: RawAgent) -> None:
    codes = [ins for ins in range(256) if ins != REKEY]
    core_agent.send(*[frame(ins) for ins in codes])
    there = {ins for ins in codes if core_agent.answer() != NO_SUCH_INSTRUCTION}
    assert there == {0x00, 0x01, 0x02, 0x03, QUERY}
    assert core_agent.ask(frame(REKEY)) == OK  # behind which the keys are others


@pytest.mark.parametrize("ins", [THROTTLE, RESTART])
def test_6_what_is_not_granted(core_agent: RawAgent, ins: int) -> None:
    stays(core_agent, core_agent.signed(ins, pid_payload(os.getpid())), NO_SUCH_INSTRUCTION)


def test_6_before_7(portable: Daemon) -> None:
    with portable.connect(CORE_AGENT) as agent:
        stays(agent, agent.throttle(os.getpid()), NO_SUCH_INSTRUCTION)


@pytest.mark.parametrize("ins", [THROTTLE, 0xBE])
def test_6_before_8_and_9(core_agent: RawAgent, ins: int) -> None:
    stays(core_agent, frame(ins, b"abc", 7), NO_SUCH_INSTRUCTION)
    stays(core_agent, frame(ins, b"abc", 7, cla=0x10), NO_SUCH_INSTRUCTION)


# -- 7: what the platform can do


def test_7_before_8_and_9(portable: Daemon) -> None:
    with portable.connect() as agent:
        stays(agent, agent.throttle(os.getpid()), NOT_SUPPORTED)
        stays(agent, frame(THROTTLE, pid_payload(1)), NOT_SUPPORTED)
        stays(agent, agent.signed(THROTTLE, b""), NOT_SUPPORTED)
        stays(agent, frame(THROTTLE, cla=0x10), NOT_SUPPORTED)


# -- 8: level


@pytest.mark.parametrize("ins", [THROTTLE, RESTART])
def test_8_plain_where_signed_is_the_least(agent: RawAgent, ins: int) -> None:
    stays(agent, frame(ins, pid_payload(os.getpid())), DENIED)
    stays(agent, frame(ins, pid_payload(os.getpid()), cla=0x02), DENIED)


def test_8_before_9(agent: RawAgent) -> None:
    stays(agent, frame(THROTTLE, b"abc"), DENIED)
    stays(agent, frame(THROTTLE, bytes(8), cla=0x10), DENIED)
    stays(agent, frame(RESTART), DENIED)


# -- 9: M and the length


@pytest.mark.parametrize("ins", [0x00, 0x01, 0x02, 0x03, QUERY])
def test_9_fragments_of_what_cannot_be_sent_in_fragments(agent: RawAgent, ins: int) -> None:
    stays(agent, frame(ins, bytes(4), cla=0x10), WRONG_LENGTH)
    stays(agent, frame(ins, bytes(4), cla=0x12), WRONG_LENGTH)


@pytest.mark.parametrize("ins", [THROTTLE, RESTART])
def test_9_signed_fragments(agent: RawAgent, ins: int) -> None:
    stays(agent, agent.signed(ins, NOBODY, cla=0x14), WRONG_LENGTH)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 8, 251])
def test_9_length_of_proc_throttle(agent: RawAgent, size: int) -> None:
    stays(agent, agent.signed(THROTTLE, bytes(size)), WRONG_LENGTH)


def test_9_length_of_svc_restart(agent: RawAgent) -> None:
    stays(agent, agent.signed(RESTART), WRONG_LENGTH)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_9_length_of_task_query(agent: RawAgent, size: int) -> None:
    stays(agent, frame(QUERY, bytes(size)), WRONG_LENGTH)


def test_9_before_10(agent: RawAgent) -> None:
    stays(agent, agent.signed(THROTTLE, bytes(5), 7), WRONG_LENGTH)
    stays(agent, agent.signed(THROTTLE, bytes(4), 7, cla=0x14), WRONG_LENGTH)


# -- 10: parameters


@pytest.mark.parametrize("p1", [2, 0x7F, 0xFF])
def test_10_an_action_that_there_is_not(agent: RawAgent, p1: int) -> None:
    stays(agent, agent.signed(THROTTLE, pid_payload(os.getpid()), p1), INVALID_PAYLOAD)


def test_10_pid_0(agent: RawAgent) -> None:
    stays(agent, agent.signed(THROTTLE, bytes(4)), INVALID_PAYLOAD)


@pytest.mark.parametrize(
    "name",
    [b"Nginx", b"nginx.service", b"../x", b"a b", b"a\0", b"\xc3\xa4", b"a" * 65, b"a@1", b"a\n"],
)
def test_10_names_that_no_service_has(agent: RawAgent, name: bytes) -> None:
    stays(agent, agent.signed(RESTART, name), INVALID_PAYLOAD)


def test_10_before_11(agent: RawAgent) -> None:
    stays(agent, agent.signed(THROTTLE, pid_payload(1), 7), INVALID_PAYLOAD)


# -- 11: scope (more in test_targets)


def test_11_pid_1(agent: RawAgent) -> None:
    stays(agent, agent.throttle(1), DENIED)


# -- 12: room, and 13: target


def test_12_before_13(agent: RawAgent) -> None:
    for number in range(SESSION_TASKS):
        assert agent.ask(agent.restart(f"service-{number}"))[4:] == OK
    stays(agent, agent.restart(f"service-{SESSION_TASKS}"), BLOCKED)
    stays(agent, agent.restart("no-such-service"), BLOCKED)


def test_12_the_same_again_needs_no_room(agent: RawAgent) -> None:
    handles = [agent.ask(agent.restart(f"service-{number}")) for number in range(SESSION_TASKS)]
    assert agent.ask(agent.restart("service-0")) == handles[0]


def test_13_no_such_process(agent: RawAgent) -> None:
    stays(agent, agent.signed(THROTTLE, NOBODY), INVALID_PAYLOAD)
    stays(agent, agent.throttle(gone()), INVALID_PAYLOAD)
    stays(agent, agent.signed(THROTTLE, b"\xff" * 4), INVALID_PAYLOAD)
