"""The last actions of an audit: followed as it grows, and text in it is only text."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from asys.audit.entries import SessionOpened
from asys.audit.reading import Action, State
from asys.tui.records import Records, deed

KEY = bytes(range(32))


def action(label: str = "boss") -> Action:
    who = SessionOpened(1, KEY, 1, 5, label, "192.0.2.1:4711")
    return Action(
        session=1,
        who=who,
        key_hash=KEY[:4],
        ins=0x20,
        cla=0,
        seq=1,
        digest=bytes(4),
        state=State.ANSWERED,
        outcome_ns=7,
        sw=0x9000,
    )


def test_an_action_in_a_line() -> None:
    found = deed(replace(action(), payload=(4711).to_bytes(4, "big")))

    assert (found.agent, found.what, found.good) == ("boss", "PROC_THROTTLE pid 4711", True)
    assert found.outcome.startswith("9000")
    assert found.time_ns == 7


@pytest.mark.parametrize(
    ("one", "said", "good"),
    [
        (replace(action(), sw=0x6982), "6982", False),
        (replace(action(), state=State.UNFINISHED, sw=None), "no outcome", False),
        (replace(action(), state=State.QUEUED), "queued", True),
        (replace(action(), state=State.ENDED, sw=None, task=1), "task has ended", True),
    ],
)
def test_how_it_went(one: Action, said: str, good: bool) -> None:
    found = deed(one)

    assert said in found.outcome
    assert found.good is good


def test_a_label_cannot_move_the_cursor() -> None:
    assert deed(action("\x1b[2Jboss")).agent == r"\x1b[2Jboss"


def test_a_directory_that_goes_is_said_and_ends_the_following(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    directory.mkdir()
    told = threading.Event()
    records = Records(directory, told.set)
    records.start()
    try:
        directory.rmdir()
        while not records.trouble:  # it may have been about to be read
            assert told.wait(60)
            told.clear()
        assert records.deeds == ()
    finally:
        records.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Records(tmp_path / "audit", lambda: None)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "audit-00000001.seg").write_bytes(b"nothing of the kind" * 100)
    told = threading.Event()
    records = Records(tmp_path, told.set)
    records.start()
    try:
        while not records.trouble:
            assert told.wait(60)
            told.clear()
        assert "audit" in records.trouble
    finally:
        records.close()


def test_it_ends_when_it_is_closed_before_it_began(tmp_path: Path) -> None:
    Records(tmp_path, lambda: None).close()
