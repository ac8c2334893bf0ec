"""When asyd lets others run behind an answer, and when it keeps the CPU."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from asys.node.courtesy import DEAR, MOST_SPARED, SELDOM, SPARED, Courtesy
from support.clock import ManualClock
from support.frames import HELLO, frame
from support.node_rig import Rig


class Others:
    """Whoever runs when asyd gives the CPU away, for `take` seconds."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.ran = 0
        self.take = 0.0

    def run(self) -> None:
        self.ran += 1
        self._clock.advance(self.take)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def others(clock: ManualClock) -> Others:
    return Others(clock)


@pytest.fixture
def courtesy(clock: ManualClock, others: Others) -> Courtesy:
    return Courtesy(clock.now, others.run)


def test_others_run_behind_answers_that_are_seldom(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    for number in range(1, 5):
        courtesy.answered()
        assert others.ran == number
        clock.advance(SELDOM * 1.1)


def test_the_time_that_is_told_is_behind_them(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    others.take = DEAR / 2
    began = clock.now()
    assert courtesy.answered() == clock.now() == pytest.approx(began + DEAR / 2)
    assert courtesy.answered() == clock.now()


def test_answers_that_follow_each_other_do_not_wait(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    """Also where each of many has its own connection: asyd has more to do."""
    courtesy.answered()
    for _ in range(100):
        clock.advance(SELDOM * 0.9)
        courtesy.answered()
    assert others.ran == 1
    clock.advance(SELDOM * 1.1)
    courtesy.answered()
    assert others.ran == 2


def test_others_who_need_the_whole_cpu_get_it_ever_less_often(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    others.take = 0.003  # as the scheduler gives to a busy process
    times: list[float] = []
    began = clock.now()
    while clock.now() - began < 100:
        before = others.ran
        courtesy.answered()
        if others.ran > before:
            times.append(clock.now())
        clock.advance(0.005)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == [
        pytest.approx(min(SPARED * 2**number, MOST_SPARED), abs=0.02)
        for number in range(len(pauses))
    ]
    assert sum(pause >= MOST_SPARED for pause in pauses) > 3


def test_once_the_cpu_is_free_again_others_run_behind_each_answer(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    others.take = 0.003
    for _ in range(5):
        courtesy.answered()
        clock.advance(MOST_SPARED)
    others.take, others.ran = 0.0, 0
    for _ in range(5):
        courtesy.answered()
        clock.advance(SELDOM * 1.1)
    assert others.ran == 5
    others.take = 0.003
    courtesy.answered()
    clock.advance(SPARED * 1.1)
    courtesy.answered()
    assert others.ran == 7


def test_what_is_just_not_dear_is_given_on(
    courtesy: Courtesy, clock: ManualClock, others: Others
) -> None:
    others.take = DEAR * 0.9
    for _ in range(10):
        courtesy.answered()
        clock.advance(SELDOM * 1.1)
    assert others.ran == 10


def test_by_itself_it_asks_the_scheduler(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    asked: list[None] = []
    monkeypatch.setattr(os, "sched_yield", lambda: asked.append(None))
    Courtesy(clock.now).answered()
    assert asked == [None]


def test_a_system_without_such_a_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.delattr(os, "sched_yield")
    assert Courtesy(clock.now).answered() == clock.now()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


@pytest.mark.parametrize("request_", [HELLO, frame(0x11, bytes(4))], ids=["bare", "with data"])
async def test_an_answer_is_out_before_others_run(rig: Rig, request_: bytes) -> None:
    agent = rig.session()
    rig.advance(1.0)
    seen: list[int] = []
    written = agent.transport.writes
    rig.node.courtesy = Courtesy(rig.clock.now, lambda: seen.append(agent.transport.writes))
    agent.ask(request_)
    assert seen == [written + 1]
