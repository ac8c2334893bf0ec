"""What each command of `asyd` does, once the arguments have been read."""

from __future__ import annotations

import argparse
import sys

from asys.node.agents import Agent
from asys.node.agents_file import add_agent, parse_key, remove_agent
from asys.node.capability import describe
from asys.node.config_dir import ConfigDir, default_config_dir
from asys.node.daemon import Options, run
from asys.node.files import ConfigError
from asys.node.listen import ListenError, parse_address
from asys.node.server import Limits


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. Faults are one line on stderr."""
    try:
        if arguments.command == "pubkey":
            print(_config(arguments).load_key().public.hex())
        elif arguments.command == "agents":
            return _agents(arguments)
        else:
            run(_options(arguments))
    except (ConfigError, ListenError) as error:
        print(f"asyd: {error}", file=sys.stderr)
        return 1
    return 0


def _config(arguments: argparse.Namespace) -> ConfigDir:
    return ConfigDir(arguments.config_dir or default_config_dir())


def _options(arguments: argparse.Namespace) -> Options:
    written = arguments.listen or ["0.0.0.0"]  # noqa: S104  as sshd: the keys decide who comes in
    return Options(
        config_dir=arguments.config_dir or default_config_dir(),
        addresses=tuple(parse_address(one, arguments.port) for one in written),
        limits=Limits(
            sessions=arguments.max_sessions, sessions_per_key=arguments.max_sessions_per_key
        ),
        supervisord=arguments.supervisord,
        portable=arguments.portable,
        debug=arguments.debug,
    )


def _agents(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    if arguments.action == "list":
        return _list(config)
    if arguments.action == "add":
        line = add_agent(config, parse_key(arguments.key), arguments.label, arguments.caps)
        print(f"added: {line}")
    else:
        print(f"removed: {remove_agent(config, arguments.who)}")
    print("a running asyd takes it over on SIGHUP", file=sys.stderr)
    return 0


def _list(config: ConfigDir) -> int:
    """Prints the agents; exit status 1 when a line is refused."""
    book = config.load_agents()
    for agent in sorted(book.agents.values(), key=_line):
        print(f"{agent.key.hex()} {agent.label or '-'} {describe(agent.caps)}")
    for number, fault in book.faults:
        print(f"asyd: {config.agents_path} line {number} grants nothing: {fault}", file=sys.stderr)
    return 1 if book.faults else 0


def _line(agent: Agent) -> int:
    return agent.line
