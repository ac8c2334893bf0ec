"""When the keys of a connection have served long enough."""

from __future__ import annotations

from typing import Any

import pytest

from asys.client.renewal import DEFAULT_REQUESTS, DEFAULT_SECONDS, IDLE, Renewal
from asys.errors import ArgumentError


def test_the_defaults_are_an_hour_and_a_million_requests() -> None:
    renewal = Renewal()
    renewal.begin(100.0)

    assert (DEFAULT_SECONDS, DEFAULT_REQUESTS) == (3600.0, 1_000_000)
    assert not renewal.due(3699.9)
    assert renewal.due(3700.0)
    renewal.carried = 999_999
    assert not renewal.due(100.0)
    renewal.carried = 1_000_000
    assert renewal.due(100.0)


def test_nothing_is_due_before_the_first_keys() -> None:
    assert not Renewal(1.0, 1).due(1e12)


def test_new_keys_start_age_and_count_again() -> None:
    renewal = Renewal(10.0, 5)
    renewal.begin(0.0)
    renewal.carried = 5
    assert renewal.due(1.0)

    renewal.begin(11.0)

    assert renewal.carried == 0
    assert not renewal.due(20.9)
    assert renewal.due(21.0)


@pytest.mark.parametrize(("seconds", "requests"), [(None, None), (None, 10), (10.0, None)])
def test_none_is_never_for_that_reason(seconds: float | None, requests: int | None) -> None:
    renewal = Renewal(seconds, requests)
    renewal.begin(0.0)
    assert renewal.due(1e12) is (seconds is not None)

    renewal.begin(1e12)
    renewal.carried = 1 << 70
    assert renewal.due(1e12) is (requests is not None)


def test_a_call_says_whether_keys_are_due_and_ends_the_idle_time() -> None:
    renewal = Renewal(10.0, None)
    renewal.begin(0.0)

    assert renewal.idle_from == float("inf")
    assert not renewal.called(9.0)
    assert renewal.idle_from == 9.0 + IDLE
    assert renewal.called(10.0)
    assert renewal.idle_from == 10.0 + IDLE


def test_another_connection_has_the_same_limits_and_an_age_of_its_own() -> None:
    renewal = Renewal(10.0, 5)
    renewal.begin(0.0)
    renewal.carried = 5

    other = renewal.again()

    assert not other.due(1e9)
    other.begin(100.0)
    assert other.due(110.0)
    other.carried = 5
    assert other.due(100.0)


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), True, "3600"])
def test_an_age_is_a_positive_number(seconds: Any) -> None:
    with pytest.raises(ArgumentError, match="rekey_seconds must be"):
        Renewal(seconds, None)


@pytest.mark.parametrize("requests", [0, -1, 1.5, True, "9"])
def test_a_count_is_a_positive_whole_number(requests: Any) -> None:
    with pytest.raises(ArgumentError, match="rekey_requests must be"):
        Renewal(None, requests)
