"""How asyd's own programs are started; that they run so, the tests of each of them show."""

from __future__ import annotations

import sys

import pytest

from asys.node import children
from asys.node.children import in_one_file, runner


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
