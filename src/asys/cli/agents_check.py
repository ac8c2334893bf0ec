"""`asyd agents check`: what is wrong with the lines, and what an upgrade lights in them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asys.cli.daemon_commands import UsageError, print_lines
from asys.isa import REGISTRY
from asys.node.agents.check import Finding, Severity, check_agents
from asys.node.agents.newly import Growing, growing, listed
from asys.node.agents.ran import InstructionSet, RanStore, before, set_of, this_set
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError, is_there
from asys.node.disk.places import Places

if TYPE_CHECKING:
    from asys.cli.agents_known import Known


@dataclass(frozen=True, slots=True)
class Added:
    """An agent that an agent has added, and what is new to it by way of the line above."""

    name: str
    line: str
    instructions: tuple[str, ...]


def execute(arguments: argparse.Namespace, config: ConfigDir, where: Places) -> int:
    """Prints what is to be said about each line; exit status 1 when something is wrong.

    ConfigError: a file cannot be read, or only what is new is asked for and cannot be told.
    UsageError: --since is no version.
    """
    now = int(time.time())
    then = _then(arguments, where, must=arguments.new)
    written = config.read_agents().decode("utf-8", "replace")
    findings = check_agents(written, now, then=then)
    if arguments.new:
        findings = [one for one in findings if one.severity is Severity.NEW]
    added = _added(config, where, then) if then is not None else []
    lines = growing(written, then, now)
    if arguments.json:
        print_lines([json.dumps(_data(config, findings, lines, added, then))])
    else:
        print_lines(
            [
                *(f"{config.agents_path}:{o.line}: {o.severity}: {o.message}" for o in findings),
                *(
                    f"{one.name}: new: it has {listed(one.instructions)} by way of {one.line}"
                    for one in added
                ),
            ]
        )
        if not is_there(config.agents_path):
            print(f"asyd: there is no {config.agents_path}: nobody may connect", file=sys.stderr)
        _sum_up(config, findings, lines, then, new=arguments.new)
    counted = [Severity.NEW] if arguments.new else [Severity.ERROR]
    if arguments.strict:
        counted.append(Severity.WARNING)
    wrong = any(one.severity in counted for one in findings) or (arguments.new and bool(added))
    return 1 if wrong else 0


def known_before(arguments: argparse.Namespace, where: Places) -> int:
    """The map of what the version before this one knew as well. As `execute`."""
    then = _then(arguments, where, must=False)
    known = this_set().codes
    return known if then is None else known & then.codes


def _then(arguments: argparse.Namespace, where: Places, *, must: bool) -> InstructionSet | None:
    """What ran before; None: no other asyd, as far as is known. ConfigError if it `must` be."""
    if arguments.since is not None:
        try:
            return set_of(arguments.since)
        except ValueError as fault:
            raise UsageError(f"--since: {fault}") from None
    store = RanStore(where.state_dir)
    try:
        ran = store.load()
    except ConfigError as error:
        if must:
            raise
        print(f"asyd: what an upgrade has lit cannot be told: {error}", file=sys.stderr)
        return None
    if not ran and must and is_there(where.state_dir):
        raise ConfigError(
            f"{store.path} is not there, so it cannot be told what ran here before; say it: "
            "--since VERSION"
        )
    return before(ran, this_set())


def _added(config: ConfigDir, where: Places, then: InstructionSet) -> list[Added]:
    """Agents that agents have added: what is new to the line above is new to them."""
    from asys.cli.agents_known import Known  # it takes the modules of the state along

    known = Known(config, where)
    for trouble in known.troubles:
        print(f"asyd: {trouble}", file=sys.stderr)
    fresh = this_set().codes & ~then.codes
    found = []
    for one in known.directory.delegates:
        holding = known.directory.holding(one.key, known.now)
        new = holding.caps & fresh if holding is not None else 0
        names = tuple(one.name for one in REGISTRY if new >> one.code & 1)
        if names:
            found.append(Added(known.name(one.key), _line_above(known, one.parent), names))
    return found


def _line_above(known: Known, key: bytes) -> str:
    """Whose line it is that an added agent hangs on."""
    parents = {one.key: one.parent for one in known.directory.delegates}
    while key in parents:
        key = parents[key]
    return known.name(key)


def _sum_up(
    config: ConfigDir,
    findings: Sequence[Finding],
    lines: Sequence[Growing],
    then: InstructionSet | None,
    *,
    new: bool,
) -> None:
    if new:
        open_lines = [
            f"{one.agent.name} ({', '.join(one.open_words)})" for one in lines if one.open_words
        ]
        pinned = [one.agent.name for one in lines if not one.open_words]
        since = (
            f"since asyd {then.asyd}" if then is not None else "as no other version has run here"
        )
        gained = sum(bool(one.instructions) for one in lines)
        print(
            f"{_count(gained, 'line')} of {len(lines)} with something new {since}", file=sys.stderr
        )
        print(f"an upgrade can add to: {', '.join(open_lines) or 'none'}", file=sys.stderr)
        print(f"pinned: {', '.join(pinned) or 'none'}", file=sys.stderr)
        return
    counts = {severity: sum(o.severity is severity for o in findings) for severity in Severity}
    parts = [
        _count(len(config.load_agents().agents), "agent"),
        _count(counts[Severity.ERROR], "error"),
        _count(counts[Severity.WARNING], "warning"),
    ]
    if counts[Severity.NEW]:
        parts.append(f"{counts[Severity.NEW]} new")
    print(", ".join(parts), file=sys.stderr)


def _data(
    config: ConfigDir,
    findings: Sequence[Finding],
    lines: Sequence[Growing],
    added: Sequence[Added],
    then: InstructionSet | None,
) -> dict[str, Any]:
    return {
        "file": str(config.agents_path),
        "since": then.asyd if then is not None else None,
        "findings": [
            {"line": one.line, "severity": one.severity.value, "message": one.message}
            for one in findings
        ],
        "agents": [
            {
                "line": one.agent.line,
                "key": one.agent.key.hex(),
                "label": one.agent.label,
                "new": [instruction.name for instruction in one.instructions],
                "pinned": not one.open_words,
                "open_words": list(one.open_words),
            }
            for one in lines
        ],
        "added_agents": [
            {"name": one.name, "line": one.line, "new": list(one.instructions)} for one in added
        ],
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
