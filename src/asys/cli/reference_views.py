"""The instruction set and frames as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from asys.cli.screen import Screen
from asys.cli.views import listing, pairs
from asys.isa.export import Row
from asys.isa.inspect import FAULT, Part

WIDE: Final = 140
"""Columns from which a description finds room beside the rest of its row."""

_RISKS: Final = {"low": "", "medium": "yellow", "high": "bold red"}


def show_table(screen: Screen, rows: Sequence[Row], vendor: str = "") -> None:
    """All instructions: a row each, and the description in it or below.

    `vendor`: they are that vendor's, whose domain stands before what `asys` is told of them.
    """
    wide = screen.console.width >= WIDE
    heads = ("Code", "Instruction", "Group", "Level", "Mode", "Repeatable", "Risk")
    table = listing(*heads, *(("What it does or tells",) if wide else ()))
    for row in rows:
        cells: list[Text | str] = [
            row.code,
            Text(row.name, "cyan"),
            row.group,
            row.level,
            row.mode,
            row.idempotent,
            Text(row.risk, _RISKS.get(row.risk, "dim")),
        ]
        if wide:
            cells.append(row.description)
        table.add_row(*cells)
    screen.show(table)
    if not wide:
        screen.line("")
        below = pairs()
        for row in rows:
            below.add_row(row.name, row.description)
        screen.show(below)
    screen.line("")
    if not vendor:
        screen.line("Everything about one of them: asys isa NAME")


def show_instruction(screen: Screen, entry: Mapping[str, Any]) -> None:
    """One instruction as the export has it: its guide, its request, its response."""
    guide = entry["guide"]
    screen.show(Text.assemble((entry["name"], "bold"), f"  code {entry['hex']}", ""))
    screen.line("")
    table = pairs()
    table.add_row("What", guide["description"])
    table.add_row("When", guide["when"])
    table.add_row("When not", guide["when_not"])
    table.add_row("Side effects", guide["side_effects"])
    table.add_row("Reversible", guide["reversible"])
    table.add_row("Risk", Text(guide["risk"], _RISKS.get(guide["risk"], "")))
    table.add_row("Group", entry["group"])
    table.add_row("Level", entry["level"])
    table.add_row("Mode", entry["mode"])
    table.add_row("Repeatable", "yes, idempotent" if entry["idempotent"] else "no, not idempotent")
    names = [one["name"] for one in entry["request"]["fields"] if one["type"] != "reserved"]
    options = "".join(f" --{name.replace('_', '-')} {name.upper()}" for name in names)
    domain = entry.get("vendor", "")
    command = f"vendor {domain} {entry['command']}" if domain else entry["command"]
    table.add_row("Command", f"asys {command} HOST{options}")
    on = f"node.vendor(VENDOR).{entry['method']}" if domain else f"node.{entry['method']}"
    table.add_row("SDK", f"{on}({', '.join(f'{name}=...' for name in names)})")
    screen.show(table)
    extra = ", bytes behind are ignored" if entry["ignores_extra_data"] else ""
    _show_layout(screen, "Request", entry["request"], extra)
    _show_layout(screen, "Response", entry["response"], ", and the status word")


def show_parts(screen: Screen, parts: Iterable[Part]) -> None:
    """A frame: a row for each part, with what it says."""
    table = listing(("Offset", "right"), "Bytes", "Field", "Meaning")
    if screen.console.is_terminal:
        table.columns[1].max_width = 24  # eight bytes; longer ones go on below
    for part in parts:
        style = "bold red" if part.name == FAULT else ""
        name = Text(part.name, style or "cyan")
        table.add_row(str(part.offset), part.raw.hex(" "), name, Text(part.meaning, style))
    screen.show(table)


def _show_layout(screen: Screen, title: str, layout: Mapping[str, Any], more: str = "") -> None:
    least, most = layout["size_min"], layout["size_max"]
    if most == 0:
        size = "no payload"
    elif least == most:
        size = f"{least} byte{'' if least == 1 else 's'}"
    else:
        size = f"{least} to {most} bytes"
    screen.line("")
    screen.show(Text.assemble((title, "bold"), f": {size}{more}"))
    if layout["fields"]:
        table = listing(("Offset", "right"), ("Size", "right"), "Field", "Type", "Meaning")
        _add_fields(table.add_row, layout["fields"])
        screen.show(table)


def _add_fields(add_row: Any, fields: Iterable[Mapping[str, Any]], within: str = "") -> None:
    for field in fields:
        offset = str(field["offset"]) if "offset" in field else field["place"].upper()
        kind = field["type"]
        style = "dim" if kind == "reserved" else ""
        name = f"{within}{field['name']}"
        size = str(field["size"]) if "size" in field else _range(field)
        add_row(offset, size, Text(name, style or "cyan"), kind, _meaning(field), style=style)
        if "slot" in field:
            _add_fields(add_row, field["slot"]["fields"], within="  ")


def _range(field: Mapping[str, Any]) -> str:
    if "slot" in field:
        return f"{field['slot']['size_max']} each"
    return f"{field['size_min']}-{field['size_max']}"


def _meaning(field: Mapping[str, Any]) -> str:
    """What a field is, with its unit, its scale, its codes and its bounds."""
    said = [field["doc"]]
    if field.get("unit"):
        said.append(f"in {field['unit']}")
    if field.get("scale", 1) != 1:
        said.append(f"times {field['scale']}")
    values = field.get("values", ())
    if any(one["name"] not in field["doc"] for one in values):
        digits = 2 * field["size"]
        said.append(", ".join(f"{one['value']:0{digits}X} {one['name']}" for one in values))
    if "absent" in field:
        said.append(f"{field['absent']:0{2 * field['size']}X} none")
    if field.get("least"):
        said.append(f"at least {field['least']}")
    if "count" in field:
        said.append(f"{field['count']} slots, offsets within each")
    if "count_max" in field:
        said.append(f"as many as count says, up to {field['count_max']}, offsets within each")
    if field.get("counted"):
        size = field.get("length_size", 1)
        said.append(f"its length, {'a byte' if size == 1 else f'{size} bytes'}, stands in front")
    if field.get("written"):
        said.append(f"written as {field['written']}")
    if field.get("pattern"):
        said.append(f"characters {field['pattern']}")
    if field.get("refuse"):
        said.append(f"not {field['refuse']}")
    return "; ".join(said)
