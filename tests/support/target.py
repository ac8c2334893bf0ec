"""A process that is what a test makes of it, and the machine that has it alone."""

from __future__ import annotations

from asys.node.platform.base import NoSuchTarget, ProcessHandle
from asys.node.platform.portable import PortablePlatform


class Target:
    """A ProcessHandle that is what a test makes of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start = 100
        self.uid = 0
        self.users = frozenset({0})
        self.parent = 1
        self.zombie = False
        self.name = b"target"
        self.protected = ""
        self.error: Exception | None = None
        """What a signal to it raises."""
        self.ended: Exception | None = None
        """What it raises when it is asked whose it is."""
        self.signals: list[str] = []
        self.handles = 0

    def owners(self) -> frozenset[int]:
        """As ProcessHandle.owners."""
        if self.ended is not None:
            raise self.ended
        return self.users

    def refusal(self) -> str:
        """As ProcessHandle.refusal."""
        return self.protected

    def suspend(self) -> None:
        """As ProcessHandle.suspend."""
        self._signal("stop")

    def resume(self) -> None:
        """As ProcessHandle.resume."""
        self._signal("continue")

    def suspended(self) -> bool:
        """As ProcessHandle.suspended."""
        return self.signals[-1:] == ["stop"]

    def _signal(self, name: str) -> None:
        if self.error is not None:
            raise self.error
        self.signals.append(name)

    def close(self) -> None:
        """As ProcessHandle.close."""
        self.handles -= 1


class Machine(PortablePlatform):
    """Has one process that can be held, with PID 4711."""

    def __init__(self) -> None:
        self.target = Target(4711)

    def can_throttle(self) -> bool:
        """As Platform.can_throttle."""
        return True

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        if pid != self.target.pid:
            raise NoSuchTarget(f"there is no process {pid}")
        self.target.handles += 1
        return self.target
