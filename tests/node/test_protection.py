"""Who may never be touched, by number: PID 1, asyd and its ancestors."""

from __future__ import annotations

import os

import psutil
import pytest

from asys.node.platform import choose_platform
from asys.node.platform.base import Platform
from asys.node.protection import Protection
from support.children import hog


@pytest.fixture(params=["native", "portable"])
def platform(request: pytest.FixtureRequest) -> Platform:
    return choose_platform(portable=request.param == "portable")


def test_asyd_its_ancestors_and_pid_1(platform: Platform) -> None:
    protection = Protection(platform)
    assert protection.pid_refusal(1) == "PID 1"
    me = psutil.Process()
    family = [me, *me.parents()]
    assert len(family) > 1
    for process in family:
        if process.pid != 1:
            assert protection.pid_refusal(process.pid) == "asyd or an ancestor of it"


def test_nobody_else(platform: Platform) -> None:
    protection = Protection(platform)
    with hog() as pid:
        assert protection.pid_refusal(pid) == ""
    for pid in (2**22 + 1, 2**31, 2**32 - 1):
        assert protection.pid_refusal(pid) == ""


def test_an_ancestor_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PID may be somebody else's by now; the new parent was an ancestor before."""

    class Family:
        asked = 0
        members = frozenset({100, 70, 50})

        def ancestors(self) -> frozenset[int]:
            self.asked += 1
            return self.members

    family = Family()
    parent = 70
    monkeypatch.setattr(os, "getppid", lambda: parent)
    platform = choose_platform()
    monkeypatch.setattr(platform, "ancestors", family.ancestors)
    protection = Protection(platform)
    for pid in (100, 70, 50, 1):
        assert protection.pid_refusal(pid)
    assert family.asked == 1
    family.members = frozenset({100, 50})
    parent = 50
    assert protection.pid_refusal(70) == ""
    for pid in (100, 50, 1):
        assert protection.pid_refusal(pid)
    assert family.asked == 2
