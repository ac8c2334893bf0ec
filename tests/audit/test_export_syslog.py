"""Messages of RFC 5424: its grammar, what is escaped, and how grave what is."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.entries import CleanEnd, Gap, Refused, SessionClosed, SessionOpened
from asys.audit.export_syslog import (
    SD_ID,
    Severity,
    message,
    parse_hostname,
    severity,
)
from asys.audit.reading import Action, Notice, State
from asys.isa import TaskStatus
from asys.protocol.status import SW
from support.audit_files import KEY, START_NS

# The ABNF of RFC 5424, section 6, for messages with one element of structured data.
NAME: Final = rb"[!#-<>-\\^-~]{1,32}"
VALUE: Final = rb'(?:[^"\\\]]|\\["\\\]])*'
PARAM: Final = rb"(" + NAME + rb')="(' + VALUE + rb')"'
MESSAGE: Final = re.compile(
    rb"<(?P<pri>0|[1-9]\d{0,2})>1 "
    rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) "
    rb"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb"\[(?P<id>" + NAME + rb")(?P<data>(?: " + PARAM + rb")*)\]"
    rb" (?P<text>[ -~]*)\n"
)


def read(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Header and parameters of a message that follows the grammar."""
    found = MESSAGE.fullmatch(data)
    assert found is not None, data
    header = {name: value.decode() for name, value in found.groupdict().items()}
    params = {
        name.decode(): re.sub(r'\\(["\\\]])', r"\1", value.decode())
        for name, value in re.findall(PARAM, found["data"])
    }
    return header, params


def test_a_message_is_what_it_should_be() -> None:
    data = message(
        Severity.WARNING,
        START_NS + 1_234_567,
        "SVC_RESTART",
        {"agent": "web", "sw": "6982"},
        "web: denied",
        hostname="node.example",
    )
    assert data == (
        b"<108>1 2026-09-21T14:13:20.001234Z node.example asyd - SVC_RESTART "
        b'[asys@32473 agent="web" sw="6982"] web: denied\n'
    )
    header, params = read(data)
    assert (header["id"], params) == (SD_ID, {"agent": "web", "sw": "6982"})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('"', r"\""),
        ("]", r"\]"),
        ("\\", r"\\"),
        ('a\\"]b', r"a\\\"\]b"),
        ("\n", r"\\n"),
        ("\x1b[2J", r"\\x1b[2J"),
        ("\u2028", r"\\u2028"),
        ("é", "é"),
    ],
)
def test_values_are_escaped(value: str, written: str) -> None:
    data = message(Severity.NOTICE, 0, "X", {"v": value}, "")
    assert f'v="{written}"]'.encode() in data


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(),
    st.integers(0, 2**64 - 1),
    st.sampled_from(Severity),
)
def test_no_text_breaks_out_of_its_place(value: str, text: str, time_ns: int, level: int) -> None:
    data = message(Severity(level), time_ns, "AGENT_ADD" * 9, {"a": value, "b": "2"}, text)
    header, params = read(data)
    assert int(header["pri"]) == 13 * 8 + level
    assert header["msgid"] == ("AGENT_ADD" * 9)[:32]
    assert list(params) == ["a", "b"]
    assert params["b"] == "2"
    assert params["a"].isprintable()
    if value.isprintable():
        assert params["a"] == value


def test_times_are_cut_to_the_microsecond() -> None:
    for time_ns, written in (
        (0, "1970-01-01T00:00:00.000000Z"),
        (999_999_999, "1970-01-01T00:00:00.999999Z"),
        (2**64 - 1, "2554-07-21T23:34:33.709551Z"),
    ):
        assert read(message(Severity.NOTICE, time_ns, "X", {}, ""))[0]["time"] == written


@pytest.mark.parametrize("text", ["", "a b", "é", "a\n", "x" * 256])
def test_host_names_that_no_header_can_have(text: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        parse_hostname(text)
    assert parse_hostname("x" * 255) == "x" * 255


def action(state: State, sw: int | None = None, task: TaskStatus | None = None) -> Action:
    return Action(1, None, b"abcd", 0x22, 4, 1, bytes(4), state, 0, sw=sw, task=task)


@pytest.mark.parametrize(
    ("item", "level"),
    [
        (action(State.ANSWERED, 0x9000), Severity.INFORMATIONAL),
        (action(State.ANSWERED, 0x9101), Severity.INFORMATIONAL),
        (action(State.QUEUED, 0x9000), Severity.INFORMATIONAL),
        (action(State.ENDED, 0x9000, TaskStatus.SUCCESS), Severity.INFORMATIONAL),
        (action(State.ENDED, None, TaskStatus.SUCCESS), Severity.INFORMATIONAL),
        (action(State.ENDED, 0x9000, TaskStatus.TIMEOUT), Severity.ERROR),
        (action(State.UNFINISHED), Severity.ERROR),
        (action(State.ANSWERED, SW.NODE_ERROR), Severity.ERROR),
        (action(State.ANSWERED, 0x6F77), Severity.ERROR),
        (action(State.ANSWERED, SW.DENIED), Severity.WARNING),
        (action(State.ANSWERED, SW.BLOCKED), Severity.WARNING),
        (action(State.ANSWERED, SW.ALREADY_RECEIVED), Severity.NOTICE),
        (Notice(0, Gap(1, 0, 0)), Severity.CRITICAL),
        (Notice(0, Refused(1, 1, 0, 0)), Severity.WARNING),
        (Notice(0, CleanEnd(0)), Severity.NOTICE),
        (Notice(0, SessionOpened(1, KEY, 1, 0, "a", "b")), Severity.INFORMATIONAL),
        (Notice(0, SessionClosed(1, 0)), Severity.INFORMATIONAL),
    ],
)
def test_severity_follows_the_outcome(item: Action | Notice, level: Severity) -> None:
    assert severity(item) is level
