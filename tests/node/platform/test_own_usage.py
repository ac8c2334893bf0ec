"""What asyd has of the machine, beside what psutil says of the same process."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asys.node.platform.own_usage import OwnUsage


@pytest.fixture
def own() -> Iterator[OwnUsage]:
    made = OwnUsage()
    yield made
    made.close()
    made.close()


def test_as_psutil_has_it(own: OwnUsage) -> None:
    process = psutil.Process()
    used, memory, cpu = own.read(), process.memory_info(), process.cpu_times()
    assert used.resident_bytes == pytest.approx(memory.rss, rel=0.05)
    assert used.virtual_bytes == pytest.approx(memory.vms, rel=0.05)
    assert used.cpu_seconds == pytest.approx(cpu.user + cpu.system, abs=0.5)
    assert used.open_files == process.num_fds() - 1  # the one with which psutil looks
    assert used.max_files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert used.major_faults == resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    assert 0 <= time.time() - own.started < 600


def test_what_is_opened_is_counted(own: OwnUsage) -> None:
    before = own.read().open_files
    assert before is not None
    with contextlib.ExitStack() as stack:
        for fd in os.pipe():
            stack.callback(os.close, fd)
        assert own.read().open_files == before + 2
    assert own.read().open_files == before


def test_no_descriptor_is_needed_to_read_it(own: OwnUsage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pipe = os.pipe()
    highest = max(pipe) + 1
    filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                filler.append(os.dup(0))
        used = own.read()
        assert used.open_files
        assert used.resident_bytes
        assert used.max_files == highest
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in (*pipe, *filler):
            os.close(fd)


def test_without_a_limit(own: OwnUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert own.read().max_files is None


def test_where_descriptors_have_to_be_counted() -> None:
    """As before Linux 6.2, where the directory has the size 0: all but the one that looks."""
    directory = f"/proc/{os.getpid()}/task"
    assert os.stat(directory).st_size == 0
    own = OwnUsage(descriptors=directory)
    assert own.read().open_files == len(os.listdir(directory)) - 1
    own.close()


@pytest.mark.parametrize("statm", ["missing", "empty", "words", "directory"])
def test_where_the_system_does_not_say(tmp_path: Path, statm: str) -> None:
    path = tmp_path / statm
    if statm == "directory":
        path.mkdir()
    elif statm != "missing":
        path.write_text("" if statm == "empty" else "a b c\n")
    own = OwnUsage(statm=str(path), descriptors=str(tmp_path / "none"))
    used = own.read()
    assert (used.virtual_bytes, used.resident_bytes, used.open_files) == (None, None, None)
    assert used.cpu_seconds > 0
    own.close()
