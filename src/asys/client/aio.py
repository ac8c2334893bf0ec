"""The SDK on asyncio: `async with asys.connect(...) as node`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from asys import isa
from asys.client.address import Address
from asys.client.aio_wire import Wire
from asys.client.caller import Caller
from asys.client.connected import Connected
from asys.client.exchange import Exchange
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.client.methods import attach, describe
from asys.client.options import DEFAULT_TIMEOUT, Options, check_timeout
from asys.client.pending import Pending
from asys.client.tasks import DEFAULT_WAIT, TaskMemory, TaskTable, intervals
from asys.errors import (
    ConnectFailed,
    DeadlineExceeded,
    LinkError,
    NoSuchInstruction,
    NotSupported,
)
from asys.isa import Empty, Instruction, Mode, TaskHandle, TaskStatus
from asys.protocol.codec import Layout
from asys.protocol.limits import DEFAULT_PORT

P = ParamSpec("P")
R = TypeVar("R", bound=Layout)
Trace = Callable[[Exchange], None]


class Task(TaskMemory):
    """An asynchronous instruction at work on the node; valid as long as its connection."""

    __slots__ = ("_node",)

    def __init__(self, node: Node, handle: int) -> None:
        super().__init__(handle)
        self._node = node

    async def query(self) -> TaskStatus:
        """Where the task stands. Once it has ended, the answer is remembered and nobody asked.

        Raises what any call raises.
        """
        return await self._query(self._node.timeout)

    # The same signature as in asys.sync; it sleeps in between, so asyncio.timeout is no substitute:
    # that would throw away the answer to a question that is under way.
    async def wait(self, timeout: float = DEFAULT_WAIT) -> TaskStatus:  # noqa: ASYNC109
        """How the task ended: it asks until it has, ever more rarely.

        `timeout` in seconds; DeadlineExceeded when the task is still pending then. The task goes
        on, and may be waited for again.
        """
        end = perf_counter() + check_timeout(timeout)
        for interval in intervals():
            left = max(end - perf_counter(), 0.001)
            status = await self._query(min(left, self._node.timeout))
            left = end - perf_counter()
            if status is not TaskStatus.PENDING:
                break
            if left <= 0:
                raise self.still_pending(timeout)
            await asyncio.sleep(min(interval, left))
        return status

    async def _query(self, patience: float) -> TaskStatus:
        if self.final is None:
            answer = await self._node._call(
                isa.TASK_QUERY, (self.handle,), {}, note=self.note, patience=patience
            )
            return self.final or cast("isa.TaskState", answer).status
        return self.final


def _reading(
    instruction: Instruction[P, R],
) -> Callable[Concatenate[Node, P], Coroutine[Any, Any, R]]:
    """The method of an instruction whose reply is its result."""

    async def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", await self._call(instruction, args, kwargs))

    return describe(method, instruction)


def _action(
    instruction: Instruction[P, Empty],
) -> Callable[Concatenate[Node, P], Coroutine[Any, Any, None]]:
    """The method of an instruction that is done when it is answered."""

    async def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> None:
        await self._call(instruction, args, kwargs)

    return describe(method, instruction)


def _task(
    instruction: Instruction[P, TaskHandle],
) -> Callable[Concatenate[Node, P], Coroutine[Any, Any, Task]]:
    """The method of an instruction that goes on after it is answered."""

    async def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        answer = await self._call(instruction, args, kwargs)
        return self._tasks.started(cast("TaskHandle", answer).handle)

    return describe(method, instruction)


def method_of(instruction: isa.AnyInstruction) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The method of an instruction of any kind."""
    if instruction.mode is Mode.ASYNC:
        return _task(cast("Instruction[..., TaskHandle]", instruction))
    if instruction.reply is Empty:
        return _action(cast("Instruction[..., Empty]", instruction))
    return _reading(instruction)


class Node(Connected):
    """A node, connected. Many coroutines may call it at once; `connect` makes it.

    Every instruction is a method. A call raises ArgumentError before anything is sent, a
    StatusError for what the node answers, a LinkError when there is no answer, OutcomeUnknown when
    a signed instruction was sent and there is none. A cancelled call leaves the connection usable;
    a signed one may have run all the same.
    """

    sys_caps = _reading(isa.SYS_CAPS)
    sys_hello = _reading(isa.SYS_HELLO)
    sys_status = _reading(isa.SYS_STATUS)
    sys_procs = _reading(isa.SYS_PROCS)
    task_query = _reading(isa.TASK_QUERY)
    proc_throttle = _action(isa.PROC_THROTTLE)
    svc_restart = _task(isa.SVC_RESTART)

    def __init__(self, wire: Wire, timeout: float) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        super().__init__(wire.caller, timeout)
        self._wire = wire
        self._tasks = TaskTable(partial(Task, self))

    async def call(self, instruction: Instruction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Any instruction, also one that has no method; gives its reply as declared.

        That is `Empty()` where a method gives None, and a TaskHandle where it gives a task: see
        `task`. Raises what the methods raise.
        """
        return cast("R", await self._call(instruction, args, kwargs))

    def task(self, handle: int) -> Task:
        """The task with that handle, which must be of this connection. Asks nobody."""
        return self._tasks.get(handle)

    async def resend(self, seq: int) -> Any:
        """Sends a signed instruction again, byte for byte; gives its outcome as its method does.

        For an OutcomeUnknown on a connection that still lives; the node runs it at most once. Its
        6985 means that the frame came before: the outcome is then the one that the first answer
        had, if it came in the meantime, else AlreadyReceived. ArgumentError when `seq` is not among
        the last 64. Deployed nodes close the connection after 6985.
        """
        pending = self._caller.resend(seq, perf_counter())
        reply = await self._wait(pending, self._timeout)
        if isinstance(reply, TaskHandle):
            return self._tasks.get(reply.handle)
        return None if isinstance(reply, Empty) else reply

    async def close(self) -> None:
        """Ends the session and waits until the socket is closed. Calls under way fail."""
        await self._wire.close(self._timeout)

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self,
        instruction: isa.AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        note: Callable[[Any], None] | None = None,
        patience: float | None = None,
    ) -> Layout:
        pending = self._caller.request(instruction, args, kwargs, perf_counter())
        pending.note = note
        return await self._wait(pending, patience or self._timeout)

    async def _wait(self, pending: Pending, patience: float) -> Layout:
        try:
            return cast("Layout", await self._wire.send(pending, patience))
        except asyncio.CancelledError:
            self._caller.abandon(pending)
            raise


attach(Node, isa.REGISTRY, method_of)


class Connecting:
    """A connection to be: `await` it for a Node, or enter it with `async with`."""

    __slots__ = ("_make", "_node")

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Node]]) -> None:
        self._make = make
        self._node: Node | None = None

    def __await__(self) -> Generator[Any, None, Node]:
        return self._make().__await__()

    async def __aenter__(self) -> Node:
        self._node = await self._make()
        return self._node

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._node is not None:
            await self._node.close()


def connect(
    host: str,
    port: int = DEFAULT_PORT,
    *,
    identity: Identity | None = None,
    known_hosts: KnownHosts | None = None,
    node_key: bytes | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    trace: Trace | None = None,
) -> Connecting:
    """Connects to a node: `async with connect(...) as node`, or `node = await connect(...)`.

    `host` is a name, an IP address, or `unix:PATH`. `identity` is the agent's, by default that in
    `~/.asys`; `known_hosts` says which key the node must show, by default that in `~/.asys`;
    `node_key`, 32 bytes, says so instead of it. An unknown key is never trusted by itself: it is
    UnknownHost, which carries it. `timeout`, in seconds, holds for connecting and for each call.
    `trace` is called with an Exchange for each answered request.

    Raises ArgumentError, IdentityError, any LinkError, and the StatusError of a node that is in
    trouble.
    """
    options = partial(Options.of, host, port, identity, known_hosts, node_key, timeout)
    return Connecting(partial(_open, options, trace))


async def _open(make_options: Callable[[], Options], trace: Trace | None) -> Node:
    options = make_options()
    loop = asyncio.get_running_loop()
    caller = Caller(
        options.identity.key,
        options.address,
        options.trusted,
        trace=None if trace is None else _by_way_of(loop, trace),
    )
    wire = Wire(caller, loop)
    accepted = caller.opening.waiter = loop.create_future()
    try:
        async with asyncio.timeout(options.timeout):
            await _dial(options.address, wire, loop)
            await accepted
    except (NoSuchInstruction, NotSupported):
        pass  # the node takes this agent, and grants it no SYS_CAPS
    except BaseException as error:
        owed = wire.owed
        accepted.cancel()
        await wire.abort()
        if isinstance(error, TimeoutError) and not isinstance(error, LinkError):
            raise DeadlineExceeded(
                f"{options.address} did not {owed} within {options.timeout:g} s"
            ) from None
        raise
    return Node(wire, options.timeout)


def _by_way_of(loop: asyncio.AbstractEventLoop, trace: Trace) -> Trace:
    """A trace that cannot raise: what it raises goes to the loop's exception handler.

    It runs before the call that it tells of goes on.
    """

    def later(exchange: Exchange) -> None:
        loop.call_soon(trace, exchange)

    return later


async def _dial(address: Address, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
    """Makes the connection. ConnectFailed says what the operating system says."""
    try:
        if not address.path:
            await loop.create_connection(lambda: wire, address.host, address.port)
        elif hasattr(socket, "AF_UNIX"):
            await loop.create_unix_connection(lambda: wire, address.path)
        else:
            raise ConnectFailed(f"cannot reach {address}: this system has no unix sockets")
    except LinkError:
        raise
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"cannot reach {address}: {error}") from error
