"""The application: a watcher for each node, the view of one of them, and the keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from asys.isa import ThrottleAction
from asys.tui.actions import ActionList
from asys.tui.confirm import Confirm
from asys.tui.hosts import HostList
from asys.tui.processes import ProcessList
from asys.tui.records import Records
from asys.tui.styles import STATES
from asys.tui.vitals import VitalsPanel
from asys.tui.watcher import Target, Watcher, waits


class TopApp(App[None]):
    """`asys top`. `interval` in seconds; `audit` is the audit directory of the one node.

    OSError when the audit cannot be watched. `now` gives Unix time in ns.
    """

    TITLE = "asys top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "suspend", "Suspend"),
        Binding("r", "resume", "Resume"),
        Binding("t", "again", "Try again now"),
        Binding("n", "next(1)", "Next host"),
        Binding("p", "next(-1)", "Previous"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]
    CSS = """
    #head, #notice { height: 1; padding: 0 1; }
    #notice { height: auto; max-height: 3; }
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        interval: float,
        audit: Path | None = None,
        now: Callable[[], int] = time.time_ns,
        waits: Callable[[], Iterator[float]] = waits,
    ) -> None:
        super().__init__()
        self._shown = 0
        self.said = ""
        """What came of the last key, for the line at the bottom."""
        self._interval = interval
        self.watchers: Final = [
            Watcher(one, interval, self._changed, now=now, waits=waits) for one in targets
        ]
        self.records = None if audit is None else Records(audit, self._recorded)

    @property
    def watcher(self) -> Watcher:
        """The node that is shown."""
        return self.watchers[self._shown]

    def compose(self) -> ComposeResult:
        """As textual asks for it."""
        yield Static(id="head", markup=False)
        if len(self.watchers) > 1:
            yield HostList()
        yield VitalsPanel()
        yield ProcessList()
        yield ActionList()
        yield Static(id="notice", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begins to ask."""
        self._attend()
        self.query_one(ProcessList).focus()
        for watcher in self.watchers:
            self.run_worker(watcher.run(), group="watchers")
        if self.records is not None:
            self.records.start()

    def on_unmount(self) -> None:
        """The thread that reads the audit ends with the view."""
        if self.records is not None:
            self.records.close()

    # -- the view

    def _changed(self) -> None:
        if self.is_running:
            self.call_later(self._draw)

    def _recorded(self) -> None:
        """From the thread that reads the audit."""
        if self.is_running:
            self.call_later(self._draw)

    def _draw(self) -> None:
        if not self.screen_stack:
            return
        screen = self.screen_stack[0]
        watcher = self.watcher
        screen.query_one("#head", Static).update(self._head())
        if len(self.watchers) > 1:
            screen.query_one(HostList).show(self.watchers)
        screen.query_one(VitalsPanel).show(watcher)
        screen.query_one(ProcessList).show(watcher)
        deeds = watcher.deeds if self.records is None else self.records.deeds
        screen.query_one(ActionList).show(tuple(deeds), tuple(watcher.exchanges))
        screen.query_one("#notice", Static).update(self._notice())
        self.refresh_bindings()

    def _head(self) -> Text:
        watcher = self.watcher
        text = Text("asys top  ", no_wrap=True, overflow="ellipsis")
        text.append(watcher.target.name, "bold")
        text.append(f"  {watcher.state.value}", STATES[watcher.state])
        return text.append(f"  every {self._interval:g} s", "dim")

    def _notice(self) -> Text:
        """What is wrong, before what was done last."""
        trouble = self.watcher.trouble or (self.records.trouble if self.records is not None else "")
        if trouble:
            return Text(_plain(trouble), "red")
        return Text(_plain(self.said))

    def _attend(self) -> None:
        for number, watcher in enumerate(self.watchers):
            watcher.attended = number == self._shown
        self.said = ""
        self._draw()

    # -- the keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None: the key is there and greyed out; False: it is not there."""
        if action == "next":
            return len(self.watchers) > 1
        if action not in ("suspend", "resume"):
            return True
        if not self.is_running or not self.watcher.can_throttle:
            return None
        return True

    def action_next(self, step: int) -> None:
        """Shows another node."""
        self._shown = (self._shown + step) % len(self.watchers)
        if len(self.watchers) > 1:
            self.query_one(HostList).move_cursor(row=self._shown)
        self._attend()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The cursor in the list of hosts chooses."""
        if isinstance(event.data_table, HostList) and event.cursor_row != self._shown:
            self._shown = event.cursor_row
            self._attend()

    def action_again(self) -> None:
        """Asks now what would be asked later."""
        self.watcher.again()

    def action_suspend(self) -> None:
        """Suspends the selected process, if somebody says yes."""
        self._throttle(ThrottleAction.STOP)

    def action_resume(self) -> None:
        """Lets the selected process go on, if somebody says yes."""
        self._throttle(ThrottleAction.CONTINUE)

    @work(exclusive=True, group="throttle")
    async def _throttle(self, action: ThrottleAction) -> None:
        watcher = self.watcher
        chosen = self.query_one(ProcessList).process
        if chosen is None:
            self._say("no process is selected")
            return
        connection = watcher.connection
        async with watcher.standing(chosen.pid) as row:
            if row is None or (chosen.name is not None and row.name != chosen.name):
                self._say(f"{chosen.pid} {chosen.called} is not there any more; look again")
                return
            if not await self.push_screen_wait(Confirm(watcher.target.name, row, action)):
                self._say("nothing was done")
                return
            self._say(await watcher.throttle(row, action, connection))

    def _say(self, text: str) -> None:
        self.said = text
        self._draw()


def _plain(text: str) -> str:
    """One line without anything that moves a cursor."""
    return "".join(one if one.isprintable() else " " for one in text)
