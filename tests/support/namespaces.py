"""Network namespaces of a test's own, and work that is done in one of them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000

T = TypeVar("T")


def namespace(stack: ExitStack) -> int:
    """The PID of a process that holds a new one, which goes with it when the stack is closed."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(holder.communicate)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    return holder.pid


def inside(holder: int) -> tuple[str, ...]:
    """A command that runs what stands behind it in the namespace."""
    return ("nsenter", f"--net=/proc/{holder}/ns/net")


def ip(holder: int, *arguments: str) -> str:
    """What `ip` prints there."""
    command = [*inside(holder), "ip", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def enter(holder: int) -> None:
    """Moves this thread, and no other, to the namespace."""
    space = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(space, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(space)


def run_inside(holder: int, work: Callable[[], T]) -> T:
    """Does something there, in a thread of its own, and gives what that gives or raises."""
    results: list[T] = []
    failures: list[BaseException] = []

    def there() -> None:
        try:
            enter(holder)
            results.append(work())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=there, name="inside")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
