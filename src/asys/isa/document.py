"""The instruction set as a page of the documentation: docs/instructions.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntFlag

from asys.isa import REGISTRY, AnyInstruction, Level, Mode, sample
from asys.isa.bytemap import Span, parameters, size_range, spans
from asys.protocol.codec import Field, Layout
from asys.protocol.limits import SEQ_SIZE, SW_SIZE
from asys.protocol.status import MEANINGS

_INTRODUCTION = f"""\
# Instructions

Written by `make generate` from the declarations in `asys.isa`; an edit here is lost. What frames,
Seq, tags and task handles are stands in [protocol.md](protocol.md).

All integers are big-endian and unsigned. Offsets count from the first byte of the payload: in a
request that comes after the header and, where the frame is signed, after the {SEQ_SIZE} bytes of
Seq. Every response ends in a status word of {SW_SIZE} bytes, which the sizes below do not count.
What has a scale travels multiplied by it: 12.5 % with a scale of 100 is 1250 on the wire. Reserved
bytes are sent as zero and ignored on receipt.

Each section ends with an example: a call of the SDK, and the request frame that it sends. Frames
that are signed are those of a session with the keys of Appendix A of
[protocol.md](protocol.md#appendix-a-a-worked-session) and Seq 1; payloads of enc-sign are
encrypted in them. `asys inspect` takes any of these frames apart.
"""


def to_markdown() -> str:
    """The text of docs/instructions.md."""
    parts = [_INTRODUCTION, _overview()]
    parts += [f"{_section(one)}\n{_example(one)}" for one in REGISTRY]
    parts.append(_status_words())
    return "\n".join(parts)


def _overview() -> str:
    rows = [
        (
            f"`{one.code:02X}`",
            f"[{one.name}](#{one.method})",
            one.group.title,
            one.level.title,
            one.mode.value,
            one.guide.risk.value,
            one.guide.description,
        )
        for one in REGISTRY
    ]
    heads = ("Code", "Name", "Group", "Level", "Mode", "Risk", "What it does or tells")
    return _table(heads, rows)


def _section(one: AnyInstruction) -> str:
    guide = one.guide
    lines = [
        f"## {one.name}",
        "",
        guide.description,
        "",
        f"- Code `{one.code:02X}`, group {one.group.title}, {_level(one.level)}, "
        f"{_mode(one.mode)}, {'' if one.idempotent else 'not '}idempotent; since {one.since}.",
        f"- Use it: {guide.when}",
        f"- Not: {guide.when_not}",
        f"- Side effects: {guide.side_effects}",
        f"- Reversible: {guide.reversible}",
        f"- Risk: {guide.risk.value}.",
        "",
        f"Request: {_payload_size(one.request)}.{_extra(one)}",
        "",
    ]
    if one.request.FIELDS:
        lines.append(_fields(one.request))
    lines += [f"Response: {_payload_size(one.reply)}.", ""]
    if one.reply.FIELDS:
        lines.append(_fields(one.reply))
    lines += [text for layout in (one.request, one.reply) for text in _details(layout)]
    return "\n".join(lines)


def _example(one: AnyInstruction) -> str:
    call = sample.call(one)
    lines = ["Example:", ""]
    if call:
        lines += ["```python", call, "```", ""]
    return "\n".join([*lines, "```", sample.frame(one).hex(" "), "```", ""])


def _level(level: Level) -> str:
    return "plain" if level is Level.PLAIN else f"at least {level.title}"


def _mode(mode: Mode) -> str:
    if mode is Mode.SYNC:
        return "sync (9000 means done)"
    return "async (9000 means queued; a task handle tells the rest)"


def _payload_size(layout: type[Layout]) -> str:
    least, most = size_range(layout)
    if most == 0:
        return "no payload"
    if least != most:
        return f"{least} to {most} bytes"
    return "1 byte" if least == 1 else f"{least} bytes"


def _extra(one: AnyInstruction) -> str:
    return " Bytes beyond that are ignored." if one.ignores_extra else ""


def _fields(layout: type[Layout]) -> str:
    rows = [
        (place.upper(), "1", f"`{name}`", *_columns(field))
        for place, (name, field) in sorted(parameters(layout).items())
    ]
    for span in spans(layout):
        if span.field is None:
            rows.append((str(span.offset), str(span.size), "reserved", "", "", "", ""))
        else:
            rows.append((str(span.offset), _size(span), f"`{span.name}`", *_columns(span.field)))
    return _table(("Offset", "Size", "Field", "Type", "Unit", "Scale", "Meaning"), rows)


def _size(span: Span) -> str:
    field = span.field
    if field is None or not field.open_ended or field.optional:
        return str(span.size)
    if field.slot is not None:
        return f"{_slot_size(field.slot)} x count"
    return f"{f'{field.counted} + ' if field.counted else ''}{field.least}-{field.most}"


def _slot_size(slot: type[Layout]) -> str:
    least, most = size_range(slot)
    return str(least) if least == most else f"{least}-{most}"


def _columns(field: Field) -> tuple[str, str, str, str]:
    kind = field.kind
    if field.slot is not None:
        most = "up to " if field.kind == "rows" else ""
        kind = f"{most}{field.most} slots of {_slot_size(field.slot)}"
    numeric = field.kind.startswith("u")
    scale = str(field.scale) if numeric and field.scale != 1 else ""
    notes = [field.doc]
    if field.absent is not None:
        notes.append(f"{field.absent:0{2 * field.size}X}: none")
    if numeric and field.enum is None and field.least:
        notes.append(f"at least {field.least}")
    if numeric and field.enum is None and field.most != (1 << 8 * field.size) - 1:
        notes.append(f"at most {field.most}")
    if field.boolean:
        notes = [f"{field.doc}; other bits have no meaning"]
    if field.optional:
        notes.append("may be left out")
    if field.only_with:
        notes.append(f"only with {field.only_with[0]} {field.only_with[1]}")
    if field.counted:
        notes.append(f"its length, u{8 * field.counted}, stands before it")
    if field.pattern:
        notes.append(f"characters `{field.pattern}`")
    if field.refuse:
        notes.append(f"refused: `{field.refuse}`")
    return kind, field.unit, scale, "; ".join(notes)


def _details(layout: type[Layout]) -> Iterable[str]:
    """Tables of the slots and of the codes that a layout's fields have."""
    for name, field in layout.FIELDS.items():
        if field.slot is not None:
            empty = "" if field.kind == "rows" else "; a slot whose first field is 0 is empty"
            yield f"Each slot of `{name}`{empty}:\n"
            yield _fields(field.slot)
            yield from _details(field.slot)
        if field.enum is not None:
            what = "Bits" if issubclass(field.enum, IntFlag) else "Values"
            digits = 2 * field.size
            values = ", ".join(
                f"`{int(value):0{digits}X}` {member.lower()}"
                for member, value in field.enum.__members__.items()
            )
            unknown = ""
            if field.unknown is not None:
                unknown = f"; any other is read as {field.unknown.name.lower()}"
            yield f"{what} of `{name}`: {values}{unknown}.\n"


def _status_words() -> str:
    rows = [(f"`{sw:04X}`", meaning.meaning, meaning.advice) for sw, meaning in MEANINGS.items()]
    return "\n".join(("## Status words", "", _table(("SW", "Meaning", "What to do"), rows)))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_cell, cells))} |\n" for cells in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
