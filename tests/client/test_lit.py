"""What an agent knows of its capability map: pages, what 6A81 takes out, `can`."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asys
from asys import errors, isa
from asys.client.lit import Lit
from asys.isa.capmap import bits, parse_caps, words
from asys.protocol.status import SW
from client.instructions import ECHO
from client.pair import Pair
from support.wire_node import CAPS, OK, PAGES, Peer, ThreadedWireNode, WireNode, page_of, serve_b

REFUSED = SW.NO_SUCH_INSTRUCTION.wire


def page(lit: int, number: int) -> isa.Capabilities:
    core, ext = words(lit, number)
    return dataclasses.replace(CAPS, core_bitmap=core, ext_bitmap=ext, page=number)


@given(st.sets(st.integers(0, 255)), st.permutations(range(4)))
def test_four_pages_are_the_whole_map_in_any_order(codes: set[int], order: list[int]) -> None:
    lit = Lit()
    for number in order:
        lit.learn(number, page(bits(codes), number))

    assert lit.speaks_part_b
    assert lit.map is not None
    assert set(lit.map) == codes
    assert [code for code in range(256) if lit.can(code)] == sorted(codes)
    assert lit.caps == page(bits(codes), 0)


def test_a_deployed_node_has_one_page_and_nothing_beyond() -> None:
    lit = Lit()
    for number in (1, 2, 3, 0):
        lit.learn(number, CAPS)

    assert not lit.speaks_part_b
    assert lit.map is not None
    assert tuple(lit.map) == CAPS.instructions
    assert not lit.can(0x60)
    assert not lit.can(0xFF)


def test_the_flag_beside_the_page_does_not_matter() -> None:
    lit = Lit()
    lit.learn(1, dataclasses.replace(page(bits([0x41]), 1), page=0x81))

    assert lit.speaks_part_b
    assert lit.can(0x41)


def test_an_answer_replaces_its_page_and_no_other() -> None:
    lit = Lit()
    for number in range(4):
        lit.learn(number, page(bits([0x01, 0x41, 0x81]), number))

    lit.learn(1, page(bits([0x42]), 1))

    assert lit.map is not None
    assert set(lit.map) == {0x01, 0x42, 0x81}


def test_without_sys_caps_nothing_is_known() -> None:
    lit = Lit()
    assert lit.map is None
    with pytest.raises(errors.NoSuchInstruction, match="SYS_CAPS: 6A81"):
        lit.can(0x20)

    lit.refused(isa.SYS_CAPS, SW.NOT_SUPPORTED)
    with pytest.raises(errors.NotSupported, match="SYS_CAPS: 6D00"):
        lit.can(0x20)
    assert not lit.has(0x20)


def test_pages_that_were_not_answered_are_not_known() -> None:
    lit = Lit()
    lit.learn(1, page(bits([0x41]), 1))

    assert lit.can(0x41)
    assert not lit.can(0x42)
    assert lit.map is None
    with pytest.raises(errors.NoSuchInstruction):
        lit.can(0x20)


# What a connection learns


def test_6a81_takes_the_instruction_out_of_the_map() -> None:
    pair = Pair(lit="core,process")
    assert pair.caller.lit.can(0x22)
    pair.call(isa.SVC_RESTART, "nginx")
    pair.requests()

    pair.reply(REFUSED)

    assert not pair.caller.lit.can(0x22)
    assert pair.caller.lit.can(0x20)


@pytest.mark.parametrize("sw", [sw for sw in SW if sw is not SW.NO_SUCH_INSTRUCTION])
def test_no_other_answer_does(sw: SW) -> None:
    pair = Pair(lit="core,process")
    pair.call(isa.PROC_THROTTLE, 1, "stop")
    pair.requests()

    pair.reply(sw.wire)

    assert pair.caller.lit.can(0x20)


def test_a_late_6a81_counts_as_well() -> None:
    pair = Pair(lit="core,0C")
    pair.call(ECHO, 1)
    pair.requests()
    pair.caller.expire(11.0)

    pair.reply(REFUSED)

    assert not pair.caller.lit.can(0x0C)


def test_sys_caps_that_goes_away_leaves_what_was_known() -> None:
    pair = Pair(lit="core,process")
    pair.call(isa.SYS_CAPS)
    pair.requests()

    pair.reply(REFUSED)

    assert not pair.caller.lit.can(0x00)
    assert pair.caller.lit.can(0x20)


def test_any_sys_caps_sets_its_page() -> None:
    pair = Pair(lit="core")
    pair.call(isa.SYS_CAPS, 1)
    pair.call(isa.SYS_CAPS)
    pair.requests()
    lit = parse_caps("core,process,60")

    pair.reply(page_of(lit, 1), page_of(lit, 0))

    assert pair.caller.lit.can(0x60)
    assert pair.caller.lit.can(0x20)
    assert pair.caller.lit.caps == page(lit, 0)


# Both shells


class Changing:
    """A node whose map a test changes."""

    def __init__(self, lit: str) -> None:
        self.lit = lit

    async def script(self, peer: Peer) -> None:
        await peer.handshake()
        while True:
            frame = await peer.request()
            lit = parse_caps(self.lit)
            if frame.ins == isa.SYS_CAPS.code and lit & 1:
                peer.reply(page_of(lit, frame.p1))
            else:
                peer.reply(OK if lit >> frame.ins & 1 else REFUSED)


NONSENSE: tuple[Any, ...] = ("", "NO_SUCH", "123", -1, 256, None, 1.5, True, b"20")


async def test_can_answers_by_name_number_and_digits() -> None:
    async with WireNode(serve_b(lit="core,PROC_THROTTLE,AGENT_ADD,C0")) as node:
        async with node.connect() as session:
            assert session.speaks_part_b
            assert str(session.capability_map) == "core,PROC_THROTTLE,AGENT_ADD,C0"
            lit = ("PROC_THROTTLE", "proc_throttle", 0x20, "20", "AGENT_ADD", 0x60, "C0", 0xC0)
            dark = ("SVC_RESTART", 0x22, "22", "AGENT_LIST", "FF", 0x80)
            assert [session.can(one) for one in (*lit, *dark)] == [True] * 8 + [False] * 6
            for wrong in NONSENSE:
                with pytest.raises(asys.ArgumentError):
                    session.can(wrong)
        assert len(node.peer.frames) == PAGES  # it asks nobody


async def test_a_change_is_seen_after_a_refresh() -> None:
    changing = Changing("core,process")
    async with WireNode(changing.script) as node, node.connect() as session:
        changing.lit = "core,60"
        assert session.can("PROC_THROTTLE")
        assert str(await session.refresh_capabilities()) == "core,AGENT_ADD"
        assert not session.can("PROC_THROTTLE")
        assert session.can("AGENT_ADD")
        assert [frame.p1 for frame in node.peer.frames] == [1, 2, 3, 0] * 2

        changing.lit = "01"
        with pytest.raises(asys.NoSuchInstruction):
            await session.refresh_capabilities()


async def test_an_agent_that_is_granted_sys_caps_later_learns_its_map_by_a_refresh() -> None:
    changing = Changing("01")
    async with WireNode(changing.script) as node, node.connect() as session:
        assert session.capability_map is None
        assert session.caps is None
        with pytest.raises(asys.NoSuchInstruction):
            session.can("SYS_HELLO")
        changing.lit = "core"

        await session.refresh_capabilities()

        assert session.speaks_part_b
        assert session.can("SYS_HELLO")
        assert session.caps is not None


def test_blocking_code_knows_its_map_too() -> None:
    changing = Changing("core,process")
    with ThreadedWireNode(changing.script) as node, node.connect() as session:
        assert session.can("PROC_THROTTLE")
        assert str(session.capability_map) == "core,process"
        changing.lit = "core"
        with pytest.raises(asys.NoSuchInstruction):
            session.proc_throttle(1, "stop")
        assert not session.can(0x20)
        assert session.can("SVC_RESTART")
        assert str(session.refresh_capabilities()) == "core"
        assert not session.can("SVC_RESTART")
        with pytest.raises(asys.ArgumentError):
            session.can("nonsense")
