"""Many nodes in one process: `python -m benchmarks.light_nodes COUNT AGENT_KEY_HEX`.

Each listens on a port of its own of loopback and has a key of its own; behind that they share
everything, and answer SYS_CAPS, SYS_HELLO, SYS_STATUS and SYS_PROCS with the same bytes each time.
So they cost as little as a node can, and what is left to measure is the side that asks. Nobody but
the agent with that key is let in. It prints one line of JSON, [[port, node key], ...], and ends
when its stdin does.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, cast

from asys import isa
from asys.errors import LinkError
from asys.isa.capmap import parse_caps, words
from asys.protocol.apdu import FrameParser
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import VERSION
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.status import SW

HOST: Final = "127.0.0.1"

_LIT: Final = parse_caps("core")

_CAPS: Final = isa.Capabilities(
    core_bitmap=0,
    ext_bitmap=0,
    protocol_version=VERSION,
    kernel_major=6,
    kernel_minor=1,
    kernel_patch=0,
    cpu_count=2,
    architecture=isa.Architecture.UNKNOWN,
    ram_mb=4096,
    swap_mb=0,
    root_size_mb=100_000,
    root_file_system=isa.FileSystem.UNKNOWN,
    rpi_source=isa.PressureSource.NONE,
    page=0,
)
_STATUS: Final = isa.Status(0.5, 0.4, 12, 2048, 40, 0, 1, 1, None)
_PROCS: Final = isa.Processes(100, (isa.Process(4711, 50.0, 3, isa.ProcessFlags(0)),))
_HELLO: Final = isa.Hello(magic=b"ASYS", node_uid=1, time_ns=1)


class LightNode(NamedTuple):
    """Where a node listens, and its public key."""

    port: int
    key: bytes


def _caps(page: int) -> bytes:
    core, ext = words(_LIT, page)
    packed = _CAPS.pack()
    head = core.to_bytes(4, "big") + ext.to_bytes(4, "big")
    return head + packed[len(head) : -1] + bytes((page,)) + SW.SUCCESS.wire


_ANSWERS: Final = {
    isa.SYS_HELLO.code: _HELLO.pack() + SW.SUCCESS.wire,
    isa.SYS_STATUS.code: _STATUS.pack() + SW.SUCCESS.wire,
    isa.SYS_PROCS.code: _PROCS.pack() + SW.SUCCESS.wire,
}
_PAGES: Final = tuple(map(_caps, range(4)))


class _Session(asyncio.Protocol):
    """One connection with one of the nodes."""

    __slots__ = ("_agent", "_link", "_parser", "_transport")

    def __init__(self, key: PrivateKey, agent: bytes) -> None:
        self._link = NodeLink(key)
        self._parser = FrameParser()
        self._agent = agent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        link = self._link
        try:
            link.receive_data(data)
            if link.state is not LinkState.OPEN:
                self._transport.write(link.data_to_send())
                return
            greeting = link.data_to_send()
            if greeting:
                self._transport.write(greeting)
            if link.agent_key != self._agent:
                self._transport.abort()
                return
            answers = [
                self._answer(frame.ins, frame.p1)
                for message in link.messages()
                for frame in self._parser.feed(message)
            ]
            if answers:
                self._transport.write(link.seal(answers))
        except LinkError:
            self._transport.abort()

    def _answer(self, code: int, p1: int) -> bytes:
        if code == isa.SYS_CAPS.code:
            return _PAGES[p1 % len(_PAGES)]
        return _ANSWERS.get(code, SW.NO_SUCH_INSTRUCTION.wire)


async def _serve(count: int, agent: bytes) -> None:
    loop = asyncio.get_running_loop()
    found: list[tuple[int, str]] = []
    servers = []  # whoever is not held is closed
    for _ in range(count):
        key = PrivateKey.generate()
        server = await loop.create_server(partial(_Session, key, agent), HOST, 0)
        servers.append(server)
        found.append((server.sockets[0].getsockname()[1], key.public.hex()))
    print(json.dumps(found), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def light_nodes(count: int, agent: bytes) -> Iterator[list[LightNode]]:
    """So many of them, for the agent with that public key, while the block lasts."""
    command = [sys.executable, "-m", "benchmarks.light_nodes", str(count), agent.hex()]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    try:
        if process.stdout is None:
            raise OSError("no pipe")
        line = process.stdout.readline()
        if not line:
            raise OSError("the light nodes did not start; see stderr")
        yield [LightNode(port, bytes.fromhex(key)) for port, key in json.loads(line)]
    finally:
        process.kill()
        process.communicate()


def allow_files(wanted: int) -> None:
    """Lets this process have so many descriptors, as far as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    allow_files(2 * int(sys.argv[1]) + 64)
    asyncio.run(_serve(int(sys.argv[1]), bytes.fromhex(sys.argv[2])))
