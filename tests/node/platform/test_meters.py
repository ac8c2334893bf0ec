"""Rates from counters, whatever the counters do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asys.isa import ProcessFlags
from asys.node.platform.base import TableSnapshot
from asys.node.platform.meters import CpuMeter, NetworkMeter, ProcessMeter

SECONDS = st.floats(0, 1e9, allow_nan=False)
COUNTERS = st.dictionaries(
    st.sampled_from(["eth0", "eth1", "wlan0"]), st.tuples(st.integers(0, 1 << 64), st.integers(0))
)


def test_cpu_begins_with_nothing() -> None:
    assert CpuMeter().update(100.0, busy=5e5, idle=7e5, io_wait=3e5) == (0, 0)


def test_cpu_is_of_the_whole_machine() -> None:
    meter = CpuMeter()
    meter.update(100.0, busy=10.0, idle=20.0, io_wait=1.0)
    # two CPUs, half a second: 0.5 s busy, 0.25 s idle, 0.25 s waiting
    assert meter.update(100.5, busy=10.5, idle=20.25, io_wait=1.25) == (50, 250)
    assert meter.update(101.0, busy=10.5, idle=21.25, io_wait=1.25) == (0, 0)


def test_io_wait_of_many_cpus_is_at_most_the_interval() -> None:
    meter = CpuMeter()
    meter.update(100.0, busy=0.0, idle=0.0, io_wait=0.0)
    assert meter.update(100.25, busy=0.0, idle=0.0, io_wait=16.0) == (0, 250)


def test_cpu_without_a_tick_between_two_readings() -> None:
    meter = CpuMeter()
    meter.update(100.0, busy=1.0, idle=1.0, io_wait=1.0)
    assert meter.update(100.0, busy=1.0, idle=1.0, io_wait=1.0) == (0, 0)


def test_idle_and_io_wait_that_go_back() -> None:
    meter = CpuMeter()
    meter.update(100.0, busy=1.0, idle=50.0, io_wait=9.0)
    assert meter.update(101.0, busy=2.0, idle=49.9, io_wait=8.0) == (100, 0)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS, SECONDS), min_size=2, max_size=5))
def test_cpu_is_always_within_bounds(
    readings: list[tuple[float, float, float, float]],
) -> None:
    meter = CpuMeter()
    last = None
    for now, busy, idle, io_wait in readings:
        percent, waited = meter.update(now, busy, idle, io_wait)
        assert 0 <= percent <= 100
        assert 0 <= waited <= max(now - (now if last is None else last), 0) * 1000
        last = now


def test_network_adds_up_all_interfaces() -> None:
    meter = NetworkMeter()
    assert meter.update(10.0, {"eth0": (10**12, 10**12), "eth1": (5, 5)}) == (0, 0)
    counters = {"eth0": (10**12 + 2_000_000, 10**12 + 500_000), "eth1": (500_005, 250_005)}
    assert meter.update(10.5, counters) == (40, 12)


def test_interfaces_come_go_and_wrap() -> None:
    meter = NetworkMeter()
    meter.update(1.0, {"gone": (10**9, 10**9), "wraps": (2**32 - 1, 2**32 - 1), "stays": (0, 0)})
    counters = {"wraps": (100, 100), "stays": (125_000, 250_000), "new": (10**12, 10**12)}
    assert meter.update(2.0, counters) == (1, 2)
    counters = {"wraps": (125_100, 100), "stays": (125_000, 250_000), "new": (10**12, 10**12)}
    assert meter.update(3.0, counters) == (1, 0)


def test_network_without_time_between_two_readings() -> None:
    meter = NetworkMeter()
    meter.update(1.0, {"eth0": (0, 0)})
    assert meter.update(1.0, {"eth0": (10**9, 10**9)}) == (0, 0)


@given(st.lists(st.tuples(st.floats(0, 100), COUNTERS), max_size=5))
def test_network_is_never_negative(
    readings: list[tuple[float, dict[str, tuple[int, int]]]],
) -> None:
    meter = NetworkMeter()
    for now, counters in readings:
        assert min(meter.update(now, counters)) >= 0


def _scan(
    meter: ProcessMeter,
    now: float,
    *processes: tuple[int, int, float, int],
    start_now: int = 1000,
    roots: tuple[int, ...] = (),
) -> TableSnapshot:
    """One scan of processes (PID, start, CPU, resident), all read at `now`."""
    meter.begin(now, start_now)
    for pid, start, cpu, resident in processes:
        meter.add(pid, start, cpu, resident, now, 0)
    return meter.finish(roots)


def test_the_first_scan_has_no_cpu() -> None:
    snapshot = _scan(ProcessMeter(100, 1000), 1.0, (7, 1, 10_000, 500))
    assert snapshot.count == 1
    assert snapshot.top[0].pid == 7
    assert snapshot.top[0].cpu_percent == 0
    assert snapshot.top[0].memory_percent == 50
    assert snapshot.starts == {7: 1}


def test_cpu_is_what_was_used_since_the_last_scan() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 10_000, 1), (8, 1, 50_000, 1))
    snapshot = _scan(meter, 1.25, (7, 1, 10_025, 1), (8, 1, 50_000, 1))
    assert [(one.pid, one.cpu_percent) for one in snapshot.top] == [(7, 100.0), (8, 0.0)]
    snapshot = _scan(meter, 1.75, (7, 1, 10_025, 1), (8, 1, 50_100, 1))
    assert [(one.pid, one.cpu_percent) for one in snapshot.top] == [(8, 200.0), (7, 0.0)]


def test_each_process_has_its_own_time_of_reading() -> None:
    meter = ProcessMeter(100, 1000)
    meter.begin(1.0, 1000)
    meter.add(7, 1, 0, 1, 1.4, 0)
    meter.finish(())
    meter.begin(1.5, 1000)
    meter.add(7, 1, 10, 1, 1.6, 0)
    assert meter.finish(()).top[0].cpu_percent == 50.0 * 0.2 / (1.6 - 1.4)


def test_a_process_born_in_the_interval_counts_from_nothing() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 0, 1), start_now=500)
    snapshot = _scan(meter, 1.5, (7, 1, 0, 1), (9, 500, 30, 1))
    assert [(one.pid, one.cpu_percent) for one in snapshot.top] == [(9, 60.0), (7, 0.0)]


def test_a_reused_pid_is_another_process() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 40, 1), start_now=500)
    snapshot = _scan(meter, 2.0, (7, 600, 50, 1))
    assert snapshot.top[0].cpu_percent == 50.0
    assert snapshot.starts == {7: 600}


def test_an_older_process_seen_for_the_first_time_has_no_cpu_yet() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 0, 1), start_now=500)
    snapshot = _scan(meter, 2.0, (7, 1, 0, 1), (9, 499, 100_000, 5))
    assert [(one.pid, one.cpu_percent) for one in snapshot.top] == [(9, 0.0), (7, 0.0)]


def test_cpu_time_that_goes_back_is_no_cpu() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 100, 1))
    assert _scan(meter, 2.0, (7, 1, 99, 1)).top[0].cpu_percent == 0
    assert _scan(meter, 2.0, (7, 1, 150, 1)).top[0].cpu_percent == 0


def test_after_forget_the_next_scan_is_a_first_one() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 0, 1))
    meter.forget()
    assert _scan(meter, 9.0, (7, 1, 100, 1), (9, 5000, 100, 1)).top[0].cpu_percent == 0
    assert _scan(meter, 10.0, (7, 1, 150, 1)).top[0].cpu_percent == 50.0


def test_a_scan_that_was_given_up_shows_no_false_cpu() -> None:
    meter = ProcessMeter(100, 1000)
    _scan(meter, 1.0, (7, 1, 0, 1), (8, 1, 0, 1))
    meter.begin(2.0, 1000)
    meter.add(7, 1, 50, 1, 2.0, 0)
    snapshot = _scan(meter, 3.0, (7, 1, 100, 1), (8, 1, 100, 1))
    assert {one.pid: one.cpu_percent for one in snapshot.top} == {7: 0.0, 8: 50.0}


def test_five_in_order_of_cpu_then_memory_then_pid() -> None:
    meter = ProcessMeter(100, 1000)
    pids = range(1, 21)
    _scan(meter, 1.0, *((pid, 1, 0, 0) for pid in pids))
    used = {5: 10, 17: 20, 3: 10}
    memory = {17: 1, 9: 700, 12: 700, 2: 300, 20: 200}
    processes = [(pid, 1, used.get(pid, 0), memory.get(pid, 0)) for pid in pids]
    snapshot = _scan(meter, 2.0, *processes, roots=(3, 9, 20))
    assert snapshot.count == 20
    assert [one.pid for one in snapshot.top] == [17, 3, 5, 9, 12]
    assert [one.memory_percent for one in snapshot.top] == [0, 0, 0, 70, 70]
    assert [one.flags for one in snapshot.top] == [
        ProcessFlags(0),
        ProcessFlags.ROOT,
        ProcessFlags(0),
        ProcessFlags.ROOT,
        ProcessFlags(0),
    ]
    assert snapshot.starts == dict.fromkeys((17, 3, 5, 9, 12), 1)


def test_leaders_are_those_of_the_snapshot() -> None:
    meter = ProcessMeter(100, 1000)
    meter.begin(1.0, 1000)
    for pid, resident in ((1, 5), (2, 7), (3, 6)):
        meter.add(pid, 1, 0, resident, 1.0, ProcessFlags.ZOMBIE.value)
    assert meter.leaders() == [2, 3, 1]
    top = meter.finish({3}).top
    assert [one.flags for one in top] == [
        ProcessFlags.ZOMBIE,
        ProcessFlags.ZOMBIE | ProcessFlags.ROOT,
        ProcessFlags.ZOMBIE,
    ]


def test_memory_is_at_most_all_of_it() -> None:
    assert _scan(ProcessMeter(100, 10), 1.0, (7, 1, 0, 11)).top[0].memory_percent == 100
