"""Work beside the event loop: one at a time, and to its end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from asys.node.held.beside import beside, start


async def test_what_it_gives_or_raises() -> None:
    assert await beside(threading.current_thread) is not threading.current_thread()
    assert (await beside(lambda: threading.current_thread().name)) == "asyd-beside"

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await beside(fail)


async def test_it_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there does all: memory may have run out."""
    start()

    def started(_thread: threading.Thread) -> None:
        raise AssertionError("a thread is started")

    monkeypatch.setattr(threading.Thread, "start", started)
    one, two = await asyncio.gather(beside(threading.get_ident), beside(threading.get_ident))
    assert one == two


async def test_one_at_a_time_and_the_loop_goes_on() -> None:
    gate, begun = threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        begun.set()
        gate.wait(60)
        done.append("first")

    one = asyncio.create_task(beside(first))
    assert await asyncio.to_thread(begun.wait, 60)
    two = asyncio.create_task(beside(lambda: done.append("second")))
    for _ in range(100):
        await asyncio.sleep(0)
    assert done == []

    gate.set()
    await asyncio.gather(one, two)
    assert done == ["first", "second"]


async def test_it_is_done_to_its_end_when_nobody_waits() -> None:
    gate, done = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(60)
        done.set()

    waiting = asyncio.create_task(beside(work))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await asyncio.to_thread(done.wait, 60)
