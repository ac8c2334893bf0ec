"""`--throttle=freeze`: a process and its descendants in the freezer of cgroup v2, and out again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asys.node.platform.base import NoSuchTarget, NotPermitted, Unsupported
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.cgroups import Hierarchies, Hierarchy
from asys.node.platform.processes.process import Guard, LinuxProcess
from asys.node.platform.processes.throttles import LinuxThrottler, throttler
from support.cgroup import PATIENCE, cgroup, unified
from support.children import resumed, suspended, waiting, zombie
from support.family import Family, cpu_ticks, family
from support.users import NOBODY

pytestmark = pytest.mark.root

GUARD = Guard("", frozenset(), 0)


@pytest.fixture
def room() -> Iterator[str]:
    """A cgroup for what a test starts."""
    with cgroup(unified()) as directory:
        yield directory


@pytest.fixture
def freezer() -> LinuxThrottler:
    made = throttler("freeze", GUARD)
    assert (made.how, made.lack, made.quick) == ("freeze", "", False)
    return made


@pytest.fixture
def first(room: str) -> Iterator[Family]:
    """A process in the room."""
    with family() as made:
        cgroups.move(room, made.pid)
        yield made


def stop(freezer: LinuxThrottler, pid: int, users: frozenset[int] | None = None) -> str:
    """Stops a process; its place."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        return freezer.stop(process, users)


def release(freezer: LinuxThrottler, pid: int, place: str = "") -> None:
    """Lets a process go on."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        freezer.release(process, "freeze", place)


def is_held(freezer: LinuxThrottler, pid: int, place: str) -> bool:
    """Whether a process is held."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        return freezer.is_held(process, "freeze", place)


def where(pid: int) -> str:
    """The cgroup of a process."""
    return unified().of(pid)


def stands(directory: str) -> bool:
    """Whether the kernel says that all in a cgroup stand still."""
    return cgroups.wait_frozen(directory, PATIENCE)


def runs_on(pid: int) -> None:
    """Returns when a process has used CPU."""
    before = cpu_ticks(pid)
    end = time.monotonic() + PATIENCE
    while cpu_ticks(pid) == before:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_process_and_its_descendants_stand_until_they_are_let_go(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    children = [first.child("spin"), first.child()]

    place = stop(freezer, first.pid)

    held = f"{room}/{place}"
    assert {where(pid) for pid in (first.pid, *children)} == {held}
    assert stands(held)
    before = cpu_ticks(children[0])
    os.kill(first.pid, signal.SIGCONT)
    time.sleep(0.2)  # in which one that did not stand would have run
    assert cpu_ticks(children[0]) == before
    assert is_held(freezer, first.pid, place)

    release(freezer, first.pid, place)

    assert {where(pid) for pid in (first.pid, *children)} == {room}
    assert not os.path.exists(held)
    assert not is_held(freezer, first.pid, place)
    runs_on(children[0])
    assert where(first.child()) == room


def test_one_that_forks_all_the_time_is_caught_with_all_its_children(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    grower = first.child("grow")

    held = f"{room}/{stop(freezer, first.pid)}"

    assert stands(held)
    family_now = cgroups.tree(first.pid)
    assert grower in family_now
    assert {where(pid) for pid in family_now} == {held}
    assert cgroups.members(room) == []
    time.sleep(0.05)
    assert cgroups.tree(first.pid) == family_now

    release(freezer, first.pid)
    end = time.monotonic() + PATIENCE
    while len(cgroups.tree(grower)) < 51:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert {where(pid) for pid in cgroups.tree(first.pid)} == {room}


def test_stopping_again_is_the_same(room: str, freezer: LinuxThrottler, first: Family) -> None:
    place = stop(freezer, first.pid)
    assert stop(freezer, first.pid) == place
    assert stands(f"{room}/{place}")

    release(freezer, first.pid)
    release(freezer, first.pid)
    assert where(first.pid) == room


def test_one_that_was_thawed_behind_asyd_is_not_held_until_it_is_stopped_again(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    place = stop(freezer, first.pid)
    cgroups.thaw(f"{room}/{place}")
    assert not is_held(freezer, first.pid, place)

    stop(freezer, first.pid)
    assert stands(f"{room}/{place}")
    assert is_held(freezer, first.pid, place)


def test_one_that_was_taken_out_behind_asyd_is_not_held(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    place = stop(freezer, first.pid)
    cgroups.move(room, first.pid)

    assert not is_held(freezer, first.pid, place)
    release(freezer, first.pid, place)
    assert not os.path.exists(f"{room}/{place}")


def test_a_descendant_in_a_cgroup_of_its_own_goes_back_into_that(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    child = first.child()
    other = f"{room}/other"
    os.mkdir(other)
    cgroups.move(other, child)

    place = stop(freezer, first.pid)
    assert (where(first.pid), where(child)) == (f"{room}/{place}", f"{other}/{place}")
    assert stands(f"{other}/{place}")

    release(freezer, first.pid, place)
    assert (where(first.pid), where(child)) == (room, other)
    assert os.listdir(room).count(place) == 0


def test_what_is_left_of_a_process_that_was_killed_is_held_and_can_be_let_go(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    child = first.child()
    place = stop(freezer, first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    assert freezer.is_held(None, "freeze", place)

    freezer.release(None, "freeze", place)

    assert where(child) == room
    assert not freezer.is_held(None, "freeze", place)
    freezer.release(None, "freeze", place)


def test_stop_within_stop_in_either_order_of_release(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    for outer_first in (True, False):
        child = first.child()
        outer = stop(freezer, first.pid)
        inner = stop(freezer, child)
        assert where(child) == f"{room}/{outer}/{inner}"

        if outer_first:
            release(freezer, first.pid)
            assert where(first.pid) == room
            assert is_held(freezer, child, inner)
            assert stands(where(child))
            release(freezer, child)
        else:
            release(freezer, child)
            assert where(child) == f"{room}/{outer}"
            assert stands(where(child))
            release(freezer, first.pid)
        assert where(child) == where(first.pid) == room
        assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
def test_an_isolation_within_is_left_in_force(
    room: str, freezer: LinuxThrottler, first: Family, again: bool
) -> None:
    place = stop(freezer, first.pid)
    isolated = cgroups.child(f"{room}/{place}", "isolate", first.pid, 1)
    cgroups.create(isolated)
    cgroups.move(isolated, first.pid)
    assert is_held(freezer, first.pid, place)

    release(freezer, first.pid, place)
    assert where(first.pid) == isolated
    assert not is_held(freezer, first.pid, place)
    assert cgroups.is_let_go(f"{room}/{place}")

    if again:
        assert stop(freezer, first.pid) == place
        assert is_held(freezer, first.pid, place)
        assert stands(isolated)
    cgroups.let_go(isolated)
    assert where(first.pid) == (f"{room}/{place}" if again else room)
    release(freezer, first.pid, place)
    assert where(first.pid) == room
    assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


def test_it_stands_within_an_isolation_that_is_let_go(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    isolated = cgroups.child(room, "isolate", first.pid, 1)
    cgroups.create(isolated)
    cgroups.move(isolated, first.pid)
    place = stop(freezer, first.pid)
    assert where(first.pid) == f"{isolated}/{place}"

    cgroups.let_go(isolated)
    assert is_held(freezer, first.pid, place)
    assert stands(where(first.pid))

    release(freezer, first.pid, place)
    assert where(first.pid) == room
    assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


def test_within_a_threaded_cgroup(room: str, freezer: LinuxThrottler, first: Family) -> None:
    threaded = f"{room}/threaded"
    os.mkdir(threaded)
    cgroups.write(threaded, cgroups.TYPE, "threaded")
    cgroups.move(threaded, first.pid)

    place = stop(freezer, first.pid)
    assert where(first.pid) == f"{threaded}/{place}"
    assert stands(where(first.pid))
    assert is_held(freezer, first.pid, place)

    release(freezer, first.pid)
    assert where(first.pid) == threaded


def test_the_other_users_descendants_run_on(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    theirs, ours = first.child("user"), first.child()

    place = stop(freezer, first.pid, frozenset({0}))
    assert (where(theirs), where(ours)) == (room, f"{room}/{place}")

    stop(freezer, first.pid, frozenset({0, NOBODY}))
    assert where(theirs) == f"{room}/{place}"
    release(freezer, first.pid)


def test_a_descendant_that_nobody_may_touch_runs_on(room: str, first: Family) -> None:
    child = first.child()
    guard = Guard("", frozenset(), first.pid)  # as if the first one were asyd

    place = stop(throttler("freeze", guard), first.pid)

    assert (where(first.pid), where(child)) == (f"{room}/{place}", room)


def test_a_continue_wakes_what_somebody_has_stopped_with_a_signal(
    freezer: LinuxThrottler, first: Family
) -> None:
    os.kill(first.pid, signal.SIGSTOP)
    suspended(first.pid)

    release(freezer, first.pid)

    resumed(first.pid)


def test_what_a_signal_has_stopped_is_let_go_by_one(freezer: LinuxThrottler) -> None:
    with waiting() as child, closing(LinuxProcess(child.pid, GUARD)) as process:
        process.suspend()
        suspended(child.pid)
        assert freezer.is_held(process, "signal", "")

        freezer.release(process, "signal", "")

        resumed(child.pid)
        assert not freezer.is_held(process, "signal", "")


def test_one_that_ends_just_then_is_no_longer_there(room: str, freezer: LinuxThrottler) -> None:
    with family() as made, closing(LinuxProcess(made.pid, GUARD)) as process:
        cgroups.move(room, made.pid)
        made.end()

        with pytest.raises(NoSuchTarget):
            freezer.stop(process)

    assert os.listdir(room).count(f"asyd-throttle-{process.pid}-{process.start}") == 0


def test_another_process_with_the_pid_is_left_where_it_was(
    room: str, freezer: LinuxThrottler, first: Family
) -> None:
    with closing(LinuxProcess(first.pid, GUARD)) as process:
        process.start -= 1
        with pytest.raises(NoSuchTarget):
            freezer.stop(process)

    assert where(first.pid) == room
    assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


def test_a_zombie_is_not_held(freezer: LinuxThrottler) -> None:
    with zombie() as pid:
        assert not is_held(freezer, pid, "asyd-throttle-1-1")


def test_what_fails_half_way_is_undone(
    room: str, freezer: LinuxThrottler, first: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = first.child()
    move = cgroups.move

    def refuse(directory: str, pid: int) -> None:
        if pid == child and "asyd-" in directory:
            raise PermissionError(1, "Operation not permitted")
        move(directory, pid)

    monkeypatch.setattr(cgroups, "move", refuse)
    with pytest.raises(NotPermitted):
        stop(freezer, first.pid)

    assert where(first.pid) == where(child) == room
    assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


def test_what_cannot_be_lifted_is_told(
    freezer: LinuxThrottler, first: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = stop(freezer, first.pid)

    def refuse(*_: str) -> bool:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(cgroups, "let_go", refuse)
        with pytest.raises(NotPermitted):
            release(freezer, first.pid, place)
        patched.setattr(cgroups, "read", refuse)
        with pytest.raises(NotPermitted):
            is_held(freezer, first.pid, place)
    release(freezer, first.pid, place)


# -- where it cannot be had


def test_without_cgroup_v2() -> None:
    made = throttler("freeze", GUARD, Hierarchies())

    assert made.lack == "--throttle=freeze: cgroup v2 is not mounted"
    with waiting() as child, closing(LinuxProcess(child.pid, GUARD)) as process:
        with pytest.raises(Unsupported):
            made.stop(process)
        with pytest.raises(Unsupported):
            made.is_held(process, "freeze", "asyd-throttle-1-1")


def test_where_asyd_may_not_make_cgroups(tmp_path: Path) -> None:
    made = throttler("freeze", GUARD, Hierarchies(Hierarchy("/proc", "/", frozenset())))

    assert made.lack.startswith("--throttle=freeze: asyd cannot hold a cgroup so: ")


def test_where_proc_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Hierarchies:
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(cgroups, "mounted", fail)

    assert throttler("signal", GUARD).lack == ""
    assert throttler("freeze", GUARD).lack == "--throttle=freeze: cgroup v2 is not mounted"
