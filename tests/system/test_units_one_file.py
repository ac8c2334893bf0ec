"""asyd as one file under the units as they are: nothing is relaxed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys.isa import LogSource
from support.built import NAME
from support.caged import FULL, MONITOR, caged
from support.isolating import isolation_missing
from support.systemd_box import SystemdBox

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing()),
]


def test_it_runs_in_both_cages(systemd_box: SystemdBox, built: Path) -> None:
    with caged(systemd_box, FULL, MONITOR, program=built / NAME) as [full, monitor]:
        full.admit("--caps", "all")
        systemd_box.run("asyd", "pubkey")
        service = systemd_box.service(User="nobody")
        try:
            full.do("start")
            systemd_box.run("systemctl", "start", service)
            pid = int(systemd_box.property(service, "MainPID"))
            with full.connect() as node:
                assert node.sys_hello().magic == b"ASYS"
                assert node.log_summary(3600, "info", 4).source is LogSource.JOURNAL
                node.net_isolate(pid, "isolate")
                node.net_isolate(pid, "release")
                node.proc_throttle(pid, "stop")
                node.proc_throttle(pid, "continue")
                node.svc_restart(service).wait(timeout=60)
                assert node.sys_status().node_flags == 0
            assert " ERROR " not in full.log
            monitor.identity = full.identity
            monitor.do("start")
            with monitor.connect() as node:
                assert node.sys_hello().magic == b"ASYS"
            assert " ERROR " not in monitor.log
        finally:
            systemd_box.remove_unit(f"{service}.service")
