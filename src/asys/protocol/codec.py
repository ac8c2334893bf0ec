"""Fields on the wire, said as annotations and compiled once (docs/protocol.md, section 6).

    @layout
    class Slot(Layout):
        pid: Annotated[int, u32("process", unit="PID")]
        cpu_percent: Annotated[float, u16("CPU, 100 = one core", unit="%", scale=100)]

`Slot(pid=1, cpu_percent=12.5).pack()` gives 6 bytes, `Slot.unpack(data)` the slot. All integers are
big-endian and unsigned; there is no padding but what `reserved` says.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from enum import IntEnum, IntFlag
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from asys.errors import ArgumentError
from asys.protocol.fields import (
    Conversion,
    Field,
    long_text,
    p1,
    p2,
    padded,
    raw,
    rest,
    rows,
    slots,
    text,
    u8,
    u16,
    u32,
    u64,
)

__all__ = [
    "BadValue",
    "Conversion",
    "Field",
    "Layout",
    "LayoutError",
    "WrongSize",
    "layout",
    "long_text",
    "p1",
    "p2",
    "padded",
    "raw",
    "rest",
    "rows",
    "slots",
    "text",
    "u8",
    "u16",
    "u32",
    "u64",
]


class LayoutError(ValueError):
    """Bytes that are not what a layout says; the two kinds have different status words."""


class WrongSize(LayoutError):
    """The number of bytes is not the layout's: 6700."""


class BadValue(LayoutError):
    """A value that the layout does not allow: 6A80."""


_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
_LENGTHS = {0: "", 1: "B", 2: "H"}


class Layout:
    """Base of every request and reply. `FIELDS` is its declaration, `SIZE` its bytes in payload.

    A layout that ends in a text, in rows or in what may be left out has no fixed size; SIZE then
    counts what comes before that.
    """

    FIELDS: ClassVar[dict[str, Field]] = {}
    SIZE: ClassVar[int] = 0
    FIXED: ClassVar[bool] = True
    COUNTED: ClassVar[bool] = False
    """Whether it ends in a text whose length it says."""
    OPTIONAL: ClassVar[int] = 0
    """Bytes of the field at its end that may be left out."""

    _struct: ClassVar[struct.Struct] = struct.Struct("")
    _payload: ClassVar[tuple[tuple[str, Field], ...]] = ()
    _header: ClassVar[tuple[tuple[str, Field], ...]] = ()
    _enums: ClassVar[tuple[tuple[str, type[IntEnum] | type[IntFlag]], ...]] = ()
    _conversions: ClassVar[tuple[tuple[str, Conversion], ...]] = ()

    __slots__ = ()

    def __post_init__(self) -> None:
        """Lets a caller write the name of an enum's member: action="stop"."""
        for name, enum in self._enums:
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, _member(name, enum, value))
        for name, convert in self._conversions:
            object.__setattr__(self, name, convert.of(getattr(self, name)))

    def check(self) -> None:
        """ArgumentError where a value cannot travel; says which, and what is allowed."""
        for name, field in self.FIELDS.items():
            value = getattr(self, name)
            _check(name, field, value)
            other, only = field.only_with or ("", None)
            if value and other and getattr(self, other) != only:
                raise ArgumentError(f"{name} does not go with this {other}")

    def parameters(self) -> tuple[int, int]:
        """P1 and P2; 0 where the layout has none."""
        values = {field.place: _encode(field, getattr(self, name)) for name, field in self._header}
        return values.get("p1", 0), values.get("p2", 0)

    def pack(self) -> bytes:
        """The payload. Numbers out of range saturate, as the protocol's readings do."""
        values: list[object] = []
        tail = b""
        for name, field in self._payload:
            value = getattr(self, name)
            if field.kind == "slots":
                values.append(_pack_slots(field, value))
            elif field.kind == "rows":
                tail = b"".join(row.pack() for row in value)
            elif field.kind == "text":
                tail = _encode_text(field, value)
                if field.counted:
                    values.append(len(tail))
            elif field.kind == "bytes" and field.open_ended:
                tail = value
            elif field.kind == "bytes":
                values.append(value if field.convert is None else field.convert.encode(value))
            elif field.optional:
                number = _encode(field, value)
                tail = number.to_bytes(field.size, "big") if number else b""
            else:
                values.append(_encode(field, value))
        return self._struct.pack(*values) + tail

    @classmethod
    def measure(cls, head: bytes) -> int:
        """The bytes of a layout that ends in a counted text, by its first `SIZE` bytes.

        Of fewer than that, `SIZE`.
        """
        counted = cls._payload[-1][1].counted
        if len(head) < cls.SIZE:
            return cls.SIZE
        return cls.SIZE + int.from_bytes(head[cls.SIZE - counted : cls.SIZE], "big")

    @classmethod
    def unpack(cls, payload: bytes, p1: int = 0, p2: int = 0, *, more: bool = False) -> Self:
        """The layout in `payload`. `more`: bytes behind it are ignored.

        WrongSize or BadValue when it is not there.
        """
        size = cls.SIZE
        if len(payload) < size or (cls.FIXED and not more and len(payload) != size):
            raise WrongSize(f"{cls.__name__} has {size} bytes, not {len(payload)}")
        rest = len(payload) - size
        if cls.OPTIONAL and rest and rest != cls.OPTIONAL and not (more and rest > cls.OPTIONAL):
            raise WrongSize(f"{cls.__name__} has {size} or {size + cls.OPTIONAL} bytes")
        values: dict[str, object] = {}
        for name, field in cls._header:
            values[name] = _decode(field, p1 if field.place == "p1" else p2)
        numbers = iter(cls._struct.unpack_from(payload))
        for name, field in cls._payload:
            if field.kind == "text":
                if field.counted and next(numbers) != len(payload) - size:
                    raise WrongSize(f"{name} has another length than the byte before it says")
                values[name] = _decode_text(field, payload[size:])
            elif field.kind == "rows":
                values[name] = _unpack_rows(field, payload[size:], values["count"])
            elif field.kind == "slots":
                values[name] = _unpack_slots(field, next(numbers))
            elif field.kind == "bytes" and field.open_ended:
                values[name] = _unpack_rest(name, field, payload[size:])
            elif field.kind == "bytes":
                data = next(numbers)
                values[name] = data if field.convert is None else field.convert.decode(data)
            elif field.optional:
                values[name] = _unpack_optional(name, field, payload[size:], values)
            else:
                values[name] = _decode(field, next(numbers))
        return cls(**values)


def _compile(cls: type[Layout]) -> None:
    fields: dict[str, Field] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            fields.update((name, note) for note in get_args(hint) if isinstance(note, Field))
    payload = [(name, field) for name, field in fields.items() if field.place == "payload"]
    codes = [">"]
    for name, field in payload:
        if field.open_ended:
            if name != payload[-1][0]:
                raise TypeError(f"{cls.__name__}.{name}: {field.kind} must be the last field")
            if field.kind == "rows" and "count" not in fields:
                raise TypeError(f"{cls.__name__}.{name}: rows need a field named count")
            if field.slot is not None and not field.slot.FIXED and not field.slot.COUNTED:
                raise TypeError(f"{cls.__name__}.{name}: a row must say how long it is")
            cls.COUNTED = bool(field.counted)
            cls.OPTIONAL = field.size if field.optional else 0
            cls.FIXED = False
            codes.append(_LENGTHS[field.counted])
            continue
        codes.append(_CODES.get(field.kind) or f"{field.size}s")
        codes.append(f"{field.reserved}x" if field.reserved else "")
    cls.FIELDS = fields
    cls._struct = struct.Struct("".join(codes))
    cls._payload = tuple(payload)
    cls._header = tuple(item for item in fields.items() if item[1].place != "payload")
    cls._enums = tuple((name, field.enum) for name, field in fields.items() if field.enum)
    cls._conversions = tuple(
        (name, field.convert) for name, field in fields.items() if field.convert
    )
    cls.SIZE = cls._struct.size


_T = TypeVar("_T", bound=Layout)


@dataclass_transform(frozen_default=True)
def layout(cls: type[_T]) -> type[_T]:
    """Makes a class of annotated fields a frozen, slotted dataclass with a compiled layout."""
    made = cast("type[_T]", dataclasses.dataclass(frozen=True, slots=True)(cls))
    _compile(made)
    return made


def _member(name: str, enum: type[IntEnum] | type[IntFlag], value: str) -> IntEnum | IntFlag:
    try:
        return enum[value.upper()]
    except KeyError:
        raise _not_a_member(name, enum, value) from None


def _not_a_member(name: str, enum: type[IntEnum] | type[IntFlag], value: object) -> ArgumentError:
    allowed = ", ".join(repr(str(member.name).lower()) for member in enum)
    return ArgumentError(f"{name} must be one of {allowed}, not {value!r}")


def _encode(field: Field, value: Any) -> int:
    """The number on the wire."""
    if value is None:
        if field.absent is None:
            raise BadValue("None for a field that always has a value")
        return field.absent
    number = round(value * field.scale) if field.scale != 1 else int(value)
    highest = (1 << 8 * field.size) - 1
    if highest == field.absent:
        highest -= 1  # a reading off the scale must not read as none
    return min(max(number, 0), highest)


def _decode(field: Field, number: int) -> object:
    """The value that a number on the wire stands for."""
    if number == field.absent:
        return None
    if field.boolean:
        return bool(number & 1)
    if field.enum is not None:
        try:
            return field.enum(number)
        except ValueError:
            if field.unknown is None:
                raise BadValue(f"{number} is not a {field.enum.__name__}") from None
            return field.unknown
    if not field.least <= number <= field.most:
        raise BadValue(f"{number} is not within {field.least} to {field.most}")
    return number / field.scale if field.scale != 1 else number


def _unpack_optional(name: str, field: Field, data: bytes, values: dict[str, object]) -> object:
    """The number in `data`, or 0 where it was left out."""
    if not data:
        return 0
    if field.only_with and values[field.only_with[0]] != field.only_with[1]:
        raise WrongSize(f"{name} does not go with this {field.only_with[0]}")
    return _decode(field, int.from_bytes(data[: field.size], "big"))


def _encode_text(field: Field, value: Any) -> bytes:
    if field.convert is not None:
        return field.convert.encode(value)
    return cast("str", value).encode("ascii")


def _decode_text(field: Field, data: bytes) -> object:
    if field.convert is not None:
        if len(data) > field.most:
            raise WrongSize(f"{len(data)} bytes of text; {field.most} are the most")
        return field.convert.decode(data)
    if len(data) < field.least:
        raise WrongSize(f"{len(data)} bytes of text; at least {field.least} are needed")
    value = data.decode("latin-1")
    fault = _text_fault(field, value)
    if fault:
        raise BadValue(fault)
    return value


def _text_fault(field: Field, value: str) -> str:
    if not field.least <= len(value) <= field.most:
        return f"has {len(value)} characters, not {field.least} to {field.most}"
    if re.fullmatch(field.pattern, value) is None:
        return f"has characters other than {field.pattern}"
    if field.refuse and re.search(field.refuse, value):
        return f"must not match {field.refuse}"
    return ""


def _pack_slots(field: Field, value: tuple[Layout, ...]) -> bytes:
    packed = b"".join(slot.pack() for slot in value[: field.most])
    return packed.ljust(field.size, b"\0")


def _unpack_slots(field: Field, data: bytes) -> tuple[Layout, ...]:
    slot = cast("type[Layout]", field.slot)
    empty = bytes(next(iter(slot.FIELDS.values())).size)
    pieces = [data[start : start + slot.SIZE] for start in range(0, field.size, slot.SIZE)]
    return tuple(slot.unpack(piece) for piece in pieces if not piece.startswith(empty))


def _unpack_rest(name: str, field: Field, data: bytes) -> bytes:
    if not field.least <= len(data) <= field.most:
        raise WrongSize(f"{name} has {len(data)} bytes, not {field.least} to {field.most}")
    return data


def _unpack_rows(field: Field, data: bytes, count: object) -> tuple[Layout, ...]:
    slot = cast("type[Layout]", field.slot)
    size = slot.SIZE
    if not slot.FIXED:
        return _unpack_long_rows(field, slot, data, count)
    if len(data) % size or len(data) // size != count:
        raise WrongSize(f"{len(data)} bytes are not {count} rows of {size}")
    if count > field.most:
        raise WrongSize(f"{count} rows; {field.most} are the most")
    return tuple(slot.unpack(data[start : start + size]) for start in range(0, len(data), size))


def _unpack_long_rows(
    field: Field, slot: type[Layout], data: bytes, count: object
) -> tuple[Layout, ...]:
    """Rows each of which says how long it is."""
    found: list[Layout] = []
    at = 0
    while at < len(data) and len(found) < field.most:
        end = at + slot.measure(data[at : at + slot.SIZE])
        if end > len(data):
            break
        found.append(slot.unpack(data[at:end]))
        at = end
    if at != len(data) or len(found) != count:
        raise WrongSize(f"{len(data)} bytes are not {count} rows, of at most {field.most}")
    return tuple(found)


def _check(name: str, field: Field, value: Any) -> None:
    if field.kind == "text" and field.convert is None:
        fault = _text_fault(field, value) if isinstance(value, str) else "is not a string"
        if fault:
            raise ArgumentError(f"{name} {fault}: {value!r}")
    elif field.kind in ("bytes", "text"):
        _check_bytes(name, field, value)
    elif field.boolean:
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} must be True or False, not {value!r}")
    elif field.slot is None and not (value is None and field.absent is not None):
        kinds = int if field.scale == 1 else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ArgumentError(f"{name} must be a number, not {value!r}")
        if field.enum is not None and issubclass(field.enum, IntEnum):
            if value not in set(field.enum):
                raise _not_a_member(name, field.enum, value)
        elif not field.least <= value * field.scale <= field.most:
            least, most = _bound(field.least, field.scale), _bound(field.most, field.scale)
            raise ArgumentError(f"{name} must be {least} to {most}, not {value}")


def _check_bytes(name: str, field: Field, value: Any) -> None:
    if field.convert is not None:
        return
    least, most = (field.least, field.most) if field.open_ended else (field.size, field.size)
    if not isinstance(value, bytes) or not least <= len(value) <= most:
        size = f"{least}" if least == most else f"{least} to {most}"
        raise ArgumentError(f"{name} must be {size} bytes")


def _bound(wire: int, scale: int) -> int | float:
    return wire if scale == 1 else wire / scale
