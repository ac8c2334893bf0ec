"""Short work that would hold the event loop all the same: done by a thread that nobody waits for.

For what takes milliseconds in the kernel, as moving processes between cgroups does. One is done at
a time, whoever asks: of two that move a process at once, the one could take it out of where the
other has just put it. It is no place for a disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

T = TypeVar("T")

_turn: Final = threading.Lock()


async def beside(work: Callable[[], T], name: str) -> T:
    """What `work` gives or raises; `name` is the thread's. Cancelling does not stop the work.

    No executor: it would be waited for when asyd ends.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            with _turn:
                result = work()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(outcome)
