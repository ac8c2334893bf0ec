"""A real asyd that also keeps what agents said: nothing that it does depends on that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.audit.parameters import DIRECTORY, JournalReader, Lost, Proof, file_name
from asys.node.audit.parameters import JOURNAL
from support.children import waiting
from support.daemon import AGENT, PATIENCE
from support.frames import DENIED, NO_SUCH_INSTRUCTION, OK, frame, pid_payload
from support.loop_disk import LoopDisk, loop_disk_missing
from support.own_daemon import argv, config
from support.raw_agent import RawAgent
from support.recording import actions, assert_whole, mortal, recording
from support.rings import ring_of

AGENTS = {AGENT: "agent caps=all"}
ON = ("--audit-parameters", "on")


def until_degraded(agent: RawAgent, wanted: int) -> None:
    """Asks until ABANDON says so, or that it is over."""
    answer = OK if not wanted else b"\x91\x01"
    end = time.monotonic() + PATIENCE
    while not agent.ask(frame(0x14)).endswith(answer):
        assert time.monotonic() < end
        time.sleep(0.01)


def drained(pid: int) -> None:
    """Returns when the writer has taken all that the journal's ring holds."""
    end = time.monotonic() + PATIENCE
    with ring_of(pid, "asyd-audit-parameters") as ring:
        while ring.tail != ring.head:
            assert time.monotonic() < end
            time.sleep(0.01)


def proofs(directory: Path) -> set[Proof]:
    """What the records say of the journal."""
    reader = JournalReader(directory)
    found = {reader.find(one).proof for one in actions(directory)}
    assert reader.finish() == []
    return found


def test_what_was_said_stands_beside_what_was_done(tmp_path: Path) -> None:
    with recording(tmp_path, *ON, agents=AGENTS) as asyd, waiting() as child:
        before = 0
        with asyd.daemon.connect() as agent:
            for _ in range(3):
                assert agent.ask(agent.throttle(child.pid, 1)) == OK
                assert agent.ask(agent.throttle(1)) == DENIED
                assert agent.ask(frame(0x77, b"what", 1, 2)) == NO_SUCH_INSTRUCTION
                before = asyd.writer(other_than=before)
                os.kill(before, signal.SIGKILL)
                assert agent.ask(frame(0x14)).endswith(OK)
            assert agent.ask(agent.signed(0x20, pid_payload(1), bad=True)) == DENIED
    assert_whole(asyd.directory)
    assert proofs(asyd.directory) == {Proof.PROVED}
    journal = asyd.directory / DIRECTORY
    assert journal.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in journal.iterdir()} == {0o600}
    shown = subprocess.run(
        (sys.executable, "-m", "asys", "audit", "show", asyd.directory, "--parameters", "--json"),
        capture_output=True,
        check=True,
    )
    said = [json.loads(line)["parameters"] for line in shown.stdout.splitlines()]
    assert [one["decoded"] for one in said] == 3 * [
        {"pid": child.pid, "action": "continue"},
        {"pid": 1, "action": "stop"},
        None,
        {},
    ] + [{"pid": 1, "action": "stop"}]
    assert [
        (one["p1"], one["p2"], one["payload"]) for one in said if one["decoded"] is None
    ] == 3 * [(1, 2, b"what".hex())]


def test_unless_asked_for_nothing_is_kept(tmp_path: Path) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, asyd.daemon.connect() as agent:
        assert agent.ask(agent.throttle(1)) == DENIED
    assert len(actions(asyd.directory)) == 1
    assert not (asyd.directory / DIRECTORY).exists()


def test_a_journal_that_cannot_be_written_degrades_and_holds_up_nothing(tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), tmp_path / "audit"
    directory.mkdir(mode=0o700)
    (directory / DIRECTORY).write_text("in the way")
    with mortal(config_dir, directory, *ON) as asyd, waiting() as child:
        with asyd.daemon.connect() as agent:
            for _ in range(10):
                assert agent.ask(agent.throttle(child.pid, 1)) == OK
            until_degraded(agent, 1)
            asyd.daemon.wait_for("the parameter journal cannot be written")
            assert agent.ask(agent.throttle(child.pid, 1)) == OK
            (directory / DIRECTORY).unlink()
            until_degraded(agent, 0)
        asyd.daemon.stop()
        asyd.written()
    assert_whole(directory)
    assert proofs(directory) == {Proof.PROVED}
    assert len([one for one in actions(directory) if one.seq]) == 11


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as made:
        yield made


@pytest.mark.root
@pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing())
def test_a_journal_that_is_full_costs_no_record_and_shows_its_gaps(
    disk: LoopDisk, tmp_path: Path
) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    with mortal(config_dir, directory, *ON) as asyd, waiting() as child:
        with asyd.daemon.connect() as agent:
            with disk.hung():
                for _ in range(JOURNAL // 1000):  # an entry has two slots
                    agent.send(*[agent.throttle(child.pid, 1) for _ in range(1000)])
                    assert [agent.answer() for _ in range(1000)] == [OK] * 1000
            drained(asyd.daemon.pid)
            assert agent.ask(agent.throttle(child.pid, 1)) == OK
        asyd.daemon.stop()
        asyd.written()
    assert_whole(directory)
    reader = JournalReader(directory)
    found = [reader.find(one).proof for one in actions(directory) if one.seq]
    assert len(found) == JOURNAL // 1000 * 1000 + 1
    assert set(found) == {Proof.PROVED, Proof.MISSING}
    assert (found[0], found[-1]) == (Proof.PROVED, Proof.PROVED)
    gaps = reader.finish()
    lost = sum(one.entries for one in gaps if isinstance(one, Lost))
    assert lost == found.count(Proof.MISSING)


def test_a_line_that_is_deleted_leaves_the_record_and_no_trace(tmp_path: Path) -> None:
    with recording(tmp_path, *ON, agents=AGENTS) as asyd, asyd.daemon.connect() as agent:
        for _ in range(3):
            assert agent.ask(agent.throttle(1)) == DENIED
    path = asyd.directory / DIRECTORY / file_name(1)
    subprocess.run(("sed", "-i", "3d", path), check=True)
    assert_whole(asyd.directory)
    reader = JournalReader(asyd.directory)
    assert [reader.find(one).proof for one in actions(asyd.directory)] == [
        Proof.PROVED,
        Proof.MISSING,
        Proof.PROVED,
    ]
    assert reader.finish() == []


def test_it_needs_the_audit(tmp_path: Path) -> None:
    words = argv(config(tmp_path), *ON, "--audit", "off")
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.startswith("asyd: --audit-parameters on keeps what is beside records")
