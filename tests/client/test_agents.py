"""Encrypted and signed requests, and the instructions that have them: 60 to 62."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

import asys
from asys import isa
from asys.client import aio, blocking
from asys.client.agent_pages import AgentPages
from asys.isa.security import NewAgent
from asys.protocol.apdu import SEC_ENC_SIGN
from asys.protocol.limits import MAX_DATA
from asys.protocol.status import SW
from client.instructions import SEALED, SEALED_ECHO, SEALED_HUGE, Number
from client.pair import Pair
from support.agents_below import AgentsBelow, key_hash
from support.wire_node import OK, ThreadedWireNode, WireNode, serve, serve_b

KEY = bytes(range(32))
HEX: Any = KEY.hex()
LIT = "core,security,14"


# The frames


def test_the_payload_is_encrypted_and_the_seq_is_shared() -> None:
    pair = Pair(lit="core,all,60,6C")
    pair.call(isa.PROC_THROTTLE, 7, "stop")
    _, ear = pair.call(SEALED_ECHO, 0x61626364)

    plain, sealed = pair.requests()

    assert (sealed.cla, sealed.ins) == (SEC_ENC_SIGN, 0x6C)
    assert (plain.data[:4], sealed.data[:4]) == (b"\0\0\0\1", b"\0\0\0\2")
    assert b"abcd" not in sealed.data
    assert len(sealed.data) == 4 + 4 + 16
    assert pair.node.verifier.verify(plain) is None
    assert pair.node.verifier.verify(sealed) is None
    clear = pair.node.verifier.open(sealed)
    assert clear is not None
    pair.reply(OK, clear.data[4:] + OK)
    assert ear.heard == [Number(number=0x61626364)]


def test_long_ones_are_extended() -> None:
    pair = Pair(lit="core,6D")
    pair.call(SEALED, bytes(236))

    (frame,) = pair.requests()

    assert (len(frame.header), len(frame.data)) == (7, 256)
    assert pair.node.verifier.verify(frame) is None
    clear = pair.node.verifier.open(frame)
    assert clear is not None
    assert clear.data[4:] == bytes(236)


def test_one_that_fits_in_no_frame_is_refused_before_a_byte_is_sent() -> None:
    pair = Pair(lit="core,6F")
    body = bytes(MAX_DATA - 4 - 16 + 1)

    with pytest.raises(asys.ArgumentError, match=f"at most {MAX_DATA - 20}"):
        pair.call(SEALED_HUGE, body)
    assert pair.caller.data_to_send() == b""

    largest = pair.caller._signed.make(
        pair.caller.link.signer, SEALED_HUGE, (0, 0, body[:-1]), speaks_part_b=True
    )
    assert len(largest.frame) == 7 + MAX_DATA + 2 + 16


def test_one_is_sent_again_as_it_was() -> None:
    pair = Pair(lit="core,6C")
    pair.call(SEALED_ECHO, 5)
    (first,) = pair.requests()
    pair.reply(Number(number=5).pack() + OK)

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    (second,) = pair.requests()

    assert first == second
    pair.reply(SW.ALREADY_RECEIVED.wire)
    assert again.heard == [Number(number=5)]


@pytest.mark.parametrize("shell", ["asyncio", "blocking"])
async def test_nothing_is_sent_to_a_node_that_does_not_speak_part_b(shell: str) -> None:
    if shell == "blocking":
        with ThreadedWireNode() as threaded, threaded.connect() as session:
            with pytest.raises(asys.ArgumentError, match="does not speak part B"):
                session.agent_list()
            session.sys_hello()
            assert [frame.ins for frame in threaded.peer.frames] == [0, 0, 0, 0, 1]
        return
    async with WireNode() as node, node.connect() as session:
        for call in (session.agent_list(), session.agent_remove(KEY), session.agents()):
            with pytest.raises(asys.ArgumentError, match="does not speak part B"):
                await call
        await session.sys_hello()
        assert [frame.ins for frame in node.peer.frames] == [0, 0, 0, 0, 1]


# Adding, removing, listing


async def test_an_agent_is_added_listed_and_removed() -> None:
    below = AgentsBelow()
    async with WireNode(serve_b(below.answer, lit=LIT)) as node, node.connect() as session:
        made = await session.agent_add(KEY, caps="core,PROC_THROTTLE", ttl_s=3600, label="worker")
        assert made == isa.AgentHash(key_hash=key_hash(KEY))
        (new,) = below.added
        assert (new.key, str(new.caps), new.ttl_s, new.label) == (
            KEY,
            "core,PROC_THROTTLE",
            3600,
            "worker",
        )
        listed = await session.agent_list()
        assert (listed.total, listed.count, listed.page) == (1, 1, 0)
        assert listed.agents[0].label == "worker"
        assert "PROC_THROTTLE" in listed.agents[0].caps
        assert await session.agents() == listed.agents
        remove: Any = session.agent_remove
        assert await remove(KEY) is None
        with pytest.raises(asys.InvalidPayload):
            await session.agent_remove(KEY)
        assert await session.agents() == ()
        assert {frame.sec for frame in node.peer.frames if frame.ins >> 4 == 6} == {SEC_ENC_SIGN}


def test_in_blocking_code_too() -> None:
    below = AgentsBelow()
    with ThreadedWireNode(serve_b(below.answer, lit=LIT)) as node, node.connect() as session:
        made = session.agent_add(KEY, caps=["SYS_HELLO", 0x20, "22"])
        assert made.key_hash == key_hash(KEY)
        assert str(below.added[0].caps) == "SYS_HELLO,PROC_THROTTLE,SVC_RESTART"
        assert (below.added[0].ttl_s, below.added[0].label) == (0, "")
        assert [one.key for one in session.agents()] == [KEY]
        assert session.resend(1) == made
        session.agent_remove(KEY)
        assert session.agents() == ()


@pytest.mark.parametrize("written", [HEX, HEX.upper(), KEY])
async def test_a_key_may_be_written_in_hex(written: Any) -> None:
    below = AgentsBelow()
    async with WireNode(serve_b(below.answer, lit=LIT)) as node, node.connect() as session:
        await session.agent_add(written, "core")
        assert [one.key for one in below.added] == [KEY]
        await session.agent_remove(key=written)
        assert below.agents == []


WRONG: tuple[dict[str, Any], ...] = (
    {"key": KEY[:31]},
    {"key": HEX[:62]},
    {"key": f"{HEX[:62]}zz"},
    {"key": f" {HEX}"},
    {"key": 7},
    {"key": None},
    {"key": bytearray(KEY)},
    {"caps": "core,nonsense"},
    {"caps": 7},
    {"caps": ["core,20"]},
    {"caps": [256]},
    {"ttl_s": -1},
    {"ttl_s": 2**32},
    {"ttl_s": 1.5},
    {"label": "a b"},
    {"label": "a" * 32},
    {"label": "b=c"},
    {"services": "*"},
)


@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_arguments_are_refused_before_a_byte_is_sent(wrong: dict[str, Any]) -> None:
    async with WireNode(serve_b(lit=LIT)) as node, node.connect() as session:
        arguments: dict[str, Any] = {"key": KEY, "caps": "core"}
        before = node.peer.received
        with pytest.raises(asys.ArgumentError) as caught:
            await session.agent_add(**{**arguments, **wrong})
        await session.sys_hello()

        assert node.peer.received == before + 24
        assert HEX[:16] not in str(caught.value)


# Pages


def many(count: int) -> AgentsBelow:
    below = AgentsBelow()
    for number in range(count):
        below.put(number.to_bytes(32, "big"), "core", label=f"agent-{number}")
    return below


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 100])
async def test_agents_goes_through_all_pages(count: int) -> None:
    below = many(count)
    async with WireNode(serve_b(below.answer, lit=LIT)) as node, node.connect() as session:
        found = await session.agents()

        assert found == tuple(below.agents)
        asked = [frame for frame in node.peer.frames if frame.ins == 0x62]
        assert [frame.p1 for frame in asked] == list(range(max(1, -(-count // 32))))


def next_page(pages: AgentPages) -> int | None:
    return pages.page


def reply_of(below: AgentsBelow, page: int) -> isa.Agents:
    return isa.Agents.unpack(below.page(page)[:-2])


def test_a_list_that_changes_meanwhile_is_read_anew() -> None:
    below = many(70)
    pages = AgentPages()
    pages.take(reply_of(below, 0))
    assert next_page(pages) == 1

    del below.agents[0]  # number 32 is now on the page that was read already
    pages.take(reply_of(below, 1))

    assert next_page(pages) == 0
    while pages.page is not None:
        pages.take(reply_of(below, pages.page))
    assert pages.agents == tuple(below.agents)


def test_a_list_that_never_rests_comes_to_an_end() -> None:
    below = many(200)
    pages = AgentPages()
    asked = 0
    while pages.page is not None:
        pages.take(reply_of(below, pages.page))
        below.agents.pop()
        asked += 1
        assert asked < 50

    assert len(pages.agents) >= 100


def test_a_node_whose_total_is_wrong_is_asked_once_more_only() -> None:
    pages = AgentPages()
    first = dataclasses.replace(reply_of(many(32), 0), total=100)
    pages.take(first)
    assert next_page(pages) == 1

    pages.take(isa.Agents(total=100, count=0, page=1, agents=()))

    assert next_page(pages) is None
    assert len(pages.agents) == 32


# What the methods say of themselves


@pytest.mark.parametrize("shell", [aio, blocking])
def test_signatures_and_help_have_the_words_of_the_file(shell: Any) -> None:
    signature = inspect.signature(shell.Node.agent_add)
    defaults = {name: one.default for name, one in signature.parameters.items()}
    assert list(defaults) == ["self", "key", "caps", "ttl_s", "label"]
    assert (defaults["ttl_s"], defaults["label"]) == (0, "")
    assert defaults["key"] is defaults["caps"] is inspect.Parameter.empty
    assert inspect.signature(shell.Node.agent_list).parameters["page"].default == 0

    text = " ".join(shell.Node.agent_add.__doc__.split())
    assert "32 bytes, or 64 hex digits" in text
    assert "instruction names, hex codes, groups, core, all, with commas" in text
    for group in ("process", "security", "vendor"):
        assert group in text
    assert "64 hex digits" in shell.Node.agent_remove.__doc__


def test_the_request_itself_wants_bytes() -> None:
    with pytest.raises(asys.ArgumentError, match="32 bytes"):
        NewAgent(key=HEX, caps="core").check()


async def test_a_node_without_the_instruction_says_so() -> None:
    async with WireNode(serve(part_b=True)) as node, node.connect() as session:
        with pytest.raises(asys.NoSuchInstruction):
            await session.agent_add(KEY, "core")
