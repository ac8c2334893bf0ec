"""The server over HTTP: a bearer token, Host and Origin, and an address of one's own choice."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from asys.client.identity import OTHERS, check_mode
from asys.errors import ArgumentError, IdentityError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from asys.integrations.mcp.server import AsysServer

PATH: Final = "/mcp"

LEAST_TOKEN: Final = 32
"""Characters: 128 bits in hex digits."""

_MOST_TOKEN: Final = 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


def read_token(path: Path) -> str:
    """The token in a file that nobody else may read.

    IdentityError: it is missing, open to others, or no token; the message mends it.
    """
    remedy = f"make one with: (umask 077; openssl rand -hex 32 > {path})"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise IdentityError(f"{path} is no regular file; {remedy}")
        check_mode(path, OTHERS, "600")
        _check_owner(path)
        with path.open("rb") as file:
            token = file.read(_MOST_TOKEN + 1).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise IdentityError(f"there is no token file {path}; {remedy}") from None
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from error
    if not LEAST_TOKEN <= len(token) <= _MOST_TOKEN or _TOKEN.fullmatch(token) is None:
        raise IdentityError(
            f"{path} must hold one token of {LEAST_TOKEN} to {_MOST_TOKEN} letters, digits and "
            f"-._~+/=; {remedy}"
        )
    return token


def _check_owner(path: Path) -> None:
    if os.name == "posix" and path.stat().st_uid not in (0, os.geteuid()):
        raise IdentityError(f"{path} belongs to another user; chown it to the user of asys-mcp")


def parse_bind(text: str) -> tuple[str, int]:
    """Address and port of `ADDR:PORT` or `[IPV6]:PORT`. ArgumentError: it is neither."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address("127.0.0.1" if bare == "localhost" else bare)
    except ValueError:
        raise ArgumentError(f"{text!r} is not ADDR:PORT with an IP address, or localhost") from None
    if address.version == 6 and bare == host:
        raise ArgumentError(f"an IPv6 address is written in brackets: [{host}]:{port}")
    if not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ArgumentError(f"{text!r} ends in no port, 0 to 65535")
    return str(address), int(port)


def check_bind(host: str, *, insecure: bool, hosts: Sequence[str] = ()) -> None:
    """ArgumentError where others than this machine would reach it and nobody said so, or where it
    would answer to no name.
    """
    if ipaddress.ip_address(host).is_unspecified and not hosts:
        raise ArgumentError(f"{host} is no name to answer to; say which with --allow-host")
    if not ipaddress.ip_address(host).is_loopback and not insecure:
        raise ArgumentError(
            f"{host} is not this machine alone, and HTTP shows the token to whoever is on the "
            "way. Bind to 127.0.0.1 and put a proxy with TLS, or ssh -L, in front; or say "
            "--insecure-bind"
        )


class BearerToken:
    """Lets requests through that have the token; all others get 401 and reach nothing."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "lifespan" and not self._knows(scope):
            headers = [(b"www-authenticate", b"Bearer"), (b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"a bearer token is needed\n"})
            return
        await self._app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(shown) != 1:
            return False
        scheme, _, token = shown[0].partition(b" ")
        known = hmac.compare_digest(token.strip(), self._expected)
        return known and scheme.lower() == b"bearer"


def application(
    server: AsysServer,
    token: str,
    address: tuple[str, int],
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> ASGIApp:
    """The server as an ASGI application that stands at `address`.

    It answers to the names of that address and to `hosts`, each `NAME` or `NAME:PORT`; a request
    with an Origin, which browsers send, only to those in `origins`.
    """
    host, port = address
    names = [*_own_names(host), *hosts]
    allowed = [name if _has_port(name) else f"{name}:{port}" for name in names]
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        host=host,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[*allowed, *hosts],
            allowed_origins=list(origins),
        ),
    )
    return BearerToken(app, token)


def _own_names(host: str) -> tuple[str, ...]:
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return _LOOPBACK_NAMES
    if address.is_unspecified:
        return ()
    return (f"[{host}]" if address.version == 6 else host,)


def _has_port(name: str) -> bool:
    return re.search(r":\d+$", name) is not None and not name.endswith("]")


def listening(host: str, port: int) -> socket.socket:
    """A listening socket. ArgumentError: it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ArgumentError(f"cannot listen on {host} port {port}: {error.strerror}") from error


class _Server(uvicorn.Server):
    """Leaves signals to who runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises as ever
            loop.add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"asys-mcp: serving http://{shown}:{port}{PATH}\n")
    sys.stderr.flush()
    await server.serve(sockets=[listener])
