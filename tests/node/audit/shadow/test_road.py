"""The shipper's connections, one after the other, in a thread of this process."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asys.audit.push import Ack, FromCollector, Stands
from asys.audit.segments import AUDIT, READS
from asys.client.address import Address
from asys.node.audit.ring import Ring
from asys.node.audit.shadow import road as module
from asys.node.audit.shadow.road import Road
from asys.node.audit.shadow.words import MOVED, NOTED, Destination
from asys.protocol.keys import PrivateKey
from support.audit import PATIENCE
from support.shadow_collector import Collector
from support.shadow_files import Written


@dataclass
class Place:
    """Files, their rings and a road to a collector, with the end of the line that asyd has."""

    written: Written
    reads: Written
    collector: Collector
    line: socket.socket
    road: Road
    thread: threading.Thread
    heard: bytes = b""

    @property
    def rings(self) -> tuple[Ring, Ring]:
        return self.written.ring, self.reads.ring

    def write(self, slots: int) -> None:
        """So many slots are on the disk, and an entry for them."""
        for _ in range(slots):
            self.written.ring.put(1, 0, bytes(24))
        self.written.act(0, slots, 0x20)
        self.written.tell(self.written.ring.head)

    def end(self) -> None:
        """asyd ends, and both chains have come to theirs."""
        for one in (self.written, self.reads):
            if not one.chain.segment:
                one.segment()
            one.end()
            one.tell(one.ring.head, ended=True)
        self.line.shutdown(socket.SHUT_WR)

    def hear(self, words: bytes) -> None:
        """Returns when the line has said so."""
        while words not in self.heard:
            data = self.line.recv(4096)
            assert data, f"it said {self.heard!r} and ended"
            self.heard += data

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns when that is so."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.002)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    written, reads = Written(tmp_path / "audit"), Written(tmp_path / "audit", READS)
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with Collector() as collector, ours:
        rings = written.ring, reads.ring
        key = PrivateKey.generate()
        road = Road(tmp_path / "audit", collector.destination, key, rings, theirs)

        def run() -> None:
            with theirs:
                road.run()

        made = Place(written, reads, collector, ours, road, threading.Thread(target=run))
        written.segment()
        for one in (written, reads):
            one.tell()
        yield made
        if made.thread.ident is not None:
            made.thread.join(PATIENCE)
            assert not made.thread.is_alive()
        else:
            theirs.close()
    for ring in rings:
        ring.close()


def test_it_follows_and_ends_when_all_is_there(place: Place) -> None:
    place.write(3)
    place.thread.start()
    place.hear(NOTED + b"the collector at ")
    place.hear(MOVED + b"\n")
    assert place.written.ring.acknowledged == 3
    assert place.written.ring.followed
    place.line.send(b"!")
    place.write(1)
    place.until(lambda: place.written.ring.acknowledged == 4)
    place.end()
    place.thread.join(PATIENCE)
    assert place.collector.now().count == place.written.chain.entries
    assert place.collector.now(READS).count == place.reads.chain.entries


def test_a_silent_collector_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    place.collector.alter = lambda answer: None if isinstance(answer, Ack) else answer
    place.write(3)
    place.thread.start()
    place.hear(b"it has not answered for 0.3 s")
    place.until(lambda: not place.written.ring.followed)
    place.collector.alter = lambda answer: answer
    place.hear(b"and follows it")
    place.end()


def test_one_that_is_silent_from_the_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address("127.0.0.1", silent.getsockname()[1])
        place.road._destination = Destination(address, bytes(32))
        place.thread.start()
        place.hear(b"it does not answer")
        place.road._destination = place.collector.destination
        place.hear(b"and follows it")
        place.end()


def test_one_that_says_what_is_no_answer(place: Place) -> None:
    garbage: Any = SimpleNamespace(pack=lambda: b"\x99what")
    place.collector.alter = lambda _answer: garbage
    place.thread.start()
    place.hear(b"99 is no type of message here")
    place.collector.alter = lambda answer: answer
    place.hear(b"and follows it")
    place.end()


def test_one_that_speaks_of_another_chain(place: Place) -> None:
    def crossed(answer: FromCollector) -> FromCollector:
        return replace(answer, kind=READS) if isinstance(answer, Stands) else answer

    place.collector.alter = crossed
    place.thread.start()
    place.hear(b"it says where it stands, and was not asked")
    place.collector.alter = lambda answer: answer
    place.hear(b"and follows it")
    place.end()


def test_the_same_trouble_is_told_once(place: Place) -> None:
    place.collector.knows = False
    place.thread.start()
    place.until(lambda: place.collector.connections >= 3)
    place.collector.knows = True
    place.hear(b"and follows it")
    assert place.heard.count(b"does not know this node") == 1
    place.end()


def test_what_somebody_has_changed_is_told(place: Place) -> None:
    place.write(3)
    path = place.written.path
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    place.thread.start()
    place.hear(b"as somebody has changed it: audit-00000001.seg")
    place.written.segment()
    place.write(1)
    place.hear(b"and follows it")
    assert place.collector.anew == 1
    place.end()


def test_asyd_ends_while_nobody_takes_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 0.5)
    place.collector.listen(False)
    place.thread.start()
    place.hear(b"does not follow")
    place.line.send(b"!")
    place.end()
    place.thread.join(PATIENCE)


def test_what_comes_back_in_time_gets_the_rest(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", PATIENCE)
    place.collector.listen(False)
    place.thread.start()
    place.hear(b"does not follow")
    place.end()
    place.collector.listen(True)
    place.thread.join(PATIENCE)
    assert place.collector.now().count == place.written.chain.entries


def test_a_connection_that_ends_behind_asyd_is_not_made_again(place: Place) -> None:
    """asyd's successor may be connected by then."""
    place.thread.start()
    place.hear(b"and follows it")
    place.line.shutdown(socket.SHUT_WR)
    place.until(lambda: place.road._ends_at is not None)
    place.collector.hang_up()
    place.thread.join(PATIENCE)
    assert place.collector.connections == 1


def test_a_disk_of_the_node_that_cannot_be_read(place: Place) -> None:
    place.write(3)
    path = place.written.path
    aside = path.rename(path.with_suffix(".aside"))
    path.mkdir()
    place.thread.start()
    place.hear(b"does not follow")
    path.rmdir()
    os.rename(aside, path)
    place.until(lambda: place.written.ring.acknowledged == 3)
    place.end()


def test_a_line_that_asyd_does_not_read(place: Place) -> None:
    place.road.say("word\n" * 5000)
    place.line.setblocking(False)
    assert place.line.recv(1 << 16).count(b"\n") == 1
    place.line.close()
    place.road.say("nobody hears it")


def test_more_than_a_socket_takes_at_once(place: Place) -> None:
    place.written.open()
    for _ in range(200):
        for seq in range(400):
            place.written.act(0, seq, 0x20)
        place.written.checkpoint()
    place.write(3)
    place.thread.start()
    place.hear(b"and follows it")
    assert place.written.ring.acknowledged == 3
    assert place.collector.now(AUDIT).count == place.written.chain.entries
    place.end()
