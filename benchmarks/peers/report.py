"""The result as tables: for a terminal, and for a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.peers.jobs import TITLES, Job
from benchmarks.peers.registry import REFERENCE, Entry
from benchmarks.peers.results import JobResult, PeerResult

HEAD: Final = (
    "",
    "p50 ms",
    "p95 ms",
    "x ASys (quartiles)",
    "bytes to node",
    "bytes back",
    "tokens",
    "node CPU ms, 1/s",
    "node CPU ms, no pause",
    "client CPU ms",
)
FIRST_HEAD: Final = ("", "first answer ms", "bytes to node", "bytes back")

BEGIN: Final = "<!-- measured: python -m benchmarks.peers --write-docs -->"
END: Final = "<!-- end of what was measured -->"


def figure(value: float | None) -> str:
    """Three digits that count, or a dash."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _row(entry: Entry, one: JobResult) -> list[str]:
    ratio = f"{figure(one.ratio.median)} ({figure(one.ratio.low)}-{figure(one.ratio.high)})"
    if entry.name == REFERENCE:
        ratio = "1"
    return [
        entry.label,
        figure(one.p50_ms),
        figure(one.p95_ms),
        ratio,
        f"{one.to_node:,.0f}",
        f"{one.from_node:,.0f}",
        f"{one.tokens:,.0f}",
        figure(one.paced_node_ms),
        figure(one.node_ms),
        figure(one.client_ms),
    ]


def _job_rows(results: Sequence[PeerResult], job: Job) -> list[list[str]]:
    return [
        _row(one.entry, one.jobs[job])
        if one.measured
        else [one.entry.label, f"not measured: {one.missing}"]
        for one in results
    ]


def _first_rows(results: Sequence[PeerResult]) -> list[list[str]]:
    return [
        [
            one.entry.label,
            figure(one.first_ms),
            f"{one.first_to_node:,}",
            f"{one.first_from_node:,}",
        ]
        if one.measured
        else [one.entry.label, f"not measured: {one.missing}"]
        for one in results
    ]


def _tables(
    results: Sequence[PeerResult], jobs: Sequence[Job]
) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    tables = [(TITLES[job], HEAD, _job_rows(results, job)) for job in jobs]
    return [*tables, ("a new client", FIRST_HEAD, _first_rows(results))]


def as_text(results: Sequence[PeerResult], jobs: Sequence[Job]) -> str:
    """For a terminal."""
    lines = []
    for title, head, rows in _tables(results, jobs):
        full = [row for row in rows if len(row) == len(head)]
        widths = [max(map(len, column)) for column in zip(head, *full, strict=True)]
        widths[0] = max(len(row[0]) for row in rows)
        lines += ["", title[:1].upper() + title[1:], _line(head, widths)]
        lines += [_line(row, widths) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    if len(cells) == 2:  # a reason in place of figures
        return f"{cells[0]:<{widths[0]}}  {cells[1]}"
    numbers = [f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([f"{cells[0]:<{widths[0]}}", *numbers]).rstrip()


def as_markdown(
    results: Sequence[PeerResult], jobs: Sequence[Job], machine: dict[str, Any], chart: str
) -> str:
    """What stands between BEGIN and END on the page."""
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    parts = [BEGIN, f"![Latency, bytes, tokens and CPU of each peer, for both jobs]({chart})"]
    parts.append(f"Measured on: {described}.")
    for title, head, rows in _tables(results, jobs):
        parts.append(f"### {title[:1].upper() + title[1:]}")
        table = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
        table += [f"| {' | '.join([*row, *[''] * (len(head) - len(row))])} |" for row in rows]
        parts.append("\n".join(table))
    return "\n\n".join([*parts, END])


def inserted(page: str, measured: str) -> str:
    """The page with what was measured in place of what stood there. ValueError: it has no place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r}")
    return before + measured + after
