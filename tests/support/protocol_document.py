"""docs/protocol.md as tests read it: its sections and tables."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")

Row = tuple[str, ...]
Table = list[Row]


def _without_fences(text: str) -> str:
    """The text with every character of fenced blocks blotted out: they hold no headings."""
    blot = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
    return blot.sub(lambda found: re.sub(r"[^\n]", "~", found[0]), text)


_HEADED = _without_fences(DOCUMENT)


def section(heading: str) -> str:
    """The text below the one heading that begins so, up to the next of the same or higher rank."""
    found = list(re.finditer(rf"^(#+) {re.escape(heading)}.*$", _HEADED, re.MULTILINE))
    assert len(found) == 1, f"{len(found)} headings begin with {heading!r}"
    rank, start = len(found[0][1]), found[0].end()
    stop = re.compile(rf"^#{{1,{rank}}} ", re.MULTILINE).search(_HEADED, start)
    return DOCUMENT[start : stop.start() if stop else None]


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


def worked_values(appendix: str) -> dict[str, bytes]:
    """The values of an appendix by name; a line without a name continues the one above."""
    found: dict[str, bytes] = {}
    name = ""
    for block in re.findall(r"^```values\n(.*?)^```", section(appendix), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            *named, digits = line.split()
            if named:
                (name,) = named
                assert name not in found, f"{name} stands twice"
                found[name] = b""
            found[name] += bytes.fromhex(digits)
    return found


def prose(appendix: str) -> str:
    """An appendix without its values and tables."""
    text = re.sub(r"^```values\n.*?^```", "", section(appendix), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))
