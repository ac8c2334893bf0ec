"""Whose a held process is: as the kernel tells it, and as /proc does where it does not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import psutil
import pytest

from asys.node.platform.base import NoSuchTarget
from asys.node.platform.processes import pidfd
from asys.node.platform.processes.process import Guard, LinuxProcess
from support.children import waiting

STRANGER = Guard("", frozenset(), 0)


@pytest.fixture
def process() -> Iterator[LinuxProcess]:
    with waiting() as child:
        held = LinuxProcess(child.pid, STRANGER)
        yield held
        held.close()


def expected(process: LinuxProcess) -> set[int]:
    uids = psutil.Process(process.pid).uids()
    return {uids.real, uids.effective, uids.saved}


def test_the_uids_of_a_process(process: LinuxProcess) -> None:
    assert set(process.owners()) == expected(process)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_a_kernel_that_does_not_tell(
    process: LinuxProcess, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pidfd, "_ioctl", refuse)
    assert pidfd.owners(0) is None
    assert set(process.owners()) == expected(process)


def test_an_answer_without_uids(process: LinuxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_fd: int, _request: int, buffer: bytearray) -> None:
        buffer[0] = 0

    monkeypatch.setattr(pidfd, "_ioctl", answer)
    assert pidfd.owners(0) is None
    assert set(process.owners()) == expected(process)


@pytest.mark.parametrize("by_proc", [False, True])
def test_a_process_that_has_gone(monkeypatch: pytest.MonkeyPatch, by_proc: bool) -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, STRANGER)
        child.kill()
        child.wait()
        if by_proc:
            monkeypatch.setattr(pidfd, "owners", lambda _fd: None)
        with pytest.raises(NoSuchTarget):
            process.owners()
        process.close()
