"""Pages of the documentation as programs: their code blocks, in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

DOCS: Final = Path(__file__).parents[2] / "docs"

_BLOCK: Final = re.compile(r"^```(?P<language>[a-z]\w*)\n(?P<text>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block: the word behind its fence, and its text; `line` is that of the fence."""

    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """All blocks of a page below docs/ that name a language."""
    text = (DOCS / page).read_text("utf-8")
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start()) + 1)
        for found in _BLOCK.finditer(text)
    ]


def pages_with(language: str) -> set[str]:
    """Every page that has a block in a language, by its path below docs/."""
    names = (page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    return {name for name in names if any(one.language == language for one in blocks(name))}
