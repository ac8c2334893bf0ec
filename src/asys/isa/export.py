"""The instruction set for other programs: as data, JSON, TOML, and rows of a table.

    python -m asys.isa.export [markdown|json|toml]

The data has no null: a key that does not apply is left out. Numbers named `least`, `most`, `absent`
and the values of enums are as on the wire; `scale` is what a value is multiplied by to get there.
The length of a text that is `counted` stands at its offset, the text behind it; it is a u8, or has
as many bytes as `length_size` says. What is `boolean` is bit 0 of its byte. What is `optional` ends
the payload or is left out, and is there only when the field in `only_with` has that value.
`written` says what a person may write for bytes that are more than bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import Any, Final, NamedTuple

from asys.isa import REGISTRY, AnyInstruction, Group, Level
from asys.isa.bytemap import parameters, size_range, spans
from asys.isa.document import to_markdown
from asys.protocol import apdu, limits
from asys.protocol.codec import Field, Layout
from asys.protocol.noise import PROTOCOL_NAME
from asys.protocol.signing import ENCRYPTION_CONTEXT, EPOCH_CONTEXT, MAX_SEQ
from asys.protocol.status import MEANINGS, SW

FORMAT: Final = 1
"""Version of the export's own shape; raised when a key changes its meaning or goes away."""


class Row(NamedTuple):
    """One line of the table of instructions, every cell a text."""

    code: str
    name: str
    group: str
    level: str
    mode: str
    idempotent: str
    risk: str
    description: str


def table_rows() -> list[Row]:
    """The instructions in order of code; the headings are `Row._fields`."""
    return [row(one) for one in REGISTRY]


def row(one: AnyInstruction) -> Row:
    """An instruction as a line of the table."""
    return Row(
        f"{one.code:02X}",
        one.name,
        one.group.title,
        one.level.title,
        one.mode.value,
        "yes" if one.idempotent else "no",
        one.guide.risk.value,
        one.guide.description,
    )


def as_dict() -> dict[str, Any]:
    """The whole instruction set and what a peer must know of the protocol, as plain data."""
    return {
        "format": FORMAT,
        "protocol": _protocol(),
        "levels": [{"value": level.value, "name": level.title} for level in Level],
        "groups": [
            {
                "name": group.title,
                "first": group.value << 4,
                "last": group.value << 4 | 0xF,
            }
            for group in Group
        ],
        "status_words": [
            {
                "code": int(sw),
                "hex": f"{sw:04X}",
                "name": SW(sw).name,
                "meaning": meaning.meaning,
                "advice": meaning.advice,
            }
            for sw, meaning in MEANINGS.items()
        ],
        "instructions": [entry(one) for one in REGISTRY],
    }


def to_json() -> str:
    """`as_dict` as JSON, indented, with a newline at its end."""
    return dump_json(as_dict())


def dump_json(data: Mapping[str, Any]) -> str:
    """Plain data as JSON, indented, with a newline at its end."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def to_toml() -> str:
    """`as_dict` as TOML; reading it back gives the same data."""
    return dump_toml(as_dict())


def _protocol() -> dict[str, Any]:
    return {
        "name": "ASys",
        "version": f"{limits.VERSION >> 8}.{limits.VERSION & 0xFF}",
        "version_on_wire": limits.VERSION,
        "noise": PROTOCOL_NAME.decode("ascii"),
        "epoch_context": EPOCH_CONTEXT.decode("ascii"),
        "encryption_context": ENCRYPTION_CONTEXT.decode("ascii"),
        "magic": limits.MAGIC.hex(),
        "default_port": limits.DEFAULT_PORT,
        "byte_order": "big",
        "limits": {
            "key_size": limits.KEY_SIZE,
            "pre_handshake_size": limits.PRE_HANDSHAKE_SIZE,
            "message_1_size": limits.MESSAGE_1_SIZE,
            "message_2_size": limits.MESSAGE_2_SIZE,
            "record_prefix_size": limits.RECORD_PREFIX_SIZE,
            "aead_tag_size": limits.AEAD_TAG_SIZE,
            "max_record": limits.MAX_RECORD,
            "standard_header_size": apdu.STANDARD_HEADER,
            "extended_header_size": apdu.EXTENDED_HEADER,
            "max_standard_data": apdu.MAX_STANDARD_DATA,
            "max_data": limits.MAX_DATA,
            "max_frame": limits.MAX_FRAME,
            "max_chain": limits.MAX_CHAIN,
            "max_fragment": limits.MAX_FRAGMENT,
            "seq_size": limits.SEQ_SIZE,
            "max_seq": MAX_SEQ,
            "auth_tag_size": limits.AUTH_TAG_SIZE,
            "status_word_size": limits.SW_SIZE,
        },
        "cla": {
            "version_mask": apdu.CLA_VERSION,
            "more_fragments": apdu.CLA_MORE,
            "sec_mask": apdu.CLA_SEC,
            "sec_plain": apdu.SEC_PLAIN,
            "sec_signed": apdu.SEC_SIGNED,
            "sec_enc_sign": apdu.SEC_ENC_SIGN,
            "extended": apdu.CLA_EXTENDED,
            "reserved_mask": apdu.CLA_RESERVED,
        },
    }


def entry(one: AnyInstruction) -> dict[str, Any]:
    """An instruction as plain data."""
    guide = one.guide
    return {
        "code": one.code,
        "hex": f"{one.code:02X}",
        "name": one.name,
        "since": one.since,
        "method": one.method,
        "command": one.command,
        "group": one.group.title,
        "level": one.level.title,
        "mode": one.mode.value,
        "idempotent": one.idempotent,
        "ignores_extra_data": one.ignores_extra,
        "chainable": one.chainable,
        "carrier": one.carrier,
        "guide": {
            "description": guide.description,
            "when": guide.when,
            "when_not": guide.when_not,
            "side_effects": guide.side_effects,
            "reversible": guide.reversible,
            "risk": guide.risk.value,
        },
        "request": _layout(one.request),
        "response": _layout(one.reply),
    }


def _layout(layout: type[Layout]) -> dict[str, Any]:
    """Sizes are those of the payload: without header, Seq, tag and status word."""
    least, most = size_range(layout)
    fields = [
        {"name": name, "place": place, **_field(field)}
        for place, (name, field) in sorted(parameters(layout).items())
    ]
    for span in spans(layout):
        where = {"name": span.name, "place": "payload", "offset": span.offset}
        if span.field is None:
            zero = {"type": "reserved", "size": span.size, "doc": "sent as zero, ignored"}
            fields.append(where | zero)
        else:
            fields.append(where | _field(span.field))
    return {"size_min": least, "size_max": most, "fields": fields}


def _field(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"type": field.kind, "doc": field.doc}
    if field.kind == "text":
        found |= {"size_min": field.least, "size_max": field.most}
        if field.convert is None:
            found["pattern"] = field.pattern
        if field.refuse:
            found["refuse"] = field.refuse
        found["counted"] = bool(field.counted)
        if field.counted > 1:
            found["length_size"] = field.counted
        return found | ({"written": field.convert.written} if field.convert else {})
    if field.kind == "rows" and field.slot is not None:
        return found | {"count_max": field.most, "slot": _layout(field.slot)}
    found["size"] = field.size
    if field.slot is not None:
        return found | {"count": field.most, "slot": _layout(field.slot)}
    if field.kind == "bytes" and field.open_ended:
        del found["size"]
        return found | {"size_min": field.least, "size_max": field.most}
    if field.kind == "bytes":
        return found | ({"written": field.convert.written} if field.convert else {})
    found |= {"least": field.least, "most": field.most, "scale": field.scale}
    if field.unit:
        found["unit"] = field.unit
    if field.absent is not None:
        found["absent"] = field.absent
    if field.boolean:
        found["boolean"] = True
    if field.optional:
        found["optional"] = True
    if field.only_with:
        found["only_with"] = {field.only_with[0]: int(field.only_with[1])}
    if field.enum is not None:
        found["enum"] = field.enum.__name__
        found["flags"] = issubclass(field.enum, IntFlag)
        found["values"] = [
            {"name": name.lower(), "value": int(value)}
            for name, value in field.enum.__members__.items()
        ]
    if field.unknown is not None:
        found["unknown"] = int(field.unknown)
    return found


_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(data: Mapping[str, Any]) -> str:
    """TOML of nested mappings, sequences, texts, numbers and truth values.

    Sequences hold either only mappings or none. TypeError for anything else.
    """
    lines: list[str] = []
    _dump_table(data, (), lines)
    return "\n".join(lines) + "\n" if lines else ""


def _dump_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    deeper: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) or _holds_tables(value):
            deeper.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in deeper:
        name = ".".join(_key(part) for part in (*path, key))
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]"]
            _dump_table(value, (*path, key), lines)
            continue
        for one in value:
            lines += ["", f"[[{name}]]"]
            _dump_table(one, (*path, key), lines)


def _holds_tables(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return f"[{', '.join(_value(entry) for entry in value)}]"
    raise TypeError(f"TOML has nothing for {type(value).__name__}")


_FORMS: Final = {"markdown": to_markdown, "json": to_json, "toml": to_toml}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the instruction set to standard output: the page of the documentation, or as data."""
    parser = argparse.ArgumentParser(
        prog="python -m asys.isa.export", description="Write the instruction set in some form."
    )
    parser.add_argument("form", choices=sorted(_FORMS), nargs="?", default="markdown")
    form = parser.parse_args(arguments).form
    sys.stdout.write(_FORMS[form]())


if __name__ == "__main__":
    main()
