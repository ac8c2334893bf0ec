"""Several nodes, a line each, to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from asys.tui.listing import Listing
from asys.tui.styles import STATES, alarm
from asys.tui.watcher import State, Watcher


class HostList(Listing):
    """One row a node; its key is its place in the command."""

    DEFAULT_CSS = "HostList { height: auto; max-height: 5; }"

    def __init__(self) -> None:
        super().__init__("HOST", "NODE IS", "CPU %", "PRESSURE %", "SUSPENDED HERE", name="hosts")

    def show(self, watchers: Sequence[Watcher]) -> None:
        """Draws them."""
        self.fill([(str(number), _cells(one)) for number, one in enumerate(watchers)])


def _cells(watcher: Watcher) -> tuple[Text, ...]:
    last = watcher.vitals.last if watcher.state is State.LIVE else None
    held = len(watcher.held)
    return (
        Text(watcher.target.name),
        Text(watcher.state.value.ljust(10), STATES[watcher.state]),
        _share(None if last is None else last.cpu_percent),
        _share(None if last is None else last.rpi_percent),
        Text(str(held) if held else "", "yellow"),
    )


def _share(percent: int | None) -> Text:
    return Text("") if percent is None else Text(f"{percent:3d}", alarm(percent))
