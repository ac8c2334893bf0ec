"""The real clock, and the one that tests turn by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from asys.node.clock import Clock, LoopClock
from support.clock import ManualClock


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_loop_clock(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def use() -> list[str]:
        loop = asyncio.get_running_loop()
        clock: Clock = LoopClock(loop)
        ran: list[str] = []
        done = loop.create_future()
        began = clock.now()

        def later() -> None:
            ran.append("later")
            done.set_result(clock.now() - began)

        clock.call_later(0.02, later)
        clock.call_later(0.0, lambda: ran.append("never")).cancel()
        clock.call_soon(lambda: ran.append("soon"))
        clock.call_soon(lambda: ran.append("never")).cancel()
        # The loop's own clock may be a millisecond behind.
        assert await asyncio.wait_for(done, 30) >= 0.018
        return ran

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(use()) == ["soon", "later"]


def test_loop_clock_tells_the_time_of_the_system() -> None:
    loop = asyncio.new_event_loop()
    try:
        clock = LoopClock(loop)
        before = time.monotonic(), time.time_ns()
        told = clock.now(), clock.time_ns()
        after = time.monotonic(), time.time_ns()
    finally:
        loop.close()
    assert before[0] <= told[0] <= after[0]
    assert before[1] <= told[1] <= after[1]


def test_manual_clock_runs_callbacks_in_order_at_their_times() -> None:
    clock: ManualClock = ManualClock(start=5.0, unix_ns=1_000)
    as_clock: Clock = clock
    ran: list[tuple[str, float]] = []

    def note(what: str) -> Callable[[], object]:
        return lambda: ran.append((what, clock.now()))

    as_clock.call_later(2.0, note("c"))
    as_clock.call_later(1.0, note("a"))
    as_clock.call_later(1.0, note("b"))
    as_clock.call_later(1.5, note("cancelled")).cancel()
    as_clock.call_later(9.0, note("not yet"))
    as_clock.call_soon(note("soon"))
    assert ran == []
    clock.run_ready()
    assert ran == [("soon", 5.0)]
    clock.advance(3.0)
    assert ran[1:] == [("a", 6.0), ("b", 6.0), ("c", 7.0)]
    assert clock.now() == 8.0
    assert clock.time_ns() == 3_000_001_000
    assert [handle.due for handle in clock.pending] == [14.0]


def test_manual_clock_runs_what_a_callback_makes_due() -> None:
    clock = ManualClock(start=0.0)
    ran: list[float] = []

    def tick() -> None:
        ran.append(clock.now())
        clock.call_later(1.0, tick)

    clock.call_soon(tick)
    clock.advance(2.5)
    assert ran == [0.0, 1.0, 2.0]


def test_manual_clock_runs_one_callback() -> None:
    clock = ManualClock(start=0.0)
    ran: list[tuple[int, float]] = []
    clock.call_soon(lambda: ran.append((1, clock.now()))).cancel()
    clock.call_later(2.0, lambda: ran.append((3, clock.now())))
    clock.others = 0.5
    clock.call_soon(lambda: ran.append((2, clock.now())))
    assert not clock.step()
    assert clock.run_next()
    assert ran == [(2, 0.5)]
    assert not clock.step()
    clock.call_later(0.0, lambda: None)
    assert clock.step()
    assert clock.run_next()
    assert ran[1:] == [(3, 2.0)]
    assert not clock.run_next()
