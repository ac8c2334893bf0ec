"""A node that does what a test's script says, over real loopback sockets.

    async with WireNode(serve(answer)) as node:
        async with node.connect() as session: ...

    async with WireNode(serve_b(answer, lit="core,security")) as node: ...  # speaks part B

A script is a coroutine function that gets a Peer for each connection; when it returns, the
connection is closed. ThreadedWireNode is the same for tests without an event loop of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

import asys
from asys import isa
from asys.client.aio import Connecting
from asys.isa import Capabilities
from asys.isa.capmap import STATEMENT, parse_caps, words
from asys.protocol.apdu import CLA_SEC, Frame, FrameParser
from asys.protocol.keys import PrivateKey
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.noise import OtherKey
from asys.protocol.signing import Verifier
from asys.protocol.status import SW

OK: Final = b"\x90\x00"

CAPS: Final = Capabilities(
    core_bitmap=0x0002_000F,
    ext_bitmap=0x0000_0005,
    protocol_version=0x0100,
    kernel_major=6,
    kernel_minor=18,
    kernel_patch=44,
    cpu_count=2,
    architecture=isa.Architecture.X86_64,
    ram_mb=24105,
    swap_mb=0,
    root_size_mb=258019,
    root_file_system=isa.FileSystem.EXT,
    rpi_source=isa.PressureSource.KERNEL_PSI,
    page=0,
)

PAGES: Final = 4
"""Requests with which every connection begins: the pages 1, 2, 3 and 0 of SYS_CAPS."""

HELLO: Final = isa.Hello(magic=b"ASYS", node_uid=0x3D1219C7, time_ns=1_700_000_000_000_000_000)


class Gone(Exception):
    """The agent has closed the connection."""


class Peer:
    """One agent's connection, as a script sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: PrivateKey
    ) -> None:
        self.link = NodeLink(key)
        self.frames: list[Frame] = []
        """Every request so far."""
        self.received = 0
        """Bytes from the agent so far."""
        self.rekeys = 0
        """REKEYs answered with success so far."""
        self._reader = reader
        self._writer = writer
        self._parser = FrameParser()
        self._ready: list[Frame] = []

    async def read(self) -> bytes:
        """Whatever arrives next. Gone when that is the end."""
        try:
            data = await self._reader.read(65536)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self.received += len(data)
        return data

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(data)

    async def handshake(self) -> None:
        """Takes the link from the magic to OPEN. Gone for an agent that wants another key."""
        while self.link.state is not LinkState.OPEN:
            try:
                self.link.receive_data(await self.read())
            except OtherKey:
                raise Gone from None  # as a node does: it closes without a word
            self.write(self.link.data_to_send())

    async def request(self) -> Frame:
        """The next request; its tag is checked where it has one, and its Seq is its own."""
        while not self._ready:
            for message in self.link.messages():
                self._ready += self._parser.feed(message)
            if not self._ready:
                self.link.receive_data(await self.read())
        frame = self._ready.pop(0)
        self.frames.append(frame)
        return frame

    def reply(self, *messages: bytes) -> None:
        """Sends messages, each a payload with its status word, in one write."""
        self.write(self.link.seal(messages))

    async def accept(self, *, part_b: bool = False) -> None:
        """The handshake and the SYS_CAPS that every connection begins with."""
        await self.handshake()
        for _ in range(PAGES):
            self.reply(answer_caps(await self.request(), part_b=part_b))

    def opened(self, frame: Frame) -> Frame:
        """A request with its payload in clear, its tag checked where it has one.

        The Seq stays in front. A wrong tag or ciphertext is a fault of the agent, and raises.
        """
        if not frame.cla & CLA_SEC:
            return frame
        refused = self.verifier.verify(frame)
        clear = None if refused is SW.DENIED else self.verifier.open(frame)
        if clear is None:
            raise ValueError(f"{frame.ins:02X}: the tag or the ciphertext is wrong")
        return clear

    def rekey(self) -> None:
        """Answers REKEY under the old keys and goes on with new ones."""
        if self._ready or self.link.channel.buffered:
            raise ValueError("something came behind REKEY, before its answer")
        self.reply(OK)
        self.link.rekey()
        self.rekeys += 1

    async def silence(self) -> None:
        """Reads, and says nothing until the agent has gone."""
        with contextlib.suppress(Gone):
            while True:
                await self.read()

    def abort(self) -> None:
        """Resets the connection."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self._writer.transport.abort()

    @property
    def verifier(self) -> Verifier:
        """Checks tags with the session's key."""
        return self.link.verifier


Script = Callable[[Peer], Awaitable[None]]
Answer = Callable[[Frame], bytes | None]


def answer_caps(frame: Frame, *, part_b: bool = False) -> bytes:
    """SYS_CAPS as a deployed node answers it, or as one that speaks part B does."""
    if not part_b or frame.p1 == 0:
        return CAPS.pack() + OK
    return struct.pack(">II", 0xAA8A0000, 0xBBBB0000) + CAPS.pack()[8:-1] + bytes((frame.p1,)) + OK


def page_of(lit: int, number: int) -> bytes:
    """SYS_CAPS as a node that speaks part B answers it."""
    core, ext = words(lit & ~STATEMENT, number)  # without a next key
    shown = dataclasses.replace(CAPS, core_bitmap=core, ext_bitmap=ext, page=number)
    return shown.pack() + OK


def answer(frame: Frame) -> bytes | None:
    """What a healthy node answers to the instructions that tests use; 6A81 to all others."""
    if frame.ins == isa.SYS_CAPS.code:
        return answer_caps(frame)
    if frame.ins == isa.SYS_HELLO.code:
        return HELLO.pack() + OK
    if frame.ins == isa.PROC_THROTTLE.code:
        return OK
    if frame.ins == isa.SVC_RESTART.code:
        return isa.TaskHandle(handle=0x00057BB0).pack() + OK
    if frame.ins == isa.TASK_QUERY.code:
        return isa.TaskState(status=isa.TaskStatus.SUCCESS).pack() + OK
    return b"\x6a\x81"


def serve(answering: Answer = answer, *, part_b: bool = False) -> Script:
    """A script that accepts, then answers each request as `answering` says; None: not at all."""

    async def script(peer: Peer) -> None:
        await peer.accept(part_b=part_b)
        while True:
            reply = answering(await peer.request())
            if reply is not None:
                peer.reply(reply)

    return script


def serve_b(answering: Answer = answer, *, lit: str = "core,process,14") -> Script:
    """A node that speaks part B: pages of a map, REKEY where it is lit, Enc+Sign.

    `answering` gets all other requests, in clear; 6A81 for what is not lit.
    """
    bits = parse_caps(lit)

    async def script(peer: Peer) -> None:
        await peer.handshake()
        while True:
            frame = peer.opened(await peer.request())
            if not bits >> frame.ins & 1:
                peer.reply(b"\x6a\x81")
            elif frame.ins == isa.SYS_CAPS.code:
                peer.reply(page_of(bits, frame.p1))
            elif frame.ins == isa.REKEY.code:
                peer.rekey()
            else:
                reply = answering(frame)
                if reply is not None:
                    peer.reply(reply)

    return script


class WireNode:
    """Listens on loopback, or at the unix socket `path`, while its block is entered."""

    def __init__(self, script: Script | None = None, *, path: str = "") -> None:
        self.key = PrivateKey.generate()
        self.identity: Final = asys.Identity.generate()
        self.peers: list[Peer] = []
        self.host = f"unix:{path}" if path else "127.0.0.1"
        self.port = 1
        self._script = script or serve()
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._failure: Exception | None = None

    @property
    def peer(self) -> Peer:
        """The first connection."""
        return self.peers[0]

    def options(self, **changes: Any) -> dict[str, Any]:
        """Arguments for `connect` behind host and port: a new identity, this node's key."""
        return {
            "identity": self.identity,
            "node_key": self.key.public,
            "timeout": 30.0,
            **changes,
        }

    def connect(self, **changes: Any) -> Connecting:
        """`asys.connect` to this node."""
        return asys.connect(self.host, self.port, **self.options(**changes))

    async def __aenter__(self) -> WireNode:
        if self._path:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._failure is not None:
            raise self._failure

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        self._tasks.add(task)
        peer = Peer(reader, writer, self.key)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (Gone, asyncio.CancelledError):
            pass
        except Exception as failure:  # a wrong script is told where the test can see it
            self._failure = failure
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)


class ThreadedWireNode:
    """A WireNode in a thread of its own, for blocking agents."""

    def __init__(self, script: Script | None = None, *, path: str = "") -> None:
        self.node: Final = WireNode(script, path=path)
        self._ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="wire-node")

    def connect(self, **changes: Any) -> asys.sync.Node:
        """`asys.sync.connect` to this node."""
        return asys.sync.connect(self.node.host, self.node.port, **self.node.options(**changes))

    @property
    def peer(self) -> Peer:
        """The first connection. Look only, and only at what cannot change any more."""
        return self.node.peer

    def __enter__(self) -> ThreadedWireNode:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            stop = asyncio.Event()
            async with self.node:
                self._stop = lambda: loop.call_soon_threadsafe(stop.set)
                self._ready.set()
                await stop.wait()

        try:
            asyncio.run(main())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()
