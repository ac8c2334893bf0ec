"""The question before a process is suspended or let go on."""

from __future__ import annotations

import textwrap
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from asys import isa
from asys.isa import ThrottleAction
from asys.tui.readings import Row

_LABEL: Final = 12
"""Columns of the names."""

_ROOM: Final = 54
"""Columns of what is said behind them."""


class Confirm(ModalScreen[bool]):
    """True when somebody has said yes; Cancel has the focus, so Enter alone does nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", "Other", show=False),
    ]
    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 72; max-width: 100%; height: auto; padding: 1 2;
        background: $surface; border: round $warning;
    }
    Confirm Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Confirm Button { margin-left: 2; }
    """

    def __init__(self, host: str, row: Row, action: ThrottleAction) -> None:
        super().__init__()
        self._host = host
        self._row = row
        self._action = action

    def compose(self) -> ComposeResult:
        """As textual asks for it."""
        stop = self._action is ThrottleAction.STOP
        with Vertical():
            yield Static(self._question(), id="question", markup=False)
            with Horizontal():
                yield Button("Cancel (n)", id="no", compact=True)
                name = "Suspend (y)" if stop else "Resume (y)"
                yield Button(name, id="yes", variant="warning", compact=True)

    def on_mount(self) -> None:
        """Nothing happens by accident."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """An answer from the keyboard."""
        self.dismiss(answer)

    def _question(self) -> Text:
        guide = isa.PROC_THROTTLE.guide
        stop = self._action is ThrottleAction.STOP
        text = Text()
        text.append("Suspend this process?\n" if stop else "Let this process go on?\n", "bold")
        for name, value in (
            ("Host", self._host),
            ("PID", str(self._row.pid)),
            ("Name", self._row.called),
            ("Effect", guide.side_effects if stop else "It runs again from where it stood."),
            (
                "Reversible",
                f"{guide.reversible} The key r does that."
                if stop
                else "Fully: it can be suspended again.",
            ),
        ):
            first, *more = textwrap.wrap(value, _ROOM) or [""]
            text.append(f"\n{name:<{_LABEL}}", "bold")
            text.append(first)
            for line in more:
                text.append(f"\n{'':{_LABEL}}{line}")
        return text
