"""The order of checks of vendors' instructions (docs/protocol.md, 7.19), with a played worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from asys.isa import Level
from asys.node.handlers.vendor import may_begin
from asys.node.server import Mode
from asys.node.vendor.enabled import Enabled
from asys.node.vendor.vendors import Vendors
from asys.protocol.apdu import CLA_MORE, SEC_SIGNED, Frame
from asys.vendor.definition import MAX_BODY, MAX_JOINED_BODY, id_of_domain
from asys.vendor.wire import Description
from support.frames import frame
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.on_record import Witnessed
from support.vendor_workers import (
    DOMAIN,
    OTHER_DOMAIN,
    Played,
    PlayedLauncher,
    described,
    description,
)

ID = id_of_domain(DOMAIN).to_bytes(4, "big")
OTHER_ID = id_of_domain(OTHER_DOMAIN).to_bytes(4, "big")
NOBODYS_ID = id_of_domain("nobody.example").to_bytes(4, "big")
BODY = b"\0\0\0\1"

LINES = {
    AGENT: f"agent caps=core,vendor vendors={DOMAIN},nobody.example rate=C0:2/h",
    OTHER: "other caps=core,vendor",
}
MINE = description(
    described(0xC0),
    described(0xC1, "SECRET", level=Level.ENC_SIGN),
    described(0xC2, "OPEN", body=2, body_exact=False, chainable=True),
)
THEIRS = description(described(0xC0), described(0xD0, "THEIRS"), domain=OTHER_DOMAIN)


class World:
    """A node with two vendors; the agent may use the first."""

    def __init__(self, mode: Mode = Mode.FULL) -> None:
        self.launcher = PlayedLauncher()
        enabled = [Enabled(DOMAIN), Enabled(OTHER_DOMAIN)]
        self.rig = Rig(
            LINES, mode=mode, vendors=lambda clock: Vendors(enabled, self.launcher, clock)
        )
        self.workers: list[Played] = []

    async def start(self, *said: Description) -> None:
        """Every vendor says what it has."""
        assert self.rig.node.vendors is not None
        start = asyncio.ensure_future(self.rig.node.vendors.start())
        for one in said:
            worker = await self.launcher.worker(domain=one.domain)
            worker.hello(one)
            self.workers.append(worker)
        await start
        await self.rig.settle()

    async def ask(
        self, agent: RigAgent, code: int, payload: bytes, reply: bytes | None = None
    ) -> bytes:
        """A signed request, which the worker answers where a reply is given."""
        agent.send(agent.signed(code, payload, cla=0x04 if len(payload) < 250 else 0x06))
        await self.rig.settle()
        if reply is not None:
            await self.rig.settle()
            number, *_ = await self.workers[0].request()
            self.workers[0].answer(number, reply=reply)
        [answer] = await self.answers(agent)
        return answer

    async def answers(self, *agents: RigAgent) -> list[bytes]:
        """One answer for each of these agents."""
        found: dict[RigAgent, bytes] = {}

        def all_there() -> bool:
            for agent in agents:
                for answer in agent.responses():
                    assert agent not in found
                    found[agent] = answer
            return len(found) == len(agents)

        await self.rig.until(all_there)
        return [found[agent] for agent in agents]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start(MINE, THEIRS)
    yield made
    await made.rig.close()


async def test_what_is_lit(world: World) -> None:
    """What some vendor that the agent may use has; of the others nothing shows."""
    grant = world.rig.session(AGENT).session.grant
    assert grant.lit >> 0xC0 == 0b111
    assert list(grant.vendors) == [id_of_domain(DOMAIN)]
    assert world.rig.session(OTHER).session.grant.lit >> 0xC0 == 0


async def test_a_request_is_done(world: World) -> None:
    agent = world.rig.session()
    assert await world.ask(agent, 0xC0, ID + BODY, b"abcd") == b"abcd\x90\x00"


@pytest.mark.parametrize(
    ("code", "payload", "sw"),
    [
        (0xC0, b"", "6700"),
        (0xC0, ID[:3], "6700"),
        (0xC0, NOBODYS_ID, "6982"),
        (0xC0, OTHER_ID + BODY, "6982"),
        (0xD0, OTHER_ID + BODY, "6982"),
        (0xD0, NOBODYS_ID + BODY, "6982"),
        (0xC0, bytes(4) + bytes(MAX_BODY + 1), "6700"),
        (0xC0, bytes(4) + bytes(MAX_BODY), "6982"),
        (0xD0, ID + BODY, "6A81"),
        (0xFF, ID, "6A81"),
        (0xC1, ID, "6982"),
        (0xC0, ID + b"\0\0\0", "6700"),
        (0xC0, ID + b"\0\0\0\0\0", "6700"),
        (0xC2, ID + b"\0", "6700"),
        (0xC2, ID + bytes(MAX_BODY + 1), "6700"),
    ],
)
async def test_what_fails_first_decides(world: World, code: int, payload: bytes, sw: str) -> None:
    agent = world.rig.session()
    assert (await world.ask(agent, code, payload)).hex().upper() == sw
    assert world.rig.node.session_count == 1  # nothing of this ends a session


async def test_a_plain_frame_is_refused_whomever_it_names(world: World) -> None:
    agent = world.rig.session()
    for payload in (b"", ID + BODY, OTHER_ID + BODY):
        assert agent.ask(frame(0xC0, data=payload)) == [b"\x69\x82"]


async def test_nothing_is_there_for_whom_it_was_not_granted() -> None:
    rig = Rig({AGENT: f"agent caps=core,C1 vendors={DOMAIN}"})
    agent = rig.session()
    assert agent.ask(agent.signed(0xC0, ID + BODY)) == [b"\x6a\x81"]
    assert agent.ask(agent.signed(0xC1, ID + BODY)) == [b"\x69\x82"]  # no vendor at all
    await rig.close()


async def test_a_rate_counts_what_ran(world: World) -> None:
    agent = world.rig.session()
    for _ in range(2):
        assert (await world.ask(agent, 0xC0, ID + b"\0")).hex() == "6700"
        assert await world.ask(agent, 0xC0, ID + BODY, BODY) == BODY + b"\x90\x00"
    assert (await world.ask(agent, 0xC0, ID + BODY)).hex() == "6400"
    assert await world.ask(agent, 0xC2, ID + BODY, BODY) == BODY + b"\x90\x00"


async def test_what_is_on_record(world: World) -> None:
    """An intent before the worker has it, an outcome behind its answer; refusals have no intent."""
    seen = Witnessed()
    world.rig.node.audit = seen
    agent = world.rig.session()
    await world.ask(agent, 0xC2, ID + BODY, BODY)
    await world.ask(agent, 0xC2, OTHER_ID + BODY)
    await world.ask(agent, 0xC2, ID)
    mine, theirs, short = (
        (one + two).hex() for one, two in ((ID, BODY), (OTHER_ID, BODY), (ID, b""))
    )
    assert seen.take() == [
        f"intent C2 1 {mine}",
        f"outcome C2 1 {mine} 9000 intended",
        f"outcome C2 2 {theirs} 6982",
        f"outcome C2 3 {short} 6700",
    ]


async def test_without_room_for_its_record_nothing_runs(world: World) -> None:
    seen = Witnessed()
    seen.room = False
    world.rig.node.audit = seen
    agent = world.rig.session()
    for _ in range(3):  # and the rate is not spent
        assert (await world.ask(agent, 0xC0, ID + BODY)).hex() == "6400"
    seen.room = True
    for _ in range(2):
        assert await world.ask(agent, 0xC0, ID + BODY, BODY) == BODY + b"\x90\x00"


async def test_success_has_the_node_flags(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Witnessed, "flags", 1)
    world.rig.node.audit = Witnessed()
    agent = world.rig.session()
    assert await world.ask(agent, 0xC0, ID + BODY, BODY) == BODY + b"\x91\x01"


async def test_a_full_pool_takes_no_more(world: World) -> None:
    agents = [world.rig.session() for _ in range(5)]
    for agent in agents[:4]:
        agent.send(agent.signed(0xC2, ID + BODY))
    await world.rig.settle()
    asked = await world.workers[0].asked(4)
    assert (await world.ask(agents[4], 0xC2, ID + BODY)).hex() == "6400"
    world.workers[0].answer(asked[0][0], reply=BODY)
    for number, *_ in asked[1:]:
        world.workers[0].answer(number, 0x6A80)
    answers = await world.answers(*agents[:4])
    assert [one.hex() for one in answers] == ["000000019000", "6a80", "6a80", "6a80"]


async def test_monitor_mode_does_nothing_for_anybody() -> None:
    world = World(Mode.MONITOR)
    agent = world.rig.session()
    assert agent.ask(agent.signed(0xC0, ID + BODY)) == [b"\x6d\x00"]
    assert agent.session.grant.lit >> 0xC0 == 0
    await world.rig.close()


async def test_dark_comes_before_everything(world: World) -> None:
    agent = world.rig.session()
    world.rig.node.authority.set_dark(True)
    assert agent.ask(agent.signed(0xC0, ID + BODY)) == [b"\x6a\x81"]
    assert agent.session.grant.lit >> 0xC0 == 0


async def test_fragments_are_for_what_is_chainable(world: World) -> None:
    session = world.rig.session().session
    cla = SEC_SIGNED | CLA_MORE

    def begins(code: int, payload: bytes) -> bytes | None:
        return may_begin(session, Frame(cla, code, 0, 0, bytes(4) + payload, b"head"))

    assert begins(0xC2, ID) is None
    assert begins(0xC2, ID + bytes(60_000)) is None
    assert begins(0xC0, ID) == b"\x67\x00"
    assert begins(0xC2, OTHER_ID) == b"\x69\x82"
    assert begins(0xC3, ID) == b"\x6a\x81"


async def test_a_body_in_fragments(world: World) -> None:
    """The Vendor_ID stands in the first alone; the worker gets one body."""
    agent = world.rig.session()
    [begun] = agent.ask(agent.signed(0xC2, ID + b"first", 7, 8, cla=0x14))
    handle, sw = begun[:-2], begun[-2:]
    assert sw == b"\x90\x00"
    assert agent.ask(agent.signed(0x10, handle + bytes(40_000), cla=0x16)) == [b"\x90\x00"]
    agent.send(agent.signed(0x10, handle + b"last", cla=0x04))
    await world.rig.settle()
    number, *rest = await world.workers[0].request()
    assert rest == [0xC2, 7, 8, b"first" + bytes(40_000) + b"last"]
    world.workers[0].answer(number, reply=BODY)
    assert await world.answers(agent) == [BODY + b"\x90\x00"]


@pytest.mark.parametrize(
    ("code", "first", "sw"),
    [
        (0xC0, ID, "6700"),
        (0xC2, ID[:3], "6700"),
        (0xC2, OTHER_ID, "6982"),
        (0xC2, NOBODYS_ID, "6982"),
        (0xD0, ID, "6A81"),
    ],
)
async def test_fragments_that_are_not_taken(world: World, code: int, first: bytes, sw: str) -> None:
    agent = world.rig.session()
    [answer] = agent.ask(agent.signed(code, first, cla=0x14))
    assert answer.hex().upper() == sw
    assert not world.rig.node.chains.held


async def test_what_was_joined_may_be_longer(world: World) -> None:
    agent = world.rig.session()
    entry = agent.session.grant.table[0xC2]

    def joined(size: int) -> Frame:
        return Frame(SEC_SIGNED, 0xC2, 0, 0, bytes(4) + ID + bytes(size))

    assert entry(agent.session, joined(MAX_JOINED_BODY + 1)) == b"\x67\x00"
    answer = entry(agent.session, joined(MAX_JOINED_BODY))
    assert asyncio.iscoroutine(answer)
    done = asyncio.ensure_future(answer)
    number, *_, body = (await world.workers[0].asked(1))[0]
    assert len(body) == MAX_JOINED_BODY
    world.workers[0].answer(number, reply=BODY)
    assert await done == BODY + b"\x90\x00"
