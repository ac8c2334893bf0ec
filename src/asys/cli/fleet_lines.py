"""Rows of a fleet as lines and as JSON. Neither needs rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from asys.cli import failures
from asys.cli.values import as_data, flag_names
from asys.isa import Processes, Status

if TYPE_CHECKING:
    from asys.fleet import Row

WIDEST: Final = 24
"""Columns of a node's name up to which lines stand below each other."""


class Lines:
    """Lines for one list of nodes, so that what stands behind their names is below each other."""

    def __init__(self, names: Iterable[str]) -> None:
        self._width = min(max(map(len, names), default=0), WIDEST)

    def reading(self, row: Row[Any]) -> str:
        """What a node has answered, or why it has not."""
        if row.failure is not None:
            return self._line(row.node, str(row.failure))
        found: Status | Processes = row.result()
        said = status(found) if isinstance(found, Status) else procs(found)
        return self._line(row.node, f"{said}  ({took(row)})")

    def order(self, row: Row[Any], *, suspends: bool) -> str:
        """What became of an order about a process."""
        pid = 0 if row.target is None else row.target.pid
        if row.failure is not None:
            return self._line(row.node, f"PID {pid}: {row.failure}")
        return self._line(row.node, f"PID {pid} {'is suspended' if suspends else 'goes on'}")

    def _line(self, node: str, said: str) -> str:
        return f"{node:<{self._width}}  {' '.join(said.split(chr(10)))}"


def took(row: Row[Any]) -> str:
    """How long a row took, for people."""
    return f"{row.elapsed * 1000:.1f} ms"


def status(found: Status) -> str:
    """Vitals on one line."""
    parts = [
        f"CPU {found.cpu_percent} %",
        f"load {found.load1:.1f}",
        f"{found.available_mb} MB available",
        f"disk {found.root_used_percent} %",
        f"net {found.inbound_mbps}/{found.outbound_mbps} Mbit/s",
        f"pressure {pressure(found)}",
    ]
    return "  ".join([*parts, *flag_names(found.node_flags)])


def pressure(found: Status) -> str:
    """The resource pressure index, for people."""
    return "-" if found.rpi_percent is None else f"{found.rpi_percent} %"


def procs(found: Processes) -> str:
    """Processes on one line."""
    top = ", ".join(f"{one.pid} {one.cpu_percent:.1f} %" for one in found.top)
    return f"{found.count} processes; most CPU: {top or 'none'}"


def data_of(row: Row[Any]) -> dict[str, Any]:
    """A row as JSON has it: `result`, or `error` as other commands print it."""
    data: dict[str, Any] = {"node": row.node, "ok": row.ok}
    if row.target is not None:
        data["pid"] = row.target.pid
    data["elapsed_ms"] = round(row.elapsed * 1000, 3)
    if row.failure is not None:
        data |= failures.as_data(row.failure.error)
        data["outcome_unknown"] = row.failure.outcome_unknown
    else:
        data["result"] = as_data(row.value)
    return data
