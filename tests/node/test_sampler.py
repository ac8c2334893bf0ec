"""The sampler: when it samples, when it sleeps, and what is ready to send."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from itertools import pairwise

import psutil
import pytest
import uvloop

from asys.isa import Processes, Status
from asys.node import sampler as module
from asys.node.clock import LoopClock
from asys.node.platform import choose_platform
from asys.node.platform.base import NoSuchTarget, SystemFailure
from asys.node.sampler import (
    IDLE,
    MAX_AGE,
    SETTLE,
    SLICE,
    TABLE_LEAST_INTERVAL,
    TABLE_MOST_INTERVAL,
    TABLE_SHARE,
    VITALS_INTERVAL,
    Sampler,
)
from asys.protocol.status import SW
from support.machine import MadePlatform
from support.sampled import Made


@pytest.fixture
def made() -> Made:
    return Made()


def _status(reply: bytes) -> Status:
    assert reply[-2:] == SW.SUCCESS.wire
    return Status.unpack(reply[:-2])


def _procs(reply: bytes) -> Processes:
    assert reply[-2:] == SW.SUCCESS.wire
    return Processes.unpack(reply[:-2])


def test_nobody_there_no_timers(made: Made) -> None:
    assert made.clock.pending == []
    made.clock.advance(3600)
    assert made.vitals.read_at == made.table.began_at == []
    assert not made.fresh()


def test_on_waking_a_baseline_and_soon_the_first_reading(made: Made) -> None:
    made.sampler.wake()
    made.clock.run_ready()
    assert made.table.forgotten == 1
    assert made.vitals.read_at == made.table.began_at == [made.began]
    assert not made.fresh()
    assert made.sampler.status_reply == made.sampler.procs_reply == SW.NODE_BUSY.wire
    made.clock.advance(SETTLE * 0.9)
    assert not made.fresh()
    made.clock.advance(SETTLE * 0.1)
    assert made.fresh()
    assert len(made.vitals.read_at) == len(made.table.began_at) == 2
    assert _status(made.sampler.status_reply).available_mb == 2.0
    assert [one.pid for one in _procs(made.sampler.procs_reply).top] == [2]
    assert made.sampler.processes is made.table.latest


def test_nothing_is_sampled_on_a_request(made: Made) -> None:
    sampler = made.awake()
    before = len(made.vitals.read_at), len(made.table.began_at)
    for _ in range(1000):
        sampler.touch()
        assert made.fresh()
    assert (len(made.vitals.read_at), len(made.table.began_at)) == before


def test_vitals_four_times_a_second_and_more(made: Made) -> None:
    made.awake()
    before = len(made.vitals.read_at)
    made.keep_awake(10.0)
    assert len(made.vitals.read_at) - before >= 40
    assert VITALS_INTERVAL <= 0.25


def test_every_scan_is_another_object(made: Made) -> None:
    sampler = made.awake()
    seen = set()
    kept = []
    for _ in range(5):
        kept.append(sampler.processes)
        seen.add(id(sampler.processes))
        assert sampler.processes is made.table.latest
        made.keep_awake(0.05)
        same = sampler.processes
        sampler.touch()
        assert sampler.processes is same
        made.keep_awake(TABLE_LEAST_INTERVAL)
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("cost", "interval"),
    [
        (0.0, TABLE_LEAST_INTERVAL),
        (0.010, TABLE_LEAST_INTERVAL),
        (0.020, 0.4),
        (0.030, 0.6),
        (0.040, TABLE_MOST_INTERVAL),
        (0.200, TABLE_MOST_INTERVAL),
    ],
)
def test_scans_take_a_twentieth_of_a_cpu_within_limits(
    made: Made, cost: float, interval: float
) -> None:
    made.table.steps = 100
    made.table.cost = cost / made.table.steps
    made.awake()
    made.keep_awake(8.0)
    began = made.table.began_at[2:]
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert gaps
    assert gaps == pytest.approx([interval] * len(gaps))
    assert interval <= 0.8
    if TABLE_LEAST_INTERVAL < interval < TABLE_MOST_INTERVAL:
        assert cost / interval == pytest.approx(TABLE_SHARE)


def test_it_sleeps_five_seconds_after_the_last_request(made: Made) -> None:
    sampler = made.awake()
    made.keep_awake(20.0)
    sampler.touch()
    made.clock.advance(IDLE - 0.001)
    assert made.clock.pending
    assert made.fresh()
    made.clock.advance(VITALS_INTERVAL + 0.001)
    assert made.clock.pending == []
    assert IDLE == 5.0
    before = len(made.vitals.read_at), len(made.table.began_at)
    made.clock.advance(3600)
    assert (len(made.vitals.read_at), len(made.table.began_at)) == before
    assert not made.fresh()


def test_an_opening_session_alone_keeps_it_awake_for_five_seconds(made: Made) -> None:
    made.sampler.wake()
    made.clock.advance(IDLE - 0.001)
    assert made.fresh()
    made.clock.advance(VITALS_INTERVAL + 0.001)
    assert made.clock.pending == []


def test_it_falls_asleep_in_the_middle_of_a_scan(made: Made) -> None:
    made.awake()
    made.table.steps = 10**9
    made.table.cost = SLICE
    made.clock.others = 0.01
    made.clock.advance(IDLE + VITALS_INTERVAL)
    assert made.clock.pending == []
    made.clock.others = 0.0
    made.table.steps = 3
    published = made.sampler.processes
    assert made.awake().processes is not published


def test_after_sleep_old_counts_are_forgotten(made: Made) -> None:
    sampler = made.awake()
    made.clock.advance(3600)
    reply = sampler.status_reply, sampler.procs_reply
    reads, scans = len(made.vitals.read_at), len(made.table.began_at)
    sampler.touch()
    made.clock.run_ready()
    assert made.table.forgotten == 2
    assert len(made.vitals.read_at) == reads + 1
    assert len(made.table.began_at) == scans + 1
    assert (sampler.status_reply, sampler.procs_reply) == reply
    assert not made.fresh()
    made.clock.advance(SETTLE)
    assert made.fresh()
    assert _status(sampler.status_reply).available_mb == reads + 2
    assert _procs(sampler.procs_reply).top[0].pid == scans + 2


def test_a_snapshot_is_fresh_for_a_second(made: Made) -> None:
    sampler = made.awake()
    read = made.vitals.read_at[-1]
    assert sampler.fresh(read + MAX_AGE)
    assert not sampler.fresh(read + MAX_AGE + 0.001)
    assert MAX_AGE == 1.0


def test_a_request_that_finds_it_stale_waits_for_one_scan(made: Made) -> None:
    answers: list[tuple[bool, float]] = []
    made.sampler.when_fresh(lambda good: answers.append((good, made.clock.now())))
    made.sampler.when_fresh(lambda good: answers.append((good, made.clock.now())))
    assert answers == []
    made.clock.advance(1.0)
    assert [good for good, _ in answers] == [True, True]
    assert [at - made.began for _, at in answers] == pytest.approx([SETTLE, SETTLE])


def test_when_it_is_fresh_already_the_answer_comes_at_once(made: Made) -> None:
    answers: list[bool] = []
    made.awake().when_fresh(answers.append)
    assert answers == []
    made.clock.run_ready()
    assert answers == [True]


def test_it_does_not_sleep_while_somebody_waits(made: Made) -> None:
    answers: list[bool] = []
    made.clock.others = 0.1
    made.table.steps = 60
    made.table.cost = SLICE
    made.sampler.when_fresh(answers.append)
    made.clock.advance(2 * IDLE)
    assert answers == []
    assert made.clock.pending
    made.clock.advance(IDLE)
    assert answers == [True]
    made.clock.advance(VITALS_INTERVAL)
    assert made.clock.pending == []


def test_a_callback_that_raises_disturbs_nobody() -> None:
    async def use() -> list[bool]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
        platform = MadePlatform()
        sampler = Sampler(platform, LoopClock(loop))
        done: asyncio.Future[bool] = loop.create_future()
        sampler.when_fresh(lambda _good: 1 / 0)
        sampler.when_fresh(done.set_result)
        good = await asyncio.wait_for(done, 30)
        sampler.close()
        return [good]

    raised: list[object] = []
    assert asyncio.run(use()) == [True]
    assert [type(error) for error in raised] == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("error", "sw"),
    [
        (SystemFailure("no memory", SW.NODE_OUT_OF_MEMORY), SW.NODE_OUT_OF_MEMORY),
        (NoSuchTarget("nothing there"), SW.NODE_IO_ERROR),
        (OSError(errno.EIO, "input/output error"), SW.NODE_IO_ERROR),
        (OSError(errno.EACCES, "permission denied"), SW.NODE_IO_ERROR),
        (OSError(errno.ENOMEM, "no memory"), SW.NODE_OUT_OF_MEMORY),
        (MemoryError(), SW.NODE_OUT_OF_MEMORY),
        (ValueError("nobody foresaw this"), SW.NODE_UNKNOWN_ERROR),
    ],
)
@pytest.mark.parametrize("which", ["vitals", "table"])
def test_a_failure_is_answered_logged_once_and_gone_when_it_is_over(
    made: Made, caplog: pytest.LogCaptureFixture, which: str, error: Exception, sw: SW
) -> None:
    caplog.set_level(logging.INFO, "asyd.sampler")
    failing = made.vitals if which == "vitals" else made.table
    failing.error = error
    answers: list[bool] = []
    made.sampler.when_fresh(answers.append)
    made.keep_awake(3.0)
    assert answers == [False]
    replies = made.sampler.status_reply, made.sampler.procs_reply
    bad, good = replies if which == "vitals" else reversed(replies)
    assert bad == sw.wire
    assert good[-2:] == SW.SUCCESS.wire
    assert made.fresh()
    assert len(caplog.records) == 1
    assert str(sw) in caplog.text
    unforeseen = isinstance(error, (ValueError, MemoryError))
    assert bool(caplog.records[0].exc_info) == unforeseen
    reads = len(made.vitals.read_at if which == "vitals" else made.table.began_at)
    failing.error = None
    made.keep_awake(1.0)
    assert len(made.vitals.read_at if which == "vitals" else made.table.began_at) > reads + 1
    assert _status(made.sampler.status_reply).available_mb > 0
    assert _procs(made.sampler.procs_reply).count == 3
    made.sampler.when_fresh(answers.append)
    made.clock.run_ready()
    assert answers == [False, True]


def test_after_a_failure_there_is_a_new_baseline(made: Made) -> None:
    made.awake()
    made.table.error = made.vitals.error = OSError(errno.EIO, "input/output error")
    made.keep_awake(1.0)
    forgotten = made.table.forgotten
    assert forgotten > 1
    made.table.error = made.vitals.error = None
    scans, reads = len(made.table.began_at), len(made.vitals.read_at)
    while len(made.table.began_at) == scans or len(made.vitals.read_at) == reads:
        made.keep_awake(0.05)
    made.clock.advance(SETTLE)
    made.keep_awake(0.2)
    assert _procs(made.sampler.procs_reply).top[0].pid >= scans + 2
    assert _status(made.sampler.status_reply).available_mb >= reads + 2


def test_after_sleep_a_failure_is_logged_again(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    made.vitals.error = OSError(errno.EIO, "input/output error")
    for times in (1, 2):
        made.sampler.wake()
        made.clock.advance(60.0)
        assert len(caplog.records) == times


def test_close_ends_it_for_good_and_tells_who_waits(made: Made) -> None:
    answers: list[bool] = []
    made.sampler.when_fresh(answers.append)
    made.sampler.close()
    made.clock.run_ready()
    assert answers == [False]
    assert made.vitals.closed
    assert made.table.closed
    made.sampler.wake()
    made.sampler.when_fresh(answers.append)
    made.clock.advance(10.0)
    assert answers == [False, False]
    assert made.vitals.read_at == made.table.began_at == []
    assert made.clock.pending == []


def test_close_before_anybody_came(made: Made) -> None:
    made.sampler.close()
    assert made.table.closed
    assert made.clock.pending == []


def test_close_while_awake(made: Made) -> None:
    made.awake()
    made.sampler.close()
    assert made.clock.pending == []


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_real_machine(
    portable: bool, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def use() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        sampler = Sampler(choose_platform(portable=portable), clock)
        try:
            for _ in range(2):
                done: asyncio.Future[bool] = loop.create_future()
                sampler.when_fresh(done.set_result)
                assert await asyncio.wait_for(done, 60)
            status = _status(sampler.status_reply)
            assert 0 < status.available_mb < psutil.virtual_memory().total >> 20
            procs = _procs(sampler.procs_reply)
            assert procs.count == sampler.processes.count > 0
            assert {one.pid for one in procs.top} == set(sampler.processes.starts)
        finally:
            sampler.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(use())


def test_its_log_is_the_daemons() -> None:
    assert module._log.name == "asyd.sampler"


# -- what it costs


def test_what_readings_take_is_counted(made: Made) -> None:
    made.awake()
    vitals, table = made.sampler.vitals_costs, made.sampler.table_costs
    before = vitals.readings, table.readings, table.slices
    assert before[0] >= 2
    assert before[1] >= 2
    assert vitals.slices == vitals.readings
    made.keep_awake(1.0)
    assert vitals.readings > before[0]
    assert table.readings > before[1]
    assert table.slices >= table.readings
    assert (vitals.failures, table.failures) == (0, 0)
    assert made.sampler.awake
    made.clock.advance(IDLE + 1)
    assert not made.sampler.awake


def test_readings_that_fail_are_counted_too(made: Made) -> None:
    made.awake()
    vitals, table = made.sampler.vitals_costs, made.sampler.table_costs
    before = vitals.readings, table.readings
    made.vitals.error = SystemFailure("gone", SW.NODE_IO_ERROR)
    made.table.error = SystemFailure("gone", SW.NODE_IO_ERROR)
    made.keep_awake(1.0)
    assert vitals.failures == vitals.readings - before[0] > 0
    assert table.failures == table.readings - before[1] > 0


def test_how_late_its_timer_runs_is_told() -> None:
    made = Made()
    lag = made.lag
    made.awake()
    made.keep_awake(1.0)
    on_time = sum(lag.counts)
    assert on_time >= 5
    assert lag.most < 1e-6
    made.sampler.touch()
    made.clock.skip(0.7)
    made.clock.run_ready()
    assert sum(lag.counts) == on_time + 1
    assert 0.5 < lag.most <= 0.7
    made.clock.advance(IDLE + 1)  # asleep: nothing is late while it sleeps
    made.clock.advance(100)
    made.sampler.touch()
    made.clock.advance(SETTLE)
    assert lag.most <= 0.7
