"""The processes of one node that use most CPU, and those that were suspended from here."""

from __future__ import annotations

from rich.text import Text

from asys.isa import ProcessFlags
from asys.tui.listing import Listing
from asys.tui.readings import Row
from asys.tui.styles import alarm
from asys.tui.watcher import State, Watcher


class ProcessList(Listing):
    """One row a process; its key is the PID."""

    DEFAULT_CSS = "ProcessList { height: 8; }"

    def __init__(self) -> None:
        super().__init__("    PID", " CPU %", "MEM %", "STATE", "NAME", name="processes")
        self._rows: dict[str, Row] = {}

    def show(self, watcher: Watcher) -> None:
        """Draws a node's."""
        self._rows = {str(row.pid): row for row in watcher.rows}
        old = watcher.state is not State.LIVE
        self.fill([(key, _cells(row, old=old)) for key, row in self._rows.items()])

    @property
    def pids(self) -> list[int]:
        """The processes in their order."""
        return [row.pid for row in self._rows.values()]

    @property
    def process(self) -> Row | None:
        """What the cursor is on."""
        return self._rows.get(self.selected or "")


def _cells(row: Row, *, old: bool) -> tuple[Text, ...]:
    dim = "dim" if old else ""
    return (
        Text(str(row.pid).rjust(7), dim),
        Text(f"{row.cpu_percent:6.1f}", dim or alarm(row.cpu_percent)),
        Text(f"{row.memory_percent:3d}", dim),
        Text(_state(row).ljust(16), dim or ("yellow" if row.held else "")),
        Text(row.called, dim or ("" if row.name else "dim")),
    )


def _state(row: Row) -> str:
    if row.held:
        return row.held.value
    said = [_LETTERS[row.state]] if row.state in _LETTERS else []
    if ProcessFlags.ZOMBIE in row.flags:
        said = ["zombie"]
    elif ProcessFlags.UNINTERRUPTIBLE in row.flags:
        said = ["waits for I/O"]
    if ProcessFlags.ROOT in row.flags:
        said.append("root")
    return ", ".join(said)


_LETTERS = {"T": "stopped", "t": "traced", "Z": "zombie", "D": "waits for I/O"}
