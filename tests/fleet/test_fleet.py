"""A fleet on scripted nodes: rows as they come, failures as data, deadlines, connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import asys
from asys import isa
from asys.fleet import Fleet, NodeEntry, Row
from asys.fleet import fleet as fleet_module
from asys.fleet import member as member_module
from support.fleet_nodes import (
    PROCS,
    STATUS,
    FleetNodes,
    Held,
    ended,
    healthy,
    only_once,
    reject,
    silent,
)
from support.wire_node import PAGES, Peer, Script, serve


async def test_each_node_has_a_row_with_its_reply() -> None:
    async with FleetNodes("a", "b", "c") as nodes, nodes.fleet() as fleet:
        rows = fleet.status()
        assert rows.total == 3
        found = await rows
        assert sorted(row.node for row in found) == ["a", "b", "c"]
        assert all(row.ok and row.result() == row.value == STATUS for row in found)
        assert all(row.elapsed > 0 and row.connection == 1 for row in found)
        assert [row.value for row in await fleet.procs()] == [PROCS] * 3
        [one] = await fleet.select("name=b").call(isa.SYS_HELLO)
        assert one.result().magic == b"ASYS"
        assert [len(nodes[name].peers) for name in "abc"] == [1, 1, 1]  # connections are kept


async def test_rows_come_as_they_are_answered_and_not_in_the_order_of_the_inventory() -> None:
    held = Held()
    scripts: dict[str, Script] = {"a": held, "b": serve(healthy), "c": serve(healthy)}
    async with FleetNodes(**scripts) as nodes, nodes.fleet() as fleet:
        order = []
        async for row in fleet.status():
            order.append(row.node)
            if len(order) == 2:
                held.go.set()
        assert sorted(order[:2]) == ["b", "c"]
        assert order[2] == "a"


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_nodes_that_do_not_answer_hold_up_nobody_whatever_the_concurrency(
    concurrency: int,
) -> None:
    first, second = Held(), Held()
    scripts: dict[str, Script] = {"a": first, "b": second}
    scripts |= {name: serve(healthy) for name in "cdefg"}
    async with FleetNodes(**scripts) as nodes, nodes.fleet(concurrency=concurrency) as fleet:
        order = []
        async for row in fleet.status():
            order.append(row.node)
            if len(order) == 5:
                first.go.set()
                second.go.set()
        assert sorted(order[:5]) == list("cdefg")
        assert sorted(order[5:]) == ["a", "b"]


async def test_what_goes_wrong_with_a_node_is_in_its_row() -> None:
    def blocked(frame: Any) -> bytes | None:
        return b"\x64\x00" if frame.ins == isa.SYS_STATUS.code else healthy(frame)

    async with FleetNodes("well", blocked=serve(blocked), stranger=reject) as nodes:
        entries = [nodes.entry(name) for name in nodes.nodes]
        entries.append(nodes.entry("well", name="other-key", key=nodes["blocked"].key.public))
        entries.append(NodeEntry("gone", "127.0.0.1", 1, bytes(31) + b"\x09"))
        async with Fleet(entries, identity=nodes.identity, deadline=30) as fleet:
            rows = {row.node: row for row in await fleet.status()}
            assert rows["well"].ok
            kinds = {name: row.failure.kind for name, row in rows.items() if row.failure}
            assert kinds == {
                "blocked": "Blocked",
                "stranger": "AgentRejected",
                "other-key": "HostKeyChanged",
                "gone": "ConnectFailed",
            }
            failure = rows["blocked"].failure
            assert failure is not None
            assert (failure.sw, failure.outcome_unknown) == (0x6400, False)
            assert str(failure).startswith("Blocked: SYS_STATUS: 6400 ")
            gone = rows["gone"].failure
            assert gone is not None
            assert gone.sw is None
            assert "127.0.0.1:1" in gone.message
            with pytest.raises(asys.ConnectFailed):
                rows["gone"].result()


async def test_a_deadline_is_of_one_node() -> None:
    async with FleetNodes("well", slow=Held(), mute=silent) as nodes:
        changes: dict[str, dict[str, Any]] = {"slow": {"deadline": 0.3}, "mute": {"deadline": 0.2}}
        entries = [nodes.entry(name, **changes.get(name, {})) for name in nodes.nodes]
        async with Fleet(entries, identity=nodes.identity, deadline=30) as fleet:
            rows = {row.node: row for row in await fleet.status()}
            assert rows["well"].ok
            for name in ("slow", "mute"):
                failure = rows[name].failure
                assert failure is not None
                assert failure.kind == "DeadlineExceeded"
                assert rows[name].elapsed >= 0.2


async def test_a_connection_that_has_left_a_call_unanswered_takes_no_other() -> None:
    async with FleetNodes(a=only_once(Held())) as nodes, nodes.fleet() as fleet:
        [hello] = await fleet.call(isa.SYS_HELLO)
        with pytest.raises(asys.DeadlineExceeded):
            await fleet._members["a"].ask(isa.SYS_STATUS, (), {}, 0.05)
        [status] = await fleet.status()
        assert (hello.connection, status.connection) == (1, 2)
        assert (hello.ok, status.ok) == (True, True)
        assert not fleet._members["a"]._open - {fleet._members["a"]._session}  # nor is it left open


async def test_a_connection_that_has_ended_is_made_anew_by_the_next_call() -> None:
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        [first] = await fleet.status()
        nodes["a"].peer.abort()
        await ended(fleet, "a")
        [second] = await fleet.status()
        assert (first.connection, second.connection) == (1, 2)


async def test_a_reading_is_asked_again_when_the_kept_connection_ends_under_it() -> None:
    async def ends(peer: Peer) -> None:
        await peer.accept()
        peer.reply(healthy(await peer.request()) or b"")
        await peer.request()

    async with FleetNodes(a=only_once(ends)) as nodes, nodes.fleet() as fleet:
        [first] = await fleet.status()
        [second] = await fleet.status()
        assert first.ok
        assert second.ok
        assert second.connection == 2


async def test_a_connection_that_ends_before_its_first_answer_is_told() -> None:
    async def ends(peer: Peer) -> None:
        await peer.accept()
        await peer.request()

    async with FleetNodes(a=ends) as nodes, nodes.fleet() as fleet:
        [row] = await fleet.status()
        assert row.failure is not None
        assert row.failure.kind == "ConnectionLost"
        assert len(nodes["a"].peers) == 1


async def test_calls_that_need_a_connection_at_a_time_share_it() -> None:
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        found = await asyncio.gather(*(fleet.status().collect() for _ in range(5)))
        assert all(row.ok for [row] in found)
        assert len(nodes["a"].peers) == 1


async def test_whoever_waits_for_anothers_connection_keeps_its_own_deadline() -> None:
    async with FleetNodes(a=silent) as nodes, nodes.fleet() as fleet:
        member = fleet._members["a"]
        first = asyncio.create_task(member.ask(isa.SYS_STATUS, (), {}, 30.0))
        await asyncio.sleep(0)
        with pytest.raises(asys.DeadlineExceeded, match="did not let this agent in"):
            await member.ask(isa.SYS_STATUS, (), {}, 0.05)
        assert not first.done()
        await fleet.close()
        with pytest.raises(asys.ConnectionLost, match="the fleet is closed"):
            await first


async def test_a_closed_fleet_asks_nobody() -> None:
    async with FleetNodes("a") as nodes:
        fleet = nodes.fleet()
        await fleet.status()
        await fleet.close()
        await fleet.close()
        [row] = await fleet.status()
        assert row.failure is not None
        assert row.failure.message == "the fleet is closed"
        assert len(nodes["a"].peers) == 1


async def test_an_old_connection_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        await fleet.status()
        monkeypatch.setattr(member_module, "DEFAULT_SECONDS", 0.0)
        [row] = await fleet.status()
        assert row.connection == 2


async def test_leaving_the_loop_takes_back_what_was_not_answered() -> None:
    held = Held()
    async with FleetNodes("a", b=held) as nodes, nodes.fleet() as fleet:
        rows = fleet.status()
        async for row in rows:
            assert row.node == "a"
            await held.asked.wait()
            break
        with pytest.raises(asys.ArgumentError, match="have been asked for already"):
            await rows
        before = asyncio.all_tasks()
        held.go.set()
        [row] = await fleet.select("name=b").status()
        assert row.ok  # the late answer to the first question has not been taken for this one
        assert len(asyncio.all_tasks()) <= len(before)


async def test_a_cancelled_reader_ends_its_questions() -> None:
    held = Held()
    async with FleetNodes(a=held) as nodes, nodes.fleet() as fleet:
        reading = asyncio.create_task(fleet.status().collect())
        await held.asked.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        held.go.set()
        [row] = await fleet.status()
        assert row.ok
        assert row.connection == 1


async def test_wrong_arguments_are_raised_before_anybody_is_asked() -> None:
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        with pytest.raises(asys.ArgumentError, match="pid"):
            fleet.call(isa.PROC_THROTTLE, pid=-1, action=isa.ThrottleAction.STOP)
        assert not nodes["a"].peers


async def test_a_fault_of_ours_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_args: Any, **_options: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(fleet_module, "connect", broken)
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        with pytest.raises(ZeroDivisionError):
            await fleet.status()
        with pytest.raises(ZeroDivisionError):
            await anext(fleet.watch(1))


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"concurrency": True}, {"deadline": 0}, {"deadline": "1"}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(asys.ArgumentError):
        Fleet([], **options)


def test_a_selection_knows_its_nodes() -> None:
    fleet = Fleet([NodeEntry("a", "x", labels={"role": "db"}), NodeEntry("b", "y")])
    some = fleet.select("role=db")

    assert [one.name for one in some] == ["a"]
    assert len(fleet) == 2
    assert [one.name for one in some.nodes] == ["a"]
    assert repr(some) == "<Selection of 1 nodes>"
    assert repr(fleet) == "<Fleet of 2 nodes>"
    assert len({fleet.nodes[0], fleet.nodes[0]}) == 1


async def test_the_requests_of_a_connection_are_those_that_were_made() -> None:
    async with FleetNodes("a") as nodes, nodes.fleet() as fleet:
        await fleet.status()
        await fleet.procs()
        sent = [frame.ins for frame in nodes["a"].peer.frames]
        assert sent[PAGES:] == [isa.SYS_STATUS.code, isa.SYS_PROCS.code]


# Watching


async def test_watching_asks_each_node_at_its_own_pace() -> None:
    held = Held()
    async with FleetNodes("a", "b", c=held) as nodes, nodes.fleet(concurrency=1) as fleet:
        seen: list[Row[isa.Status]] = []
        async for row in fleet.watch(0.01):
            seen.append(row)
            names = [one.node for one in seen]
            if names.count("a") >= 3 and names.count("b") >= 3 and not held.go.is_set():
                assert "c" not in names
                held.go.set()
            if "c" in names:
                break
        assert all(row.ok for row in seen)
        assert len(nodes["a"].peers) == 1


async def test_what_is_watched_must_be_a_reading_that_needs_no_arguments() -> None:
    fleet = Fleet([NodeEntry("a", "x")])
    with pytest.raises(asys.ArgumentError, match="PROC_THROTTLE is signed"):
        await anext(fleet.watch(1, isa.PROC_THROTTLE))
    with pytest.raises(asys.ArgumentError, match="handle"):
        await anext(fleet.watch(1, isa.TASK_QUERY))
    with pytest.raises(asys.ArgumentError, match="timeout"):
        await anext(fleet.watch(0))


async def test_watching_nothing_ends_at_once() -> None:
    assert [row async for row in Fleet([]).watch(1)] == []


async def test_a_node_that_comes_back_is_seen_again_while_watching() -> None:
    async with FleetNodes(a=only_once(silent)) as nodes, nodes.fleet(deadline=0.3) as fleet:
        rows = fleet.watch(0.01)
        first = await anext(rows)
        assert first.failure is not None
        assert first.failure.kind == "DeadlineExceeded"
        while not (row := await anext(rows)).ok:
            pass
        assert row.value == STATUS
