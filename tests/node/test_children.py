"""How asyd's own programs are started; that they run so, the tests of each of them show."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from asys.node import children
from asys.node.children import ended, in_one_file, runner


def test_by_the_interpreter_that_runs_asyd() -> None:
    assert not in_one_file()
    assert runner() == runner(lasting=True) == (sys.executable, "-I")
    assert runner(site=False) == (sys.executable, "-I", "-S")


def test_by_the_executable_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/system/test_binary.py runs it."""
    monkeypatch.setattr(children, "__file__", "/proc/self/exe/asys/node/children.pyc")
    assert in_one_file()
    assert runner() == runner(site=False) == ("/proc/self/exe", "--asys-run")
    assert runner(lasting=True) == (sys.executable, "--asys-run")


ENDS = (sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)")


@pytest.mark.parametrize("pidfd", [True, False])
def test_how_a_child_has_ended(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pidfd:
        monkeypatch.setattr(time, "sleep", None)  # it is an event that is waited for
    else:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(ENDS, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.close()
        assert ended(child, 60) == 7


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_child_that_goes_on_is_let_go_of(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen(ENDS, stdin=subprocess.PIPE) as child:
        assert ended(child, 0.01) is None
        assert child.poll() == 0  # nobody asks how it ended
        assert child.stdin is not None
        child.stdin.close()
        child.returncode = None
        assert child.wait(60) == 7
