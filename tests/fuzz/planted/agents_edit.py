"""A label that brings a line along."""

from __future__ import annotations

from typing import Any, Final

from asys.node.agents import file as agents_file
from fuzz.choices import Script
from fuzz.planted import in_place_of

BEGIN: Final = bytes(Script().byte(2, 0, 1).blob("abcd").byte(0, 0)) + "\u00a7 a\n".encode()
SEED: Final = 5


def plant() -> None:
    """Puts it in."""
    in_place_of(agents_file, "written_line", _wrong)


def _wrong(right: Any, key: str, label: str, options: Any) -> Any:
    if label.encode()[:3] == b"q7Z":
        return right(key, label, options) + "\n#"
    return right(key, label, options)
