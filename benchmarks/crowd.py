"""Processes that do nothing: a helper forks them, and they end with it whatever happens.

They wait for the end of a pipe whose other end the helper alone holds; the helper waits for the end
of its stdin.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Final

from benchmarks.plan import BenchmarkError

_HELPER: Final = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
waiting, held = os.pipe()
pids = []
for _ in range(int(sys.argv[1])):
    try:
        pid = os.fork()
    except OSError:
        break
    if not pid:
        os.close(held)
        os.read(waiting, 1)
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.read()
"""


class Crowd:
    """`count` sleeping processes. BenchmarkError when the machine does not let them be."""

    def __init__(self, count: int) -> None:
        self._helper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HELPER, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        said = self._helper.stdout.readline() if self._helper.stdout is not None else ""
        self.pids = [int(pid) for pid in said.split()]
        if len(self.pids) < count:
            self.close()
            raise BenchmarkError(f"only {len(self.pids)} of {count} processes could be started")

    def close(self) -> None:
        """Ends them all; a suspended one as well."""
        if self._helper.poll() is None:  # it waits for none of them, so their PIDs are still theirs
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
        self._helper.communicate()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
