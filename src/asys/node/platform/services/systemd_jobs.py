"""Jobs in systemd's queue: how they end, and when one may be taken out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from asys.isa import TaskStatus
from asys.node.platform.services.dbus import DBusConnection

EARLY_RESULTS: Final = 16
"""Ended jobs of one unit that are remembered while its RestartUnit has no answer yet."""

JOB: Final = "org.freedesktop.systemd1.Job"
UNIT: Final = "org.freedesktop.systemd1.Unit"
SERVICE_UNIT: Final = "org.freedesktop.systemd1.Service"
"""Interfaces of what systemd has."""

GONE: Final = {
    "org.freedesktop.systemd1.NoSuchJob",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownMethod",
}
"""What systemd says of a job that has ended."""


class SystemdJob:
    """A job in systemd's queue. `path` is its D-Bus object, unique until the machine reboots."""

    def __init__(
        self, path: str, unit: str, asked_ns: int, connection: DBusConnection | None = None
    ) -> None:
        self.path = path
        self.unit = unit
        self.asked_ns = asked_ns
        self.first_asked_ns: Final = asked_ns
        """When the first restart was asked for that became this job."""
        self.connection = connection
        """On which its JobRemoved is to come."""
        self.canceller: Callable[[SystemdJob], Awaitable[None]] | None = None
        """What takes it out of the queue where it may."""
        self._ended: asyncio.Future[TaskStatus] = asyncio.get_running_loop().create_future()

    @property
    def status(self) -> TaskStatus:
        """PENDING, or how it ended."""
        return self._ended.result() if self._ended.done() else TaskStatus.PENDING

    def finish(self, status: TaskStatus) -> None:
        """Sets how it ended; the first time counts."""
        if not self._ended.done():
            self._ended.set_result(status)

    async def wait(self) -> TaskStatus:
        """As RestartJob.wait(). May be cancelled and called again."""
        return await asyncio.shield(self._ended)

    async def cancel(self) -> TaskStatus:
        """As RestartJob.cancel(). systemd sends JobRemoved before it answers Cancel."""
        if self.canceller is not None and not self._ended.done():
            await self.canceller(self)
        return self.status


class Asking:
    """A unit whose RestartUnit is under way, so that a job may end before its name is known."""

    def __init__(self) -> None:
        self.calls = 0
        self.ended: dict[str, TaskStatus] = {}
        self.forgot = False

    def remember(self, path: str, status: TaskStatus) -> None:
        """Keeps how a job ended; the oldest makes room."""
        if len(self.ended) >= EARLY_RESULTS:
            del self.ended[next(iter(self.ended))]
            self.forgot = True
        self.ended[path] = status
