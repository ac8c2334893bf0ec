"""`asys top`: nodes to look at, live."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asys.cli import nodes
from asys.cli.failures import LocalFault, MissingExtra, complain
from asys.cli.screen import Output, Screen, is_terminal
from asys.errors import ArgumentError, LinkError, StatusError, UnknownHost
from asys.protocol.limits import DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asys.tui.watcher import Target, Watcher

DEFAULT_INTERVAL: Final = 1.0
"""Seconds between two looks at a node."""

LEAST_INTERVAL: Final = 0.2
MOST_INTERVAL: Final = 20.0
"""Seconds; a session that is idle for longer may be renewed, and forget which PIDs it has shown."""

HELP: Final = "watch nodes live: vitals, processes, actions; suspend and resume on a key"


def add_top(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys top`."""
    nodes.add_host(parser, several=True)
    nodes.add_identity(parser)
    parser.add_argument(
        "--interval",
        type=_interval,
        default=DEFAULT_INTERVAL,
        metavar="S",
        help=f"seconds between two looks, {LEAST_INTERVAL:g} to {MOST_INTERVAL:g} "
        f"(default: {DEFAULT_INTERVAL:g})",
    )
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="DIR",
        help="for an admin on the node: show what all its agents do, from its audit directory",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Output:
    """Shows the nodes until somebody quits. Then it names what stays suspended.

    MissingExtra, ArgumentError, IdentityError; UnknownHost when nobody confirmed a key; LocalFault
    when the audit cannot be read. What goes wrong later is shown in the view.
    """
    if arguments.json:
        raise ArgumentError("top is for people; for programs: asys status HOST --json")
    _need_textual()
    if arguments.audit is not None and len(arguments.host) > 1:
        raise ArgumentError("--audit is the audit of one node; name one HOST")
    found = targets(arguments)
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise ArgumentError("top needs a terminal; without one: asys status HOST")
    from asys.tui.app import TopApp

    try:
        app = TopApp(found, interval=arguments.interval, audit=arguments.audit)
    except OSError as error:
        raise LocalFault(f"the audit cannot be read: {error}") from error
    app.run()
    left = still_suspended(app.watchers)

    def show(screen: Screen) -> None:
        for line in left:
            screen.line(line)

    return Output({}, show)


def targets(arguments: argparse.Namespace) -> list[Target]:
    """The nodes, with their keys known; whoever sits here is asked about those that are not.

    ArgumentError, IdentityError, UnknownHost.
    """
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.client.options import DEFAULT_TIMEOUT
    from asys.tui.watcher import Target

    identity = Identity.load(arguments.identity)
    known_hosts = KnownHosts(arguments.known_hosts)
    options = {
        "identity": identity,
        "known_hosts": known_hosts,
        "timeout": arguments.timeout or DEFAULT_TIMEOUT,
    }
    found = []
    for host in dict.fromkeys(arguments.host):
        one = argparse.Namespace(**{**vars(arguments), "host": host})
        address = nodes.address_of(one)
        port = address.port or DEFAULT_PORT
        if known_hosts.lookup(address.host, port) is None:
            _introduce(one)
        found.append(Target(str(address), address.host, port, options))
    return found


def _introduce(arguments: argparse.Namespace) -> None:
    """Asks about a host key that is not known. What else is wrong the view will tell."""
    try:
        nodes.connect(arguments, lambda exchange: None).close()
    except UnknownHost:
        raise
    except (LinkError, StatusError) as error:
        complain(f"asys: {error}")


def still_suspended(watchers: Sequence[Watcher]) -> list[str]:
    """A line for each process that was suspended in the view and not let go."""
    return [
        f"{watcher.target.name}: {row.pid} {row.called} is still suspended, as far as is known; "
        f"to let it go on: asys resume {watcher.target.name} {row.pid}"
        for watcher in watchers
        for row in watcher.held
    ]


def _need_textual() -> None:
    try:
        found = importlib.util.find_spec("textual")
    except ValueError:
        found = None
    if found is None:
        raise MissingExtra("asys top needs textual: pip install 'asys[tui]'")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_INTERVAL <= seconds <= MOST_INTERVAL:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds, {LEAST_INTERVAL:g} to {MOST_INTERVAL:g}"
        )
    return seconds
