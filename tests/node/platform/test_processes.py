"""Processes held by pidfd: real ones, and the kernel's own answers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from asys.node.platform import procfs
from asys.node.platform.base import NoSuchTarget, NotPermitted, SystemFailure, Unsupported
from asys.node.platform.processes import process as processes
from asys.node.platform.processes.process import (
    Guard,
    LinuxProcess,
    ancestors,
    can_hold_processes,
)
from support.children import gone, resumed, suspended, waiting, zombie

NOBODY = 65534
STRANGER = Guard("", frozenset({0}), pid=0)
"""A guard that takes none of the test's children for asyd's."""


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_a_process_is() -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, STRANGER)
        expected = psutil.Process(child.pid)
        assert process.pid == child.pid
        assert process.parent == expected.ppid() == os.getpid()
        assert process.uid == expected.uids().effective
        assert process.name == b"cat"
        assert not process.zombie
        fields = Path(f"/proc/{child.pid}/stat").read_text().split()
        assert process.start == int(fields[21])
        assert process.refusal() == ""
        process.close()


@pytest.mark.root
def test_whose_a_process_is() -> None:
    with waiting(user=NOBODY) as child:
        process = LinuxProcess(child.pid, STRANGER)
        process.close()
        assert process.uid == NOBODY


def test_suspend_and_resume() -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, STRANGER)
        for _ in range(2):
            process.suspend()
            suspended(child.pid)
            process.suspend()
            assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
            process.resume()
            resumed(child.pid)
            assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
        process.resume()
        process.close()
        assert child.poll() is None


@pytest.mark.parametrize("pid", [0, 1 << 31, 0xFFFFFFFF, (1 << 31) - 1])
def test_numbers_that_are_no_process(pid: int) -> None:
    before = _descriptors()
    with pytest.raises(NoSuchTarget):
        LinuxProcess(pid, STRANGER)
    assert _descriptors() == before


def test_a_process_that_has_ended() -> None:
    with pytest.raises(NoSuchTarget):
        LinuxProcess(gone(), STRANGER)


def test_a_thread_is_no_process() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert thread.native_id != os.getpid()
        with pytest.raises(NoSuchTarget):
            LinuxProcess(thread.native_id, STRANGER)
    finally:
        go.set()
        thread.join()


def test_a_zombie() -> None:
    with zombie() as pid:
        process = LinuxProcess(pid, STRANGER)
        assert process.zombie
        process.suspend()  # nothing is left to stop, and nobody else is hit
        process.close()


LEADERLESS = """
import ctypes, os, sys, threading
def go_on():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=go_on).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_no_zombie() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", LEADERLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 60
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            assert child.poll() is None
            assert time.monotonic() < deadline
        process = LinuxProcess(child.pid, STRANGER)
        process.close()
        assert not process.zombie
    finally:
        child.kill()
        child.communicate()


def test_a_process_that_ends_while_it_is_held() -> None:
    with waiting() as child:
        process = LinuxProcess(child.pid, STRANGER)
        child.kill()
        child.wait()
        for act in (process.suspend, process.resume):
            with pytest.raises(NoSuchTarget):
                act()
        process.close()
        process.close()


def test_a_process_that_ends_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    read = procfs.read_small
    with waiting() as child:

        def read_and_end(path: str, size: int) -> bytes:
            child.kill()
            child.wait()
            return read(path, size)

        monkeypatch.setattr(processes, "read_small", read_and_end)
        before = _descriptors()
        with pytest.raises(NoSuchTarget):
            LinuxProcess(child.pid, STRANGER)
        assert _descriptors() == before


def test_a_pid_that_was_given_away_while_it_was_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read may be another's then; a signal still goes to the one that is held, or none."""
    read = procfs.read_small
    with waiting() as child, waiting() as other:

        def read_other(path: str, size: int) -> bytes:
            child.kill()
            child.wait()
            return read(path.replace(str(child.pid), str(other.pid)), size)

        monkeypatch.setattr(processes, "read_small", read_other)
        handle = LinuxProcess(child.pid, STRANGER)
        with pytest.raises(NoSuchTarget):
            handle.suspend()
        handle.close()
        assert psutil.Process(other.pid).status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EINVAL, NoSuchTarget),
        (errno.ENOENT, NoSuchTarget),
        (errno.ESRCH, NoSuchTarget),
        (errno.EPERM, NotPermitted),
        (errno.ENOSYS, Unsupported),
        (errno.EMFILE, SystemFailure),
        (errno.ENOMEM, SystemFailure),
    ],
)
def test_what_a_kernel_may_say(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.pidfd_open", refuse)
    with pytest.raises(kind):
        LinuxProcess(os.getpid(), STRANGER)


@pytest.mark.root
def test_what_asyd_may_not_do_is_not_permitted() -> None:
    with waiting(user=NOBODY) as child:
        os.seteuid(NOBODY - 1)
        try:
            process = LinuxProcess(child.pid, STRANGER)
            for act in (process.suspend, process.resume):
                with pytest.raises(NotPermitted):
                    act()
            process.close()
        finally:
            os.seteuid(0)
        assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED


def test_ancestors_are_what_psutil_says() -> None:
    me = psutil.Process()
    assert ancestors() == {me.pid, *(parent.pid for parent in me.parents())}


def test_ancestors_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_path: str, _size: int) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "hidden")

    monkeypatch.setattr(processes, "read_small", hidden)
    assert ancestors() == {os.getpid(), 1}


def test_processes_can_be_held_here() -> None:
    before = _descriptors()
    assert can_hold_processes()
    assert _descriptors() == before


def _lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.pidfd_open")


def _forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise PermissionError(errno.EPERM, "seccomp")

    monkeypatch.setattr("os.pidfd_open", refuse)


def _without_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("signal.pidfd_send_signal")


def _old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _number: int) -> None:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("signal.pidfd_send_signal", refuse)


@pytest.mark.parametrize("change", [_lacking, _forbidden, _without_signals, _old_kernel])
def test_where_processes_cannot_be_held(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = _descriptors()
    change(monkeypatch)
    assert not can_hold_processes()
    assert _descriptors() == before
