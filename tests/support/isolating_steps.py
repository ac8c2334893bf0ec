"""An isolator that is killed in the middle of its work, before the step that an order names.

A program: an order a line of JSON on stdin, "done" or "killed" a line on stdout. Each order is done
by a process of its own, which kills itself; a step is whatever changes something in the kernel.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asys.node.platform.isolation import bpf
from asys.node.platform.isolation.isolator import LinuxIsolator
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.process import Guard, LinuxProcess

GUARD = Guard("", frozenset(), 0)


def count_down(steps: int) -> None:
    """From now on the process dies before its step number `steps`."""
    left = [steps]

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return step

    for module, names in (
        (bpf, ("attach", "detach", "pin", "replace", "update", "delete", "mount", "unmount")),
        (cgroups, ("write",)),
        (os, ("mkdir", "rmdir", "unlink", "rename", "setxattr")),
    ):
        for name in names:
            setattr(module, name, stepping(getattr(module, name)))


def carry_out(order: dict[str, Any]) -> None:
    isolator = LinuxIsolator(Path(order["state_dir"]), GUARD)
    isolator.recover()
    process = LinuxProcess(order["pid"], GUARD)
    count_down(order["step"])
    if order["what"] == "release":
        isolator.release(process.pid, process.start)
    elif order["what"] == "recover":
        LinuxIsolator(Path(order["state_dir"]), GUARD).recover()
    else:
        isolator.isolate(process, keep_loopback=order["what"] == "isolate, loopback kept")


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            carry_out(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        said = "killed" if killed else "done" if status == 0 else f"failed with {status}"
        print(said, flush=True)


if __name__ == "__main__":
    main()
