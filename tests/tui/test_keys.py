"""Suspending and resuming from the view: what is asked first, and what is never sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asys.cli.top_commands import still_suspended
from asys.tui.watcher import State
from support.top import Played, Top, played, shown, target_of
from support.wire_node import WireNode

PID = 4711
THROTTLE = 0x20
PROCS = 0x03
TREE = 0x42


@asynccontextmanager
async def view(
    answers: Played, lit: str = "core,process,diagnostics"
) -> AsyncIterator[tuple[Top, WireNode]]:
    """The view of a played node that has been looked at."""
    async with played(answers, lit) as node, shown(target_of(node, "web-1")) as top:
        await top.until(lambda: top.app.watcher.rounds > 1)
        yield top, node


async def asked(top: Top, key: str = "s") -> None:
    """Presses the key, and waits for the question."""
    await top.press(key)
    await top.until_shown("Cancel (n)")


async def test_yes_suspends_and_the_other_key_resumes() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await asked(top)
        await top.press("y")
        await top.until_shown("9000 done")
        assert answers.throttled == [(PID, 0)]
        assert "suspended" in top.screen
        [line] = still_suspended(top.app.watchers)
        assert "asys resume web-1 4711" in line

        await asked(top, "r")
        assert "Let this process go on?" in top.screen
        await top.press("y")
        await top.until_shown("resume 4711")
        assert answers.throttled == [(PID, 0), (PID, 1)]
        await top.until(lambda: not top.app.watcher.held)
        assert still_suspended(top.app.watchers) == []


@pytest.mark.parametrize("key", ["n", "escape", "q", "enter"])
async def test_anything_but_yes_sends_nothing(key: str) -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await asked(top)
        await top.press(key)
        await top.until_shown("nothing was done")
        await top.rounds(1)
        assert answers.throttled == []
        assert top.app.watcher.held == ()


async def test_the_button_says_yes() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await asked(top)
        await top.press("tab", "enter")
        await top.until_shown("9000 done")
        assert answers.throttled == [(PID, 0)]


async def test_no_process_is_looked_at_anew_while_the_question_stands() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await asked(top)
        before = answers.requests.count(PROCS)
        await top.rounds(2)
        assert answers.requests.count(PROCS) == before
        await top.press("n")
        await top.until(lambda: answers.requests.count(PROCS) > before)


async def test_keys_that_are_not_granted_are_greyed_out_and_do_nothing() -> None:
    answers = Played()
    async with view(answers, "core,diagnostics") as (top, _):
        assert not top.offers("s")
        assert not top.offers("r")
        assert top.offers("q")
        await top.press("s", "r")
        await top.rounds(1)
        assert "Cancel (n)" not in top.screen
    assert answers.throttled == []


async def test_keys_are_offered_once_the_node_grants_it() -> None:
    async with view(Played()) as (top, _):
        await top.until(lambda: top.offers("s"))


@pytest.mark.parametrize(
    ("word", "said"), [(b"\x69\x82", "6982"), (b"\x64\x00", "6400"), (b"\x6f\x02", "6F02")]
)
async def test_a_refusal_is_a_line_in_the_view(word: bytes, said: str) -> None:
    answers = Played()
    answers.refusals[THROTTLE] = word
    async with view(answers) as (top, _):
        await asked(top)
        await top.press("y")
        await top.until_shown(f"PROC_THROTTLE: {said}")
        assert top.app.watcher.held == ()
        assert top.offers("s")


async def test_after_6a81_the_keys_are_dark() -> None:
    answers = Played()
    answers.refusals[THROTTLE] = b"\x6a\x81"
    async with view(answers) as (top, _):
        await asked(top)
        await top.press("y")
        await top.until_shown("6A81")
        await top.until(lambda: not top.offers("s"))
        answers.refusals.clear()
        await top.press("t")  # asks for the map anew
        await top.until(lambda: top.offers("s"))


async def test_an_unknown_outcome_is_neither_yes_nor_no() -> None:
    answers = Played()
    async with view(answers) as (top, node):
        answers.on_throttle = lambda: node.peers[-1].abort()
        await asked(top)
        await top.press("y")
        await top.until_shown("whether it was done is not known")
        await top.until(lambda: top.app.watcher.state is State.LIVE)
        await top.until_shown("suspended?")
        assert len(answers.throttled) == 1
        assert "as far as is known" in still_suspended(top.app.watchers)[0]


async def test_yes_holds_for_the_connection_on_which_the_process_was_shown() -> None:
    answers = Played()
    async with view(answers) as (top, node):
        await asked(top)
        node.peers[-1].abort()
        await top.until(lambda: len(node.peers) > 1 and top.app.watcher.state is State.LIVE)
        await top.press("y")
        await top.until_shown("nothing was sent, look again")
        assert answers.throttled == []


async def test_a_process_that_has_gone_is_not_asked_about() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await top.until_shown("report-builder")
        answers.gone.add(PID)
        await top.press("s")
        await top.until_shown("is not there any more")
    assert answers.throttled == []


async def test_a_pid_that_means_another_process_by_now_is_not_asked_about() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await top.until_shown("report-builder")
        answers.names[PID] = "sshd"
        await top.press("s")
        await top.until_shown("is not there any more")
    assert answers.throttled == []


async def test_nothing_that_a_process_calls_itself_is_markup_or_control() -> None:
    answers = Played({PID: "[red]a[/]\x1b[2J", 812: "\u202egpj.exe"})
    async with view(answers) as (top, _):
        await top.until_shown(r"[red]a[/]\x1b[2J")
        await top.until_shown(r"\u202egpj.exe")
        await asked(top)
        assert "\x1b" not in top.svg
        assert r"Name        [red]a[/]\x1b[2J" in top.screen
        await top.press("y")
        await top.until_shown(r"suspend 4711 [red]a[/]\x1b[2J")


async def test_the_cursor_stays_with_its_process() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await top.select(812)
        await top.rounds(2)
        await asked(top)
        await top.press("y")
        await top.until_shown("9000 done")
        assert answers.throttled == [(812, 0)]


async def test_what_cannot_be_looked_up_again_is_asked_about_all_the_same() -> None:
    answers = Played()
    async with view(answers) as (top, _):
        await top.until_shown("report-builder")
        answers.refusals[TREE] = b"\x64\x00"
        await asked(top)
        assert "Name        report-builder" in top.screen
        await top.press("y")
        await top.until_shown("9000 done")
        assert answers.throttled == [(PID, 0)]


async def test_a_process_that_ends_before_it_is_let_go() -> None:
    answers = Played()
    async with view(answers, "core,process") as (top, _):
        await asked(top)
        await top.press("y")
        await top.until_shown("9000 done")
        answers.refusals[THROTTLE] = b"\x6a\x80"
        await asked(top, "r")
        await top.press("y")
        await top.until_shown("PROC_THROTTLE: 6A80")
        assert top.app.watcher.held == ()


async def test_where_no_process_is_shown_none_is_suspended() -> None:
    answers = Played()
    async with view(answers, "SYS_CAPS,SYS_HELLO,SYS_STATUS,PROC_THROTTLE") as (top, _):
        await top.press("s")
        await top.until(lambda: top.app.said == "no process is selected")
    assert answers.throttled == []


async def test_ctrl_c_quits() -> None:
    async with view(Played()) as (top, _):
        await top.press("ctrl+c")
        await top.until(lambda: not top.app.is_running)
