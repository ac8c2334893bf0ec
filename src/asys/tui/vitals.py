"""The vitals of one node: a line each, with how they went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.text import Text
from textual.widget import Widget

from asys.isa import NodeFlags, Status
from asys.tui.sparks import sparks
from asys.tui.styles import FULL_PERCENT, alarm
from asys.tui.watcher import Watcher

LABEL: Final = 10
"""Columns of the names."""

VALUE: Final = 34
"""Columns of what is said behind the sparkline."""

_LEAST_MBPS: Final = 1
"""A network that is quieter than this draws no tall bars."""


class VitalsPanel(Widget):
    """Six lines: CPU, memory, pressure, network in and out, and the rest in words."""

    DEFAULT_CSS = "VitalsPanel { height: 6; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="vitals")
        self._watcher: Watcher | None = None

    def show(self, watcher: Watcher) -> None:
        """Draws a node."""
        self._watcher = watcher
        self.refresh()

    def render(self) -> Text:
        """As textual asks for it."""
        return Text("") if self._watcher is None else drawn(self._watcher, self.size.width)


def drawn(watcher: Watcher, width: int) -> Text:
    """The six lines, `width` columns wide."""
    readings = list(watcher.vitals.readings)
    last = watcher.vitals.last
    room = max(width - LABEL - VALUE - 1, 0)
    ram = watcher.caps.ram_mb if watcher.caps is not None else 0
    cpus = watcher.caps.cpu_count if watcher.caps is not None else 0

    def used(status: Status) -> float | None:
        return 100 * (1 - min(status.available_mb / ram, 1)) if ram else None

    text = Text(no_wrap=True, overflow="ellipsis")
    cpu = f"of {cpus} CPU{'' if cpus == 1 else 's'}" if cpus else ""
    _share(text, "CPU", readings, lambda one: one.cpu_percent, room, cpu)
    free = f"{last.available_mb / 1024:.1f} GiB available" if last is not None else ""
    _share(text, "Memory", readings, used, room, free)
    _share(text, "Pressure", readings, lambda one: one.rpi_percent, room, "")
    most = max(
        [_LEAST_MBPS, *(max(one.inbound_mbps, one.outbound_mbps) for one in readings if one)]
    )
    for name, rate in (("Net in", _inbound), ("Net out", _outbound)):
        value = "" if last is None else f"{rate(last):5.0f} Mbit/s"
        _line(text, name, sparks(_over(readings, rate), most, room), value, "cyan")
    if last is not None:
        text.append("Load".ljust(LABEL), "bold")
        text.append(f"{last.load1:.1f} {last.load5:.1f}   disk / ")
        text.append(f"{last.root_used_percent} %", alarm(last.root_used_percent))
        text.append(f"   I/O wait {last.io_wait_ms} ms   {watcher.count} processes")
        if NodeFlags.AUDIT_DEGRADED in last.node_flags:
            text.append("   AUDIT NOT ON DISK", alarm(FULL_PERCENT))
    return text


def _share(
    text: Text,
    name: str,
    readings: Sequence[Status | None],
    of: Callable[[Status], float | None],
    room: int,
    more: str,
) -> None:
    values = _over(readings, of)
    now = values[-1] if values else None
    bars = sparks(values, 100, room)
    if now is None:
        missing = readings and readings[-1] is not None
        _line(text, name, bars, "not measured" if missing else "", "dim")
    else:
        _line(text, name, bars, f"{now:3.0f} %  {more}", alarm(now))


def _line(text: Text, name: str, bars: str, value: str, style: str) -> None:
    text.append(name.ljust(LABEL), "bold")
    text.append(bars, style)
    text.append(f" {value}\n", style)


def _over(
    readings: Sequence[Status | None], of: Callable[[Status], float | None]
) -> list[float | None]:
    return [None if one is None else of(one) for one in readings]


def _inbound(status: Status) -> float:
    return status.inbound_mbps


def _outbound(status: Status) -> float:
    return status.outbound_mbps
