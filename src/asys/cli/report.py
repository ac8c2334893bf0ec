"""What became of one instruction: as data, and as sentences for those that only act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from asys import isa
from asys.cli.values import as_data, as_text
from asys.client.exchange import Exchange
from asys.isa import (
    AnyInstruction,
    Capabilities,
    CapabilityMap,
    Group,
    Mode,
    TaskHandle,
    TaskStatus,
    ThrottleAction,
)
from asys.isa.process import Restart, Throttle
from asys.isa.security import AgentKey
from asys.protocol.codec import Layout

AUDIT_DEGRADED: Final = 0x01
"""Node flag: what agents do is at the moment not safely recorded."""


@dataclass(frozen=True, slots=True)
class Report:
    """One answered instruction; `task` is how its task ended, None when nobody waited for it.

    `caps` is page 0 of SYS_CAPS, `lit` all of the capability map; None where it is not granted.
    `agent` is this agent's public key.
    """

    node: str
    agent: bytes
    instruction: AnyInstruction
    request: Layout
    reply: Layout
    exchange: Exchange
    caps: Capabilities | None
    lit: CapabilityMap | None
    task: TaskStatus | None = None

    @property
    def answered(self) -> str:
        """Status word and round trip, for people."""
        return f"{self.exchange.sw:04X} in {self.exchange.round_trip_ns / 1e6:.1f} ms"

    @property
    def handle(self) -> str:
        """The handle of the task that it started."""
        return f"{cast('TaskHandle', self.reply).handle:08X}"


def data_of(report: Report) -> dict[str, Any]:
    """The object that `--json` prints for an answered instruction."""
    result: dict[str, Any] = as_data(report.reply)
    if isinstance(report.reply, Capabilities):
        result |= _instructions(granted(report, report.reply))
    if report.instruction.mode is Mode.ASYNC:
        result["status"] = as_data(report.task)
    return {
        "node": report.node,
        "instruction": report.instruction.name,
        "sw": f"{report.exchange.sw:04X}",
        "round_trip_ns": report.exchange.round_trip_ns,
        "result": result,
    }


def has_table(instruction: AnyInstruction) -> bool:
    """True when the answer is a reading that people see as a table."""
    return instruction.mode is Mode.SYNC and bool(instruction.reply.FIELDS)


def sentence(report: Report) -> str:
    """What an instruction has done that has nothing to read."""
    special = _SENTENCES.get(report.instruction.name)
    said = special(report) if special else _any_action(report)
    if report.exchange.node_flags & AUDIT_DEGRADED:
        said += "; the node's audit is degraded"
    return f"{said} ({report.answered})"


VENDOR_CODES: Final = range(Group.VENDOR_C << 4, 0x100)


def granted(report: Report, caps: Capabilities) -> CapabilityMap:
    """All pages of the capability map; just the one in `caps` where others were not to be had."""
    return CapabilityMap(caps.lit) if report.lit is None else report.lit


def lacking(lit: CapabilityMap) -> list[AnyInstruction]:
    """The instructions known here that do not exist for this agent on the node."""
    return [one for one in isa.REGISTRY if one.code not in lit]


def strange(lit: CapabilityMap) -> list[int]:
    """The codes of instructions that exist for this agent and that this version does not know."""
    return [code for code in lit if isa.REGISTRY.get(code) is None and code not in VENDOR_CODES]


def of_vendors(lit: CapabilityMap) -> list[tuple[int, str]]:
    """The codes of vendors that exist for this agent, and what installed vendors call them."""
    codes = [code for code in lit if code in VENDOR_CODES]
    if not codes:
        return []
    from asys.cli.vendor_commands import vendors

    known = vendors()
    return [
        (
            code,
            ", ".join(
                f"{found.name} of {one.domain}"
                for one in known
                if (found := one.get(code)) is not None
            ),
        )
        for code in codes
    ]


def _instructions(lit: CapabilityMap) -> dict[str, Any]:
    known = (isa.REGISTRY.get(code) for code in lit)
    return {
        "instructions": [one.name for one in known if one is not None],
        "lacks": [one.name for one in lacking(lit)],
        "unknown": [f"{code:02X}" for code in strange(lit)],
        "vendor": [{"code": f"{code:02X}", "known": names} for code, names in of_vendors(lit)],
    }


def _any_action(report: Report) -> str:
    fields = report.request.FIELDS.items()
    given = [f"{name} {as_text(field, getattr(report.request, name))}" for name, field in fields]
    what = f"{report.instruction.name} {', '.join(given)}".strip()
    if report.instruction.mode is Mode.SYNC:
        return f"{what}: done on {report.node}"
    if report.task is None:
        return f"{what}: queued on {report.node} as task {report.handle}; --wait tells how it ends"
    return f"{what}: {report.task.name.lower()} on {report.node}"


def _throttle(report: Report) -> str:
    request = cast("Throttle", report.request)
    done = "is suspended" if request.action is ThrottleAction.STOP else "goes on"
    return f"PID {request.pid} {done} on {report.node}"


def _restart(report: Report) -> str:
    name = cast("Restart", report.request).name
    if report.task is None:
        return f"the restart of {name} is queued on {report.node}; --wait tells how it ends"
    return f"{name} is restarted on {report.node}"


def _remove(report: Report) -> str:
    key = cast("AgentKey", report.request).key
    return f"{key.hex()} and all that it had added are shut out of {report.node}"


_SENTENCES: Final[Mapping[str, Callable[[Report], str]]] = {
    isa.PROC_THROTTLE.name: _throttle,
    isa.SVC_RESTART.name: _restart,
    isa.AGENT_REMOVE.name: _remove,
}
