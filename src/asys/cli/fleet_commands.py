"""`asys fleet`: many nodes at once, from an inventory. Rows are printed as they come."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asys.cli import failures
from asys.cli.fleet_lines import Lines, data_of
from asys.cli.nodes import add_identity, seconds
from asys.cli.screen import Output, Screen, is_terminal, need_tables, print_json
from asys.isa import SYS_PROCS, SYS_STATUS, AnyInstruction

if TYPE_CHECKING:
    from asys.cli.vendor_commands import Add
    from asys.fleet import Fleet, Row, Selection

_STATUS: Final = "load, CPU, memory, disk, network, pressure of each node"
_PROCS: Final = "the processes that use most CPU, of each node"
_MORE: Final = """

The exit status is the gravest of all nodes'. Where stdout is a terminal it is a live table, else a
line for each node as it answers. With --watch, --json prints an object for each row."""


def add_fleet(parser: argparse.ArgumentParser, add: Add) -> None:
    """Arguments of `asys fleet`."""
    actions = parser.add_subparsers(dest="fleet", metavar="ACTION", required=True)
    add(actions, "status", _STATUS, partial(_add_reading, instruction=SYS_STATUS))
    add(actions, "procs", _PROCS, partial(_add_reading, instruction=SYS_PROCS))
    for name, about in (
        ("throttle", "suspend processes, each named with its node; nothing is sent twice"),
        ("resume", "let suspended processes go on, each named with its node"),
    ):
        add(actions, name, about, _add_targets)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inventory",
        type=Path,
        metavar="FILE",
        help="the nodes, in TOML (default: ~/.asys/fleet.toml)",
    )
    parser.add_argument(
        "--select", metavar="LABEL=VALUE,...", help="only nodes that have all these labels"
    )
    add_identity(parser)
    parser.add_argument(
        "--known-hosts",
        type=Path,
        metavar="FILE",
        help="the keys of nodes whose entry has none (default: ~/.asys/known_hosts)",
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        metavar="S",
        help="seconds that each node has, unless its entry says otherwise (default: 5)",
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="nodes that are worked on at a time (default: 64)",
    )


def _add_reading(parser: argparse.ArgumentParser, instruction: AnyInstruction) -> None:
    _add_common(parser)
    parser.add_argument(
        "--watch",
        type=seconds,
        metavar="SECONDS",
        help="ask each node every so many seconds, until Ctrl-C",
    )
    parser.description = (parser.description or "") + _MORE
    parser.set_defaults(run=partial(_read, instruction=instruction))


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="+", metavar="PID@NODE", type=_target)
    _add_common(parser)
    parser.set_defaults(run=_act)


def _target(written: str) -> tuple[str, int]:
    pid, at, node = written.partition("@")
    if not (at and node and pid.isascii() and pid.isdigit()):
        raise argparse.ArgumentTypeError(f"{written!r} is not written PID@NODE")
    return node, int(pid)


def _fleet(arguments: argparse.Namespace) -> tuple[Fleet, Selection]:
    """The fleet, and what of it is selected. ArgumentError where that is nothing."""
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.errors import ArgumentError
    from asys.fleet import Fleet

    options: dict[str, Any] = {}
    for name in ("deadline", "concurrency"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    if arguments.identity is not None:
        options["identity"] = Identity.load(arguments.identity)
    if arguments.known_hosts is not None:
        options["known_hosts"] = KnownHosts(arguments.known_hosts)
    fleet = Fleet.load(arguments.inventory, **options)
    selected = fleet if arguments.select is None else fleet.select(arguments.select)
    if not selected.nodes:
        raise ArgumentError(f"no node of {len(fleet)} has {arguments.select}")
    return fleet, selected


class _Tally:
    """How it went with all nodes together."""

    def __init__(self) -> None:
        self.status = failures.OK
        self.failed = 0

    def add(self, row: Row[Any]) -> None:
        """Counts a row."""
        if row.failure is not None:
            self.failed += 1
            self.status = max(self.status, failures.exit_status(row.failure.error))


def _read(arguments: argparse.Namespace, instruction: AnyInstruction) -> Output:
    fleet, selected = _fleet(arguments)
    watching = arguments.watch is not None
    live = not arguments.json and is_terminal(sys.stdout)
    if live:
        need_tables()
    tally = _Tally()

    def rows() -> AsyncGenerator[Row[Any], None]:
        if watching:
            return selected.watch(arguments.watch, instruction)
        return aiter(selected.call(instruction))

    def show(screen: Screen) -> None:
        lines = Lines(one.name for one in selected)
        if live:
            from asys.cli.fleet_views import Board

            with Board(screen.console, instruction, selected, watching=watching) as board:
                _each(fleet, rows(), [tally.add, board.add])
        elif not arguments.json:
            _each(fleet, rows(), [tally.add, lambda row: screen.line(lines.reading(row))])
        elif watching:
            _each(fleet, rows(), [tally.add, lambda row: screen.line(json.dumps(data_of(row)))])
        else:
            _collect(fleet, rows(), tally)
        if tally.failed and not (live or arguments.json):
            failures.complain(f"asys: {tally.failed} of {len(selected)} nodes failed")

    return Output({}, show, streams=True, status=lambda: tally.status)


def _act(arguments: argparse.Namespace) -> Output:
    fleet, selected = _fleet(arguments)
    suspends = arguments.fleet == "throttle"
    order = selected.throttle if suspends else selected.resume
    rows = order(arguments.targets)  # all of them can be meant, or nothing is sent
    tally = _Tally()

    def show(screen: Screen) -> None:
        lines = Lines(one.name for one in selected)
        if arguments.json:
            _collect(fleet, aiter(rows), tally)
            return
        _each(
            fleet,
            aiter(rows),
            [tally.add, lambda row: screen.line(lines.order(row, suspends=suspends))],
        )

    return Output({}, show, streams=True, status=lambda: tally.status)


def _each(
    fleet: Fleet, rows: AsyncGenerator[Row[Any], None], then: Sequence[Callable[[Row[Any]], None]]
) -> None:
    """Does something with each row as it comes."""

    import asyncio  # takes time to load, and few commands need it

    async def main() -> None:
        async with fleet, aclosing(rows):
            async for row in rows:
                for one in then:
                    one(row)

    asyncio.run(main())


def _collect(fleet: Fleet, rows: AsyncGenerator[Row[Any], None], tally: _Tally) -> None:
    """All rows as one JSON object."""
    found: list[dict[str, Any]] = []
    _each(fleet, rows, [tally.add, lambda row: found.append(data_of(row))])
    print_json({"rows": found, "failed": tally.failed})
