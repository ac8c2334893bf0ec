"""What the kernel lets asyd do, as it says itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asys.node.platform import privileges
from asys.node.platform.linux import LinuxPlatform
from asys.node.platform.privileges import CAP_KILL, CAP_SYS_ADMIN, effective, has, limits


def status(tmp_path: Path, text: bytes) -> str:
    path = tmp_path / "status"
    path.write_bytes(text)
    return str(path)


def test_the_effective_set_and_no_other(tmp_path: Path) -> None:
    text = b"Name:\tasyd\nCapPrm:\t0000000000200020\nCapEff:\t0000000000000020\nCapBnd:\t00ff\n"
    assert effective(status(tmp_path, text)) == 1 << CAP_KILL


def test_all_of_them(tmp_path: Path) -> None:
    lit = effective(status(tmp_path, b"CapEff:\t000001ffffffffff\n"))
    assert lit >> CAP_KILL & lit >> CAP_SYS_ADMIN & 1


@pytest.mark.parametrize("text", [b"", b"Name:\tx\n", b"CapEff:\n", b"CapEff:\tno number\n"])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, text: bytes) -> None:
    assert effective(status(tmp_path, text)) == 0


def test_no_file_is_nothing(tmp_path: Path) -> None:
    assert effective(str(tmp_path / "missing")) == 0


def test_this_process_as_the_kernel_sees_it() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    [written] = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    assert effective() == int(written, 16)
    assert has(CAP_KILL) == bool(int(written, 16) & 0x20)


@pytest.mark.root
def test_a_process_of_nobody_has_none() -> None:
    code = (
        "import os; from asys.node.platform.privileges import effective, limits;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "print(effective(), limits(throttles=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "0 ['PROC_THROTTLE reaches the processes of uid 65534 alone, as asyd has no CAP_KILL']\n"
    )


def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: 1 << CAP_KILL)
    assert limits(throttles=True) == []


def test_without_cap_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: ~(1 << CAP_KILL))
    [line] = limits(throttles=True)
    assert f"uid {os.geteuid()} alone" in line


@pytest.mark.parametrize("lit", [0, 1 << CAP_KILL])
def test_where_nothing_can_be_held(monkeypatch: pytest.MonkeyPatch, lit: int) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: lit)
    assert limits(throttles=False) == ["PROC_THROTTLE answers 6D00: processes cannot be held here"]


def test_the_platform_says_it() -> None:
    platform = LinuxPlatform()
    assert platform.lacks() == limits(throttles=platform.can_throttle())
