"""Many nodes at once: `async with asys.Fleet.load() as fleet`.

    async for row in fleet.select("role=db").status():
        print(row.node, row.value.cpu_percent if row.ok else row.failure)

What goes wrong with a node is in its row; what goes wrong here is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, overload

from asys.client.address import Address
from asys.client.aio import Node, connect
from asys.client.arguments import pack
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.client.options import check_timeout
from asys.errors import ArgumentError, AsysError
from asys.fleet.inventory import Inventory, NodeEntry, Selector
from asys.fleet.keyring import Keyring
from asys.fleet.lanes import CONCURRENCY, Lanes
from asys.fleet.lookups import Lookups
from asys.fleet.member import LEAST, Member
from asys.fleet.rows import Failure, Row, Rows, end
from asys.fleet.targets import Target, Targets, Where, checked
from asys.isa import (
    PROC_THROTTLE,
    SYS_PROCS,
    SYS_STATUS,
    AnyInstruction,
    Empty,
    Instruction,
    Processes,
    Status,
    ThrottleAction,
)
from asys.protocol.codec import Layout

P = ParamSpec("P")
R = TypeVar("R", bound=Layout)

DEADLINE: Final = 5.0
"""Seconds that a node has for connecting and answering, if nobody says otherwise."""


class Selection:
    """Some nodes of a fleet; the fleet itself is all of them. Its connections are the fleet's."""

    def __init__(self, fleet: Fleet, nodes: tuple[NodeEntry, ...]) -> None:
        """Not for users: `select` makes these."""
        self._fleet = fleet
        self.nodes = nodes
        """What is selected, in the order of the inventory."""

    def select(self, selector: Selector) -> Selection:
        """Those of these nodes that have all the labels, as `role=db,env=prod` or a mapping, or
        for which a predicate holds. There may be none.

        ArgumentError when it cannot be read, or asks for a label that none of them has.
        """
        return Selection(self._fleet, Inventory(self.nodes).select(selector))

    def status(self) -> Rows[Status]:
        """SYS_STATUS of each node: load, CPU, memory, disk, network, pressure."""
        return self.call(SYS_STATUS)

    def procs(self) -> Rows[Processes]:
        """SYS_PROCS of each node: how many processes, and those that use most CPU."""
        return self.call(SYS_PROCS)

    def call(self, instruction: Instruction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Rows[R]:
        """Any instruction, with the same arguments, on each node; replies are as declared.

        ArgumentError for arguments that no node could take: nothing is sent then.
        """
        pack(instruction, args, kwargs)
        ask = self._fleet._ask
        return Rows([partial(ask, one.name, instruction, args, kwargs) for one in self.nodes])

    @overload
    def watch(self, seconds: float) -> AsyncGenerator[Row[Status], None]: ...
    @overload
    def watch(
        self, seconds: float, instruction: Instruction[..., R]
    ) -> AsyncGenerator[Row[R], None]: ...
    async def watch(
        self, seconds: float, instruction: AnyInstruction = SYS_STATUS
    ) -> AsyncGenerator[Row[Any], None]:
        """Asks each node every so many seconds, for ever: `async for row in fleet.watch(1)`.

        Each node has its own pace, so that nobody waits for one that does not answer. A reader who
        is slow gets fewer rows. `instruction` takes no arguments and is not signed: ArgumentError.
        """
        interval = check_timeout(seconds)
        if instruction.level:
            raise ArgumentError(f"{instruction.name} is signed; only what reads can be watched")
        pack(instruction, (), {})
        rows: asyncio.Queue[Row[Any] | Exception] = asyncio.Queue(max(len(self.nodes), 1))
        polls = [
            asyncio.create_task(self._poll(one.name, instruction, interval, rows))
            for one in self.nodes
        ]
        try:
            while polls:
                row = await rows.get()
                if isinstance(row, Exception):
                    raise row
                yield row
        finally:
            await end(polls)

    async def targets(self, where: Where) -> Targets:
        """The processes for which `where(node, process)` holds, of those that `procs` shows: five
        on each node, those that use most CPU. It only looks; `throttle` takes what it gives.
        """
        found: dict[str, list[Target]] = {one.name: [] for one in self.nodes}
        failed: list[Row[Processes]] = []
        async for row in self.procs():
            if not row.ok:
                failed.append(row)
                continue
            found[row.node] = [
                Target(row.node, one.pid, one, row.connection)
                for one in row.result().top
                if one.pid and where(row.node, one)
            ]
        return Targets(tuple(one for each in found.values() for one in each), tuple(failed))

    def throttle(self, targets: Iterable[Target | tuple[str, int]]) -> Rows[Empty]:
        """Suspends processes, each named with its node: what `targets` found, or (node, PID).

        A row for each. Nothing is ever sent twice: where an answer does not come, the row says that
        the outcome is unknown. What `targets` found is refused here when the connection has ended
        in which it was shown. ArgumentError, and nothing is sent, for a node that is not in this
        selection and for what is named twice.
        """
        return self._throttle(targets, ThrottleAction.STOP)

    def resume(self, targets: Iterable[Target | tuple[str, int]]) -> Rows[Empty]:
        """Lets suspended processes go on. As `throttle`."""
        return self._throttle(targets, ThrottleAction.CONTINUE)

    def _throttle(
        self, targets: Iterable[Target | tuple[str, int]], action: ThrottleAction
    ) -> Rows[Empty]:
        named = checked(targets)
        names = {one.name for one in self.nodes}
        for target in named:
            if target.node not in names:
                raise ArgumentError(f"{target}: no such node is selected")
            pack(PROC_THROTTLE, (target.pid, action), {})
        ask = self._fleet._ask
        return Rows(
            [
                partial(ask, one.node, PROC_THROTTLE, (one.pid, action), {}, target=one)
                for one in named
            ]
        )

    async def _poll(
        self,
        name: str,
        instruction: AnyInstruction,
        interval: float,
        rows: asyncio.Queue[Row[Any] | Exception],
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                await rows.put(await self._fleet._ask(name, instruction, (), {}))
                now = loop.time()
                due = max(due + interval, now)
                await asyncio.sleep(due - now)
        except Exception as fault:  # ours, not the node's: whoever reads the rows is told
            await rows.put(fault)

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[NodeEntry]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} nodes>"


class Fleet(Selection):
    """Many nodes. Connections are made when they are needed, kept, and made anew.

    One Fleet is for one event loop. `close`, or the end of its block, ends all connections.
    """

    def __init__(
        self,
        nodes: Inventory | Iterable[NodeEntry],
        *,
        identity: Identity | None = None,
        known_hosts: KnownHosts | None = None,
        concurrency: int = CONCURRENCY,
        deadline: float = DEADLINE,
    ) -> None:
        """`identity`, `known_hosts` and `deadline` hold for nodes whose entry does not say
        otherwise. A node has `deadline` seconds for a row, connecting included. `concurrency` nodes
        are worked on at a time; one that is merely waited for does not count for long.

        ArgumentError for what cannot be meant. No file is read yet and nobody is asked.
        """
        self.inventory: Final = nodes if isinstance(nodes, Inventory) else Inventory(nodes)
        super().__init__(self, tuple(self.inventory))
        self.deadline: Final = check_timeout(deadline)
        self._lanes: Final = Lanes(concurrency)
        self._keyring: Final = Keyring(identity, known_hosts)
        self._lookups: Final = Lookups()
        self._members: Final = {one.name: Member(one, self._connect) for one in self.nodes}

    @classmethod
    def load(cls, path: Path | str | None = None, **options: Any) -> Fleet:
        """The fleet in an inventory file, by default `~/.asys/fleet.toml`; options as of a Fleet.

        InventoryError says what is wrong with the file, and where.
        """
        return cls(Inventory.load(path), **options)

    async def close(self) -> None:
        """Ends all connections, and waits for it. Calls under way fail."""
        await asyncio.gather(*(one.close() for one in self._members.values()))

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(
        self,
        name: str,
        instruction: AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        target: Target | None = None,
    ) -> Row[Any]:
        """A row, whatever becomes of the node."""
        member = self._members[name]
        seconds = member.entry.deadline or self.deadline
        async with self._lanes.turn(doubtful=member.doubtful):
            began = perf_counter()
            shown_in = 0 if target is None else target.shown_in
            try:
                value, number = await member.ask(instruction, args, kwargs, seconds, shown_in)
            except AsysError as error:
                return Row(name, None, Failure.of(error), perf_counter() - began, target)
            return Row(name, value, None, perf_counter() - began, target, number)

    async def _connect(self, entry: NodeEntry, seconds: float) -> Node:
        """A new connection. The fleet itself says when it is made anew, so its age is of no
        interest to the SDK.
        """
        began = perf_counter()
        await self._lookups.found(Address.of(entry.host, entry.port), seconds)
        return await connect(
            entry.host,
            entry.port,
            identity=self._keyring.identity(entry),
            node_key=entry.key,
            known_hosts=self._keyring.known_hosts(entry),
            timeout=max(seconds - (perf_counter() - began), LEAST),
            rekey_seconds=None,
            rekey_requests=None,
        )
