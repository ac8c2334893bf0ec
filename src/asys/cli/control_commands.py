"""`asyd sessions`, `dark`, `light`, `reload`, `metrics`: asks the asyd that runs.

Its side is asys.node.admin.server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from asys.cli.daemon_commands import open_config, print_lines
from asys.node.admin.blackout import Blackout
from asys.node.disk.config_dir import default_config_dir
from asys.node.disk.files import ConfigError
from asys.node.disk.places import Places, places, socket_address
from asys.node.logs import clean

ANSWER_SECONDS: Final = 20.0
"""How long asyd may take: it gives its disk 5 s, and may have to do so for two requests."""

MAX_ANSWER: Final = 64 << 20
"""Bytes of an answer: several times what the most sessions need."""

_HEADINGS: Final = ("LABEL", "KEY", "PEER", "SESSION", "OPEN", "IDLE", "CONFIRMED")


class NotRunning(ConfigError):
    """Nobody listens on the socket."""


class _NoAnswer(ConfigError):
    """Somebody listens, but does not answer."""


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. ConfigError when it cannot be done."""
    config_dir = arguments.config_dir or default_config_dir()
    where = places(config_dir, state_dir=arguments.state_dir, admin_socket=arguments.admin_socket)
    if arguments.command in ("dark", "light"):
        return _set_dark(arguments, where, arguments.command == "dark")
    try:
        if arguments.command == "reload":
            return _reload(where)
        if arguments.command == "metrics":
            return _metrics(where, as_json=arguments.json)
        if arguments.action == "list":
            return _list(where, as_json=arguments.json)
        return _close(where, arguments.who)
    except NotRunning as error:
        open_config(arguments, make=False)  # a wrong directory is the likelier fault, so it is told
        raise ConfigError(
            f"{error}; start asyd, or name its directory with --config-dir"
        ) from error


# -- commands


def _list(where: Places, *, as_json: bool) -> int:
    answer = ask(where, {"verb": "sessions"})
    if as_json:
        print_lines([json.dumps(answer)])
        return 0
    now = time.time()
    rows = [_HEADINGS, *(_row(one, now) for one in answer["sessions"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print_lines(
        [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    )
    if answer["dark"]:
        print("asyd: every agent is down to core; to lift it, run: asyd light", file=sys.stderr)
    return 0


def _row(session: dict[str, Any], now: float) -> tuple[str, ...]:
    return (
        clean(session["label"]) or "-",
        session["key"],
        clean(session["peer"]),
        str(session["id"]) if session["confirmed"] else "-",
        duration(now - session["opened"]),
        duration(session["idle_seconds"]),
        "yes" if session["confirmed"] else "no",
    )


def duration(seconds: float) -> str:
    """A time in words, to two units: 5s, 3m 20s, 2h 5m, 4d 0h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def _metrics(where: Places, *, as_json: bool) -> int:
    answer = ask(where, {"verb": "metrics"})
    text = str(answer["metrics"]).removesuffix("\n")
    print_lines([json.dumps(answer)] if as_json else text.split("\n"))
    return 0


def _close(where: Places, who: str) -> int:
    answer = ask(where, {"verb": "close", "who": who})
    print_lines([f"closed: {answer['closed']} of {answer['key']}"])
    print(
        "the agent may connect again; to shut it out, run: asyd agents remove, then asyd reload",
        file=sys.stderr,
    )
    return 0


def _reload(where: Places) -> int:
    """Exit status 1 when a line is refused."""
    answer = ask(where, {"verb": "reload"})
    count = answer["agents"]
    print_lines(["1 agent may connect now" if count == 1 else f"{count} agents may connect now"])
    for number, fault in answer["faults"]:
        print(
            f"asyd: authorized_agents line {number} grants nothing: {clean(fault, 1000)}",
            file=sys.stderr,
        )
    unnamed = answer["fault_count"] - len(answer["faults"])
    if unnamed:
        print(f"asyd: {unnamed} more lines grant nothing", file=sys.stderr)
    return 1 if answer["fault_count"] else 0


def _set_dark(arguments: argparse.Namespace, where: Places, dark: bool) -> int:
    verb = "dark" if dark else "light"
    try:
        ask(where, {"verb": verb})
    except NotRunning as error:
        open_config(arguments, make=False)
        _write_flag(where, dark)
        try:
            ask(where, {"verb": verb})  # it may have started meanwhile, before there was the flag
        except NotRunning:
            print_lines([f"{verb} from the next start of asyd on: {error}"])
            return 0
    except _NoAnswer as error:
        if not dark:
            raise
        _write_flag(where, dark)
        raise ConfigError(
            f"{error}; the flag in {where.state_dir} is set, so asyd is dark when it starts "
            "anew: restart it"
        ) from error
    print_lines(
        ["dark: every agent is down to core, until: asyd light"]
        if dark
        else ["light: every agent has what its line gives it"]
    )
    return 0


def _write_flag(where: Places, dark: bool) -> None:
    blackout = Blackout(where.state_dir)
    blackout.prepare()
    try:
        asyncio.run(blackout.set(dark))
    except OSError as error:
        raise ConfigError(f"{blackout.path}: {error.strerror or error}; mend the disk") from error


# -- asking


def ask(where: Places, request: dict[str, Any]) -> dict[str, Any]:
    """What asyd answers. ConfigError: it says no, or there is nobody to ask."""
    path = where.admin_socket
    data = _exchange(path, json.dumps(request).encode() + b"\n")
    if not data:
        raise ConfigError(
            f"asyd at {path} does not listen to this user; run this as root or as asyd's own user"
        )
    try:
        answer = json.loads(data) if data.endswith(b"\n") else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ConfigError(f"what answers at {path} is no asyd; see --admin-socket")
    if "error" in answer:
        raise ConfigError(clean(str(answer["error"]), 4000))
    return answer


def _exchange(path: Path, request: bytes) -> bytes:
    """Sends a line and reads one; less, or nothing, where the connection ends before."""
    data = bytearray()
    try:
        with socket_address(path) as address, socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(address)
            try:
                sock.sendall(request)
                while not data.endswith(b"\n") and len(data) < MAX_ANSWER:
                    more = sock.recv(1 << 16)
                    if not more:
                        break
                    data += more
            except (BrokenPipeError, ConnectionResetError):
                pass  # turned away at the door, perhaps with a line
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunning(f"no asyd answers at {path}") from error
    except (BlockingIOError, TimeoutError) as error:
        raise _NoAnswer(f"asyd at {path} does not answer") from error
    except PermissionError as error:
        raise ConfigError(f"{path}: {error.strerror}; run this as root") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; see --admin-socket") from error
    return bytes(data)
