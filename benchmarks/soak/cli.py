"""The command `python -m benchmarks.soak`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.nodes import own_node
from benchmarks.plan import BenchmarkError
from benchmarks.soak import questions
from benchmarks.soak.memory import BLOCKS
from benchmarks.soak.plan import Plan
from benchmarks.soak.run import soak

OK: Final = 0
BROKEN: Final = 1
FAILED: Final = 2

USUAL: Final = Plan()

LEAST_LOOKS: Final = 3 * BLOCKS
"""Samples of memory that a line is drawn through; a busy machine takes less than it is told to."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Starts an asyd and puts it under load from a process of its own: sessions "
        "that are polled, sessions that are quiet, and connections that come and go in every way. "
        "Every answer is checked to be the one to its question. See docs/resilience.md.",
        epilog="exit status: 0 all promises hold, 1 one is broken, 2 it could not be done",
    )
    parser.add_argument("--sessions", type=_count, default=USUAL.sessions, metavar="N")
    parser.add_argument(
        "--polled", type=_count, default=USUAL.polled, metavar="N", help="sessions that are polled"
    )
    parser.add_argument(
        "--hertz", type=_positive, default=USUAL.hertz, help="how often each of them is, in 1 s"
    )
    parser.add_argument(
        "--churn",
        type=_positive,
        default=USUAL.churn,
        metavar="N",
        help="connections that come and go in 1 s",
    )
    parser.add_argument("--seconds", type=_positive, default=USUAL.seconds, metavar="S")
    parser.add_argument(
        "--warm-up",
        type=_positive,
        metavar="S",
        help="seconds of these before memory counts (default: half of them)",
    )
    parser.add_argument(
        "--warm-up-churn", type=_positive, default=0.0, metavar="N", help="--churn, until then"
    )
    parser.add_argument(
        "--every",
        type=_positive,
        default=USUAL.every,
        metavar="S",
        help="seconds from one look at memory to the next",
    )
    parser.add_argument("--seed", type=int, default=USUAL.seed, help="chooses what is asked")
    parser.add_argument("--json", metavar="FILE", help="write the result there as well")
    return parser


def _count(written: str) -> int:
    count = int(written)
    if not 1 <= count <= 20_000:
        raise argparse.ArgumentTypeError(f"{written} is not within 1 and 20000")
    return count


def _positive(written: str) -> float:
    number = float(written)
    if not 0 < number <= 1e6:
        raise argparse.ArgumentTypeError(f"{written} is not within 0 and a million")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Soaks, prints, judges; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if sys.platform != "linux":
        print("soak: needs Linux, for what /proc tells", file=sys.stderr)
        return FAILED
    warm_up = arguments.seconds / 2 if arguments.warm_up is None else arguments.warm_up
    if arguments.polled > arguments.sessions:
        parser.error("--polled is a part of --sessions")
    least = LEAST_LOOKS * arguments.every
    if arguments.seconds - warm_up < least:
        parser.error(f"behind --warm-up, --seconds must leave {least:g} for memory")
    plan = Plan(
        sessions=arguments.sessions,
        polled=arguments.polled,
        hertz=arguments.hertz,
        churn=arguments.churn,
        seconds=arguments.seconds,
        warm_up=warm_up,
        warm_up_churn=arguments.warm_up_churn,
        seed=arguments.seed,
        every=arguments.every,
    )
    agents = questions.lines()
    try:
        with tempfile.TemporaryDirectory(prefix="asys-soak-") as name:
            directory = Path(name)
            with own_node(
                directory,
                audit=directory / "audit",
                agents=agents,
                options=plan.options,
            ) as target:
                report = soak(target, agents, plan, lambda text: print(text, flush=True))
    except BenchmarkError as error:
        print(f"soak: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    print(*report.lines(), sep="\n")
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(report.as_json(), indent=2) + "\n")
    for text in report.broken:
        print(f"BROKEN: {text}")
    return BROKEN if report.broken else OK
