"""Nodes that refuse, that are lost and come back, and several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

from asys.protocol.keys import PrivateKey
from asys.tui.hosts import HostList
from asys.tui.watcher import State, Target, waits
from support.top import Played, Top, played, shown, target_of

STATUS = 0x02
PROCS = 0x03
TREE = 0x42


def never() -> Iterator[float]:
    """A node that is lost stays lost, unless somebody asks."""
    return repeat(3600.0)


def at_once() -> Iterator[float]:
    """A node that is lost is tried again without delay."""
    return repeat(0.0)


def is_in(top: Top, state: State, number: int = 0) -> Callable[[], bool]:
    return lambda: top.app.watchers[number].state is state


async def test_a_lost_node_is_shown_as_lost_and_comes_back_by_itself() -> None:
    async with played(Played()) as node, shown(target_of(node, "web-1"), waits=at_once) as top:
        await top.until(lambda: top.app.watcher.rounds > 0)
        node.peers[-1].abort()
        await top.until(lambda: len(node.peers) > 1)
        await top.until(is_in(top, State.LIVE))
        assert None in top.app.watcher.vitals.readings
        await top.until(lambda: top.app.watcher.trouble == "")


async def test_a_lost_node_is_tried_at_once_on_a_key() -> None:
    async with played(Played()) as node, shown(target_of(node, "web-1"), waits=never) as top:
        await top.until_shown("report-builder")
        node.peers[-1].abort()
        await top.until(is_in(top, State.LOST))
        await top.until_shown("asys top  web-1  lost")
        await top.until_shown(f"127.0.0.1:{node.port}")
        assert "report-builder" in top.screen  # what was known last stays, dimmed
        await top.until(lambda: not top.offers("s"))
        await top.press("t")
        await top.until(is_in(top, State.LIVE))


async def test_a_node_that_is_not_there_yet() -> None:
    node = played(Played())
    async with node:
        port = node.port
    there = Target("web-1", node.host, port, node.options())
    async with shown(there, waits=never) as top:
        await top.until(is_in(top, State.LOST))
        await top.until_shown("cannot reach")


async def test_another_key_is_never_tried_again_by_itself() -> None:
    async with played(Played()) as node:
        wrong = node.options(node_key=PrivateKey.generate().public)
        there = Target("web-1", node.host, node.port, wrong)
        async with shown(there, waits=at_once) as top:
            await top.until(is_in(top, State.REFUSED))
            await top.until_shown("HAS CHANGED")
            tried = len(node.peers)
            await top.press("t")
            await top.until(lambda: len(node.peers) > tried)


async def test_what_is_refused_for_good_is_said_and_not_asked_again() -> None:
    answers = Played()
    answers.refusals[PROCS] = b"\x6a\x81"
    async with played(answers) as node, shown(target_of(node, "web-1")) as top:
        await top.until_shown("SYS_PROCS: 6A81")
        await top.rounds(2)  # a key asks for it anew, an interval does not
        rounds = top.app.watcher.rounds
        await top.until(lambda: top.app.watcher.rounds > rounds + 1)  # the last key's is over
        asked = answers.requests.count(PROCS)
        rounds = top.app.watcher.rounds
        await top.until(lambda: top.app.watcher.rounds > rounds + 1)
        assert answers.requests.count(PROCS) == asked
        assert "SYS_PROCS: 6A81" in top.screen


async def test_what_is_refused_for_now_is_asked_again() -> None:
    answers = Played()
    answers.refusals[STATUS] = b"\x6f\x05"
    async with played(answers) as node, shown(target_of(node, "web-1")) as top:
        await top.until_shown("SYS_STATUS: 6F05")
        assert top.app.watcher.vitals.last is None
        answers.refusals.clear()
        await top.until(lambda: top.app.watcher.vitals.last is not None)
        await top.until(lambda: top.app.watcher.trouble == "")


async def test_a_node_that_grants_next_to_nothing_says_so() -> None:
    async with (
        played(Played(), "SYS_CAPS,SYS_HELLO") as node,
        shown(target_of(node, "web-1")) as top,
    ):
        await top.until_shown("SYS_STATUS does not exist for this agent here")


async def test_a_node_that_does_not_show_its_map_is_asked_and_offers_nothing() -> None:
    answers = Played()
    async with (
        played(answers, "SYS_STATUS,SYS_PROCS,PROC_THROTTLE") as node,
        shown(target_of(node, "web-1")) as top,
    ):
        await top.until(lambda: top.app.watcher.vitals.last is not None)
        await top.until(lambda: top.app.watcher.rows)
        assert not top.offers("s")
        await top.rounds(1)  # with the map asked for again, which is refused again
        assert top.app.watcher.trouble == ""


async def test_names_that_are_refused_for_now_come_later() -> None:
    answers = Played()
    answers.refusals[TREE] = b"\x64\x00"
    async with played(answers) as node, shown(target_of(node, "web-1")) as top:
        await top.until_shown("PROC_TREE: 6400")
        await top.until_shown("(name not known)")
        answers.refusals.clear()
        await top.until_shown("report-builder")


async def test_several_nodes_to_choose_from() -> None:
    one, other = Played({4711: "on-the-first"}), Played({4711: "on-the-second"})
    async with (
        played(one) as first,
        played(other) as second,
        shown(target_of(first, "web-1"), target_of(second, "web-2")) as top,
    ):
        await top.until_shown("on-the-first")
        await top.press("n")
        await top.until_shown("asys top  web-2  live")
        await top.until_shown("on-the-second")
        assert "on-the-first" not in top.screen

        await top.press("s")
        await top.until_shown("Host        web-2")
        await top.press("y")
        await top.until_shown("9000 done")
        assert (one.throttled, other.throttled) == ([], [(4711, 0)])

        top.app.query_one(HostList).focus()
        await top.press("up")
        await top.until_shown("asys top  web-1  live")
        await top.press("p")
        await top.until_shown("asys top  web-2  live")


async def test_names_are_asked_for_where_somebody_looks() -> None:
    one, other = Played(), Played()
    async with (
        played(one) as first,
        played(other) as second,
        shown(target_of(first, "web-1"), target_of(second, "web-2")) as top,
    ):
        await top.rounds(2)
        assert TREE in one.requests
        assert TREE not in other.requests


async def test_a_lost_node_does_not_hold_up_another() -> None:
    async with (
        played(Played()) as first,
        played(Played()) as second,
        shown(target_of(first, "web-1"), target_of(second, "web-2"), waits=never) as top,
    ):
        await top.until(lambda: all(one.rounds for one in top.app.watchers))
        first.peers[-1].abort()
        await top.until(is_in(top, State.LOST))
        rounds = top.app.watchers[1].rounds
        await top.until(lambda: top.app.watchers[1].rounds > rounds + 1)
        assert top.app.watchers[1].state is State.LIVE


async def test_a_node_that_answers_nothing_is_lost_after_the_timeout() -> None:
    answers = Played()
    async with played(answers) as node:
        there = Target("web-1", node.host, node.port, node.options(timeout=1.0))

        def patiently() -> Iterator[float]:
            return never() if answers.silent else at_once()

        async with shown(there, waits=patiently) as top:
            await top.until(lambda: top.app.watcher.rounds > 0)
            answers.silent = True
            await top.until(is_in(top, State.LOST))


def test_tries_come_ever_more_rarely() -> None:
    source = waits()
    found = [next(source) for _ in range(10)]

    assert 0.5 <= found[0] <= 1
    assert all(15 <= one <= 30 for one in found[-4:])
