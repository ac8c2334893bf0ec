"""Vendors' instructions in fragments, on a node whose vendor answers at once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asys.isa import CONTINUE, Level
from asys.isa.capmap import CARRIER
from asys.protocol.status import SW
from asys.vendor.definition import MAX_BODY, MAX_JOINED_BODY
from asys.vendor.wire import Described
from support.frames import (
    CAPS,
    DENIED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book

MORE = 0x10
SIGNED = 0x04
EXTENDED = 0x02
VENDOR = 0x00010007
ID = VENDOR.to_bytes(4, "big")
LONG, SHORT, NONE = 0xC1, 0xC2, 0xC3
AGENTS = {AGENT: "agent caps=core,vendor vendors=0x00010007", OTHER: "other caps=core,vendor"}


class Pool:
    """A vendor that gives back what it was asked."""

    codes = (LONG, SHORT)
    asked = 0

    def get(self, code: int) -> Described | None:
        if code not in self.codes:
            return None
        return Described(code, "ECHO", Level.SIGNED, code == LONG, 0, False, 0, False)

    def busy(self) -> str:
        return ""

    async def ask(self, code: int, p1: int, p2: int, body: bytes) -> tuple[SW, bytes]:
        self.asked += 1
        return SW.SUCCESS, bytes((code, p1, p2)) + hashlib.blake2b(body).digest()


class Vendors:
    """All vendors of a node: one."""

    pids = ()

    def __init__(self) -> None:
        self.pool = Pool()

    def usable(self, scope: Any) -> dict[int, Pool]:
        return {VENDOR: self.pool} if scope.allows_vendor(VENDOR) else {}

    async def close(self) -> None:
        """Nothing runs."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig(AGENTS)
    node: Any = rig.node
    node.vendors = Vendors()
    rig.node.authority.replace_book(book(AGENTS))
    yield rig
    await rig.close()


def signed(agent: RigAgent, ins: int, data: bytes, p1: int = 0, *, more: bool) -> bytes:
    cla = SIGNED | (MORE if more else 0) | (EXTENDED if len(data) > 251 else 0)
    return agent.signed(ins, data, p1, cla=cla)


async def told(rig: Rig, agent: RigAgent, *requests: bytes) -> list[bytes]:
    agent.send(*requests)
    await rig.settle()
    return agent.responses()


@pytest.mark.parametrize("size", [0, MAX_BODY, MAX_BODY + 1, MAX_JOINED_BODY])
async def test_a_body_longer_than_one_frame_carries(rig: Rig, size: int) -> None:
    agent = rig.session()
    body = scrambled(size)
    pieces = [body[at : at + 60_000] for at in range(0, size, 60_000)] or [b""]
    [answer] = await told(rig, agent, signed(agent, LONG, ID + pieces[0], 5, more=True))
    assert answer[-2:] == OK
    frames = [signed(agent, CONTINUE.code, answer[:4] + one, more=True) for one in pieces[1:]]
    frames.append(signed(agent, CONTINUE.code, answer[:4], more=False))
    expected = bytes((LONG, 5, 0)) + hashlib.blake2b(body).digest() + OK
    assert await told(rig, agent, *frames) == [*[OK] * (len(frames) - 1), expected]


async def test_who_may_not_begin_a_chain(rig: Rig) -> None:
    agent, other = rig.session(), rig.session(OTHER)
    for one, code, data, expected in (
        (agent, SHORT, ID, WRONG_LENGTH),
        (agent, NONE, ID, NO_SUCH_INSTRUCTION),
        (agent, LONG, ID[:3], WRONG_LENGTH),
        (agent, LONG, bytes(4), DENIED),
        (other, LONG, ID, DENIED),
    ):
        assert await told(rig, one, signed(one, code, data, more=True)) == [expected]
    assert await told(rig, agent, frame(LONG, ID, cla=MORE)) == [DENIED]
    assert len(rig.node.chains) == 0


async def test_continue_exists_where_a_vendor_of_the_agent_takes_fragments(rig: Rig) -> None:
    for key, lit in ((AGENT, True), (OTHER, False)):
        agent = rig.session(key)
        [caps] = agent.ask(CAPS)
        assert bool(int.from_bytes(caps[:4], "big") & CARRIER) is lit
        expected = INVALID_PAYLOAD if lit else NO_SUCH_INSTRUCTION
        assert agent.ask(frame(CONTINUE.code, bytes(4))) == [expected]


async def test_the_vendor_must_still_be_allowed_at_the_last_fragment(rig: Rig) -> None:
    agent = rig.session()
    [answer] = await told(rig, agent, signed(agent, LONG, ID, more=True))
    lines = AGENTS | {AGENT: "agent caps=core,C2 vendors=0x00010007"}
    rig.node.authority.replace_book(book(lines))
    last = signed(agent, CONTINUE.code, answer[:4], more=False)
    [refused] = await told(rig, agent, last)
    assert refused == NO_SUCH_INSTRUCTION
    vendors: Any = rig.node.vendors
    assert vendors.pool.asked == 0
