"""systemd's watchdog and a real asyd: it is fed while the loop serves agents, and only then."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from support.daemon import AGENT, COMMAND, PATIENCE, write_agents
from support.metrics import parsed
from support.raw_agent import RawAgent
from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root

PERIOD = 3
"""Seconds; a busy machine may take half of it from asyd."""

UNIT = f"""\
[Service]
Type=notify
WatchdogSec={PERIOD}
Restart=on-failure
RestartSec=0
LimitCORE=0
{{environment}}
ExecStart={sys.executable} -c "import sys; sys.path.insert(0, '/run/box/hung'); import hung; \
{COMMAND}" --config-dir /run/box/hung/asyd --listen unix:/run/box/hung/asyd.sock --audit off
ExecStopPost=/bin/sh -c 'echo "$SERVICE_RESULT" >> /run/box/hung/results'
"""

HUNG = """
import itertools, signal, threading
from pathlib import Path

beats = Path(__file__).with_name("beats")
never = threading.Event()

def beat():
    for count in itertools.count(1):
        beats.write_text(str(count))
        never.wait(0.05)

def hang(*_):
    Path(__file__).with_name("hangs").touch()
    never.wait()

threading.Thread(target=beat, daemon=True).start()
signal.signal(signal.SIGUSR1, hang)
"""
"""SIGUSR1 holds up the event loop for ever, while a thread of the same process goes on."""


class Asyd:
    """asyd as a service with a watchdog."""

    def __init__(self, box: SystemdBox, name: str) -> None:
        self.box = box
        self.name = name
        self.directory = box.share / "hung"

    def property(self, name: str) -> str:
        """As systemd has it."""
        return self.box.property(self.name, name)

    def figure(self, name: str) -> float:
        """One that asyd says of itself, over its admin socket."""
        words = ("metrics", "--json", "--config-dir", "/run/box/hung/asyd")
        told = self.box.run(sys.executable, "-c", COMMAND, *words).stdout
        return parsed(json.loads(told)["metrics"])[name]

    def beats(self) -> int:
        """Of the thread; it writes them anew each time."""
        return int((self.directory / "beats").read_text() or 0)

    def serves(self) -> bool:
        """Whether an agent is answered."""
        with RawAgent(str(self.directory / "asyd.sock")) as agent:
            agent.handshake(AGENT)
            return agent.alive()


@pytest.fixture
def asyd(box: SystemdBox) -> Iterator[Asyd]:
    directory = box.share / "hung"
    (directory / "asyd").mkdir(mode=0o700, parents=True)
    write_agents(directory / "asyd", {AGENT: "agent caps=core"})
    (directory / "hung.py").write_text(HUNG)
    measured = (f'Environment="{k}={v}"' for k, v in os.environ.items() if "COVERAGE_" in k)
    name = "test-watchdog.service"
    box.unit(name, UNIT.format(environment="\n".join(measured)))
    try:
        box.run("systemctl", "start", name)
        yield Asyd(box, name)
    finally:
        box.remove_unit(name)
        shutil.rmtree(directory)


def until(what: Callable[[], bool]) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_serves_lives_and_who_hangs_is_ended_and_serves_again(asyd: Asyd) -> None:
    assert asyd.serves()
    assert asyd.figure("asyd_watchdog_period_seconds") == PERIOD
    until(lambda: asyd.figure("asyd_watchdog_feeds_total") >= 5)  # two periods, and it is alive
    assert (asyd.property("NRestarts"), asyd.property("Result")) == ("0", "success")
    first = asyd.property("MainPID")

    asyd.box.run("kill", "-USR1", first)
    until((asyd.directory / "hangs").exists)
    hanging = asyd.beats()
    until(lambda: asyd.beats() > hanging + 5)  # the thread does not notice that nobody is served
    until(lambda: asyd.property("NRestarts") == "1")
    until(lambda: asyd.property("ActiveState") == "active")
    second = asyd.property("MainPID")
    assert second != first
    assert asyd.serves()

    asyd.box.run("kill", "-STOP", second)
    until(lambda: asyd.property("NRestarts") == "2")
    until(lambda: asyd.property("ActiveState") == "active")
    assert asyd.property("MainPID") != second
    assert asyd.serves()
    asyd.box.run("systemctl", "stop", asyd.name)
    results = (asyd.directory / "results").read_text().split()
    assert results == ["watchdog", "watchdog", "success"]
