"""Workers in cages, started and ended; and who cannot start any."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asys.node.clock import LoopClock
from asys.node.disk.files import ConfigError
from asys.node.vendor import launch_exec, start
from asys.node.vendor.enabled import Enabled
from asys.node.vendor.launch import LaunchError, needed
from asys.node.vendor.launch_exec import ExecLauncher, ExecRunning, exec_missing, identity
from asys.vendor.wire import FAILED, HELLO, MAX_TO_NODE, Messages
from support.audit import ended
from support.nobody import as_nobody
from support.vendors import Packages

DOMAIN = "a.example"


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExecLauncher:
    """With one vendor that is installed."""
    packages = Packages(tmp_path / "site")
    packages.add(DOMAIN, {"DOUBLE": "0xC0"}, "@handler(DOUBLE)\ndef double(request): ...")
    monkeypatch.syspath_prepend(packages.directory)
    return ExecLauncher([tmp_path / "secret"])


@pytest.fixture
async def running(launcher: ExecLauncher) -> AsyncIterator[ExecRunning]:
    """A worker that has said who it is; each test ends it."""
    made = await launcher.launch(Enabled(DOMAIN))
    kind, _ = await said(made)
    assert kind == HELLO
    yield made
    made.socket.close()
    assert made.pids == ()


async def said(running: ExecRunning) -> tuple[int, bytes]:
    """Its first message."""
    messages = Messages(MAX_TO_NODE)
    running.socket.setblocking(False)
    found: list[tuple[int, bytes]] = []
    while not found:
        data = await asyncio.get_running_loop().sock_recv(running.socket, 1 << 16)
        assert data
        found = messages.feed(data)
    return found[0]


def status(pid: int, name: str) -> str:
    """The first word of a line of /proc/PID/status; "gone" where there is no process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return "gone"
    [line] = [one for one in lines if one.startswith(f"{name}:")]
    return line.split()[1]


@pytest.mark.root
async def test_it_ends_when_it_is_hung_up_on(running: ExecRunning) -> None:
    outer, inner = running.pids
    assert status(inner, "PPid") == str(outer)
    running.socket.close()
    assert await running.end() is False
    assert status(inner, "PPid") == "gone"


@pytest.mark.root
async def test_it_is_killed_when_it_does_not_end(
    running: ExecRunning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_exec, "GRACE_SECONDS", 0.01)
    _, inner = running.pids
    gone = os.pidfd_open(inner)
    assert await running.end() is False  # nobody has hung up
    ended(gone)


@pytest.mark.root
async def test_what_the_kernel_kills_ran_out_of_memory(running: ExecRunning) -> None:
    _, inner = running.pids
    os.kill(inner, signal.SIGKILL)
    assert await running.end() is True


@pytest.mark.root
async def test_it_is_not_as_urgent_as_asyd(launcher: ExecLauncher) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        made = await launcher.launch(Enabled(DOMAIN))
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
    await said(made)
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in made.pids] == [0, 0]
    made.socket.close()
    await made.end()


@pytest.mark.root
async def test_a_vendor_that_is_not_installed_says_so(launcher: ExecLauncher) -> None:
    made = await launcher.launch(Enabled("b.example"))
    kind, why = await said(made)
    assert (kind, b"no vendor b.example is installed" in why) == (FAILED, True)
    made.socket.close()
    await made.end()
    await launcher.close()


async def test_no_process_to_be_had(
    launcher: ExecLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_exec, "runner", lambda: ("/nothing/python",))
    with pytest.raises(LaunchError, match="no process can be started"):
        await launcher.launch(Enabled(DOMAIN))


def test_what_it_refuses(launcher: ExecLauncher) -> None:
    assert launcher.refusal(Enabled(DOMAIN, network=True, memory=1 << 30)) == ""
    assert "kept by systemd alone" in launcher.refusal(Enabled(DOMAIN, cpu=5))
    assert "has no user nobody-there" in launcher.refusal(Enabled(DOMAIN, user="nobody-there"))
    assert "cannot run as root" in launcher.refusal(Enabled(DOMAIN, user="root"))
    assert launcher.refusal(Enabled(DOMAIN, user="daemon")) == ""


def test_a_user_has_groups() -> None:
    entry = pwd.getpwnam("daemon")
    uid, gid, groups = identity("daemon")
    assert (uid, gid) == (entry.pw_uid, entry.pw_gid)
    assert gid in groups


@pytest.mark.root
async def test_a_worker_as_a_user_of_the_machine(launcher: ExecLauncher) -> None:
    made = await launcher.launch(Enabled(DOMAIN, user="daemon"))
    assert (await said(made))[0] == HELLO
    _, inner = made.pids
    assert status(inner, "Uid") == str(pwd.getpwnam("daemon").pw_uid)
    made.socket.close()
    await made.end()


def test_what_a_worker_must_read(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    found = needed([str(tmp_path / "a"), str(inside), str(tmp_path / "nothing")])
    assert str(tmp_path / "a") in found
    assert str(inside) not in found
    assert all(os.path.isdir(one) for one in found)


@pytest.mark.root
def test_root_can() -> None:
    assert exec_missing() == ""


def test_an_ordinary_user_cannot() -> None:
    code = "from asys.node.vendor.start import choose_launcher; print(choose_launcher([]))"
    ran = subprocess.run(
        [*as_nobody(), sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout == (
        "asyd does not run as root, so that a worker would not be kept from what asyd has\n"
    )


@pytest.mark.root
def test_root_without_the_right_to_close_cages_cannot() -> None:
    code = "from asys.node.vendor.launch_exec import exec_missing; print(exec_missing())"
    ran = subprocess.run(
        ["setpriv", "--bounding-set", "-setpcap,-sys_admin", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "asyd has no CAP_SYS_ADMIN, CAP_SETPCAP\n"


async def test_what_asyd_starts_with(
    launcher: ExecLauncher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = LoopClock(asyncio.get_running_loop())
    assert start.prepare([], [], clock) is None
    with pytest.raises(ConfigError, match=r"no vendor b\.example is installed; installed: a\.exam"):
        start.prepare([Enabled(DOMAIN), Enabled("b.example")], [], clock)
    monkeypatch.setattr(start, "choose_launcher", lambda _: "vendors need Linux")
    assert start.prepare([Enabled(DOMAIN)], [], clock) is None
    assert (caplog.records[-1].levelno, caplog.records[-1].getMessage()) == (
        logging.ERROR,
        "a.example is not enabled: vendors need Linux",
    )
    monkeypatch.setattr(start, "choose_launcher", lambda _: launcher)
    assert start.prepare([Enabled(DOMAIN)], [], clock) is not None
