"""docs/resilience.md: its metrics are those of the code, and alerts are about what there is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from asys.node.health.counts import REFUSALS, Closing
from asys.node.health.metrics import METRICS
from asys.node.health.openmetrics import Kind

TEXT = (Path(__file__).parents[2] / "docs" / "resilience.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """The cells of the table under a head."""
    lines = TEXT[TEXT.index(head) :].splitlines()
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[2:])
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_table_is_as_the_code_has_it() -> None:
    wanted = [
        [
            f"`{one.name}`" + (f" by `{one.label}`" if one.label else ""),
            one.kind.value,
            one.unit,
            one.help,
        ]
        for one, _ in METRICS
    ]
    assert rows("| Metric | Type | Unit | Meaning |") == wanted


def test_labels_are_told() -> None:
    told = TEXT[TEXT.index("`reason` of a session") : TEXT.index("### Prometheus")]
    reasons = [why.name.lower() for why in Closing]
    for value in (*reasons, *REFUSALS, "vitals", "processes", "doing", "reading", "parameters"):
        assert f"`{value}`" in told
    assert {one.label for one, _ in METRICS} - {""} == {
        word for word in ("reason", "status", "what", "ring", "vendor") if f"`{word}`" in told
    }


def test_alerts_are_about_metrics_that_there_are() -> None:
    samples = {one.name + ("_total" if one.kind is Kind.COUNTER else "") for one, _ in METRICS} | {
        f"{one.name}_bucket" for one, _ in METRICS if one.kind is Kind.HISTOGRAM
    }
    alerts = rows("| Alert | Says |")
    assert len(alerts) > 10
    for condition, _ in alerts:
        named = re.findall(r"\b(?:asyd|process)_\w+", condition.replace('"asyd"', ""))
        assert named or condition.startswith("`up{")
        assert set(named) <= samples, condition
