"""`asyd key`: gives the node another key, and shows who has it; also when asyd does not run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

from asys.cli.control_commands import NotRunning, ask
from asys.cli.daemon_commands import open_config, print_lines
from asys.node.admin.keys import AgentKeys, KeysInfo, stated, told
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.node.disk.key_file import KeyFile
from asys.node.disk.moved_store import MovedStore
from asys.node.disk.next_key import (
    NextKey,
    beginning,
    do_all,
    read_next,
    read_statements,
    taking_over,
)
from asys.node.disk.node_key import given_key, stored_keys
from asys.node.disk.places import Places, places
from asys.node.logs import clean
from asys.protocol.statement import KeyStatement

AFTER_ALL: Final = (
    "Agents that have not moved need: asyd key statement, and asys trust --statement there"
)
AT_ONCE: Final = (
    "No agent moves by itself. Give each the new key by a way that you trust, for: asys trust "
    "--replace"
)
"""What becomes of agents when a key has ended."""

_HEADINGS: Final = ("LABEL", "KEY", "HAS", "CONNECTED")
_HAS: Final = {
    "next": "the next key",
    "told": "both, not seen with the next one yet",
    "old": "the old key",
}


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. ConfigError when it cannot be done."""
    config = open_config(arguments, make=False)
    where = places(config.path, state_dir=arguments.state_dir, admin_socket=arguments.admin_socket)
    if arguments.action == "rotate":
        return _rotate(config, where, int(arguments.overlap), as_json=arguments.json)
    if arguments.action == "finish":
        return _finish(config, where, as_json=arguments.json)
    if arguments.action == "statement":
        return _statement(stored_keys(config, where.state_dir))
    return _status(config, where, as_json=arguments.json)


def _rotate(config: ConfigDir, where: Places, overlap: int, *, as_json: bool) -> int:
    try:
        answer = ask(where, {"verb": "rotate", "overlap": overlap})
    except NotRunning:
        answer = stated(_rotate_here(stored_keys(config, where.state_dir), overlap))
        _tell(where)
    if as_json:
        print_lines([json.dumps(answer)])
        return 0
    if not overlap:
        return _taken_over(answer, AT_ONCE)
    print_lines(
        [
            f"next key: {answer['new_key']}",
            f"until {_moment(answer['ends'])} the node has both keys, and shows the old one:",
            f"  {answer['old_key']}",
            "Agents that connect until then move by themselves; see who has: asyd key status",
        ]
    )
    return 0


def _rotate_here(place: KeyFile, overlap: int) -> KeyStatement:
    now = int(time.time())
    loaded = place.load_keys(now)
    if loaded.next is not None:
        raise ConfigError(
            f"there is a next key already, {loaded.next.key.public.hex()}; see: asyd key status. "
            "To have it take over now, run: asyd key finish"
        )
    made = NextKey.make(loaded.key, now, overlap)
    do_all(iter([beginning(place, made)]))
    if not overlap:
        do_all(taking_over(place, made))
    return made.statement


def _finish(config: ConfigDir, where: Places, *, as_json: bool) -> int:
    try:
        answer = ask(where, {"verb": "finish"})
    except NotRunning:
        place = stored_keys(config, where.state_dir)
        found = place.load_keys(int(time.time())).next
        if found is None:
            raise ConfigError("there is no next key; to make one, run: asyd key rotate") from None
        do_all(taking_over(place, found))
        answer = stated(found.statement)
    if as_json:
        print_lines([json.dumps(answer)])
        return 0
    return _taken_over(answer, AFTER_ALL)


def _taken_over(answer: dict[str, Any], agents: str) -> int:
    print_lines(
        [
            f"the node's key is now: {answer['new_key']}",
            f"erased: {answer['old_key']}",
            agents,
        ]
    )
    return 0


def _tell(where: Places) -> None:
    """asyd may have started meanwhile, before there was the next key."""
    try:
        ask(where, {"verb": "reload"})
    except NotRunning:
        print("asyd does not run; it finds the key when it starts", file=sys.stderr)


def _statement(place: KeyFile) -> int:
    """What agents that were away need to come from the key that they have to the present one."""
    statements = read_statements(place)
    running = read_next(place)
    if running is not None and running.statement not in statements:
        statements.append(running.statement)
    if not statements:
        raise ConfigError("no key of this node has stated another one; see: asyd key rotate")
    lines = ["# what the keys of a node state about the next ones; for: asys trust --statement"]
    for one in statements:
        lines += [
            f"# {one.old_key.hex()}, {_moment(one.made)}: in my place comes",
            f"# {one.new_key.hex()}",
            one.pack().hex(),
        ]
    print_lines(lines)
    return 0


# -- status


def _status(config: ConfigDir, where: Places, *, as_json: bool) -> int:
    try:
        answer = ask(where, {"verb": "keys"})
    except NotRunning:
        answer = told(_keys_here(config, where))
    if as_json:
        print_lines([json.dumps(answer)])
        return 0
    stated_next = answer["next"]
    if stated_next is None:
        print_lines([f"key: {answer['key']}", "there is no next key"])
        return 0
    lines = [
        f"key:      {answer['key']}, until {_moment(stated_next['ends'])}",
        f"next key: {stated_next['new_key']}",
    ]
    rows = [_HEADINGS, *(_row(one) for one in answer["agents"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    left = sum(one["has"] == "old" for one in answer["agents"])
    lines.append(f"{left} of {len(answer['agents'])} agents have the old key only")
    print_lines(lines)
    return 0


def _row(agent: dict[str, Any]) -> tuple[str, ...]:
    return (
        clean(agent["label"]) or "-",
        agent["key"],
        _HAS.get(agent["has"], clean(str(agent["has"]))),
        "yes" if agent["connected"] else "no",
    )


def _keys_here(config: ConfigDir, where: Places) -> KeysInfo:
    """As a running asyd would say it; added agents are not among them."""
    if given := given_key(where.state_dir):
        return KeysInfo(given, None, ())
    loaded = stored_keys(config, where.state_dir).load_keys(int(time.time()))
    if loaded.next is None:
        return KeysInfo(loaded.key.public, None, ())
    moved, informed = MovedStore(where.state_dir).load(loaded.next.key.public)
    agents = []
    for one in config.load_agents().agents.values():
        has = "next" if one.key in moved else "told" if one.key in informed else "old"
        agents.append(AgentKeys(one.key, one.label, has, connected=False))
    return KeysInfo(loaded.key.public, loaded.next.statement, tuple(agents))


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
