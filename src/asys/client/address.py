"""Where a node is, and its name in `known_hosts` (docs/protocol.md, section 8)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from asys.errors import ArgumentError
from asys.protocol.limits import DEFAULT_PORT

UNIX_PREFIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A node's address in the one spelling that `known_hosts` uses.

    `host` is a name in lower case, an IP address without brackets, or `unix:PATH`; `port` is 0 for
    a unix socket.
    """

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int = DEFAULT_PORT) -> Address:
        """The address of `host` and `port`; the port of a unix socket is ignored.

        ArgumentError when either cannot be an address.
        """
        if host.startswith(UNIX_PREFIX):
            path = host.removeprefix(UNIX_PREFIX)
            if not path.startswith("/") or not path.isprintable() or path != path.strip():
                raise ArgumentError(f"a unix socket is written unix:/absolute/path, not {host!r}")
            return cls(host, 0)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 0xFFFF:
            raise ArgumentError(f"port must be 1 to 65535, not {port!r}")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        # The zone of an IPv6 address may be any text, and this one goes into a line of a file.
        if not bare.isprintable() or any(c.isspace() for c in bare):
            raise ArgumentError(f"{host!r} is neither a name nor an IP address")
        if ":" in bare:
            try:
                return cls(ipaddress.IPv6Address(bare).compressed, port)
            except ValueError:
                raise ArgumentError(
                    f"{host!r} is neither a name nor an IP address; a port is given apart from it"
                ) from None
        if not bare or bare != host:
            raise ArgumentError(f"{host!r} is neither a name nor an IP address")
        if bare.startswith("#"):
            raise ArgumentError(f"{host!r} would be a comment in known_hosts; no host has a #")
        if bare.lower() == UNIX_PREFIX[:-1]:
            raise ArgumentError(f"{host!r} is kept for unix sockets; give the node's address")
        return cls(bare.lower(), port)

    @classmethod
    def parse(cls, name: str) -> Address:
        """The address in `host`, `host:port`, `[ipv6]:port`, `ipv6` or `unix:PATH`.

        ArgumentError when it is none of them.
        """
        host, colon, port = name.rpartition(":")
        with_port = colon and (":" not in host or (host.startswith("[") and host.endswith("]")))
        if name.startswith(UNIX_PREFIX) or not with_port:
            return cls.of(name)
        if not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise ArgumentError(f"{name!r} ends in no port number")
        return cls.of(host, int(port))

    @property
    def path(self) -> str:
        """The path of a unix socket; empty for TCP."""
        return self.host.removeprefix(UNIX_PREFIX) if self.host.startswith(UNIX_PREFIX) else ""

    def __str__(self) -> str:
        """As in `known_hosts`: host:port, [ipv6]:port or unix:PATH."""
        if self.path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
