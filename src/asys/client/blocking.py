"""The SDK without asyncio: `with asys.sync.connect(...) as node`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from asys import isa
from asys.client.agent_pages import AgentPages
from asys.client.blocking_suspended import Suspended
from asys.client.blocking_watch import Watch
from asys.client.blocking_wire import Wire
from asys.client.connected import Connected
from asys.client.deadline import patience_of
from asys.client.dial import dial
from asys.client.exchange import Exchange
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.client.methods import attach, describe
from asys.client.observe import Observer
from asys.client.options import DEFAULT_TIMEOUT, Options, check_timeout
from asys.client.reconnect import Reconnect
from asys.client.renewal import DEFAULT_REQUESTS, DEFAULT_SECONDS
from asys.client.retry import Retry
from asys.client.steady import Attempts, Policy
from asys.client.tasks import DEFAULT_WAIT, TaskMemory, TaskTable, intervals
from asys.isa import Empty, Instruction, Mode, TaskHandle, TaskStatus
from asys.protocol.codec import Layout
from asys.protocol.limits import DEFAULT_PORT

if TYPE_CHECKING:
    from asys.vendor.definition import Vendor

P = ParamSpec("P")
R = TypeVar("R", bound=Layout)
Trace = Callable[[Exchange], None]


class Task(TaskMemory):
    """An asynchronous instruction at work on the node; valid as long as its connection."""

    __slots__ = ("_node",)

    def __init__(self, node: Node, handle: int) -> None:
        super().__init__(handle)
        self._node = node

    def query(self) -> TaskStatus:
        """Where the task stands. Once it has ended, the answer is remembered and nobody asked.

        Raises what any call raises.
        """
        return self._query(self._node.timeout)

    def wait(self, timeout: float = DEFAULT_WAIT) -> TaskStatus:
        """How the task ended: it asks until it has, ever more rarely.

        `timeout` in seconds; DeadlineExceeded when the task is still pending then. The task goes
        on, and may be waited for again.
        """
        end = perf_counter() + check_timeout(timeout)
        for interval in intervals():
            left = max(end - perf_counter(), 0.001)
            status = self._query(min(left, self._node.timeout))
            left = end - perf_counter()
            if status is not TaskStatus.PENDING:
                break
            if left <= 0:
                raise self.still_pending(timeout)
            time.sleep(min(interval, left))
        return status

    def cancel(self) -> TaskStatus:
        """Takes the task back where the node has not begun it; gives where it stands then.

        CANCELLED only when the service manager says so; PENDING where it goes on. Once the task has
        ended, the answer is remembered and nobody asked. Raises what any call raises.
        """
        if self.final is not None:
            return self.final
        self.check()
        answer = self._node._call(isa.TASK_CANCEL, (self.handle,), {}, note=self.note)
        return self.final or cast("isa.TaskState", answer).status

    def _query(self, patience: float) -> TaskStatus:
        if self.final is None:
            self.check()
            answer = self._node._call(
                isa.TASK_QUERY, (self.handle,), {}, note=self.note, patience=patience
            )
            return self.final or cast("isa.TaskState", answer).status
        return self.final


def _reading(instruction: Instruction[P, R]) -> Callable[Concatenate[Node, P], R]:
    """The method of an instruction whose reply is its result."""

    def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self._call(instruction, args, kwargs))

    return describe(method, instruction)


def _action(instruction: Instruction[P, Empty]) -> Callable[Concatenate[Node, P], None]:
    """The method of an instruction that is done when it is answered."""

    def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._call(instruction, args, kwargs)

    return describe(method, instruction)


def _task(instruction: Instruction[P, TaskHandle]) -> Callable[Concatenate[Node, P], Task]:
    """The method of an instruction that goes on after it is answered."""

    def method(self: Node, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        answer = self._call(instruction, args, kwargs)
        return self._tasks.started(cast("TaskHandle", answer).handle)

    return describe(method, instruction)


def method_of(instruction: isa.AnyInstruction) -> Callable[..., Any]:
    """The method of an instruction of any kind."""
    if instruction.mode is Mode.ASYNC:
        return _task(cast("Instruction[..., TaskHandle]", instruction))
    if instruction.reply is Empty:
        return _action(cast("Instruction[..., Empty]", instruction))
    return _reading(instruction)


class Node(Connected):
    """A node, connected. Threads may share it: one call at a time goes over the connection.

    Every instruction is a method. A call raises ArgumentError before anything is sent, a
    StatusError for what the node answers, a LinkError when there is no answer, OutcomeUnknown when
    a signed instruction was sent and there is none. A call that runs into its deadline leaves the
    connection usable; one that is interrupted, as by KeyboardInterrupt, ends it.
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
        self._tasks = TaskTable(partial(Task, self))

    def call(self, instruction: Instruction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Any instruction, also one that has no method; gives its reply as declared.

        That is `Empty()` where a method gives None, and a TaskHandle where it gives a task: see
        `task`. Raises what the methods raise.
        """
        return cast("R", self._call(instruction, args, kwargs))

    def task(self, handle: int) -> Task:
        """The task with that handle, which must be of this connection. Asks nobody."""
        return self._tasks.get(handle)

    def agents(self) -> tuple[isa.ListedAgent, ...]:
        """All pages of AGENT_LIST as one list. Raises what `agent_list` raises."""
        pages = AgentPages()
        while pages.page is not None:
            pages.take(self.agent_list(pages.page))
        return pages.agents

    def suspended(self, pid: int) -> Suspended:
        """A block that a process stands still for: `with node.suspended(pid):`."""
        return Suspended(self, pid)

    def watch(self, interval: float) -> Watch:
        """The node's vitals every `interval` seconds: `for reading in node.watch(1):`."""
        return Watch(self, interval)

    def vendor(self, vendor: Vendor) -> Any:
        """An object with a method for each instruction of a vendor, whose package is installed
        here. Its package may have a class with types: `SyncShop(node)`.
        """
        from asys.vendor.client import on_sync_node

        return on_sync_node(vendor, self)

    def _another(self) -> Node:
        """A second connection to the same node. What `connect` raises."""
        deadline = perf_counter() + self._timeout
        caller = self._wire.caller.successor()
        wire = Wire(caller, dial(caller.address, deadline))
        wire.open(deadline)
        return Node(wire, self._timeout)

    def refresh_capabilities(self) -> isa.CapabilityMap | None:
        """Asks for all pages of the capability map again, and gives it.

        For after a 6A81, and for whoever waits to be granted more. Raises what `sys_caps` raises.
        """
        now = perf_counter()
        deadline = now + patience_of(None, self._timeout, now)
        self._wire.acquire(deadline)
        try:
            self._wire.exchange(self._wire.caller.refresh(perf_counter()), deadline)
        finally:
            self._wire.release()
        return self.capability_map

    def resend(self, seq: int) -> Any:
        """Sends a signed instruction again, same Seq and all; gives its outcome as its method does.

        For an OutcomeUnknown on a connection that still lives; the node runs it at most once. Its
        6985 means that the frame came before: the outcome is then the one that the first answer
        had, if it came in the meantime, else AlreadyReceived. ArgumentError when `seq` is not among
        the last 64. Deployed nodes close the connection after 6985.
        """
        now = perf_counter()
        deadline = now + patience_of(None, self._timeout, now)
        self._wire.acquire(deadline)
        try:
            reply = self._wire.exchange(self._wire.caller.resend(seq, perf_counter()), deadline)
        finally:
            self._wire.release()
        if isinstance(reply, TaskHandle):
            return self._tasks.get(reply.handle)
        return None if isinstance(reply, Empty) else reply

    def close(self) -> None:
        """Ends the session. A call under way in another thread fails."""
        self._wire.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self,
        instruction: isa.AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        note: Callable[[Any], None] | None = None,
        patience: float | None = None,
        attempts: Attempts | None = None,
    ) -> Any:
        now = perf_counter()
        deadline = now + patience_of(patience, self._timeout, now)
        self._wire.acquire(deadline)
        try:
            now = perf_counter()
            if now >= self._wire.caller.renewal.idle_from:
                now = self._wire.renew(instruction, now, deadline)
            if attempts is None:
                pending = self._wire.caller.request(instruction, args, kwargs, now)
            else:
                pending = attempts.request(self._wire.caller, args, kwargs, now)
            pending.note = note
            return self._wire.exchange(pending, deadline)
        finally:
            self._wire.release()


attach(Node, isa.REGISTRY, method_of)


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
) -> Node:
    """Connects to a node: `with connect(...) as node`, or `node = connect(...)` and `close()`.

    Arguments, and what it raises, are those of `asys.connect`. `trace` is called in the thread that
    calls the node, before the call returns. A thread of its own does what `keepalive` says.
    `timeout` does not bound the look-up of a host name, which the operating system bounds.
    """
    options = Options.of(
        host,
        port,
        identity,
        known_hosts,
        node_key,
        timeout,
        rekey_seconds,
        rekey_requests,
    )
    policy = Policy.of(reconnect, retry, keepalive, observers)
    deadline = perf_counter() + options.timeout
    wire = Wire.to(options, dial(options.address, deadline), trace)
    wire.open(deadline)
    if policy is None:
        return Node(wire, options.timeout)
    from asys.client.blocking_steady import SteadyNode

    return SteadyNode(wire, options.timeout, policy)
