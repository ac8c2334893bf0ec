"""`asyd agents`: edits, lists and checks what `authorized_agents` grants."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from asys.cli.agents_options import OPTIONS
from asys.cli.daemon_commands import UsageError, open_config, print_lines
from asys.isa.capmap import describe
from asys.node.agents.book import Agent
from asys.node.agents.check import check_agents
from asys.node.agents.directory import Delegate
from asys.node.agents.file import (
    Edited,
    add_agent,
    grant_agent,
    parse_key,
    pin_agent,
    remove_agent,
    revoke_agent,
)
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError, quoted
from asys.node.disk.places import Places, places
from asys.node.logs import clean

if TYPE_CHECKING:
    from asys.cli.agents_known import Known


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status.

    ConfigError when it cannot be done, UsageError when it cannot mean anything.
    """
    action = arguments.action
    if action == "migrate":
        from asys.cli import agents_migrate  # needed once in a node's life

        return agents_migrate.execute(arguments)
    config = open_config(arguments, make=action == "add")
    where = places(config.path, state_dir=arguments.state_dir, admin_socket=arguments.admin_socket)
    if action == "check":
        from asys.cli import agents_check

        return agents_check.execute(arguments, config, where)
    if action == "list":
        return _list(config, where)
    if action in ("show", "test"):
        from asys.cli import agents_shown

        known = _known(config, where)
        agents_shown.warn(known.troubles)
        if not known.has_state:
            print(
                f"asyd: there is no {where.state_dir}: no asyd has run here yet, or its "
                "--state-dir is another; no agent that an agent has added is known",
                file=sys.stderr,
            )
        if action == "show":
            return agents_shown.show(known, arguments.who)
        return agents_shown.test(known, where, arguments)
    changed = _add(config, arguments) if action == "add" else _edit(config, where, arguments)
    if changed:
        reload = "asyd reload"
        if arguments.config_dir is not None:
            reload += f" --config-dir {quoted(config.path)}"
        print(f"a running asyd takes it over on SIGHUP, or with: {reload}", file=sys.stderr)
    return 0


def _known(config: ConfigDir, where: Places) -> Known:
    from asys.cli.agents_known import Known  # it takes the modules of the state along

    return Known(config, where)


# -- editing


def _options(arguments: argparse.Namespace) -> dict[str, str]:
    given = {name: getattr(arguments, f"line_{name}") for name in OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def _add(config: ConfigDir, arguments: argparse.Namespace) -> bool:
    key = parse_key(arguments.key)
    line = add_agent(config, key, arguments.label, arguments.caps, _options(arguments))
    print_lines([f"added: {line}"])
    _warn(config, key)
    return True


def _edit(config: ConfigDir, where: Places, arguments: argparse.Namespace) -> bool:
    """grant, revoke, pin and remove; whether the file has changed."""
    try:
        if arguments.action == "pin":
            from asys.cli.agents_check import known_before

            return _tell(config, pin_agent(config, arguments.who, known_before(arguments, where)))
        if arguments.action == "remove":
            removed = remove_agent(config, arguments.who)
            print_lines([f"removed: {clean(line, 1000)}" for line in removed])
            return True
        return _change(config, arguments)
    except ConfigError as error:
        known = _known(config, where)
        added = known.added(arguments.who)
        if added is None:
            raise
        raise ConfigError(_whose(known, added, arguments.action)) from error


def _change(config: ConfigDir, arguments: argparse.Namespace) -> bool:
    given = _options(arguments)
    both = [name for name in arguments.without if name in given]
    if both:
        raise UsageError(f"--{both[0]} and --without {both[0]} at once; leave one of them out")
    options: dict[str, str | None] = {**dict.fromkeys(arguments.without), **given}
    if not arguments.caps and not options and arguments.label is None:
        raise UsageError(f"nothing to change is named; see: asyd agents {arguments.action} --help")
    edit = grant_agent if arguments.action == "grant" else revoke_agent
    edited = edit(config, arguments.who, arguments.caps, label=arguments.label, options=options)
    return _tell(config, edited)


def _tell(config: ConfigDir, edited: Edited) -> bool:
    """Says what a line was and is; whether that has changed."""
    changed = edited.before != edited.after
    print_lines(
        [
            f"line    {edited.agent.line}",
            f"before  {clean(edited.before, 1000)}",
            f"now     {clean(edited.after, 1000) if changed else 'the same'}",
            f"holds   {describe(edited.agent.caps) or 'nothing'}",
        ]
    )
    if changed:
        _warn(config, edited.agent.key)
    return changed


def _warn(config: ConfigDir, key: bytes) -> None:
    """Says at once what `check` would say of the line that has just been written."""
    written = config.read_agents().decode("utf-8", "replace")
    agent = config.load_agents().get(key)
    for one in check_agents(written, int(time.time())):
        if agent is not None and one.line == agent.line:
            print(f"asyd: {one.severity}: line {one.line}: {one.message}", file=sys.stderr)


def _whose(known: Known, added: Delegate, action: str) -> str:
    """Why an agent cannot be edited that another one has added, and what can be done."""
    parent, name, key = known.name(added.parent), known.name(added.key), added.key.hex()
    directory = f"--config-dir {quoted(known.config.path)}"
    said = f"{name} has no line: {parent} has added it"
    if action == "remove":
        return (
            f"{said}, and can remove it (AGENT_REMOVE), as can an agent with role=admin; to remove "
            f"it from here, remove {parent}, or make it a line of its own and remove that, "
            f"with asyd reload behind each: asyd agents add {key} {directory}"
        )
    return (
        f"{said}, and it has what {parent} hands on of its own; let {parent} add it again, or "
        f"give it a line of its own, which takes it from {parent}: "
        f"asyd agents add {key} {directory}"
    )


# -- looking


def _list(config: ConfigDir, where: Places) -> int:
    """Prints the agents; exit status 1 when some of them cannot be told or a line is refused."""
    known = _known(config, where)
    lines = [
        f"{agent.key.hex()} {agent.label or '-'} {agent.options()}{_over(agent, known)}"
        for agent in sorted(known.book.agents.values(), key=_line)
    ]
    print_lines([*lines, *_added(known)])
    faults = [
        f"{config.agents_path} line {number} grants nothing: {fault}"
        for number, fault in known.book.faults
    ]
    for fault in [*faults, *known.troubles]:
        print(f"asyd: {fault}", file=sys.stderr)
    if known.dark:
        print("asyd: every agent is down to core; to lift it, run: asyd light", file=sys.stderr)
    return 1 if faults or known.troubles else 0


def _added(known: Known) -> Iterator[str]:
    """Agents that agents have added, with what their chains leave them."""
    for one in known.directory.delegates:
        holding = known.directory.holding(one.key, known.now)
        caps = f"caps={describe(holding.caps)}" if holding is not None else "expired"
        yield f"{one.key.hex()} {one.label or '-'} {caps} added by {known.name(one.parent)}"


def _over(agent: Agent, known: Known) -> str:
    return " (expired)" if known.is_over(agent) else ""


def _line(agent: Agent) -> int:
    return agent.line
