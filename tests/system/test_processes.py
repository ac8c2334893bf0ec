"""No process and no thread is to be had any more: asyd goes on with those that it has."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command, told
from support.audit import make_removable
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, PATIENCE, Daemon
from support.delegates import AGENT_ADD, CORE, map_of, sealed
from support.frames import HELLO, NO_SUCH_INSTRUCTION, OK, PROCS, STATUS
from support.no_processes import bounded, close, enclosed, exhausted, pids_missing
from support.own_daemon import config, faulty
from support.raw_agent import RawAgent
from support.recording import Recording, assert_whole

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(pids_missing()), reason=pids_missing()),
]

LINES: Final = {AGENT: "agent caps=all,security"}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield config(tmp_path, LINES)
    make_removable(tmp_path / "asyd" / "state" / "audit")


def acts(agent: RawAgent, child: int) -> None:
    """Reads, stops a process and lets it go on."""
    assert len(agent.ask(STATUS)) == 23
    assert len(agent.ask(PROCS)) == 44
    assert agent.ask(agent.throttle(child)) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)


def add(agent: RawAgent, key: bytes) -> bytes:
    """The status word of AGENT_ADD."""
    payload = key + map_of(CORE) + bytes(4) + b"\0"
    return agent.ask(sealed(agent, AGENT_ADD, payload))[-2:]


def waits_until(asyd: Daemon, agent: RawAgent, key: bytes) -> None:
    """Until an agent can be added."""
    end = time.monotonic() + PATIENCE
    while add(agent, key) not in (OK, b"\x91\x00", b"\x91\x01"):
        assert time.monotonic() < end, asyd.log
        time.sleep(0.1)


def test_asyd_goes_on_with_what_it_has(directory: Path) -> None:
    with ExitStack() as stack:
        place = stack.enter_context(bounded())
        child = stack.enter_context(waiting()).pid
        launcher = enclosed(place)
        asyd = stack.enter_context(faulty(directory, "--audit", "on", launcher=launcher))
        record = Recording(asyd, directory / "state" / "audit")
        agent = stack.enter_context(asyd.connect())
        acts(agent, child)
        with exhausted(place):
            acts(agent, child)
            with asyd.connect() as late:
                acts(late, child)
            asyd.reload(LINES)
            assert str(asyd.pid) not in told(directory, "throttled", "list")
            # It is added, where a process for the disk is there, or it is said that it is not.
            answer = add(agent, PrivateKey.generate().public)
            assert answer == OK or answer[:1] in (b"\x6f", b"\x91")
            told_dark(directory, agent, child)
            acts(agent, child)
            assert agent.ask(HELLO)[-2:] == OK
            close(place)
            os.kill(record.writer(), signal.SIGKILL)
            acts(agent, child)
            degraded(agent)
            acts(agent, child)
        waits_until(asyd, agent, PrivateKey.generate().public)
        degraded(agent, 0)
        acts(agent, child)
    record.written()
    assert_whole(record.directory)


def told_dark(directory: Path, agent: RawAgent, child: int) -> None:
    """Darkness holds at once, whether the disk has it or not; and light."""
    asyd_command(directory, "dark")
    assert agent.ask(agent.throttle(child)) == NO_SUCH_INSTRUCTION
    asyd_command(directory, "light")


def degraded(agent: RawAgent, wanted: int = 1) -> None:
    """Returns when SYS_STATUS shows AUDIT_DEGRADED, or that it is over."""
    end = time.monotonic() + PATIENCE
    while agent.ask(STATUS)[17] != wanted:
        assert time.monotonic() < end
        time.sleep(0.05)
