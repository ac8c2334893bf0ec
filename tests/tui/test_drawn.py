"""Sparklines and the lines of the vitals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asys import isa
from asys.tui.actions import clock
from asys.tui.sparks import sparks
from asys.tui.vitals import drawn
from asys.tui.watcher import Target, Watcher


@pytest.mark.parametrize(
    ("values", "full", "width", "expected"),
    [
        ([0, 50, 100], 100, 3, "▁▅█"),
        ([0, 0], 100, 4, "  ▁▁"),
        ([5, 5, 5], 100, 3, "▁▁▁"),  # at rest is not at work
        ([1, None, 100, 250, -3], 100, 5, "▁ ██▁"),
        ([1, 2, 3], 3, 1, "█"),
        ([1], 0, 2, " ▁"),
        ([], 100, 2, "  "),
        ([1], 100, 0, ""),
    ],
)
def test_sparks(values: list[float | None], full: float, width: int, expected: str) -> None:
    assert sparks(values, full, width) == expected


def watcher() -> Watcher:
    return Watcher(Target("web-1", "192.0.2.1", 9797, {}), 1, lambda: None)


STATUS = isa.Status(
    load1=0.1,
    load5=0.2,
    cpu_percent=7,
    available_mb=2048,
    root_used_percent=91,
    io_wait_ms=0,
    inbound_mbps=0,
    outbound_mbps=0,
    rpi_percent=None,
)


def test_a_node_of_which_nothing_is_known_yet() -> None:
    lines = drawn(watcher(), 80).plain.splitlines()

    assert [line.strip() for line in lines] == ["CPU", "Memory", "Pressure", "Net in", "Net out"]


@pytest.mark.parametrize("width", [20, 80, 300])
def test_no_line_is_wider_than_there_is_room(width: int) -> None:
    one = watcher()
    one.vitals.add(STATUS)
    for line in drawn(one, width).plain.splitlines()[:5]:
        assert len(line) <= max(width, 45)


def test_what_is_not_measured_is_said_and_memory_needs_its_size() -> None:
    one = watcher()
    one.vitals.add(STATUS)
    lines = {line.split()[0]: line for line in drawn(one, 80).plain.splitlines()}

    assert "not measured" in lines["Pressure"]
    assert "%" not in lines["Memory"]
    assert "91 %" in lines["Load"]


def test_an_audit_that_is_not_on_the_disk_is_shown() -> None:
    one = watcher()
    one.vitals.add(replace(STATUS, node_flags=isa.NodeFlags.AUDIT_DEGRADED))

    assert "AUDIT NOT ON DISK" in drawn(one, 80).plain


def test_a_time_beyond_all_calendars() -> None:
    assert clock(1_700_049_600_000_000_000) == "12:00:00"
    assert clock(1 << 70) == "?"
