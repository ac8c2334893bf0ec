"""A service of a real systemd that is frozen stays the service that it is."""

from __future__ import annotations

import os
import sys

import pytest

from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root

ORDER = """
import sys
from contextlib import closing
from asys.node.platform import choose_platform
platform = choose_platform()
throttler = platform.throttler("freeze")
assert not throttler.lack, throttler.lack
with closing(platform.process(int(sys.argv[2]))) as process:
    if sys.argv[1] == "stop":
        print(throttler.stop(process))
    else:
        throttler.release(process, "freeze", "")
"""


def order(box: SystemdBox, what: str, pid: str) -> str:
    """Stops or continues a process in the box; its place."""
    return box.run(sys.executable, "-c", ORDER, what, pid).stdout.strip()


def main_pid(box: SystemdBox, unit: str) -> str:
    """The process that systemd takes for the service."""
    return box.property(unit, "MainPID")


def cgroup_of(box: SystemdBox, pid: str) -> str:
    """Its cgroup of version 2, as the box sees it."""
    text = box.path(f"/proc/{pid}/cgroup").read_text()
    return next(line[3:] for line in text.splitlines() if line.startswith("0::"))


def cgroups_below(box: SystemdBox, unit: str) -> list[str]:
    """The children of a service's cgroup."""
    root = box.path(f"/sys/fs/cgroup/system.slice/{unit}.service")
    return [name for name in os.listdir(root) if (root / name).is_dir()]


@pytest.fixture
def unit(box: SystemdBox) -> str:
    """A service that runs, with two processes."""
    made = box.service("/bin/sh -c 'sleep infinity & wait'")
    box.run("systemctl", "start", made)
    return made


def test_it_stays_in_its_service_and_comes_back_into_it(box: SystemdBox, unit: str) -> None:
    pid = main_pid(box, unit)
    home = cgroup_of(box, pid)
    assert home.endswith(f"/system.slice/{unit}.service")

    place = order(box, "stop", pid)

    assert cgroup_of(box, pid) == f"{home}/{place}"
    assert box.property(unit, "ActiveState") == "active"
    assert main_pid(box, unit) == pid

    order(box, "continue", pid)

    assert cgroup_of(box, pid) == home
    assert cgroups_below(box, unit) == []
    assert main_pid(box, unit) == pid


def test_systemd_restarts_it_all_the_same(box: SystemdBox, unit: str) -> None:
    pid = main_pid(box, unit)
    order(box, "stop", pid)

    box.run("systemctl", "kill", "--signal=SIGKILL", unit)
    box.run("systemctl", "restart", unit)

    again = main_pid(box, unit)
    assert again not in ("0", pid)
    assert cgroup_of(box, again).endswith(f"/system.slice/{unit}.service")
    assert cgroups_below(box, unit) == []
