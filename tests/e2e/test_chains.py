"""Chains and long frames against a real asyd, byte by byte and through the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import asys
import asys.sync
from asys.client.chained import FRAGMENT
from asys.client.exchange import Exchange
from asys.client.identity import Identity
from asys.errors import Blocked
from asys.isa import CONTINUE
from asys.node.chains import NODE_BYTES
from asys.protocol.limits import MAX_CHAIN, MAX_DATA
from support.chained import CHAINED, PLAIN, PRELUDE, SEALED, declared, seen
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.frames import (
    BLOCKED,
    DENIED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.raw_agent import RawAgent

MORE = 0x10
SIGNED = 0x04
EXTENDED = 0x02
SESSIONS = 1024


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {AGENT: "agent caps=all", CORE_AGENT: "other"}
    options = ("--max-sessions-per-key", str(SESSIONS))
    directory = tmp_path_factory.mktemp("chains")
    with running(directory, *options, agents=agents, prelude=PRELUDE) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def chainable() -> Iterator[None]:
    with declared():
        yield


@pytest.fixture
def agent(asyd: Daemon) -> Iterator[RawAgent]:
    with asyd.connect() as agent:
        yield agent


def fragment(agent: RawAgent, ins: int, data: bytes, *, more: bool = True) -> bytes:
    cla = SIGNED | (MORE if more else 0) | (EXTENDED if len(data) > 251 else 0)
    return agent.signed(ins, data, cla=cla)


def begin(agent: RawAgent, data: bytes) -> bytes:
    answer = agent.ask(fragment(agent, CHAINED.code, data))
    assert (len(answer), answer[-2:]) == (6, OK)
    return answer[:4]


def go_on(agent: RawAgent, handle: bytes, data: bytes, *, more: bool = True) -> bytes:
    return agent.ask(fragment(agent, CONTINUE.code, handle + data, more=more))


# -- long frames


@pytest.mark.parametrize("size", [251, 252, 60_000, MAX_DATA - 4])
def test_signed_frames_of_any_length(agent: RawAgent, size: int) -> None:
    body = scrambled(size)
    for extended in {size > 251, True}:
        cla = SIGNED | (EXTENDED if extended else 0)
        answer = agent.ask(agent.signed(CHAINED.code, body, cla=cla))
        assert answer == seen(body).pack() + OK


def test_the_tag_covers_the_seven_bytes_of_an_extended_header(agent: RawAgent) -> None:
    """A tag over the five bytes of a standard header is wrong, and so is one for another length."""
    good = agent.signed(CHAINED.code, bytes(300), cla=SIGNED | EXTENDED)
    data = good[7:-18]
    short = good[:-16] + agent.tag(good[:5], data)
    agent.send(short)
    assert agent.final() == [DENIED]


# -- raw frames


def test_fragments_of_any_form_are_one_payload(agent: RawAgent) -> None:
    body = scrambled(60_000 + 300)
    handle = begin(agent, body[:100])
    assert go_on(agent, handle, b"") == OK
    assert go_on(agent, handle, body[100:60_100]) == OK
    assert go_on(agent, handle, body[60_100:], more=False) == seen(body).pack() + OK


def test_fragments_in_another_order_are_another_payload(agent: RawAgent) -> None:
    """A CONTINUE before its first fragment has nothing to go on with; the rest is as it came."""
    guess = bytes.fromhex("00010001")
    assert go_on(agent, guess, b"b") == INVALID_PAYLOAD
    handle = begin(agent, b"a")
    agent.send(
        fragment(agent, CONTINUE.code, handle + b"c"),
        fragment(agent, CONTINUE.code, handle + b"b", more=False),
        fragment(agent, CONTINUE.code, handle + b"d", more=False),
    )
    assert [agent.answer() for _ in range(3)] == [OK, seen(b"acb").pack() + OK, INVALID_PAYLOAD]


def test_another_session_has_no_use_for_the_handle(asyd: Daemon, agent: RawAgent) -> None:
    handle = begin(agent, b"mine")
    with asyd.connect() as other:
        assert go_on(other, handle, b"!", more=False) == INVALID_PAYLOAD
    with asyd.connect(CORE_AGENT) as other:
        assert go_on(other, handle, b"!", more=False) == NO_SUCH_INSTRUCTION
    assert go_on(agent, handle, b"", more=False) == seen(b"mine").pack() + OK


def test_a_bad_tag_ends_all(asyd: Daemon, agent: RawAgent) -> None:
    handle = begin(agent, b"signed")
    agent.send(agent.signed(CONTINUE.code, handle + b"!", bad=True))
    assert agent.final() == [DENIED]
    with asyd.connect() as other:
        assert go_on(other, handle, b"!", more=False) == INVALID_PAYLOAD


def test_a_change_of_sec_ends_the_chain_and_not_the_session(agent: RawAgent) -> None:
    handle = begin(agent, b"signed")
    assert agent.ask(frame(CONTINUE.code, handle + b"!")) == DENIED
    assert go_on(agent, handle, b"", more=False) == INVALID_PAYLOAD


def test_one_byte_over_256_kib(agent: RawAgent) -> None:
    part = bytes(MAX_CHAIN // 8)
    handle = begin(agent, part)
    for _ in range(7):
        assert go_on(agent, handle, part) == OK
    assert go_on(agent, handle, b"!") == WRONG_LENGTH
    assert go_on(agent, handle, b"", more=False) == INVALID_PAYLOAD


def test_what_is_built_in_takes_no_fragments(agent: RawAgent) -> None:
    assert agent.ask(agent.signed(0x20, bytes(4), cla=SIGNED | MORE)) == WRONG_LENGTH
    assert agent.alive()


def test_memory_is_bounded_however_many_sessions_begin_chains(asyd: Daemon) -> None:
    part = bytes(60_000)
    agents: list[RawAgent] = []
    try:
        for _ in range(SESSIONS - 8):
            agents.append(asyd.connect())
            assert agents[-1].alive()
        before = asyd.resident_kb()
        taken = 0
        for one in agents:
            answer = one.ask(fragment(one, CHAINED.code, part))
            taken += answer[-2:] == OK
            assert answer[-2:] in (OK, BLOCKED)
        assert taken == NODE_BYTES // len(part)
        # Twice what is held: pieces of memory that are reused are not given back at once.
        assert asyd.resident_kb() - before < 2 * NODE_BYTES / 1024
        for one in agents[:taken]:
            one.close()
        agents[:taken] = []
        with asyd.connect() as late:
            handle = begin(late, part)
            assert go_on(late, handle, b"", more=False) == seen(part).pack() + OK
    finally:
        for one in agents:
            one.close()


# -- the SDK


BODY = scrambled(MAX_CHAIN - 1)


async def test_the_sdk_cuts_what_is_too_long(asyd: Daemon) -> None:
    exchanges: list[Exchange] = []
    host, port = asyd.endpoint
    async with asys.connect(
        host, port, identity=Identity(AGENT), node_key=asyd.key, trace=exchanges.append
    ) as node:
        exchanges.clear()
        assert await node.call(CHAINED, BODY, one=1, two=2) == seen(BODY, 1, 2)
        assert len(exchanges) == -(-len(BODY) // FRAGMENT)
        exchanges.clear()
        assert await node.call(CHAINED, BODY[:60_000]) == seen(BODY[:60_000])
        assert len(exchanges) == 1
        found = await asyncio.gather(
            *(node.call(one, BODY[start:]) for start, one in enumerate((PLAIN, CHAINED, SEALED))),
            node.sys_hello(),
        )
        assert list(found[:3]) == [seen(BODY[start:]) for start in range(3)]


async def test_a_cancelled_call_leaves_the_connection_usable(asyd: Daemon) -> None:
    host, port = asyd.endpoint
    async with asys.connect(host, port, identity=Identity(AGENT), node_key=asyd.key) as node:
        task = asyncio.create_task(node.call(CHAINED, BODY))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await node.call(CHAINED, BODY) == seen(BODY)


def test_the_sdk_without_asyncio(asyd: Daemon) -> None:
    host, port = asyd.endpoint
    with asys.sync.connect(host, port, identity=Identity(AGENT), node_key=asyd.key) as node:
        assert node.can(CONTINUE.code)
        assert node.call(SEALED, BODY) == seen(BODY)
    with asys.sync.connect(host, port, identity=Identity(CORE_AGENT), node_key=asyd.key) as node:
        assert not node.can(CONTINUE.code)
        with pytest.raises(asys.NoSuchInstruction):
            node.call(CHAINED, BODY)


def test_a_full_node_is_told_as_blocked(asyd: Daemon) -> None:
    part = bytes(65_000)
    agents: list[RawAgent] = []
    try:
        for _ in range(NODE_BYTES // len(part)):
            agents.append(asyd.connect())
            begin(agents[-1], part)
        host, port = asyd.endpoint
        with asys.sync.connect(host, port, identity=Identity(AGENT), node_key=asyd.key) as node:
            with pytest.raises(Blocked):
                node.call(CHAINED, BODY)
            assert node.call(CHAINED, b"short") == seen(b"short")
    finally:
        for one in agents:
            one.close()
