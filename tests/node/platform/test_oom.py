"""Whom the kernel ends when memory has run out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asys.node.platform import oom
from asys.node.platform.linux import LinuxPlatform


@pytest.fixture
def adjustment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's file, where it lets everybody do everything."""
    path = tmp_path / "oom_score_adj"
    monkeypatch.setattr(oom, "ADJUSTMENT", str(path))
    path.write_text("0\n")
    return path


def test_asyd_is_spared_and_what_agents_can_make_grow_is_not(adjustment: Path) -> None:
    assert LinuxPlatform().spare_me() == ""
    assert oom.in_force() == -900
    oom.be_expendable()
    assert oom.in_force() == 0
    oom.be_expendable()
    assert oom.in_force() == 0


@pytest.mark.parametrize("chosen", [-500, -1000, 300])
def test_what_an_admin_has_set_stays(adjustment: Path, chosen: int) -> None:
    adjustment.write_text(f"{chosen}\n")
    assert oom.spare_me() == ""
    assert oom.in_force() == chosen
    oom.be_expendable()
    assert oom.in_force() == max(chosen, 0)


@pytest.mark.parametrize("written", [None, "", "x"])
def test_a_kernel_that_does_not_tell(adjustment: Path, written: str | None) -> None:
    if written is None:
        adjustment.unlink()
    else:
        adjustment.write_text(written)
    assert oom.in_force() == 0


def test_a_kernel_that_does_not_let_asyd(adjustment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(oom, "_write", refuse)
    lack = oom.spare_me()
    assert "oom_score_adj is 0 and cannot be lowered (Permission denied)" in lack
    assert "OOMScoreAdjust=-900" in lack


def test_the_real_file() -> None:
    """It can always be raised, and what is below zero given up."""
    program = (
        "from asys.node.platform import oom\n"
        "before = oom.in_force()\n"
        "oom._write(max(before, 0) + 1)\n"
        "print(before, oom.in_force(), oom.spare_me() == '')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    before, after, kept = done.stdout.split()
    assert int(after) == max(int(before), 0) + 1
    assert kept == "True"
