"""asyd and the lock on its memory: as the admin says, and as the kernel lets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import AGENT, COMMAND, Daemon, running, write_agents
from support.frames import HELLO, OK
from support.request_path import children

pytestmark = pytest.mark.root

AGENTS = {AGENT: "boss caps=all"}

UNABLE = (
    "import ctypes, os, resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))\n"
    "assert ctypes.CDLL(None).prctl(24, 14, 0, 0, 0) == 0\n"  # PR_CAPBSET_DROP, CAP_IPC_LOCK
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
"""Runs a command that may not lock memory."""


def locked_kb(asyd: Daemon) -> int:
    rollup = Path(f"/proc/{asyd.pid}/smaps_rollup").read_text()
    return int(rollup.partition("Locked:")[2].split()[0])


@pytest.mark.parametrize("how", ["auto", "require"])
def test_memory_is_locked(tmp_path: Path, how: str) -> None:
    with running(tmp_path, "--memory-lock", how, agents=AGENTS) as asyd:
        assert locked_kb(asyd) > 20 << 10
        assert asyd.said("memory is locked: ") == 1
        for child in children(asyd.pid):  # it is asyd's alone
            assert "VmLck:\t       0 kB" in Path(f"/proc/{child}/status").read_text()
        for task in Path(f"/proc/{asyd.pid}/task").iterdir():
            assert "libuv" not in (task / "comm").read_text()


def test_it_is_not_where_an_admin_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--memory-lock", "off", agents=AGENTS) as asyd:
        assert locked_kb(asyd) == 0
        assert asyd.said("memory is not locked, as --memory-lock off says") == 1


def test_where_asyd_may_not_it_serves_and_says_so(tmp_path: Path) -> None:
    launcher = (sys.executable, "-c", UNABLE)
    with running(tmp_path, agents=AGENTS, launcher=launcher) as asyd, asyd.connect() as agent:
        assert agent.ask(HELLO)[-2:] == OK
        assert locked_kb(asyd) == 0
        assert asyd.said("memory is not locked, so asyd may be slow when it runs out") == 1
        assert asyd.said("asyd has no CAP_IPC_LOCK, and RLIMIT_MEMLOCK is 65536 bytes") == 1


def test_where_it_must_and_may_not_it_does_not_start(tmp_path: Path) -> None:
    write_agents(tmp_path, AGENTS)
    tmp_path.chmod(0o700)
    words = ("--config-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--audit", "off")
    done = subprocess.run(
        [
            *(sys.executable, "-c", UNABLE, sys.executable, "-c", COMMAND),
            *(*words, "--memory-lock", "require"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "asyd: memory cannot be locked: asyd has no CAP_IPC_LOCK" in done.stderr
    assert "LimitMEMLOCK=infinity" in done.stderr


def test_what_is_spared_and_what_is_not(tmp_path: Path) -> None:
    """The kernel lets nobody but root with CAP_SYS_RESOURCE lower it; so it says that it did."""
    spared = (
        f"from asys.node.platform import oom\noom.ADJUSTMENT = {str(tmp_path / 'adjustment')!r}\n"
    )
    (tmp_path / "adjustment").write_text("0\n")
    with running(tmp_path, agents=AGENTS, prelude=spared) as asyd:
        assert (tmp_path / "adjustment").read_text() == "-900"
        assert asyd.said("no less likely than others to be ended") == 0
