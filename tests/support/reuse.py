"""A process with a PID of one's choice: what the kernel else does by chance, and rarely."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PROGRAM: Final = """
import ctypes, errno, os, signal, struct, sys, time
syscall = ctypes.CDLL(None, use_errno=True).syscall
CLONE3 = 435
pid = int(sys.argv[1])
set_tid = (ctypes.c_int * 1)(pid)
arguments = struct.pack(
    "=11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(set_tid), 1, 0
)
end = time.monotonic() + 60
while True:
    made = syscall(CLONE3, arguments, len(arguments))
    if made >= 0:
        break
    if ctypes.get_errno() != errno.EEXIST or time.monotonic() > end:
        sys.exit(f"clone3: {os.strerror(ctypes.get_errno())}")
if made == 0:
    os.execlp("sleep", "sleep", "infinity")
print("made", flush=True)
sys.stdin.read()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
"""


@contextmanager
def process_with_pid(pid: int) -> Iterator[None]:
    """A sleeping process with this PID, which nobody has now. Needs CAP_SYS_ADMIN.

    When somebody else got the PID meanwhile, waits until that process has ended.
    """
    helper = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = helper.stdout.readline() if helper.stdout is not None else ""
        if said != "made\n":
            _, error = helper.communicate()
            raise RuntimeError(f"no process with PID {pid}: {error}")
        yield
    finally:
        helper.communicate()
