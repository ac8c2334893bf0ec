"""`asys audit`: verify, anchor, show and stats on real directories."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from asys import isa
from asys.audit.entries import Gap, Payload, Read, Reads, Refused, Run
from asys.audit.segments import READS
from asys.cli.audit_commands import FOLLOW_LINES, add_audit, execute
from asys.cli.audit_stats import BUCKETS, Counts
from asys.cli.audit_views import CSV_COLUMNS
from asys.cli.failures import LocalFault, UsageError, as_text
from asys.errors import ArgumentError, AsysError
from asys.isa.capmap import CapabilityMap, parse_caps
from asys.isa.security import NewAgent
from support.audit_files import KEY, MS, START_NS, AuditFiles, usual

COMMAND = """\
import argparse, sys
from asys.cli.audit_commands import add_audit, execute
top = argparse.ArgumentParser()
top.add_argument("--json", action="store_true")
add_audit(top.add_subparsers(dest="command"))
sys.exit(execute(top.parse_args()))
"""


class Parser(argparse.ArgumentParser):
    """Tells of errors as the parser of `asys` does."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "")


class Audit:
    """Runs `asys audit` in this process: exit status, stdout, stderr."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys

    def __call__(self, action: str, *words: str, before: tuple[str, ...] = ()) -> Any:
        top = Parser()
        top.add_argument("--json", action="store_true")
        add_audit(top.add_subparsers(dest="command"))
        arguments = top.parse_args([*before, "audit", action, str(self.directory), *words])
        self.capsys.readouterr()
        status = execute(arguments)
        out, err = self.capsys.readouterr()
        return status, out, err

    def lines(self, *words: str) -> list[str]:
        """What `show` prints."""
        status, out, err = self("show", *words)
        assert (status, err) == (0, "")
        text: str = out
        return text.splitlines()

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """What `show --json` prints."""
        return [json.loads(line) for line in self.lines("--json", *words)]

    def fails(self, kind: type[AsysError], action: str, *words: str) -> str:
        """The message of a command that cannot be done."""
        with pytest.raises(kind) as raised:
            self(action, *words)
        return str(raised.value)


@pytest.fixture
def audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Audit:
    return Audit(tmp_path / "audit", capsys)


# -- verify and anchor


def test_verify_says_whole(audit: Audit) -> None:
    usual(audit.directory)
    assert audit("verify") == (
        0,
        "audit: whole to entry 26, clean end of 2026-09-21 14:13:20 UTC; 3 segments\n",
        "",
    )


def test_verify_names_the_bad_entry(audit: Audit) -> None:
    files = usual(audit.directory)
    data = bytearray(files.path.read_bytes())
    data[-1] ^= 1
    files.path.write_bytes(bytes(data))
    status, out, err = audit("verify")
    assert (status, err) == (1, "")
    assert out.startswith("audit: audit-00000003.seg, offset ")
    assert "(entry 10 of the file, 26 of the chain): the checkpoint is not signed" in out


def test_verify_tells_of_an_open_tail_and_what_else_there_is(audit: Audit) -> None:
    files = usual(audit.directory, end=False)
    files.append(b"\x01")
    status, out, _ = audit("verify")
    assert status == 3
    first, note = out.splitlines()
    assert first.startswith("audit: open tail behind the last checkpoint: 2 entries, ")
    assert note.endswith("1 bytes of an entry that was never finished")


def test_verify_takes_a_key_and_an_anchor(audit: Audit, tmp_path: Path) -> None:
    files = usual(audit.directory)
    key = tmp_path / "key"
    key.write_text(f"{files.first_key.hex()}\n")
    anchor = audit("anchor")[1].strip()
    assert anchor == files.chain.anchor
    assert audit("verify", "--key", str(key), "--anchor", anchor)[0] == 0
    files.path.unlink()
    assert audit("verify")[0] == 3
    status, out, _ = audit("verify", "--anchor", anchor)
    assert status == 1
    assert "10 entries are gone from its end" in out
    key.write_text("00" * 32)
    status, out, _ = audit("verify", "--key", str(key))
    assert status == 1
    assert "signed no checkpoint here" in out


def test_verify_looks_at_the_readings_too_and_the_worst_counts(audit: Audit) -> None:
    files = usual(audit.directory)
    reads = AuditFiles(audit.directory, READS)
    reads.segment()
    assert audit("verify")[0] == 3
    reads.end()
    status, out, _ = audit("verify")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["audit", "reads"]
    files.path.write_bytes(b"x")
    assert audit("verify")[0] == 1
    reads.path.write_bytes(b"x")
    files.path.unlink()
    assert audit("verify")[0] == 1


@pytest.mark.parametrize("before", [True, False])
def test_verify_as_json(audit: Audit, before: bool) -> None:
    files = usual(audit.directory)
    words = ((), ("--json",)) if before else (("--json",), ())
    status, out, _ = audit("verify", *words[0], before=words[1])
    data = json.loads(out)
    assert status == data["code"] == 0
    assert data["audit"] == {
        "code": 0,
        "words": "whole to entry 26, clean end of 2026-09-21 14:13:20 UTC; 3 segments",
        "entries": 26,
        "anchor": files.chain.anchor,
        "tail": {"entries": 0, "bytes": 0},
        "next_key": files.keys.public.hex(),
        "notes": [],
    }


def test_verify_of_nothing(audit: Audit) -> None:
    assert "audit" in audit.fails(LocalFault, "verify")
    audit.directory.mkdir()
    status, out, _ = audit("verify")
    assert status == 3
    assert out.startswith("audit: there is no segment audit-*.seg")


def test_verify_refuses_what_it_cannot_use(audit: Audit, tmp_path: Path) -> None:
    usual(audit.directory)
    assert "COUNT:HASH" in audit.fails(UsageError, "verify", "--anchor", "12")
    assert "none" in audit.fails(LocalFault, "verify", "--key", str(tmp_path / "none"))
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff" * 40)
    assert audit.fails(ArgumentError, "verify", "--key", str(bad)) == (
        f"{bad}: a public key has 64 hex digits"
    )


def test_anchor_gives_the_key_along(audit: Audit) -> None:
    files = usual(audit.directory, end=False)
    status, out, err = audit("anchor")
    assert (status, out) == (0, f"{files.chain.anchor}\n")
    assert err.endswith(f"for verify --key: {files.keys.public.hex()}\n")
    assert json.loads(audit("anchor", "--json")[1]) == {
        "anchor": files.chain.anchor,
        "key": files.keys.public.hex(),
    }


def test_anchor_never_vouches_for_what_was_tampered_with(audit: Audit) -> None:
    files = usual(audit.directory)
    files.path.write_bytes(b"x")
    status, out, err = audit("anchor")
    assert (status, out) == (1, "")
    assert err.startswith("asys: no anchor for what was tampered with: audit-00000003.seg")
    for path in audit.directory.iterdir():
        path.unlink()
    assert "there is nothing to anchor" in audit.fails(ArgumentError, "anchor")


# -- show


def test_show_lists_what_was_done(audit: Audit) -> None:
    usual(audit.directory, segments=1)
    assert audit.lines() == [
        "2026-09-21 14:13:20.003  planner       PROC_THROTTLE   9000 success, after 1.0 ms  "
        "digest 786a02f7",
        "2026-09-21 14:13:20.009  planner       PROC_THROTTLE   6982 denied: the identity is fine, "
        "this target or security level is not, after 1.0 ms  digest 786a02f7",
        "2026-09-21 14:13:20.006  web           SVC_RESTART     9000 success, task: no end "
        "recorded, after 1.0 ms  digest 786a02f7",
    ]


def test_show_marks_intents_without_outcomes_and_ends_of_tasks(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open()
    files.act(session, 1, 0x22)
    files.add(Run.of(session, [files.record(1, 0x22, 3), files.record(2, 0x20, 0)]))
    ended, begun = audit.lines()
    assert "SVC_RESTART     9000 success, task: timeout, after 3.0 ms" in ended
    assert "PROC_THROTTLE   begun, NO OUTCOME recorded" in begun


def test_show_names_the_target_where_the_payload_is_there(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open("admin")
    request = NewAgent(key=KEY, caps=CapabilityMap(parse_caps("core")), label="helper")
    payload = request.pack()
    files.add(Payload(session, 1, 0x60, payload))
    files.act(session, 1, 0x60)
    files.add(Payload(session, 2, 0x60, b"short"))
    files.act(session, 2, 0x60, 0x6700)
    good, bad = audit.lines()
    assert good.endswith(f"  key {KEY.hex()}, caps core, ttl_s 0, label helper")
    assert bad.endswith("  payload 73686f7274")
    assert audit.objects()[0]["target"] == {
        "key": KEY.hex(),
        "caps": "core",
        "ttl_s": 0,
        "label": "helper",
    }


def test_show_never_lets_a_file_move_the_cursor(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open("\x1b[2Jevil\nline", peer="a\x07b")
    files.act(session, 1, 0x20)
    first, second = audit.lines("--all")
    assert "opened from a\\x07b, key" in first
    assert "\\x1b[2Jevil\\nline" in second


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        ((), [1, 2, 1]),
        (("--agent", "web"), [1]),
        (("--agent", "nobody"), []),
        (("--instruction", "proc-throttle"), [1, 2]),
        (("--status", "6982"), [2]),
        (("--status", "ok"), [1, 1]),
        (("--since", "2026-09-21T14:13:20.009"), [2]),
        (("--until", "2026-09-21T14:13:20.009"), [1, 1]),
        (("-n", "1"), [1]),
        (("--agent", "planner", "--status", "failed"), [2]),
    ],
)
def test_show_filters(audit: Audit, words: tuple[str, ...], seqs: list[int]) -> None:
    usual(audit.directory, segments=1)
    assert [one["seq"] for one in audit.objects(*words)] == seqs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--status", "fine"), "'fine' is no status"),
        (("--instruction", "fly"), "'fly' is neither"),
        (("--since", "soon"), "'soon' is no moment"),
        (("-n", "0"), "'0' is no number"),
    ],
)
def test_show_refuses_wishes_that_it_cannot_read(
    audit: Audit, words: tuple[str, ...], message: str
) -> None:
    usual(audit.directory, segments=1)
    assert message in audit.fails(UsageError, "show", *words)


def test_show_tells_of_gaps_always_and_of_the_rest_when_asked(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    files.close(files.open())
    files.add(
        Gap(9, START_NS, START_NS + MS),
        Refused(4, 3, START_NS, START_NS, b"abcd"),
        Refused(77, 1, START_NS, START_NS),
    )
    files.end()
    (gap,) = audit.lines("--agent", "nobody")
    assert gap.endswith(
        "-             GAP: 9 records were lost between 2026-09-21 14:13:20.000 and "
        "2026-09-21 14:13:20.001"
    )
    assert audit.lines("--since", "2030-01-01") == []
    said = [line[39:].strip() for line in audit.lines("--all")]
    assert said == [
        f"session 1 opened from 192.0.2.7:40000, key {KEY.hex()}, line 3",
        "session 1 closed",
        gap[39:].strip(),
        "3 handshakes refused: replay, key hash 61626364",
        "1 handshakes refused: reason 77",
        "the writer ended cleanly",
    ]
    kinds = [one["type"] for one in audit.objects("--all")]
    assert kinds == ["session_opened", "session_closed", "gap", "refused", "refused", "clean_end"]
    refused = audit.objects("--all")[3]
    assert (refused["count"], refused["reason"], refused["key_hash"]) == (3, "replay", "61626364")


def test_show_as_csv(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open('=cmd,"x"')
    files.act(session, 1, 0x20, 0x6982)
    files.add(Gap(1, START_NS, START_NS))
    rows = list(csv.DictReader(io.StringIO("\n".join(audit.lines("--csv")) + "\n")))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["type"] for row in rows] == ["action", "gap"]
    assert (
        rows[0]
        | {
            "agent": '\'=cmd,"x"',
            "instruction": "PROC_THROTTLE",
            "sw": "6982",
            "task": "",
            "seq": "1",
        }
        == rows[0]
    )
    assert "1 records were lost" in rows[1]["note"]
    assert audit.lines("--csv", "--agent", "nobody", "--until", "1990-01-01") == [
        ",".join(CSV_COLUMNS)
    ]
    assert "exclude" in audit.fails(ArgumentError, "show", "--csv", "--json")


def test_show_of_readings(audit: Audit) -> None:
    usual(audit.directory, segments=1)
    message = audit.fails(ArgumentError, "show", "--reads")
    assert message.endswith("there is no segment reads-*.seg")
    files = AuditFiles(audit.directory, READS)
    files.segment()
    files.add(Reads(files.open(), (Read(1_790_000_000, 1, 0x9000, 12),)))
    assert audit.lines("--reads") == [
        "2026-09-21 14:13:20.000  planner       SYS_HELLO x 12  9000 success"
    ]


def test_show_tells_what_it_cannot_read(audit: Audit) -> None:
    files = usual(audit.directory, segments=2)
    files.append(b"\x77\x00\x00")
    status, out, err = audit("show")
    assert status == 1
    assert len(out.splitlines()) == 6
    assert err.startswith("asys: audit-00000002.seg, offset ")
    assert err.endswith(": 77 is no type of entry\n")


# -- follow


@pytest.fixture
def following(audit: Audit) -> Iterator[subprocess.Popen[str]]:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open()
    for seq in range(1, FOLLOW_LINES + 4):
        files.act(session, seq, 0x20)
    with subprocess.Popen(
        (sys.executable, "-c", COMMAND, "audit", "show", str(audit.directory), "-f", "--json"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_follow_shows_the_last_ones_and_then_what_comes(
    audit: Audit, following: subprocess.Popen[str]
) -> None:
    assert following.stdout is not None
    seen = [json.loads(following.stdout.readline())["seq"] for _ in range(FOLLOW_LINES)]
    assert seen == list(range(4, FOLLOW_LINES + 4))
    (path,) = audit.directory.glob("*.seg")
    files = AuditFiles(audit.directory)
    with path.open("ab") as file:
        record = files.record(50, 0x20, 0x6982)
        file.write(files.chain.add(Run.of(1, [record])))
    assert json.loads(following.stdout.readline())["seq"] == 50
    files.chain.segment = 1
    files.segment()
    files.act(1, 51, 0x20)
    assert json.loads(following.stdout.readline())["seq"] == 51


def test_follow_ends_with_the_directory(audit: Audit, following: subprocess.Popen[str]) -> None:
    assert following.stdout is not None
    assert following.stdout.readline()
    for path in audit.directory.iterdir():
        path.unlink()
    audit.directory.rmdir()
    following.stdout.read()
    assert following.wait(60) in (0, 1)


# -- stats


def test_stats_draw_who_did_how_much(audit: Audit) -> None:
    usual(audit.directory, segments=2).add(Gap(5, START_NS, START_NS))
    status, out, _ = audit("stats")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["Agent", "Actions", "Failed", "No", "outcome", "Over", "time"]
    assert lines[1].split() == ["planner", "4", "2", "0", "|█|"]
    assert lines[2].split() == ["web", "2", "0", "0", "|▄|"]
    assert lines[3:] == [
        "from 2026-09-21 14:13:20 to 2026-09-21 14:13:21 UTC, 0:00:01 for each character",
        "planner: 4 PROC_THROTTLE",
        "web: 2 SVC_RESTART",
        "5 records were lost and are not counted",
    ]
    assert audit("stats", "--agent", "nobody")[1] == "no actions\n"


def test_stats_as_json(audit: Audit) -> None:
    usual(audit.directory, segments=2)
    data = json.loads(audit("stats", "--json", "--agent", "planner")[1])
    assert data == {
        "span_s": 1,
        "lost": 0,
        "agents": {
            "planner": {
                "actions": 4,
                "failed": 2,
                "unfinished": 0,
                "instructions": {"PROC_THROTTLE": 4},
                "over_time": [{"time": "2026-09-21 14:13:20", "actions": 4}],
            }
        },
    }


def test_stats_fit_any_time_into_so_many_spans(audit: Audit) -> None:
    files = AuditFiles(audit.directory)
    files.segment()
    session = files.open()
    for step in range(400):
        files.now_ns += 3600 * 10**9
        files.act(session, step + 1, 0x20)
        if step == 200:
            files.now_ns -= 900 * 3600 * 10**9  # somebody set the clock
    data = json.loads(audit("stats", "--json")[1])
    spans = data["agents"]["planner"]["over_time"]
    assert sum(one["actions"] for one in spans) == 400
    assert len(spans) <= BUCKETS
    assert data["span_s"] & (data["span_s"] - 1) == 0
    assert data["span_s"] * BUCKETS < 4 * 1100 * 3600


def test_stats_where_bars_cannot_be_written() -> None:
    counts = Counts()
    counts.agents = {"a": Counter({0: 1, 2: 8})}
    counts.first, counts.last = 0, 2
    assert counts.bars("a", ".:-=+*#@") == ". @"


def test_messages_are_for_people(audit: Audit) -> None:
    with pytest.raises(LocalFault) as raised:
        audit("show")
    assert as_text(raised.value).startswith("asys: [Errno 2] No such file or directory")


def test_instructions_in_these_tests_are_what_they_are_taken_for() -> None:
    assert (isa.PROC_THROTTLE.code, isa.SVC_RESTART.code, isa.AGENT_ADD.code) == (0x20, 0x22, 0x60)
