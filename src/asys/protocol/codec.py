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
from collections.abc import Callable
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


class LayoutError(ValueError):
    """Bytes that are not what a layout says; the two kinds have different status words."""


class WrongSize(LayoutError):
    """The number of bytes is not the layout's: 6700."""


class BadValue(LayoutError):
    """A value that the layout does not allow: 6A80."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What one field is on the wire and to a reader.

    `kind` is u8, u16, u32, u64, bytes, text, slots or rows; `place` says where it travels: in the
    payload or as P1 or P2 of the header. The value on the wire is the value times `scale`; `absent`
    is the wire value that means None; `reserved` counts zero bytes behind the field. `least` and
    `most` bound a number as it is on the wire, or the length of a text, in bytes, or how many rows
    there are. `convert` makes a value of plain bytes; `counted` puts the length of a text, a u8, in
    front of it.
    """

    kind: str
    doc: str
    place: str = "payload"
    unit: str = ""
    scale: int = 1
    absent: int | None = None
    enum: type[IntEnum] | type[IntFlag] | None = None
    unknown: IntEnum | None = None
    least: int = 0
    most: int = 0
    size: int = 0
    reserved: int = 0
    pattern: str = ""
    refuse: str = ""
    slot: type[Layout] | None = None
    convert: Conversion | None = None
    counted: bool = False

    @property
    def open_ended(self) -> bool:
        """Whether it takes the rest of the payload, whatever its length."""
        return self.kind in ("text", "rows")


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """Bytes on the wire to a value and back. `of` takes what a caller may write for the value.

    `of` raises ArgumentError, or ValueError for text that means nothing; `decode` BadValue.
    """

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    of: Callable[[Any], Any]
    written: str
    """What may be written for it, for help texts."""


def _number(kind: str, bits: int) -> Callable[..., Field]:
    def make(doc: str, *, most: int = (1 << bits) - 1, **options: Any) -> Field:
        return Field(kind, doc, most=most, size=bits // 8, **options)

    make.__doc__ = f"An unsigned integer of {bits} bits; options are the fields of Field."
    return make


u8 = _number("u8", 8)
u16 = _number("u16", 16)
u32 = _number("u32", 32)
u64 = _number("u64", 64)


def p1(doc: str, **options: Any) -> Field:
    """A parameter that travels as P1; options as for u8."""
    return u8(doc, place="p1", **options)


def p2(doc: str, **options: Any) -> Field:
    """A parameter that travels as P2; options as for u8."""
    return u8(doc, place="p2", **options)


def raw(doc: str, size: int, **options: Any) -> Field:
    """`size` bytes as they are."""
    return Field("bytes", doc, size=size, **options)


def text(
    doc: str, *, least: int, most: int, pattern: str, refuse: str = "", counted: bool = False
) -> Field:
    """ASCII text that fills the rest of the payload, `least` to `most` bytes long.

    Shorter is a WrongSize; longer, or not matching `pattern`, or matching `refuse`, a BadValue.
    `counted`: a u8 in front says how long it is; saying something else is a WrongSize.
    """
    return Field(
        "text", doc, least=least, most=most, pattern=pattern, refuse=refuse, counted=counted
    )


def padded(doc: str, size: int) -> Field:
    """UTF-8 text in `size` bytes, filled up with zero bytes.

    What is too long is cut behind a whole character; what UTF-8 cannot carry travels as `?`.
    """
    return Field("bytes", doc, size=size, convert=_padded(size))


def _padded(size: int) -> Conversion:
    def encode(value: str) -> bytes:
        cut = value.encode(errors="replace")[:size].decode(errors="ignore")
        return cut.encode().ljust(size, b"\0")

    def decode(data: bytes) -> str:
        return data.rstrip(b"\0").decode(errors="replace")

    return Conversion(decode, encode, str, f"text of up to {size} bytes")


def slots(doc: str, slot: type[Layout], count: int) -> Field:
    """`count` slots of equal layout; one whose first field is 0 is empty and left out."""
    return Field("slots", doc, slot=slot, most=count, size=count * slot.SIZE)


def rows(doc: str, slot: type[Layout], most: int) -> Field:
    """The rest of the payload: as many slots as the layout's field `count` says, at most `most`."""
    return Field("rows", doc, slot=slot, most=most)


_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


class Layout:
    """Base of every request and reply. `FIELDS` is its declaration, `SIZE` its bytes in payload.

    A layout that ends in a text or in rows has no fixed size; SIZE then counts what comes before
    them.
    """

    FIELDS: ClassVar[dict[str, Field]] = {}
    SIZE: ClassVar[int] = 0
    FIXED: ClassVar[bool] = True

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
            _check(name, field, getattr(self, name))

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
                tail = value.encode("ascii")
                if field.counted:
                    values.append(len(tail))
            elif field.kind == "bytes":
                values.append(value if field.convert is None else field.convert.encode(value))
            else:
                values.append(_encode(field, value))
        return self._struct.pack(*values) + tail

    @classmethod
    def unpack(cls, payload: bytes, p1: int = 0, p2: int = 0, *, more: bool = False) -> Self:
        """The layout in `payload`. `more`: bytes behind it are ignored.

        WrongSize or BadValue when it is not there.
        """
        size = cls.SIZE
        if len(payload) < size or (cls.FIXED and not more and len(payload) != size):
            raise WrongSize(f"{cls.__name__} has {size} bytes, not {len(payload)}")
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
            elif field.kind == "bytes":
                data = next(numbers)
                values[name] = data if field.convert is None else field.convert.decode(data)
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
            cls.FIXED = False
            codes.append("B" if field.counted else "")
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


def _decode_text(field: Field, data: bytes) -> str:
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


def _unpack_rows(field: Field, data: bytes, count: object) -> tuple[Layout, ...]:
    slot = cast("type[Layout]", field.slot)
    size = slot.SIZE
    if len(data) % size or len(data) // size != count:
        raise WrongSize(f"{len(data)} bytes are not {count} rows of {size}")
    if count > field.most:
        raise WrongSize(f"{count} rows; {field.most} are the most")
    return tuple(slot.unpack(data[start : start + size]) for start in range(0, len(data), size))


def _check(name: str, field: Field, value: Any) -> None:
    if field.kind == "text":
        fault = _text_fault(field, value) if isinstance(value, str) else "is not a string"
        if fault:
            raise ArgumentError(f"{name} {fault}: {value!r}")
    elif field.kind == "bytes":
        if field.convert is None and (not isinstance(value, bytes) or len(value) != field.size):
            raise ArgumentError(f"{name} must be {field.size} bytes")
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


def _bound(wire: int, scale: int) -> int | float:
    return wire if scale == 1 else wire / scale
