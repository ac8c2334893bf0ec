"""What systemd is told, and by whom."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asys.node.health.notify import Notifier, take_notifier, take_watchdog
from support.daemon import AGENT, PATIENCE, running


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd would listen: `notify` in the test's directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(tmp_path / "notify"))
        yield listener


def test_the_words(tmp_path: Path, systemd: socket.socket) -> None:
    notifier = take_notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    before = time.monotonic_ns() // 1000
    said = (notifier.ready, notifier.alive, notifier.reloading, notifier.stopping)
    assert [say() for say in said] == [True] * 4
    assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
    word, moment = systemd.recv(100).split(b"\n")
    assert word == b"RELOADING=1"
    assert before <= int(moment.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert systemd.recv(100) == b"STOPPING=1"
    notifier.close()
    assert not notifier.ready()


def test_who_does_not_want_to_hear_is_not_told() -> None:
    notifier = take_notifier({})
    assert not notifier.ready()
    notifier.close()


def test_a_socket_that_was_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, systemd: socket.socket
) -> None:
    """Its end is said once, not with each word; then the new one hears everything."""
    notifier = Notifier(str(tmp_path / "notify"))
    assert notifier.alive()
    (tmp_path / "notify").unlink()
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert not notifier.alive()
            assert not notifier.alive()
        assert [record.getMessage() for record in caplog.records] == [
            "systemd cannot be told how asyd is: No such file or directory"
        ]
        caplog.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another:
            another.bind(str(tmp_path / "notify"))
            assert notifier.alive()
            assert another.recv(100) == b"WATCHDOG=1"
        (tmp_path / "notify").unlink()
    notifier.close()


def test_who_does_not_read_does_not_hold_up_asyd(
    tmp_path: Path, systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    with caplog.at_level(logging.WARNING):
        while notifier.alive():
            pass
    assert "Resource temporarily unavailable" in caplog.text
    systemd.recv(100)
    assert notifier.alive()
    notifier.close()


def test_no_descriptor_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    with caplog.at_level(logging.WARNING):
        notifier = Notifier(str(tmp_path / "notify"))
    assert "Too many open files" in caplog.text
    assert not notifier.ready()


# -- the watchdog


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "1500", "WATCHDOG_PID": str(os.getpid())}, 0.0015),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_PID": str(os.getpid())}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
    ],
)
def test_the_period(
    environ: dict[str, str], seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    beside = {"PATH": "/bin"}
    whole = environ | beside
    assert take_watchdog(whole) == seconds
    assert whole == beside
    assert not caplog.records


@pytest.mark.parametrize("written", ["0", "-1", "1.5", "soon", "²", " 5"])
def test_a_period_that_is_none(written: str, caplog: pytest.LogCaptureFixture) -> None:
    assert take_watchdog({"WATCHDOG_USEC": written}) == 0.0
    assert "WATCHDOG_USEC is no number" in caplog.text


def test_no_child_of_asyd_speaks_for_it(tmp_path: Path, systemd: socket.socket) -> None:
    launcher = ("env", f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=60000000")
    with running(tmp_path, "--audit", "on", agents={AGENT: "agent"}, launcher=launcher) as asyd:
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        assert "NOTIFY_SOCKET" in psutil.Process(asyd.pid).environ()
        children = psutil.Process(asyd.pid).children(recursive=True)
        assert len(children) >= 2
        for child in children:
            words = child.environ().keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
            assert not words, child.cmdline()
