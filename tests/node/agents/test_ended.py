"""A clock that is set: what has ended stays so, and what was added for some time has no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from asys.isa.capmap import ALL, CORE
from asys.node.agents.authority import RETRY_SECONDS, Authority, Past
from asys.node.agents.directory import Delegate
from asys.node.agents.ended import Mark
from asys.node.agents.grant import Charge, Grant
from asys.protocol.keys import PrivateKey
from support.clock import ManualClock
from support.frames import HELLO
from support.node_rig import AGENT, NODE, OTHER, Rig, book

NOW = 1_700_000_000
"""Unix seconds at which a ManualClock begins: 2023-11-14, 22:13:20."""

MIDNIGHT = 1_700_006_400
YEAR = 365 * 86_400
LINE = AGENT.public
CHILD = PrivateKey.generate()
TODAY = "agent caps=all,security expires=2023-11-14"
OVER: Mark = (LINE, MIDNIGHT)


class Disk:
    """Keeps what is given to it, or fails with `error`."""

    def __init__(self) -> None:
        self.saved: list[object] = []
        self.error: OSError | None = None

    async def save(self, what: object) -> None:
        """As Store.save and Keeper.save."""
        if self.error:
            raise self.error
        self.saved.append(what)


class Bench:
    """An Authority whose lines and clock a test sets."""

    def __init__(self, line: str = TODAY, *stored: Delegate, marks: frozenset[Mark] = frozenset()):
        self.clock = ManualClock()
        self.ended = Disk()
        self.delegates = Disk()
        self.authority = Authority(
            book({AGENT: line, OTHER: "other caps=all,security"}),
            stored,
            self.clock,
            node_key=NODE.public,
            store=self.delegates,
            changed=lambda: None,
            past=Past(marks, self.ended),
        )

    def holds(self, key: bytes = LINE) -> bool:
        """Whether a key holds anything."""
        return self.authority.holding(key) is not None

    async def add(self, ttl: int, parent: bytes = OTHER.public) -> None:
        """AGENT_ADD of the child."""
        holding = self.authority.holding(parent)
        assert holding is not None
        charge = Charge(
            Grant(holding, [], 0, holding.root.scope, {}), 0x60, self.clock.now(), lambda: None
        )
        await self.authority.add(parent, CHILD.public, CORE, ttl, "child", charge)

    def reload(self, line: str) -> None:
        """The file is read again."""
        self.authority.replace_book(book({AGENT: line, OTHER: "other caps=all,security"}))


async def turns() -> None:
    """Everything happens that waits for nothing but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.authority.close()
    assert not bench.clock.pending


# -- lines


async def test_a_line_that_has_ended_is_not_revived_by_a_step_back(bench: Bench) -> None:
    assert bench.holds()
    bench.clock.advance(MIDNIGHT - NOW)
    assert not bench.holds()
    bench.clock.set_unix(-YEAR)
    assert not bench.holds()
    await turns()
    assert bench.ended.saved == [frozenset([OVER])]


async def test_one_look_at_a_clock_that_is_ahead_is_enough(bench: Bench) -> None:
    """It is an agent that wants to come in who looks; no timer has rung by then."""
    bench.clock.set_unix(YEAR)
    assert not bench.holds()
    bench.clock.set_unix(-YEAR)
    assert not bench.holds()
    bench.clock.run_ready()
    await turns()
    assert bench.ended.saved == [frozenset([OVER])]


async def test_a_step_forward_and_back_that_nobody_has_seen_changes_nothing(bench: Bench) -> None:
    bench.clock.set_unix(YEAR)
    bench.clock.set_unix(-YEAR)
    assert bench.holds()
    bench.clock.advance(MIDNIGHT - NOW - 0.001)
    assert bench.holds()
    bench.clock.advance(0.001)
    assert not bench.holds()


async def test_a_line_ends_by_the_clock_as_it_is_set(bench: Bench) -> None:
    """A last day is a day: where the clock was ahead and is set right, it is reached later."""
    bench.clock.set_unix(-3600)
    bench.clock.advance(MIDNIGHT - NOW + 3599)
    assert bench.holds()
    bench.clock.advance(1)
    assert not bench.holds()


async def test_reading_the_file_again_revives_nothing_but_a_line_with_another_day_does(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.clock.advance(MIDNIGHT - NOW)
    bench.clock.set_unix(-YEAR)
    bench.reload(TODAY)
    assert not bench.holds()
    assert [one.key for one in bench.authority.ended_early] == [LINE]
    bench.reload("agent caps=core expires=2023-11-15")
    assert bench.holds()
    assert bench.authority.ended_early == []
    bench.reload(TODAY)  # that day is over all the same
    assert not bench.holds()
    bench.reload("agent caps=core")
    assert bench.holds()


async def test_a_line_that_was_taken_out_is_a_new_one_when_it_comes_again(bench: Bench) -> None:
    bench.clock.advance(MIDNIGHT - NOW)
    bench.clock.set_unix(-YEAR)
    bench.authority.replace_book(book({OTHER: "other caps=all"}))
    await turns()
    assert bench.ended.saved[-1] == frozenset()


async def test_what_had_ended_before_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(marks=frozenset([OVER]))
    assert not bench.holds()
    assert bench.holds(OTHER.public)
    await turns()
    assert bench.ended.saved == []  # there is nothing new
    await bench.authority.close()


async def test_what_the_disk_does_not_take_is_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ended.error = OSError(28, "No space left on device")
    bench.clock.advance(MIDNIGHT - NOW)
    await turns()
    assert "they would hold again; it is tried again in 30 s" in caplog.text
    bench.clock.advance(RETRY_SECONDS)
    await turns()
    bench.ended.error = None
    assert bench.ended.saved == []
    bench.clock.advance(RETRY_SECONDS)
    await turns()
    assert bench.ended.saved == [frozenset([OVER])]


async def test_two_failures_make_one_attempt_later() -> None:
    bench = Bench()
    bench.ended.error = OSError(28, "No space left on device")
    bench.clock.advance(MIDNIGHT - NOW)
    bench.reload("agent caps=core expires=2023-11-13")
    await turns()
    assert len(bench.clock.pending) == 1
    await bench.authority.close()
    assert not bench.clock.pending


# -- what agents have added


async def test_an_added_agent_that_was_seen_to_have_ended_is_gone(bench: Bench) -> None:
    await bench.add(60)
    assert bench.holds(CHILD.public)
    bench.clock.set_unix(61)
    assert not bench.holds(CHILD.public)
    bench.clock.set_unix(-61)
    assert not bench.holds(CHILD.public)
    bench.clock.run_ready()
    await turns()
    assert bench.delegates.saved[-1] == ()
    await bench.add(60)  # with an end in the same second
    assert bench.holds(CHILD.public)


@pytest.mark.parametrize("step", [-YEAR, -30, 0])
async def test_a_step_back_makes_no_ttl_longer(bench: Bench, step: int) -> None:
    await bench.add(60)
    bench.clock.set_unix(step)
    bench.clock.advance(59.5)
    assert bench.holds(CHILD.public)
    bench.clock.advance(0.5)
    assert not bench.holds(CHILD.public)


async def test_added_again_it_has_the_new_ttl_and_a_failed_attempt_leaves_the_old_one(
    bench: Bench,
) -> None:
    await bench.add(60)
    bench.clock.set_unix(-3600)
    bench.delegates.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        await bench.add(600)
    bench.delegates.error = None
    bench.clock.advance(60)
    assert not bench.holds(CHILD.public)
    await bench.add(60)
    await bench.add(0)
    bench.clock.advance(YEAR)
    assert bench.holds(CHILD.public)


async def test_who_was_added_and_is_gone_has_no_timer_left(bench: Bench) -> None:
    await bench.add(60)
    assert len(bench.clock.pending) == 1
    bench.authority.replace_book(book({AGENT: "agent caps=all"}))
    assert not bench.clock.pending


# -- sessions


async def test_a_session_is_closed_though_the_clock_is_set_back_in_that_moment() -> None:
    rig = Rig({AGENT: TODAY, OTHER: "other caps=all"})
    agent, other = rig.session(), rig.session(OTHER)
    turned = iter([MIDNIGHT * 1_000_000_000, (NOW - YEAR) * 1_000_000_000])
    real = rig.clock.time_ns
    rig.clock.time_ns = lambda: next(turned, (NOW - YEAR) * 1_000_000_000)  # type: ignore[method-assign]
    assert agent.ask(HELLO) == []
    rig.clock.time_ns = real  # type: ignore[method-assign]
    rig.run()
    assert agent.transport.eof_sent
    assert len(other.ask(HELLO)) == 1
    rig.advance(2)
    late = rig.connect()
    assert late.responses() == [b"\x69\x82"]
    rig.advance(2)
    await rig.close()


async def test_who_comes_in_again_after_a_step_forward_is_told_and_not_just_hung_up_on() -> None:
    """What the key held is remembered, and no timer has rung."""
    rig = Rig({AGENT: TODAY})
    rig.session()
    rig.clock.set_unix(YEAR)
    assert rig.connect().responses() == [b"\x69\x82"]
    rig.advance(2)
    await rig.close()


def delegate(expires: int) -> Delegate:
    return Delegate(CHILD.public, LINE, ALL, "stored", expires)


async def test_an_added_agent_that_had_ended_when_asyd_starts_is_gone() -> None:
    bench = Bench("agent caps=all", delegate(NOW))
    bench.clock.set_unix(-YEAR)
    assert not bench.holds(CHILD.public)
    await turns()
    assert set(bench.delegates.saved) == {()}
    await bench.authority.close()


async def test_the_log_is_not_full_of_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.clock.advance(MIDNIGHT - NOW)
    for _ in range(10):
        assert not bench.holds()
    assert caplog.text == ""
