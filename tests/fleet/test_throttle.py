"""Orders about processes: a list and never a condition, each sent once and never again."""

from __future__ import annotations

import asyncio

import pytest

import asys
from asys import isa
from asys.isa.capmap import parse_caps
from support.fleet_nodes import (
    PROCS,
    FleetNodes,
    Held,
    ended,
    healthy,
    only_once,
    reject,
    throttles,
)
from support.wire_node import PAGES, Peer, page_of


async def test_throttle_touches_what_it_names_and_nothing_else() -> None:
    async with FleetNodes("a", "b") as nodes, nodes.fleet() as fleet:
        rows = await fleet.throttle([("a", 4711)])
        assert [(row.node, row.ok, str(row.target)) for row in rows] == [("a", True, "4711@a")]
        await fleet.resume([("a", 4711)])
        pid = (4711).to_bytes(4, "big")
        assert [one for one, _ in throttles(nodes, "a")] == [
            isa.ThrottleAction.STOP,
            isa.ThrottleAction.CONTINUE,
        ]
        assert all(sent == pid for _, sent in throttles(nodes, "a"))
        assert not nodes["b"].peers


async def test_targets_are_found_by_looking_and_nothing_is_touched() -> None:
    async with FleetNodes("a", "b", gone=reject) as nodes, nodes.fleet() as fleet:
        targets = await fleet.targets(lambda node, process: process.cpu_percent > 90)
        assert str(targets) == "4711@a, 4711@b"
        assert [row.node for row in targets.failed] == ["gone"]
        assert len(targets) == 2
        assert next(iter(targets)).process == PROCS.top[0]
        assert not throttles(nodes, "a")
        rows = await fleet.select("name=b").throttle([one for one in targets if one.node == "b"])
        assert [row.ok for row in rows] == [True]
        assert len(throttles(nodes, "b")) == 1
        assert not throttles(nodes, "a")
        assert str(await fleet.targets(lambda *_: False)) == "nothing"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([("a", 1), ("x", 1)], "1@x: no such node is selected"),
        ([("a", 1), ("b", 1)], "1@b: no such node is selected"),
        ([("a", 1), ("a", 1)], "1@a is named twice"),
        ([("a", 1), ("a", -1)], "pid"),
    ],
)
async def test_one_target_that_cannot_be_meant_and_nothing_is_sent(
    targets: list[tuple[str, int]], message: str
) -> None:
    async with FleetNodes("a", "b") as nodes, nodes.fleet() as fleet:
        with pytest.raises(asys.ArgumentError, match=message):
            fleet.select("name=a").throttle(targets)
        assert not nodes["a"].peers


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_an_order_without_an_answer_is_never_sent_again(kept: bool) -> None:
    async def dies(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.request()).ins != isa.PROC_THROTTLE.code:
            peer.reply(healthy(frame) or b"")
        peer.abort()

    async with FleetNodes(a=only_once(dies)) as nodes, nodes.fleet() as fleet:
        if kept:
            await fleet.status()
        [row] = await fleet.throttle([("a", 4711)])
        assert row.failure is not None
        assert row.failure.kind == "OutcomeUnknown"
        assert row.failure.outcome_unknown
        [status] = await fleet.status()
        assert status.ok
        assert len(throttles(nodes, "a")) == 1


async def test_a_late_order_is_of_unknown_outcome_and_never_sent_again() -> None:
    async with FleetNodes(a=only_once(Held())) as nodes, nodes.fleet() as fleet:
        await fleet.call(isa.SYS_HELLO)
        order = (4711, isa.ThrottleAction.STOP)
        with pytest.raises(asys.OutcomeUnknown):
            await fleet._members["a"].ask(isa.PROC_THROTTLE, order, {}, 0.05)
        [status] = await fleet.status()
        assert (status.ok, status.connection) == (True, 2)
        assert len(throttles(nodes, "a")) == 1


async def test_an_order_that_never_left_is_told_and_not_sent_anew() -> None:
    """It waits behind a REKEY, which the node leaves unanswered; then the connection ends."""
    asked, go = asyncio.Event(), asyncio.Event()
    lit = parse_caps("core,process,REKEY")

    async def dies_in_rekey(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(PAGES):
            peer.reply(page_of(lit, (await peer.request()).p1))
        while (frame := await peer.request()).ins != isa.REKEY.code:
            peer.reply(healthy(frame) or b"")
        asked.set()
        await go.wait()
        peer.abort()

    async with FleetNodes(a=only_once(dies_in_rekey)) as nodes, nodes.fleet() as fleet:
        await fleet.status()
        rekey = asyncio.create_task(fleet.call(isa.REKEY).collect())
        await asked.wait()
        order = asyncio.create_task(fleet.throttle([("a", 4711)]).collect())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go.set()
        [row] = await order
        await rekey
        assert row.failure is not None
        assert (row.failure.kind, row.failure.outcome_unknown) == ("ConnectionLost", False)
        assert not throttles(nodes, "a")


async def test_what_another_connection_has_shown_is_not_touched() -> None:
    async def ends(peer: Peer) -> None:
        await peer.accept()
        peer.reply(healthy(await peer.request()) or b"")

    async with FleetNodes(a=only_once(ends)) as nodes, nodes.fleet() as fleet:
        targets = await fleet.targets(lambda node, process: process.pid == 4711)
        await ended(fleet, "a")
        for _ in range(2):  # also when there is a new one
            [row] = await fleet.throttle(targets)
            assert row.failure is not None
            assert row.failure.kind == "ConnectionLost"
            assert "look again" in row.failure.message
            await fleet.status()
        assert not throttles(nodes, "a")
        [named] = await fleet.throttle([("a", 4711)])
        assert named.ok


async def test_a_call_that_is_late_does_not_end_an_order_that_is_under_way() -> None:
    go = asyncio.Event()
    asked = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.accept()
        frame = await peer.request()
        asked.set()
        await go.wait()
        peer.reply(healthy(frame) or b"")
        await peer.silence()

    async with FleetNodes(a=only_once(slow)) as nodes, nodes.fleet() as fleet:
        member = fleet._members["a"]
        order = asyncio.create_task(fleet.throttle([("a", 4711)]).collect())
        await asked.wait()
        with pytest.raises(asys.DeadlineExceeded):
            await member.ask(isa.SYS_STATUS, (), {}, 0.05)
        [status] = await fleet.status()
        assert status.connection == 2
        go.set()
        [row] = await order
        assert row.ok
        assert row.connection == 1
