"""What one field of a layout is, and how it is declared (docs/protocol.md, section 6).

`codec` compiles these into layouts; import from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asys.protocol.codec import Layout


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """What one field is on the wire and to a reader.

    `kind` is u8, u16, u32, u64, bytes, text, slots or rows; `place` says where it travels: in the
    payload or as P1 or P2 of the header. The value on the wire is the value times `scale`; `absent`
    is the wire value that means None; `reserved` counts zero bytes behind the field. `least` and
    `most` bound a number as it is on the wire, or the length of a text, in bytes, or how many rows
    there are, or how many bytes where they have no fixed `size`. `convert` makes a value of plain
    bytes; `counted` is how many bytes in front of a text say its length, 0 where none do.
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
    counted: int = 0
    boolean: bool = False
    """Its value is true or false: bit 0. The other bits are sent as 0 and ignored."""
    optional: bool = False
    """A number at the end of the payload that is left out when it is 0."""
    only_with: tuple[str, int] | None = None
    """An optional one may be there only when that field has that value."""

    @property
    def open_ended(self) -> bool:
        """Whether it takes the rest of the payload, whatever its length, or may be left out."""
        rest = self.kind in ("text", "rows") or (self.kind == "bytes" and self.most > 0)
        return rest or self.optional


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


def rest(doc: str, *, most: int, least: int = 0) -> Field:
    """Bytes as they are, `least` to `most`, to the end of the payload; else it is a WrongSize."""
    return Field("bytes", doc, least=least, most=most)


def text(
    doc: str, *, least: int, most: int, pattern: str, refuse: str = "", counted: bool = False
) -> Field:
    """ASCII text that fills the rest of the payload, `least` to `most` bytes long.

    Shorter is a WrongSize; longer, or not matching `pattern`, or matching `refuse`, a BadValue.
    `counted`: a u8 in front says how long it is; saying something else is a WrongSize.
    """
    return Field(
        "text", doc, least=least, most=most, pattern=pattern, refuse=refuse, counted=int(counted)
    )


def long_text(doc: str, most: int, convert: Conversion) -> Field:
    """Text that fills the rest of the payload behind its length, a u16: any bytes, at most `most`.

    Longer is a WrongSize. What the bytes mean is `convert`'s.
    """
    return Field("text", doc, most=most, convert=convert, counted=2)


def padded(doc: str, size: int) -> Field:
    """UTF-8 text in `size` bytes, filled up with zero bytes.

    What is too long is cut behind a whole character; what UTF-8 cannot carry travels as `?`.
    """
    return Field("bytes", doc, size=size, convert=padded_text(size))


def padded_text(size: int) -> Conversion:
    """What `padded` makes of its bytes."""

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
