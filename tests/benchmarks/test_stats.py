"""What the benchmarks say of their samples, and what they hold an interval to."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import NormalDist, fmean

import pytest
from benchmarks.stats import Bootstrap, Interval, median_interval, trimmed_mean
from benchmarks.table import Bound, Row, Side
from hypothesis import given
from hypothesis import strategies as st


def drawn(count: int, around: float, seed: int) -> list[float]:
    return NormalDist(around, 10).samples(count, seed=seed)


def test_a_trimmed_mean_leaves_out_a_tenth_at_each_end() -> None:
    values = [5, 1_000_000, 6, 7, 8, 9, 10, 11, 12, -1_000_000]
    assert trimmed_mean(values) == fmean([5, 6, 7, 8, 9, 10, 11, 12])
    assert trimmed_mean([1, 2, 9]) == 4


def test_a_bootstrap_interval_is_as_wide_as_it_must_be() -> None:
    """The normal one of a mean of 400 values with a deviation of 10: 2.576 * 0.5 to each side."""
    values = drawn(400, 50, seed=1)
    interval = Bootstrap(400).interval(values, 0.99, fmean)
    assert interval.middle == fmean(values)
    assert 0.9 < interval.middle - interval.low < 1.7
    assert 0.9 < interval.high - interval.middle < 1.7
    assert (interval.confidence, interval.samples) == (0.99, 400)


def test_a_bootstrap_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """At 80 % and 60 times: fewer than 36 or all of them come once in more than 10,000 runs."""
    bootstrap = Bootstrap(100)
    intervals = [bootstrap.interval(drawn(100, 0, seed), 0.8, fmean) for seed in range(60)]
    held = sum(one.low <= 0 <= one.high for one in intervals)
    assert 36 <= held < 60


@pytest.mark.parametrize(
    ("count", "outside"),
    # Ranks from tables of the sign test, two-sided at 5 %.
    [(6, 0), (8, 0), (9, 1), (12, 2), (20, 5), (25, 7), (30, 9), (40, 13), (48, 16)],
)
def test_an_interval_of_a_median_has_the_ranks_of_the_sign_test(count: int, outside: int) -> None:
    interval = median_interval(range(count)[::-1])
    assert (interval.low, interval.high) == (outside, count - 1 - outside)
    beyond = 2 * sum(comb(count, rank) for rank in range(outside + 1))
    assert interval.confidence == 1 - beyond / 2**count >= 0.95


def test_too_few_values_give_their_range_and_say_what_that_is_worth() -> None:
    assert median_interval([3, 1, 2]) == Interval(2, 1, 3, 0.75, 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_an_interval_of_a_median_holds_the_median(values: Sequence[float]) -> None:
    interval = median_interval(values)
    assert interval.low <= interval.middle <= interval.high
    assert interval.samples == len(values)


@pytest.mark.parametrize(
    ("low", "high", "farthest"),
    [(2, 7, (2, 7)), (-7, -2, (2, 7)), (-3, 7, (0, 7)), (-7, 3, (0, 7)), (0, 5, (0, 5))],
)
def test_the_distance_from_zero_has_no_sign(
    low: float, high: float, farthest: tuple[float, float]
) -> None:
    interval = Interval((low + high) / 2, low, high, 0.99, 9).farthest
    assert (interval.low, interval.high) == farthest
    assert interval.middle == abs(low + high) / 2


@pytest.mark.parametrize(
    ("low", "high", "below", "above", "not_above"),
    [
        (90, 99, True, False, True),
        (90, 100, False, False, True),
        (99, 101, False, False, True),
        (100, 101, False, False, True),
        (101, 102, False, True, False),
    ],
)
def test_what_an_interval_is_held_to(
    low: float, high: float, below: bool, above: bool, not_above: bool
) -> None:
    interval = Interval((low + high) / 2, low, high, 0.99, 9)
    wanted = {Side.ALL_BELOW: below, Side.ALL_ABOVE: above, Side.NOT_ALL_ABOVE: not_above}
    for side, holds in wanted.items():
        bound = Bound(100, side, " ns")
        row = Row("group", "name", "node", interval=interval, bound=bound)
        assert bound.holds(interval) == holds
        assert row.missed == (not holds)
        assert row.as_json()["verdict"] == ("ok" if holds else "missed")
        assert row.line(bars=True).endswith(f"{side.value} 100 ns {'ok' if holds else 'MISSED'}")
