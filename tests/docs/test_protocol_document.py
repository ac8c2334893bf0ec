"""docs/protocol.md against the code: fields, codes, status words, limits and deadlines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum, IntFlag

import pytest

from asys.isa import REGISTRY, SVC_RESTART, AnyInstruction, Empty, Group, Process
from asys.node import sampler, session
from asys.node.server import Limits
from asys.node.tasks import NODE_TASKS, SESSION_TASKS, TASK_LIFETIME, TASK_TIMEOUT
from asys.protocol import apdu, limits
from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.codec import Field, Layout
from asys.protocol.status import SW
from support.protocol_document import DOCUMENT, Row, Table, section, table_below, tables

SECTIONS = [
    "1 Connection",
    "2 Frames",
    "3 Signed instructions",
    "4 Instruction space",
    "5 Status words and the order of checks",
    "6 Core ISA",
    "7 Protocol Control and Standard ISA",
    "8 Identity files",
    "9 Evolution rules",
    "10 Differences of deployed nodes",
    "11 Reserved for later",
    "Appendix A: a worked session",
]


def field_type(field: Field) -> str:
    if field.slot is not None:
        return f"{field.most} x {field.slot.SIZE}"
    return field.kind


def field_rows(layout: type[Layout]) -> Iterator[tuple[Row, Field | None]]:
    """Offset, size, name and type of each field, as the tables have them."""
    offset = 0
    for name, field in layout.FIELDS.items():
        if field.place != "payload":
            continue
        size = f"{field.least}-{field.most}" if field.kind == "text" else str(field.size)
        yield (str(offset), size, name, field_type(field)), field
        offset += field.size
        if field.reserved:
            yield (str(offset), str(field.reserved), "reserved", "bytes"), None
            offset += field.reserved
    for name, field in layout.FIELDS.items():
        if field.place != "payload":
            yield (field.place.upper(), "1", name, field_type(field)), field


def assert_fields(table: Table, layout: type[Layout], *, response: bool) -> None:
    expected = list(field_rows(layout))
    if response:
        expected.append(((str(layout.SIZE), str(limits.SW_SIZE), "SW", "u16"), None))
    assert [row[:4] for row in table] == [row for row, _ in expected]
    for row, (_, field) in zip(table, expected, strict=True):
        if field is None:
            continue
        meaning = row[4]
        assert field.unit in meaning, f"{row[2]}: unit {field.unit}"
        assert field.scale == 1 or f"x {field.scale}" in meaning, f"{row[2]}: scale {field.scale}"
        assert field.absent is None or f"{field.absent:02X}: " in meaning, f"{row[2]}: absent"


def instruction_section(instruction: AnyInstruction) -> str:
    rank = "6" if instruction.group is Group.CORE else "7"
    found = re.findall(
        rf"^### ({rank}\.\d+ {instruction.name} \({instruction.code:02X}\))$",
        DOCUMENT,
        re.MULTILINE,
    )
    assert len(found) == 1, f"no heading of its own for {instruction!r}"
    return section(found[0])


def enums() -> Iterator[tuple[str, str, type[IntEnum] | type[IntFlag]]]:
    """Instruction, field and enum of every field that has codes."""
    for instruction in REGISTRY:
        for layout in (instruction.request, instruction.reply):
            for name, field in layout.FIELDS.items():
                nested = field.slot.FIELDS if field.slot is not None else {name: field}
                for inner, one in nested.items():
                    if one.enum is not None:
                        yield instruction.name, inner, one.enum


each_instruction = pytest.mark.parametrize(
    "instruction", list(REGISTRY), ids=lambda instruction: instruction.name
)


def test_sections_have_their_numbers() -> None:
    assert re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE) == SECTIONS


def test_contents_lead_to_every_section() -> None:
    def anchor(heading: str) -> str:
        return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")

    assert re.findall(r"\]\(#([^)]+)\)", DOCUMENT) == [anchor(heading) for heading in SECTIONS]


def test_references_name_sections_that_exist() -> None:
    headings = set(re.findall(r"^##+ (\d+(?:\.\d+)?) ", DOCUMENT, re.MULTILINE))
    named = set()
    for words in re.findall(r"\(?sections? ([\d., and]+)", DOCUMENT):
        named.update(re.findall(r"\d+(?:\.\d+)?", words))
    assert named
    assert named <= headings


@each_instruction
def test_request_is_as_declared(instruction: AnyInstruction) -> None:
    text = instruction_section(instruction)
    if instruction.request is Empty:
        assert "Request: no payload." in text
        return
    size = str(instruction.request.SIZE)
    texts = [field for field in instruction.request.FIELDS.values() if field.kind == "text"]
    if texts:
        size = f"{texts[0].least} to {texts[0].most}"
    assert f"Request, {size} bytes" in text
    assert_fields(table_below(text, "Request, "), instruction.request, response=False)
    assert ("ignored:" in text) is instruction.ignores_extra


@each_instruction
def test_response_is_as_declared(instruction: AnyInstruction) -> None:
    text = instruction_section(instruction)
    assert f"Response, {instruction.reply.SIZE + limits.SW_SIZE} bytes:" in text
    assert_fields(table_below(text, "Response, "), instruction.reply, response=True)


def test_slot_of_sys_procs_is_as_declared() -> None:
    text = section("6.4 SYS_PROCS")
    assert f"A slot of `top`, {Process.SIZE} bytes:" in text
    assert_fields(table_below(text, "A slot of `top`"), Process, response=False)


@pytest.mark.parametrize(("instruction", "field", "enum"), list(enums()))
def test_codes_are_as_declared(
    instruction: str, field: str, enum: type[IntEnum] | type[IntFlag]
) -> None:
    named = REGISTRY.named(instruction)
    assert named is not None
    rows = table_below(instruction_section(named), f"Codes of `{field}`:")
    assert [(int(code, 16), name) for code, name, _ in rows] == [
        (int(member), member.name) for member in enum
    ]


def test_instructions_are_as_declared() -> None:
    rows = table_below(section("4 Instruction space"), "Instructions of this version:")
    assert rows == [
        (
            f"{one.code:02X}",
            one.name,
            one.level.name.lower(),
            str(one.mode),
            "yes" if one.idempotent else "no",
            str(one.guide.risk),
        )
        for one in REGISTRY
    ]


def test_groups_are_as_declared() -> None:
    rows = tables(section("4 Instruction space"))[0][1:]
    titles: dict[int, str] = {}
    for codes, _, title, _ in rows:
        first, last = (int(code, 16) >> 4 for code in codes.split("-"))
        titles.update((nibble, title.strip("`")) for nibble in range(first, last + 1))
    without_name = {Group.CONTROL}
    assert titles == {
        nibble: Group(nibble).title if nibble in set(Group) - without_name else "-"
        for nibble in range(16)
    }


def test_every_status_word_is_there() -> None:
    rows = tables(section("5.1 Status words"))[0][1:]
    assert [(sw, name) for sw, name, _, _ in rows] == [(str(sw), sw.name) for sw in SW]


def test_no_other_status_word_is_named() -> None:
    named = set(re.findall(r"`(9[01]\d\d|6[0-9A-F]{3})`", DOCUMENT))
    assert named <= {str(sw) for sw in SW}


def test_limits_are_the_codes() -> None:
    rows = {limit: value for limit, value in tables(section("1.6 Limits"))[0][1:]}
    name = SVC_RESTART.request.FIELDS["name"]
    assert rows == {
        "ciphertext of a record": f"{limits.AEAD_TAG_SIZE} to {limits.MAX_RECORD:,} bytes",
        "message": f"at most {MAX_MESSAGE:,} bytes",
        "data of a frame (Lc)": f"at most {limits.MAX_DATA:,} bytes",
        "frame": f"at most {limits.MAX_FRAME:,} bytes",
        "data of a standard frame": f"at most {apdu.MAX_STANDARD_DATA} bytes",
        "service name": f"{name.least} to {name.most} bytes",
    }


def test_deadlines_and_bounds_are_the_nodes() -> None:
    text = section("1.6 Limits and deadlines")
    deadlines = [row[-1] for row in table_below(text, "| Deadline |")]
    assert deadlines == [
        f"{seconds:g} s"
        for seconds in (
            session.MAGIC_SECONDS,
            session.HANDSHAKE_SECONDS,
            session.FRAME_SECONDS,
            session.IDLE_SECONDS,
        )
    ]
    bounds = Limits()
    assert {name: value for name, value, _ in table_below(text, "| Bound of the node |")} == {
        "sessions": f"{bounds.sessions:,} (an option)",
        "connections before the end of their handshake": str(bounds.handshakes),
        "sessions of one agent key": str(bounds.sessions_per_key),
        "requests in flight of one session": str(session.TURN),
        "task handles of one session": str(SESSION_TASKS),
        "task handles of the node": str(NODE_TASKS),
    }
    assert f"the latest {session.SHOWN_PIDS:,} PIDs" in section("7.2 PROC_THROTTLE")
    assert f"({session.LINGER_SECONDS:g} s at most)" in section("1.5 The end of a connection")
    assert f"still pending at {TASK_TIMEOUT:g} s" in section("7.4 Task handles")
    assert f"or {TASK_LIFETIME:g} s after creation" in section("7.4 Task handles")


def test_readings_are_as_fresh_as_the_sampler_makes_them() -> None:
    text = " ".join(section("6.5 How fresh a reading is").split())
    assert f"first reading about {sampler.SETTLE:g} s later" in text
    assert f"at most {sampler.MAX_AGE:g} s old" in text
    assert f"asleep {sampler.IDLE:g} s after" in text
    assert sampler.VITALS_INTERVAL <= 1 / 4
    assert "the vitals at least 4 times a second" in text
    assert sampler.TABLE_LEAST_INTERVAL == 1 / 4
    assert "the process table 4 times a second" in text
    assert f"at least every {sampler.TABLE_MOST_INTERVAL:g} s" in text
