"""Which processes nobody may touch, and that nobody else becomes immune."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from asys.node.platform.base import NoSuchTarget
from asys.node.platform.processes import process as processes
from asys.node.platform.processes.process import (
    Guard,
    LinuxProcess,
    bus_owners,
    cgroup_path,
    is_within,
)
from support.children import gone, named, waiting

NOBODY = 65534
STRANGER = Guard("", frozenset({0}), pid=0)
"""A guard that takes none of the test's children for asyd's."""
PF_KTHREAD = 0x00200000


def test_children_of_asyd_are_refused() -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, Guard.here())
        assert process.refusal() == "a child of asyd"
        process.close()


def test_kernel_threads_are_refused() -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, STRANGER)
        process.flags |= PF_KTHREAD
        assert process.refusal() == "a kernel thread"
        process.close()


def test_the_kernels_own_kernel_threads_are_refused() -> None:
    if Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("this PID namespace shows no kernel threads")
    process = LinuxProcess(2, STRANGER)
    assert process.refusal() == "a kernel thread"
    process.close()


GUARDED = ["systemd-journald", "dbus-daemon", "dbus-broker", "dbus-broker-launch"]


@pytest.mark.parametrize("name", GUARDED)
def test_the_journal_and_the_bus_are_refused(tmp_path: Path, name: str) -> None:
    with named(tmp_path, name, copied=True) as pid:
        process = LinuxProcess(pid, Guard("", frozenset({os.geteuid()}), pid=0))
        assert process.refusal() == "the journal or the message bus"
        (tmp_path / name).unlink()  # as an upgrade does
        assert process.refusal() == "the journal or the message bus"
        process.close()


@pytest.mark.parametrize("name", GUARDED)
def test_nobody_else_is_immune_by_that_name(tmp_path: Path, name: str) -> None:
    with named(tmp_path, name, copied=True) as pid:
        process = LinuxProcess(pid, Guard("", frozenset({os.geteuid() + 1}), pid=0))
        assert process.name == name[:15].encode()
        assert process.refusal() == ""
        process.close()


def test_the_name_alone_is_not_enough_for_those_who_own_the_bus(tmp_path: Path) -> None:
    with named(tmp_path, "dbus-daemon") as pid:
        process = LinuxProcess(pid, Guard("", frozenset({os.geteuid()}), pid=0))
        assert process.name == b"dbus-daemon"
        assert process.refusal() == ""
        process.close()


@pytest.mark.root
def test_where_asyd_may_not_look_the_name_and_the_owner_count(tmp_path: Path) -> None:
    with named(tmp_path, "dbus-daemon") as pid:
        os.seteuid(NOBODY)
        try:
            process = LinuxProcess(pid, STRANGER)
            assert process.refusal() == "the journal or the message bus"
            process.close()
        finally:
            os.seteuid(0)


def test_a_guarded_process_that_ends_meanwhile(tmp_path: Path) -> None:
    with named(tmp_path, "dbus-daemon") as pid:
        process = LinuxProcess(pid, Guard("", frozenset({os.geteuid()}), pid=0))
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NoSuchTarget):  # a zombie has no executable
            process.refusal()
        process.close()
    process = LinuxProcess(os.getpid(), Guard("/asyd.service", frozenset(), pid=0))
    process.pid = gone()
    with pytest.raises(NoSuchTarget):
        process.refusal()
    process.close()


@pytest.mark.parametrize(
    ("cgroup", "refused"),
    [
        ("/system.slice/systemd-journald.service", True),
        ("/system.slice/systemd-journald@space.service", True),
        ("/system.slice/dbus.service", True),
        ("/system.slice/dbus-broker.service/sub", True),
        ("/system.slice/dbus.service.d", False),
        ("/system.slice/my-dbus.service", False),
        ("/user.slice/user-1000.slice/system.slice/dbus.service", False),
        ("/machine.slice/box/system.slice/systemd-journald.service", False),
    ],
)
def test_their_units_are_refused_whoever_owns_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cgroup: str, refused: bool
) -> None:
    with named(tmp_path, "dbus-daemon") as pid:
        process = LinuxProcess(pid, Guard("", frozenset(), pid=0))
        monkeypatch.setattr(processes, "cgroup_of", lambda _pid: cgroup)
        assert bool(process.refusal()) == refused
        process.close()


@pytest.mark.parametrize(
    ("cgroup", "reason"),
    [
        ("/system.slice/asyd.service", "in the cgroup of asyd"),
        ("/system.slice/asyd.service/below", "in the cgroup of asyd"),
        ("/system.slice/asyd.service.d", ""),
        ("", ""),
    ],
)
def test_processes_of_asyds_own_cgroup_are_refused(
    monkeypatch: pytest.MonkeyPatch, cgroup: str, reason: str
) -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, Guard("/system.slice/asyd.service", frozenset(), pid=0))
        monkeypatch.setattr(processes, "cgroup_of", lambda _pid: cgroup)
        assert process.refusal() == reason
        process.close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/asyd.service\n", "/system.slice/asyd.service"),
        ("1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service"),
        ("3:cpu,cpuacct:/x\n1:name=systemd:/a\n0::/b\n", "/b"),
        ("2:cpu:/x\n", ""),
        ("0::/odd:name\n", "/odd:name"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_cgroup_path(text: str, path: str) -> None:
    assert cgroup_path(text) == path


def test_is_within() -> None:
    assert is_within("/a/b", "/a/b")
    assert is_within("/a/b/c", "/a/b")
    assert not is_within("/a/bc", "/a/b")
    assert not is_within("/a", "/a/b")
    assert not is_within("", "/a")


def test_bus_owners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 in bus_owners()
    monkeypatch.setattr(processes, "_BUS_SOCKET", str(tmp_path))
    monkeypatch.setattr(processes, "_BUS_USERS", ("no such user", "root"))
    assert bus_owners() == {0, os.geteuid()}
    monkeypatch.setattr(processes, "_BUS_SOCKET", str(tmp_path / "none"))
    assert bus_owners() == {0}
