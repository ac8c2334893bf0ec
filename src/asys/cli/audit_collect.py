"""`asys audit collect|admit`: keeps the audits of nodes, and says whose."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from asys.cli.failures import LocalFault
from asys.cli.screen import print_json
from asys.errors import ArgumentError

EXIT_STATUS: Final = """\
exit status:
  0    ended as asked
  2    wrong usage or argument, or it cannot start
  130  interrupted
"""


def add_collect(actions: Any) -> None:
    """Adds both commands to the subparsers of `asys audit`."""
    about = "keep what nodes push of their audits, until SIGTERM; SIGHUP reads the nodes again"
    made = actions.add_parser("collect", help=about, description=about, epilog=EXIT_STATUS)
    made.add_argument(
        "--listen",
        default="0.0.0.0",  # noqa: S104  the keys decide who comes in
        metavar="ADDRESS",
        help="IPv4 or IPv6 address, with :PORT or without (default: 0.0.0.0:7817)",
    )
    made.add_argument(
        "--dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="the collector's key, authorized_nodes, and a directory for each node",
    )
    made.add_argument("--debug", action="store_true", help="log more")
    about = "admit a node to a collector"
    made = actions.add_parser("admit", help=about, description=about, epilog=EXIT_STATUS)
    made.add_argument("directory", type=Path, metavar="DIR", help="the collector's directory")
    made.add_argument("key", metavar="KEY", help="what `asyd pubkey` prints on the node")
    made.add_argument("label", metavar="LABEL", help="the name of the node's directory")
    made.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="JSON on stdout"
    )


def collect(arguments: argparse.Namespace) -> int:
    """Serves. LocalFault when it cannot start; ArgumentError; IdentityError."""
    _posix_only()
    from asys.audit.collector.keeper import CannotStart
    from asys.audit.collector.process import Options, run
    from asys.audit.push import DEFAULT_PORT
    from asys.node.disk.files import ConfigError
    from asys.node.listen import ListenError, parse_address

    try:
        address = parse_address(arguments.listen, DEFAULT_PORT)
    except ListenError as error:
        raise ArgumentError(str(error)) from None
    try:
        run(Options(arguments.dir, address, debug=arguments.debug))
    except (ConfigError, CannotStart, ListenError) as error:
        raise LocalFault(str(error)) from error
    return 0


def admit(arguments: argparse.Namespace) -> int:
    """Adds a line to `authorized_nodes`. ArgumentError; LocalFault."""
    _posix_only()
    from asys.audit.collector.directory import CollectorDir
    from asys.audit.collector.nodes import parse_key
    from asys.node.disk.files import ConfigError

    try:
        key = parse_key(arguments.key)
        added = CollectorDir(arguments.directory).admit(key, arguments.label)
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    except ConfigError as error:
        raise LocalFault(str(error)) from error
    if arguments.json:
        print_json({"key": key.hex(), "label": arguments.label, "added": added})
    elif added:
        print(f"{arguments.label} is admitted; a collector that runs learns of it by SIGHUP")
    else:
        print(f"{arguments.label} was admitted already")
    return 0


def _posix_only() -> None:
    if sys.platform == "win32":
        raise LocalFault("a collector runs on POSIX systems only")
