"""`asys audit stats`: actions over time, agent by agent."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from asys.audit.entries import Gap
from asys.audit.reading import Action, Notice, State
from asys.cli.audit_views import clock, plain
from asys.cli.screen import Screen

BUCKETS: Final = 48
"""Spans of time that a picture has at most."""

MAX_AGENTS: Final = 1000
"""Agents that are counted one by one; those after them are counted together."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = ".:-=+*#@"


class Counts:
    """Actions over time, agent by agent; memory does not grow with their number."""

    def __init__(self) -> None:
        self.width_s = 1
        self.agents: dict[str, Counter[int]] = {}
        self.failed: Counter[str] = Counter()
        self.unfinished: Counter[str] = Counter()
        self.instructions: dict[str, Counter[str]] = {}
        self.lost = 0
        self.first = 0
        self.last = -1

    def add(self, action: Action) -> None:
        """Counts one action, or all of equal readings."""
        agent = action.agent
        if agent not in self.agents and len(self.agents) >= MAX_AGENTS:
            agent = "(others)"
        spot = action.time_ns // 10**9 // self.width_s
        if self.last < self.first:
            self.first = self.last = spot
        self.first, self.last = min(self.first, spot), max(self.last, spot)
        self.agents.setdefault(agent, Counter())[spot] += action.times
        self.instructions.setdefault(agent, Counter())[action.instruction] += action.times
        if action.state is State.UNFINISHED:
            self.unfinished[agent] += 1
        elif not action.succeeded:
            self.failed[agent] += action.times
        while self.last - self.first >= BUCKETS:
            self._widen()

    def gap(self, item: Notice) -> None:
        """Counts records that were lost."""
        if isinstance(item.entry, Gap):
            self.lost += item.entry.count

    def _widen(self) -> None:
        self.width_s *= 2
        self.first, self.last = self.first // 2, self.last // 2
        for agent, spots in self.agents.items():
            halved: Counter[int] = Counter()
            for spot, count in spots.items():
                halved[spot // 2] += count
            self.agents[agent] = halved

    def bars(self, agent: str, marks: str) -> str:
        """The agent's picture: a character for each span of time, high where much was done."""
        spots = self.agents[agent]
        most = max(max(one.values()) for one in self.agents.values())
        drawn = []
        for spot in range(self.first, self.last + 1):
            level = -(-spots[spot] * len(marks) // most)
            drawn.append(marks[level - 1] if level else " ")
        return "".join(drawn)


def stats_data(counts: Counts) -> dict[str, Any]:
    """Counts as JSON has them."""
    return {
        "span_s": counts.width_s,
        "lost": counts.lost,
        "agents": {
            agent: {
                "actions": spots.total(),
                "failed": counts.failed[agent],
                "unfinished": counts.unfinished[agent],
                "instructions": dict(counts.instructions[agent].most_common()),
                "over_time": [
                    {"time": clock(spot * counts.width_s), "actions": spots[spot]}
                    for spot in sorted(spots)
                ],
            }
            for agent, spots in counts.agents.items()
        },
    }


def show_stats(screen: Screen, counts: Counts) -> None:
    """Draws counts: a row for each agent, the busiest first."""
    from rich.text import Text

    from asys.cli.views import listing

    if not counts.agents:
        screen.line("no actions")
        return
    marks = _bars()
    table = listing(
        "Agent", ("Actions", "right"), ("Failed", "right"), ("No outcome", "right"), "Over time"
    )
    table.columns[4].no_wrap = True
    totals: Mapping[str, int] = {agent: spots.total() for agent, spots in counts.agents.items()}
    for agent in sorted(totals, key=lambda one: -totals[one]):
        failed, unfinished = counts.failed[agent], counts.unfinished[agent]
        table.add_row(
            Text(plain(agent), "cyan"),
            str(totals[agent]),
            Text(str(failed), "yellow" if failed else ""),
            Text(str(unfinished), "bold red" if unfinished else ""),
            f"|{counts.bars(agent, marks)}|",
        )
    screen.show(table)
    span = timedelta(seconds=counts.width_s)
    begin, end = counts.first * counts.width_s, (counts.last + 1) * counts.width_s
    screen.line(f"from {clock(begin)} to {clock(end)} UTC, {span} for each character")
    for agent in sorted(totals, key=lambda one: -totals[one]):
        most = ", ".join(f"{n} {name}" for name, n in counts.instructions[agent].most_common(5))
        screen.line(f"{plain(agent)}: {most}")
    if counts.lost:
        screen.line(f"{counts.lost} records were lost and are not counted")


def _bars() -> str:
    try:
        _BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _PLAIN_BARS
    return _BARS
