"""The command `asyd`: the daemon itself, and what an admin of its node needs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from asys import __version__
from asys.protocol.limits import DEFAULT_PORT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asyd",
        description="The ASys daemon: typed, signed instructions for AI agents, in place of a "
        "shell. Without a command it serves until SIGTERM; SIGHUP reads authorized_agents again.",
        epilog="exit status: 0 ended as asked, 1 could not start or refused, 2 wrong usage",
    )
    parser.add_argument("--version", action="version", version=f"asyd {__version__}")
    _add_config_dir(parser)
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="IPv4 or IPv6 address, with :PORT or without, or unix:PATH; may be repeated "
        "(default: 0.0.0.0)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=DEFAULT_PORT,
        help="TCP port where --listen names none; 0: any (default: %(default)s)",
    )
    parser.add_argument(
        "--max-sessions",
        type=_count,
        default=1024,
        metavar="N",
        help="sessions at a time, 1 to 65535 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-sessions-per-key",
        type=_count,
        default=64,
        metavar="N",
        help="sessions at a time for one agent (default: %(default)s)",
    )
    parser.add_argument(
        "--supervisord",
        metavar="URL",
        help="where supervisord answers, if there is no systemd: unix:///run/supervisor.sock or "
        "http://127.0.0.1:9001",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="do without what only Linux has, as on other POSIX systems",
    )
    parser.add_argument("--debug", action="store_true", help="log more")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_command(
        commands, "pubkey", "print the node's public key, as `asys trust --stdin` reads it"
    )
    agents = _add_command(commands, "agents", "list, add or remove agents")
    actions = agents.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = _add_command(actions, "add", "let an agent in")
    add.add_argument("key", metavar="KEY", help="the agent's public key, 64 hex digits")
    add.add_argument("--label", default="", help="a name for it, 1 to 31 of A-Z a-z 0-9 . _ -")
    add.add_argument(
        "--caps",
        metavar="LIST",
        help="what exists for it: instruction names, hex codes, groups, core, all, with commas "
        "(default: core)",
    )
    remove = _add_command(actions, "remove", "shut an agent out")
    remove.add_argument("who", metavar="KEY|LABEL")
    _add_command(actions, "list", "show who may connect, and lines that are refused")
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=f"{purpose}.".capitalize())
    _add_config_dir(parser, argparse.SUPPRESS)
    return parser


def _add_config_dir(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--config-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help="keys and authorized_agents (default: /etc/asyd as root, else ~/.config/asyd)",
    )


def _port(written: str) -> int:
    return _number(written, 0, "a port")


def _count(written: str) -> int:
    return _number(written, 1, "a number")


def _number(written: str, least: int, what: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", written) or not least <= int(written) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"{written!r} is not {what} from {least} to 65535")
    return int(written)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `asyd` and returns its exit status."""
    arguments = _parser().parse_args(argv)
    if sys.platform == "win32":
        print("asyd: runs on POSIX systems only", file=sys.stderr)
        return 1
    try:
        from asys.cli import daemon_commands as commands

        return commands.execute(arguments)
    except ImportError as error:  # some modules are imported only where they are of use
        print(f"asyd: {error.name} is missing; run: pip install 'asys[daemon]'", file=sys.stderr)
        return 1
