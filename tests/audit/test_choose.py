"""Which actions somebody wants to see."""

from __future__ import annotations

import pytest

from asys.audit.choose import Choice, parse_instruction, parse_moment, parse_status
from asys.audit.entries import SessionOpened
from asys.audit.reading import Action, State
from asys.audit.records import digest
from support.audit_files import KEY, START_NS

WHO = SessionOpened(1, KEY, 1, 1, "web", "unix:0")


def action(sw: int | None, *, task: int | None = None, state: State = State.ANSWERED) -> Action:
    return Action(
        1,
        WHO,
        digest(KEY),
        0x22,
        4,
        1,
        bytes(4),
        state,
        outcome_ns=START_NS,
        sw=sw,
        task=task,
    )


OK, DENIED, FAILED = action(0x9000), action(0x6982), action(0x9000, task=2, state=State.ENDED)
QUEUED, BEGUN = action(0x9101, state=State.QUEUED), action(None, state=State.UNFINISHED)
ALL = [OK, DENIED, FAILED, QUEUED, BEGUN]


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("", ALL),
        ("ok", [OK, QUEUED]),
        ("failed", [DENIED, FAILED]),
        ("queued", [QUEUED]),
        ("unfinished", [BEGUN]),
        ("9000", [OK, FAILED]),
        ("69xx", [DENIED]),
        ("9xxx", [OK, FAILED, QUEUED]),
        ("6A80", []),
    ],
)
def test_a_status_takes_what_it_says(status: str, wanted: list[Action]) -> None:
    choice = Choice(status=parse_status(status) if status else "")
    assert [one for one in ALL if choice.takes(one)] == wanted


@pytest.mark.parametrize("status", ["", "ok ", "900", "90000", "xxxx", "x900", "9X00", "99g0"])
def test_what_is_no_status(status: str) -> None:
    with pytest.raises(ValueError, match="is no status: ok, failed, queued, unfinished, or"):
        parse_status(status)


@pytest.mark.parametrize(
    ("agent", "takes"),
    [
        ("web", True),
        (KEY.hex(), True),
        (digest(KEY).hex().upper(), True),
        ("we", False),
        ("WEB", False),
        ("00000000", False),
    ],
)
def test_an_agent_by_label_key_or_hash(agent: str, takes: bool) -> None:
    assert Choice(agent=agent).takes(OK) is takes


def test_instructions_by_name_or_code() -> None:
    assert parse_instruction("svc-restart") == parse_instruction("22") == 0x22
    assert parse_instruction("0xc5") == 0xC5
    assert Choice(ins=0x22).takes(OK)
    assert not Choice(ins=0x20).takes(OK)
    for wrong in ("", "svc", "123", "é"):
        with pytest.raises(ValueError, match="neither an instruction's name nor its code"):
            parse_instruction(wrong)


def test_a_time_has_a_first_and_no_last_moment() -> None:
    assert Choice(since_ns=START_NS).takes(OK)
    assert not Choice(since_ns=START_NS + 1).takes(OK)
    assert Choice(until_ns=START_NS + 1).takes(OK)
    assert not Choice(until_ns=START_NS).takes(OK)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-09-21", 1_789_948_800),
        ("2026-09-21T14:13:20", 1_790_000_000),
        ("2026-09-21T14:13:20Z", 1_790_000_000),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000),
        ("90s", 1_789_999_910),
        ("2h", 1_789_992_800),
        ("7d", 1_789_395_200),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    assert parse_moment(text, START_NS) == seconds * 10**9


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "5", "5w", "-5m", "yesterday"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="is no moment: 2026-11-21"):
        parse_moment(text, START_NS)
