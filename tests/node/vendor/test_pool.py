"""One vendor's requests and its worker's life, with a worker that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asys.node.vendor.enabled import Enabled
from asys.node.vendor.pool import (
    FIRST_PAUSE,
    IN_WORK,
    LONGEST_PAUSE,
    REQUEST_SECONDS,
    START_SECONDS,
    Pool,
)
from asys.protocol.status import SW
from asys.vendor.wire import ANSWER, FAILED, HELLO, Description, message
from support.clock import ManualClock
from support.vendor_workers import DOMAIN, Played, PlayedLauncher, described, description

BODY = b"\0\0\0\1"


class World:
    """A pool and what is around it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.launcher = PlayedLauncher()
        self.refusal = ""
        self.told: list[Description] = []
        self.pool = Pool(Enabled(DOMAIN), self.launcher, self.clock, self._described)

    def _described(self, _pool: Pool, what: Description) -> str:
        self.told.append(what)
        return self.refusal

    async def worker(self, number: int = 0, what: Description | None = None) -> Played:
        """The worker with that number, once it is ready."""
        worker = await self.launcher.worker(number)
        worker.hello(what)
        await self.until(lambda: self.pool.codes and not self.pool.busy())
        return worker

    def ask(self, code: int = 0xC0, body: bytes = BODY) -> asyncio.Task[tuple[SW, bytes]]:
        """A request."""
        return asyncio.ensure_future(self.pool.ask(code, 1, 2, body))

    async def until(self, condition: Any) -> None:
        """Lets the loop run until something is so."""
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not happen")

    async def paused(self) -> None:
        """Returns when the worker has ended and the next one is waited for."""
        workers = self.launcher.launched
        await self.until(lambda: all(one.ended for _, one in workers) and self.clock.pending)
        assert "no other is started yet" in self.pool.busy()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.pool.start()
    yield made
    await made.pool.close()
    assert made.pool.pids == ()
    assert all(worker.ended for _, worker in made.launcher.launched)


async def test_a_request_and_its_answer(world: World) -> None:
    worker = await world.worker()
    assert world.told == [description()]
    assert (world.pool.pids, list(world.pool.codes)) == (worker.pids, [0xC0])
    asked = world.ask()
    number, *rest = await worker.request()
    assert rest == [0xC0, 1, 2, BODY]
    worker.answer(number, reply=b"\0\0\0\2")
    assert await asked == (SW.SUCCESS, b"\0\0\0\2")
    assert not world.clock.pending  # neither a deadline nor anything else is left


async def test_answers_come_in_any_order(world: World) -> None:
    worker = await world.worker()
    asked = [world.ask(body=bytes((0, 0, 0, one))) for one in range(3)]
    for number, _, _, _, body in reversed(await worker.asked(3)):
        worker.answer(number, reply=body)
    assert [(await one)[1][-1] for one in asked] == [0, 1, 2]


async def test_no_more_than_the_bound_is_in_work(world: World) -> None:
    worker = await world.worker()
    asked = []
    for _ in range(IN_WORK):
        assert world.pool.busy() == ""
        asked.append(world.ask())
        await asyncio.sleep(0)
    assert "4 requests are in work" in world.pool.busy()
    [(first, *_), *_] = await worker.asked(IN_WORK)
    worker.answer(first, reply=BODY)
    await asked[0]
    assert world.pool.busy() == ""
    worker.hang_up()
    assert {await one for one in asked[1:]} == {(SW.NODE_ERROR, b"")}


@pytest.mark.parametrize("sw", [0x6400, 0x6700, 0x6982, 0x6A80, 0x6D00, 0x6F00, 0x6F01, 0x6FFF])
async def test_what_the_code_refuses_is_passed_on(
    world: World, sw: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    worker = await world.worker()
    asked = world.ask()
    number, *_ = await worker.request()
    worker.answer(number, sw, note="why\nnot")
    assert await asked == (SW(sw), b"")
    assert f"{sw:04X} DOUBLE: why\\nnot" in caplog.text
    assert len(world.launcher.launched) == 1


@pytest.mark.parametrize(
    ("sw", "reply"),
    [
        (0x9000, b"\0\0\0"),
        (0x9000, b"\0\0\0\0\0"),
        (0x9100, BODY),
        (0x6A81, b""),
        (0x6985, b""),
        (0x6A80, b"x"),
        (0x1234, b""),
    ],
    ids=["short", "long", "node flags", "no such", "replay", "refused with a reply", "unknown"],
)
async def test_what_must_not_be_answered_ends_the_worker(
    world: World, sw: int, reply: bytes
) -> None:
    worker = await world.worker()
    asked, beside = world.ask(), world.ask()
    numbers = [number for number, *_ in await worker.asked(2)]
    worker.answer(numbers[0], sw, reply)
    assert await asked == (SW.NODE_ERROR, b"")
    assert await beside == (SW.NODE_ERROR, b"")
    await world.paused()
    assert worker.ended


async def test_a_reply_of_open_length(world: World) -> None:
    what = description(described(reply=2, reply_exact=False))
    worker = await world.worker(what=what)
    for reply in (b"ab", b"abc", bytes(60_000)):
        asked = world.ask()
        number, *_ = await worker.request()
        worker.answer(number, reply=reply)
        assert await asked == (SW.SUCCESS, reply)
    asked = world.ask()
    number, *_ = await worker.request()
    worker.answer(number, reply=b"a")
    assert await asked == (SW.NODE_ERROR, b"")


@pytest.mark.parametrize(
    "data",
    [
        message(ANSWER, bytes(8)),
        message(HELLO, b""),
        message(FAILED, b"too late"),
        message(ANSWER, b"\0"),
        message(0x55, b""),
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
    ],
    ids=["unasked", "again", "failed", "cut", "unknown", "empty", "huge"],
)
async def test_who_does_not_keep_to_the_wire_is_ended(world: World, data: bytes) -> None:
    worker = await world.worker()
    asked = world.ask()
    await worker.request()
    worker.say(data)
    assert await asked == (SW.NODE_ERROR, b"")
    await world.paused()
    assert worker.ended


async def test_one_answer_twice_ends_it(world: World) -> None:
    worker = await world.worker()
    asked = world.ask()
    number, *_ = await worker.request()
    worker.answer(number, reply=BODY)
    worker.answer(number, reply=BODY)
    assert await asked == (SW.SUCCESS, BODY)
    await world.paused()


async def test_a_crash_costs_what_was_in_work_alone(world: World) -> None:
    worker = await world.worker()
    asked = world.ask()
    await worker.request()
    worker.hang_up()
    assert await asked == (SW.NODE_ERROR, b"")
    await world.paused()
    assert "no other is started yet" in world.pool.busy()
    world.clock.advance(FIRST_PAUSE)
    again = await world.worker(1)
    asked = world.ask()
    number, *_ = await again.request()
    again.answer(number, reply=BODY)
    assert await asked == (SW.SUCCESS, BODY)
    assert len(world.told) == 1


async def test_a_worker_that_ran_out_of_memory(world: World) -> None:
    worker = await world.worker()
    worker.memory = True
    asked = world.ask()
    await worker.request()
    worker.hang_up()
    assert await asked == (SW.NODE_OUT_OF_MEMORY, b"")
    await world.paused()


async def test_five_seconds_and_the_worker_is_killed(world: World) -> None:
    worker = await world.worker()
    late = world.ask()
    await worker.request()
    world.clock.advance(REQUEST_SECONDS / 2)
    beside = world.ask()
    await worker.request()
    world.clock.advance(REQUEST_SECONDS / 2)
    assert await late == (SW.NODE_TIMED_OUT, b"")
    assert await beside == (SW.NODE_ERROR, b"")
    await world.paused()
    assert worker.ended


async def test_a_request_waits_for_a_worker_that_starts(world: World) -> None:
    worker = await world.worker()
    worker.hang_up()
    await world.paused()
    world.clock.advance(FIRST_PAUSE)
    again = await world.launcher.worker(1)
    waits, gives_up = world.ask(), world.ask()
    await asyncio.sleep(0)
    world.clock.advance(REQUEST_SECONDS)
    assert await gives_up == (SW.NODE_TIMED_OUT, b"")
    assert await waits == (SW.NODE_TIMED_OUT, b"")
    asked = world.ask()
    await asyncio.sleep(0)
    again.hello()
    number, *_ = await again.request()  # it was not killed, as it had not been given anything
    again.answer(number, reply=BODY)
    assert await asked == (SW.SUCCESS, BODY)


async def test_what_no_worker_has_seen_may_be_sent_again(world: World) -> None:
    (await world.worker()).hang_up()
    await world.paused()
    world.clock.advance(FIRST_PAUSE)
    again = await world.launcher.worker(1)
    asked = world.ask()
    await asyncio.sleep(0)
    again.hang_up()
    assert await asked == (SW.BLOCKED, b"")


async def test_nothing_is_taken_from_the_moment_that_a_worker_is_late(world: World) -> None:
    worker = await world.worker()
    late = world.ask()
    await worker.request()
    world.clock.advance(REQUEST_SECONDS)
    assert world.pool.busy()
    assert await late == (SW.NODE_TIMED_OUT, b"")
    await world.paused()


async def test_pauses_grow_until_something_is_answered(world: World) -> None:
    pauses = []
    for number in range(9):
        (await world.launcher.worker(number)).hang_up()
        await world.paused()
        pauses.append(round(world.clock.pending[0].due - world.clock.now(), 3))
        world.clock.advance(pauses[-1])
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_PAUSE, LONGEST_PAUSE]
    worker = await world.worker(9)
    asked = world.ask()
    number, *_ = await worker.request()
    worker.answer(number, reply=BODY)
    await asked
    worker.hang_up()
    await world.paused()
    assert round(world.clock.pending[0].due - world.clock.now(), 3) == FIRST_PAUSE


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (message(FAILED, b"no module vendor_a"), "no module vendor_a"),
        (message(HELLO, b"\1\2"), "description cannot be read"),
        (message(ANSWER, bytes(8)), "that nobody waits for"),
    ],
    ids=["failed", "nonsense", "answer"],
)
async def test_a_worker_that_cannot_serve(
    world: World, said: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (await world.launcher.worker()).say(said)
    await world.pool.settled.wait()
    await world.paused()
    assert world.pool.description is None
    assert world.pool.get(0xC0) is None
    assert why in caplog.text
    assert "ERROR" in caplog.text


async def test_a_worker_of_somebody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (await world.launcher.worker()).hello(description(domain="b.example.com"))
    await world.paused()
    assert "it says that it is b.example.com" in caplog.text
    assert world.told == []


async def test_a_vendor_that_may_not_be_here(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.refusal = "somebody has that id"
    (await world.launcher.worker()).hello()
    await world.paused()
    assert "somebody has that id" in caplog.text
    assert world.pool.description is None


async def test_another_set_of_instructions_is_not_taken(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (await world.worker()).hang_up()
    await world.paused()
    world.clock.advance(FIRST_PAUSE)
    (await world.launcher.worker(1)).hello(description(described(name="OTHER")))
    await world.paused()
    assert "restart asyd to take them" in caplog.text
    assert [one.name for one in [world.pool.get(0xC0)] if one] == ["DOUBLE"]


async def test_a_worker_that_says_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    worker = await world.launcher.worker()
    await world.until(lambda: len(world.clock.pending) == 2)
    world.clock.advance(START_SECONDS)
    assert world.pool.settled.is_set()  # nobody waits for it any longer
    await world.paused()
    assert worker.ended
    assert "did not say who it is" in caplog.text


async def test_a_worker_that_cannot_be_started(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.launcher.refuses = ["no process can be started"]
    world.pool.start()
    await world.pool.settled.wait()
    await world.paused()
    assert "no process can be started" in caplog.text
    world.clock.advance(FIRST_PAUSE)
    await world.worker()
    await world.pool.close()


async def test_the_end_answers_what_is_in_work(world: World) -> None:
    worker = await world.worker()
    asked = world.ask()
    await worker.request()
    await world.pool.close()
    assert await asked == (SW.NODE_ERROR, b"")
    assert worker.ended


async def test_a_pool_that_never_started_closes() -> None:
    await World().pool.close()
