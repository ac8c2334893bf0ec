"""Which node, as whom, and what to do about a host key that nobody has confirmed yet."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asys.cli.failures import complain
from asys.cli.screen import is_terminal
from asys.client.address import UNIX_PREFIX, Address
from asys.client.options import DEFAULT_TIMEOUT, check_timeout
from asys.errors import ArgumentError, UnknownHost
from asys.protocol.limits import DEFAULT_PORT, KEY_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from asys.client.blocking import Node
    from asys.client.exchange import Exchange
    from asys.client.known_hosts import KnownHosts

_HEX_KEY: Final = re.compile(f"[0-9A-Fa-f]{{{2 * KEY_SIZE}}}")


def add_host(
    parser: argparse.ArgumentParser, *, several: bool = False, optional: bool = False
) -> None:
    """Adds HOST, --port, --known-hosts and --timeout.

    `several`: `host` is a list of them; `optional`: it may be left out, and is None then.
    """
    parser.add_argument(
        "host",
        metavar="HOST",
        nargs="+" if several else "?" if optional else None,
        help="name, address, NAME:PORT, [IPV6]:PORT or unix:/PATH",
    )
    parser.add_argument(
        "--port", type=_port, metavar="PORT", help=f"TCP port (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--known-hosts",
        type=Path,
        metavar="FILE",
        help="the keys of nodes that somebody has confirmed (default: ~/.asys/known_hosts)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help=f"seconds for connecting, and for each answer (default: {DEFAULT_TIMEOUT:g})",
    )


def add_identity(parser: argparse.ArgumentParser) -> None:
    """Adds --identity."""
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="where this agent's key is (default: ~/.asys)"
    )


def address_of(arguments: argparse.Namespace) -> Address:
    """The node that HOST and --port name. ArgumentError: they name none."""
    host: str = arguments.host
    port: int | None = arguments.port
    try:
        address = Address.of(host, DEFAULT_PORT if port is None else port)
    except ArgumentError:
        if host.startswith(UNIX_PREFIX):
            raise
        address = Address.parse(host)
        if port is not None:
            raise ArgumentError(f"{host} has a port already; leave --port {port} out") from None
    return address


def connect(arguments: argparse.Namespace, trace: Callable[[Exchange], None]) -> Node:
    """The node, connected; an unknown host key is asked about where a person can answer.

    Raises what `asys.sync.connect` raises; UnknownHost when nobody confirmed the key.
    """
    from asys.client import blocking
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts

    address = address_of(arguments)
    identity = Identity.load(arguments.identity)
    known_hosts = KnownHosts(arguments.known_hosts)

    def attempt() -> Node:
        return blocking.connect(
            address.host,
            address.port or DEFAULT_PORT,
            identity=identity,
            known_hosts=known_hosts,
            timeout=arguments.timeout or DEFAULT_TIMEOUT,
            trace=trace,
        )

    try:
        return attempt()
    except UnknownHost as unknown:
        confirm(unknown)
        add(known_hosts, address, unknown.key)
    return attempt()


def add(known_hosts: KnownHosts, address: Address, key: bytes) -> None:
    """Adds a confirmed key, and says where. IdentityError: it cannot be written."""
    known_hosts.add(address.host, address.port or DEFAULT_PORT, key)
    complain(f"{address} is added to {known_hosts.path}")


def confirm(unknown: UnknownHost, before: bytes | None = None) -> None:
    """Returns when a person at the terminal has confirmed the key; else raises `unknown` again.

    `before` is the key that it replaces. ArgumentError when a key was typed, and it is another.
    """
    if not is_terminal(sys.stdin):
        raise unknown
    if before is None:
        complain(f"{unknown.host} is not known here. It shows the key\n\n  {unknown.key.hex()}\n")
    else:
        complain(
            f"THE KEY OF {unknown.host} HAS CHANGED.\n\n"
            f"  known so far   {before.hex()}\n"
            f"  it now shows   {unknown.key.hex()}\n"
        )
    complain("Compare it with what `asyd pubkey` prints on the node; if they differ, say no.")
    question = "Trust this key from now on (yes, no, or the key itself)? "
    while True:
        sys.stderr.write(question)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            complain("")
            raise unknown
        answer = line.strip()
        if answer.lower() == "yes":
            return
        if answer.lower() == "no":
            raise unknown
        if _HEX_KEY.fullmatch(answer):
            if bytes.fromhex(answer) == unknown.key:
                return
            raise ArgumentError(
                f"that is not the key that {unknown.host} shows; it is not trusted, and somebody "
                "may be in between"
            )
        question = "Type yes, no, or the 64 hex digits of the key: "


def read_key(text: str, source: str) -> bytes:
    """The key in what `asyd pubkey` prints. ArgumentError: it is none; says what was there."""
    written = text.strip()
    if _HEX_KEY.fullmatch(written) is None:
        what = f"{written[:80]!r}" if written else "nothing"
        raise ArgumentError(
            f"{source} must be a node's key, the {2 * KEY_SIZE} hex digits that `asyd pubkey` "
            f"prints; it is {what}"
        )
    return bytes.fromhex(written)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 0xFFFF):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds on the command line."""
    try:
        return check_timeout(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds, more than 0"
        ) from None
