"""Frames for the eye: what each byte of a request or of a response says, without any key.

Every byte of the input stands in exactly one part, in order. Tags are shown, not verified; the
payload of an Enc+Sign frame is shown, not opened. Nothing here raises for any input.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from asys.isa import CONTINUE, REGISTRY, AnyInstruction, Capabilities, Group
from asys.isa.bytemap import Span, parameters, size_range, spans
from asys.isa.core import PAGE_MASK
from asys.isa.inspect_values import BITMAPS, SPECIAL, bitmap, value_of
from asys.protocol import apdu
from asys.protocol.codec import BadValue, Field, Layout, WrongSize
from asys.protocol.limits import AEAD_TAG_SIZE, AUTH_TAG_SIZE, MAX_DATA, SEQ_SIZE, SW_SIZE
from asys.protocol.status import SW, explain

FAULT: Final = "fault"
"""Name of the part that says what is wrong. It holds the bytes that could not be read, if any."""


class Part(NamedTuple):
    """Some bytes of a frame: where they are, what they are called, what they say."""

    offset: int
    raw: bytes
    name: str
    meaning: str


class _Unreadable(Exception):
    """The rest of the input cannot be cut into parts; the text says why."""


class _Walk:
    """Takes parts off the front of the input."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.parts: list[Part] = []

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def peek(self, size: int, name: str) -> bytes:
        if self.left < size:
            raise _Unreadable(
                f"cut short in {name}: {self.left} of {size} bytes are here; "
                "a node waits for the rest"
            )
        return self.data[self.at : self.at + size]

    def take(self, size: int, name: str, meaning: str) -> bytes:
        raw = self.peek(size, name)
        self.parts.append(Part(self.at, raw, name, meaning))
        self.at += size
        return raw

    def fault(self, meaning: str, size: int = 0) -> None:
        self.parts.append(Part(self.at, self.data[self.at : self.at + size], FAULT, meaning))
        self.at += size


def describe_request(data: bytes) -> list[Part]:
    """The parts of a request frame, and of any frame behind it.

    What a node would refuse ends its frame with a part named FAULT, which starts with the status
    word; where the frames behind it cannot be told any more, it is the last part.
    """
    walk = _Walk(data)
    if not data:
        walk.fault("nothing to read")
    try:
        while walk.left:
            _request(walk)
    except _Unreadable as unreadable:
        walk.fault(str(unreadable), walk.left)
    return walk.parts


def describe_response(data: bytes, instruction: AnyInstruction | None = None) -> list[Part]:
    """The parts of a response to `instruction`; its payload stays one part where that is None.

    A response that does not have the instruction's layout ends in a part named FAULT.
    """
    walk = _Walk(data)
    if len(data) < SW_SIZE:
        walk.fault(f"a response ends in a status word of {SW_SIZE} bytes", len(data))
        return walk.parts
    payload, sw = apdu.split_response(data)
    fault = ""
    if sw != SW.SUCCESS and sw >> 8 != 0x91:
        if payload:
            walk.take(len(payload), "payload", "not expected with this status word")
    elif instruction is None:
        if payload:
            walk.take(len(payload), "payload", "name the instruction to have it read")
    else:
        _payload(walk, instruction.reply, len(payload), "more than the response has")
        try:
            instruction.reply.unpack(payload)
        except (WrongSize, BadValue) as error:
            fault = f"not a response to {instruction.name}: {error}"
    meaning, advice = explain(sw)
    walk.take(SW_SIZE, "SW", f"{sw:04X} {meaning}; {advice}")
    if fault:
        walk.fault(fault)
    return walk.parts


def instruction_of(request: bytes) -> AnyInstruction | None:
    """The instruction that a request frame names; None when there is none."""
    return REGISTRY.get(request[1]) if len(request) > 1 else None


def _status(sw: SW, detail: str) -> str:
    return f"{sw} {explain(sw).meaning}: {detail}"


def _request(walk: _Walk) -> None:
    cla = walk.data[walk.at]
    refused = apdu.check_class(cla)
    walk.take(1, "CLA", _class(cla))
    if refused is not None:
        raise _Unreadable(_status(refused, _class_fault(cla)))
    code = walk.peek(1, "INS")[0]
    instruction = REGISTRY.get(code)
    walk.take(1, "INS", instruction.name if instruction else _unknown_code(code))
    used = parameters(instruction.request) if instruction else {}
    p1 = _parameter(walk, "P1", used.get("p1"))
    p2 = _parameter(walk, "P2", used.get("p2"))
    extended = bool(cla & apdu.CLA_EXTENDED)
    length = _length(walk, extended)
    sec = cla & apdu.CLA_SEC
    walk.peek(length, "the data")
    start = walk.at
    first = bool(cla & apdu.CLA_MORE) and instruction is not CONTINUE
    fault = _data(walk, instruction, sec, length, first=first)
    if not fault and not first and instruction is not None and sec != apdu.SEC_ENC_SIGN:
        payload = walk.data[start + (SEQ_SIZE if sec else 0) : start + length]
        fault = _payload_fault(instruction, p1, p2, payload)
    le_size = 2 if extended else 1
    le = int.from_bytes(walk.peek(le_size, "Le"), "big")
    walk.take(le_size, "Le", f"{le}: length expected, advisory")
    if sec:
        walk.take(AUTH_TAG_SIZE, "Auth_Tag", "not verified: that takes the session's key")
    if fault:
        walk.fault(fault)


def _class(cla: int) -> str:
    security = {
        apdu.SEC_PLAIN: "plain",
        apdu.SEC_SIGNED: "signed",
        apdu.SEC_ENC_SIGN: "enc+sign",
        apdu.SEC_RESERVED: "reserved security level",
    }
    said = [f"version {(cla & apdu.CLA_VERSION) >> 5}", security[cla & apdu.CLA_SEC]]
    if cla & apdu.CLA_EXTENDED:
        said.append("extended")
    if cla & apdu.CLA_MORE:
        said.append("more fragments follow")
    if cla & apdu.CLA_RESERVED:
        said.append("reserved bit set")
    return ", ".join(said)


def _class_fault(cla: int) -> str:
    if cla & apdu.CLA_VERSION:
        return "the version bits are not 000"
    if cla & apdu.CLA_SEC == apdu.SEC_RESERVED:
        return "the security bits 11 are reserved"
    return "bit 0 is reserved"


def _unknown_code(code: int) -> str:
    try:
        group = f"group {Group(code >> 4).title}"
    except ValueError:
        group = "a reserved group"
    return f"no instruction known here, {group}"


def _parameter(walk: _Walk, place: str, used: tuple[str, Field] | None) -> int:
    raw = walk.peek(1, place)
    meaning = "no meaning here" if used is None else f"{used[0]} = {value_of(used[1], raw)}"
    walk.take(1, place, meaning)
    return raw[0]


def _length(walk: _Walk, extended: bool) -> int:
    if not extended:
        length = walk.peek(1, "Lc")[0]
        walk.take(1, "Lc", f"{length} bytes of data")
        return length
    if walk.peek(1, "the extended placeholder") != b"\0":
        raise _Unreadable(_status(SW.WRONG_LENGTH, "the extended placeholder is not 00"))
    walk.take(1, "placeholder", "an extended length follows")
    length = int.from_bytes(walk.peek(2, "Lc"), "big")
    walk.take(2, "Lc", f"{length} bytes of data")
    if length > MAX_DATA:
        raise _Unreadable(_status(SW.WRONG_LENGTH, f"a frame has at most {MAX_DATA} bytes of data"))
    return length


def _data(
    walk: _Walk, instruction: AnyInstruction | None, sec: int, length: int, *, first: bool
) -> str:
    """Takes the `length` bytes of data; the fault that they or the security level show, or "".

    `first`: they are the first fragment of a payload.
    """
    fault = ""
    if sec:
        if length < SEQ_SIZE:
            if length:
                walk.take(length, "data", "too short for a Seq")
            return _status(SW.DENIED, f"a signed frame has at least the {SEQ_SIZE} bytes of Seq")
        seq = int.from_bytes(walk.peek(SEQ_SIZE, "Seq"), "big")
        walk.take(SEQ_SIZE, "Seq", str(seq))
        length -= SEQ_SIZE
        if seq == 0:
            fault = _status(SW.ALREADY_RECEIVED, "Seq starts at 1")
    if sec == apdu.SEC_ENC_SIGN:
        sealed = _sealed(walk, instruction, length, first=first)
        return fault or sealed  # a node looks at Seq before it opens anything
    if instruction is None:
        if length:
            walk.take(length, "payload", "of an instruction that is not known here")
        return fault or _status(SW.NO_SUCH_INSTRUCTION, "the code is not known here")
    if first:
        if length:
            walk.take(length, "payload", "its first fragment")
        if sec >> 2 < instruction.level:
            return fault or _status(
                SW.DENIED, f"{instruction.name} must be {instruction.level.title}"
            )
        return fault or _fragment_fault(instruction)
    extra = "ignored" if instruction.ignores_extra else "more than the instruction takes"
    _payload(walk, instruction.request, length, extra)
    if not fault and sec >> 2 < instruction.level:
        fault = _status(SW.DENIED, f"{instruction.name} must be {instruction.level.title}")
    return fault


def _fragment_fault(instruction: AnyInstruction) -> str:
    """What is wrong with a first fragment for an instruction."""
    if instruction.chainable:
        return ""
    return _status(SW.WRONG_LENGTH, f"{instruction.name} takes no fragments")


def _sealed(walk: _Walk, instruction: AnyInstruction | None, length: int, *, first: bool) -> str:
    """Takes the `length` bytes behind Seq. Of what is inside, only its length can be judged."""
    inner = length - AEAD_TAG_SIZE
    if inner < 0:
        if length:
            walk.take(length, "sealed payload", "too short for its tag")
        return _status(SW.DENIED, f"a sealed payload has at least {AEAD_TAG_SIZE} bytes")
    if inner:
        walk.take(inner, "sealed payload", "not opened: that takes the session's key")
    walk.take(AEAD_TAG_SIZE, "payload tag", "not verified: that takes the session's key")
    if instruction is None:
        return _status(SW.NO_SUCH_INSTRUCTION, "the code is not known here")
    if first:
        return _fragment_fault(instruction)
    least, most = size_range(instruction.request)
    bounded = instruction.request.FIXED or instruction.request.OPTIONAL
    too_long = inner > most and bounded and not instruction.ignores_extra
    between = (
        bool(instruction.request.OPTIONAL) and least < inner < most
    )  # half of what may be left out
    if inner < least or too_long or between:
        said = f"{inner} bytes are sealed, {instruction.name} takes {least}"
        return _status(SW.WRONG_LENGTH, said if least == most else f"{said} to {most}")
    return ""


def _payload_fault(instruction: AnyInstruction, p1: int, p2: int, payload: bytes) -> str:
    try:
        instruction.parse(p1, p2, payload)
    except WrongSize as error:
        return _status(SW.WRONG_LENGTH, str(error))
    except BadValue as error:
        return _status(SW.INVALID_PAYLOAD, str(error))
    return ""


def _payload(walk: _Walk, layout: type[Layout], length: int, extra: str) -> None:
    """Takes `length` bytes: the fields that are whole, then whatever is left as one part."""
    end = walk.at + length
    _fields(walk, layout, spans(layout), end, "")
    if walk.at < end:
        short = f"too short: {layout.__name__} has {layout.SIZE} bytes"
        walk.take(end - walk.at, "payload", short if length < layout.SIZE else extra)


def _fields(walk: _Walk, layout: type[Layout], found: list[Span], end: int, prefix: str) -> None:
    for span in found:
        size = span.size
        name = prefix + span.name
        if span.field is not None and span.field.open_ended and not span.field.optional:
            if span.field.counted and walk.at < end:
                size = min(span.field.counted, end - walk.at)
                length = int.from_bytes(walk.peek(size, name), "big")
                walk.take(size, f"{name} length", f"{length} bytes of text follow")
            size = end - walk.at
        if size == 0 or size > end - walk.at:
            return
        if span.field is None:
            walk.take(size, name, "no meaning yet")
        elif span.field.kind == "rows" and span.field.slot is not None:
            _rows(walk, name, span.field.slot, end)
        elif span.field.slot is not None:
            _slots(walk, name, span.field.slot, span.field.most)
        else:
            raw = walk.peek(size, name)
            if span.name in BITMAPS:
                said = bitmap(raw, BITMAPS[span.name] + _first_code(walk, end))
            else:
                special = SPECIAL.get(span.name)
                said = special(raw) if special else value_of(span.field, raw)
            walk.take(size, name, f"{said}: {span.field.doc}")


def _slots(walk: _Walk, name: str, slot: type[Layout], count: int) -> None:
    for index in range(count):
        where = f"{name}[{index}]"
        if walk.peek(slot.SIZE, where) == bytes(slot.SIZE):
            walk.take(slot.SIZE, where, "empty slot")
        else:
            _fields(walk, slot, spans(slot), walk.at + slot.SIZE, f"{where}.")


def _rows(walk: _Walk, name: str, slot: type[Layout], end: int) -> None:
    index = 0
    while end - walk.at >= slot.SIZE:
        size = slot.SIZE
        if not slot.FIXED:
            size = min(slot.measure(walk.data[walk.at : walk.at + size]), end - walk.at)
        _fields(walk, slot, spans(slot), walk.at + size, f"{name}[{index}].")
        index += 1


_PAGE_OFFSET: Final = next(span.offset for span in spans(Capabilities) if span.name == "page")


def _first_code(walk: _Walk, end: int) -> int:
    """The first code on the page of the capability map that a payload of SYS_CAPS shows."""
    page = walk.data[_PAGE_OFFSET] if end > _PAGE_OFFSET else 0
    return 64 * (page & PAGE_MASK)
