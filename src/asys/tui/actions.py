"""What was done last: by the agents, as the audit has it; else by this one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.text import Text

from asys.client.exchange import is_success
from asys.protocol.status import explain
from asys.tui.listing import Listing
from asys.tui.readings import Counted, Deed

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ActionList(Listing):
    """Actions, the newest first; behind them this agent's requests, equal ones counted."""

    DEFAULT_CSS = "ActionList { height: 1fr; min-height: 3; }"

    def __init__(self) -> None:
        super().__init__("UTC", "AGENT", "ACTION", "OUTCOME", name="actions", cursor=False)

    def show(self, deeds: Sequence[Deed], exchanges: Sequence[Counted]) -> None:
        """Draws them."""
        rows = [(f"deed {len(deeds) - number}", _deed(one)) for number, one in enumerate(deeds)]
        rows += [(f"{one.instruction} {one.sw:04X}", _counted(one)) for one in exchanges]
        self.fill(rows)


def _deed(one: Deed) -> tuple[Text, ...]:
    return (
        Text(clock(one.time_ns)),
        Text(one.agent),
        Text(one.what),
        Text(one.outcome, "green" if one.good else "red"),
    )


def _counted(one: Counted) -> tuple[Text, ...]:
    good = is_success(one.sw)
    meaning = "" if good else f" {explain(one.sw).meaning}"
    return (
        Text(""),
        Text("this agent", "dim"),
        Text(f"{one.instruction} x{one.times}", "dim"),
        Text(
            f"{one.sw:04X}{meaning}, last {one.round_trip_ns / 1e6:.1f} ms",
            "dim" if good else "red",
        ),
    )


def clock(time_ns: int) -> str:
    """The time of day of Unix time in ns, in UTC."""
    try:
        return f"{_EPOCH + timedelta(microseconds=time_ns // 1000):%H:%M:%S}"
    except OverflowError:
        return "?"
