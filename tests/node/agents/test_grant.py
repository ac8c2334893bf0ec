"""What an agent holds, compiled: its map, its rates, and when they hold anew."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.isa import PROC_THROTTLE, SYS_HELLO, SYS_STATUS
from asys.isa.capmap import CORE, EVERYTHING, parse_caps
from asys.node.agents.directory import Delegate
from asys.node.agents.grant import Grant
from asys.node.platform import choose_platform
from asys.node.refusal import Refused
from asys.node.server import Mode, Node
from asys.protocol.status import SW
from support.clock import ManualClock
from support.frames import (
    BLOCKED,
    CAPS,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    NOT_SUPPORTED,
    OK,
    STATUS,
    frame,
)
from support.node_rig import AGENT, NODE, OTHER, Rig, RigAgent, book
from support.services import Services
from support.target import Machine

NOW = 5000.0


def grant_of(rig: Rig) -> Grant:
    grant = rig.node.grant(AGENT.public)
    assert grant is not None
    return grant


def sws(agent: RigAgent, *requests: bytes) -> list[bytes]:
    return [answer[-2:] for answer in agent.ask(*requests)]


# -- rates


def test_looking_takes_nothing_and_taking_does() -> None:
    grant = grant_of(Rig({AGENT: "agent caps=all rate=PROC_THROTTLE:2/m"}))
    code = PROC_THROTTLE.code
    for _ in range(5):
        grant.check_rate(code, NOW)
    for _ in range(2):
        charge = grant.charge(code, NOW)
        charge.check()
        charge.take()
    with pytest.raises(Refused) as raised:
        grant.charge(code, NOW).check()
    assert raised.value.sw is SW.BLOCKED
    with pytest.raises(Refused):
        grant.check_rate(code, NOW + 29)
    grant.check_rate(code, NOW + 30)


def test_what_has_no_rate_is_never_refused() -> None:
    grant = grant_of(Rig({AGENT: "agent caps=all rate=PROC_THROTTLE:1/h"}))
    for _ in range(1000):
        charge = grant.charge(SYS_HELLO.code, NOW)
        charge.check()
        charge.take()


async def test_an_instruction_without_a_target_has_its_rate_in_the_gate() -> None:
    rig = Rig({AGENT: "agent rate=SYS_HELLO:3/s,TASK_QUERY:1/m"})
    agent = rig.session()  # which is one of them
    query = frame(0x11, bytes(4))
    assert sws(agent, HELLO, HELLO, HELLO, CAPS) == [OK, OK, BLOCKED, OK]
    assert sws(agent, frame(0x11), query, query, frame(0x11)) == [b"\x67\0", OK, BLOCKED, b"\x67\0"]
    rig.advance(0.34)
    assert sws(agent, HELLO, HELLO) == [OK, BLOCKED]
    await rig.close()


async def test_a_rate_for_what_is_dark_or_impossible_shows_nothing() -> None:
    rates = "rate=PROC_THROTTLE:1/h,SVC_RESTART:1/h,EE:1/h"
    rig = Rig({AGENT: f"agent caps=core,SVC_RESTART {rates}"})
    agent = rig.session()
    for _ in range(3):
        wanted = [NO_SUCH_INSTRUCTION, NO_SUCH_INSTRUCTION, NOT_SUPPORTED]
        assert sws(agent, frame(0x20), frame(0xEE), agent.restart("web")) == wanted
    await rig.close()


async def test_agents_with_one_map_and_different_rates_do_not_share_a_table() -> None:
    rig = Rig({AGENT: "agent rate=SYS_STATUS:1/h", OTHER: "other"})
    slow, free = rig.session(), rig.session(OTHER)
    await rig.until(lambda: rig.node.sampler.fresh(rig.clock.now()))
    assert sws(slow, STATUS, STATUS) == [OK, BLOCKED]
    assert sws(free, STATUS, STATUS) == [OK, OK]
    assert grant_of(rig).rates.keys() == {SYS_STATUS.code}
    await rig.close()


async def test_all_sessions_and_all_agents_below_a_line_share_its_bucket() -> None:
    below = Delegate(OTHER.public, AGENT.public, CORE, "below", 0)
    rig = Rig({AGENT: "agent rate=SYS_HELLO:4/h"}, delegates=(below,))
    first, second, child = rig.session(), rig.session(), rig.session(OTHER)
    assert sws(child, HELLO, HELLO) == [OK, BLOCKED]
    assert sws(first, HELLO) == sws(second, HELLO) == [BLOCKED]
    await rig.close()


async def test_reading_the_file_again_fills_no_bucket() -> None:
    rig = Rig({AGENT: "agent rate=SYS_HELLO:1/h"})
    agent = rig.session()
    rig.node.authority.replace_book(book({AGENT: "renamed rate=SYS_HELLO:1/h", OTHER: ""}))
    assert sws(agent, HELLO) == [BLOCKED]
    rig.node.authority.replace_book(book({AGENT: "agent rate=SYS_HELLO:2/h"}))
    assert sws(agent, HELLO, HELLO, HELLO) == [OK, OK, BLOCKED]  # another rate, another bucket
    rig.node.authority.replace_book(book({AGENT: "agent"}))
    assert sws(agent, HELLO, HELLO) == [OK, OK]
    rig.node.authority.replace_book(book({OTHER: "other"}))
    rig.node.authority.replace_book(book({AGENT: "agent rate=SYS_HELLO:2/h"}))
    agent = rig.session()
    assert sws(agent, HELLO, HELLO) == [OK, BLOCKED]
    await rig.close()


# -- the map


def lit(agent: RigAgent) -> int:
    """The map that the four pages of SYS_CAPS show."""
    found = 0
    for page in range(4):
        [answer] = agent.ask(frame(0x00, p1=page))
        assert answer[33] & 3 == page
        core, ext = int.from_bytes(answer[:4], "big"), int.from_bytes(answer[4:8], "big")
        found |= (core | ext << 32) << 64 * page
    return found


@pytest.fixture
async def able() -> AsyncIterator[Rig]:
    """A node of signals and services, for an agent that is granted all there is."""
    agents = {AGENT: "agent caps=all,security,vendor", OTHER: "other"}
    rig = Rig(agents, platform=Machine(), services=Services())
    yield rig
    await rig.close()


def test_four_pages_show_what_is_granted_and_possible(able: Rig) -> None:
    assert lit(able.session()) == parse_caps(
        "core,TASK_QUERY,TASK_CANCEL,REKEY,ABANDON,20,22,60,61,62"
    )
    assert lit(able.session(OTHER)) == CORE


def test_there_is_no_fifth_page(able: Rig) -> None:
    agent = able.session()
    for page in (4, 5, 128, 255):
        assert agent.ask(frame(0x00, p1=page)) == [INVALID_PAYLOAD]


def test_pages_are_the_same_object_while_the_facts_are(able: Rig) -> None:
    grant = grant_of(able)
    assert able.node.caps_reply(grant, 2) is able.node.caps_reply(grant, 2)


async def test_dark_and_light_hold_from_the_next_instruction(able: Rig) -> None:
    agent, other = able.session(), able.session(OTHER)
    before = lit(agent)
    able.node.authority.set_dark(True)
    assert lit(agent) == CORE == lit(other)
    assert sws(agent, frame(0x20), HELLO) == [NO_SUCH_INSTRUCTION, OK]
    able.node.authority.set_dark(False)
    assert lit(agent) == before
    assert sws(agent, frame(0x20)) == [DENIED]


async def test_a_node_that_starts_dark() -> None:
    rig = Rig({AGENT: "agent caps=all"}, dark=True)
    assert lit(rig.session()) == CORE
    await rig.close()


async def test_monitor_has_core_and_says_so_of_the_rest() -> None:
    rig = Rig({AGENT: "agent caps=all", OTHER: "other"}, platform=Machine(), mode=Mode.MONITOR)
    agent, other = rig.session(), rig.session(OTHER)
    assert lit(agent) == CORE
    granted = [agent.throttle(4711), agent.restart("web"), frame(0x14), frame(0x20)]
    assert sws(agent, *granted, frame(0x04)) == [NOT_SUPPORTED] * 4 + [NO_SUCH_INSTRUCTION]
    assert sws(other, *[frame(code) for code in (0x14, 0x20)]) == [NO_SUCH_INSTRUCTION] * 2
    await rig.close()


# -- its end


async def test_the_end_of_a_line_closes_its_sessions_without_a_timer() -> None:
    """Nobody has to have rung: the next request finds out."""
    rig = Rig({AGENT: "agent expires=2023-11-14", OTHER: "other"})
    agent, other = rig.session(), rig.session(OTHER)
    end = grant_of(rig).ends_ns
    assert end == 1_700_006_400 * 10**9  # 2023-11-15 00:00 UTC
    rig.clock.skip((end - rig.clock.time_ns()) / 1e9)
    agent.send(HELLO)
    assert agent.responses() == []
    assert agent.transport.eof_sent
    assert other.ask(HELLO)[0].endswith(OK)
    assert rig.connect().responses() == [DENIED]
    await rig.close()


async def test_the_end_of_a_line_closes_a_session_that_asks_nothing() -> None:
    rig = Rig({AGENT: "agent expires=2023-11-14"})
    rig.advance((1_700_006_400 * 10**9 - rig.clock.time_ns()) / 1e9 - 1)
    agent = rig.session()
    assert agent.ask(HELLO)[0].endswith(OK)
    rig.advance(1.0)
    assert agent.transport.eof_sent
    await rig.close()


# -- a node that checks nothing, to measure what checks cost


async def test_an_unchecked_node_grants_what_it_can_do() -> None:
    node = Node(
        key=NODE,
        book=book({AGENT: "agent services=x users=0 rate=SYS_HELLO:1/h"}),
        platform=choose_platform(),
        clock=ManualClock(),
        checked=False,
    )
    grant = node.grant(AGENT.public)
    assert grant is not None
    assert grant.lit == EVERYTHING & node._dispatcher.possible
    assert grant.scope.allows_user(1)
    assert not grant.rates
    assert node.grant(OTHER.public) is None
    await node.close()
