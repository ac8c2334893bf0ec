"""The live table of a fleet. Only this and the other views import rich."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asys.cli.fleet_lines import pressure, took
from asys.cli.values import flag_names
from asys.cli.views import BUSY_PERCENT, FULL_PERCENT, listing
from asys.isa import SYS_STATUS, AnyInstruction, Processes, Status

if TYPE_CHECKING:
    from asys.fleet import Row, Selection

REDRAW: Final = 0.1
"""Seconds from one picture to the next, at least: a thousand rows are not a thousand pictures."""

_BAR: Final = 30
"""Columns of the progress bar."""

_STATUS: Final = (
    ("CPU", "right"),
    ("Load", "right"),
    ("Available", "right"),
    ("Disk /", "right"),
    ("Pressure", "right"),
)
_PROCS: Final = (
    ("Processes", "right"),
    ("PID", "right"),
    ("CPU", "right"),
    ("Memory", "right"),
)


class Board:
    """A table that is drawn anew as rows come: a line for each node, in the inventory's order."""

    def __init__(
        self,
        console: Console,
        instruction: AnyInstruction,
        nodes: Selection,
        *,
        watching: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._status: Final = instruction is SYS_STATUS
        self._names: Final = [one.name for one in nodes]
        self._watching = watching
        self._clock = clock
        self._drawn = clock()
        self._rows: dict[str, Row[Any]] = {}
        self._live: Final = Live(self._picture(), console=console, auto_refresh=False)

    def __enter__(self) -> Board:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.update(self._picture())
        self._live.refresh()
        self._live.stop()

    def add(self, row: Row[Any]) -> None:
        """A node has answered, or has not."""
        self._rows[row.node] = row
        now = self._clock()
        if now - self._drawn >= REDRAW:
            self._drawn = now
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        table = listing("Node", *(_STATUS if self._status else _PROCS), "Answer")
        table.columns[-1].no_wrap = True
        table.columns[-1].overflow = "ellipsis"
        for name in self._names:
            self._draw(table, name, self._rows.get(name))
        return Group(table, self._progress())

    def _draw(self, table: Table, name: str, row: Row[Any] | None) -> None:
        blank = [""] * (len(table.columns) - 2)
        if row is None:
            table.add_row(name, *blank, "...", style="dim")
        elif row.failure is not None:
            table.add_row(Text(name, "red"), *blank, Text(str(row.failure), "red"))
        elif isinstance(row.value, Status):
            table.add_row(name, *_vitals(row.value), _answer(row, row.value))
        elif isinstance(row.value, Processes):
            first = [name, str(row.value.count)]
            for one in row.value.top:
                cpu, memory = f"{one.cpu_percent:.2f} %", f"{one.memory_percent} %"
                table.add_row(*first, str(one.pid), cpu, memory, took(row) if first[0] else "")
                first = ["", ""]

    def _progress(self) -> RenderableType:
        total = len(self._names)
        failed = sum(not row.ok for row in self._rows.values())
        said = f"{len(self._rows)} of {total} nodes"
        text = Text.assemble(said, (f", {failed} failed", "red") if failed else "")
        if self._watching:
            return text.append("  (Ctrl-C ends)", "dim")
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(ProgressBar(total, len(self._rows), width=_BAR), text)
        return line


def _vitals(found: Status) -> list[RenderableType]:
    return [
        _share(found.cpu_percent),
        f"{found.load1:.1f}",
        f"{found.available_mb} MB",
        _share(found.root_used_percent),
        pressure(found),
    ]


def _answer(row: Row[Any], found: Status) -> Text:
    flags = ", ".join(flag_names(found.node_flags))
    return Text(took(row)).append(f"  {flags}" if flags else "", "red")


def _share(percent: int) -> Text:
    style = ""
    if percent >= BUSY_PERCENT:
        style = "bold red" if percent >= FULL_PERCENT else "yellow"
    return Text(f"{percent} %", style)
