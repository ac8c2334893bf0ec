"""An instruction that a coming version of asyd has: DISK_TREND, 4A, in diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asys.isa import REGISTRY, SYS_HELLO, Empty, Instruction, Level
from asys.isa.definition import AnyInstruction, Registry

CODE: Final = 0x4A
NAME: Final = "DISK_TREND"

DISK_TREND: AnyInstruction = Instruction(
    CODE,
    NAME,
    since="99.0",
    request=Empty,
    reply=Empty,
    level=Level.SIGNED,
    guide=SYS_HELLO.guide,
)

PRELUDE: Final = (
    "from asys.isa import REGISTRY, SYS_HELLO, Empty, Instruction, Level; "
    "from asys.node.dispatch import handles; "
    f"planted = Instruction({CODE}, {NAME!r}, since='99.0', request=Empty, reply=Empty, "
    "level=Level.SIGNED, guide=SYS_HELLO.guide); "
    "REGISTRY.add(planted); handles(planted)(lambda session, request: None); "
)
"""Makes of an asyd the coming version."""


def coming() -> Registry:
    """The instruction set of the coming version."""
    registry = Registry()
    registry.add(*REGISTRY, DISK_TREND)
    return registry


@contextmanager
def upgraded() -> Iterator[None]:
    """This process is the coming version while the block lasts."""
    registry = coming()
    were = REGISTRY._by_code, REGISTRY._by_name
    REGISTRY._by_code, REGISTRY._by_name = registry._by_code, registry._by_name
    try:
        yield
    finally:
        REGISTRY._by_code, REGISTRY._by_name = were
