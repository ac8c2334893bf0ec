"""The SDK on asyncio: `async with asys.connect(...) as node`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from asys import isa
from asys.client.agent_pages import AgentPages
from asys.client.aio_dial import establish
from asys.client.aio_task import Task
from asys.client.aio_wire import Wire
from asys.client.caller import Caller
from asys.client.connected import Connected
from asys.client.deadline import patience_of
from asys.client.exchange import Exchange
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.client.methods import attach, describe
from asys.client.observe import Observer
from asys.client.options import DEFAULT_TIMEOUT, Options
from asys.client.pending import Pending
from asys.client.reconnect import Reconnect
from asys.client.renewal import DEFAULT_REQUESTS, DEFAULT_SECONDS
from asys.client.retry import Retry
from asys.client.steady import Attempts, Policy
from asys.client.suspended import Suspended
from asys.client.tasks import TaskTable
from asys.client.watch import Watch
from asys.errors import (
    DeadlineExceeded,
    HostKeyChanged,
    LinkError,
    StatusError,
)
from asys.isa import Empty, Instruction, Mode, TaskHandle
from asys.protocol.codec import Layout
from asys.protocol.limits import DEFAULT_PORT

if TYPE_CHECKING:
    from asys.vendor.definition import Vendor

P = ParamSpec("P")
R = TypeVar("R", bound=Layout)
Trace = Callable[[Exchange], None]


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
    task_cancel = _reading(isa.TASK_CANCEL)
    proc_throttle = _action(isa.PROC_THROTTLE)
    net_isolate = _action(isa.NET_ISOLATE)
    svc_restart = _task(isa.SVC_RESTART)
    rekey = _action(isa.REKEY)
    abandon = _reading(isa.ABANDON)
    key_statement = _reading(isa.KEY_STATEMENT)
    agent_add = _reading(isa.AGENT_ADD)
    agent_remove = _action(isa.AGENT_REMOVE)
    agent_list = _reading(isa.AGENT_LIST)
    log_summary = _reading(isa.LOG_SUMMARY)
    log_detail = _reading(isa.LOG_DETAIL)
    proc_tree = _reading(isa.PROC_TREE)

    def __init__(self, wire: Wire, timeout: float) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        super().__init__(timeout)
        self._wire: Wire = wire
        self._renewing: asyncio.Task[HostKeyChanged | None] | None = None
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

    async def agents(self) -> tuple[isa.ListedAgent, ...]:
        """All pages of AGENT_LIST as one list. Raises what `agent_list` raises."""
        pages = AgentPages()
        while pages.page is not None:
            pages.take(await self.agent_list(pages.page))
        return pages.agents

    def suspended(self, pid: int) -> Suspended:
        """A block that a process stands still for: `async with node.suspended(pid):`."""
        return Suspended(self, pid)

    def watch(self, interval: float) -> Watch:
        """The node's vitals every `interval` seconds: `async for reading in node.watch(1):`."""
        return Watch(self, interval)

    def vendor(self, vendor: Vendor) -> Any:
        """An object with a method for each instruction of a vendor, whose package is installed
        here. Its package may have a class with types: `Shop(node)`.
        """
        from asys.vendor.client import on_node

        return on_node(vendor, self)

    async def _another(self) -> Node:
        """A second connection to the same node. What `connect` raises."""
        wire = Wire(self._caller.successor(), self._wire.loop)
        await establish(wire, self._timeout)
        return Node(wire, self._timeout)

    async def refresh_capabilities(self) -> isa.CapabilityMap | None:
        """Asks for all pages of the capability map again, and gives it.

        For after a 6A81, and for whoever waits to be granted more. Raises what `sys_caps` raises.
        """
        patience = patience_of(None, self._timeout, perf_counter())
        await self._renewal_over(patience)
        await self._wait(self._wire.caller.refresh(perf_counter()), patience)
        return self.capability_map

    async def resend(self, seq: int) -> Any:
        """Sends a signed instruction again, same Seq and all; gives its outcome as its method does.

        For an OutcomeUnknown on a connection that still lives; the node runs it at most once. Its
        6985 means that the frame came before: the outcome is then the one that the first answer
        had, if it came in the meantime, else AlreadyReceived. ArgumentError when `seq` is not among
        the last 64. Deployed nodes close the connection after 6985.
        """
        patience = patience_of(None, self._timeout, perf_counter())
        await self._renewal_over(patience)
        pending = self._wire.caller.resend(seq, perf_counter())
        reply = await self._wait(pending, patience)
        if isinstance(reply, TaskHandle):
            return self._tasks.get(reply.handle)
        return None if isinstance(reply, Empty) else reply

    async def close(self) -> None:
        """Ends the session and waits until the socket is closed. Calls under way fail."""
        renewing = self._renewing
        if renewing is not None:
            renewing.cancel()
        await self._wire.close(self._timeout)
        if renewing is not None:
            await asyncio.wait((renewing,))

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
        attempts: Attempts | None = None,
    ) -> Layout:
        now = perf_counter()
        left = patience_of(patience, self._timeout, now)
        if self._renewing is not None or now >= self._wire.caller.renewal.idle_from:
            left = await self._renewed(instruction, now, left)
            now = perf_counter()
        if attempts is None:
            pending = self._wire.caller.request(instruction, args, kwargs, now)
        else:
            pending = attempts.request(self._wire.caller, args, kwargs, now)
        pending.note = note
        return await self._wait(pending, left)

    async def _wait(self, pending: Pending, patience: float) -> Layout:
        caller = self._wire.caller
        try:
            return cast("Layout", await self._wire.send(pending, patience))
        except asyncio.CancelledError:
            caller.abandon(pending)
            raise

    async def _renewed(self, instruction: isa.AnyInstruction, now: float, patience: float) -> float:
        """Puts a new connection in the place of one that has outlived itself; gives what is left
        of `patience`, in seconds.

        Whoever calls meanwhile waits for it. The old connection goes on where no new one can be
        made; only a changed host key is told, to the call that came first.
        """
        if self._renewing is not None:
            await self._renewal_over(patience)
        elif self._wire.caller.outlived(instruction, now):
            renewing = asyncio.create_task(self._reconnect(patience / 2))
            self._renewing = renewing
            await self._renewal_over(patience)
            changed = None if renewing.cancelled() else renewing.result()
            if changed is not None:
                raise changed
        return max(patience - (perf_counter() - now), 0.001)

    async def _renewal_over(self, patience: float) -> None:
        """Waits for a new connection that is being made."""
        if self._renewing is not None:
            _, late = await asyncio.wait((self._renewing,), timeout=patience)
            if late:
                raise DeadlineExceeded(f"{self._caller.address}: no new connection in time")

    async def _reconnect(self, patience: float) -> HostKeyChanged | None:
        old = self._wire
        fresh = Wire(old.caller.successor(), old.loop)
        try:
            await establish(fresh, patience)
        except HostKeyChanged as changed:
            old.caller.stay(perf_counter())
            return changed
        except (LinkError, StatusError):
            old.caller.stay(perf_counter())
            return None
        else:
            fresh.caller.take_over(old.caller)
            self._wire = fresh
            await old.close(patience)
            return None
        finally:
            self._renewing = None


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
    rekey_seconds: float | None = DEFAULT_SECONDS,
    rekey_requests: int | None = DEFAULT_REQUESTS,
    reconnect: Reconnect | bool | None = None,
    retry: Retry | bool | None = None,
    keepalive: float | None = None,
    observers: Sequence[Observer] = (),
) -> Connecting:
    """Connects to a node: `async with connect(...) as node`, or `node = await connect(...)`.

    `host` is a name, an IP address, or `unix:PATH`. `identity` is the agent's, by default that in
    `~/.asys`; `known_hosts` says which key the node must show, by default that in `~/.asys`;
    `node_key`, 32 bytes, says so instead of it. An unknown key is never trusted by itself: it is
    UnknownHost, which carries it. Where the key on record states the one that takes its place, that
    one is put there by itself, and `next_key` of the node has it; with `node_key` nothing is
    written. `timeout`, in seconds, holds for connecting and for each call. `trace` is called with
    an Exchange for each answered request of this agent's.

    Keys that are older than `rekey_seconds`, or have carried `rekey_requests` requests, are renewed
    at the next call; None: never for that reason. Neither results nor `trace` show it. Where nobody
    has called for 30 s a new connection does it, for that gives fresh secrets; else REKEY, where
    the node has it. A new connection is not made when the next call names a PID, nor while the
    outcome of a task or of a signed instruction is open. With the old session goes what the node
    knew of it: the PIDs that it has shown. So look again before you act on one.

    `reconnect`: a lost connection is made again, as Reconnect says (True: as it says by itself);
    the first one is not. `retry`: a call is made again after 6400 and 6F05, as Retry says.
    `keepalive`: seconds, less than 60, after which an idle session is kept alive with a SYS_HELLO,
    as long as the node object is open. `observers` are told of each call: LogCalls, Telemetry.

    Raises ArgumentError, IdentityError, any LinkError, and the StatusError of a node that is in
    trouble.
    """
    options = partial(
        Options.of,
        host,
        port,
        identity,
        known_hosts,
        node_key,
        timeout,
        rekey_seconds,
        rekey_requests,
    )
    policy = partial(Policy.of, reconnect, retry, keepalive, observers)
    return Connecting(partial(_open, options, policy, trace))


async def _open(
    make_options: Callable[[], Options],
    make_policy: Callable[[], Policy | None],
    trace: Trace | None,
) -> Node:
    policy, options = make_policy(), make_options()
    loop = asyncio.get_running_loop()
    caller = Caller(
        options.identity.key,
        options.address,
        options.trusted,
        trace=None if trace is None else _by_way_of(loop, trace),
        renewal=options.renewal,
        superseded=options.superseded,
        carry=options.carry,
    )
    wire = Wire(caller, loop)
    await establish(wire, options.timeout)
    if policy is None:
        return Node(wire, options.timeout)
    from asys.client.aio_steady import SteadyNode

    return SteadyNode(wire, options.timeout, policy)


def _by_way_of(loop: asyncio.AbstractEventLoop, trace: Trace) -> Trace:
    """A trace that cannot raise: what it raises goes to the loop's exception handler.

    It runs before the call that it tells of goes on.
    """

    def later(exchange: Exchange) -> None:
        loop.call_soon(trace, exchange)

    return later
