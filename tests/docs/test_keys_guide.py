"""docs/guides/keys.md: its commands run as they stand, on a real asyd, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import Block, blocks
from support.stage import play

PAGE = "guides/keys.md"
TEXT = (Path(__file__).parents[2] / "docs" / PAGE).read_text("utf-8")

BEFORE = """
asys keygen >/dev/null
asyd agents add "$(cat ~/.asys/id_curve25519.pub)" --label web-agent
asyd pubkey >first
for host in node.example.org 127.0.0.1; do asys trust "$host" --stdin <first; done
"""

SERVE = Block("sh", "asyd --listen 127.0.0.1\n", 0)

MOVED = Block("sh", "asys sys-hello 127.0.0.1\nasys sys-hello 127.0.0.1\nasyd key status\n", 1)
"""An agent connects twice, in the overlap."""

CONFIG = "/mnt/home/.config/asyd"


@pytest.mark.root
def test_the_commands_of_the_page() -> None:
    page = blocks(PAGE)
    assert {block.language for block in page} == {"sh"}
    rotate = next(at for at, one in enumerate(page) if "key rotate --overlap 30d" in one.text) + 1
    steps = [SERVE, *page[:rotate], MOVED, *page[rotate:]]
    said = play(
        steps, before=BEFORE, CONFIG=CONFIG, AUDIT=f"{CONFIG}/state/audit", NEW="/mnt/home/new"
    )
    lines = {block.line: block.text for block in page}

    def answer_to(text: str) -> str:
        (found,) = (said[line] for line, block in lines.items() if text in block)
        return found

    assert "next key: " in answer_to("--overlap 30d")
    assert "1 of 1 agents have the old key only" in answer_to("--overlap 30d")
    assert "the next key" in said[1]
    assert "0 of 1 agents have the old key only" in said[1]
    finished = answer_to("asyd key finish")
    assert "erased: " in finished
    new = finished.splitlines()[-1]
    shown = answer_to("asys audit show --all")
    assert "the node has a next key: " in shown
    assert f"the node's next key has taken over: {new}" in shown
    assert new in answer_to("asys trust --statement")
    assert len(said) == len(page) + 2
    removed = answer_to("asyd agents remove web-agent-2")
    assert "removed: " in removed


def test_options_in_the_text_are_there() -> None:
    """What the page names beside its blocks."""
    for named in ("asyd dark", "asyd throttled list", "asyd isolations list", "`node.next_key`"):
        assert named in TEXT
