"""The program that runs a vendor's code: one vendor, one process, nothing of asyd's in it.

worker.py DOMAIN FD [PATH ...]

FD is a socket to asyd, or one that listens for it. The paths are asyd's own, where the vendor's
package lies. It starts as a file and finds this very version of `asys`. When asyd hangs up, it
ends at once, whatever its handlers do.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __spec__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import asyncio
import inspect
import os
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from asys.protocol.codec import BadValue, Layout, WrongSize
from asys.protocol.status import SW
from asys.vendor.definition import MAX_REPLY, Vendor, VendorError
from asys.vendor.discovery import find
from asys.vendor.handlers import Refuse, handlers_of
from asys.vendor.wire import (
    FAILED,
    MAX_NOTE,
    MAX_TO_WORKER,
    REQUEST,
    Messages,
    WireError,
    describe,
    message,
    pack_answer,
    pack_hello,
    unpack_request,
)

IN_WORK: Final = 4
"""Requests that are worked on at a time."""

NO_MEMORY: Final = 101
"""Exit status of a worker that itself found no memory."""

_CALLS: Final = 8
"""Calls of an exception that the node's log shows."""

_STACK: Final = 1 << 20
"""Bytes of stack for a thread: they count as memory of the worker."""


class Work:
    """A vendor's handlers behind their wire."""

    def __init__(self, vendor: Vendor, handlers: dict[int, Callable[[Any], Any]]) -> None:
        self._vendor = vendor
        self._handlers = handlers

    async def answer(self, number: int, ins: int, p1: int, p2: int, body: bytes) -> bytes:
        """The ANSWER to a REQUEST; whatever the handler does, short of ending the process."""
        instruction = self._vendor.get(ins)
        if instruction is None:
            return pack_answer(number, SW.NO_SUCH_INSTRUCTION)
        try:
            request = instruction.parse(p1, p2, body)
        except WrongSize:
            return pack_answer(number, SW.WRONG_LENGTH)
        except BadValue:
            return pack_answer(number, SW.INVALID_PAYLOAD)
        handler = self._handlers[ins]
        try:
            if inspect.iscoroutinefunction(handler):
                reply = await handler(request)
            else:
                loop = asyncio.get_running_loop()
                reply = await loop.run_in_executor(None, _alone, handler, request)
                if inspect.isawaitable(reply):
                    reply = await reply
            return pack_answer(number, SW.SUCCESS, reply=_packed(instruction.reply, reply))
        except Refuse as refusal:
            return pack_answer(number, refusal.sw, str(refusal))
        except MemoryError:
            return pack_answer(number, SW.NODE_OUT_OF_MEMORY, f"{instruction.name}: MemoryError")
        except TimeoutError as error:
            return pack_answer(number, SW.NODE_TIMED_OUT, _said(error))
        except Exception as error:
            return pack_answer(number, SW.NODE_ERROR, _said(error))


class _Ended(Exception):
    """A handler raised what would end the process: SystemExit, KeyboardInterrupt."""


def _alone(handler: Callable[[Any], Any], request: Layout) -> Any:
    """Runs a handler in a thread, and lets nothing out of it that asyncio takes for itself."""
    try:
        return handler(request)
    except (StopIteration, StopAsyncIteration) as error:
        raise RuntimeError(f"the handler raised {error!r}") from error
    except Exception:
        raise
    except BaseException as error:
        raise _Ended(f"the handler raised {error!r}") from error


def _packed(declared: type[Layout], reply: object) -> bytes:
    """The bytes of a reply. TypeError, ArgumentError, LayoutError, ValueError: it is not what was
    declared.
    """
    if reply is None and declared.FIXED and not declared.SIZE:
        return b""
    if not isinstance(reply, declared):
        raise TypeError(f"the handler gave {type(reply).__name__} and not {declared.__name__}")
    reply.check()
    packed = reply.pack()
    declared.unpack(packed)
    if len(packed) > MAX_REPLY:
        raise ValueError(f"the reply has {len(packed)} bytes; {MAX_REPLY} go in one message")
    return packed


def _said(error: BaseException) -> str:
    """An exception for the node's log: what and where. Not its text, in which payloads may be."""
    calls = [f"{one.filename}:{one.lineno} in {one.name}" for one in _calls(error)]
    return " < ".join([type(error).__name__, *reversed(calls)])


def _calls(error: BaseException) -> list[traceback.FrameSummary]:
    return traceback.extract_tb(error.__traceback__)[-_CALLS:]


class Wire(asyncio.Protocol):
    """The connection to asyd."""

    def __init__(self, work: Work, hello: bytes) -> None:
        self._work = work
        self._hello = hello
        self._messages = Messages(MAX_TO_WORKER)
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says who is here."""
        self._transport = transport
        self._write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Takes requests; asyd makes sure that there are not too many."""
        try:
            while found := self._messages.feed(data):
                for kind, body in found:
                    self._take(kind, body)
                data = b""  # what is bad behind them comes to light
        except WireError:
            _leave(1)

    def _take(self, kind: int, body: bytes) -> None:
        """A message. WireError."""
        if kind != REQUEST:
            raise WireError(f"a message of type {kind:02X}")
        task = asyncio.get_running_loop().create_task(self._serve(*unpack_request(body)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyd has gone."""
        _leave(0)

    async def _serve(self, number: int, ins: int, p1: int, p2: int, body: bytes) -> None:
        self._write(await self._work.answer(number, ins, p1, p2, body))

    def _write(self, data: bytes) -> None:
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.write(data)


def _leave(status: int) -> None:
    """Ends the process without waiting for a handler that does not."""
    os._exit(status)


def _connection(fd: int) -> socket.socket:
    """The connection to asyd; where it is yet to come, the first."""
    found = socket.socket(fileno=fd)
    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        with found:
            found.setblocking(True)
            return found.accept()[0]
    return found


async def _work(connection: socket.socket, vendor: Vendor, work: Work) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(IN_WORK, "handler"))
    loop.set_exception_handler(_unforeseen)
    hello = pack_hello(describe(vendor))
    await loop.create_connection(lambda: Wire(work, hello), sock=connection)
    await loop.create_future()  # it ends by _leave


def _unforeseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaits: without memory there is no going on."""
    if isinstance(context.get("exception"), MemoryError):
        _leave(NO_MEMORY)
    loop.default_exception_handler(context)


def main(arguments: list[str]) -> None:
    """Serves until asyd hangs up; does not return."""
    domain, fd, *paths = arguments
    sys.path.extend(path for path in paths if path not in sys.path)
    threading.stack_size(_STACK)
    connection = _connection(int(fd))
    try:
        vendor = find(domain).load()
        work = Work(vendor, handlers_of(vendor))
    except VendorError as error:
        connection.sendall(message(FAILED, str(error).encode("utf-8", "replace")[:MAX_NOTE]))
        _leave(1)
    try:
        asyncio.run(_work(connection, vendor, work))
    except MemoryError:
        _leave(NO_MEMORY)


if __name__ == "__main__":
    main(sys.argv[1:])
