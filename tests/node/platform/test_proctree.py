"""Who started whom: real processes, compared with what ps says of them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from asys.isa import ProcessFlags, ProcessTree, TreeProcess
from asys.isa.diagnostics import MOST_PROCESSES
from asys.node.platform.base import NoSuchTarget, PlatformError, SystemFailure
from asys.node.platform.processes.proclist import list_by_scandir
from asys.node.platform.processes.proctree import ProcfsTrees
from asys.protocol.status import SW
from support.kin import in_order, kin

T = TypeVar("T")


@pytest.fixture
def trees() -> Iterator[ProcfsTrees]:
    made = ProcfsTrees()
    yield made
    made.close()
    made.close()


def run(steps: Generator[None, None, T]) -> tuple[T, int]:
    """What a generator returns, and in how many steps."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value, count
        count += 1


def look(trees: ProcfsTrees, pid: int, depth: int = 0) -> ProcessTree:
    tree, _ = run(trees.tree(pid, depth, {}))
    return ProcessTree.unpack(tree.payload)


def below(found: ProcessTree) -> list[tuple[int, int]]:
    """PID and levels below the target, from the target on."""
    first = found.processes[found.index]
    return [(one.pid, one.depth - first.depth) for one in found.processes[found.index :]]


def test_a_tree_in_its_order(trees: ProcfsTrees) -> None:
    with kin([[[], [[], []]], [], [[]]]) as pids:
        found = look(trees, pids[0])
        assert below(found) == in_order(pids)
        assert (found.total, found.count) == (found.index + 9, len(found.processes))
        middle = look(trees, pids[1][0])
        assert below(middle) == in_order(pids[1])
        assert [one.pid for one in middle.processes[: middle.index]] == [
            *(one.pid for one in found.processes[: found.index]),
            pids[0],
        ]


def test_ancestors_are_those_that_psutil_sees(trees: ProcfsTrees) -> None:
    found = look(trees, os.getpid())
    above = [one.pid for one in psutil.Process().parents()]
    assert [one.pid for one in found.processes[: found.index]] == above[::-1]
    for parent, child in pairwise(found.processes[: found.index + 1]):
        assert child.ppid == parent.pid
        assert child.depth == parent.depth + 1
    assert found.processes[0].depth == 0


@pytest.mark.parametrize(("depth", "count"), [(1, 2), (2, 3), (3, 4), (16, 17), (0, 17), (255, 21)])
def test_so_many_levels_are_shown(trees: ProcfsTrees, depth: int, count: int) -> None:
    shape: list[object] = []
    for _ in range(20):
        shape = [shape]
    with kin(shape) as pids:
        found = look(trees, pids[0], depth)
        assert len(below(found)) == count
        assert found.total == found.index + 21
        assert below(found) == in_order(pids)[:count]


def test_the_deepest_are_left_out_first(trees: ProcfsTrees) -> None:
    # 100 + 300 on two levels, and more on the third than there is room for.
    with kin([[[], [[]], [[]]] for _ in range(100)] + [[[]] for _ in range(2)]) as pids:
        every = in_order(pids)
        assert len(every) == 1 + 102 + 302 + 200
        found = look(trees, pids[0])
        shown = below(found)
        assert found.count == MOST_PROCESSES
        assert found.total == found.index + len(every)
        room = MOST_PROCESSES - found.index - 1 - 102 - 302
        third = [one for one in every if one[1] == 3][:room]
        assert shown == [one for one in every if one[1] < 3 or one in third]


def test_what_ps_says(trees: ProcfsTrees) -> None:
    with kin([[], []]) as pids:
        own = [one for one, _ in in_order(pids)]
        found = [one for one in look(trees, pids[0]).processes if one.pid in own]
        lines = subprocess.run(
            ["ps", "-o", "pid=,ppid=,euid=,nlwp=,state=,comm=", "-p", ",".join(map(str, own))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert [
            (one.pid, one.ppid, one.uid, one.threads, one.state, one.name.raw) for one in found
        ] == [
            (int(pid), int(ppid), int(uid), int(threads), state, name)
            for pid, ppid, uid, threads, state, name in (line.split() for line in lines)
        ]


def own(found: ProcessTree) -> TreeProcess:
    return found.processes[found.index]


def test_threads_memory_and_owner(trees: ProcfsTrees) -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(5)]
    for one in threads:
        one.start()
    try:
        me = own(look(trees, os.getpid()))
        assert me.threads == psutil.Process().num_threads()
    finally:
        end.set()
    for one in threads:
        one.join()
    assert me.uid == os.geteuid()
    assert (ProcessFlags.ROOT in me.flags) == (os.geteuid() == 0)
    share = psutil.Process().memory_info().rss * 100 // psutil.virtual_memory().total
    assert abs(me.memory_percent - share) <= 1


def test_a_zombie_is_shown(trees: ProcfsTrees) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = own(look(trees, child.pid))
    assert (found.state, ProcessFlags.ZOMBIE in found.flags) == ("Z", True)
    assert found.name.raw == "true"
    child.wait()
    with pytest.raises(NoSuchTarget):
        look(trees, child.pid)


def test_a_name_may_be_anything(trees: ProcfsTrees, tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = os.fsencode(tmp_path) + b"/a) S (\xff\nb"
    os.symlink(sleep, program)
    child = subprocess.Popen([program, b"3600"])
    try:
        assert own(look(trees, child.pid)).name.raw == "a) S (\ufffd\nb"
    finally:
        child.kill()
        child.wait()


def test_cpu_is_what_the_sampler_has_seen(trees: ProcfsTrees) -> None:
    with kin([[]]) as pids:
        tree, _ = run(trees.tree(pids[0], 0, {}))
        start = tree.starts[pids[0]]
        busy = {start << 32 | pids[0]: 12.5, (start + 10**6) << 32 | pids[1][0]: 99.0}
        tree, _ = run(trees.tree(pids[0], 0, busy))
        found = ProcessTree.unpack(tree.payload)
        assert own(found).cpu_percent == 12.5
        assert found.processes[found.index + 1].cpu_percent == 0
        assert set(tree.starts) == {one.pid for one in found.processes}


def test_it_comes_in_small_steps(trees: ProcfsTrees) -> None:
    _, steps = run(trees.tree(os.getpid(), 0, {}))
    assert steps > len(psutil.pids()) // 2


def test_processes_that_are_not_there(trees: ProcfsTrees) -> None:
    for pid in (0x7FFFFFFF, 0xFFFFFFFF):
        assert not trees.holds(pid)
        with pytest.raises(NoSuchTarget):
            look(trees, pid)
    assert trees.holds(os.getpid())


def test_a_thread_is_no_process(trees: ProcfsTrees) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert not trees.holds(thread.native_id)
    finally:
        end.set()
        thread.join()


def test_one_that_ends_meanwhile_is_left_out(trees: ProcfsTrees) -> None:
    with kin([[], []]) as pids:
        mine = [one for one, _ in in_order(pids)]
        steps = trees.tree(pids[0], 0, {})
        gone = mine[1]
        killed = False
        read = trees._read

        def reading(name: str, size: int) -> bytes:
            nonlocal killed
            if name.endswith("/status") and not killed:  # all have been listed
                killed = True
                os.kill(gone, 9)
                os.kill(mine[0], 0)
            return b"" if name == f"{gone}/status" else read(name, size)

        trees._read = reading  # type: ignore[method-assign]  # it ends between two reads
        tree, _ = run(steps)
        found = ProcessTree.unpack(tree.payload)
        assert [one for one, _ in below(found)] == [mine[0], mine[2]]
        assert found.total == found.count == found.index + 2


# /proc as it may be: a directory that says what a test wants.


def fake(root: Path, pid: int, parent: int, name: bytes = b"x", rest: str | None = None) -> None:
    (root / str(pid)).mkdir()
    numbers = rest if rest is not None else " ".join(["0"] * 40)
    (root / str(pid) / "stat").write_bytes(
        b"%d (%b) S %d %b" % (pid, name, parent, numbers.encode())
    )
    (root / str(pid) / "status").write_text(f"Name:\tx\nTgid:\t{pid}\nUid:\t7\t8\t9\t10\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def faked(root: Path) -> ProcfsTrees:
    return ProcfsTrees(str(root), listing=list_by_scandir)


def test_parents_that_go_in_a_circle_end(root: Path) -> None:
    fake(root, 5, 7)
    fake(root, 6, 5)
    fake(root, 7, 6)
    trees = faked(root)
    found = look(trees, 5)
    assert [one.pid for one in found.processes] == [6, 7, 5]
    assert (found.index, found.total) == (2, 3)
    trees.close()


def test_a_parent_that_cannot_be_seen(root: Path) -> None:
    fake(root, 5, 4)
    trees = faked(root)
    found = look(trees, 5)
    assert [(one.pid, one.ppid, one.uid, one.depth) for one in found.processes] == [(5, 4, 8, 0)]
    trees.close()


def test_more_ancestors_than_there_is_room_for(root: Path) -> None:
    for pid in range(1, 601):
        fake(root, pid, pid - 1)
    trees = faked(root)
    found = look(trees, 580)
    assert (found.total, found.count, found.index) == (600, 512, 511)
    assert [one.pid for one in found.processes] == list(range(69, 581))
    assert found.processes[-1].depth == 255  # it saturates
    trees.close()


def test_the_process_itself_ends_meanwhile(root: Path) -> None:
    fake(root, 5, 1)
    fake(root, 6, 5)
    (root / "5" / "status").unlink()
    trees = faked(root)
    with pytest.raises(NoSuchTarget, match="has ended"):
        look(trees, 5)
    trees.close()


def test_what_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlatformError, match="opening"):
        ProcfsTrees(str(root / "none"))
    fake(root, 5, 1, rest="1 2 3")
    trees = faked(root)
    with pytest.raises(SystemFailure, match="not as expected") as caught:
        look(trees, 5)
    assert caught.value.sw == SW.NODE_IO_ERROR

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENFILE, "Too many open files in system")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(SystemFailure, match="Too many open files"):
        look(trees, 5)
    monkeypatch.undo()
    trees.close()
