"""Requests that are answered: Core ISA and TASK_QUERY in every form that a frame may have."""

from __future__ import annotations

import os
import platform
import time

import pytest

from asys.protocol.limits import MAGIC, MAX_DATA
from support.daemon import CORE_AGENT, Daemon
from support.frames import CAPS, HELLO, INVALID_PAYLOAD, OK, PROCS, STATUS, frame
from support.lit import possible_here
from support.raw_agent import RawAgent

LENGTHS = {CAPS: 36, HELLO: 18, STATUS: 23, PROCS: 44}
"""Bytes of the answer, status word and all (docs/protocol.md, section 6)."""

REQUESTS = [
    pytest.param(request, id=name)
    for request, name in zip(LENGTHS, ("caps", "hello", "status", "procs"), strict=True)
]


def answers(agent: RawAgent, request: bytes, size: int) -> None:
    answer = agent.ask(request)
    assert (len(answer), answer[-2:]) == (size, OK)


@pytest.mark.parametrize("request_", REQUESTS)
def test_it_has_its_length(core_agent: RawAgent, request_: bytes) -> None:
    answers(core_agent, request_, LENGTHS[request_])


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("le", [b"\1", b"\2", b"\xff"])
def test_le_does_not_cut_it(core_agent: RawAgent, request_: bytes, le: bytes) -> None:
    answers(core_agent, frame(request_[1], le=le), LENGTHS[request_])
    answers(core_agent, frame(request_[1], le=le, cla=0x02), LENGTHS[request_])


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("size", [1, 4, 255])
def test_data_is_ignored(core_agent: RawAgent, request_: bytes, size: int) -> None:
    answers(core_agent, frame(request_[1], b"x" * size), LENGTHS[request_])


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 10_000, MAX_DATA])
def test_extended_frames(core_agent: RawAgent, request_: bytes, size: int) -> None:
    answers(core_agent, frame(request_[1], b"x" * size, cla=0x02), LENGTHS[request_])


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("p1", "p2"), [(1, 0), (0, 1), (3, 255)])
def test_parameters_without_meaning(
    core_agent: RawAgent, request_: bytes, p1: int, p2: int
) -> None:
    answers(core_agent, frame(request_[1], p1=p1, p2=p2), LENGTHS[request_])


@pytest.mark.parametrize("request_", REQUESTS[1:])
@pytest.mark.parametrize("p1", [4, 255])
def test_p1_has_a_meaning_in_sys_caps_alone(core_agent: RawAgent, request_: bytes, p1: int) -> None:
    answers(core_agent, frame(request_[1], p1=p1), LENGTHS[request_])
    assert core_agent.ask(frame(0x00, p1=p1)) == INVALID_PAYLOAD


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("cla", [0x04, 0x06])
@pytest.mark.parametrize("size", [0, 1, 200])
def test_signed(core_agent: RawAgent, request_: bytes, cla: int, size: int) -> None:
    signed = core_agent.signed(request_[1], b"x" * size, cla=cla)
    answers(core_agent, signed, LENGTHS[request_])


def test_the_largest_signed_frame(core_agent: RawAgent) -> None:
    """As large as a record can carry: 65,519 bytes."""
    largest = core_agent.signed(0x01, bytes(MAX_DATA - 4), cla=0x06)
    assert len(largest) == 65_519
    answers(core_agent, largest, 18)


@pytest.mark.parametrize("cla", [0x00, 0x02, 0x04, 0x06])
@pytest.mark.parametrize("size", [4, 5, 68])
def test_task_query_ignores_what_is_behind_the_handle(agent: RawAgent, cla: int, size: int) -> None:
    handle = agent.ask(agent.restart("service-0"))[:4]
    data = handle + b"x" * (size - 4)
    query = agent.signed(0x11, data, cla=cla) if cla & 4 else frame(0x11, data, cla=cla)
    assert agent.ask(query) == b"\x00" + OK


def test_an_unknown_handle(agent: RawAgent, asyd: Daemon) -> None:
    handle = agent.ask(agent.restart("service-0"))[:4]
    with asyd.connect() as other:
        assert other.ask(frame(0x11, handle)) == b"\xff" + OK
    assert agent.ask(frame(0x11, bytes(4))) == b"\xff" + OK
    assert agent.ask(frame(0x11, handle)) == b"\x00" + OK


# -- what the answers say


def test_caps_says_what_the_agent_may_do(asyd: Daemon, portable: Daemon) -> None:
    held = 1 | 4 | (2 if 0x21 in possible_here() else 0)
    managed = os.path.isdir("/run/systemd/system")
    for daemon, key, core, ext in (
        (asyd, None, 0x001E000F, held),
        (asyd, CORE_AGENT, 0x000A000F, 0),
        (portable, None, 0x001E000F if managed else 0x001A000F, 4 if managed else 0),
    ):
        with daemon.connect(key) if key else daemon.connect() as agent:
            caps = agent.ask(CAPS)
            assert int.from_bytes(caps[0:4], "big") == core
            assert int.from_bytes(caps[4:8], "big") == ext


def test_caps_says_what_the_machine_is(core_agent: RawAgent) -> None:
    caps = core_agent.ask(CAPS)
    assert caps[8:10] == b"\x01\x00"
    major, minor = platform.release().split(".")[:2]
    assert (caps[10], caps[11]) == (int(major), int(minor))
    assert int.from_bytes(caps[14:16], "big") == os.sysconf("SC_NPROCESSORS_ONLN")
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert int.from_bytes(caps[18:22], "big") == pages * size >> 20
    assert caps[33] == 0


def test_hello_says_what_time_it_is(core_agent: RawAgent) -> None:
    before = time.time_ns()
    hello = core_agent.ask(HELLO)
    assert hello[:4] == MAGIC
    assert before <= int.from_bytes(hello[8:16], "big") <= time.time_ns()


def test_reserved_bytes_are_zero(core_agent: RawAgent) -> None:
    assert core_agent.ask(STATUS)[17:21] == bytes(4)


# -- frames and messages


def test_bytes_one_by_one_in_messages_one_by_one(core_agent: RawAgent) -> None:
    core_agent.send(*[HELLO[at : at + 1] for at in range(6)], CAPS)
    assert [len(core_agent.answer()) for _ in range(2)] == [18, 36]


def test_many_frames_in_one_message(core_agent: RawAgent) -> None:
    core_agent.send(HELLO + CAPS + HELLO[:4], HELLO[4:] + CAPS)
    assert [len(core_agent.answer()) for _ in range(4)] == [18, 36, 18, 36]


def test_half_a_frame_waits_for_the_rest_and_nobody_waits_for_it(asyd: Daemon) -> None:
    whole = frame(0x01, bytes(250))
    with asyd.connect() as half, asyd.connect() as other:
        half.send(whole[:200])
        assert other.alive()
        half.send(whole[200:])
        assert len(half.answer()) == 18


@pytest.mark.parametrize("request_", [PROCS, STATUS])
def test_the_first_reading_after_a_sleep_comes_in_its_place(asyd: Daemon, request_: bytes) -> None:
    with asyd.connect(CORE_AGENT) as agent:
        agent.send(HELLO, request_, HELLO, frame(0x04), request_, CAPS)
        sizes = [len(agent.answer()) for _ in range(6)]
    assert sizes == [18, LENGTHS[request_], 18, 2, LENGTHS[request_], 36]
