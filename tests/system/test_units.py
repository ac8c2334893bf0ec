"""packaging/systemd/asyd.service in a real systemd: its walls, and what must go on within them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

import asys
from asys.node.platform.cage import HOMES
from support.caged import (
    AGENTS,
    BPF,
    FULL,
    MONITOR,
    SECONDS,
    Caged,
    caged,
    drop_in,
    options,
    relaxed,
)
from support.isolating import isolation_missing
from support.systemd_box import SystemdBox

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing()),
]

CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_LINUX_IMMUTABLE": 9,
    "CAP_NET_ADMIN": 12,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_PTRACE": 19,
    "CAP_BPF": 39,
}
"""What it is left, with the numbers of linux/capability.h."""

IMMUTABLE = 1 << CAPABILITIES["CAP_LINUX_IMMUTABLE"]

WRITABLE = {
    "/dev/hugepages",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",  # noqa: S108
    "/proc",
    "/run/asyd",
    "/sys/fs/cgroup",
    "/tmp",  # noqa: S108
    "/var/lib/asyd",
    "/var/lib/asyd/bpf",
    "/var/tmp",  # noqa: S108
}
"""All file systems that asyd may write to; those of /tmp and /var/tmp are its own."""


@pytest.fixture(scope="module")
def asyd(systemd_box: SystemdBox) -> Iterator[Caged]:
    with caged(systemd_box, FULL) as [made]:
        made.admit("--caps", "all")
        made.do("start")
        yield made


@pytest.fixture
def agent(asyd: Caged) -> Iterator[asys.sync.Node]:
    with asyd.connect() as node:
        yield node


def until(what: Callable[[], bool]) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def capabilities(status: str, which: str) -> int:
    """A set of /proc/PID/status."""
    return int(re.findall(rf"^{which}:\s*([0-9a-f]+)$", status, re.MULTILINE)[0], 16)


def test_a_test_relaxes_nothing_else() -> None:
    assert set(relaxed()) <= {"BindReadOnlyPaths", "ProtectHome", "TemporaryFileSystem"}
    assert relaxed().get("ProtectHome") in (None, "tmpfs")


def test_what_it_is_left_of_roots_powers(asyd: Caged) -> None:
    most = sum(1 << number for number in CAPABILITIES.values())
    until(lambda: len(asyd.processes()) >= 5)  # the audit has two, state and logs one each
    statuses = asyd.processes()
    for status in statuses.values():
        assert capabilities(status, "CapBnd") == most
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
    own = statuses.pop(asyd.pid)
    assert capabilities(own, "CapEff") == most & ~IMMUTABLE  # given up by asyd itself
    assert not re.search(r"VmLck:\s+0 kB", own)  # its memory is locked
    # The records can only grow, and those who write them alone may change that; what reads logs,
    # started later by asyd, does not get it back though it is in the bounding set.
    grow = [capabilities(one, "CapEff") & IMMUTABLE for one in statuses.values()]
    assert grow.count(0) >= 1
    assert len(grow) - grow.count(0) >= 2


def test_where_it_may_write(asyd: Caged) -> None:
    listed = asyd.box.run("cat", f"/proc/{asyd.pid}/mountinfo").stdout.splitlines()
    seen: dict[str, bool] = {}
    for line in listed:
        fields = line.split()
        options = line.partition(" - ")[2].split()[2].split(",")
        seen[fields[4]] = "rw" in fields[5].split(",") and "ro" not in options
    found = {path for path, writable in seen.items() if writable}
    of_the_test = {AGENTS, *(HOMES if "ProtectHome" in relaxed() else ())}
    assert found - of_the_test <= WRITABLE
    assert WRITABLE - found <= {"/dev/hugepages", "/dev/mqueue"}
    assert not seen["/etc/asyd"]
    assert not seen["/run"]


def test_its_key_is_made_in_the_state_directory(asyd: Caged) -> None:
    """/etc/asyd is not its to write to."""
    assert asyd.box.run("ls", "/etc/asyd").stdout.split() == ["authorized_agents"]
    assert asyd.box.path("/var/lib/asyd/id_curve25519.pub").read_bytes() == asyd.key
    assert f"READY unix:{AGENTS}/{FULL}.sock {asyd.key.hex()}" in asyd.log


def test_systemd_knows_every_line(asyd: Caged) -> None:
    assert not re.search(r"Unknown|ignoring|Failed to parse", asyd.log)


def test_priority_and_limits(asyd: Caged) -> None:
    stat = asyd.box.run("cat", f"/proc/{asyd.pid}/stat").stdout.rpartition(")")[2].split()
    assert stat[16] == "-10"
    limits = asyd.box.run("cat", f"/proc/{asyd.pid}/limits").stdout
    assert re.search(r"^Max core file size\s+0\s+0 ", limits, re.MULTILINE)
    for name, value in (
        ("WatchdogUSec", "30s"),
        ("MemoryMax", str(768 << 20)),
        ("TasksMax", "128"),
        ("OOMScoreAdjust", "-900"),
        ("OOMPolicy", "continue"),
        ("Restart", "on-failure"),
        ("NotifyAccess", "main"),
        ("Delegate", "no"),
    ):
        assert asyd.value(name) == value, name


def test_reload(asyd: Caged) -> None:
    other = asys.Identity.generate()
    asyd.box.run("asyd", "agents", "add", other.public.hex(), "--label", "other")
    pid = asyd.pid
    try:
        asyd.do("reload")
        until(lambda: asyd.log.count("2 agents in /etc/asyd/authorized_agents") == 1)
        with asys.sync.connect(
            f"unix:{asyd.address}", identity=other, node_key=asyd.key, timeout=SECONDS
        ) as node:
            assert node.sys_hello().magic == b"ASYS"
    finally:
        asyd.box.run("asyd", "agents", "remove", "other")
        asyd.do("reload")
    assert asyd.pid == pid
    assert asyd.value("ActiveState") == "active"


def test_admins_orders(asyd: Caged, agent: asys.sync.Node) -> None:
    assert "admin" in asyd.box.run("asyd", "sessions", "list").stdout
    asyd.box.run("asyd", "dark")
    try:
        with pytest.raises(asys.NoSuchInstruction):
            agent.proc_tree(1)
    finally:
        asyd.box.run("asyd", "light")
    assert agent.proc_tree(1).count >= 1


def test_what_it_holds_stays_over_a_restart(asyd: Caged, box: SystemdBox) -> None:
    """In the kernel, in cgroups and among the pins: none of these is in the cage alone."""
    asyd.drop_in("options", _options("--throttle freeze"))
    asyd.do("restart")
    service = box.service()
    box.run("systemctl", "start", service)
    pid = int(box.property(service, "MainPID"))
    with asyd.connect() as node:
        node.proc_throttle(pid, "stop")
        node.net_isolate(pid, "isolate")
    inside = box.run("cat", f"/proc/{pid}/cgroup").stdout
    assert f"asyd-throttle-{pid}-" in inside
    assert f"asyd-isolate-{pid}-" in inside
    asyd.do("restart")
    assert box.run("cat", f"/proc/{pid}/cgroup").stdout == inside
    with asyd.connect() as node:
        node.net_isolate(pid, "release")
        node.proc_throttle(pid, "continue")
        node.net_isolate(pid, "isolate")
    asyd.drop_in("options", "")
    asyd.do("stop")
    try:
        assert str(pid) in box.run("asyd", "isolations", "list").stdout
        assert [one for one in box.run("ls", BPF).stdout.split() if one.startswith("asyd-")]
        box.run("asyd", "isolations", "release", "--all")  # by root, outside of the cage
        assert "asyd-" not in box.run("cat", f"/proc/{pid}/cgroup").stdout
        assert "asyd-" not in box.run("ls", BPF).stdout
    finally:
        asyd.do("start")


def _options(words: str) -> str:
    """A drop-in that starts it with more options."""
    return drop_in({"Environment": options(FULL, words)})


def test_who_hangs_is_started_again(asyd: Caged) -> None:
    asyd.drop_in("watchdog", drop_in({"WatchdogSec": "3"}))
    try:
        asyd.do("restart")
        hung, before = asyd.pid, int(asyd.value("NRestarts"))
        asyd.box.run("kill", "-STOP", str(hung))
        until(lambda: int(asyd.value("NRestarts")) > before)
        until(lambda: asyd.value("ActiveState") == "active")
        assert asyd.pid != hung
        with asyd.connect() as node:
            assert node.sys_hello().magic == b"ASYS"
    finally:
        asyd.drop_in("watchdog", "")
        asyd.do("restart")


def test_one_of_both_units_at_a_time(asyd: Caged) -> None:
    assert MONITOR in asyd.value("Conflicts").split()


def test_what_makes_no_sense_is_not_tried_again(asyd: Caged) -> None:
    asyd.drop_in("options", _options("--no-such-option"))
    try:
        done = asyd.box.run("systemctl", "restart", FULL, check=False)
        assert done.returncode
        assert asyd.value("ActiveState") == "failed"
        assert "unrecognized arguments: --no-such-option" in asyd.log
    finally:
        asyd.drop_in("options", "")
        asyd.do("start")
