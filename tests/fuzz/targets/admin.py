"""The admin socket: any bytes in, one line of JSON out, and only orders are followed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from asys.node.admin.held import HeldInfo
from asys.node.admin.server import AdminServer, serve_admin
from asys.node.admin.verbs import TAKES
from asys.node.platform.base import NotPermitted
from fuzz import scratch
from fuzz.choices import Choices, Script
from fuzz.logged import no_surprise
from support.admin_rig import KEY, OTHER, MadeControls, session

COVERS = ("asys.node.admin.verbs", "asys.node.admin.server")

_CHANGES: Final = {"close", "dark", "light", "reload", "release", "rotate"}


@dataclass
class _Held:
    """Two processes that are held; one cannot be let go."""

    released: list[int] = field(default_factory=list)

    def listed(self) -> list[HeldInfo]:
        """As Held.listed."""
        return [HeldInfo(7, "na\x1bme", "signal", "web", 1, 0)]

    async def release(self, pid: int) -> int:
        """As Held.release."""
        if pid == 9:
            raise NotPermitted("not that one")
        self.released.append(pid)
        return int(pid in (0, 7))


def one(data: bytes) -> None:
    """One connection of somebody who may ask."""
    with no_surprise("asyd"):
        asyncio.run(_connection(Choices(data)))


async def _connection(choices: Choices) -> None:
    pieces = choices.pieces()
    held = _Held()
    controls = MadeControls(
        open=[session(), session(OTHER, "two", number=8), session(OTHER, "watcher", number=9)]
    )
    controls.things["throttled"] = held
    server = serve_admin(controls, scratch.directory() / "admin" / "socket", seconds=60.0)
    try:
        answer = await _asked(server, pieces)
    finally:
        server.close()
    request = b"".join(pieces)
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1
    told = json.loads(answer)
    assert isinstance(told, dict)
    order = _order(request)
    changed = controls.closed, controls.reloads, controls.dark, held.released, controls.stated
    done = any(changed)
    if order is None:
        assert list(told) == ["error"]
        assert not done
    elif "error" not in told:
        assert done is (order["verb"] in _CHANGES - {"light"})
    elif order["verb"] not in ("close", "release", "rotate", "finish"):
        assert order["verb"] == "isolations"


async def _asked(server: AdminServer, pieces: list[bytes]) -> bytes:
    """What comes back from the server's own way with a connection."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.setblocking(False)
        serving = asyncio.create_task(server._serve(theirs, "uid 0, process 1"))
        loop = asyncio.get_running_loop()
        for piece in pieces:
            if piece:
                await loop.sock_sendall(ours, piece)
        ours.shutdown(socket.SHUT_WR)
        await serving
        answer = b""
        while more := await loop.sock_recv(ours, 1 << 16):
            answer += more
        return answer


def _order(request: bytes) -> dict[str, Any] | None:
    """The order in a request, where it is one."""
    line, newline, rest = request.partition(b"\n")
    if not newline or rest:
        return None
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or not isinstance(read.get("verb"), str):
        return None
    takes = TAKES.get(read["verb"])
    return read if takes is not None and set(read) == takes | {"verb"} else None


def seeds() -> Iterator[bytes]:
    """Every verb as it is meant, and each way for a request to be none."""
    said: list[object] = [
        *({"verb": verb} for verb in TAKES),
        {"verb": "close", "who": KEY.hex()},
        {"verb": "close", "who": "watcher"},
        {"verb": "close", "who": ["x"]},
        *({"verb": "release", "what": "throttled", "pid": pid} for pid in (0, 7, 8, 9, -1, "x")),
        {"verb": "release", "what": "isolations", "pid": 7},
        {"verb": "nothing"},
        [],
        7,
    ]
    for one in said:
        yield bytes(Script().byte(0).raw(json.dumps(one).encode() + b"\n"))
    first = json.dumps(said[0]).encode() + b"\n"
    for bad in (b"", first[:-1], first + b"x", b"\xff\n", b"{\n", b"\n", b"[" * 400 + b"\n"):
        yield bytes(Script().byte(2, 3, 1).raw(bad))
    nested = b'{"verb": "close", "who": ' + b"[" * 600 + b"]" * 600 + b"}\n"
    yield bytes(Script().byte(0).raw(nested))
