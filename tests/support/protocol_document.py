"""docs/protocol.md as tests read it: its sections and tables."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")

Row = tuple[str, ...]
Table = list[Row]


def section(heading: str) -> str:
    """The text below the one heading that begins so, up to the next of the same or a higher rank.

    Fenced blocks hold no headings.
    """
    found = re.findall(rf"^(#+) {re.escape(heading)}.*$", DOCUMENT, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} headings begin with {heading!r}"
    rank = len(found[0])
    start = re.search(rf"^#+ {re.escape(heading)}.*$", DOCUMENT, re.MULTILINE)
    assert start is not None
    rest = DOCUMENT[start.end() :]
    stop = re.search(rf"^#{{1,{rank}}} ", rest, re.MULTILINE)
    return rest[: stop.start()] if stop else rest


def tables(text: str) -> list[Table]:
    """Every table of a text, its heading row first, without the rule below that."""
    found: list[Table] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        if not set(line) <= set("|-"):
            found[-1].append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return found


def table_below(text: str, caption: str) -> Table:
    """The rows, without the heading row, of the table that follows a line of text."""
    assert text.count(caption) == 1, f"{caption!r} stands {text.count(caption)} times"
    return tables(text[text.index(caption) :])[0][1:]
