"""A service manager that does each step when a test says so."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from asys.isa import TaskStatus
from asys.node.platform.base import NoSuchTarget


class Job:
    """A restart that ends when a test sets `result`."""

    def __init__(self) -> None:
        self.result: asyncio.Future[TaskStatus] = asyncio.get_running_loop().create_future()
        self.queued = True
        self.cancels = 0
        self.error: Exception | None = None
        """What cancelling raises."""

    async def wait(self) -> TaskStatus:
        """As RestartJob.wait."""
        return await self.result

    async def cancel(self) -> TaskStatus:
        """As RestartJob.cancel: it ends as cancelled, where `queued`."""
        if self.error is not None:
            raise self.error
        if self.queued and not self.result.done():
            self.result.set_result(TaskStatus.CANCELLED)
        self.cancels += 1
        return self.result.result() if self.result.done() else TaskStatus.PENDING


class Services:
    """ServiceManager. The unit of `name` is `name.unit`."""

    name: ClassVar[str] = "by-hand"

    def __init__(self) -> None:
        self.resolving = asyncio.Event()
        self.restarting = asyncio.Event()
        self.resolving.set()
        self.restarting.set()
        self.protected: set[str] = set()
        self.missing: set[str] = set()
        self.error: Exception | None = None
        """What a restart raises."""
        self.jobs: dict[str, Job] = {}
        """The last restart of each unit."""
        self.restarts = 0
        self.closed = False

    async def resolve(self, name: str) -> str:
        """As ServiceManager.resolve."""
        await self.resolving.wait()
        return f"{name}.unit"

    def refusal(self, unit: str) -> str:
        """As ServiceManager.refusal."""
        return "asyd itself" if unit in self.protected else ""

    async def restart(self, unit: str) -> Job:
        """As ServiceManager.restart."""
        await self.restarting.wait()
        if unit in self.missing:
            raise NoSuchTarget(f"there is no {unit}")
        if self.error is not None:
            raise self.error
        self.restarts += 1
        self.jobs[unit] = Job()
        return self.jobs[unit]

    async def close(self) -> None:
        """As ServiceManager.close."""
        self.closed = True


class SlowServices(Services):
    """Does nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.resolving.clear()
        self.restarting.clear()
