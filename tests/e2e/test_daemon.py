"""asyd as a process: where it listens, how it ends, and what it costs when nobody is there."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asys.node.disk.scribe import WRITER
from asys.node.platform.logs.reader import WORKER as READER
from support.daemon import AGENT, Daemon, running
from support.frames import HELLO, PROCS
from support.raw_agent import Ended

AGENTS = {AGENT: "agent caps=all"}

WATCHED_SECONDS = 3.0
"""How long a daemon is watched that should do nothing."""

SWITCHES = 15
"""Wake-ups in that time that do not count: a sampler awake makes some hundred."""

TICKS = 5
"""Ticks of 10 ms in that time that do not count."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    directory = Path(tempfile.mkdtemp(prefix="asys-"))
    yield directory
    shutil.rmtree(directory)


# -- listening


def test_ipv4_ipv6_and_unix_together(tmp_path: Path, short: Path) -> None:
    path = short / "socket"
    listen = ("127.0.0.1", "[::1]:0", f"unix:{path}")
    with running(tmp_path, agents=AGENTS, listen=listen) as daemon:
        four, six, unix = daemon.addresses
        assert not isinstance(four, str)
        assert not isinstance(six, str)
        assert (four[0], six[0], unix) == ("127.0.0.1", "::1", str(path))
        assert daemon.address == four
        for address in daemon.addresses:
            with daemon.connect(address=address) as agent:
                assert agent.alive()
                assert agent.link.node_key == daemon.key
    assert not path.exists()


@pytest.mark.parametrize("listen", ["::1", "unix"])
def test_the_ready_line_names_the_first_address(tmp_path: Path, short: Path, listen: str) -> None:
    listen = f"unix:{short}/socket" if listen == "unix" else listen
    with running(tmp_path, agents=AGENTS, listen=(listen,)) as daemon:
        wanted = "unix:" if listen.startswith("unix") else "[::1]:"
        assert daemon.ready.startswith(wanted)
        with daemon.connect() as agent:
            assert agent.alive()


# -- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sessions_in_any_state_do_not_hold_up_the_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path, agents=AGENTS) as daemon:
        idle, half, deaf, waiting = (daemon.connect() for _ in range(4))
        half.send(HELLO[:3])
        deaf.send(*[HELLO] * 2000)
        nobody, silent = daemon.dial(), daemon.dial()
        nobody.magic()
        waiting.send(PROCS)
        assert idle.alive()
        daemon.process.send_signal(number)
        for agent in (idle, half, waiting):
            agent.final()
        for agent in (nobody, silent):
            agent.rest()
        assert daemon.process.wait(60) == 0
        for agent in (idle, half, deaf, waiting, nobody, silent):
            agent.close()


def test_after_the_end_nobody_gets_in(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as daemon:
        address = daemon.address
    with pytest.raises((ConnectionRefusedError, Ended)):
        daemon.dial(address)


# -- what it costs


def watch(daemon: Daemon) -> tuple[int, int]:
    """Ticks and wake-ups of some seconds."""
    ticks, switches = daemon.cpu_ticks(), daemon.switches()
    time.sleep(WATCHED_SECONDS)
    return daemon.cpu_ticks() - ticks, daemon.switches() - switches


def until_asleep(daemon: Daemon) -> None:
    """Its sampler sleeps 5 s after the last that asked it: then a second passes without work."""
    for _ in range(60):
        switches = daemon.switches()
        time.sleep(1)
        if daemon.switches() - switches <= SWITCHES // 3:
            return
    raise AssertionError("the daemon does not come to rest")


@pytest.mark.parametrize("option", [(), ("--portable",)])
def test_a_node_that_nobody_asks_does_nothing(tmp_path: Path, option: tuple[str, ...]) -> None:
    with running(tmp_path, *option, agents=AGENTS) as daemon:
        ticks, switches = watch(daemon)
        assert (ticks <= TICKS, switches <= SWITCHES) == (True, True), (ticks, switches)


def test_a_node_with_a_session_that_asks_nothing_does_nothing(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as daemon, daemon.connect() as agent:
        agent.ask(PROCS)
        until_asleep(daemon)
        ticks, switches = watch(daemon)
        assert (ticks <= TICKS, switches <= SWITCHES) == (True, True), (ticks, switches)
        assert agent.alive()  # and SYS_HELLO wakes nobody
        assert watch(daemon)[1] <= SWITCHES


def test_sessions_leave_neither_children_nor_files(tmp_path: Path) -> None:
    """A child that writes the state is there from the start; and where logs can be read, one that
    reads them.
    """
    with running(tmp_path, agents=AGENTS) as daemon:
        children = psutil.Process(daemon.pid).children()
        programs = [one.cmdline()[3] for one in children]
        assert programs in ([str(WRITER)], [str(WRITER), str(READER)])
        before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        for _ in range(20):
            with daemon.connect() as agent:
                agent.ask(PROCS)
                agent.finish()
                assert agent.ended()
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 5
        assert psutil.Process(daemon.pid).children() == children
