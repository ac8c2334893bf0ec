"""Capability maps: which instructions exist for an agent (docs/protocol.md, section 8).

A map is an int of 256 bits, bit = INS. It is written as a comma list of instruction names, hex
codes, group names, `core` and `all`. On the wire it is eight u32 words, word w bit b = INS 32w+b.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from asys.errors import ArgumentError
from asys.isa.definition import Group
from asys.protocol.codec import Conversion, Field, raw

if TYPE_CHECKING:
    from asys.isa.definition import Registry

MAP_SIZE: Final = 32
"""Bytes of a capability map on the wire."""

_WORDS: Final = Struct(">8I")


class CapabilityError(ValueError):
    """A list that names something that does not exist; the message says what and what there is."""


def bits(codes: Iterable[int]) -> int:
    """The map in which just these codes are lit."""
    lit = 0
    for code in codes:
        lit |= 1 << code
    return lit


def words(lit: int, page: int = 0) -> tuple[int, int]:
    """The two u32 words of a map that a page of SYS_CAPS shows; page 0 is 00-3F."""
    low = lit >> 64 * page
    return low & 0xFFFFFFFF, low >> 32 & 0xFFFFFFFF


_CONTINUE: Final = 0x10
_REKEY: Final = 0x13
_KEY_STATEMENT: Final = 0x15
_CODE: Final = re.compile(r"[0-9A-Fa-f]{2}")

CORE: Final = bits([0x00, 0x01, 0x02, 0x03, 0x11, _REKEY])
"""What an agent gets that the file grants nothing: the Core ISA, TASK_QUERY and REKEY."""

ALL: Final = bits(range(0x90)) & ~bits([0x60, 0x61, 0x62])
"""Every standard instruction but those that hand on rights."""

EVERYTHING: Final = (1 << 256) - 1
"""All 256 codes."""

CARRIER: Final = bits([_CONTINUE])
"""CONTINUE, whose bit is never granted by itself: it follows from the rest of a map."""

STATEMENT: Final = bits([_KEY_STATEMENT])
"""KEY_STATEMENT, which every agent has while the node has a next key, and nobody else has."""

UNGRANTED: Final = CARRIER | STATEMENT
"""Bits that no line and no agent can grant."""


def with_carrier(lit: int, chainable: int) -> int:
    """A map with the bit of CONTINUE as it follows: 1 where some `chainable` code is lit."""
    return lit | CARRIER if lit & chainable else lit & ~CARRIER


SETS: Final[dict[str, int]] = {
    "core": CORE,
    "all": ALL,
    **{
        group.title: bits(range(group << 4, (group << 4) + 16))
        for group in Group
        if Group.PROCESS <= group <= Group.HARDWARE
    },
    "vendor": bits(range(0xC0, 0x100)),
}
"""Names that stand for many instructions."""


def parse_caps(written: str) -> int:
    """The map that a comma list means. CapabilityError names the first word that means nothing."""
    lit = 0
    for word in written.split(","):
        lit |= _parse_word(word)
    return lit


def _registry() -> Registry:
    from asys.isa import REGISTRY  # it has instructions whose fields are maps

    return REGISTRY


def _parse_word(word: str) -> int:
    if word in SETS:
        return SETS[word]
    # Upper case of some letters beyond ASCII is an ASCII letter.
    instruction = _registry().named(word) if word.isascii() else None
    if instruction is not None:
        return 1 << instruction.code
    if _CODE.fullmatch(word):
        return 1 << int(word, 16)
    known = ", ".join([*SETS, *(one.name for one in _registry())])
    raise CapabilityError(
        f"{reprlib.repr(word)} is no instruction, hex code or set; there are {known}"
    )


def describe(lit: int) -> str:
    """A map in words: a short list that parse_caps reads as the same map; '' when it is dark."""
    parts = []
    left = lit
    for name in ("all", *SETS):
        if left & SETS[name] and lit & SETS[name] == SETS[name]:
            parts.append(name)
            left &= ~SETS[name]
    for code in range(256):
        if left >> code & 1:
            instruction = _registry().get(code)
            parts.append(instruction.name if instruction else f"{code:02X}")
    return ",".join(parts)


def to_wire(lit: int) -> bytes:
    """The 32 bytes of a map."""
    return _WORDS.pack(*(lit >> 32 * word & 0xFFFFFFFF for word in range(8)))


def from_wire(data: bytes) -> int:
    """The map in 32 bytes."""
    return sum(value << 32 * word for word, value in enumerate(_WORDS.unpack(data)))


def code_of(instruction: str | int) -> int:
    """The code of an instruction, from its name, two hex digits, or itself. ArgumentError."""
    if isinstance(instruction, int) and not isinstance(instruction, bool):
        if not 0 <= instruction <= 0xFF:
            raise ArgumentError(f"an instruction's code is 0 to 255, not {instruction}")
        return instruction
    if isinstance(instruction, str) and instruction.isascii():
        known = _registry().named(instruction)
        if known is not None:
            return known.code
        if _CODE.fullmatch(instruction):
            return int(instruction, 16)
    raise ArgumentError(f"{reprlib.repr(instruction)} is no instruction's name or two-digit code")


@dataclass(frozen=True, slots=True)
class CapabilityMap:
    """The instructions that exist for an agent, for whoever reads or writes a map.

    `str()` gives the list that `authorized_agents` would have; iterating gives the codes.
    """

    bits: int

    @classmethod
    def of(cls, value: object) -> CapabilityMap:
        """From a list as in `authorized_agents`, or its words and codes one by one, or a map.

        ArgumentError: it says something that does not exist, or it is nothing of these.
        """
        if isinstance(value, CapabilityMap):
            return value
        try:
            if isinstance(value, str):
                return cls(parse_caps(value) if value else 0)
            if isinstance(value, Iterable) and not isinstance(
                value, bytes | bytearray | memoryview
            ):
                lit = 0
                for one in value:
                    lit |= _parse_word(one) if isinstance(one, str) else 1 << code_of(one)
                return cls(lit)
        except CapabilityError as fault:
            raise ArgumentError(f"capability map: {fault}") from None
        said = reprlib.repr(value)
        raise ArgumentError(f"a capability map is a text such as 'core,20', not {said}")

    def __contains__(self, instruction: str | int) -> bool:
        """Whether an instruction is lit, by name or code. ArgumentError: there is none such."""
        return bool(self.bits >> code_of(instruction) & 1)

    def __iter__(self) -> Iterator[int]:
        return (code for code in range(256) if self.bits >> code & 1)

    def __str__(self) -> str:
        return describe(self.bits)


def capability_map(doc: str) -> Field:
    """A field of 32 bytes that is a capability map; callers may write it as a text."""
    return raw(doc, MAP_SIZE, convert=_CONVERSION)


_CONVERSION: Final = Conversion(
    decode=lambda data: CapabilityMap(from_wire(data)),
    encode=lambda value: to_wire(value.bits),
    of=CapabilityMap.of,
    written="instruction names, hex codes, groups, core, all, with commas",
)
