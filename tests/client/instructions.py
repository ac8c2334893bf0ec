"""Declarations that only tests have."""

from __future__ import annotations

from typing import Annotated, Final

from asys.isa import Empty, Guide, Instruction, Level, Risk
from asys.protocol.codec import Layout, layout, raw, u32
from asys.protocol.limits import MAX_DATA

GUIDE: Final = Guide("A test.", "In tests.", "Elsewhere.", "None.", "Nothing.", Risk.NONE)


@layout
class Long(Layout):
    """One byte more than a standard signed frame carries."""

    body: Annotated[bytes, raw("bytes", 252)]


@layout
class Large(Layout):
    """Enough to fill buffers."""

    body: Annotated[bytes, raw("bytes", 60_000)]


@layout
class Huge(Layout):
    """One byte more than any frame carries."""

    body: Annotated[bytes, raw("bytes", MAX_DATA + 1)]


LONG: Final = Instruction(0x2E, "LONG", request=Long, reply=Empty, level=Level.SIGNED, guide=GUIDE)
LARGE: Final = Instruction(0x0D, "LARGE", request=Large, reply=Empty, guide=GUIDE)


@layout
class Number(Layout):
    """What tells one request and its answer from others."""

    number: Annotated[int, u32("any number")]


@layout
class Sealed(Layout):
    """One byte more than a standard frame carries that is encrypted and signed."""

    body: Annotated[bytes, raw("bytes", 236)]


@layout
class SealedHuge(Layout):
    """One byte more than any frame carries that is encrypted and signed."""

    body: Annotated[bytes, raw("bytes", MAX_DATA - 4 - 16 + 1)]


ECHO: Final = Instruction(0x0C, "ECHO", request=Number, reply=Number, guide=GUIDE)
SIGNED_ECHO: Final = Instruction(
    0x2C, "SIGNED_ECHO", request=Number, reply=Number, level=Level.SIGNED, guide=GUIDE
)
SEALED_ECHO: Final = Instruction(
    0x6C, "SEALED_ECHO", request=Number, reply=Number, level=Level.ENC_SIGN, guide=GUIDE
)
SEALED: Final = Instruction(
    0x6D, "SEALED", request=Sealed, reply=Empty, level=Level.ENC_SIGN, guide=GUIDE
)
SEALED_HUGE: Final = Instruction(
    0x6F, "SEALED_HUGE", request=SealedHuge, reply=Empty, level=Level.ENC_SIGN, guide=GUIDE
)
HUGE: Final = Instruction(0x0E, "HUGE", request=Huge, reply=Empty, guide=GUIDE)
SECRET: Final = Instruction(
    0x6E, "SECRET", request=Empty, reply=Empty, level=Level.ENC_SIGN, guide=GUIDE
)
