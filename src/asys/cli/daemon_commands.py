"""What each command of `asyd` does, once the arguments have been read."""

from __future__ import annotations

import argparse
import os
import sys

from asys.node.agents import Agent
from asys.node.agents_file import add_agent, parse_key, remove_agent
from asys.node.capability import describe
from asys.node.config_dir import ConfigDir, default_config_dir
from asys.node.daemon import Options, run
from asys.node.files import ConfigError
from asys.node.listen import ListenError, parse_address
from asys.node.logs import clean
from asys.node.platform.base import PlatformError
from asys.node.server import Limits


class _UsageError(Exception):
    """An option that cannot mean anything."""


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. Faults are one line on stderr."""
    try:
        if arguments.command is None:
            run(_options(arguments))
            return 0
        status = _pubkey(arguments) if arguments.command == "pubkey" else _agents(arguments)
    except _UsageError as error:
        return _fault(error, 2)
    except (ConfigError, ListenError, PlatformError) as error:
        return _fault(error, 1)
    return status


def _fault(error: Exception, status: int) -> int:
    print(f"asyd: {error}", file=sys.stderr)
    return status


def _print(lines: list[str]) -> None:
    """Prints lines on stdout. ConfigError when they do not arrive there whole."""
    try:
        for line in lines:
            print(line)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigError(f"cannot write to stdout: {error.strerror}") from error


def _config(arguments: argparse.Namespace, *, make: bool = True) -> ConfigDir:
    return ConfigDir(arguments.config_dir or default_config_dir(), make=make)


def _options(arguments: argparse.Namespace) -> Options:
    """What to serve. _UsageError; ConfigError when there is no config directory to be had."""
    written = arguments.listen or ["0.0.0.0"]  # noqa: S104  as sshd: the keys decide who comes in
    try:
        addresses = tuple(parse_address(one, arguments.port) for one in written)
    except ListenError as error:
        raise _UsageError(error) from error
    _check_supervisord(arguments.supervisord)
    return Options(
        config_dir=arguments.config_dir or default_config_dir(),
        addresses=addresses,
        limits=Limits(
            sessions=arguments.max_sessions, sessions_per_key=arguments.max_sessions_per_key
        ),
        supervisord=arguments.supervisord,
        portable=arguments.portable,
        debug=arguments.debug,
    )


def _check_supervisord(url: str | None) -> None:
    if url is None:
        return
    from asys.node.platform.http_rpc import Endpoint  # takes memory, and few need it

    try:
        Endpoint.parse(url)
    except ValueError as error:
        raise _UsageError(f"--supervisord: {error}") from error


def _pubkey(arguments: argparse.Namespace) -> int:
    _print([_config(arguments).load_key().public.hex()])
    return 0


def _agents(arguments: argparse.Namespace) -> int:
    config = _config(arguments, make=arguments.action == "add")
    if arguments.action == "list":
        return _list(config)
    if arguments.action == "add":
        line = add_agent(config, parse_key(arguments.key), arguments.label, arguments.caps)
        _print([f"added: {line}"])
    else:
        removed = remove_agent(config, arguments.who)
        _print([f"removed: {clean(line, 1000)}" for line in removed])
    print("a running asyd takes it over on SIGHUP", file=sys.stderr)
    return 0


def _list(config: ConfigDir) -> int:
    """Prints the agents; exit status 1 when a line is refused."""
    book = config.load_agents()
    _print(
        [
            f"{agent.key.hex()} {agent.label or '-'} {describe(agent.caps)}"
            for agent in sorted(book.agents.values(), key=_line)
        ]
    )
    for number, fault in book.faults:
        print(f"asyd: {config.agents_path} line {number} grants nothing: {fault}", file=sys.stderr)
    return 1 if book.faults else 0


def _line(agent: Agent) -> int:
    return agent.line
