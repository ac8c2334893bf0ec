"""The command `asys-mcp`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asys.cli.nodes import add_host, add_identity, address_of
from asys.client.address import Address
from asys.client.options import DEFAULT_TIMEOUT
from asys.errors import ArgumentError, AsysError
from asys.protocol.limits import DEFAULT_PORT

if TYPE_CHECKING:
    from asys.client.aio import Connecting
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.integrations.mcp.nodes import Nodes
    from asys.integrations.mcp.server import AsysServer

OK: Final = 0
USAGE: Final = 2
CONNECTION: Final = 3

KEEPALIVE: Final = 25.0
"""Seconds. A model and a person think longer than a node lets a session idle, and the PIDs that it
has shown are remembered for one session only."""

_MISSING: Final = (
    "asys-mcp needs the MCP SDK, version 2, which is not installed here; "
    "install it with: pip install 'asys[mcp]'"
)


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(
        prog="asys-mcp",
        description="An MCP server that operates nodes as this agent: over stdin and stdout, or "
        "with --http over HTTP. It only reads unless --allow-changes is said.",
    )
    add_host(made, several=True)
    add_identity(made)
    made.add_argument(
        "--allow-changes",
        action="store_true",
        help="offer tools that change a node, as far as it grants them to this agent",
    )
    made.add_argument(
        "--confirm",
        choices=["elicit", "host"],
        default="elicit",
        help="who asks a person before a risky tool runs: this server, by elicitation (the "
        "default), or the host by its own means",
    )
    http = made.add_argument_group("over HTTP")
    http.add_argument(
        "--http", metavar="ADDR:PORT", help="serve http://ADDR:PORT/mcp; port 0: any free one"
    )
    http.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the bearer token that clients must show, at least 32 characters; mode 0600",
    )
    http.add_argument(
        "--insecure-bind",
        action="store_true",
        help="ADDR may be another than loopback, though HTTP shows the token to the network",
    )
    http.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this Host too, NAME or NAME:PORT; for a proxy in front",
    )
    http.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="answer to browsers with this Origin; none otherwise",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server until its client goes or it is told to end; gives the exit status."""
    given = parser().parse_args(arguments)
    try:
        import mcp.server.mcpserver  # noqa: F401 (whether it is there, before anything else)
    except ImportError:
        return _complain(_MISSING, USAGE)
    try:
        return asyncio.run(_main(given))
    except AsysError as error:
        return _complain(str(error), USAGE)
    except KeyboardInterrupt:
        return OK


async def _main(given: argparse.Namespace) -> int:
    from asys.integrations.mcp.confirm import Confirm
    from asys.integrations.mcp.server import AsysServer
    from asys.vendor.discovery import installed

    serve = _transport(given)
    nodes = _nodes(given)
    vendors = installed()
    for unusable in vendors.faults:
        _complain(unusable)
    server = AsysServer(
        nodes,
        allow_changes=given.allow_changes,
        confirm=Confirm(given.confirm),
        vendors=vendors.vendors,
    )
    try:
        faults = await server.refresh()
        for name, fault in faults.items():
            _complain(f"{name}: {fault}")
        if len(faults) == len(nodes.names):
            return CONNECTION
        await serve(server)
    finally:
        await nodes.close()
    return OK


def _transport(given: argparse.Namespace) -> Callable[[AsysServer], Awaitable[None]]:
    """How to serve. ArgumentError, IdentityError: not like that."""
    if given.http is None:
        if given.token_file or given.insecure_bind or given.allow_host or given.allow_origin:
            raise ArgumentError("--token-file and what else is about HTTP need --http ADDR:PORT")
        return _serve_stdio
    from asys.integrations.mcp import http

    if given.token_file is None:
        raise ArgumentError("--http needs --token-file: without a token anybody could act")
    token = http.read_token(given.token_file)
    host, port = http.parse_bind(given.http)
    http.check_bind(host, insecure=given.insecure_bind, hosts=given.allow_host)
    listener = http.listening(host, port)
    address = (host, listener.getsockname()[1])

    async def serve_http(server: AsysServer) -> None:
        app = http.application(server, token, address, given.allow_host, given.allow_origin)
        await http.serve(app, listener)

    return serve_http


async def _serve_stdio(server: AsysServer) -> None:
    await server.run_stdio_async()


def _nodes(given: argparse.Namespace) -> Nodes:
    """The nodes of the command line. ArgumentError, IdentityError: they cannot be."""
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.integrations.mcp.nodes import Nodes, name_of

    identity = Identity.load(given.identity)
    known_hosts = KnownHosts(given.known_hosts)
    timeout = given.timeout or DEFAULT_TIMEOUT
    connects: dict[str, Callable[[], Connecting]] = {}
    for host in given.host:
        address = address_of(argparse.Namespace(host=host, port=given.port))
        name = name_of(address, given.port or DEFAULT_PORT)
        if name in connects:
            raise ArgumentError(f"{host} is named twice")
        connects[name] = partial(_connect, address, identity, known_hosts, timeout)
    return Nodes(connects)


def _connect(
    address: Address, identity: Identity, known_hosts: KnownHosts, timeout: float
) -> Connecting:
    import asys

    return asys.connect(
        address.host,
        address.port or DEFAULT_PORT,
        identity=identity,
        known_hosts=known_hosts,
        timeout=timeout,
        keepalive=KEEPALIVE,
    )


def _complain(message: str, status: int = OK) -> int:
    sys.stderr.write(f"asys-mcp: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
