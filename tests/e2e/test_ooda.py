"""The project's main job: observe, orient, decide, act. A real hog, a real node, and the SDK."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import asys
from support.children import hog, waiting
from support.daemon import AGENT, PATIENCE, Daemon, running
from support.frames import DENIED, OK
from support.nobody import as_nobody
from support.users import NOBODY

EXAMPLE = Path(__file__).parents[2] / "examples" / "ooda.py"

BUSY_PERCENT = 5.0
"""Of a core: what a hog has at the least, however many others there are."""


def identity() -> asys.Identity:
    """The agent that the node knows."""
    return asys.Identity(AGENT)


def cpu_percent(processes: asys.isa.Processes, pid: int) -> float:
    return next((one.cpu_percent for one in processes.top if one.pid == pid), 0.0)


async def test_with_the_async_sdk(asyd: Daemon) -> None:
    host, port = asyd.endpoint

    async def until(pid: int, *, busy: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if (cpu_percent(await node.sys_procs(), pid) > BUSY_PERCENT) is busy:
                    return
                await asyncio.sleep(0.05)

    with hog() as pid:
        async with asys.connect(host, port, identity=identity(), node_key=asyd.key) as node:
            assert (await node.sys_hello()).magic == b"ASYS"
            assert (await node.sys_status()).cpu_percent > 0
            await until(pid, busy=True)
            await node.proc_throttle(pid=pid, action="stop")
            await until(pid, busy=False)
            await node.proc_throttle(pid=pid, action="continue")
            await until(pid, busy=True)


def test_with_the_sync_sdk(asyd: Daemon) -> None:
    host, port = asyd.endpoint

    def until(pid: int, *, busy: bool) -> None:
        end = time.monotonic() + PATIENCE
        while (cpu_percent(node.sys_procs(), pid) > BUSY_PERCENT) is not busy:
            assert time.monotonic() < end
            time.sleep(0.05)

    with (
        hog() as pid,
        asys.sync.connect(host, port, identity=identity(), node_key=asyd.key) as node,
    ):
        assert node.sys_hello().magic == b"ASYS"
        assert node.sys_status().cpu_percent > 0
        until(pid, busy=True)
        node.proc_throttle(pid=pid, action="stop")
        until(pid, busy=False)
        node.proc_throttle(pid=pid, action="continue")
        until(pid, busy=True)


def example(*launcher: str) -> str:
    run = subprocess.run(
        [*launcher, sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert run.returncode == 0, run
    return run.stdout


@pytest.mark.parametrize("who", ["us", "nobody"])
def test_the_example(who: str) -> None:
    """It needs no root, and does as root what it does without."""
    said = example(*(as_nobody() if who == "nobody" else ()))
    assert "every step answered 9000" in said
    assert said.count(" 9000 ") == 8


# -- a node without privileges


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where nobody may have files."""
    path = Path(tempfile.mkdtemp(prefix="asys-nobody-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def unprivileged(directory: Path) -> Iterator[Daemon]:
    """An asyd that runs as nobody where the tests run as root, else as whoever runs them."""
    launcher = as_nobody()
    give = ("sh", "-c", f'chown -R {NOBODY} "$0"; exec "$@"', str(directory)) if launcher else ()
    with running(directory, agents={AGENT: "agent caps=all"}, launcher=(*give, *launcher)) as node:
        yield node


def test_without_privileges_it_serves_what_it_may(unprivileged: Daemon) -> None:
    with unprivileged.connect() as agent:
        answers = [agent.ask(bytes((0, ins, 0, 0, 0, 0))) for ins in range(4)]
        assert [len(answer) for answer in answers] == [36, 18, 23, 44]
        assert all(answer.endswith(OK) for answer in answers)


def test_without_privileges_it_may_not_touch_what_is_roots(unprivileged: Daemon) -> None:
    with unprivileged.connect() as agent:
        assert agent.ask(agent.throttle(2)) in (DENIED, b"\x6a\x80")
        assert agent.ask(agent.throttle(1)) == DENIED


@pytest.mark.root
def test_without_privileges_it_touches_its_own_users_alone(unprivileged: Daemon) -> None:
    with unprivileged.connect() as agent, waiting() as roots, waiting(user=NOBODY) as its_own:
        assert agent.ask(agent.throttle(roots.pid)) == DENIED
        assert agent.ask(agent.throttle(its_own.pid)) == OK
        assert agent.alive()
