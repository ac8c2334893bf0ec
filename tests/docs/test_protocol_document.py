"""docs/protocol.md against the code: fields, codes, status words, limits and deadlines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum, IntFlag

import pytest

from asys.isa import (
    AGENT_ADD,
    AGENT_LIST,
    CONTINUE,
    LOG_DETAIL,
    LOG_SUMMARY,
    PROC_TREE,
    REGISTRY,
    SVC_RESTART,
    SYS_PROCS,
    AnyInstruction,
    ChainHandle,
    Empty,
    Group,
    Level,
    NodeFlags,
    diagnostics,
)
from asys.isa.bytemap import size_range
from asys.isa.security import PAGE_SIZE
from asys.node import connection, dispatch, door, recorder, sampler, session, trees
from asys.node.agents import directory
from asys.node.audit import log
from asys.node.chains import CHAIN_SECONDS, NODE_BYTES
from asys.node.held.isolations import MAX_ISOLATIONS
from asys.node.platform.logs import logbook
from asys.node.platform.logs import reader as log_reader
from asys.node.server import Limits
from asys.node.shown import SHOWN_PIDS
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
    "Appendix B: Enc+Sign and REKEY worked out",
]


def field_type(field: Field) -> str:
    if field.slot is not None:
        up_to = "up to " if field.kind == "rows" else ""
        return f"{up_to}{field.most} x {slot_size(field.slot)}"
    return field.kind


def field_size(field: Field) -> str:
    """The size of a field; what takes the rest of a payload has a least and a most."""
    if field.kind == "rows" and field.slot is not None:
        return f"{slot_size(field.slot)} x count"
    if field.kind == "bytes" and field.open_ended:
        return f"{field.least}-{field.most}"
    if field.kind == "text":
        return f"{f'{field.counted} + ' if field.counted else ''}{field.least}-{field.most}"
    return str(field.size)


def slot_size(slot: type[Layout]) -> str:
    """The bytes of a slot, or the fewest and the most."""
    least, most = size_range(slot)
    return str(least) if least == most else f"{least}-{most}"


def field_rows(layout: type[Layout]) -> Iterator[tuple[Row, Field | None]]:
    """Offset, size, name and type of each field, as the tables have them."""
    offset = 0
    for name, field in layout.FIELDS.items():
        if field.place != "payload":
            continue
        yield (str(offset), field_size(field), name, field_type(field)), field
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
        offset = str(layout.SIZE)
        slot = rows_of(layout)
        if slot is not None:
            offset += f" + {slot_size(slot)} x count"
        expected.append(((offset, str(limits.SW_SIZE), "SW", "u16"), None))
    assert [row[:4] for row in table] == [row for row, _ in expected]
    for row, (_, field) in zip(table, expected, strict=True):
        if field is None:
            continue
        meaning = row[4]
        assert field.unit in meaning, f"{row[2]}: unit {field.unit}"
        assert field.scale == 1 or f"x {field.scale}" in meaning, f"{row[2]}: scale {field.scale}"
        assert field.absent is None or f"{field.absent:02X}: " in meaning, f"{row[2]}: absent"
        if field.kind == "text" and field.counted:
            assert f"length u{8 * field.counted}" in meaning, row[2]
            assert field.pattern.rstrip("*") in meaning, row[2]


def rows_of(layout: type[Layout]) -> type[Layout] | None:
    """The layout of what ends a layout as often as its field `count` says."""
    for field in layout.FIELDS.values():
        if field.kind == "rows":
            return field.slot
    return None


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
    least, most = size_range(instruction.request)
    size = str(least) if least == most else f"{least} to {most}"
    assert f"Request, {size} bytes" in text
    assert_fields(table_below(text, "Request, "), instruction.request, response=False)
    assert ("ignored:" in text) is instruction.ignores_extra


@each_instruction
def test_length_with_seq_is_given_right(instruction: AnyInstruction) -> None:
    if instruction.level is Level.PLAIN:
        return
    around = limits.SEQ_SIZE + (limits.AEAD_TAG_SIZE if instruction.level is Level.ENC_SIGN else 0)
    least, most = (size + around for size in size_range(instruction.request))
    size = str(least) if least == most else f"{least} to {most}"
    tag = " and tag" if instruction.level is Level.ENC_SIGN else ""
    assert f"(Lc = {size} with Seq{tag})" in instruction_section(instruction)


@each_instruction
def test_response_is_as_declared(instruction: AnyInstruction) -> None:
    text = instruction_section(instruction)
    slot = rows_of(instruction.reply)
    each = rf" and {slot_size(slot)} for each \w+" if slot is not None else ""
    assert re.search(f"Response, {instruction.reply.SIZE + limits.SW_SIZE} bytes{each}:", text)
    assert_fields(table_below(text, "Response, "), instruction.reply, response=True)


@pytest.mark.parametrize(
    ("instruction", "field"),
    [
        (SYS_PROCS, "top"),
        (AGENT_LIST, "agents"),
        (LOG_SUMMARY, "events"),
        (LOG_DETAIL, "entries"),
        (PROC_TREE, "processes"),
    ],
)
def test_slots_are_as_declared(instruction: AnyInstruction, field: str) -> None:
    slot = instruction.reply.FIELDS[field].slot
    assert slot is not None
    text = instruction_section(instruction)
    assert f"A slot of `{field}`, {slot_size(slot)} bytes:" in text
    assert_fields(table_below(text, f"A slot of `{field}`"), slot, response=False)


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
            one.level.title,
            str(one.mode),
            "yes" if one.idempotent else "no",
            str(one.guide.risk),
        )
        for one in REGISTRY
    ]


def test_groups_are_as_declared() -> None:
    rows = tables(section("4 Instruction space"))[0][1:]
    titles: dict[int, str] = {}
    levels: dict[int, str] = {}
    for codes, _, title, level in rows:
        first, last = (int(code, 16) >> 4 for code in codes.split("-"))
        titles.update((nibble, title.strip("`")) for nibble in range(first, last + 1))
        levels.update((nibble, level) for nibble in range(first, last + 1))
    without_name = {Group.CONTROL}
    assert titles == {
        nibble: Group(nibble).title if nibble in set(Group) - without_name else "-"
        for nibble in range(16)
    }
    assert {one.name for one in REGISTRY if levels[one.group] != one.level.title} == set()


def test_every_status_word_is_there() -> None:
    rows = tables(section("5.1 Status words"))[0][1:]
    assert [(sw, name) for sw, name, _, _ in rows] == [(str(sw), sw.name) for sw in SW]


def test_node_flags_are_as_declared() -> None:
    rows = table_below(section("5.1 Status words"), "**Node flags**")
    assert [(1 << int(bit), name) for bit, name, _ in rows if name != "-"] == [
        (flag.value, flag.name) for flag in NodeFlags
    ]


def test_instructions_that_keep_their_success_are_the_nodes() -> None:
    text = " ".join(section("5.1 Status words").split())
    assert "00-03, 11, 20 and 22 are answered `9000` for ever" in text
    assert {0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22} == dispatch.DEPLOYED
    named = re.search(r"that deployed nodes do not have: ([0-9A-F, and-]+)\.", text)
    assert named is not None
    others: set[int] = set()
    for first, last in re.findall(r"\b([0-9A-F]{2})(?:-([0-9A-F]{2}))?\b", named[1]):
        others.update(range(int(first, 16), int(last or first, 16) + 1))
    assert others - set(range(0xC0, 0x100)) == {one.code for one in REGISTRY} - dispatch.DEPLOYED


def test_checks_are_numbered_and_end_with_execution() -> None:
    text = section("5.2 The order of checks")
    rows = table_below(text, 'marked "close"')
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert [check.split(" (")[0] for _, check, _ in rows[-2:]] == [
        "the audit has room",
        "execution",
    ]
    named = {int(number) for number in re.findall(r"check (\d+)", text)}
    assert named <= set(range(1, len(rows) + 1))
    assert f"`6400` as check {len(rows) - 1}" in section("7.12 The audit")


def test_what_the_audit_shows_is_the_nodes() -> None:
    text = " ".join(section("7.12 The audit").split())
    assert f"not on the disk is {log.LATE_SECONDS:g} s old" in text
    assert f"an instruction of {recorder.STANDARD:02X}-FF whose intent" in text
    assert f"00-{recorder.STANDARD - 1:02X} are answered" in text


def test_what_reading_logs_may_take_is_the_nodes() -> None:
    summary = " ".join(section("7.16 LOG_SUMMARY").split())
    assert f"or {logbook.BUDGET_ENTRIES:,} have been read" in summary
    assert f"or {logbook.BUDGET_SECONDS * 1000:g} ms have passed" in summary
    assert f"the first {logbook.COMPARED:,} bytes count" in summary
    assert f"at most {diagnostics.MOST_EVENTS}; 0: {diagnostics.DEFAULT_EVENTS} " in summary
    detail = " ".join(section("7.17 LOG_DETAIL").split())
    for text in (summary, detail):
        assert f"| {log_reader.WAITING} of LOG_SUMMARY and LOG_DETAIL," in text
        assert f"could not be read within {log_reader.PATIENCE:g} s" in text
    assert f"among the last {log_reader.REMEMBERED:,} that" in detail
    assert f"remembers the last {log_reader.REMEMBERED:,} Event_IDs" in detail
    tree = " ".join(section("7.18 PROC_TREE").split())
    assert f"levels below the process to show; 0: {diagnostics.DEFAULT_DEPTH} " in tree
    assert f"At most {diagnostics.MOST_PROCESSES} are shown" in tree
    assert f"the nearest {diagnostics.MOST_PROCESSES - 1} are shown" in tree
    assert f"| {trees.WAITING} of PROC_TREE," in tree


def test_no_other_status_word_is_named() -> None:
    named = set(re.findall(r"`(9[01]\d\d|6[0-9A-F]{3})`", DOCUMENT))
    assert named <= {str(sw) for sw in SW}


def test_limits_are_the_codes() -> None:
    rows = {limit: value for limit, value in tables(section("1.6 Limits"))[0][1:]}
    name = SVC_RESTART.request.FIELDS["name"]
    label = AGENT_ADD.request.FIELDS["label"]
    most_sealed = limits.MAX_DATA - limits.SEQ_SIZE - limits.AEAD_TAG_SIZE
    assert rows == {
        "ciphertext of a record": f"{limits.AEAD_TAG_SIZE} to {limits.MAX_RECORD:,} bytes",
        "message": f"at most {MAX_MESSAGE:,} bytes",
        "data of a frame (Lc)": f"at most {limits.MAX_DATA:,} bytes",
        "frame": f"at most {limits.MAX_FRAME:,} bytes",
        "data of a standard frame": f"at most {apdu.MAX_STANDARD_DATA} bytes",
        "payload of an encrypted and signed frame": f"at most {most_sealed:,} bytes",
        "payload that comes in fragments": f"at most {limits.MAX_CHAIN:,} bytes",
        "service name": f"{name.least} to {name.most} bytes",
        "label of an agent": f"at most {label.most} bytes",
        "agents on one page of AGENT_LIST": f"at most {PAGE_SIZE}",
    }


def test_deadlines_and_bounds_are_the_nodes() -> None:
    text = section("1.6 Limits and deadlines")
    deadlines = [row[-1] for row in table_below(text, "| Deadline |")]
    assert deadlines == [
        f"{seconds:g} s"
        for seconds in (
            connection.MAGIC_SECONDS,
            connection.HANDSHAKE_SECONDS,
            connection.FRAME_SECONDS,
            connection.IDLE_SECONDS,
        )
    ]
    bounds = Limits()
    assert {name: value for name, value, _ in table_below(text, "| Bound of the node |")} == {
        "sessions": f"{bounds.sessions:,} (an option)",
        "sessions of one agent key": f"{bounds.sessions_per_key} (an option)",
        "connections that are not confirmed": str(door.UNCONFIRMED),
        "handshakes from one source": "20 a second (an option), five times as many at once",
        "ephemeral keys remembered": f"2 x {door.GENERATION_KEYS:,}, "
        f"for 2 x {door.GENERATION_SECONDS} s",
        "sources counted": f"{door.SOURCES:,}",
        "requests in flight of one session": str(session.TURN),
        "task handles of one session": str(SESSION_TASKS),
        "task handles of the node": str(NODE_TASKS),
        "isolations in force": str(MAX_ISOLATIONS),
        "chains of one session": "1",
        "bytes in all chains of the node": f"{NODE_BYTES:,}",
        "added agents below one line": str(directory.MAX_DELEGATES),
        "levels of added agents below a line": str(directory.MAX_DEPTH),
    }
    assert f"the latest {SHOWN_PIDS:,} PIDs" in section("7.2 PROC_THROTTLE")
    assert f"({connection.LINGER_SECONDS:g} s at most)" in section("1.5 The end of a connection")
    assert f"still pending at {TASK_TIMEOUT:g} s" in section("7.4 Task handles")
    assert f"or {TASK_LIFETIME:g} s after creation" in section("7.4 Task handles")


def test_handshakes_from_one_source_are_the_nodes() -> None:
    rates = door.HandshakeRates()
    assert sum(rates.allow("a", 0.0) for _ in range(1000)) == 100
    assert sum(rates.allow("a", 1.0) for _ in range(1000)) == 20


def test_bounds_in_the_text_are_those_of_the_tables() -> None:
    text = " ".join(section("1.8 Replays and floods").split())
    assert "A source has 100 handshakes at first and gets back 20 a second" in text
    assert f"It counts {door.SOURCES:,} sources at a time" in text
    assert f"{door.GENERATION_SECONDS} s old or holds {door.GENERATION_KEYS:,} keys" in text
    assert f"for {door.GENERATION_SECONDS} s after the first use" in text
    assert f"for {2 * door.GENERATION_SECONDS} s at most" in text
    assert f"one of {door.UNCONFIRMED} places" in text
    added = section("7.11 Added agents")
    assert f"{directory.MAX_DEPTH} levels below a line, {directory.MAX_DELEGATES} added" in added


def test_readings_are_as_fresh_as_the_sampler_makes_them() -> None:
    text = " ".join(section("6.5 How fresh a reading is").split())
    assert f"first reading about {sampler.SETTLE:g} s later" in text
    assert f"at most {sampler.MAX_AGE:g} s old" in text
    assert f"asleep {sampler.IDLE:g} s after" in text
    assert sampler.VITALS_INTERVAL <= 1 / 4
    assert "the vitals at least 4 times a second" in text
    assert sampler.TABLE_LEAST_INTERVAL <= 1 / 4
    assert "the process table 4 times a second" in text
    assert f"at least every {sampler.TABLE_MOST_INTERVAL:g} s" in text


def test_chains_are_bounded_as_the_node_does() -> None:
    text = section("7.14 CONTINUE (10)")
    assert f"| more than {limits.MAX_CHAIN:,} bytes together | `6700`, the chain ends |" in text
    assert f"{CHAIN_SECONDS:g} s after its first one" in text
    assert limits.MAX_FRAGMENT == limits.MAX_DATA - CONTINUE.request.SIZE
    first = table_below(text, "Its answer, 6 bytes:")
    assert [row[:4] for row in first[:1]] == [row for row, _ in field_rows(ChainHandle)]
