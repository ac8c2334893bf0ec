"""Waiting for a restart, but not for ever."""

from __future__ import annotations

import asyncio

from asys.isa import TaskStatus
from asys.node.platform.base import RestartJob

SECONDS = 60
"""Deadline for what takes milliseconds on an idle machine; deadlines of managers under test too."""


async def outcome(job: RestartJob) -> TaskStatus:
    """How a restart ended. TimeoutError where nobody says so."""
    async with asyncio.timeout(SECONDS):
        return await job.wait()
