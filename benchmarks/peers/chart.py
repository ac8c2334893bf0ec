"""A chart of a run, as SVG: bars for each peer, on a scale by tens where figures are far apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.peers.jobs import TITLES, Job
from benchmarks.peers.report import figure
from benchmarks.peers.results import JobResult, PeerResult

WIDTH: Final = 760
LEFT: Final = 170
RIGHT: Final = 690
BAR: Final = 9
ROW: Final = 2 * BAR + 8
HEAD: Final = 46
"""Pixels of a panel above its first row."""

_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600 } .small { font-size: 10px }
.vitals { fill: #3b7dd8 } .top { fill: #d8853b } .grid { stroke: #8888; stroke-width: .5 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity. `by_tens`: each line of the grid is ten times the one before."""

    title: str
    value: Callable[[JobResult], float | None]
    by_tens: bool = True
    counts: bool = False
    """Whole things, in place of milliseconds."""

    def shown(self, value: float) -> str:
        """What stands at the end of a bar."""
        return f"{value:,.0f}" if self.counts else figure(value)


PANELS: Final = (
    Panel("Latency, median, ms", lambda one: one.p50_ms),
    Panel("CPU of the node for each question, at one a second, ms", lambda one: one.paced_node_ms),
    Panel("Bytes in TCP, both ways", lambda one: one.to_node + one.from_node, counts=True),
    Panel(
        "Tokens that a model reads, by the rule", lambda one: one.tokens, by_tens=False, counts=True
    ),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """From figures to pixels."""

    low: float
    high: float
    by_tens: bool

    @classmethod
    def of(cls, values: Sequence[float], *, by_tens: bool) -> Scale:
        """One that all of them fit on."""
        if not by_tens:
            step = 10 ** floor(log10(max(values)))
            return cls(0, step * ceil(max(values) / step), by_tens)
        low = 10.0 ** floor(log10(min(values)))
        high = 10.0 ** ceil(log10(max(values)))
        return cls(low / 10 if low == min(values) else low, max(high, low * 10), by_tens)

    def x(self, value: float) -> float:
        """Where a bar of it ends."""
        share = (
            log10(value / self.low) / log10(self.high / self.low)
            if self.by_tens
            else value / self.high
        )
        return LEFT + share * (RIGHT - LEFT)

    @property
    def lines(self) -> list[float]:
        """Where the grid is."""
        if self.by_tens:
            return [self.low * 10**at for at in range(round(log10(self.high / self.low)) + 1)]
        return [self.high * at / 4 for at in range(5)]


def svg(results: Sequence[PeerResult], jobs: Sequence[Job]) -> str:
    """The chart. Peers without figures have a row that says so."""
    body: list[str] = []
    top = 0.0
    for panel in PANELS:
        drawn = _panel(panel, results, jobs, top)
        if drawn:
            body += drawn
            top += HEAD + ROW * len(results) + 14
    legend = []
    for place, job in enumerate(jobs):
        x = LEFT + 140 * place
        legend.append(f'<rect class="{job}" x="{x}" y="{top}" width="{BAR}" height="{BAR}"/>')
        legend.append(_text(x + BAR + 5, top + BAR, TITLES[job]))
    legend.append(_text(RIGHT, top + BAR, "less is better", anchor="end"))
    height = round(top + 24)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">',
            "<title>ASys beside what people use today; less is better</title>",
            f"<style>{_STYLE}</style>",
            *body,
            *legend,
            "</svg>\n",
        ]
    )


def _panel(
    panel: Panel, results: Sequence[PeerResult], jobs: Sequence[Job], top: float
) -> list[str]:
    values = [
        value
        for one in results
        for result in one.jobs.values()
        if (value := panel.value(result)) is not None and value > 0
    ]
    if not values:
        return []
    scale = Scale.of(values, by_tens=panel.by_tens)
    bottom = top + HEAD + ROW * len(results)
    title = f"{panel.title}{', each line ten times the last' if panel.by_tens else ''}"
    drawn = [_text(LEFT, top + 18, title, "title")]
    for line in scale.lines:
        x = scale.x(line) if line else LEFT
        drawn.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 38:.1f}" y2="{bottom:.1f}"/>'
        )
        drawn.append(_text(x, top + 34, f"{line:,.10g}", "small", "middle"))
    for place, one in enumerate(results):
        y = top + HEAD + ROW * place
        drawn.append(_text(LEFT - 8, y + BAR + 4, one.entry.label, anchor="end"))
        if one.missing:
            drawn.append(_text(LEFT + 4, y + BAR + 4, "not measured", "small"))
        for number, job in enumerate(jobs):
            value = panel.value(one.jobs[job]) if job in one.jobs else None
            if value is not None and value > 0:
                drawn += _bar(job, scale.x(value), y + number * BAR, panel.shown(value))
    return drawn


def _bar(job: Job, end: float, y: float, text: str) -> list[str]:
    width = max(end - LEFT, 1)
    return [
        f'<rect class="{job}" x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 1}"/>',
        _text(LEFT + width + 4, y + BAR - 1, text, "small"),
    ]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
