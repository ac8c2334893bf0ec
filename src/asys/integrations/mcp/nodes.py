"""The nodes that a server speaks for: one connection to each, made anew after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from asys.client.address import Address
from asys.client.aio import Connecting, Node
from asys.errors import AsysError, StatusError
from asys.isa import PROC_TREE, SYS_PROCS, CapabilityMap

LOOKS: Final = (SYS_PROCS.name, PROC_TREE.name)
"""What shows PIDs, and makes the node remember which process each of them was."""


def can_look(lit: CapabilityMap | None) -> bool:
    """Whether an agent with this map can have PIDs shown."""
    return lit is not None and any(name in lit for name in LOOKS)


class KnownNode:
    """One node. Many calls may use its connection at once."""

    def __init__(self, name: str, connect: Callable[[], Connecting]) -> None:
        self.name: Final = name
        self.capability_map: CapabilityMap | None = None
        """As it was last told; None before that."""
        self.seen = True
        """False behind a reconnect, until processes have been looked at again: a node remembers the
        PIDs that it has shown for one session only."""
        self._connect = connect
        self._node: Node | None = None
        self._lock = asyncio.Lock()

    async def connection(self) -> Node:
        """The connection; a new one where there is none that lives. AsysError: there is none."""
        async with self._lock:
            node = self._node
            if node is not None and not node.closed:
                return node
            fresh = await self._connect()
            if node is not None:
                await node.close()
                self.seen = not can_look(fresh.capability_map)
            self._node = fresh
            self.capability_map = fresh.capability_map
            return fresh

    async def refresh(self) -> None:
        """Asks the node again what exists for this agent. AsysError: it cannot be asked."""
        node = await self.connection()
        try:
            self.capability_map = await node.refresh_capabilities()
        except StatusError:
            self.capability_map = None  # it is told nothing, so it is offered nothing
            raise

    async def close(self) -> None:
        """Ends the connection."""
        if self._node is not None:
            await self._node.close()


class Nodes:
    """All nodes of a server, by their names, in the order of the command line."""

    def __init__(self, connects: Mapping[str, Callable[[], Connecting]]) -> None:
        self._nodes = {name: KnownNode(name, connect) for name, connect in connects.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all nodes, reached or not."""
        return tuple(self._nodes)

    def __getitem__(self, name: str) -> KnownNode:
        return self._nodes[name]

    async def refresh(self) -> dict[str, AsysError]:
        """Asks all nodes at once what exists for this agent; gives what went wrong, by name."""
        faults: dict[str, AsysError] = {}

        async def one(node: KnownNode) -> None:
            try:
                await node.refresh()
            except AsysError as error:
                faults[node.name] = error

        await asyncio.gather(*(one(node) for node in self._nodes.values()))
        return faults

    async def close(self) -> None:
        """Ends all connections."""
        await asyncio.gather(*(node.close() for node in self._nodes.values()))


def name_of(address: Address, default_port: int) -> str:
    """What a model calls a node: its host, with the port where that is another one."""
    return address.host if address.port in (0, default_port) else str(address)
