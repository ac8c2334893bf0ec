"""The command `python -m benchmarks`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from asys.errors import AsysError
from benchmarks import audit, checks, cost, dark, fleet, latency, logs, throughput
from benchmarks.bench import Bench, Unavailable
from benchmarks.echo import Echo
from benchmarks.light_nodes import allow_files
from benchmarks.line import Target
from benchmarks.machine import described
from benchmarks.nodes import own_node, peer, service_manager, services_missing
from benchmarks.plan import QUICK, BenchmarkError, Plan
from benchmarks.table import HEADER, Row

GROUPS: Final[dict[str, Callable[[Bench, Target], Iterator[Row]]]] = {
    "pinned": latency.on_one_cpu,
    "unpinned": latency.as_they_come,
    "procs": latency.procs,
    "pipelined": throughput.pipelined,
    "sdk": throughput.sdk,
    "handshake": throughput.handshake,
    "polled": latency.polled,
    "sampler": cost.sampler,
    "memory": cost.memory,
    "checks": checks.on_and_off,
    "audit": audit.recorded,
    "dark": dark.one_path,
    "logs": logs.read,
    "fleet": fleet.many,
}

OK: Final = 0
MISSED: Final = 1
FAILED: Final = 2

FILES: Final = 4096
"""Descriptors that the client wants: a socket for each session."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures a node beside an echo and beside bare cryptography, by turns, and "
        "prints ratios. It starts an asyd with keys of its own. See docs/benchmarks.md.",
        epilog="exit status: 0 all bars hold, 1 a bar is missed, 2 it could not measure",
    )
    parser.add_argument("--quick", action="store_true", help=f"the same as --scale {QUICK}")
    parser.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="FACTOR",
        help="take so many times the samples (default: 1)",
    )
    parser.add_argument(
        "--rows",
        type=_groups,
        default=list(GROUPS),
        metavar="LIST",
        help=f"only these, with commas: {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--processes",
        type=_counts,
        metavar="LIST",
        help="for how many processes procs and sampler are measured (default: 100,2000)",
    )
    parser.add_argument("--no-bars", action="store_true", help="judge nothing, exit 0")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result there as well; - is stdout"
    )
    other = parser.add_argument_group("another node in the same table")
    other.add_argument("--peer", metavar="HOST:PORT")
    other.add_argument("--identity", metavar="DIR", help="the agent's key (default: ~/.asys)")
    other.add_argument("--peer-key", metavar="HEX", help="its key (default: as in known_hosts)")
    other.add_argument(
        "--peer-pid",
        type=int,
        metavar="PID",
        help="its process, where it runs on this machine; without it some rows are left out",
    )
    return parser


def _scale(written: str) -> float:
    factor = float(written)
    if not 0 < factor <= 100:
        raise argparse.ArgumentTypeError(f"{written} is not within 0 and 100")
    return factor


def _groups(written: str) -> list[str]:
    names = written.split(",")
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(GROUPS)}")
    return [name for name in GROUPS if name in names]


def _counts(written: str) -> tuple[int, ...]:
    return tuple(int(count) for count in written.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, judges; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if sys.platform != "linux":
        print("benchmarks: needs Linux, for pinning and for what /proc tells", file=sys.stderr)
        return FAILED
    if arguments.peer is None and (arguments.identity or arguments.peer_key or arguments.peer_pid):
        parser.error("--identity, --peer-key and --peer-pid go with --peer")
    plan = Plan().scaled(arguments.scale * (QUICK if arguments.quick else 1))
    if arguments.processes is not None:
        plan = replace(plan, crowds=arguments.processes)
    paper = sys.stderr if arguments.json == "-" else sys.stdout
    allow_files(FILES)
    rows: list[Row] = []
    try:
        print(_machine_line(), file=paper)
        print(HEADER, file=paper)
        for row in _measure(arguments, plan):
            rows.append(row)
            print(row.line(bars=not arguments.no_bars), file=paper, flush=True)
    except (BenchmarkError, AsysError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    if arguments.json is not None:
        _write_json(arguments.json, rows)
    missed = [row for row in rows if row.missed]
    if arguments.no_bars or not missed:
        return OK
    print(f"{len(missed)} bars missed", file=paper)
    return MISSED


def _measure(arguments: argparse.Namespace, plan: Plan) -> Iterator[Row]:
    """The rows, as they come."""
    with contextlib.ExitStack() as stack:
        peers = []
        if arguments.peer is not None:
            peers.append(
                peer(arguments.peer, arguments.identity, arguments.peer_key, arguments.peer_pid)
            )
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asys-bench-")))
        missing = services_missing()
        url = None if missing else stack.enter_context(service_manager(directory))
        own = stack.enter_context(own_node(directory, supervisord=url))
        echo = Echo()
        stack.callback(echo.close)
        bench = Bench(plan, echo, directory, own, missing)
        for name in arguments.rows:
            for target in (own, *peers):
                try:
                    yield from GROUPS[name](bench, target)
                except Unavailable as error:
                    yield Row(name, "", target.name, skipped=str(error))
                except BenchmarkError as error:
                    if target is own:
                        raise
                    yield Row(name, "", target.name, skipped=str(error))


def _machine_line() -> str:
    return ", ".join(f"{name} {value}" for name, value in described().items())


def _write_json(where: str, rows: Sequence[Row]) -> None:
    text = json.dumps({"machine": described(), "rows": [row.as_json() for row in rows]}, indent=2)
    if where == "-":
        print(text)
    else:
        Path(where).write_text(text + "\n")
