"""packaging/systemd/asyd-monitor.service in a real systemd: who looks, and can do nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import asys
from asys.isa import KEY_STATEMENT, REGISTRY
from asys.isa.capmap import CORE
from support.caged import AGENTS, FULL, MONITOR, Caged, caged
from support.frames import NO_SUCH_INSTRUCTION, NOT_SUPPORTED
from support.raw_agent import RawAgent
from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root

BEYOND_CORE = [one for one in REGISTRY if not CORE >> one.code & 1]


@pytest.fixture(scope="module")
def units(systemd_box: SystemdBox) -> Iterator[tuple[Caged, Caged]]:
    """Both, of which the full one has run before."""
    with caged(systemd_box, FULL, MONITOR) as [full, monitor]:
        systemd_box.run("asyd", "pubkey")
        monitor.admit("--caps", "all,AGENT_ADD,AGENT_REMOVE,AGENT_LIST", "--role", "admin")
        monitor.do("start")
        yield full, monitor


@pytest.fixture
def monitor(units: tuple[Caged, Caged]) -> Caged:
    return units[1]


def test_it_looks(monitor: Caged) -> None:
    with monitor.connect() as node:
        assert node.sys_hello().magic == b"ASYS"
        assert node.sys_caps().cpu_count > 0
        assert node.sys_status().node_flags == 0
        flags = {one.pid: one.flags for one in node.sys_procs().top if one.pid}
        assert node.sys_procs().count > len(flags)  # processes of others are counted as well
        assert 1 in flags or len(flags) == 5
        node.rekey()
    with monitor.connect() as first, monitor.connect() as second:
        assert first.sys_hello() is not None
        assert second.call(asys.isa.TASK_QUERY, 1).status is asys.isa.TaskStatus.NOT_FOUND


def test_it_does_nothing_whatever_was_granted(monitor: Caged) -> None:
    assert {"PROC_THROTTLE", "LOG_SUMMARY", "AGENT_ADD"} <= {one.name for one in BEYOND_CORE}
    with RawAgent(monitor.address) as agent:
        agent.handshake(monitor.identity.key)
        for instruction in BEYOND_CORE:
            asked = agent.link.signer.seal(instruction.code, 0, 0, b"")
            absent = instruction.carrier or instruction is KEY_STATEMENT  # there is no next key
            wanted = NO_SUCH_INSTRUCTION if absent else NOT_SUPPORTED
            assert agent.ask(asked) == wanted, instruction.name
            assert agent.alive()


def test_it_is_nobody_and_has_nothing(monitor: Caged) -> None:
    statuses = monitor.processes()
    assert len(statuses) >= 3
    for status in statuses.values():
        for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert f"{which}:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        [uid] = set(re.findall(r"^Uid:\t(\d+)\t\1\t\1\t\1$", status, re.MULTILINE))
        assert int(uid) >= 61184  # one of those that systemd makes up
    its = ("nsenter", "-t", str(monitor.pid), "-m")
    inside = (*its, "setpriv", f"--reuid={uid}", "--clear-groups")
    for path in ("/etc/asyd/id_curve25519", "/etc/asyd/authorized_agents", "/etc/shadow"):
        assert monitor.box.run("test", "-s", path, check=False).returncode == 0
        assert monitor.box.run(*inside, "cat", path, check=False).returncode
    for path in ("/run/x", "/etc/x", "/var/x", "/var/lib/x", "/sys/fs/cgroup/x"):
        assert monitor.box.run(*inside, "touch", path, check=False).returncode


def test_it_has_the_key_and_the_lines_of_the_node(monitor: Caged) -> None:
    """systemd reads them for it."""
    stored = monitor.box.path("/etc/asyd/id_curve25519.pub").read_bytes()
    assert monitor.key == stored
    where = f"/run/credentials/{MONITOR}/asyd.authorized_agents"
    assert f"1 agents in {where}" in monitor.log
    assert f"READY unix:{AGENTS}/{MONITOR}.sock {stored.hex()}" in monitor.log


def test_all_that_it_writes_is_in_its_state_directory(monitor: Caged) -> None:
    listed = monitor.box.run("ls", "/var/lib/private/asyd-monitor").stdout.split()
    assert {"audit", "dark", "credential.pub"} <= set(listed)
    assert not monitor.box.path("/var/lib/asyd").exists()
    assert not [line for line in monitor.log.splitlines() if " ERROR " in line]
    told = monitor.box.run("asyd", "sessions", "list", "--admin-socket", _ADMIN)
    assert not told.returncode


_ADMIN = "/run/asyd-monitor/admin.sock"


def test_it_is_reloaded_and_watched(monitor: Caged) -> None:
    pid = monitor.pid
    monitor.do("reload")
    assert monitor.value("ActiveState") == "active"
    assert monitor.pid == pid
    metrics = monitor.box.run("asyd", "metrics", "--admin-socket", _ADMIN).stdout
    assert "asyd_watchdog_period_seconds 30" in metrics


def test_both_do_not_run_at_a_time(units: tuple[Caged, Caged]) -> None:
    full, monitor = units
    key = monitor.key
    for old, new in ((monitor, full), (full, monitor)):
        new.do("start")
        assert old.value("ActiveState") == "inactive"
        assert new.key == key
        # The port is free before it is needed.
        begun = int(new.value("InactiveExitTimestampMonotonic"))
        assert begun >= int(old.value("InactiveEnterTimestampMonotonic")) > 0
