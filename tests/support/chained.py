"""Instructions that may come in fragments, for tests: none that is built in may.

In a process of its own, asyd has them with `prelude` in front of its program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from asys.isa import REGISTRY, Guide, Instruction, Level, Risk
from asys.node import dispatch
from asys.protocol.codec import Layout, layout, p1, p2, raw, rest, u32
from asys.protocol.limits import MAX_CHAIN

if TYPE_CHECKING:
    from asys.node.session import Session

GUIDE: Final = Guide("A test.", "In tests.", "Elsewhere.", "None.", "Nothing.", Risk.NONE)


@layout
class Body(Layout):
    """Any bytes, at least one, with both parameters."""

    body: Annotated[bytes, rest("any bytes", least=1, most=MAX_CHAIN)]
    one: Annotated[int, p1("any number", most=9)] = 0
    two: Annotated[int, p2("any number")] = 0


@layout
class Seen(Layout):
    """What a node has seen of a Body."""

    size: Annotated[int, u32("bytes")]
    digest: Annotated[bytes, raw("BLAKE2b of the body, cut", 16)]
    marks: Annotated[bytes, raw("P1 and P2", 2)]


CHAINED: Final = Instruction(
    0x58, "TEST_CHAINED", request=Body, reply=Seen, level=Level.SIGNED, chainable=True, guide=GUIDE
)
SEALED: Final = Instruction(
    0x59, "TEST_SEALED", request=Body, reply=Seen, level=Level.ENC_SIGN, chainable=True, guide=GUIDE
)
PLAIN: Final = Instruction(
    0x1E, "TEST_PLAIN", request=Body, reply=Seen, chainable=True, guide=GUIDE
)

ALL: Final = (PLAIN, CHAINED, SEALED)


def seen(body: bytes, one: int = 0, two: int = 0) -> Seen:
    """What a node answers."""
    return Seen(len(body), hashlib.blake2b(body).digest()[:16], bytes((one, two)))


def _see(_session: Session, request: Body) -> Seen:
    return seen(request.body, request.one, request.two)


@contextmanager
def declared() -> Iterator[None]:
    """They are part of the instruction set, with their handlers, until the end of the block."""
    register()
    try:
        yield
    finally:
        for one in ALL:
            REGISTRY._by_code.pop(one.code)
            REGISTRY._by_name.pop(one.name)
            dispatch._HANDLERS.pop(one.code)


def register() -> None:
    """Makes them part of the instruction set of this process."""
    REGISTRY.add(*ALL)
    for one in ALL:
        dispatch.handles(one)(_see)


PRELUDE: Final = (
    f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); "
    "from support import chained; chained.register(); "
)
"""In front of a program: its process has them."""
