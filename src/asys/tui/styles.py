"""Colours that mean the same everywhere in the view; text beside them says it too."""

from __future__ import annotations

from typing import Final

from asys.tui.watcher import State

BUSY_PERCENT: Final = 70
"""From here a share is drawn as a warning."""

FULL_PERCENT: Final = 90
"""From here a share is drawn as an alarm."""

STATES: Final = {
    State.CONNECTING: "yellow",
    State.LIVE: "green",
    State.LOST: "red",
    State.REFUSED: "red",
}


def alarm(percent: float) -> str:
    """The style of a share."""
    if percent >= FULL_PERCENT:
        return "bold red"
    return "yellow" if percent >= BUSY_PERCENT else "green"
