"""What the units of workers are given, without a systemd; with one: tests/system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asys.node.platform.base import PlatformError
from asys.node.platform.services.systemd_units import SystemdUnits
from asys.node.vendor import launch_systemd
from asys.node.vendor.enabled import Enabled
from asys.node.vendor.launch import LaunchError
from asys.node.vendor.launch_systemd import (
    LONGEST_DOMAIN,
    TEMPLATES,
    SystemdLauncher,
    dynamic_user,
    under_systemd,
)

NOWHERE = "unix:path=/nowhere/at/all"


def launcher(directory: Path) -> SystemdLauncher:
    """One that has no systemd to talk to."""
    return SystemdLauncher([Path("/etc/as yd%")], address=NOWHERE, directory=directory)


def granted(directory: Path, enabled: Enabled) -> dict[str, list[str]]:
    """The settings of a drop-in, in order."""
    found: dict[str, list[str]] = {}
    for line in launcher(directory).granted(enabled).splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_what_a_vendor_has_by_itself(tmp_path: Path) -> None:
    found = granted(tmp_path, Enabled("a.example"))
    [start] = found["ExecStart"]
    assert start.startswith(f'"{sys.executable}" "-I" ')
    assert '"a.example" "3"' in start
    assert found["MemoryMax"] == found["LimitDATA"] == [str(128 << 20)]
    assert found["MemorySwapMax"] == ["0"]
    assert found["User"] == [dynamic_user("a.example")]
    assert found["InaccessiblePaths"] == ['"-/etc/as yd%%"']
    assert not found.keys() & {"PrivateNetwork", "CPUQuota", "DynamicUser"}


def test_what_an_admin_grants(tmp_path: Path) -> None:
    wanted = Enabled("a.example", network=True, memory=64 << 20, cpu=150, user="daemon")
    found = granted(tmp_path, wanted)
    assert found["PrivateNetwork"] == ["no"]
    assert found["RestrictAddressFamilies"] == ["AF_INET AF_INET6"]  # more, not instead
    assert found["CPUQuota"] == ["150%"]
    assert found["LimitDATA"] == [str(64 << 20)]
    assert (found["DynamicUser"], found["User"]) == (["no"], ["daemon"])


def test_no_two_vendors_are_one_user() -> None:
    names = {dynamic_user(one) for one in ("a.example", "b.example", "a" * 60 + ".example")}
    assert len(names) == 3
    assert all(len(name) <= 31 and name.isascii() for name in names)


def test_a_closed_directory_on_the_way_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    (closed / "site").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed / "site")
    monkeypatch.setattr(launch_systemd, "hidden", lambda needs: [str(closed)])
    found = granted(tmp_path, Enabled("a.example"))
    assert found["TemporaryFileSystem"] == [f'"{closed}"']
    assert f'"{closed / "site"}"' in found["BindReadOnlyPaths"]


def test_what_it_refuses(tmp_path: Path) -> None:
    made = launcher(tmp_path)
    assert made.refusal(Enabled("a.example", cpu=50, user="daemon")) == ""
    assert "has no user nobody-there" in made.refusal(Enabled("a.example", user="nobody-there"))
    long = ("a" * 40 + ".") * 2 + "example"
    assert f"more than {LONGEST_DOMAIN}" in made.refusal(Enabled(long))


async def test_a_systemd_that_is_not_there(tmp_path: Path) -> None:
    """The files are written before it is asked to read them."""
    made = launcher(tmp_path)
    with pytest.raises(PlatformError, match="/nowhere/at/all"):
        await made.launch(Enabled("a.example"))
    for name in TEMPLATES:
        shipped = Path(launch_systemd.__file__).with_name(name)
        assert (tmp_path / name).read_text() == shipped.read_text()
    assert (tmp_path / "asyd-vendor@a.example.service.d" / "50-asyd.conf").exists()
    await made.close()


async def test_unit_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match=r"ReadWritePaths="):
        await launcher(tmp_path / "file").launch(Enabled("a.example"))


async def test_calls_without_a_connection() -> None:
    units = SystemdUnits(NOWHERE)
    for call in (units.reload(), units.reset("x.service"), units.job("StartUnit", "x.service")):
        with pytest.raises(PlatformError, match="systemd: "):
            await call
    await units.close()


def test_asyd_that_was_not_started_by_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert not under_systemd()


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.root
def test_systemd_takes_the_templates_and_what_is_added(tmp_path: Path) -> None:
    """No word of it is unknown to the systemd of this machine."""
    made = launcher(tmp_path)
    text = Path(launch_systemd.__file__).with_name(TEMPLATES[0]).read_text()
    wanted = Enabled("a.example", network=True, cpu=50)
    added = made.granted(wanted).partition("[Service]\n")[2]
    unit = tmp_path / "test-vendor.service"
    unit.write_text(text.replace("%i", "a.example") + added)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Unknown" not in ran.stderr
    assert "test-vendor.service:" not in ran.stderr
