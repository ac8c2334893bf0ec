"""Whoever isolates is killed before each single step; the next start makes it good."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from asys.node.platform.processes import cgroups
from support import isolating_steps
from support.cgroup import cgroup, unified
from support.isolating import Isolating, isolating, isolation_missing, place_of, stands_still
from support.talker import Talker, Wire

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())

MOST_STEPS: Final = 200
"""Far more than anything here takes."""

Kill = Callable[[str, int], bool]
"""Has something begun that is killed before a step; False: it was done before that step came."""


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Isolating]:
    with isolating(tmp_path) as one:
        yield one


@pytest.fixture
def talker(wire: Wire) -> Iterator[Talker]:
    """A process with an old connection and a child, in a cgroup of its own."""
    one = wire.talker()
    with cgroup(unified()) as place:
        cgroups.move(place, one.pid)
        one.do("tcp", "old", *wire.tcp4)
        one.do("tcp", "local", *wire.local_tcp4)
        one.child("child")
        yield one
        one.end()


@pytest.fixture
def kill(made: Isolating, talker: Talker) -> Iterator[Kill]:
    program = subprocess.Popen(
        [sys.executable, isolating_steps.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(what: str, step: int) -> bool:
        order = {"what": what, "step": step, "pid": talker.pid, "state_dir": str(made.directory)}
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(order) + "\n")
        program.stdin.flush()
        said = program.stdout.readline().strip()
        assert said in ("done", "killed")
        return said == "killed"

    yield ask
    program.communicate()
    assert program.returncode == 0


def refused(talker: Talker, address: tuple[str, int]) -> bool:
    try:
        talker.do("tcp", "new", *address)
    except PermissionError:
        return True
    return False


def test_while_it_isolates(wire: Wire, made: Isolating, talker: Talker, kill: Kill) -> None:
    home = place_of(talker.pid)
    stood = 0
    for step in count(1):
        assert step < MOST_STEPS
        killed = kill("isolate", step)
        isolator = made.isolator()
        assert not stands_still(talker.pid)
        if isolator.standing():
            stood += 1
            assert refused(talker, wire.tcp4)
            (one,) = isolator.standing()
            assert isolator.release(one.pid, one.start)
        assert made.left == []
        assert place_of(talker.pid) == home
        assert talker.echoes("old")
        assert not refused(talker, wire.tcp4)
        if not killed:
            break
    assert step > 20
    assert 1 <= stood < 5  # it stands from its last steps on, and not before


def test_while_it_releases(wire: Wire, made: Isolating, talker: Talker, kill: Kill) -> None:
    home = place_of(talker.pid)
    stood = 0
    for step in count(1):
        assert step < MOST_STEPS
        made.isolate(made.isolator(), talker.pid)
        killed = kill("release", step)
        isolator = made.isolator()
        if isolator.standing():
            stood += 1
            assert refused(talker, wire.tcp4)
            (one,) = isolator.standing()
            assert isolator.release(one.pid, one.start)
        assert made.left == []
        assert place_of(talker.pid) == home
        assert talker.echoes("old")
        if not killed:
            break
    assert step > 10
    assert stood < 5


def test_while_it_isolates_again(wire: Wire, made: Isolating, talker: Talker, kill: Kill) -> None:
    """Whatever the rule is then, it is one of the two, and outside nothing is ever let through."""
    kept = set()
    for step in count(1):
        assert step < MOST_STEPS
        where = made.isolate(made.isolator(), talker.pid)
        killed = kill("isolate, loopback kept", step)
        isolator = made.isolator()
        (one,) = isolator.standing()
        assert not stands_still(talker.pid)
        assert refused(talker, wire.tcp4)
        assert refused(talker, wire.local_tcp4) is not one.keep_loopback
        kept.add(one.keep_loopback)
        assert isolator.release(*where)
        assert made.left == []
        assert talker.echoes("local")
        if not killed:
            break
    assert kept == {False, True}


def test_while_it_looks_what_stands(
    wire: Wire, made: Isolating, talker: Talker, kill: Kill
) -> None:
    made.isolate(made.isolator(), talker.pid)
    for step in count(1):
        assert step < MOST_STEPS
        killed = kill("recover", step)
        assert refused(talker, wire.tcp4)  # at every moment
        (one,) = made.isolator().standing()
        assert one.pid == talker.pid
        if not killed:
            break
    assert step > 5
