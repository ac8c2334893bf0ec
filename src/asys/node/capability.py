"""Capability maps: which instructions exist for an agent (docs/protocol.md, section 8).

A map is an int of 256 bits, bit = INS. It is written as a comma list of instruction names, hex
codes, group names, `core` and `all`.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Final

from asys.isa import REGISTRY, Group


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


_REKEY: Final = 0x13
_CODE: Final = re.compile(r"[0-9A-Fa-f]{2}")

CORE: Final = bits([0x00, 0x01, 0x02, 0x03, 0x11, _REKEY])
"""What an agent gets that the file grants nothing: the Core ISA, TASK_QUERY and REKEY."""

ALL: Final = bits(range(0x90)) & ~bits([0x60, 0x61, 0x62])
"""Every standard instruction but those that hand on rights."""

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


def _parse_word(word: str) -> int:
    if word in SETS:
        return SETS[word]
    # Upper case of some letters beyond ASCII is an ASCII letter.
    instruction = REGISTRY.named(word) if word.isascii() else None
    if instruction is not None:
        return 1 << instruction.code
    if _CODE.fullmatch(word):
        return 1 << int(word, 16)
    known = ", ".join([*SETS, *(one.name for one in REGISTRY)])
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
            instruction = REGISTRY.get(code)
            parts.append(instruction.name if instruction else f"{code:02X}")
    return ",".join(parts)
