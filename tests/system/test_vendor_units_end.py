"""What is left of the units of workers when asyd ends, one way or the other."""

from __future__ import annotations

import pytest

from support.frames import OK
from support.systemd_box import SystemdBox
from support.vendor_box import GOOD, Asyd, installed, service, unit

pytestmark = pytest.mark.root


def test_nothing_runs_on(box: SystemdBox) -> None:
    with installed(box) as packages, service(box, packages, GOOD) as asyd:
        assert asyd.ask(GOOD, 0xC0) == b"\0\0\0\2" + OK
        first = box.property(unit(GOOD), "MainPID")
        box.run("systemctl", "kill", "--signal=KILL", "test-asyd.service")
        box.run("systemctl", "reset-failed", "test-asyd.service", check=False)
        box.run("systemctl", "start", "test-asyd.service")
        again = Asyd(box, packages)
        try:
            assert again.ask(GOOD, 0xC0) == b"\0\0\0\2" + OK
            assert box.property(unit(GOOD), "MainPID") != first
            box.run("systemctl", "stop", "test-asyd.service")
            left = box.run("systemctl", "list-units", "--plain", "--no-legend", "asyd-vendor@*")
            assert "active" not in left.stdout.split()
        finally:
            again.agent.close()


def test_a_unit_that_does_not_start_is_told(box: SystemdBox) -> None:
    """The admin has the last word over the unit; asyd goes on without the vendor."""
    drop_in = box.path(f"/etc/systemd/system/{unit(GOOD)}.d/99-test.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nRootDirectory=/nowhere\n")
    try:
        with installed(box) as packages, service(box, packages, GOOD) as asyd:
            assert asyd.ask(GOOD, 0xC0).hex() == "6982"
            log = box.run("journalctl", "--boot", "--unit", "test-asyd.service").stdout
            assert f"systemd does not start {unit(GOOD)} (failed); see: journalctl" in log
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        box.run("systemctl", "daemon-reload")
