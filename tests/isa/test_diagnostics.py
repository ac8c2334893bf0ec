"""LOG_SUMMARY, LOG_DETAIL and PROC_TREE: their bytes, and text that nobody vouches for."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ArgumentError
from asys.isa import (
    LOG_DETAIL,
    LOG_SUMMARY,
    PROC_TREE,
    EntryFlags,
    LogDetail,
    LogEntry,
    LogEvent,
    LogSource,
    LogSummary,
    ProcessFlags,
    ProcessTree,
    Severity,
    SummaryFlags,
    TreeProcess,
    UntrustedText,
)
from asys.isa.diagnostics import LogAround, LogWindow, TreeRequest
from asys.isa.export import as_dict
from asys.isa.inspect import describe_request, describe_response
from asys.protocol.codec import BadValue, WrongSize
from isa.golden import check
from isa.shown import request, response

GOLDEN = Path(__file__).with_name("diagnostics_isa.golden")

EVENT = LogEvent(
    0x0123456789ABCDEF, 0x1122334455667788, 3, 4711, Severity.ERR, UntrustedText("nginx.service")
)
SUMMARY = LogSummary(9, 1, LogSource.JOURNAL, SummaryFlags.STOPPED_EARLY, (EVENT,))
SUMMARY_BYTES = bytes.fromhex(
    "00000009 01 01 0001 0123456789abcdef 1122334455667788 00000003 00001267 03 000000"
) + b"nginx.service".ljust(32, b"\0")

ENTRIES = (
    LogEntry(1, 2, Severity.INFO, EntryFlags(0), UntrustedText("")),
    LogEntry(3, 4, Severity.CRIT, EntryFlags.TRUNCATED, UntrustedText("é!")),
)
DETAIL = LogDetail(2, 1, ENTRIES)
DETAIL_BYTES = bytes.fromhex(
    "02 01 0000 0000000000000001 00000002 06 00 0000 0000000000000003 00000004 02 01 0003 c3a921"
)

PROCESS = TreeProcess(
    5, 1, 1000, 12.5, 3, 1, "S", ProcessFlags.UNINTERRUPTIBLE, 7, UntrustedText("cat")
)
TREE = ProcessTree(4, 1, 0, (PROCESS,))
TREE_BYTES = bytes.fromhex(
    "0004 0001 0000 0000 00000005 00000001 000003e8 04e2 0003 01 53 02 07"
) + b"cat".ljust(16, b"\0")


def test_the_bytes_are_those_that_were_agreed() -> None:
    check(GOLDEN, [LOG_SUMMARY, LOG_DETAIL, PROC_TREE], "Diagnostics")


@pytest.mark.parametrize(
    ("value", "packed"), [(SUMMARY, SUMMARY_BYTES), (DETAIL, DETAIL_BYTES), (TREE, TREE_BYTES)]
)
def test_replies(value: LogSummary | LogDetail | ProcessTree, packed: bytes) -> None:
    assert value.pack() == packed
    assert type(value).unpack(packed) == value


@pytest.mark.parametrize(
    ("value", "packed", "parameters"),
    [
        (LogWindow(), "00000e10", (3, 16)),
        (LogWindow(0, "debug", 0), "00000000", (7, 0)),
        (LogWindow(60, Severity.EMERG, 32), "0000003c", (0, 32)),
        (LogAround(0x0102030405060708), "0102030405060708", (5, 5)),
        (LogAround(1, 30, 0), "0000000000000001", (30, 0)),
        (TreeRequest(4711), "00001267", (0, 0)),
        (TreeRequest(1, 3), "00000001", (3, 0)),
    ],
)
def test_requests(
    value: LogWindow | LogAround | TreeRequest, packed: str, parameters: tuple[int, int]
) -> None:
    value.check()
    assert value.pack() == bytes.fromhex(packed)
    assert value.parameters() == parameters
    assert type(value).unpack(value.pack(), *parameters) == value


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(ArgumentError, match="priority must be one of 'emerg'"):
        LogWindow(priority="bad")  # type: ignore[arg-type]  # what a caller may write
    for wrong in (
        LogWindow(wanted=33),
        LogWindow(window_s=1 << 32),
        LogAround(1, before=31),
        LogAround(1, after=-1),
        LogAround(1 << 64),
        TreeRequest(0),
        TreeRequest(1, 256),
    ):
        with pytest.raises(ArgumentError, match=r"must be \d+ to \d+"):
            wrong.check()


@pytest.mark.parametrize("size", [0, 3, 15, 18, 19, 20, 22, 34, 38])
def test_a_detail_that_is_cut_short(size: int) -> None:
    with pytest.raises(WrongSize):
        LogDetail.unpack(DETAIL_BYTES[:size])


def test_rows_that_are_not_what_the_reply_says() -> None:
    for wrong in (
        DETAIL_BYTES + b"\0",
        b"\x03" + DETAIL_BYTES[1:],
        b"\x01" + DETAIL_BYTES[1:],
        DETAIL_BYTES[:18] + b"\x04\x01" + DETAIL_BYTES[20:],
    ):
        with pytest.raises(WrongSize):
            LogDetail.unpack(wrong)
    row = bytes(14) + (1025).to_bytes(2, "big") + bytes(1025)
    with pytest.raises(WrongSize, match="1024 are the most"):
        LogDetail.unpack(b"\x01\0\0\0" + row)
    most = bytes(16) * 61
    assert len(LogDetail.unpack(b"\x3d\0\0\0" + most).entries) == 61
    with pytest.raises(WrongSize):
        LogDetail.unpack(b"\x3e\0\0\0" + bytes(16) * 62)


def test_codes_that_are_not_known_yet() -> None:
    found = LogSummary.unpack(SUMMARY_BYTES[:5] + b"\x07" + SUMMARY_BYTES[6:])
    assert found.source is LogSource.UNKNOWN
    with pytest.raises(BadValue):
        LogWindow.unpack(bytes(4), 8, 0)


# Text that nobody vouches for.


def test_it_is_no_string_and_says_so() -> None:
    text = UntrustedText("rm -rf /")
    assert str not in type(text).__mro__
    assert f"{text}" == str(text) == repr(text) == "UntrustedText('rm -rf /')"
    assert "%s" % text == repr(text)  # noqa: UP031  # also written so
    with pytest.raises(TypeError):
        "sh -c " + text  # type: ignore[operator]  # this is what must not work
    with pytest.raises(TypeError):
        "".join([text])  # type: ignore[list-item]  # likewise
    with pytest.raises(TypeError):
        open(text)  # type: ignore[call-overload]  # noqa: SIM115  # likewise
    with pytest.raises(dataclasses.FrozenInstanceError):
        text.raw = "x"  # type: ignore[misc]  # it cannot be changed
    assert text == UntrustedText("rm -rf /")
    assert len({text, UntrustedText("rm -rf /")}) == 1
    assert bool(text)
    assert not UntrustedText("")
    assert pickle.loads(pickle.dumps(text)) == text  # noqa: S301  # made here


@given(st.text())
def test_nothing_of_it_reaches_a_terminal_unescaped(raw: str) -> None:
    text = UntrustedText(raw)
    assert text.raw == raw
    for said in (text.shown, str(text), f"{LogDetail(0, 0, ())}{text}"):
        assert said.isprintable()
    assert UntrustedText(raw).shown.replace("\\", "").isprintable()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eevil", "\\u202eevil"),
        ("C:\\n", "C:\\\\n"),
        ("\x00", "\\x00"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_shown(raw: str, shown: str) -> None:
    assert UntrustedText(raw).shown == shown


def test_a_plain_string_may_be_given_for_it() -> None:
    made = dataclasses.replace(EVENT, unit="x")  # type: ignore[arg-type]  # as for other fields
    assert made.unit == UntrustedText("x")
    assert dataclasses.replace(EVENT, unit=UntrustedText("é" * 40)).pack()[28:] == "é".encode() * 16
    long = dataclasses.replace(ENTRIES[0], message=UntrustedText("é" * 600))
    assert long.pack()[14:16] == (1024).to_bytes(2, "big")


# Tools.


def test_inspecting_requests() -> None:
    said = request(f"04400310 08 00000001 00000e10 00 {'11' * 16}")
    assert (2, "03", "P1", "priority = 3 (err)") in said
    assert (3, "10", "P2", "wanted = 16") in said
    assert (9, "00000e10", "window_s", "3600 s: how far to look back; 0: to the last boot") in said
    said = request(f"04411e00 0c 00000001 0123456789abcdef 00 {'11' * 16}")
    assert (9, "0123456789abcdef", "event_id", "0123456789abcdef: an event of LOG_SUMMARY") in said
    said = request(f"04420000 08 00000001 00000000 00 {'11' * 16}")
    assert said[-1][2] == "fault"
    assert said[-1][3].startswith("6A80")


def test_inspecting_a_detail() -> None:
    said = response(DETAIL_BYTES.hex() + "9000", "LOG_DETAIL")
    named = {name: (offset, raw, meaning) for offset, raw, name, meaning in said}
    assert named["entries[0].message length"] == (18, "0000", "0 bytes of text follow")
    assert "entries[0].message" not in named
    assert named["entries[1].time_ns"][0] == 20
    assert named["entries[1].message length"] == (34, "0003", "3 bytes of text follow")
    assert named["entries[1].message"][:2] == (36, "c3a921")
    assert named["entries[1].message"][2].startswith("'\\xe9!'")
    assert "fault" not in named
    summary = response(SUMMARY_BYTES.hex() + "9000", "LOG_SUMMARY")
    [unit] = [meaning for _, _, name, meaning in summary if name == "events[0].unit"]
    assert unit.startswith("'nginx.service'")
    tree = response(TREE_BYTES.hex() + "9000", "PROC_TREE")
    assert (8, "00000005", "processes[0].pid", "5: process id") in tree


@given(st.binary(max_size=200), st.integers(0, 60))
def test_inspecting_never_raises(data: bytes, cut: int) -> None:
    for near in (data, DETAIL_BYTES[:cut] + data, DETAIL_BYTES[cut:] + data):
        parts = describe_response(near + b"\x90\0", LOG_DETAIL)
        assert b"".join(part.raw for part in parts) == near + b"\x90\0"
    describe_request(data)


def test_the_export_of_rows_that_have_no_fixed_size() -> None:
    found = {one["name"]: one for one in as_dict()["instructions"]}
    detail = found["LOG_DETAIL"]["response"]
    assert (detail["size_min"], detail["size_max"]) == (4, 4 + 61 * 1040)
    rows = detail["fields"][-1]
    assert (rows["name"], rows["count_max"]) == ("entries", 61)
    assert (rows["slot"]["size_min"], rows["slot"]["size_max"]) == (16, 1040)
    assert rows["slot"]["fields"][-1] == {
        "name": "message",
        "place": "payload",
        "offset": 14,
        "type": "text",
        "doc": "the message, UTF-8",
        "size_min": 0,
        "size_max": 1024,
        "counted": True,
        "length_size": 2,
        "written": "text of up to 1024 bytes",
    }
