"""Several scripted nodes, and the fleet that they are.

async with FleetNodes(a=serve(answer), b=silent) as nodes, nodes.fleet() as fleet: ...
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final

import asys
from asys import isa
from asys.fleet import Fleet, NodeEntry
from asys.protocol.apdu import Frame
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.status import SW
from support.wire_node import OK, Peer, Script, WireNode, answer, serve

PATIENCE: Final = 30.0
"""Seconds until a node that does not answer counts as broken; tests do not wait for it."""

STATUS: Final = isa.Status(
    load1=1.5,
    load5=0.4,
    cpu_percent=97,
    available_mb=2048,
    root_used_percent=71,
    io_wait_ms=12,
    inbound_mbps=3,
    outbound_mbps=4,
    rpi_percent=None,
)

PROCS: Final = isa.Processes(
    count=213,
    top=(
        isa.Process(4711, 99.97, 3, isa.ProcessFlags(0)),
        isa.Process(815, 0.5, 41, isa.ProcessFlags.ROOT),
    ),
)


def healthy(frame: Frame) -> bytes | None:
    """A node that is well, with vitals and processes."""
    if frame.ins == isa.SYS_STATUS.code:
        return STATUS.pack() + OK
    if frame.ins == isa.SYS_PROCS.code:
        return PROCS.pack() + OK
    return answer(frame)


async def silent(peer: Peer) -> None:
    """Accepts connections and says nothing."""
    await peer.silence()


class Held:
    """A script whose node answers SYS_HELLO, and all else when the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.accept()
        while True:
            frame = await peer.request()
            if frame.ins != isa.SYS_HELLO.code:
                self.asked.set()
                await self.go.wait()
            peer.reply(healthy(frame) or b"")


def only_once(then: Script) -> Script:
    """The first connection goes by `then`, all others are healthy."""
    seen: list[Peer] = []

    async def script(peer: Peer) -> None:
        seen.append(peer)
        await (then if len(seen) == 1 else serve(healthy))(peer)

    return script


async def ended(fleet: Fleet, name: str) -> None:
    """Returns when the fleet has noticed that its connection with a node is over."""
    session = fleet._members[name]._session
    assert session is not None
    await session.node._wire.closed


async def reject(peer: Peer) -> None:
    """Does not know this agent."""
    await peer.handshake()
    await peer.request()
    peer.reply(SW.DENIED.wire)


class FleetNodes:
    """Nodes by name. Without a script, a node is healthy."""

    def __init__(self, *names: str, **scripts: Script) -> None:
        self.identity: Final = asys.Identity.generate()
        self.nodes: Final = {name: WireNode(serve(healthy)) for name in names}
        self.nodes.update((name, WireNode(script)) for name, script in scripts.items())
        self._stack = AsyncExitStack()

    def entry(self, name: str, /, **changes: Any) -> NodeEntry:
        """A node as an inventory has it."""
        node = self.nodes[name]
        plain = NodeEntry(name, node.host, node.port, node.key.public)
        return dataclasses.replace(plain, **changes)

    def fleet(self, **options: Any) -> Fleet:
        """All of them, in the order in which they were named."""
        given = {"identity": self.identity, "deadline": PATIENCE, **options}
        return Fleet([self.entry(name) for name in self.nodes], **given)

    def __getitem__(self, name: str) -> WireNode:
        return self.nodes[name]

    async def __aenter__(self) -> FleetNodes:
        for node in self.nodes.values():
            await self._stack.enter_async_context(node)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)


def throttles(nodes: FleetNodes, name: str) -> list[tuple[int, bytes]]:
    """Action and PID of each order that has arrived at a node, over all its connections."""
    return [
        (frame.p1, frame.data[SEQ_SIZE : SEQ_SIZE + 4])
        for peer in nodes[name].peers
        for frame in peer.frames
        if frame.ins == isa.PROC_THROTTLE.code
    ]
