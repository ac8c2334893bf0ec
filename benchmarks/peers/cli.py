"""The command `python -m benchmarks.peers`."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from asys.errors import AsysError
from benchmarks.machine import described
from benchmarks.many_nodes import CHECKOUT
from benchmarks.peers import accounts
from benchmarks.peers.chart import svg
from benchmarks.peers.jobs import Job
from benchmarks.peers.measure import QUICK, Measurement, Sizes
from benchmarks.peers.registry import NAMES, PEERS, REFERENCE, Entry, found
from benchmarks.peers.report import as_markdown, as_text, inserted
from benchmarks.peers.results import PeerResult
from benchmarks.peers.tokens import RULE
from benchmarks.plan import BenchmarkError

OK: Final = 0
FAILED: Final = 2
PAGE: Final = CHECKOUT / "docs" / "benchmarks-peers.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Asks a node of this machine the same two things in each of the ways in which "
        "people do it today, side by side. Only the ratios mean anything.",
        epilog="What is not installed is named in its row, with what installs it.",
    )
    parser.add_argument(
        "--peers",
        type=_names,
        default=NAMES,
        metavar="LIST",
        help=f"only these beside {REFERENCE}, with commas: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=tuple(Job),
        metavar="LIST",
        help=f"only these, with commas: {', '.join(Job)}",
    )
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds of questions")
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result there as well; - is stdout"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw it there, as SVG")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="PAGE",
        help="put tables and chart into the documentation (default: docs/benchmarks-peers.md)",
    )
    return parser


def _names(written: str) -> tuple[str, ...]:
    names = written.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names or name == REFERENCE)


def _jobs(written: str) -> tuple[Job, ...]:
    try:
        names = {Job(name) for name in written.split(",")}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; there are {', '.join(Job)}") from None
    return tuple(job for job in Job if job in names)


def _count(written: str) -> int:
    count = int(written)
    if not 1 <= count <= 10_000:
        raise argparse.ArgumentTypeError(f"{written} is not within 1 and 10000")
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit status: 2 where a peer broke down."""
    arguments = _parser().parse_args(argv)
    if sys.platform != "linux":
        print("benchmarks: needs Linux, for its cgroups and for asyd", file=sys.stderr)
        return FAILED
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.rounds is not None:
        sizes = replace(sizes, rounds=arguments.rounds)
    entries = [one for one in PEERS if one.name in arguments.peers]
    paper = sys.stderr if arguments.json == "-" else sys.stdout
    machine = described() | _versions(entries)
    try:
        print(", ".join(f"{name} {value}" for name, value in machine.items()), file=paper)
        uncounted = accounts.unavailable()
        if uncounted:
            print(uncounted, file=paper)
        results = _measured(entries, sizes, arguments.jobs, counted=not uncounted)
        print(as_text(results, arguments.jobs), file=paper)
        print(f"\nTokens are an estimate. {RULE}", file=paper)
        _write(arguments, results, machine)
    except (BenchmarkError, AsysError, OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return FAILED if any(one.broken for one in results) else OK


def _measured(
    entries: Sequence[Entry], sizes: Sizes, jobs: Sequence[Job], *, counted: bool
) -> list[PeerResult]:
    # Sockets of ssh are below it, and their paths have room for 100 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="asys-") as directory,
        accounts.accounts() if counted else contextlib.nullcontext() as books,
    ):
        return Measurement(Path(directory), sizes, jobs, books, _say).run(entries)


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


def _versions(entries: Sequence[Entry]) -> dict[str, str]:
    """Of what is measured, as far as it is installed."""
    found_versions = {}
    for name in dict.fromkeys(name for entry in entries for name in entry.packages):
        with contextlib.suppress(PackageNotFoundError):
            found_versions[name] = version(name)
    if found("ssh") is not None and any("ssh" in entry.commands for entry in entries):
        said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
        found_versions["OpenSSH"] = said.partition(",")[0].strip().removeprefix("OpenSSH_")
    return found_versions


def _write(
    arguments: argparse.Namespace, results: Sequence[PeerResult], machine: dict[str, Any]
) -> None:
    if arguments.json is not None:
        peers = [one.as_json() for one in results]
        text = json.dumps({"machine": machine, "token_rule": RULE, "peers": peers}, indent=2)
        if arguments.json == "-":
            print(text)
        else:
            Path(arguments.json).write_text(text + "\n")
    drawn = svg(results, arguments.jobs)
    if arguments.chart is not None:
        arguments.chart.write_text(drawn)
    if arguments.write_docs is not None:
        page: Path = arguments.write_docs
        chart = page.with_suffix(".svg")
        tables = as_markdown(results, arguments.jobs, machine, chart.name)
        page.write_text(inserted(page.read_text("utf-8"), tables), "utf-8")
        chart.write_text(drawn, "utf-8")
