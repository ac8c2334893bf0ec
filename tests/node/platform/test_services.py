"""Which service manager is chosen."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.node.platform import privileges
from asys.node.platform.services.find import find_service_manager

URL = "unix:///run/supervisor.sock"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def systemd(run: Path) -> Iterator[Path]:
    """A /run as systemd leaves it."""
    (run / "systemd" / "system").mkdir(parents=True)
    private = socket.socket(socket.AF_UNIX)
    private.bind(str(run / "systemd" / "private"))
    yield run
    private.close()


def test_nothing(run: Path) -> None:
    assert find_service_manager(None, run=run) is None


def test_supervisord_where_it_is_configured(run: Path) -> None:
    manager = find_service_manager(URL, run=run)
    assert manager is not None
    assert manager.name == "supervisord"


def test_systemd_comes_first_and_the_log_says_so(
    systemd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manager = find_service_manager(URL, run=systemd)
    assert manager is not None
    assert manager.name == "systemd"
    assert "not by supervisord" in caplog.text


@pytest.mark.parametrize("present", [False, True])
def test_a_url_that_is_none_is_refused_either_way(run: Path, present: bool) -> None:
    if present:
        (run / "systemd" / "system").mkdir(parents=True)
    with pytest.raises(ValueError, match="unix:///PATH"):
        find_service_manager("ftp://supervisor", run=run)


def test_root_goes_to_systemd_itself_and_others_to_the_bus(
    systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    private = "<Systemd at unix:path=/run/systemd/private, itself>"
    bus = "<Systemd at unix:path=/run/dbus/system_bus_socket, over a bus>"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert repr(find_service_manager(None, run=systemd)) == private
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert repr(find_service_manager(None, run=systemd)) == bus
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (systemd / "systemd" / "private").unlink()
    assert repr(find_service_manager(None, run=systemd)) == bus
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/elsewhere")
    assert "unix:path=/elsewhere" in repr(find_service_manager(None, run=systemd))


@pytest.mark.parametrize("privileged", [False, True])
def test_systemd_counts_as_not_there_for_whom_it_would_refuse(
    systemd: Path, monkeypatch: pytest.MonkeyPatch, privileged: bool
) -> None:
    """Neither root nor CAP_SYS_ADMIN, and no polkit that could let it through."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(privileges, "has", lambda capability: privileged)
    without = find_service_manager(None, run=systemd, polkit=systemd / "no-polkit")
    assert (without is not None) is privileged
    fallback = find_service_manager(URL, run=systemd, polkit=systemd / "no-polkit")
    assert fallback is not None
    assert fallback.name == ("systemd" if privileged else "supervisord")
    assert find_service_manager(None, run=systemd, polkit=systemd) is not None
