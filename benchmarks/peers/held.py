"""An asynchronous client that is kept open, for callers that block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

Client = TypeVar("Client")


@contextmanager
def held(
    client: Callable[[], AbstractAsyncContextManager[Client]],
) -> Iterator[tuple[asyncio.Runner, Client]]:
    """The loop that it lives in, and the client. One task enters and leaves it."""
    with asyncio.Runner() as runner:
        leaving = asyncio.Event()
        entered: list[Client] = []

        async def hold(told: asyncio.Event) -> None:
            try:
                async with client() as opened:
                    entered.append(opened)
                    told.set()
                    await leaving.wait()
            finally:
                told.set()

        async def enter() -> asyncio.Task[None]:
            told = asyncio.Event()
            task = asyncio.create_task(hold(told))
            await told.wait()
            if not entered:
                await task  # raises what went wrong
            return task

        async def leave(task: asyncio.Task[None]) -> None:
            leaving.set()
            await task

        task = runner.run(enter())
        try:
            yield runner, entered[0]
        finally:
            runner.run(leave(task))
