"""A real asyd under load whose processes are killed, and whose disk loses its power."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.audit.entries import Gap, Run, SessionOpened
from asys.audit.parameters import JournalReader, Proof
from asys.audit.segments import KINDS
from asys.audit.verify import OPEN, WHOLE, verify
from asys.errors import LinkError
from support.audit import entries
from support.children import waiting
from support.daemon import AGENT
from support.frames import DENIED, OK
from support.loop_disk import LoopDisk, loop_disk_missing
from support.own_daemon import config
from support.raw_agent import Ended, RawAgent
from support.recording import Recording, actions, assert_whole, mortal
from support.rings import ring_of, slots_on

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing()),
]

AGENTS = {AGENT: "agent caps=all"}

LIVES = 12
WRITERS = 16
"""Writers that are killed in each life of asyd, which is killed too."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as made:
        yield made


class Load:
    """Deeds of one session, with some always in flight; `answered` is what came of each Seq."""

    def __init__(self, agent: RawAgent, child: int) -> None:
        self._agent = agent
        self._child = child
        self._sent: deque[int] = deque()
        self.answered: dict[int, bytes] = {}

    def send(self) -> None:
        """Some more, of which some are refused."""
        agent = self._agent
        messages = []
        for number in range(9):
            messages.append(agent.throttle(self._child if number % 3 else 1, 1))
            self._sent.append(agent.seq)
        agent.send(*messages)

    def turn(self, turns: int = 1) -> None:
        """Sends, and takes as many answers, of what was sent before."""
        for _ in range(turns):
            self.send()
            while len(self._sent) > 9:
                self._take()

    def drain(self) -> None:
        """Takes all answers."""
        while self._sent:
            self._take()

    def rest(self) -> None:
        """Takes the answers that come from an asyd that was killed."""
        try:
            self.drain()
        except (Ended, LinkError):
            return

    def _take(self) -> None:
        answer = self._agent.answer()
        self.answered[self._sent.popleft()] = answer

    @property
    def last_sent(self) -> int:
        return self._agent.seq


def killed_again_and_again(asyd: Recording, load: Load, number: int) -> None:
    """Kills so many writers while deeds go on, and asyd at last."""
    before = 0
    with ring_of(asyd.daemon.pid) as ring:
        for writer in range(WRITERS):
            load.turn(1 + (number + writer) % 5)
            synced = ring.synced_ns
            while ring.writer in (0, before):
                load.turn()
                time.sleep(0.002)  # the disk is small
            # Keepers give a writer more time after one that got nothing to the disk.
            while writer % 4 and ring.synced_ns == synced:
                load.turn()
                time.sleep(0.002)
            before = ring.writer
            os.kill(before, signal.SIGKILL)
    load.turn(1 + number % 3)
    asyd.kill()
    load.rest()


def test_two_hundred_deaths_of_asyd_and_its_writer_lose_nothing(
    disk: LoopDisk, tmp_path: Path
) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    lives: list[Load] = []
    port = "0"
    with waiting() as child:
        for number in range(LIVES):
            options = ("--port", port, "--audit-parameters", "on")
            with mortal(config_dir, directory, *options) as asyd:
                port = str(asyd.daemon.endpoint[1])
                with asyd.daemon.connect() as agent:
                    lives.append(Load(agent, child.pid))
                    killed_again_and_again(asyd, lives[-1], number)
                if number == LIVES // 2:  # its writer is still at work, or has just ended
                    assert {verify(directory, kind=one).code for one in KINDS} <= {WHOLE, OPEN}
            asyd.written()
            assert verify(directory).code == WHOLE
    assert LIVES * (WRITERS + 1) >= 200
    assert_whole(directory)
    told = subprocess.run(
        (sys.executable, "-m", "asys", "audit", "verify", str(directory)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told
    check(directory, lives)


def check(directory: Path, lives: list[Load]) -> None:
    """Whatever was answered is on record just so; what is beyond was in flight."""
    order: list[int] = []
    intents: dict[int, list[int]] = {}
    outcomes: dict[int, list[tuple[int, int]]] = {}
    for entry in entries(directory):
        assert not isinstance(entry, Gap)
        if isinstance(entry, SessionOpened) and entry.session not in order:
            order.append(entry.session)
        if not isinstance(entry, Run):
            continue
        begun = intents.setdefault(entry.session, [])
        ended = outcomes.setdefault(entry.session, [])
        for record in entry.records:
            if not record.sw:
                begun.append(record.seq)
            else:
                assert record.sw == 0x6982 or begun[-1] == record.seq, "an intent comes first"
                ended.append((record.seq, record.sw))
    assert len(order) == len(lives)
    for session, life in zip(order, lives, strict=True):
        answered = {seq: int.from_bytes(sw, "big") for seq, sw in life.answered.items()}
        assert set(life.answered.values()) == {OK, DENIED}
        seqs = [seq for seq, _ in outcomes[session]]
        assert seqs == list(range(1, len(seqs) + 1)), "in the order of execution, once each"
        assert len(answered) <= len(seqs) <= life.last_sent
        on_record = dict(outcomes[session])
        assert {seq: on_record[seq] for seq in answered} == answered
    journal = JournalReader(directory)
    found = actions(directory)
    last = {one.session: one.seq for one in found}
    for one in found:
        # asyd may die between the record and the entry of what it does last.
        expected = {Proof.PROVED} | ({Proof.MISSING} if one.seq == last[one.session] else set())
        assert journal.find(one).proof in expected, one
    assert journal.finish() == []


def test_what_is_said_to_be_synced_outlasts_a_loss_of_power(disk: LoopDisk, tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    codes = set()
    options = ("--audit-parameters", "on")
    with waiting() as child, mortal(config_dir, directory, *options) as asyd:
        with asyd.daemon.connect() as agent, ring_of(asyd.daemon.pid) as ring:
            load = Load(agent, child.pid)
            for number in range(8):
                load.turn(1 + 5 * number)
                synced = ring.tail
                with disk.after_a_power_cut() as copy:
                    left = copy / "audit"
                    if not left.exists():
                        assert not synced
                        continue
                    for kind in KINDS:
                        verdict = verify(left, kind=kind)
                        assert verdict.code in (WHOLE, OPEN), verdict
                        codes.add(verdict.code)
                    assert slots_on(left) >= synced
                    found = [one.seq for one in actions(left)]
                    assert found == list(range(1, len(found) + 1))
            load.drain()
            assert synced
        asyd.daemon.stop()
        asyd.written()
    assert_whole(directory)
    assert OPEN in codes
    assert [one.seq for one in actions(directory)] == sorted(load.answered)
