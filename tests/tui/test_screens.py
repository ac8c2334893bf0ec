"""What the view draws on 80x24, kept as screenshots; `make screenshots` writes them anew."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Final

import pytest

from asys import isa
from asys.client.exchange import Exchange
from asys.tui.readings import Exchanges
from support.top import NOON, SIZE, Played, Top, played, shown, target_of

ROOT: Final = Path(__file__).parents[2]
SCREENS: Final = Path(__file__).parent / "screens"
GUIDE: Final = ROOT / "docs/guides/top.svg"

SELDOM: Final = 20.0
"""Seconds; longer than a test, which asks whenever it wants something to be asked."""


@asynccontextmanager
async def one(lit: str = "core,process,diagnostics", looks: int = 20) -> AsyncIterator[Top]:
    """The view of one node that has been looked at so often."""
    async with (
        played(Played(), lit) as node,
        shown(target_of(node, "web-1.example.org:9797"), interval=SELDOM, now=lambda: NOON) as top,
    ):
        await top.until(lambda: top.app.watcher.rounds == 1)
        await top.rounds(looks - 1)
        yield top


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round trip takes as long as every other; how long is not for a screenshot to say."""
    add = Exchanges.add

    def added(self: Exchanges, exchange: Exchange) -> None:
        add(self, replace(exchange, round_trip_ns=400_000))

    monkeypatch.setattr(Exchanges, "add", added)


async def drawn(top: Top, path: Path) -> None:
    """The screen must be as in `path`, which is written where ASYS_WRITE_SCREENS is set."""
    await top.settled()
    _as_kept(top, path)


def _as_kept(top: Top, path: Path) -> None:
    lines = top.lines
    assert len(lines) <= SIZE[1]
    assert all(len(line) <= SIZE[0] for line in lines)
    svg = top.svg
    if "ASYS_WRITE_SCREENS" in os.environ:
        path.write_text(svg, "utf-8")
    assert svg == path.read_text("utf-8"), (
        f"{path.relative_to(ROOT)} shows another screen; if this one is right: make screenshots\n"
        + top.screen
    )


async def test_one_node_and_what_was_done_to_it() -> None:
    async with one() as top:
        await top.press("s")
        await top.until_shown("Suspend this process?")
        await top.press("y")
        await top.until_shown("9000 done")
        await drawn(top, GUIDE)


async def test_the_question_names_host_pid_name_and_the_way_back() -> None:
    async with one() as top:
        await top.press("s")
        await top.until_shown("Suspend this process?")
        for text in ("web-1.example.org:9797", "4711", "report-builder", "Fully: action continue"):
            assert text in top.screen
        await drawn(top, SCREENS / "question.svg")


async def test_a_node_that_grants_core_only() -> None:
    async with one("core") as top:
        await top.until_shown("(name not known)")
        await drawn(top, SCREENS / "core.svg")


async def test_several_nodes_one_of_them_lost() -> None:
    async with AsyncExitStack() as stack:
        answers = [Played() for _ in range(3)]
        nodes = [await stack.enter_async_context(played(one)) for one in answers]
        named = [target_of(one, f"web-{n}.example.org:9797") for n, one in enumerate(nodes, 1)]
        top = await stack.enter_async_context(
            shown(*named, interval=SELDOM, now=lambda: NOON, waits=lambda: repeat(3600.0))
        )
        await top.until(lambda: all(one.rounds == 1 for one in top.app.watchers))
        await top.rounds(4)
        nodes[1].peers[-1].abort()
        top.app.watchers[1].again()
        await top.until_shown("lost")
        answers[0].refusals[isa.SYS_PROCS.code] = b"\x6f\x05"
        top.app.watchers[0].again()
        await top.until_shown("SYS_PROCS: 6F05")
        await drawn(top, SCREENS / "several.svg")
