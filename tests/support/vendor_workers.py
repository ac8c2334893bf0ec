"""Workers of vendors that a test plays itself, over the real wire."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from asys.isa import Level
from asys.node.vendor.enabled import Enabled
from asys.node.vendor.launch import LaunchError
from asys.vendor.definition import id_of_domain
from asys.vendor.wire import (
    MAX_TO_WORKER,
    REQUEST,
    Described,
    Description,
    Messages,
    pack_answer,
    pack_hello,
    unpack_request,
)

DOMAIN: Final = "a.example.com"
OTHER_DOMAIN: Final = "b.example.com"


def described(
    code: int = 0xC0,
    name: str = "DOUBLE",
    *,
    level: Level = Level.SIGNED,
    chainable: bool = False,
    body: int = 4,
    body_exact: bool = True,
    reply: int = 4,
    reply_exact: bool = True,
) -> Described:
    """An instruction that takes and gives 4 bytes, where nothing else is said."""
    return Described(code, name, level, chainable, body, body_exact, reply, reply_exact)


def description(
    *instructions: Described, domain: str = DOMAIN, vendor_id: int | None = None
) -> Description:
    """A vendor; with one instruction where none are given."""
    number = id_of_domain(domain) if vendor_id is None else vendor_id
    return Description(domain, "For tests", number, instructions or (described(),))


class Played:
    """A worker's end of the wire, and what its launcher is told of its end."""

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._messages = Messages(MAX_TO_WORKER)
        self.pids: tuple[int, ...] = (4_000_001,)
        self.memory = False
        """Whether it is said to have run out of memory."""
        self.ended = False

    async def end(self) -> bool:
        """As Running.end."""
        self.ended = True
        self.hang_up()
        return self.memory

    def say(self, data: bytes) -> None:
        """Any bytes at all."""
        self._theirs.send(data)

    def hello(self, what: Description | None = None) -> None:
        """Says who it is."""
        self.say(pack_hello(what or description()))

    async def request(self) -> tuple[int, int, int, int, bytes]:
        """The next request: id, INS, P1, P2, body. AssertionError at the end of the stream."""
        loop = asyncio.get_running_loop()
        found: list[tuple[int, bytes]] = []
        while not found:
            data = await loop.sock_recv(self._theirs, 1 << 20)
            assert data, "asyd has hung up"
            found = self._messages.feed(data)
        [(kind, body)] = found
        assert kind == REQUEST
        return unpack_request(body)

    async def asked(self, count: int) -> list[tuple[int, int, int, int, bytes]]:
        """So many requests, however they come."""
        loop = asyncio.get_running_loop()
        found: list[tuple[int, bytes]] = []
        while len(found) < count:
            data = await loop.sock_recv(self._theirs, 1 << 20)
            assert data, "asyd has hung up"
            found += self._messages.feed(data)
        return [unpack_request(body) for _, body in found]

    def answer(self, number: int, sw: int = 0x9000, reply: bytes = b"", note: str = "") -> None:
        """Answers a request."""
        self.say(pack_answer(number, sw, note, reply))

    async def hung_up(self) -> None:
        """Returns when asyd has hung up."""
        while await asyncio.get_running_loop().sock_recv(self._theirs, 1 << 20):
            pass

    def hang_up(self) -> None:
        """As a worker does that dies."""
        self._theirs.close()


class PlayedLauncher:
    """Hands out workers that the test plays. `refuses` are reasons for the next launches to fail,
    `unfit` why no vendor can be what it is to be.
    """

    name = "played"

    def __init__(self) -> None:
        self.refuses: list[str] = []
        self.unfit = ""
        self.launched: list[tuple[Enabled, Played]] = []
        self.closed = False
        self._more = asyncio.Condition()

    def refusal(self, enabled: Enabled) -> str:
        """As Launcher.refusal."""
        return self.unfit

    async def launch(self, enabled: Enabled) -> Played:
        """As Launcher.launch."""
        if self.refuses:
            raise LaunchError(self.refuses.pop(0))
        played = Played()
        async with self._more:
            self.launched.append((enabled, played))
            self._more.notify_all()
        return played

    async def close(self) -> None:
        """As Launcher.close."""
        self.closed = True

    async def worker(self, number: int = 0, domain: str = DOMAIN) -> Played:
        """The worker of a vendor that was started as the `number`-th, from 0, once it is there."""
        async with self._more:
            await self._more.wait_for(lambda: len(self._of(domain)) > number)
        return self._of(domain)[number]

    def _of(self, domain: str) -> list[Played]:
        return [played for enabled, played in self.launched if enabled.domain == domain]
