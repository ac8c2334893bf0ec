"""Addresses that asyd listens on: IPv4, IPv6 and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

BACKLOG: Final = 1024
"""Connections that the kernel holds until asyd takes them."""

ACCEPTS: Final = 16
"""How many of them asyd takes before it looks whether there is room for more."""

_CREDENTIALS: Final = struct.Struct("iII")
_PEERCRED: Final[int | None] = getattr(socket, "SO_PEERCRED", None)

_PORT: Final = re.compile(r"[0-9]{1,5}")
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)


class ListenError(Exception):
    """An address cannot be listened on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a TCP host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(written: str, port: int | None, option: str = "--listen") -> Address:
    """`1.2.3.4`, `1.2.3.4:99`, `::1`, `[::1]:99` or `unix:PATH`. ListenError: none of these.

    `port` is that of an address that names none; None: it has to. `option` is what it was given as.
    """
    if written.startswith("unix:"):
        path = written.removeprefix("unix:")
        if not path:
            raise ListenError(f"{option} unix: needs a path behind the colon")
        return Address("", 0, path)
    host, digits = written, None
    if bracketed := _BRACKETED.fullmatch(written):
        host, digits = bracketed.groups()
    elif written.count(":") == 1:
        host, digits = written.split(":")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if bracketed and ip.version != 6:
            raise ValueError("brackets are for IPv6")
    except ValueError:
        raise ListenError(
            f"{option} {written}: not an IPv4 or IPv6 address, nor unix:PATH"
        ) from None
    if digits is None and port is None:
        raise ListenError(f"{option} {written}: a port belongs behind it, with a colon")
    if digits is not None:
        if not _PORT.fullmatch(digits) or int(digits) > 0xFFFF:
            raise ListenError(f"{option} {written}: the port is 0 to 65535")
        port = int(digits)
    return Address(str(ip), port or 0)


async def listen(
    factory: Callable[[], asyncio.BaseProtocol], address: Address
) -> tuple[asyncio.Server, Address]:
    """Starts to listen; returns the address as it is, with the port that the system chose.

    ListenError when the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.path:
            clear_stale(Path(address.path))
        sock = _bound(address)
        try:
            if address.path:
                os.chmod(address.path, 0o666)  # noqa: S103  who may come in is decided by keys
                server = await loop.create_unix_server(factory, sock=sock, backlog=ACCEPTS)
            else:
                server = await loop.create_server(factory, sock=sock, backlog=ACCEPTS)
            sock.listen(BACKLOG)  # asyncio takes as many at once as the loop was told to hold
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        # The event loops each have words of their own for it.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"cannot listen on {address}: {reason}") from error
    return server, address if address.path else replace(address, port=sock.getsockname()[1])


def _bound(address: Address) -> socket.socket:
    """A socket that has the address. An event loop that is given a name looks it up in threads,
    which stay; what stands here is none. OSError.
    """
    family: socket.AddressFamily = socket.AF_UNIX
    where: Any = address.path
    if not address.path:
        numeric = socket.AI_NUMERICHOST | socket.AI_PASSIVE
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=numeric
        )
        family, where = found[0][0], found[0][-1]
    sock = socket.socket(family)
    try:
        sock.setblocking(False)
        if not address.path:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has an address of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def clear_stale(path: Path, known_as: Path | None = None) -> None:
    """Removes the socket of a daemon that is gone; never one that somebody answers on.

    ListenError names the path that it is `known_as`. OSError when it cannot be asked.
    """
    shown = known_as or path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on unix:{shown}: there is a file that is no socket")
    probe = socket.socket(socket.AF_UNIX)
    probe.setblocking(False)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    except BlockingIOError:
        pass  # somebody listens, and is behind with accepting
    finally:
        probe.close()
    raise ListenError(f"cannot listen on unix:{shown}: another process listens there")


def peer_credentials(connection: Any) -> tuple[int, int] | None:
    """uid and PID of a peer on a Unix socket; None for others, and where the system does not tell.

    `connection` is a socket, or what an event loop shows in place of one.
    """
    if _PEERCRED is None or connection is None or connection.family != socket.AF_UNIX:
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, _PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return uid, pid
