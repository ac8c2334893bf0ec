"""docs/audit.md, section 12, says what the shipper does."""

from __future__ import annotations

import re
from pathlib import Path

from asys.node.audit.log import LATE_SECONDS
from asys.node.audit.shadow.pinned import FILE_NAME
from asys.node.audit.shadow.road import (
    ANSWER_SECONDS,
    FIRST_PAUSE,
    LAST_SECONDS,
    LONGEST_PAUSE,
)
from asys.node.audit.shadow.strict import ALWAYS, BY_OPTION, PATIENCE

DOCS = Path(__file__).resolve().parents[4] / "docs"
SECTION = (
    (DOCS / "audit.md")
    .read_text()
    .partition("\n## 12 From a node to its collector\n")[2]
    .partition("\n## ")[0]
)
WORDS = " ".join(SECTION.split())


def codes(written: str) -> set[int]:
    """The codes in words such as "60-6F or C0-FF"."""
    found: set[int] = set()
    for first, last in re.findall("([0-9A-F]{2})-([0-9A-F]{2})", written):
        found |= set(range(int(first, 16), int(last, 16) + 1))
    return found


def test_which_codes_wait() -> None:
    always, by_option = WORDS.split("**Strict.**")[1].split("--audit-strict", 1)
    assert codes(always) == ALWAYS
    assert codes(by_option.partition(".")[0]) == BY_OPTION
    assert f"It has {PATIENCE * 1000:.0f} ms for it" in WORDS
    protocol = " ".join((DOCS / "protocol.md").read_text().split())
    wait = protocol.partition("has not acknowledged within 500 ms. ")[2].partition(" wait for that")
    assert codes(wait[0]) == ALWAYS
    assert codes(wait[2].partition(" too.")[0]) == BY_OPTION


def test_how_long_things_take() -> None:
    assert f"what is left for {LAST_SECONDS:g} s at most" in WORDS
    assert f"after {FIRST_PAUSE:g} s, then after more, up to {LONGEST_PAUSE:g} s" in WORDS
    assert f"does not answer for {ANSWER_SECONDS:g} s is left" in WORDS
    assert f"has not acknowledged is {LATE_SECONDS:g} s old" in WORDS


def test_the_file_of_keys() -> None:
    assert f"`{FILE_NAME}`" in WORDS
    assert f"`{FILE_NAME}`" in (DOCS / "protocol.md").read_text()
