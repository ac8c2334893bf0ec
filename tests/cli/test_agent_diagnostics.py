"""`asys log-summary`, `log-detail` and `proc-tree`: text of others, and who started whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys import isa
from asys.isa import (
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
from asys.isa.diagnostics import LogAround, LogWindow
from asys.protocol.apdu import Frame
from asys.protocol.codec import Layout
from support.agent_cli import AgentCli
from support.wire_node import OK, Answer, ThreadedWireNode, answer, serve

NS = 1_795_187_797_736_660_849
EVIL = UntrustedText("evil\x1b[2J\nnginx.service")


def events(flags: SummaryFlags, source: LogSource, matched: int) -> LogSummary:
    return LogSummary(
        matched,
        3,
        source,
        flags,
        (
            LogEvent(0xFEDCBA9876543210, NS, 12, 4711, Severity.CRIT, EVIL),
            LogEvent(1, NS, 1, 0, Severity.ERR, UntrustedText("cron.service")),
            LogEvent(2, NS, 1, 0, Severity.WARNING, UntrustedText("")),
        ),
    )


DETAIL = LogDetail(
    2,
    1,
    (
        LogEntry(NS, 0, Severity.DEBUG, EntryFlags(0), UntrustedText("before")),
        LogEntry(NS, 7, Severity.CRIT, EntryFlags.TRUNCATED, UntrustedText("it \x1b[31mfails\r")),
    ),
)

TREE = ProcessTree(
    9,
    2,
    1,
    (
        TreeProcess(1, 0, 0, 0.0, 1, 0, "S", ProcessFlags.ROOT, 1, UntrustedText("init")),
        TreeProcess(42, 1, 33, 97.5, 8, 1, "R", ProcessFlags(0), 12, UntrustedText("x\x1b[2J")),
    ),
)


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def says(instruction: isa.AnyInstruction, reply: Layout) -> Answer:
    """A node that answers one instruction with `reply`."""

    def answering(frame: Frame) -> bytes | None:
        return reply.pack() + OK if frame.ins == instruction.code else answer(frame)

    return answering


@pytest.mark.parametrize(
    ("flags", "source", "matched", "last"),
    [
        (SummaryFlags(0), LogSource.JOURNAL, 14, "14 entries of the journal match"),
        (
            SummaryFlags.STOPPED_EARLY,
            LogSource.KERNEL,
            1,
            "1 entry of the kernel's log match; older ones were not read",
        ),
        (SummaryFlags(0), LogSource.UNKNOWN, 0, "0 entries of the logs match"),
    ],
)
def test_a_summary(
    agent: AgentCli, flags: SummaryFlags, source: LogSource, matched: int, last: str
) -> None:
    with ThreadedWireNode(serve(says(isa.LOG_SUMMARY, events(flags, source, matched)))) as node:
        run = agent.ask("log-summary", node, "--priority", "warning", "--window-s", "60")
        frame = node.peer.frames[-1]
    assert (run.status, run.err) == (0, "")
    assert LogWindow.unpack(frame.data[4:], frame.p1, frame.p2) == LogWindow(
        60, Severity.WARNING, 16
    )
    lines = run.out.splitlines()
    assert lines[1].split() == ["Priority", "Unit", "Times", "Last", "PID", "Event"]
    assert lines[2].split() == [
        *("crit", "evil\\x1b[2J\\nnginx.service", "12"),
        *("2026-11-20", "15:16:37", "UTC", "4711", "0xfedcba9876543210"),
    ]
    assert lines[3].split()[:3] == ["err", "cron.service", "1"]
    assert lines[5] == last
    assert "\x1b" not in run.out


def test_a_detail(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.LOG_DETAIL, DETAIL))) as node:
        run = agent.ask("log-detail", node, "--event-id", "0xfedcba9876543210", "--after", "0")
        frame = node.peer.frames[-1]
    assert LogAround.unpack(frame.data[4:], frame.p1, frame.p2) == LogAround(
        0xFEDCBA9876543210, 5, 0
    )
    lines = run.out.splitlines()
    assert lines[2].split()[-2:] == ["debug", "before"]
    assert lines[3].startswith(">")
    assert lines[3].split(maxsplit=6)[4:] == ["crit", "7", "it \\x1b[31mfails\\r..."]
    assert lines[4] == "anyone on the node may have written these messages"
    assert "\x1b" not in run.out


def test_a_tree(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.PROC_TREE, TREE))) as node:
        run = agent.ask("proc-tree", node, "--pid", "42")
    lines = run.out.splitlines()
    assert lines[2].split() == ["1", "init", "0", "0.00", "%", "1", "%", "1", "S", "root"]
    assert lines[3].split() == ["42", "x\\x1b[2J", "33", "97.50", "%", "12", "%", "8", "R"]
    assert lines[3].index("x") == lines[2].index("init") + 2
    assert lines[4] == "2 of 9 processes (100 % = one core)"


def test_programs_are_told_which_text_is_not_to_be_trusted(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.LOG_DETAIL, DETAIL))) as node:
        run = agent.ask("log-detail", node, "--event-id", "1", "--json")
    entries = run.data["result"]["entries"]
    assert [one["message"] for one in entries] == [
        {"untrusted": "before"},
        {"untrusted": "it \x1b[31mfails\r"},
    ]
    assert entries[1]["flags"] == ["truncated"]
    assert "\x1b" not in run.out


def test_what_the_reference_says_of_a_long_text(agent: AgentCli) -> None:
    run = agent.run("isa", "LOG_DETAIL")
    assert run.status == 0
    assert "its length, 2 bytes, stands in front" in " ".join(run.out.split())
