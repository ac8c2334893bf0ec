"""Which cgroup and units asyd takes for its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asys.node.platform.services.own_unit import own_cgroup, own_units

V2 = "0::/system.slice/asyd.service\n"
HYBRID = "12:cpu,cpuacct:/x\n1:name=systemd:/system.slice/asyd.service\n0::/\n"
USER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/asyd.service\n"
SCOPE = "0::/user.slice/user-0.slice/session-3.scope\n"
CONTAINER = "1:name=systemd:/\n0::/\n"
OLD = "4:memory:/docker/abc\n1:cpu:/\n"


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    monkeypatch.delenv("INVOCATION_ID", raising=False)


def started_by_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))


@pytest.mark.parametrize("text", [V2, HYBRID])
def test_a_service_has_a_cgroup_of_its_own(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    cgroups.write_text(text)
    assert own_cgroup(cgroups) is None
    started_by_systemd(monkeypatch)
    assert own_cgroup(cgroups) == "/system.slice/asyd.service"


def test_what_a_services_process_started_is_not_the_service(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups.write_text(V2)
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    assert own_cgroup(cgroups) is None


@pytest.mark.parametrize(("parent", "own"), [(1, "/system.slice/asyd.service"), (77, None)])
def test_an_old_systemd_only_leaves_an_invocation_id(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch, parent: int, own: str | None
) -> None:
    cgroups.write_text(V2)
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    assert own_cgroup(cgroups) == own


@pytest.mark.parametrize("text", [SCOPE, CONTAINER, OLD, ""])
def test_no_service_at_all(cgroups: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    cgroups.write_text(text)
    started_by_systemd(monkeypatch)
    assert own_cgroup(cgroups) is None
    assert own_units(cgroups) == frozenset()


def test_a_system_without_cgroups(cgroups: Path) -> None:
    assert own_cgroup(cgroups) is None
    assert own_units(cgroups) == frozenset()


def test_units_that_take_asyd_with_them_however_it_was_started(cgroups: Path) -> None:
    cgroups.write_text(USER)
    assert own_units(cgroups) == {"user@1000.service", "asyd.service"}
    cgroups.write_text(HYBRID)
    assert own_units(cgroups) == {"asyd.service"}


def test_this_process_can_be_asked() -> None:
    path = own_cgroup()
    assert path is None or path.endswith(".service")
