"""`--throttle=signal`: whether a process is stopped, as the kernel tells it thread by thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from asys.node.platform import procfs
from asys.node.platform.base import NoSuchTarget, ProcessHandle
from asys.node.platform.portable import PortablePlatform
from asys.node.platform.processes import process as processes
from asys.node.platform.processes.process import Guard, LinuxProcess, is_stopped
from asys.node.platform.processes.signals import SignalThrottler
from asys.node.platform.processes.throttles import throttler
from support.children import resumed, suspended, waiting, zombie
from support.target import Target

GUARD = Guard("", frozenset(), 0)


def opened(pid: int) -> LinuxProcess:
    """A handle."""
    return LinuxProcess(pid, GUARD)


def test_a_process_is_held_until_anybody_continues_it() -> None:
    by = throttler("signal", GUARD)
    assert (by.quick, by.lack) == (True, "")
    with waiting() as child, closing(opened(child.pid)) as process:
        assert not by.is_held(process, "signal", "")

        assert by.stop(process) == ""
        suspended(child.pid)
        assert by.is_held(process, "signal", "")

        os.kill(child.pid, signal.SIGCONT)
        resumed(child.pid)
        assert not by.is_held(process, "signal", "")
        by.release(process, "signal", "")


def test_nobody_is_not_held() -> None:
    by = throttler("signal", GUARD)

    assert not by.is_held(None, "signal", "")
    by.release(None, "signal", "")


def test_a_process_whose_first_thread_has_ended_is_held_by_the_others() -> None:
    program = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            with closing(opened(child.pid)) as process:
                process.suspend()
                while not process.suspended():
                    pass  # a signal that is sent is one thing, threads that stand another
                process.resume()
                while process.suspended():
                    pass
        finally:
            child.kill()


def test_a_process_that_has_ended_is_not_there() -> None:
    with waiting() as child:
        process = opened(child.pid)
    with closing(process), pytest.raises(NoSuchTarget):
        process.suspended()


def test_another_process_with_the_pid_is_not_it() -> None:
    with waiting() as child, closing(opened(child.pid)) as process:
        process.start -= 1
        with pytest.raises(NoSuchTarget):
            process.suspended()


def test_a_zombie_is_not_stopped() -> None:
    with zombie() as pid, closing(opened(pid)) as process:
        assert not process.suspended()


def test_a_thread_that_ends_meanwhile_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    read = procfs.read_small

    def vanish(path: str, size: int, dir_fd: int | None = None) -> bytes:
        if path.endswith("/status"):
            raise ProcessLookupError(3, "No such process")
        return read(path, size, dir_fd)

    with waiting() as child, closing(opened(child.pid)) as process:
        monkeypatch.setattr(processes, "read_small", vanish)
        assert not process.suspended()


STATUS = b"Name:\tcat\nState:\t%s\nSigPnd:\t%s\nShdPnd:\t%s\nSigBlk:\t0000000000000000\n"
STOP, NONE, OTHER = b"0000000000040000", b"0000000000000000", b"0000000000000200"


@pytest.mark.parametrize(
    ("state", "own", "shared", "stopped"),
    [
        (b"T (stopped)", NONE, NONE, True),
        (b"t (tracing stop)", NONE, NONE, True),
        (b"D (disk sleep)", NONE, NONE, True),
        (b"S (sleeping)", NONE, NONE, False),
        (b"R (running)", OTHER, OTHER, False),
        (b"R (running)", NONE, STOP, True),
        (b"S (sleeping)", STOP, NONE, True),
        (b"Z (zombie)", NONE, NONE, False),
    ],
)
def test_what_the_kernel_says(state: bytes, own: bytes, shared: bytes, stopped: bool) -> None:
    assert is_stopped(STATUS % (state, own, shared)) == stopped


# -- a system that knows nothing else


def test_a_system_without_cgroups_has_signals_alone() -> None:
    by = PortablePlatform().throttler("freeze")
    assert isinstance(by, SignalThrottler)
    assert by.lack == "--throttle=freeze needs Linux with cgroups"

    by = PortablePlatform().throttler("signal")
    target = Target(7)
    process: ProcessHandle = target
    assert (by.lack, by.quick, by.stop(process)) == ("", True, "")
    assert by.is_held(process, "signal", "")
    by.release(process, "signal", "")
    by.release(None, "signal", "")
    assert not by.is_held(process, "signal", "")
    assert not by.is_held(None, "signal", "")
    assert target.signals == ["stop", "continue"]
