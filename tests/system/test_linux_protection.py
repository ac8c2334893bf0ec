"""What nobody may touch, on a real systemd with its own journal and message bus."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root

SERVICE = "asyd-protection"

PROBE = """
import json, os, signal, subprocess, sys
from asys.node.platform import choose_platform
platform = choose_platform()
def refusal(pid):
    process = platform.process(pid)
    try:
        return process.refusal()
    finally:
        process.close()
report = {"own_cgroup": platform._guard.own_cgroup, "named": {}, "can": platform.can_throttle()}
# A process that is not asyd's child, but in its cgroup: its own parent has ended.
orphan = int(subprocess.check_output(["sh", "-c", "sleep infinity >/dev/null 2>&1 & echo $!"]))
report["orphan"] = refusal(orphan)
for name in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{name}/comm") as file:
        comm = file.read().strip()
    report["named"].setdefault(comm, []).append(refusal(int(name)))
report["named"].pop("python3", None)
os.kill(orphan, signal.SIGKILL)
with open(sys.argv[1], "w") as file:
    json.dump(report, file)
"""


@pytest.fixture
def report(box: SystemdBox) -> dict[str, Any]:
    """What asyd would refuse if it were a service in the box, by names of processes."""
    (box.share / "probe.py").write_text(PROBE)
    box.run("systemctl", "start", "dbus.service")
    bystander = box.service()
    box.run("systemctl", "start", bystander)
    box.unit(
        f"{SERVICE}.service",
        "[Service]\nType=oneshot\n"
        f"ExecStart={sys.executable} /run/box/probe.py /run/box/report.json\n",
    )
    box.run("systemctl", "start", SERVICE)
    found: dict[str, Any] = json.loads((box.share / "report.json").read_text())
    return found


def test_a_service_started_by_systemd(report: dict[str, Any]) -> None:
    assert report["can"]
    assert report["own_cgroup"] == f"/system.slice/{SERVICE}.service"
    assert report["orphan"] == "in the cgroup of asyd"
    guarded = "the journal or the message bus"
    assert report["named"]["systemd-journal"] == [guarded]
    assert report["named"]["dbus-daemon"] == [guarded]
    assert "" in report["named"]["sleep"]


def test_a_command_in_the_box_shares_its_cgroup_with_everybody(box: SystemdBox) -> None:
    (box.share / "probe.py").write_text(PROBE)
    box.run(sys.executable, "/run/box/probe.py", "/run/box/by-hand.json")
    report = json.loads((box.share / "by-hand.json").read_text())
    assert report["own_cgroup"] == ""
    assert report["orphan"] == ""
