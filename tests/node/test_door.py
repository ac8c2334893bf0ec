"""What the door remembers: against models that are too simple to be wrong, and at every edge."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.node import door
from asys.node.door import HandshakeRates, Replays, Unconfirmed, source

KEYS = [bytes([number]) * 32 for number in range(8)]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


# -- replays


def test_the_bounds_of_the_protocol() -> None:
    assert (door.GENERATION_SECONDS, door.GENERATION_KEYS) == (150, 65_536)
    assert (door.SOURCES, door.UNCONFIRMED) == (65_536, 256)


def test_a_key_is_unknown_until_it_is_remembered() -> None:
    replays = Replays()
    assert not replays.seen(key(1), 5.0)
    assert not replays.seen(key(1), 5.0)
    replays.remember(key(1), 5.0)
    assert replays.seen(key(1), 5.0)
    assert not replays.seen(key(2), 5.0)


@pytest.mark.parametrize("start", [0.0, 1000.0, 8_000_000.5])
def test_the_first_key_of_a_generation_stays_for_300_s(start: float) -> None:
    replays = Replays()
    replays.remember(key(1), start)
    for after in (0, 149.5, 150, 150.5, 299, 299.5):
        assert replays.seen(key(1), start + after)
    assert not replays.seen(key(1), start + 300)
    assert len(replays) == 0


@pytest.mark.parametrize("silence", [150, 299.5, 300, 300.5])
def test_after_a_silence(silence: float) -> None:
    replays = Replays()
    replays.remember(key(1), 1000.0)
    assert replays.seen(key(1), 1000.0 + silence) is (silence < 300)


def test_the_last_key_of_a_generation_stays_for_150_s_and_a_moment() -> None:
    replays = Replays()
    replays.remember(key(1), 1000.0)
    replays.remember(key(2), 1149.875)
    assert replays.seen(key(2), 1149.875 + 150)
    assert replays.seen(key(2), 1299.875)
    assert not replays.seen(key(2), 1300.0)


def test_a_key_at_the_very_turn_belongs_to_the_new_generation() -> None:
    replays = Replays()
    replays.remember(key(1), 1000.0)
    replays.remember(key(2), 1150.0)
    assert replays.seen(key(1), 1299.5)
    assert not replays.seen(key(1), 1300.0)
    assert replays.seen(key(2), 1449.5)
    assert not replays.seen(key(2), 1450.0)


def test_both_generations_go_after_a_long_silence() -> None:
    replays = Replays()
    replays.remember(key(1), 1000.0)
    replays.remember(key(2), 1200.0)
    assert len(replays) == 2
    assert not replays.seen(key(2), 5000.0)
    assert len(replays) == 0
    replays.remember(key(3), 5100.0)
    assert replays.seen(key(3), 5399.5)
    assert not replays.seen(key(3), 5400.0)


def test_the_65536th_key_and_the_one_behind_it() -> None:
    replays = Replays()
    for number in range(65_536):
        replays.remember(key(number), 1000.0)
    assert len(replays) == 65_536
    replays.remember(key(65_536), 1000.0)
    assert len(replays) == 65_537  # the first generation is full; it became the older one
    for number in range(65_537, 2 * 65_536):
        replays.remember(key(number), 1000.0)
    assert len(replays) == 2 * 65_536
    assert replays.seen(key(0), 1000.0)
    replays.remember(key(2 * 65_536), 1000.0)
    assert len(replays) == 65_537
    assert not replays.seen(key(0), 1000.0)
    assert not replays.seen(key(65_535), 1000.0)
    assert replays.seen(key(65_536), 1000.0)
    assert replays.seen(key(2 * 65_536), 1000.0)


def test_a_key_that_is_remembered_again_takes_no_second_place() -> None:
    replays = Replays(capacity=2)
    for _ in range(5):
        replays.remember(key(1), 1000.0)
        replays.remember(key(2), 1000.0)
    assert len(replays) == 2


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 400), st.booleans()), max_size=60),
    st.integers(1, 4),
)
def test_replays_against_a_list_of_all_that_was(
    steps: list[tuple[bytes, int, bool]], capacity: int
) -> None:
    """`seen` is never true of a key that was not there in the last 300 s; it is never false of one
    that was there in the last 150 s and is among the latest `capacity`.
    """
    replays = Replays(capacity)
    history: list[tuple[bytes, int]] = []
    now = 0
    for ephemeral, pause, remember in steps:
        now += pause
        if remember:
            replays.remember(ephemeral, now)
            history.append((ephemeral, now))
        assert len(replays) <= 2 * capacity
        for one in KEYS:
            times = [at for remembered, at in history if remembered == one]
            seen = replays.seen(one, now)
            if not times or now - times[-1] >= 300:
                assert not seen
            elif now - times[-1] <= 150:
                last = max(i for i, (remembered, _) in enumerate(history) if remembered == one)
                later = {remembered for remembered, _ in history[last:]}
                assert seen or len(later) > capacity


# -- rates


def test_a_burst_of_100_then_20_a_second() -> None:
    rates = HandshakeRates()
    assert sum(rates.allow("peer", 50.0) for _ in range(200)) == 100
    assert not rates.allow("peer", 50.049)
    assert rates.allow("peer", 50.05)
    assert not rates.allow("peer", 50.05)
    assert sum(rates.allow("peer", 51.05) for _ in range(200)) == 20
    assert sum(rates.allow("peer", 5000.0) for _ in range(200)) == 100


@pytest.mark.parametrize(("per_second", "burst"), [(1, 5), (7, 35), (65_535, 327_675)])
def test_the_burst_is_five_times_the_rate(per_second: int, burst: int) -> None:
    rates = HandshakeRates(per_second)
    assert sum(rates.allow(b"peer", 9.0) for _ in range(burst)) == burst
    assert not rates.allow(b"peer", 9.0)


def test_a_burst_of_its_own() -> None:
    rates = HandshakeRates(10, 1)
    assert [rates.allow("peer", at) for at in (1.0, 1.0, 1.09, 1.1, 1.1)] == [
        *(True, False, False, True, False)
    ]


def test_one_source_does_not_slow_another() -> None:
    rates = HandshakeRates(1, 1)
    assert rates.allow("one", 0.0)
    assert not rates.allow("one", 0.0)
    assert rates.allow("another", 0.0)


def test_no_limit() -> None:
    rates = HandshakeRates(0)
    assert all(rates.allow("peer", 0.0) for _ in range(10_000))
    assert len(rates) == 0


def test_who_is_refused_is_not_refused_for_longer() -> None:
    rates = HandshakeRates(1, 1)
    assert rates.allow("peer", 0.0)
    assert not any(rates.allow("peer", at / 100) for at in range(1, 100))
    assert rates.allow("peer", 1.0)


def test_the_65536th_source_and_the_one_behind_it() -> None:
    rates = HandshakeRates(1, 2)
    for number in range(65_536):
        assert rates.allow(key(number), 10.0)
    assert len(rates) == 65_536
    assert rates.allow(key(0), 10.0)  # now it has none left, and was seen last
    assert not rates.allow(key(0), 10.0)
    assert rates.allow(key(65_536), 10.0)
    assert len(rates) == 65_536
    assert not rates.allow(key(0), 10.0)
    # The source that was seen least recently was forgotten: it has its whole burst again.
    assert rates.allow(key(1), 10.0)
    assert rates.allow(key(1), 10.0)
    assert not rates.allow(key(1), 10.0)


def test_a_full_bucket_goes_before_the_one_seen_least_recently() -> None:
    rates = HandshakeRates(1, 3, capacity=3)
    for _ in range(3):
        assert rates.allow("drained", 10.0)
    assert rates.allow("slow", 10.0)
    assert rates.allow("slow", 10.0)
    assert rates.allow("quick", 10.5)
    # At 11.5 the quick one is full again, though it was the last to be seen.
    for number in range(2):
        assert rates.allow(f"new {number}", 11.5)
    assert len(rates) == 3
    # It had the one place to give; for the second newcomer the least recently seen one went.
    assert sum(rates.allow("slow", 11.5) for _ in range(3)) == 2
    assert sum(rates.allow("drained", 11.5) for _ in range(5)) == 3


def test_a_full_bucket_is_found_behind_many_that_are_not() -> None:
    rates = HandshakeRates(1, 9, capacity=4)
    for peer in "abc":
        for _ in range(5):
            assert rates.allow(peer, 10.0)
    assert rates.allow("full soon", 10.5)
    assert rates.allow("new", 11.5)
    assert len(rates) == 4
    assert sum(rates.allow("a", 11.5) for _ in range(9)) == 5


def test_sources_leave_when_their_buckets_are_full() -> None:
    """So the table is small again after a flood, without a scan that would hold everybody up."""
    rates = HandshakeRates()
    for number in range(10_000):
        rates.allow(key(number), 10.0)
    assert len(rates) == 10_000
    for number in range(10_001):
        rates.allow("peer", 20.0 + number)
    assert len(rates) == 1


def test_a_flood_from_ever_new_sources_is_bounded() -> None:
    rates = HandshakeRates(1, 1, capacity=64)
    for number in range(5_000):
        assert rates.allow(key(number), number / 1e6)
        assert len(rates) <= 64
        assert len(rates._filling) <= 2 * 64 + 1


class PlainBuckets:
    """Every source has its bucket for ever, in exact numbers."""

    def __init__(self, per_second: int, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self.buckets: dict[str, tuple[Fraction, Fraction]] = {}

    def tokens(self, peer: str, now: Fraction) -> Fraction:
        tokens, at = self.buckets.get(peer, (Fraction(self.burst), now))
        return min(Fraction(self.burst), tokens + (now - at) * self.per_second)

    def allow(self, peer: str, now: Fraction) -> bool:
        tokens = self.tokens(peer, now)
        allowed = tokens >= 1
        self.buckets[peer] = (tokens - allowed, now)
        return allowed


ARRIVALS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 40).map(lambda n: n * n)), max_size=80
)


@given(ARRIVALS, st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(1, 9))
def test_rates_against_plain_buckets(
    arrivals: list[tuple[str, int]], per_second: int, burst: int
) -> None:
    """Steps of 1/64 s and rates that divide them: both count exactly, and agree in every answer."""
    rates, plain = HandshakeRates(per_second, burst), PlainBuckets(per_second, burst)
    now = 0
    for peer, pause in arrivals:
        now += pause
        assert rates.allow(peer, now / 64) == plain.allow(peer, Fraction(now, 64))


class PlainTable(PlainBuckets):
    """As the table says that it does: full ones go first, then the least recently seen."""

    def __init__(self, per_second: int, burst: int, capacity: int) -> None:
        super().__init__(per_second, burst)
        self.capacity = capacity

    def allow(self, peer: str, now: Fraction) -> bool:
        for one in [one for one in self.buckets if self.tokens(one, now) == self.burst]:
            del self.buckets[one]
        if peer not in self.buckets and len(self.buckets) == self.capacity:
            del self.buckets[next(iter(self.buckets))]
        tokens = self.tokens(peer, now)
        self.buckets.pop(peer, None)
        self.buckets[peer] = (tokens - (tokens >= 1), now)
        return tokens >= 1


@settings(max_examples=300)
@given(ARRIVALS, st.sampled_from([1, 2, 4, 8]), st.integers(1, 9), st.integers(1, 4))
def test_a_small_table_against_a_plain_one(
    arrivals: list[tuple[str, int]], per_second: int, burst: int, capacity: int
) -> None:
    rates = HandshakeRates(per_second, burst, capacity=capacity)
    plain = PlainTable(per_second, burst, capacity)
    now = 0
    for peer, pause in arrivals:
        now += pause
        assert rates.allow(peer, now / 64) == plain.allow(peer, Fraction(now, 64))
        assert len(plain.buckets) <= len(rates) <= capacity


@given(
    st.lists(st.integers(0, 300_000_000), min_size=1, max_size=150),
    st.integers(1, 65_535),
    st.floats(0, 1e8),
)
def test_never_more_than_the_rate_in_any_window(
    pauses: list[int], per_second: int, start: float
) -> None:
    rates = HandshakeRates(per_second, 3)
    now = start
    allowed: list[float] = []
    for pause in pauses:
        now += pause / 1e9
        if rates.allow("peer", now):
            allowed.append(now)
    for i, first in enumerate(allowed):
        for j in range(i, len(allowed)):
            # The clock's own steps are wider than a nanosecond when it has run for long.
            window = Fraction(allowed[j]) - Fraction(first) + Fraction(1, 10**9)
            assert j - i + 1 <= 3 + window * per_second


# -- unconfirmed connections


def test_a_pool_of_256() -> None:
    pool: Unconfirmed[int] = Unconfirmed()
    assert [pool.add(number) for number in range(256)] == [None] * 256
    assert pool.add(256) == 0
    assert len(pool) == 256
    assert 0 not in pool
    assert 256 in pool


def test_who_has_shown_more_goes_later() -> None:
    pool: Unconfirmed[str] = Unconfirmed(3)
    for item in "abc":
        pool.add(item)
    pool.advance("a")
    pool.advance("c")
    assert pool.add("d") == "b"
    assert pool.add("e") == "d"
    pool.advance("e")
    assert pool.add("f") == "a"  # all have: then it is the oldest, whenever it did
    assert pool.add("g") == "f"


def test_who_is_gone_leaves_room() -> None:
    pool: Unconfirmed[str] = Unconfirmed(2)
    pool.add("a")
    pool.add("b")
    pool.discard("a")
    pool.discard("a")
    assert pool.add("c") is None
    assert pool.add("c") is None
    assert pool.add("d") == "b"


def test_who_is_not_here_cannot_advance() -> None:
    pool: Unconfirmed[str] = Unconfirmed(1)
    pool.advance("a")
    assert len(pool) == 0
    assert pool.add("a") is None
    assert pool.add("b") == "a"
    pool.advance("a")
    assert pool.add("c") == "b"


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "advance", "discard"]), st.integers(0, 9)), max_size=80
    ),
    st.integers(1, 5),
)
def test_the_pool_against_a_list(steps: list[tuple[str, int]], capacity: int) -> None:
    pool: Unconfirmed[int] = Unconfirmed(capacity)
    plain: list[list[int]] = []  # item, whether it has advanced; in order of arrival
    for what, item in steps:
        there = [one for one in plain if one[0] == item]
        if what == "add":
            expected = None
            if not there and len(plain) == capacity:
                gone = min(plain, key=lambda one: one[1])  # the first of those that compare least
                plain.remove(gone)
                expected = gone[0]
            if not there:
                plain.append([item, 0])
            assert pool.add(item) == expected
        elif what == "advance":
            pool.advance(item)
            for one in there:
                one[1] = 1
        else:
            pool.discard(item)
            plain = [one for one in plain if one[0] != item]
        assert len(pool) == len(plain)
        assert all(one[0] in pool for one in plain)


# -- sources


@pytest.mark.parametrize(
    ("peername", "counted"),
    [
        (("192.0.2.1", 5), b"\xc0\x00\x02\x01"),
        (("192.0.2.1", 6), b"\xc0\x00\x02\x01"),
        (("::ffff:192.0.2.1", 5, 0, 0), b"\xc0\x00\x02\x01"),
        (("::ffff:c000:201", 5, 0, 0), b"\xc0\x00\x02\x01"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), bytes.fromhex("20010db800010002")),
        (("2001:db8:1:2::", 5, 0, 0), bytes.fromhex("20010db800010002")),
        (("2001:db8:1:3::", 5, 0, 0), bytes.fromhex("20010db800010003")),
        (("::1", 5, 0, 0), bytes(8)),
        (("::1", 5), bytes(8)),
        (("fe80::1%eth0", 5, 0, 2), bytes.fromhex("fe80000000000000 00000002")),
        (("fe80::9", 5, 0, 3), bytes.fromhex("fe80000000000000 00000003")),
    ],
)
def test_what_an_address_is_counted_as(peername: object, counted: bytes) -> None:
    assert source(peername) == counted


def test_a_peer_on_a_unix_socket_is_its_user() -> None:
    assert source("", 1000) == source(b"", 1000) == "uid 1000"
    assert source("", 0) != source("", 1000)
    assert source(None) == source("") == "nobody"
