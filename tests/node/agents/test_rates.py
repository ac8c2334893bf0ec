"""Rates: their words, and buckets that never hold more than they should."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.isa import REGISTRY
from asys.node.agents.rates import MAX_COUNT, Bucket, RateLimit, parse_rates
from asys.node.agents.words import BadOption

HOUR = RateLimit(0x22, 3, 3600)


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ("SVC_RESTART:3/h", [(0x22, 3, 3600)]),
        ("svc_restart:3/h", [(0x22, 3, 3600)]),
        ("svc-restart:3/h", [(0x22, 3, 3600)]),
        ("22:1/s", [(0x22, 1, 1)]),
        ("fF:1000000/m", [(0xFF, 1_000_000, 60)]),
        ("PROC_THROTTLE:60/m,22:2/s", [(0x20, 60, 60), (0x22, 2, 1)]),
    ],
)
def test_rates(written: str, limits: list[tuple[int, int, int]]) -> None:
    assert parse_rates(written) == tuple(RateLimit(*one) for one in limits)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "there is no value"),
        ("22:1/s,", "nothing next to a comma"),
        ("SVC_RESTART", "'SVC_RESTART' is no rate: write NAME:N/s, NAME:N/m or NAME:N/h"),
        ("SVC_RESTART:3", "is no rate"),
        ("SVC_RESTART:3/d", "is no rate"),
        ("SVC_RESTART:3/H", "is no rate"),
        ("SVC_RESTART:/h", "is no rate"),
        ("SVC_RESTART:0/h", "with N from 1 to 1000000"),
        ("SVC_RESTART:03/h", "is no rate"),
        ("SVC_RESTART:-1/h", "is no rate"),
        ("SVC_RESTART:1.5/h", "is no rate"),
        ("SVC_RESTART:1000001/h", "is no rate"),
        ("SVC_RESTART:9999999999/h", "is no rate"),
        (":3/h", "is no rate"),
        ("22:3/h:4/h", "is no rate"),
        ("22:\N{ARABIC-INDIC DIGIT THREE}/h", "is no rate"),
        ("22:3/h\n", "is no rate"),
        ("core:3/h", "'core' is no instruction or hex code; there are SYS_CAPS, "),
        ("0x22:3/h", "is no instruction or hex code"),
        ("2:3/h", "is no instruction or hex code"),
        ("SVC_RE\N{LATIN SMALL LETTER LONG S}TART:3/h", "is no instruction"),
        ("22:3/h,SVC_RESTART:4/h", "'SVC_RESTART:4/h' is the second rate of one instruction"),
        ("SYS_CAPS:3/h", "SYS_CAPS can have no rate: agents use it to open their sessions"),
        ("22:3/h,00:3/h", "SYS_CAPS can have no rate"),
        ("22:3/h,22:3/h", "is the second rate of one instruction; leave one"),
    ],
)
def test_bad_rates(written: str, why: str) -> None:
    with pytest.raises(BadOption, match=re.escape(why)):
        parse_rates(written)


@given(
    st.lists(
        st.builds(
            RateLimit,
            st.integers(1, 255),  # SYS_CAPS has none
            st.integers(1, MAX_COUNT),
            st.sampled_from([1, 60, 3600]),
        ),
        min_size=1,
        unique_by=lambda limit: limit.code,
    )
)
def test_what_is_written_reads_back(limits: list[RateLimit]) -> None:
    assert parse_rates(",".join(map(str, limits))) == tuple(limits)


def test_how_a_rate_is_written() -> None:
    assert [str(RateLimit(one.code, 3, 60)) for one in REGISTRY] == [
        f"{one.name}:3/m" for one in REGISTRY
    ]
    assert str(RateLimit(0xF0, 1, 1)) == "F0:1/s"


@pytest.mark.parametrize(("count", "seconds"), [(0, 1), (-1, 1), (MAX_COUNT + 1, 1), (1, 2)])
def test_what_is_no_rate(count: int, seconds: int) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        RateLimit(0x22, count, seconds)


def test_a_bucket_starts_full_and_fills_evenly() -> None:
    bucket = Bucket(HOUR)
    for _ in range(3):
        assert bucket.ready(1000.0)
        bucket.take(1000.0)
    assert not bucket.ready(1000.0)
    assert not bucket.ready(1000.0 + 1199)
    assert bucket.ready(1000.0 + 1200)
    bucket.take(1000.0 + 1200)
    assert not bucket.ready(1000.0 + 2399)
    assert bucket.ready(1000.0 + 2400)


def test_a_bucket_holds_no_more_than_its_count() -> None:
    bucket = Bucket(HOUR)
    bucket.take(0.0)
    assert bucket.ready(1e9)
    for _ in range(3):
        bucket.take(1e9)
    assert not bucket.ready(1e9)


def test_asking_takes_nothing() -> None:
    bucket = Bucket(RateLimit(0x22, 1, 1))
    assert all(bucket.ready(5.0) for _ in range(10))


def test_taking_from_an_empty_bucket_is_an_error() -> None:
    bucket = Bucket(RateLimit(0x22, 1, 1))
    bucket.take(5.0)
    with pytest.raises(ValueError, match="empty bucket"):
        bucket.take(5.5)
    bucket.take(6.0)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(RateLimit(0x22, 1, 1))
    bucket.take(100.0)
    assert not bucket.ready(50.0)
    assert not bucket.ready(99.0)
    assert not bucket.ready(100.5)
    assert bucket.ready(101.0)


LIMITS = st.builds(
    RateLimit,
    st.just(0x22),
    st.one_of(st.integers(1, 12), st.sampled_from([7, 999, 999_983, MAX_COUNT])),
    st.sampled_from([1, 60, 3600]),
)


@given(
    LIMITS,
    st.floats(0, 1e7),
    st.lists(st.floats(0, 5000) | st.floats(0, 1e-3), max_size=60),
)
@example(RateLimit(0x22, 3, 1), 1e7, [1 / 3] * 60)
@example(RateLimit(0x22, 7, 1), 123456.789, [0.1] * 60)
def test_no_stretch_of_time_gives_more_than_its_share(
    limit: RateLimit, start: float, steps: list[float]
) -> None:
    """Between any two moments at most the count, and what the time between them brings."""
    bucket = Bucket(limit)
    now = start
    taken: list[Fraction] = []
    for step in steps:
        now += step
        for _ in range(min(limit.count + 1, 20)):
            if bucket.ready(now):
                bucket.take(now)
                # The bucket looks at whole nanoseconds.
                taken.append(Fraction(int(now * 1e9), 10**9))
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            share = (taken[last] - begin) * limit.count / limit.seconds
            assert last - first + 1 <= limit.count + share


@given(LIMITS, st.floats(0, 1e7))
def test_what_is_taken_at_the_rate_is_always_there(limit: RateLimit, start: float) -> None:
    """One use per interval, for ever: a limit must not refuse what it allows."""
    bucket = Bucket(limit)
    interval = limit.seconds / limit.count
    for number in range(min(limit.count, 50)):
        bucket.take(start)
        assert bucket.ready(start) is (number + 1 < limit.count)
    late = start + limit.seconds  # full again
    for number in range(100):
        now = late + number * (interval + 1e-6)
        assert bucket.ready(now)
        bucket.take(now)
