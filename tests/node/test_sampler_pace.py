"""The sampler stays out of the way of those it samples for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from asys.node.sampler import (
    JUST_NOW,
    LONGEST_SLICE,
    MAX_AGE,
    MOST_SLICES,
    PAUSE,
    SETTLE,
    SLICE,
    TABLE_LEAST_INTERVAL,
    TABLE_MOST_INTERVAL,
    VITALS_INTERVAL,
)
from support.sampled import Made

A_LITTLE = 1e-9
"""Seconds that sums of floats may be off."""


@pytest.fixture
def made() -> Made:
    return Made()


def scan(made: Made) -> list[tuple[float, float]]:
    """The next scan: when each of its slices ran, and how many seconds of work it was."""
    latest = made.sampler.processes
    found = []
    while made.sampler.processes is latest:
        before = made.platform.timer.seconds
        assert made.clock.run_next()
        took = made.platform.timer.seconds - before
        if took:
            found.append((made.clock.now(), took))
    return found


def pauses(slices: list[tuple[float, float]]) -> list[float]:
    """Seconds from each slice to the next."""
    return [later - earlier for (earlier, _), (later, _) in pairwise(slices)]


def test_a_fast_scan_is_one_slice(made: Made) -> None:
    made.table.steps = 10
    made.table.cost = SLICE / 20
    made.awake()
    assert made.platform.timer.seconds == pytest.approx(SLICE)
    assert len(scan(made)) == 1


@pytest.mark.parametrize("cost", [0.000_001, 0.000_01, 0.000_07, 0.000_1, 0.001])
def test_no_slice_is_longer_than_the_budget_and_a_step(made: Made, cost: float) -> None:
    made.table.steps = 5000
    made.table.cost = cost
    made.sampler.wake()
    while not made.fresh():
        before = made.platform.timer.seconds
        assert made.clock.run_next()
        assert made.platform.timer.seconds - before < LONGEST_SLICE + cost + A_LITTLE
    assert made.platform.timer.seconds == pytest.approx(2 * 5000 * cost)
    assert max(took for _, took in scan(made)) < LONGEST_SLICE + cost + A_LITTLE
    assert LONGEST_SLICE + 0.000_1 < 0.000_3 + A_LITTLE


def test_others_run_between_two_slices(made: Made) -> None:
    made.table.steps = 100
    made.table.cost = SLICE
    made.sampler.wake()
    order: list[int] = []

    def other() -> None:
        order.append(round(made.platform.timer.seconds / SLICE))
        if len(order) < 10:
            made.clock.call_soon(other)

    made.clock.call_soon(other)
    made.clock.run_ready()
    assert order == [*range(1, 11)]


def test_asyd_sleeps_between_two_slices(made: Made) -> None:
    made.table.steps = 50
    made.table.cost = SLICE
    made.awake()
    slices = scan(made)
    assert [took for _, took in slices] == pytest.approx([SLICE] * 50)
    assert pauses(slices) == pytest.approx([PAUSE] * 49)


def test_it_does_not_sleep_while_what_is_there_is_stale(made: Made) -> None:
    made.table.steps = 50
    made.table.cost = SLICE
    made.sampler.wake()
    while not made.sampler.processes.count:
        assert made.clock.run_next()
    assert made.clock.now() - made.began == pytest.approx(SETTLE)


def test_of_a_large_table_the_slices_are_longer(made: Made) -> None:
    made.table.steps = 10_000
    made.table.cost = 0.000_005
    made.awake()
    slices = scan(made)
    total = made.table.steps * made.table.cost
    assert len(slices) == pytest.approx(MOST_SLICES, abs=1)
    assert {round(took, 6) for _, took in slices[:-1]} == {round(total / MOST_SLICES, 6)}
    made.table.steps = 10
    scan(made)
    assert [took for _, took in scan(made)] == pytest.approx([0.000_05])


def test_of_a_table_without_end_they_are_not(made: Made) -> None:
    made.table.steps = 20_000
    made.table.cost = 0.000_01
    made.awake()
    assert max(took for _, took in scan(made)) == pytest.approx(LONGEST_SLICE, abs=0.000_011)


def test_a_scan_that_would_take_too_long_hurries_in_the_end(made: Made) -> None:
    made.table.steps = 2500
    made.table.cost = LONGEST_SLICE
    made.awake()
    made.keep_awake(10.0)
    began = made.table.began_at[3:]
    gaps = [later - earlier for earlier, later in pairwise(began)][-4:]
    assert gaps == pytest.approx([MAX_AGE] * 4, abs=0.01)
    assert PAUSE * 2500 > TABLE_MOST_INTERVAL
    answers: list[bool] = []
    made.sampler.when_fresh(answers.append)
    made.clock.advance(0.0)
    assert answers == [True]


def test_a_slice_right_behind_a_request_is_put_off_once(made: Made) -> None:
    made.table.steps = 3
    made.table.cost = SLICE
    sampler = made.awake()
    due = made.table.began_at[-1] + TABLE_LEAST_INTERVAL
    made.clock.advance(due - made.clock.now() - JUST_NOW / 2)
    slices: list[tuple[float, float]] = []
    while len(slices) < 3:
        made.clock.advance(made.clock.pending[0].due - made.clock.now() - JUST_NOW / 2)
        sampler.touch()
        before = made.platform.timer.seconds
        assert made.clock.run_next()
        if made.platform.timer.seconds > before:
            slices.append((made.clock.now(), SLICE))
    assert slices[0][0] == pytest.approx(due + PAUSE)
    assert pauses(slices) == pytest.approx([2 * PAUSE] * 2)


def test_vitals_right_behind_a_request_are_put_off_once(made: Made) -> None:
    sampler = made.awake()
    made.clock.advance(VITALS_INTERVAL * 0.9)
    readings = len(made.vitals.read_at)
    made.clock.advance(VITALS_INTERVAL * 0.1 - JUST_NOW / 2)
    sampler.touch()
    made.clock.advance(JUST_NOW / 2)
    assert len(made.vitals.read_at) == readings
    made.clock.advance(PAUSE - JUST_NOW / 2)
    sampler.touch()
    made.clock.advance(JUST_NOW / 2)
    assert made.vitals.read_at[readings:] == pytest.approx([made.clock.now()])
    assert made.lag.total == pytest.approx(0.0)  # what was put off is not late


def test_a_request_some_time_before_puts_nothing_off(made: Made) -> None:
    sampler = made.awake()
    readings = len(made.vitals.read_at)
    made.clock.advance(VITALS_INTERVAL - JUST_NOW * 1.01)
    sampler.touch()
    made.clock.advance(JUST_NOW * 1.01)
    assert len(made.vitals.read_at) == readings + 1


def test_no_reading_keeps_step_with_agents() -> None:
    """They ask 1, 2, 5, 10, 20 times a second: a reading must not meet the same one every time."""
    for interval in (VITALS_INTERVAL, TABLE_LEAST_INTERVAL):
        for hertz in (1, 2, 4, 5, 10, 20):
            share = interval * hertz % 1.0
            assert 0.05 < share < 0.95
