"""`asys audit show --parameters`: what instructions said, beside their records."""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from asys.audit.entries import Run
from asys.audit.parameters import DIRECTORY, Lost, Parameters, file_name, heading
from asys.audit.records import digest
from asys.cli.audit_commands import add_audit, execute
from asys.cli.audit_views import CSV_COLUMNS, PARAMETER_COLUMNS
from asys.errors import ArgumentError, AsysError
from support.audit_files import KEY, START_NS, AuditFiles

PID = (1234).to_bytes(4, "big")


class Place:
    """An audit with a journal; an action is 2 ms, and its entry has the time of the intent."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.files = AuditFiles(directory)
        self.files.segment()
        self.session = self.files.open()
        self.journal = directory / DIRECTORY
        self.journal.mkdir()
        (self.journal / file_name(1)).write_bytes(heading(START_NS // 10**9))
        self.capsys = capsys
        self.seq = 0

    def act(self, ins: int, payload: bytes, *, refused: bool = False) -> Parameters:
        """An action; gives the entry that it would have."""
        self.seq += 1
        sws = (0x6982,) if refused else (0, 0x9000)
        records = [self.files.record(self.seq, ins, sw, payload=payload) for sw in sws]
        self.files.add(Run.of(self.session, records))
        kept = payload[:4096]
        return Parameters(
            records[0].time_ns, digest(KEY), 4, ins, 0, 0, self.seq, len(payload), kept
        )

    def write(self, *lines: Parameters | Lost | bytes) -> None:
        with (self.journal / file_name(1)).open("ab") as file:
            for one in lines:
                file.write(one if isinstance(one, bytes) else one.line())

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """`asys audit show --parameters`: exit status, stdout, stderr."""
        top = argparse.ArgumentParser()
        top.add_argument("--json", action="store_true")
        add_audit(top.add_subparsers(dest="command"))
        directory = str(self.files.directory)
        arguments = top.parse_args(["audit", "show", directory, "--parameters", *words])
        self.capsys.readouterr()
        status = execute(arguments)
        out, err = self.capsys.readouterr()
        return status, out, err

    def lines(self, *words: str) -> list[str]:
        status, out, err = self(*words)
        assert (status, err) == (0, "")
        return out.splitlines()

    def objects(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("--json", *words)]

    def fails(self, kind: type[AsysError], *words: str) -> str:
        with pytest.raises(kind) as raised:
            self(*words)
        return str(raised.value)


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path / "audit", capsys)


def test_parameters_stand_beside_their_record_by_name(place: Place) -> None:
    place.write(
        place.act(0x20, PID),
        place.act(0x20, PID, refused=True)._replace(p1=1),
        place.act(0x22, b"nginx"),
        place.act(0x14, b""),
        place.act(0x60, b"12345"),
        place.act(0xC5, b"\x00\xff"),
        place.act(0x22, b'a "b'),
    )
    said = [line.rpartition("  ")[2] for line in place.lines()]
    assert said == [
        "pid=1234 action=stop",
        "pid=1234 action=continue",
        "no parameters",
        "P1 00 P2 00 payload 3132333435",
        "P1 00 P2 00 payload 00ff",
        # Tasks without an end come last.
        "name=nginx",
        "P1 00 P2 00 payload 61202262",
    ]


def test_without_the_option_nothing_is_different(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write(place.act(0x20, PID))
    top = argparse.ArgumentParser()
    top.add_argument("--json", action="store_true")
    add_audit(top.add_subparsers(dest="command"))
    assert execute(top.parse_args(["audit", "show", str(place.files.directory)])) == 0
    assert capsys.readouterr().out.endswith(f"digest {digest(PID).hex()}\n")


def test_what_proves_nothing_is_marked(place: Place) -> None:
    long = bytes(5000)
    missing, changed, cut = (
        place.act(0x20, PID),
        place.act(0x20, PID),
        place.act(0x20, long, refused=True),
    )
    place.write(changed._replace(payload=(1235).to_bytes(4, "big")), cut)
    first, second, third = place.lines()
    assert first.endswith("  parameters not in the journal")
    assert second.endswith("  NOT WHAT THE RECORD HAS: pid=1235 action=stop")
    assert third.endswith(f"  P1 00 P2 00 payload {'00' * 4096}... (cut: 4096 of 5000 bytes)")
    assert [one["parameters"]["proof"] for one in place.objects()] == ["missing", "differs", "cut"]
    assert missing.seq == 1


def test_as_json(place: Place) -> None:
    place.write(place.act(0x20, PID)._replace(p1=1), place.act(0xC5, b"\xff"))
    one, two = place.objects()
    assert one["parameters"] == {
        "proof": "proved",
        "p1": 1,
        "p2": 0,
        "length": 4,
        "payload": "000004d2",
        "decoded": {"pid": 1234, "action": "continue"},
    }
    assert one["seq"] == 1
    assert two["parameters"]["decoded"] is None
    place.act(0x20, PID)
    assert place.objects()[2]["parameters"] == {"proof": "missing"}


def test_as_csv(place: Place) -> None:
    place.write(
        place.act(0x20, PID),
        place.act(0x22, b"=1+1", refused=True),
        Lost(3, place.files.now_ns, place.files.now_ns),
    )
    place.act(0x20, PID)
    rows = list(csv.DictReader(io.StringIO("\n".join(place.lines("--csv")) + "\n")))
    assert tuple(rows[0]) == CSV_COLUMNS + PARAMETER_COLUMNS
    assert [(row["type"], row["parameters"], row["proof"]) for row in rows] == [
        ("action", "pid=1234 action=stop", "proved"),
        ("action", "P1 00 P2 00 payload 3d312b31", "proved"),
        ("parameters_lost", "", ""),
        ("action", "", "missing"),
    ]
    assert rows[2]["note"].startswith("GAP in the parameter journal: 3 entries were lost between")


def test_gaps_of_the_journal_are_shown_in_the_time_that_was_asked_for(place: Place) -> None:
    place.write(
        place.act(0x20, PID),
        Lost(5, START_NS, START_NS + 10**9),
        place.act(0x20, PID),
        Lost(6, START_NS + 90 * 10**9, START_NS + 95 * 10**9),
    )
    _, gap, _, other = place.lines()
    assert gap == (
        "2026-09-21 14:13:21.000  -             GAP in the parameter journal: 5 entries were lost "
        "between 2026-09-21 14:13:20.000 and 2026-09-21 14:13:21.000"
    )
    assert "6 entries" in other
    kinds = [one["type"] for one in place.objects("--until", "2026-09-21T14:14:00")]
    assert kinds == ["action", "parameters_lost", "action"]
    assert len(place.lines("--until", "2026-09-21T14:13:00")) == 0
    assert [one["type"] for one in place.objects("--agent", "nobody")] == ["parameters_lost"] * 2


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(place: Place) -> None:
    place.write(b"garbage\n", place.act(0x20, PID))
    status, out, err = place()
    assert status == 1
    assert out.endswith("pid=1234 action=stop\n")
    assert err == (
        "asys: parameters/parameters-00000001.txt, line 2: it is neither an entry nor a gap\n"
    )


def test_choosing_leaves_the_rest_of_the_journal_aside(place: Place) -> None:
    place.write(place.act(0x20, PID), place.act(0x22, b"nginx"), place.act(0x20, PID))
    [only] = place.lines("--instruction", "SVC_RESTART")
    assert only.endswith("name=nginx")
    [last] = place.objects("-n", "1", "--instruction", "20")
    assert (last["seq"], last["parameters"]["proof"]) == (3, "proved")


def test_no_text_of_an_agent_moves_the_cursor(place: Place) -> None:
    place.write(place.act(0x60, bytes(32) + bytes(32) + bytes(4) + b"\x04" + b"\x1b[2J"))
    assert "\x1b" not in place.lines()[0]


def test_where_there_is_no_journal_that_is_said(place: Place) -> None:
    (place.journal / file_name(1)).unlink()
    place.journal.rmdir()
    place.act(0x20, PID)
    assert "asyd keeps one with --audit-parameters on" in place.fails(ArgumentError)
    assert "readings have none" in place.fails(ArgumentError, "--reads")


def test_follow_shows_what_comes_and_waits_a_moment_for_its_parameters(place: Place) -> None:
    place.write(place.act(0x20, PID))
    command = (
        "import argparse, sys\n"
        "from asys.cli import audit_parameters\n"
        "audit_parameters.PATIENCE_NS = 60 * 10**9\n"
        "from asys.cli.audit_commands import add_audit, execute\n"
        "top = argparse.ArgumentParser()\n"
        "top.add_argument('--json', action='store_true')\n"
        "add_audit(top.add_subparsers(dest='command'))\n"
        "sys.exit(execute(top.parse_args()))\n"
    )
    words = ("audit", "show", str(place.files.directory), "--parameters", "-f", "--json")
    with subprocess.Popen(
        (sys.executable, "-c", command, *words), stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            seen = [json.loads(running.stdout.readline())]
            assert seen[0]["parameters"]["proof"] == "proved"
            place.files.now_ns = time.time_ns() - 10**9
            place.write(place.act(0x20, PID))  # the record is there before its entry
            seen.append(json.loads(running.stdout.readline()))
            place.files.now_ns -= 100 * 10**9
            place.act(0x20, PID)  # for an old one nobody waits
            seen.append(json.loads(running.stdout.readline()))
        finally:
            running.kill()
    assert [one["seq"] for one in seen] == [1, 2, 3]
    assert [one["parameters"]["proof"] for one in seen] == ["proved", "proved", "missing"]
