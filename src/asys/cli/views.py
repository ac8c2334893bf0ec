"""Readings as tables. Only this and `reference_views` import rich."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from rich.table import Table
from rich.text import Text

from asys import isa
from asys.cli.report import Report, granted, lacking, of_vendors, strange
from asys.cli.screen import Screen
from asys.cli.values import as_text
from asys.isa import (
    Agents,
    Architecture,
    Capabilities,
    EntryFlags,
    FileSystem,
    Hello,
    LogDetail,
    LogSource,
    LogSummary,
    PressureSource,
    ProcessTree,
    Severity,
    Status,
    SummaryFlags,
)
from asys.isa import Processes as ProcessList
from asys.isa.security import PAGE_SIZE
from asys.protocol.codec import Field, Layout

BUSY_PERCENT: Final = 70
"""From here a share is drawn as a warning."""

FULL_PERCENT: Final = 90
"""From here a share is drawn as an alarm."""


KEY_DIGITS: Final = 32
"""Hex digits of a key on one line of a terminal."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def show_reading(screen: Screen, report: Report) -> None:
    """Draws an answer: as its instruction deserves, or field by field."""
    head = Text.assemble((report.node, "bold"), "  ", report.instruction.name)
    screen.show(head.append(f" {report.answered}", "dim"))
    _VIEWS.get(report.instruction.name, _any_reading)(screen, report)


def listing(*headings: str | tuple[str, str]) -> Table:
    """A table without lines; a heading may come with its justification."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        if isinstance(heading, tuple):
            table.add_column(heading[0], justify="right" if heading[1] == "right" else "left")
        else:
            table.add_column(heading)
    return table


def pairs() -> Table:
    """A table of names and what they are."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    return table


def _status(screen: Screen, report: Report) -> None:
    status, caps = cast("Status", report.reply), report.caps
    table = pairs()
    load = f"{status.load1:.1f} over 1 minute, {status.load5:.1f} over 5 minutes"
    cpus = f" of {_count(caps.cpu_count, 'CPU')}" if caps else ""
    table.add_row("CPU", _share(status.cpu_percent, f" in use{cpus}"))
    table.add_row("Load", load)
    table.add_row("Memory", _memory(status.available_mb, caps.ram_mb if caps else 0))
    size = f" of {_size(caps.root_size_mb)}" if caps else ""
    table.add_row("Disk /", _share(status.root_used_percent, f" in use{size}"))
    table.add_row("I/O wait", f"{status.io_wait_ms} ms in the last sampling interval")
    table.add_row("Network", f"{status.inbound_mbps} Mbit/s in, {status.outbound_mbps} Mbit/s out")
    source = f", from {_SOURCES[caps.rpi_source]}" if caps else ""
    if status.rpi_percent is None:
        table.add_row("Pressure", "not measured")
    else:
        table.add_row("Pressure", _share(status.rpi_percent, source))
    if status.node_flags:
        table.add_row("Flags", Text(as_text(status.FIELDS["node_flags"], status.node_flags), "red"))
    screen.show(table)


def _procs(screen: Screen, report: Report) -> None:
    reply = cast("ProcessList", report.reply)
    table = listing(("PID", "right"), ("CPU", "right"), ("Memory", "right"), "Flags")
    for one in reply.top:
        table.add_row(
            str(one.pid),
            Text(f"{one.cpu_percent:.2f} %", _alarm(one.cpu_percent)),
            f"{one.memory_percent} %",
            as_text(one.FIELDS["flags"], one.flags) if one.flags else "",
        )
    screen.show(table)
    screen.line(f"{reply.count} processes; these use most CPU (100 % = one core)")


def _caps(screen: Screen, report: Report) -> None:
    caps = cast("Capabilities", report.reply)
    table = pairs()
    table.add_row(
        "Machine", f"{_ARCHITECTURES[caps.architecture]}, {_count(caps.cpu_count, 'CPU')}"
    )
    swap = f"{_size(caps.swap_mb)} of swap" if caps.swap_mb else "no swap"
    table.add_row("Memory", f"{_size(caps.ram_mb)}, {swap}")
    table.add_row("Disk /", f"{_size(caps.root_size_mb)}, {_FILE_SYSTEMS[caps.root_file_system]}")
    table.add_row("Kernel", f"{caps.kernel_major}.{caps.kernel_minor}.{caps.kernel_patch}")
    table.add_row("Pressure", _SOURCES[caps.rpi_source])
    version = caps.protocol_version
    table.add_row("Protocol", f"{version >> 8}.{version & 0xFF}")
    screen.show(table)
    screen.line("")
    lit = granted(report, caps)
    lacks = lacking(lit)
    offers = listing("Code", "Instruction", "Here", "What it does or tells")
    for one in isa.REGISTRY:
        if one in lacks:
            offers.add_row(f"{one.code:02X}", one.name, "no", one.guide.description, style="dim")
        else:
            here = Text("yes", "green")
            offers.add_row(f"{one.code:02X}", one.name, here, one.guide.description)
    for code in strange(lit):
        offers.add_row(f"{code:02X}", "?", Text("yes", "green"), "not known to this version")
    for code, names in of_vendors(lit):
        said = names or "of a vendor whose package is not installed here"
        offers.add_row(f"{code:02X}", "vendor", Text("yes", "green"), said)
    screen.show(offers)


def _hello(screen: Screen, report: Report) -> None:
    hello = cast("Hello", report.reply)
    moment = _EPOCH + timedelta(microseconds=hello.time_ns // 1000)
    table = pairs()
    table.add_row("Node UID", f"{hello.node_uid:08x}" if hello.node_uid else "none")
    table.add_row("Clock", f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC")
    screen.show(table)


def _agents(screen: Screen, report: Report) -> None:
    reply = cast("Agents", report.reply)
    table = listing("Label", "Key", "May use", "Expires", "Flags", "Added by")
    if screen.console.is_terminal:
        key = table.columns[1]
        key.min_width = key.max_width = KEY_DIGITS  # the other half goes on below
        for column in table.columns:
            column.overflow = "fold"  # nothing is cut off
    names = {_key_hash(one.key): one.label for one in reply.agents if one.label}
    names[_key_hash(report.agent)] = "this agent"
    for one in reply.agents:
        table.add_row(
            one.label,
            one.key.hex(),
            as_text(one.FIELDS["caps"], one.caps),
            _moment(one.expires) if one.expires else "never",
            as_text(one.FIELDS["flags"], one.flags) if one.flags else "",
            names.get(one.parent_hash, one.parent_hash.hex()) if any(one.parent_hash) else "admin",
        )
    screen.show(table)
    if len(reply.agents) == reply.total:
        screen.line(_count(reply.total, "agent"))
    else:
        pages = -(-reply.total // PAGE_SIZE)
        screen.line(f"page {reply.page} of 0 to {max(pages - 1, 0)}, {reply.total} agents in all")


def _log_summary(screen: Screen, report: Report) -> None:
    reply = cast("LogSummary", report.reply)
    table = listing("Priority", "Unit", ("Times", "right"), "Last", ("PID", "right"), "Event")
    for one in reply.events:
        table.add_row(
            Text(one.priority.name.lower(), _severity(one.priority)),
            one.unit.shown,
            str(one.repeats),
            _moment(one.time_ns // 10**9),
            str(one.pid) if one.pid else "",
            f"{one.event_id:#018x}",
        )
    screen.show(table)
    source = {LogSource.JOURNAL: "the journal", LogSource.KERNEL: "the kernel's log"}
    said = f"{_entries(reply.matched)} of {source.get(reply.source, 'the logs')} match"
    if reply.flags & SummaryFlags.STOPPED_EARLY:
        said += "; older ones were not read"
    screen.line(said)


def _log_detail(screen: Screen, report: Report) -> None:
    reply = cast("LogDetail", report.reply)
    table = listing("", "Time", "Priority", ("PID", "right"), "Message")
    table.columns[-1].overflow = "fold"
    for index, one in enumerate(reply.entries):
        more = "..." if one.flags & EntryFlags.TRUNCATED else ""
        table.add_row(
            ">" if index == reply.index else "",
            _moment(one.time_ns // 10**9),
            Text(one.priority.name.lower(), _severity(one.priority)),
            str(one.pid) if one.pid else "",
            one.message.shown + more,
        )
    screen.show(table)
    screen.line("anyone on the node may have written these messages")


def _proc_tree(screen: Screen, report: Report) -> None:
    reply = cast("ProcessTree", report.reply)
    table = listing(
        *(("PID", "right"), "Name", ("UID", "right"), ("CPU", "right"), ("Memory", "right")),
        *(("Threads", "right"), "State", "Flags"),
    )
    for index, one in enumerate(reply.processes):
        table.add_row(
            str(one.pid),
            Text("  " * one.depth + one.name.shown, "bold" if index == reply.index else ""),
            str(one.uid),
            Text(f"{one.cpu_percent:.2f} %", _alarm(one.cpu_percent)),
            f"{one.memory_percent} %",
            str(one.threads),
            one.state,
            as_text(one.FIELDS["flags"], one.flags) if one.flags else "",
        )
    screen.show(table)
    screen.line(f"{reply.count} of {reply.total} processes (100 % = one core)")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _severity(severity: Severity) -> str:
    if severity <= Severity.CRIT:
        return "bold red"
    return {Severity.ERR: "red", Severity.WARNING: "yellow"}.get(severity, "")


def _any_reading(screen: Screen, report: Report) -> None:
    """Any reply, field by field; slots as a table each."""
    table = pairs()
    lists: list[tuple[str, Field, tuple[Layout, ...]]] = []
    for name, field in report.reply.FIELDS.items():
        value = getattr(report.reply, name)
        if field.slot is not None:
            lists.append((name, field, value))
        else:
            table.add_row(name, Text(as_text(field, value)).append(f"  {field.doc}", "dim"))
    screen.show(table)
    for name, field, slots in lists:
        fields = field.slot.FIELDS if field.slot is not None else {}
        screen.show(Text.assemble((name, "cyan"), "  ", (field.doc, "dim")))
        inner = listing(*fields)
        for slot in slots:
            inner.add_row(*(as_text(one, getattr(slot, key)) for key, one in fields.items()))
        screen.show(inner)


def _key_hash(key: bytes) -> bytes:
    """What AGENT_LIST calls the agent that added another."""
    return hashlib.blake2b(key).digest()[:4]


def _moment(seconds: int) -> str:
    """A moment in Unix seconds as people read it."""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"


def _memory(available: int, total: int) -> Text:
    if total <= 0:
        return Text(f"{_size(available)} available")
    used = 100 - min(100 * available // total, 100)
    return Text(f"{_size(available)} of {_size(total)} available", _alarm(used))


def _share(percent: int, what: str) -> Text:
    return Text.assemble((f"{percent} %", _alarm(percent)), what)


def _alarm(percent: float) -> str:
    if percent >= FULL_PERCENT:
        return "bold red"
    return "yellow" if percent >= BUSY_PERCENT else ""


def _size(mb: int) -> str:
    """A size as people read it; MB is 2^20 bytes."""
    return f"{mb} MB" if mb < 10 * 1024 else f"{mb / 1024:.1f} GB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_ARCHITECTURES: Final = {
    Architecture.X86_64: "x86_64",
    Architecture.AARCH64: "aarch64",
    Architecture.RISCV64: "riscv64",
    Architecture.UNKNOWN: "unknown architecture",
}

_FILE_SYSTEMS: Final = {one: one.name.lower() for one in FileSystem} | {
    FileSystem.EXT: "ext2/3/4",
    FileSystem.UNKNOWN: "unknown file system",
}

_SOURCES: Final = {
    PressureSource.KERNEL_PSI: "the kernel (PSI)",
    PressureSource.SIMULATED: "the load, simulated",
    PressureSource.NONE: "nowhere: not measured",
}

_VIEWS: Final[Mapping[str, Callable[[Screen, Report], None]]] = {
    isa.SYS_STATUS.name: _status,
    isa.SYS_PROCS.name: _procs,
    isa.SYS_CAPS.name: _caps,
    isa.SYS_HELLO.name: _hello,
    isa.AGENT_LIST.name: _agents,
    isa.LOG_SUMMARY.name: _log_summary,
    isa.LOG_DETAIL.name: _log_detail,
    isa.PROC_TREE.name: _proc_tree,
}
