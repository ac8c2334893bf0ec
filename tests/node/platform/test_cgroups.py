"""Control groups: what is mounted, who is in one, and children that come and go."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.node.platform.processes import cgroups
from asys.node.platform.processes.cgroups import Hierarchy
from support.cgroup import cgroup, unified
from support.isolating import isolation_missing

needs_cgroups = pytest.mark.skipif(
    os.geteuid() != 0 or cgroups.mounted().unified is None, reason="needs root and cgroups"
)

MOUNTINFO = """\
22 1 0:20 / / rw - ext4 /dev/root rw
31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 /below /mnt/a\\040b rw - cgroup2 cgroup2 rw
35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
36 31 0:31 /deeper/still /mnt/c rw - cgroup2 cgroup2 rw
37 31 0:29 /some /mnt/cpu rw - cgroup cgroup rw,cpu,cpuacct
38 22 0:40 / /sys/fs/bpf rw - bpf bpf rw,mode=700
"""


def test_what_is_mounted(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    found = cgroups.mounted(str(path))
    assert found.unified == Hierarchy("/sys/fs/cgroup/unified", "/", frozenset())
    assert set(found.version1) == {"cpu", "cpuacct", "name=systemd"}
    assert found.version1["cpu"] == found.version1["cpuacct"]
    assert found.version1["cpu"].point == "/sys/fs/cgroup/cpu,cpuacct"
    assert cgroups.mount_points("bpf", str(path)) == ["/sys/fs/bpf"]
    assert cgroups.mount_points("cgroup2", str(path))[0] == "/mnt/a b"
    path.write_text("")
    assert cgroups.mounted(str(path)) == cgroups.Hierarchies()


@pytest.mark.parametrize(
    ("root", "path", "directory"),
    [
        ("/", "/", "/mnt"),
        ("/", "/a.slice/b", "/mnt/a.slice/b"),
        ("/a.slice", "/a.slice/b", "/mnt/b"),
        ("/a.slice", "/a.slice", "/mnt"),
        ("/..", "/../b", None),
        ("/a.slice", "/a.slices/b", None),
        ("/a.slice", "/", None),
        ("/", "/../b", None),
    ],
)
def test_where_a_cgroup_is(root: str, path: str, directory: str | None) -> None:
    hierarchy = Hierarchy("/mnt", root, frozenset())
    if directory is not None:
        assert hierarchy.directory(path) == directory
        return
    with pytest.raises(OSError, match="is not within /mnt") as caught:
        hierarchy.directory(path)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_which_cgroup_a_process_is_in() -> None:
    text = "3:cpu,cpuacct:/one\n1:name=systemd:/two\n0::/three:four\n"
    assert Hierarchy("", "/", frozenset()).path_in(text) == "/three:four"
    assert Hierarchy("", "/", frozenset({"cpuacct", "cpu"})).path_in(text) == "/one"
    with pytest.raises(OSError, match="in no cgroup of this hierarchy"):
        Hierarchy("", "/", frozenset({"cpu"})).path_in(text)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "infinity"])
    yield process
    process.kill()
    process.wait()


@needs_cgroups
def test_moving_and_freezing(sleeper: subprocess.Popen[bytes]) -> None:
    with cgroup(unified()) as place:
        child = cgroups.child(place, "isolate", sleeper.pid, 7)
        assert cgroups.create(child)
        assert not cgroups.create(child)
        cgroups.move(child, sleeper.pid)
        assert unified().of(sleeper.pid) == child
        assert cgroups.members(child) == [sleeper.pid]
        assert cgroups.freeze(child, 30.0)
        assert cgroups.event(child, "frozen")
        assert not cgroups.wait_frozen(place, 0.0)
        cgroups.thaw(child)
        assert cgroups.let_go(child)
        assert unified().of(sleeper.pid) == place
        assert not os.path.exists(child)
        cgroups.thaw(child)  # nobody is held by what is not there
        assert cgroups.let_go(child)
        with pytest.raises(OSError, match="out of range"):  # no buffer that loses the answer
            cgroups.write(place, cgroups.FREEZE, 2)


@pytest.mark.parametrize("pid", [0, -1])
def test_asyd_itself_is_never_moved(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        cgroups.move("/nowhere", pid)


@needs_cgroups
@pytest.mark.parametrize("outer_first", [True, False])
def test_two_nested_ones_are_let_go_in_either_order(
    sleeper: subprocess.Popen[bytes], outer_first: bool
) -> None:
    with cgroup(unified()) as place:
        outer = cgroups.child(place, "isolate", 1, 2)
        inner = cgroups.child(outer, "throttle", 3, 4)
        for one in (outer, inner):
            cgroups.create(one)
            cgroups.move(one, sleeper.pid)
        if outer_first:
            assert not cgroups.let_go(outer)
            assert cgroups.is_let_go(outer)
            assert cgroups.home(inner) == place
            assert unified().of(sleeper.pid) == inner
            assert not cgroups.let_go(outer)  # once more changes nothing
            assert cgroups.let_go(inner)
        else:
            assert cgroups.let_go(inner)
            assert unified().of(sleeper.pid) == outer
            assert cgroups.let_go(outer)
        assert unified().of(sleeper.pid) == place
        assert not os.path.exists(outer)


@needs_cgroups
def test_a_shell_that_is_used_again_is_none_any_more(sleeper: subprocess.Popen[bytes]) -> None:
    with cgroup(unified()) as place:
        outer = cgroups.child(place, "isolate", 1, 2)
        inner = cgroups.child(outer, "throttle", 3, 4)
        for one in (outer, inner):
            cgroups.create(one)
        cgroups.move(inner, sleeper.pid)
        assert not cgroups.let_go(outer)
        assert not cgroups.create(outer)
        assert not cgroups.is_let_go(outer)
        assert cgroups.let_go(inner)
        assert unified().of(sleeper.pid) == outer
        assert cgroups.let_go(outer)


@needs_cgroups
def test_a_shell_with_two_nested_ones_goes_with_the_last() -> None:
    with cgroup(unified()) as place:
        outer = cgroups.child(place, "isolate", 1, 2)
        nested = [cgroups.child(outer, "throttle", pid, 4) for pid in (3, 5)]
        for one in (outer, *nested):
            cgroups.create(one)
        assert not cgroups.let_go(outer)
        assert cgroups.let_go(nested[0])
        assert os.path.exists(outer)
        assert cgroups.let_go(nested[1])
        assert not os.path.exists(outer)
        assert not cgroups.is_let_go(place)


@needs_cgroups
def test_what_is_busy_for_another_reason_is_an_error(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cgroup(unified()) as place:
        child = cgroups.child(place, "isolate", 1, 2)
        cgroups.create(child)
        cgroups.move(child, sleeper.pid)
        with monkeypatch.context() as patch:
            patch.setattr(cgroups, "_ROUNDS", 3)
            patch.setattr(cgroups, "move", lambda directory, pid: None)  # it does not go
            with pytest.raises(OSError, match="does not get empty") as caught:
                cgroups.let_go(child)
            assert caught.value.errno == errno.EBUSY
            patch.setattr(cgroups, "members", lambda directory: [0])
            with pytest.raises(PermissionError, match="that asyd cannot see"):
                cgroups.let_go(child)


@needs_cgroups
def test_cgroups_are_found_by_their_name() -> None:
    with cgroup(unified()) as place:
        os.mkdir(f"{place}/one")
        made = [f"{place}/asyd-isolate-1-2", f"{place}/one/asyd-isolate-1-2"]
        for one in made:
            cgroups.create(one)
        assert sorted(cgroups.find(place, "asyd-isolate-1-2")) == made
        assert list(cgroups.find(place, "asyd-isolate-1-3")) == []
        assert list(cgroups.find(f"{place}/nowhere", "asyd-isolate-1-2")) == []


PARENT = """
import os, threading, sys, time
def fork():
    pid = os.fork()
    if not pid:
        if not os.fork():
            os.write(1, b"x")
            time.sleep(3600)
        time.sleep(3600)
threading.Thread(target=fork).start()
time.sleep(3600)
"""


@needs_cgroups
def test_a_process_and_its_descendants() -> None:
    with cgroup(unified()) as place:
        process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
        try:
            cgroups.move(place, process.pid)
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"  # the grandchild, of a thread's child
            found = cgroups.tree(process.pid)
            assert len(found) == 3
            assert found[0] == process.pid
            visited: list[int] = []

            def visit(pid: int) -> None:
                visited.append(pid)
                raise ProcessLookupError

            assert cgroups.each_of_tree(process.pid, visit) == set(found)
            assert visited == found
            assert cgroups.start_of(process.pid) > 0
        finally:
            for pid in cgroups.tree(process.pid):
                os.kill(pid, 9)
            process.communicate()
    assert cgroups.tree(process.pid) == []
    assert cgroups.children(process.pid) == []
    assert cgroups.is_zombie(process.pid)


def test_why_nothing_can_be_isolated_is_said() -> None:
    assert isinstance(isolation_missing(), str)
