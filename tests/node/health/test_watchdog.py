"""The watchdog is fed in time, by the loop, and only while the loop gets round."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.node.health.counts import Lag
from asys.node.health.notify import Notifier
from asys.node.health.watchdog import Watchdog
from support.clock import ManualClock
from support.daemon import AGENT, LOOPS, PATIENCE, running

PERIOD = 4.0


class Kennel:
    """A watchdog on a clock that a test turns, and what systemd hears."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.lag = Lag()
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.setblocking(False)
        self.systemd.bind(str(directory / "notify"))
        self.notifier = Notifier(str(directory / "notify"))
        self.watchdog = Watchdog(self.notifier, self.clock, PERIOD, self.lag)

    def heard(self) -> int:
        """How often, since the last call."""
        count = 0
        while True:
            try:
                assert self.systemd.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self.watchdog.close()
        self.notifier.close()
        self.systemd.close()


@pytest.fixture
def kennel(tmp_path: Path) -> Iterator[Kennel]:
    made = Kennel(tmp_path)
    yield made
    made.close()


def test_twice_in_each_period(kennel: Kennel) -> None:
    assert not kennel.clock.pending
    kennel.watchdog.start()
    assert kennel.heard() == 1
    for _ in range(10):
        kennel.clock.advance(PERIOD / 2)
        assert kennel.heard() == 1
    assert kennel.watchdog.feeds == 11
    assert kennel.lag.counts[0] == 10
    assert len(kennel.clock.pending) == 1


def test_whoever_is_ready_is_served_first(kennel: Kennel) -> None:
    """Where everybody else takes as long as a period, systemd hears nothing in that time."""
    kennel.watchdog.start()
    assert kennel.heard() == 1
    kennel.clock.others = PERIOD
    kennel.clock.advance(PERIOD / 2 + PERIOD * 0.99)
    assert kennel.heard() == 0
    kennel.clock.advance(PERIOD * 0.01)
    assert kennel.heard() == 1


def test_a_loop_that_hangs(kennel: Kennel) -> None:
    kennel.watchdog.start()
    kennel.clock.skip(10 * PERIOD)
    assert kennel.heard() == 1
    kennel.clock.run_ready()
    assert kennel.heard() == 1
    assert kennel.lag.most == 9.5 * PERIOD


def test_what_nobody_hears_is_not_counted_and_tried_again(kennel: Kennel, tmp_path: Path) -> None:
    kennel.watchdog.start()
    (tmp_path / "notify").rename(tmp_path / "away")
    kennel.clock.advance(PERIOD)
    assert kennel.watchdog.feeds == 1
    (tmp_path / "away").rename(tmp_path / "notify")
    kennel.clock.advance(PERIOD)
    assert kennel.watchdog.feeds == 3


@pytest.mark.parametrize("when", ["between", "about to feed", "never started"])
def test_the_end(kennel: Kennel, when: str) -> None:
    if when != "never started":
        kennel.watchdog.start()
    if when == "about to feed":
        kennel.clock.others = 1.0
        kennel.clock.advance(PERIOD / 2)
    kennel.watchdog.close()
    kennel.heard()
    kennel.clock.advance(10 * PERIOD)
    assert kennel.heard() == 0
    assert not kennel.clock.pending


@pytest.mark.parametrize("prelude", LOOPS.values(), ids=LOOPS.keys())
def test_a_real_asyd_feeds_it(tmp_path: Path, prelude: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(PATIENCE)
        systemd.bind(str(tmp_path / "notify"))
        launcher = ("env", f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=100000")
        with running(tmp_path, agents={AGENT: "agent"}, launcher=launcher, prelude=prelude) as asyd:
            assert systemd.recv(100) == b"READY=1"
            assert {systemd.recv(100) for _ in range(5)} == {b"WATCHDOG=1"}
            asyd.wait_for("systemd's watchdog is fed, every 0.05 s")


def test_one_that_systemd_does_not_ask_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(PATIENCE)
        systemd.bind(str(tmp_path / "notify"))
        launcher = ("env", f"NOTIFY_SOCKET={tmp_path}/notify")
        with running(tmp_path, agents={AGENT: "agent"}, launcher=launcher):
            pass
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]
