"""`asyd collector`: which collectors of the audit an admin has confirmed (docs/audit.md)."""

from __future__ import annotations

import argparse
import json

from asys.cli.daemon_commands import UsageError, open_config, print_lines
from asys.node.audit.shadow.pinned import KnownCollectors, parse_collector, parse_key


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. ConfigError; UsageError."""
    if arguments.action == "list":
        return _list(arguments)
    try:
        address, key = parse_collector(arguments.address), parse_key(arguments.key)
    except ValueError as error:
        raise UsageError(error) from error
    KnownCollectors(open_config(arguments).path).trust(address, key)
    print_lines([f"{address} is trusted with the key {key.hex()}"])
    return 0


def _list(arguments: argparse.Namespace) -> int:
    known = KnownCollectors(open_config(arguments, make=False).path).entries()
    if arguments.json:
        found = [{"address": name, "key": key.hex()} for name, key in known.items()]
        print_lines([json.dumps({"collectors": found}, indent=2)])
    else:
        print_lines([f"{name}  {key.hex()}" for name, key in known.items()])
    return 0
