"""How `asys conformance` draws the result of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from asys.conformance.case import Level
from asys.conformance.report import counted
from asys.conformance.verdicts import Outcome, Verdict


def summary(outcomes: Sequence[Outcome]) -> Table:
    """Verdicts by level."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("level")
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right")
    for level in Level:
        of_level = [one for one in outcomes if one.case.level is level]
        if of_level:
            counts = counted(of_level)
            numbers = [str(counts[verdict]) for verdict in Verdict]
            table.add_row(f"{level.value}  {level.title}", *numbers)
    return table
