"""Making a connection of blocking sockets."""

from __future__ import annotations

import socket
from time import perf_counter
from typing import Any

from asys.client.address import Address
from asys.errors import ConnectFailed, DeadlineExceeded


def dial(address: Address, deadline: float) -> socket.socket:
    """A connected socket. ConnectFailed says what the operating system says."""
    try:
        places = _places(address)
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"cannot reach {address}: {error}") from error
    if not places:
        raise ConnectFailed(f"cannot reach {address}: this system has no unix sockets")
    failure: OSError | None = None
    for place, left in zip(places, range(len(places), 0, -1), strict=True):
        # Each address gets its share, so that one that swallows packets leaves time for others.
        patience = max((deadline - perf_counter()) / left, 0.001)
        try:
            return _connected(*place, patience)
        except OSError as error:
            failure = error
    if perf_counter() >= deadline:
        raise DeadlineExceeded(f"{address} did not accept a connection in time")
    raise ConnectFailed(f"cannot reach {address}: {failure}") from failure


def _connected(family: int, where: Any, patience: float) -> socket.socket:
    """A socket that is connected within `patience` seconds. OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(patience)
        sock.connect(where)
        if family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _places(address: Address) -> list[tuple[int, Any]]:
    """Address families and socket addresses to try in turn; none: this system cannot. OSError."""
    if not address.path:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return [(family, where) for family, _, _, _, where in found]
    return [(socket.AF_UNIX, address.path)] if hasattr(socket, "AF_UNIX") else []
