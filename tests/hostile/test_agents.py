"""Agents that the node knows, and that misbehave; others get right answers all the while."""

from __future__ import annotations

import pytest

from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.limits import MAX_DATA
from support.daemon import CORE_AGENT, Daemon
from support.frames import (
    CAPS,
    HELLO,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.raw_agent import RawAgent


def is_dropped(agent: RawAgent) -> bool:
    """Whether the connection ends without a further word."""
    return agent.rest() == b""


# -- records


@pytest.mark.parametrize("byte", [0, 1, 2, 7, 8, 23])
def test_a_flipped_record(node: Daemon, byte: int) -> None:
    """The prefix as well: another length makes another record of the same bytes."""
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()
        record = bytearray(agent.sealed(HELLO))
        record[byte] ^= 1 if byte else 0x80
        agent.write(bytes(record) + bytes(1 << 16))
        assert is_dropped(agent)


def test_a_replayed_record(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        record = agent.sealed(HELLO)
        agent.write(record)
        assert agent.answer().endswith(OK)
        agent.write(record)
        assert is_dropped(agent)


def test_records_in_another_order(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        first, second = agent.sealed(HELLO), agent.sealed(CAPS)
        agent.write(second + first)
        assert is_dropped(agent)


def test_a_record_of_another_session(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent, node.connect(CORE_AGENT) as other:
        agent.write(other.sealed(HELLO))
        assert is_dropped(agent)
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_record_shorter_than_its_tag(node: Daemon, size: int) -> None:
    with node.connect(CORE_AGENT) as agent:
        agent.write(size.to_bytes(2, "big") + bytes(size))
        assert is_dropped(agent)


def test_garbage_behind_right_records(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        agent.send(HELLO)
        agent.answer()
        agent.write(scrambled(1 << 16))
        assert is_dropped(agent)


@pytest.mark.parametrize("request_", [STATUS, PROCS])
def test_garbage_behind_a_request_that_may_wait(node: Daemon, request_: bytes) -> None:
    for _ in range(20):
        with node.connect(CORE_AGENT) as agent:
            agent.write(agent.sealed(request_) + b"\0\x20" + bytes(32))
            agent.rest()


# -- frames


def test_the_largest_frame_and_one_byte_more(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        assert agent.ask(frame(0x01, bytes(MAX_DATA), cla=0x02)).endswith(OK)
        too_large = frame(0x01, bytes(MAX_DATA + 1), cla=0x02)
        agent.send(HELLO, too_large, HELLO)
        hello, *last = agent.final()
        assert (hello[-2:], last) == (OK, [WRONG_LENGTH])


def test_the_largest_frame_in_many_messages(node: Daemon) -> None:
    largest = frame(0x01, bytes(MAX_DATA), cla=0x02)
    with node.connect(CORE_AGENT) as agent:
        agent.send(*[largest[at : at + 100] for at in range(0, len(largest), 100)])
        assert agent.answer().endswith(OK)
        assert agent.alive()


def test_a_frame_that_says_much_and_sends_nothing(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        agent.send(b"\x02\x01\0\0\0\xff\xd6")
        agent.finish()
        assert agent.final() == []


def test_random_plaintext_in_right_records(node: Daemon) -> None:
    """Whatever an agent says, it gets status words or the end, and the node goes on."""
    for number in range(150):
        noise = scrambled(400, f"plaintext {number}")
        messages = [noise[at : at + noise[at] % 80] for at in range(0, 320, 80)]
        if number % 5:
            classes = b"\x00\x02\x04\x06\x08\x10"
            messages = [classes[one[0] % 6 : one[0] % 6 + 1] + one for one in messages if one]
        with node.connect() as agent:
            agent.send(*messages)
            agent.finish()
            assert all(2 <= len(answer) <= 44 for answer in agent.final())


# -- much at once


def test_a_burst_on_one_session_lets_the_others_through(node: Daemon) -> None:
    count = 10_000
    with node.connect(CORE_AGENT) as busy, node.connect(CORE_AGENT) as other:
        busy.send(HELLO * count)
        assert other.alive()
        assert [len(busy.answer()) for _ in range(count)] == [18] * count


def test_a_burst_of_full_messages(node: Daemon) -> None:
    """10,917 bare frames fit into one message; a frame may end in the next one."""
    stream = (HELLO + CAPS) * 11_000
    with node.connect(CORE_AGENT) as agent:
        for at in range(0, len(stream), MAX_MESSAGE):
            agent.send(stream[at : at + MAX_MESSAGE])
        assert [len(agent.answer()) for _ in range(22_000)] == [18, 36] * 11_000


@pytest.mark.parametrize("behind", [b"", HELLO[:3]])
def test_an_end_right_behind_requests_loses_no_answer(node: Daemon, behind: bytes) -> None:
    requests = [*[HELLO] * 1000, STATUS, *[PROCS] * 1000, frame(0x04)]
    with node.connect(CORE_AGENT) as agent:
        agent.send(*requests, behind)
        agent.finish()
        assert [len(one) for one in agent.final()] == [18] * 1000 + [23] + [44] * 1000 + [2]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_end_at_every_byte_of_requests(node: Daemon, how: str) -> None:
    for size in range(24 + 26 + 1):
        agent = node.connect(CORE_AGENT)
        agent.write((agent.sealed(STATUS) + agent.sealed(frame(0x01, b"xx")))[:size])
        if how == "reset":
            agent.reset()
        agent.close()
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()


def test_who_goes_away_with_answers_under_way(node: Daemon) -> None:
    for _ in range(20):
        agent = node.connect(CORE_AGENT)
        agent.send(*[PROCS] * 5000)
        agent.reset()
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()
