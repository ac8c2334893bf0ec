"""An isolator that isolates nothing, and a machine with a few processes that can be."""

from __future__ import annotations

import threading

from asys.node.platform.base import Isolated, NoSuchTarget, ProcessHandle
from asys.node.platform.portable import PortablePlatform
from support.target import Target


class MadeIsolator:
    """An Isolator. `error` is what each call raises; `held` clear makes them wait."""

    def __init__(self, lack: str = "") -> None:
        self.lack = lack
        self.there: dict[tuple[int, int], bool] = {}
        """What stands, and whether loopback is kept."""
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.held = threading.Event()
        self.held.set()
        self.busy = threading.Lock()
        self.closed = False

    def _call(self, what: str) -> None:
        assert self.busy.acquire(blocking=False), "two at once"
        try:
            self.held.wait()
            self.calls.append(what)
            if self.error is not None:
                raise self.error
        finally:
            self.busy.release()

    def isolate(self, process: ProcessHandle, *, keep_loopback: bool) -> None:
        """As Isolator.isolate."""
        self._call(f"isolate {process.pid}")
        self.there[process.pid, process.start] = keep_loopback

    def release(self, pid: int, start: int) -> bool:
        """As Isolator.release."""
        self._call(f"release {pid}")
        return self.there.pop((pid, start), None) is not None

    def recover(self) -> tuple[Isolated, ...]:
        """As Isolator.recover."""
        self._call("recover")
        return tuple(Isolated(*where, keep) for where, keep in self.there.items())

    def name(self, pid: int, start: int) -> str:
        """As Isolator.name."""
        return f"name of {pid}"

    def close(self) -> None:
        """As Isolator.close."""
        self.closed = True


class Machine(PortablePlatform):
    """Has the processes that a test puts there."""

    def __init__(self) -> None:
        self.targets = {pid: Target(pid) for pid in (4711, 4712, 4713)}

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        if pid not in self.targets:
            raise NoSuchTarget(f"there is no process {pid}")
        self.targets[pid].handles += 1
        return self.targets[pid]
