"""docs/protocol.md against the code: fields, codes, status words, limits and the worked session."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

from asys.isa import (
    PROC_THROTTLE,
    REGISTRY,
    SVC_RESTART,
    AnyInstruction,
    Empty,
    Group,
    Process,
    ThrottleAction,
)
from asys.isa.process import Throttle
from asys.protocol import apdu, limits
from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.codec import Field, Layout
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.noise import PROTOCOL_NAME, Initiator, Responder, _hkdf, _SymmetricState
from asys.protocol.signing import EPOCH_CONTEXT, epoch_id
from asys.protocol.status import SW

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")

Row = tuple[str, ...]
Table = list[Row]
Values = dict[str, bytes]

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


def section(heading: str) -> str:
    """The text below the one heading that begins so, up to the next of the same or a higher rank.

    Fenced blocks hold no headings.
    """
    found = re.findall(rf"^(#+) {re.escape(heading)}.*$", DOCUMENT, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} headings begin with {heading!r}"
    rank = len(found[0])
    start = re.search(rf"^#+ {re.escape(heading)}.*$", DOCUMENT, re.MULTILINE)
    assert start is not None
    rest = DOCUMENT[start.end() :]
    stop = re.search(rf"^#{{1,{rank}}} ", rest, re.MULTILINE)
    return rest[: stop.start()] if stop else rest


def tables(text: str) -> list[Table]:
    """Every table of a text, its heading row first, without the rule below that."""
    found: list[Table] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        if not set(line) <= set("|-"):
            found[-1].append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return found


def table_below(text: str, caption: str) -> Table:
    """The rows, without the heading row, of the table that follows a line of text."""
    assert text.count(caption) == 1, f"{caption!r} stands {text.count(caption)} times"
    return tables(text[text.index(caption) :])[0][1:]


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


GIVEN = {
    "agent_static_private",
    "agent_ephemeral_private",
    "node_static_private",
    "message_2",
    "response_record",
    "response_record_2",
    "core_ephemeral_private",
    "core_message_2",
    "sys_caps_response_record",
    "sys_hello_response_record",
    "sys_status_response_record",
    "sys_procs_response_record",
}
"""What the recording gave; every other value of the appendix is computed from these."""

CORE = ("SYS_CAPS", "SYS_HELLO", "SYS_STATUS", "SYS_PROCS")


def appendix_values() -> dict[str, bytes]:
    """The values of Appendix A by name; a line without a name continues the one above."""
    values: dict[str, bytes] = {}
    name = ""
    for block in re.findall(r"^```values\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            *named, digits = line.split()
            if named:
                (name,) = named
                assert name not in values, f"{name} stands twice"
                values[name] = b""
            values[name] += bytes.fromhex(digits)
    return values


def transcript(static: PrivateKey, ephemeral: PrivateKey, node: bytes, answer: bytes) -> Values:
    """Every intermediate value of the agent's handshake, token by token."""
    values: Values = {}
    state = _SymmetricState(b"")
    values["h_name"] = PROTOCOL_NAME.ljust(64, b"\0")
    values["h_prologue"] = state.hash
    chain = values["h_name"]

    def mix_hash(name: str, data: bytes) -> None:
        state.mix_hash(data)
        values[name] = state.hash

    def mix_key(name: str, secret: bytes, *, shows_key: bool = True) -> None:
        nonlocal chain
        values[f"dh_{name}"] = secret
        chain, key = _hkdf(chain, secret)
        values[f"ck_{name}"] = chain
        if shows_key:
            values[f"k_{name}"] = key[: limits.KEY_SIZE]
        state.mix_key(secret)

    mix_hash("h_node_static", node)
    mix_hash("h_e", ephemeral.public)
    mix_key("es", ephemeral.exchange(node))
    values["encrypted_static"] = state.encrypt_and_hash(static.public)
    values["h_s"] = state.hash
    mix_key("ss", static.exchange(node))
    values["tag_1"] = state.encrypt_and_hash(b"")
    values["h_message_1"] = state.hash
    mix_hash("h_ephemeral_2", answer[: limits.KEY_SIZE])
    mix_key("ee", ephemeral.exchange(answer[: limits.KEY_SIZE]), shows_key=False)
    mix_key("se", static.exchange(answer[: limits.KEY_SIZE]))
    assert state.decrypt_and_hash(answer[limits.KEY_SIZE :]) == b""
    values["handshake_hash"] = state.hash
    return values


def handshake(static: PrivateKey, ephemeral: PrivateKey, frame: bytes, answer: bytes) -> AgentLink:
    """The project's own agent, open, after the handshake with these bytes."""
    link = AgentLink(static, ephemeral=ephemeral)
    link.receive_data(frame)
    link.begin_handshake()
    link.receive_data(answer)
    assert link.state is LinkState.OPEN
    return link


def message_1(static: PrivateKey, ephemeral: PrivateKey, node: PrivateKey) -> bytes:
    """Message 1 of the project's agent, as the project's node reads it."""
    message = Initiator(static, node.public, ephemeral=ephemeral).write_message_1()
    assert Responder(node).read_message_1(message) == static.public
    return message


def received(link: AgentLink, record: bytes) -> bytes:
    link.receive_data(record)
    (message,) = link.messages()
    return message


def session_values(given: Values) -> Values:
    """Appendix A.1 to A.3 from what the recording gave."""
    static = PrivateKey(given["agent_static_private"])
    ephemeral = PrivateKey(given["agent_ephemeral_private"])
    node = PrivateKey(given["node_static_private"])
    values = transcript(static, ephemeral, node.public, given["message_2"])
    values["agent_static_public"] = static.public
    values["agent_ephemeral_public"] = ephemeral.public
    values["node_static_public"] = node.public
    values["message_1"] = message_1(static, ephemeral, node)

    greeting = NodeLink(node)
    greeting.receive_data(limits.MAGIC)
    values["magic"] = AgentLink(static).data_to_send()
    values["pre_handshake_frame"] = greeting.data_to_send()

    link = handshake(static, ephemeral, values["pre_handshake_frame"], given["message_2"])
    assert link.keys is not None
    assert link.keys.handshake_hash == values["handshake_hash"]
    key = values["agent_to_node_key"] = link.keys.agent_to_node
    values["node_to_agent_key"] = link.keys.node_to_agent

    values["epoch_context"] = EPOCH_CONTEXT
    values["epoch_hmac"] = hmac.digest(key, EPOCH_CONTEXT, "blake2b")
    values["epoch_id"] = epoch_id(key)

    for action, suffix in enumerate(("", "_2")):
        payload = Throttle(16073, ThrottleAction(action)).pack()
        frame = link.signer.sign(PROC_THROTTLE.code, action, 0, payload)
        header, seq = frame[: apdu.STANDARD_HEADER], link.signer.seq.to_bytes(4, "big")
        tag_input = header + values["epoch_id"] + seq + payload
        tag = hmac.digest(key, tag_input, "blake2b")
        assert frame == header + seq + payload + b"\0" + tag[: limits.AUTH_TAG_SIZE]
        record = link.seal([frame])
        values[f"tag_input{suffix}"] = tag_input
        values[f"frame{suffix}"] = frame
        values[f"nonce{suffix}"] = bytes(4) + action.to_bytes(8, "little")
        values[f"record{suffix}"] = record
        values[f"response{suffix}"] = received(link, given[f"response_record{suffix}"])
        if not suffix:
            values.update(header=header, seq=seq, payload=payload, le=b"\0")
            values.update(tag_hmac=tag, auth_tag=frame[-limits.AUTH_TAG_SIZE :])
            values["ciphertext"] = record[limits.RECORD_PREFIX_SIZE :]
    return values


def core_values(given: Values, frame: bytes) -> Values:
    """Appendix A.4 from what the recording gave; `frame` is the node's pre-handshake frame."""
    static = PrivateKey(given["agent_static_private"])
    ephemeral = PrivateKey(given["core_ephemeral_private"])
    node = PrivateKey(given["node_static_private"])
    link = handshake(static, ephemeral, frame, given["core_message_2"])
    assert link.keys is not None
    values = {
        "core_message_1": message_1(static, ephemeral, node),
        "core_handshake_hash": link.keys.handshake_hash,
        "core_agent_to_node_key": link.keys.agent_to_node,
        "core_node_to_agent_key": link.keys.node_to_agent,
        "core_epoch_id": epoch_id(link.keys.agent_to_node),
    }
    for code, name in enumerate(CORE):
        prefix = name.lower()
        values[f"{prefix}_request"] = apdu.encode_plain(code)
        values[f"{prefix}_record"] = link.seal([values[f"{prefix}_request"]])
        values[f"{prefix}_response"] = received(link, given[f"{prefix}_response_record"])
    return values


def test_worked_session_follows_from_what_was_recorded() -> None:
    values = appendix_values()
    given = {name: values[name] for name in GIVEN}
    computed = session_values(given)
    computed.update(core_values(given, computed["pre_handshake_frame"]))
    assert not computed.keys() & GIVEN
    assert computed.keys() | GIVEN == values.keys()
    assert {name for name in computed if computed[name] != values[name]} == set()


def test_appendix_has_no_bytes_that_are_not_recomputed() -> None:
    prose = re.sub(r"^```values\n.*?^```", "", section("Appendix A"), flags=re.M | re.S)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    assert re.findall(r"\b[0-9a-fA-F]{5,}\b", prose) == ["16073", f"{16073:08X}"]


def shown(value: object) -> str:
    """A decoded value as the tables of the appendix write it."""
    if isinstance(value, IntEnum | IntFlag):
        return str(value.name)
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("name", CORE)
def test_worked_responses_are_decoded_field_by_field(name: str) -> None:
    instruction = REGISTRY.named(name)
    assert instruction is not None
    response = appendix_values()[f"{name.lower()}_response"]
    payload, sw = apdu.split_response(response)
    reply = instruction.reply.unpack(payload)
    expected: Table = []
    offset = 0
    for field_name, field in reply.FIELDS.items():
        size = field.slot.SIZE if field.slot is not None else field.size
        values = getattr(reply, field_name)
        for index, value in enumerate(values if field.slot is not None else [values]):
            inner = [value] if field.slot is None else [getattr(value, n) for n in value.FIELDS]
            label = field_name if field.slot is None else f"{field_name}[{index}]"
            digits = response[offset : offset + size].hex()
            expected.append((label, digits, ", ".join(shown(one) for one in inner)))
            offset += size
        if field.reserved:
            expected.append(("reserved", response[offset : offset + field.reserved].hex(), ""))
            offset += field.reserved
    expected.append(("SW", response[offset:].hex(), SW(sw).name))
    assert table_below(section("Appendix A"), f"**{name}**") == expected
