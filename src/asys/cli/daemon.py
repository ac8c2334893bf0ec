"""The command `asyd`: the daemon itself, and what an admin of its node needs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asys import __version__
from asys.cli import agents_options
from asys.protocol.limits import DEFAULT_PORT

MAX_PID: Final = (1 << 32) - 1
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds of what may stand behind the number of a duration."""

DEFAULT_OVERLAP: Final = 30 * 86_400
LONGEST_OVERLAP: Final = 366 * 86_400
"""Seconds for which a node may have two keys."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asyd",
        description="The ASys daemon: typed, signed instructions for AI agents, in place of a "
        "shell. Without a command it serves until SIGTERM; SIGHUP reads authorized_agents again.",
        epilog="exit status: 0 ended as asked, 1 could not start or refused, 2 wrong usage",
    )
    parser.add_argument("--version", action="version", version=f"asyd {__version__}")
    _add_config_dir(parser)
    _add_state_dir(parser)
    _add_admin_socket(parser)
    parser.add_argument(
        "--mode",
        choices=("full", "monitor"),
        default="full",
        help="monitor: what is not in core is not done for anybody (6D00), and no privileges are "
        "needed (default: %(default)s)",
    )
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
        "--handshake-rate",
        type=_rate,
        default=20,
        metavar="N",
        help="handshakes a second from one IPv4 address or IPv6 /64, and five times as many at "
        "once; 0: no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--audit",
        choices=("on", "off"),
        default="on",
        help="put on record what agents do (default: %(default)s)",
    )
    parser.add_argument(
        "--audit-dir",
        type=Path,
        metavar="DIR",
        help="where, see `asys audit` (default: audit in the state directory)",
    )
    parser.add_argument(
        "--audit-full",
        choices=("refuse", "run"),
        default="refuse",
        help="what becomes of an instruction that could leave no record as the disk has not taken "
        "the ones before: refused with 6400, or run (default: %(default)s)",
    )
    parser.add_argument(
        "--audit-parameters",
        choices=("on", "off"),
        default="off",
        help="keep the parameters of what agents do as well, in clear and in files of their own, "
        "for `asys audit show --parameters` (default: %(default)s)",
    )
    parser.add_argument(
        "--audit-parameters-days",
        type=_count,
        default=7,
        metavar="N",
        help="for so long (default: %(default)s)",
    )
    parser.add_argument(
        "--throttle",
        type=_throttle,
        default="signal",
        metavar="signal|freeze|cpu:PERCENT",
        help="how PROC_THROTTLE stops a process: by a signal; frozen with its descendants; or "
        "held with them to 1 to 99 percent of one CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--throttle-lease",
        type=_duration,
        default=0.0,
        metavar="DURATION",
        help="let a process go on when the agent that stopped it has had no session for so long, "
        "as 90s, 15m or 2h; 0: never (default: 0)",
    )
    parser.add_argument(
        "--nice",
        type=_nice,
        default=-10,
        metavar="N",
        help="how asyd ranks where the CPU is short, -20 to 0, if it may raise itself; 0: as it "
        "was started (default: %(default)s)",
    )
    parser.add_argument(
        "--audit-shadow",
        metavar="HOST:PORT",
        help="push the audit to this collector, see `asys audit collect` and `asyd collector`; "
        "what agents do with agents, and vendors' instructions, then wait for it, 0.5 s at most",
    )
    parser.add_argument(
        "--audit-strict",
        action="store_true",
        help="the same for all that changes or discloses anything: who cuts the line to the "
        "collector then disarms the node",
    )
    parser.add_argument(
        "--metrics",
        metavar="[ADDRESS:]PORT",
        help="answer GET /metrics over HTTP there, with how asyd itself is doing, for Prometheus: "
        "a port of 127.0.0.1, an address with its port, or unix:PATH; whoever may connect may "
        "read (default: only `asyd metrics`)",
    )
    parser.add_argument(
        "--vendor",
        action="append",
        metavar="DOMAIN[,OPTION...]",
        help="let agents use the instructions of an installed vendor whom their line names in "
        "vendors=; options are network, memory=256M, cpu=50 (percent of one core), user=NAME and "
        "config=FILE; "
        "may be repeated",
    )
    parser.add_argument(
        "--memory-lock",
        choices=("auto", "off", "require"),
        default="auto",
        help="keep asyd's memory from being taken away when the machine runs out of it: where the "
        "system lets asyd, not at all, or else do not start (default: %(default)s)",
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
    pubkey = _add_command(
        commands, "pubkey", "print the node's public key, as `asys trust --stdin` reads it"
    )
    _add_state_dir(pubkey, argparse.SUPPRESS)
    agents = _add_command(commands, "agents", "edit, check and try out who may do what")
    agents_options.add_actions(agents, _add_command, _add_state_dir)
    _add_collector(commands)
    _add_key(commands)
    _add_control(commands)
    return parser


def _add_key(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands of `asys.cli.key_commands`."""
    key = _add_command(commands, "key", "give the node another key, also when asyd does not run")
    actions = key.add_subparsers(dest="action", metavar="ACTION", required=True)
    rotate = _add_command(actions, "rotate", "make a next key, to which agents move by themselves")
    rotate.add_argument(
        "--overlap",
        type=_overlap,
        default=DEFAULT_OVERLAP,
        metavar="DURATION",
        help="for so long both keys are valid, as 30d or 12h, 366d at most; 0: the next one takes "
        "over at once, and no agent moves by itself (default: 30d)",
    )
    status = _add_command(actions, "status", "show the keys, and which of them each agent has")
    finish = _add_command(actions, "finish", "have the next key take over now, and erase the old")
    statement = _add_command(
        actions, "statement", "print what `asys trust --statement` needs where an agent was away"
    )
    for parser in (key, rotate, status, finish, statement):
        _add_admin_socket(parser, argparse.SUPPRESS)
        _add_state_dir(parser, argparse.SUPPRESS)
    for parser in (rotate, status, finish):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_collector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands of `asys.cli.collector_commands`."""
    collector = _add_command(commands, "collector", "trust or list collectors of the audit")
    actions = collector.add_subparsers(dest="action", metavar="ACTION", required=True)
    trust = _add_command(actions, "trust", "pin the key that a collector must show")
    trust.add_argument("address", metavar="HOST:PORT")
    trust.add_argument("key", metavar="KEY", help="what `asys audit collect` prints behind READY")
    listing = _add_command(actions, "list", "show the collectors whose keys are pinned")
    listing.add_argument("--json", action="store_true", help="print JSON")


def _add_control(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands that ask the asyd that runs."""
    sessions = _add_command(commands, "sessions", "list or close the sessions of a running asyd")
    actions = sessions.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _add_command(actions, "list", "show who is connected")
    listing.add_argument("--json", action="store_true", help="print JSON")
    close = _add_command(actions, "close", "close all sessions of an agent")
    close.add_argument("who", metavar="KEY|LABEL")
    dark = _add_command(
        commands, "dark", "let every agent fall to core, until `asyd light`, also if asyd restarts"
    )
    light = _add_command(commands, "light", "end what `asyd dark` began")
    for parser in (dark, light):
        _add_state_dir(parser, argparse.SUPPRESS)
    reload = _add_command(
        commands, "reload", "read authorized_agents again, and show lines that are refused"
    )
    metrics = _add_command(
        commands, "metrics", "show how asyd itself is doing, as OpenMetrics; see also --metrics"
    )
    metrics.add_argument("--json", action="store_true", help="print JSON, with the text in it")
    for parser in (sessions, listing, close, dark, light, reload, metrics):
        _add_admin_socket(parser, argparse.SUPPRESS)
    _add_held(commands, "throttled", "processes that asyd has stopped for agents")
    _add_held(commands, "isolations", "processes that asyd has cut off the network")


def _add_held(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str
) -> None:
    """The commands of `asys.cli.held_commands` for one kind."""
    held = _add_command(commands, name, f"list or release {what}, also when asyd does not run")
    actions = held.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _add_command(actions, "list", f"show {what}")
    release = _add_command(actions, "release", f"let go {what}, or all of them")
    wanted = release.add_mutually_exclusive_group(required=True)
    wanted.add_argument("pid", metavar="PID", nargs="?", type=_pid)
    wanted.add_argument("--all", action="store_true", help="every one")
    for parser in (held, listing, release):
        _add_admin_socket(parser, argparse.SUPPRESS)
        _add_state_dir(parser, argparse.SUPPRESS)
    for parser in (listing, release):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str
) -> argparse.ArgumentParser:
    description = f"{purpose[0].upper()}{purpose[1:]}."
    parser = commands.add_parser(name, help=purpose, description=description)
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


def _add_state_dir(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help="what asyd must not forget (default: /var/lib/asyd for /etc/asyd, else state in the "
        "config directory)",
    )


def _add_admin_socket(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--admin-socket",
        type=Path,
        default=default,
        metavar="PATH",
        help="where a running asyd takes orders from root and its own user, in a directory of "
        "mode 0700 (default: /run/asyd/admin.sock for /etc/asyd, else admin.sock in the config "
        "directory)",
    )


def _port(written: str) -> int:
    return _number(written, 0, "a port")


def _count(written: str) -> int:
    return _number(written, 1, "a number")


def _rate(written: str) -> int:
    return _number(written, 0, "a number")


def _pid(written: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", written) or not 0 < int(written) <= MAX_PID:
        raise argparse.ArgumentTypeError(f"{written!r} is not a PID")
    return int(written)


def _throttle(written: str) -> str:
    if not re.fullmatch("signal|freeze|cpu:[1-9][0-9]?", written):
        raise argparse.ArgumentTypeError(
            f"{written!r} is not signal, freeze or cpu:PERCENT, 1 to 99 percent of one CPU"
        )
    return written


def _nice(written: str) -> int:
    if not re.fullmatch("0|-(1?[0-9]|20)", written):
        raise argparse.ArgumentTypeError(f"{written!r} is not a nice value from -20 to 0")
    return int(written)


def _duration(written: str) -> float:
    found = re.fullmatch("([0-9]{1,7})([smhd])|0", written)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{written!r} is not a duration: a number with s, m, h or d behind it, or 0"
        )
    return float(int(found[1]) * UNITS[found[2]]) if found[1] else 0.0


def _overlap(written: str) -> float:
    seconds = _duration(written)
    if seconds > LONGEST_OVERLAP:
        raise argparse.ArgumentTypeError(f"{written!r} is longer than 366d")
    return seconds


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
