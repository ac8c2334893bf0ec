"""Short work that would hold the event loop all the same: done by a thread that nobody waits for.

For what takes milliseconds in the kernel, as moving processes between cgroups does. One is done at
a time, whoever asks: of two that move a process at once, the one could take it out of where the
other has just put it. It is no place for a disk. The thread is there from the start: when memory
has run out, none could be started.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_work: Final[queue.SimpleQueue[Callable[[], None]]] = queue.SimpleQueue()
_starting: Final = threading.Lock()
_thread: threading.Thread | None = None


def start() -> None:
    """Starts the thread, where that has not been done; asyd does it before anybody may ask.

    RuntimeError when there is none to be had.
    """
    global _thread
    with _starting:
        if _thread is None:
            # No executor: it would be waited for when asyd ends.
            thread = threading.Thread(target=_run, name="asyd-beside", daemon=True)
            thread.start()
            _thread = thread


async def beside(work: Callable[[], T]) -> T:
    """What `work` gives or raises. Cancelling does not stop the work."""
    start()
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    _work.put(lambda: _do(work, outcome))
    return await asyncio.wrap_future(outcome)


def _do(work: Callable[[], Any], outcome: Future[Any]) -> None:
    try:
        result = work()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _run() -> None:
    while True:
        _work.get()()
