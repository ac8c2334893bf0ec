"""Processes stopped and continued by signals, which is what a node does where it is not told else.

Only the process itself is stopped, with all its threads; its descendants run on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from asys.node.platform.base import ProcessHandle

SIGNAL: Final = "signal"


class SignalThrottler:
    """A Throttler of a system that knows no other way."""

    quick = True

    def __init__(self, how: str = SIGNAL) -> None:
        self.how = how
        self.lack = "" if how == SIGNAL else f"--throttle={how} needs Linux with cgroups"

    def stop(self, process: ProcessHandle, users: Collection[int] | None = None) -> str:
        """As Throttler.stop."""
        process.suspend()
        return ""

    def release(self, process: ProcessHandle | None, how: str, place: str) -> None:
        """As Throttler.release."""
        if process is not None:
            process.resume()

    def is_held(self, process: ProcessHandle | None, how: str, place: str) -> bool:
        """As Throttler.is_held."""
        return process is not None and process.suspended()
