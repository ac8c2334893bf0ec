"""Workers of vendors as units of a real systemd, which starts asyd too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.node.platform.cage import SCRATCH
from support.daemon import AGENT
from support.frames import HELLO, OK
from support.raw_agent import RawAgent
from support.systemd_box import SystemdBox
from support.vendor_box import BAD, GOOD, Asyd, installed, service, unit
from support.vendors import Packages

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def packages(systemd_box: SystemdBox) -> Iterator[Packages]:
    with installed(systemd_box) as made:
        yield made


@pytest.fixture(scope="module")
def asyd(systemd_box: SystemdBox, packages: Packages) -> Iterator[Asyd]:
    with service(systemd_box, packages, GOOD, f"{BAD},network,cpu=50,memory=64M") as made:
        yield made


def test_each_vendor_is_a_unit_of_its_own(asyd: Asyd) -> None:
    for domain in (GOOD, BAD):
        assert asyd.ask(domain, 0xC0) == b"\0\0\0\2" + OK
        assert asyd.box.property(unit(domain), "ActiveState") == "active"
        assert asyd.box.property(unit(domain), "DynamicUser") == "yes"
        cgroup = asyd.box.property(unit(domain), "ControlGroup")
        assert unit(domain) in cgroup
        assert cgroup in asyd.look(domain, "Path('/proc/self/cgroup').read_text()")


def test_what_the_admin_grants(asyd: Asyd) -> None:
    assert asyd.box.property(unit(GOOD), "MemoryMax") == str(128 << 20)
    assert asyd.box.property(unit(BAD), "MemoryMax") == str(64 << 20)
    assert asyd.box.property(unit(BAD), "CPUQuotaPerSecUSec") == "500ms"
    assert asyd.box.property(unit(GOOD), "PrivateNetwork") == "yes"
    assert asyd.box.property(unit(BAD), "PrivateNetwork") == "no"
    limits = "[resource.getrlimit(one)[1] for one in (resource.RLIMIT_DATA, resource.RLIMIT_NPROC)]"
    assert asyd.look(GOOD, limits) == [128 << 20, 32]
    assert asyd.look(BAD, limits) == [64 << 20, 32]


def test_it_is_nobody_and_has_nothing(asyd: Asyd) -> None:
    uids = [asyd.look(domain, "os.getresuid()") for domain in (GOOD, BAD)]
    assert all(len(set(one)) == 1 and one[0] > 1000 for one in uids)
    assert uids[0] != uids[1]
    status = asyd.look(GOOD, "Path('/proc/self/status').read_text()")
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    for path in ("/run/box/asyd/id_curve25519", "/run/box/asyd/authorized_agents", "/etc/shadow"):
        assert asyd.look(GOOD, f"open({path!r}, 'rb')") in ("PermissionError", "FileNotFoundError")
    assert asyd.look(GOOD, "os.listdir('/run/box/asyd')") in ("PermissionError", [])
    assert asyd.look(GOOD, "open('/etc/x', 'w')") in ("OSError", "PermissionError")
    for scratch in SCRATCH:
        assert asyd.look(GOOD, f"Path('{scratch}/from-good').write_text('x')") == 1
        assert asyd.look(BAD, f"os.path.exists('{scratch}/from-good')") is False
        assert not asyd.box.path(f"{scratch}/from-good").exists()


def test_nobody_can_be_signalled_or_traced(asyd: Asyd) -> None:
    other = asyd.box.property(unit(BAD), "MainPID")
    for pid in (asyd.pid, other, 1):
        assert asyd.look(GOOD, f"os.kill({pid}, 0)") == "PermissionError"
        assert asyd.look(GOOD, f"ctypes.CDLL(None).ptrace(16, {pid}, 0, 0)") == -1
        assert asyd.look(GOOD, f"os.listdir('/proc/{pid}/fd')") == "FileNotFoundError"


def test_the_network_is_not_there_unless_granted(asyd: Asyd) -> None:
    assert asyd.look(GOOD, "socket.socket(socket.AF_INET)") == "OSError"
    assert asyd.look(GOOD, "[name for _, name in socket.if_nameindex()]") in (["lo"], "OSError")
    connect = "socket.create_connection(('127.0.0.1', 1), 60)"
    assert asyd.look(BAD, connect) == "ConnectionRefusedError"


def test_agents_may_not_touch_a_worker(asyd: Asyd) -> None:
    pid = int(asyd.box.property(unit(GOOD), "MainPID"))
    assert asyd.agent.ask(asyd.agent.throttle(pid)).hex() == "6982"


def test_too_much_memory(asyd: Asyd) -> None:
    assert asyd.ask(GOOD, 0xC2).hex() == "6f01"
    assert asyd.ask(GOOD, 0xC0) == b"\0\0\0\2" + OK


def test_a_crash_is_alone_and_it_comes_again(asyd: Asyd) -> None:
    before = asyd.box.property(unit(GOOD), "MainPID")
    crashed = asyd.box.property(unit(BAD), "MainPID")
    assert asyd.ask(BAD, 0xC3).hex() == "6f00"
    assert asyd.ask(GOOD, 0xC0) == b"\0\0\0\2" + OK
    assert asyd.again(BAD) == b"\0\0\0\2" + OK
    assert asyd.box.property(unit(BAD), "MainPID") != crashed
    assert asyd.box.property(unit(GOOD), "MainPID") == before


def test_what_the_kernel_kills_for_memory_is_told(asyd: Asyd) -> None:
    """As the kernel's killer does, which the box cannot have: SIGKILL from outside."""
    payload = asyd.ids[BAD].to_bytes(4, "big") + b"\0\0\0\1"
    assert asyd.again(BAD) == b"\0\0\0\2" + OK
    asyd.agent.send(asyd.agent.signed(0xC1, payload))
    beside = RawAgent(str(asyd.box.share / "asyd.sock"))
    with beside:
        beside.handshake(AGENT)
        assert beside.ask(HELLO)[-2:] == OK
        answer = beside.ask(beside.signed(0xC0, payload))  # behind it, the worker has the other
        assert answer == b"\0\0\0\2" + OK
    asyd.box.run("systemctl", "kill", "--signal=KILL", unit(BAD))
    assert asyd.agent.answer().hex() == "6f01"
    assert asyd.again(BAD) == b"\0\0\0\2" + OK


def test_five_seconds_are_enough(asyd: Asyd) -> None:
    assert asyd.ask(BAD, 0xC1).hex() == "6f04"
    assert asyd.again(BAD) == b"\0\0\0\2" + OK
