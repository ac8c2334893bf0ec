"""A connection whose packets are lost without a word, on a wire of its own; both shells."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import asys
from support.children import resumed, suspended, waiting
from support.severed import Severed

pytestmark = pytest.mark.root

POLICY = asys.Reconnect(first=0.01, most=0.2, silence=0.5)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Severed]:
    with Severed(tmp_path) as severed:
        yield severed


def test_a_silent_line_costs_calls_their_time_and_then_a_new_connection(line: Severed) -> None:
    async def agent() -> None:
        async with asys.connect(**line.options(reconnect=POLICY, timeout=30.0)) as session:
            await session.sys_hello()
            line.cut()
            with asys.deadline(0.1), pytest.raises(asys.DeadlineExceeded):
                await session.sys_hello()
            with asys.deadline(3), pytest.raises(asys.DeadlineExceeded, match="no new connection"):
                await session.sys_hello()
            line.mend()
            assert (await session.sys_hello()).magic == b"ASYS"
            assert not session.closed
            assert session._caller.session == 2

    line.run(lambda: asyncio.run(agent()))


def test_a_silent_line_in_blocking_code(line: Severed) -> None:
    def agent() -> None:
        options = line.options(reconnect=POLICY, timeout=30.0)
        with asys.sync.connect(**options) as session:
            session.sys_hello()
            line.cut()
            for _ in range(2):
                with asys.deadline(1.5), pytest.raises(asys.DeadlineExceeded):
                    session.sys_hello()
            line.mend()
            assert session.sys_hello().magic == b"ASYS"
            assert session._caller.session == 2

    line.run(agent)


def test_an_answer_that_is_lost_leaves_the_outcome_unknown_and_nothing_is_done_twice(
    line: Severed,
) -> None:
    async def agent(pid: int) -> None:
        async with asys.connect(**line.options(reconnect=POLICY, timeout=30.0)) as session:
            await session.sys_hello()
            line.cut(answers_only=True)
            with asys.deadline(2):
                call = asyncio.ensure_future(session.proc_throttle(pid, "stop"))
            await asyncio.to_thread(suspended, pid)  # it has arrived, and was done
            with pytest.raises(asys.OutcomeUnknown):
                await call
            with asys.deadline(3), pytest.raises(asys.DeadlineExceeded):
                await session.sys_hello()
            line.mend()
            await session.proc_throttle(pid, "continue")
            await asyncio.to_thread(resumed, pid)
            await session.sys_hello()
            assert session._caller.session == 2

    with waiting() as child:
        line.run(lambda: asyncio.run(agent(child.pid)))
        assert os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG) is None


def test_the_keep_alive_notices_a_silent_line(line: Severed) -> None:
    async def agent() -> None:
        options = line.options(reconnect=POLICY, keepalive=0.1, timeout=30.0)
        async with asys.connect(**options) as session:
            old = session._wire
            session.timeout = 0.5
            line.cut()
            await old.closed  # nobody calls
            line.mend()
            session.timeout = 30
            assert (await session.sys_hello()).magic == b"ASYS"

    line.run(lambda: asyncio.run(agent()))


def test_a_watch_reports_the_gap_and_goes_on(line: Severed) -> None:
    async def agent() -> None:
        async with asys.connect(**line.options(reconnect=POLICY, timeout=30.0)) as session:
            vitals = session.watch(0.1)
            assert isinstance(await anext(vitals), asys.Vitals)
            line.cut()
            session.timeout = 1.0
            while isinstance(reading := await anext(vitals), asys.Vitals):
                pass
            assert isinstance(reading.error, asys.DeadlineExceeded)
            line.mend()
            after = await anext(vitals)
            assert isinstance(after, asys.Vitals)
            assert after.missed >= 1

    line.run(lambda: asyncio.run(agent()))
