"""The box itself: nothing gets out of it, and nothing is left of it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support import systemd_box
from support.systemd_box import CHECKOUT, Gate, SystemdBox, cgroup_root

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("systemd_box")]

SECONDS = 60

STARTER = """\
import json, sys
from support.systemd_box import SystemdBox
box = SystemdBox()
box.start()
print(json.dumps([box.pid, str(box.share)]), flush=True)
sys.stdin.read()
"""


def leftovers(pid: int) -> list[Path]:
    """What boxes that a process made have left."""
    root = cgroup_root()
    assert root is not None
    places = [root, Path(tempfile.gettempdir())]
    return [path for place in places for path in place.glob(f"asys-box-{pid}-*")]


def test_a_systemd_of_its_own_and_the_machine_is_not_touched(box: SystemdBox) -> None:
    assert box.run("cat", "/proc/1/comm").stdout == "systemd\n"
    assert box.run("systemctl", "is-system-running").stdout == "running\n"
    box.run("sh", "-c", "echo box > /etc/asys-box; echo box > /tmp/asys-box; hostname other")
    assert box.path("/etc/asys-box").read_text() == "box\n"
    assert not Path("/etc/asys-box").exists()
    assert not Path("/tmp/asys-box").exists()  # noqa: S108  # a fixed name, to be looked for only
    assert os.uname().nodename != "other"
    assert box.run("sh", "-c", "echo 1 > /proc/sys/vm/swappiness", check=False).returncode


def test_the_checkout_and_the_interpreter_are_inside(box: SystemdBox) -> None:
    done = box.run(sys.executable, "-c", "import asys; print(asys.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(CHECKOUT)


def test_a_command_that_fails_is_said_with_its_output(box: SystemdBox) -> None:
    with pytest.raises(AssertionError, match="oh no"):
        box.run("sh", "-c", "echo oh no; exit 3")
    assert box.run("sh", "-c", "exit 3", check=False).returncode == 3
    assert box.run("cat", input="text").stdout == "text"
    assert box.run("sh", "-c", "echo $A", env={"A": "b"}).stdout == "b\n"


def test_a_command_that_goes_on_can_be_signalled(box: SystemdBox) -> None:
    child = box.popen(
        "sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do read x; done"
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    box.signal(child, signal.SIGTERM)
    assert child.stdout.readline() == "bye\n"
    assert child.wait(SECONDS) == 7
    with pytest.raises(RuntimeError, match="ended"):
        box.pid_of(child)


def test_units_are_removed_even_when_they_do_not_stop(box: SystemdBox, gate: Gate) -> None:
    name = box.service(ExecStop=gate.wait, TimeoutStopSec="infinity")
    box.run("systemctl", "start", name)
    box.remove_unit(f"{name}.service")
    assert box.property(name, "LoadState") == "not-found"
    assert f"{name}.service" not in box.units


def test_stopping_leaves_nothing() -> None:
    box = SystemdBox()
    with box:
        pid = box.pid
        assert leftovers(os.getpid())
        child = box.popen("sleep", "3600")
        share = box.share
    assert child.returncode is not None
    assert not Path(f"/proc/{pid}").exists()
    assert not share.exists()
    box.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        box.run("true")


def test_what_does_not_boot_is_said_with_its_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("echo I will not; exit 1\n")
    monkeypatch.setattr(systemd_box, "SCRIPT", script)
    box = SystemdBox()
    with pytest.raises(RuntimeError, match="I will not"), box:
        pass
    assert not box.share.exists()


def test_tests_that_are_killed_take_their_box_with_them() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=CHECKOUT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        pid, share = json.loads(starter.stdout.readline())
        end = os.pidfd_open(pid)
        starter.kill()
    assert select.select([end], [], [], SECONDS)[0]
    os.close(end)
    assert leftovers(starter.pid)
    assert Path(share).exists()
    with SystemdBox():  # the next one tidies up
        assert not leftovers(starter.pid)
