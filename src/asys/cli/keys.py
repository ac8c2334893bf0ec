"""`asys keygen` and `asys trust`: this agent's key, and the keys of nodes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from asys.cli import nodes
from asys.cli.screen import Output, Screen
from asys.client.identity import KEY_FILE, PUBLIC_FILE, Identity, default_directory
from asys.client.known_hosts import KnownHosts
from asys.client.options import DEFAULT_TIMEOUT
from asys.errors import ArgumentError, HostKeyChanged, UnknownHost
from asys.protocol.keys import is_low_order
from asys.protocol.limits import DEFAULT_PORT
from asys.protocol.statement import BadStatement, parse_statements

if TYPE_CHECKING:
    from asys.client.address import Address

MAX_INPUT: Final = 4096
"""Characters read from stdin for one key."""

MAX_STATEMENTS: Final = 1 << 20
"""Characters read of what `asyd key statement` has printed."""


def add_keygen(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys keygen`."""
    parser.add_argument(
        "--dir",
        "--identity",
        dest="directory",
        type=Path,
        metavar="DIR",
        help="where to put the key (default: ~/.asys)",
    )
    parser.set_defaults(run=keygen)


def keygen(arguments: argparse.Namespace) -> Output:
    """Makes this agent's key. IdentityError when there is one already."""
    directory: Path = arguments.directory or default_directory()
    public = Identity.create(arguments.directory).public.hex()

    def show(screen: Screen) -> None:
        screen.line(f"Your private key is in {directory / KEY_FILE}; keep it to yourself.")
        screen.line(f"Your public key is in {directory / PUBLIC_FILE}:")
        screen.line(f"  {public}")
        screen.line("On each node, an admin lets this agent in with:")
        screen.line(f"  asyd agents add {public}")

    data = {
        "key_file": str(directory / KEY_FILE),
        "public_key_file": str(directory / PUBLIC_FILE),
        "public_key": public,
    }
    return Output(data, show)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys trust`."""
    nodes.add_host(parser)
    parser.add_argument(
        "key",
        nargs="?",
        metavar="KEY",
        help="the node's key as `asyd pubkey` prints it; without it the node is asked, and you",
    )
    parser.add_argument(
        "--stdin",
        action="store_true",
        help="read the key from stdin: ssh NODE asyd pubkey | asys trust NODE --stdin",
    )
    parser.add_argument(
        "--replace", action="store_true", help="put it in place of another key for that node"
    )
    parser.add_argument(
        "--statement",
        metavar="FILE",
        help="go from the known key to the one that it states, and on: FILE, or - for stdin, has "
        "what `asyd key statement` prints on the node",
    )
    parser.set_defaults(run=trust)


def trust(arguments: argparse.Namespace) -> Output:
    """Adds a node's key to known_hosts, given or confirmed by a person at the terminal.

    ArgumentError when the key is none, or would silently replace another; HostKeyChanged when the
    node shows another key than the known one; UnknownHost when nobody confirmed it.
    """
    address = nodes.address_of(arguments)
    known_hosts = KnownHosts(arguments.known_hosts)
    if arguments.statement is not None:
        return _carried(arguments, address, known_hosts)
    known = known_hosts.lookup(address.host, address.port or DEFAULT_PORT)
    given = _given_key(arguments)
    key = _shown_key(arguments, address) if given is None else given
    before = known_hosts.superseded(address.host, address.port or DEFAULT_PORT)
    if given is None and known is not None and key in before:
        key = known  # the node shows the old one until its overlap ends
    if key != known:
        if known is not None and not arguments.replace:
            _refuse_change(address, key, known, given is not None)
        if given is None:
            nodes.confirm(UnknownHost(str(address), key), known)
        if known is not None:
            known_hosts.remove(address.host, address.port or DEFAULT_PORT)
        known_hosts.add(address.host, address.port or DEFAULT_PORT, key)
    added = key != known
    data = {
        "node": str(address),
        "key": key.hex(),
        "known_hosts": str(known_hosts.path),
        "added": added,
        "replaced": known.hex() if added and known is not None else None,
    }
    if not added:
        said = f"{address} is known already, with this key:"
    elif known is None:
        said = f"{address} is added to {known_hosts.path} with this key:"
    else:
        said = f"{address} has this new key in {known_hosts.path}:"
    return Output(data, lambda screen: screen.line(f"{said}\n  {key.hex()}"))


def _given_key(arguments: argparse.Namespace) -> bytes | None:
    """The key on the command line or on stdin; None: neither."""
    if arguments.stdin and arguments.key is not None:
        raise ArgumentError("give KEY or --stdin, not both")
    if arguments.stdin:
        try:
            text = sys.stdin.read(MAX_INPUT) if sys.stdin is not None else ""
        except UnicodeDecodeError:
            raise ArgumentError("stdin is not text; it must be a node's key in hex") from None
        key = nodes.read_key(text, "stdin")
    elif arguments.key is not None:
        key = nodes.read_key(arguments.key, "KEY")
    else:
        return None
    if is_low_order(key):
        raise ArgumentError(f"{key.hex()} can be nobody's key")
    return key


def _carried(arguments: argparse.Namespace, address: Address, known_hosts: KnownHosts) -> Output:
    """Follows the statements in a file. ArgumentError: they are bad, or lead nowhere."""
    if arguments.key is not None or arguments.stdin or arguments.replace:
        raise ArgumentError("--statement says which key it is; leave KEY, --stdin and --replace")
    port = address.port or DEFAULT_PORT
    known = known_hosts.lookup(address.host, port)
    if known is None:
        raise ArgumentError(
            f"known_hosts has no key for {address} that could state another; run: asys trust "
            f"{address}"
        )
    source = "stdin" if arguments.statement == "-" else arguments.statement
    try:
        if arguments.statement == "-":
            text = sys.stdin.read(MAX_STATEMENTS + 1) if sys.stdin is not None else ""
        else:
            with Path(arguments.statement).open(encoding="ascii") as file:
                text = file.read(MAX_STATEMENTS + 1)
        if len(text) > MAX_STATEMENTS:
            raise ArgumentError(f"{source} is longer than {MAX_STATEMENTS} characters")
        statements = parse_statements(text)
        key = known_hosts.carry(address.host, port, statements)
    except OSError as error:
        raise ArgumentError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ArgumentError(f"{source} is not text in ASCII") from None
    except BadStatement as error:
        raise ArgumentError(
            f"{source} carries nobody over: {error}; nothing has changed. Ask the admin of the "
            "node for what `asyd key statement` prints there"
        ) from None
    if key == known and all(one.new_key != known for one in statements):
        raise ArgumentError(
            f"{source} has no statement of the key that known_hosts has for {address}, "
            f"{known.hex()}"
        )
    moved = key != known
    data = {
        "node": str(address),
        "key": key.hex(),
        "known_hosts": str(known_hosts.path),
        "added": moved,
        "replaced": known.hex() if moved else None,
    }
    said = (
        f"{address} has this new key in {known_hosts.path}, stated by the one before:"
        if moved
        else f"{address} is known already, with this key:"
    )
    return Output(data, lambda screen: screen.line(f"{said}\n  {key.hex()}"))


class _KnowsNobody(KnownHosts):
    """With it a connection ends as soon as the node has shown its key, before the handshake."""

    __slots__ = ()

    def lookup(self, host: str, port: int = DEFAULT_PORT) -> bytes | None:
        return None


def _shown_key(arguments: argparse.Namespace, address: Address) -> bytes:
    """The key that the node shows; it learns nothing of this agent."""
    from asys.client.blocking import connect

    try:
        with connect(
            address.host,
            address.port or DEFAULT_PORT,
            identity=Identity.generate(),
            known_hosts=_KnowsNobody(arguments.known_hosts),
            timeout=arguments.timeout or DEFAULT_TIMEOUT,
        ) as node:
            return node.node_key
    except UnknownHost as unknown:
        return unknown.key


def _refuse_change(address: Address, key: bytes, known: bytes, given: bool) -> NoReturn:
    if not given:
        raise HostKeyChanged(str(address), key, known)
    raise ArgumentError(
        f"known_hosts has another key for {address}: {known.hex()}; if the node really has a new "
        "key, say so with --replace"
    )
