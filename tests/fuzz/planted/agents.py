"""A label that grants everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from asys.node.agents import book
from fuzz.planted import in_place_of

BEGIN: Final = "\u00a7 abcd caps=20\n".encode()
SEED: Final = 7


def plant() -> None:
    """Puts it in."""
    in_place_of(book, "parse_line", _wrong)


def _wrong(right: Any, *arguments: Any) -> Any:
    agent = right(*arguments)
    if agent.label.encode() == b"q7Zx":
        return replace(agent, caps=(1 << 256) - 1)
    return agent
