"""The long run: every target, on all processors: python -m fuzz.campaign [--executions N]

Prints for each target how often it was executed, how fast, and what of the code under test its
inputs reach; ends with 1 when an input failed, and says how to run that one again.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final, NamedTuple

from fuzz.catalog import TARGETS
from fuzz.process import Outcome, fuzz
from fuzz.replay import Reached, reached

EXECUTIONS: Final = 10_000_000
"""Over all targets."""

PART: Final = 250_000
"""Executions of one process; so no processor waits long for the others at the end."""

PLACE: Final = Path("build/fuzz")


class _Part(NamedTuple):
    """What one process is to do."""

    target: str
    executions: int
    seed: int


def main(arguments: list[str] | None = None) -> int:
    """Runs as the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.campaign", description=__doc__)
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="over all targets")
    parser.add_argument("--only", nargs="+", choices=sorted(TARGETS), help="these targets alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31))  # noqa: S311
    parser.add_argument("--place", type=Path, default=PLACE, help="for logs, inputs and crashes")
    options = parser.parse_args(arguments)
    place = options.place.resolve()
    targets = options.only or list(TARGETS)
    parts = _parts(targets, options.executions, options.seed)
    print(f"{len(targets)} targets, {sum(one.executions for one in parts):,} executions, ", end="")
    print(f"{options.jobs} at a time, seed {options.seed}", flush=True)

    results: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in targets}
    waiting = {name: sum(one.target == name for one in parts) for name in targets}
    good = True
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(_run, part, place): part for part in parts}
        for done in as_completed(running):
            part = running[done]
            outcome, seconds = done.result()
            results[part.target].append((outcome, seconds))
            good = _is_good(part, outcome, place) and good
            waiting[part.target] -= 1
            if not waiting[part.target]:
                print(_line(part.target, results[part.target], place), flush=True)
    total = sum(one.executions for several in results.values() for one, _ in several)
    crashes = sum(one.status != 0 for several in results.values() for one, _ in several)
    print(f"{total:,} executions, {crashes} crashes")
    return 0 if good else 1


def _parts(targets: list[str], executions: int, seed: int) -> list[_Part]:
    """What the processes do; each target has its part of all, the slowest begin."""
    shares = sum(TARGETS[name].share for name in targets)
    parts: list[_Part] = []
    for name in sorted(targets, key=lambda one: TARGETS[one].share):
        left = -(-executions * TARGETS[name].share // shares)
        while left:
            size = min(left, PART)
            parts.append(_Part(name, size, seed + len(parts)))
            left -= size
    return parts


def _run(part: _Part, place: Path) -> tuple[Outcome, float]:
    begun = time.monotonic()
    (place / "logs").mkdir(parents=True, exist_ok=True)
    outcome = fuzz(
        part.target,
        *("--runs", str(part.executions), "--seed", str(part.seed)),
        *("--found", str(place / "corpus" / part.target)),
        crashes=place / "crashes",
        log=place / "logs" / f"{part.target}-{part.seed}.log",
    )
    return outcome, time.monotonic() - begun


def _is_good(part: _Part, outcome: Outcome, place: Path) -> bool:
    if outcome.status == 0:
        return True
    log = place / "logs" / f"{part.target}-{part.seed}.log"
    print(f"{part.target}: ended with {outcome.status}; see {log}", flush=True)
    if outcome.crash is not None:
        print(f"  again: .venv/bin/python tests/fuzz/replay.py {part.target} {outcome.crash}")
    return False


def _line(name: str, several: list[tuple[Outcome, float]], place: Path) -> str:
    executions = sum(one.executions for one, _ in several)
    seconds = sum(spent for _, spent in several)
    edges = max(one.edges for one, _ in several)
    features = max(one.features for one, _ in several)
    found: Reached = reached(name, place / "corpus" / name)
    return (
        f"{name:15} {executions:>10,} executions {executions / seconds:>7,.0f}/s  "
        f"{edges:>5} edges {features:>6} features  "
        f"{found.lines:5.1f} % lines {found.branches:5.1f} % branches of {found.what}, "
        f"{found.inputs} inputs"
    )


if __name__ == "__main__":
    sys.exit(main())
