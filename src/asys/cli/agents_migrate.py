"""`asyd agents migrate`: from asyd 0.3.1 to this one, without touching the old node."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from asys.cli.daemon_commands import print_lines
from asys.isa.capmap import describe
from asys.node.agents.check import Finding, check_agents
from asys.node.agents.migrate import Migration, migrate, parse_wishes
from asys.node.disk.config_dir import default_config_dir
from asys.node.disk.files import quoted
from asys.node.disk.migration import OldDir, Placed, check_places, place
from asys.node.logs import clean

BESIDE: int = 7817
"""The port that the hint names for running beside 0.3.1, which has 7816."""


def execute(arguments: argparse.Namespace) -> int:
    """Migrates, or shows what would be done. ConfigError when nothing can be.

    Exit status 1 when some line could not be taken over.
    """
    new = arguments.config_dir or default_config_dir()
    wishes = parse_wishes(arguments.caps)
    check_places(arguments.old_dir, new)
    old = OldDir(arguments.old_dir)
    done = migrate(old.read_agents(), wishes, new)
    placed = place(old, new, done.text, new_key=arguments.new_key, dry_run=arguments.dry_run)
    left_out = {one.line for one in done.left_out}
    warnings = [
        one for one in check_agents(done.text, int(time.time())) if one.line not in left_out
    ]
    if arguments.json:
        print_lines([json.dumps(_data(arguments, done, placed, warnings))])
    else:
        _print(arguments, done, placed, warnings)
    return 1 if done.left_out else 0


def _print(
    arguments: argparse.Namespace, done: Migration, placed: Placed, warnings: list[Finding]
) -> None:
    new = arguments.config_dir or default_config_dir()
    key = placed.public.hex() if placed.public is not None else "one that is yet to be made"
    told = "copied, so agents go on trusting it" if placed.copied else "its own, to be trusted anew"
    print_lines(
        [
            f"from    {arguments.old_dir}",
            f"to      {new}{'  (nothing is written)' if arguments.dry_run else ''}",
            f"key     {key}  {told}",
            f"agents  {len(done.agents)}",
            *(
                f"        line {one.line}  {one.key.hex()} {one.label or '-'} {one.options()}"
                for one in done.agents
            ),
        ]
    )
    for left in done.left_out:
        print(
            f"asyd: {arguments.old_dir / 'authorized_agents'} line {left.line} is not taken over: "
            f"{clean(left.fault, 1000)}; what to do: {left.remedy}",
            file=sys.stderr,
        )
    for one in warnings:
        print(f"asyd: {one.severity}: line {one.line}: {one.message}", file=sys.stderr)
    if not arguments.dry_run:
        print(
            f"to run it beside asyd 0.3.1: asyd --config-dir {quoted(new)} --port {BESIDE}",
            file=sys.stderr,
        )


def _data(
    arguments: argparse.Namespace, done: Migration, placed: Placed, warnings: list[Finding]
) -> dict[str, Any]:
    return {
        "from": str(arguments.old_dir),
        "to": str(arguments.config_dir or default_config_dir()),
        "written": not arguments.dry_run,
        "key": {
            "public": placed.public.hex() if placed.public is not None else None,
            "copied": placed.copied,
        },
        "agents": [
            {
                "line": one.line,
                "key": one.key.hex(),
                "label": one.label,
                "caps": describe(one.caps),
            }
            for one in done.agents
        ],
        "left_out": [
            {"line": one.line, "fault": clean(one.fault, 1000), "remedy": one.remedy}
            for one in done.left_out
        ],
        "warnings": [{"line": one.line, "message": one.message} for one in warnings],
    }
