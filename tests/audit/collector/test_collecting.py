"""A real collector and a node that pushes: what is kept is what the node has."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asys.audit import push
from asys.audit.chain import parse_anchor
from asys.audit.entries import Payload
from asys.audit.verify import OPEN, TAMPERED, WHOLE, verify
from asys.protocol.keys import PrivateKey
from support.audit_files import AuditFiles, usual
from support.collect import COMMAND, NODE, Collector, Ended, Node, authorize, collecting, puts


def asys(*words: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def reads(directory: Path) -> AuditFiles:
    """The other chain."""
    files = AuditFiles(directory, "reads")
    files.segment()
    files.open("reader")
    files.end()
    return files


def test_what_is_kept_is_what_the_node_has(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = usual(own)
    others = reads(own)
    with collecting(kept) as collector, collector.node() as node:
        assert node.open() == push.Stands("audit", 0, 0, 0, bytes(32))
        assert node.bring(own).anchor == files.chain.anchor
        assert node.bring(own, "reads").anchor == others.chain.anchor
        at = node.open()
        assert (at.segment, at.offset) == (3, files.path.stat().st_size)
        assert (at.count, at.h) == (files.chain.entries, files.chain.h)
    there = kept / "web" / "1"
    names = sorted(path.name for path in there.iterdir())
    assert names == sorted(path.name for path in own.glob("*.seg"))
    for name in names:
        assert there.joinpath(name).read_bytes() == own.joinpath(name).read_bytes()
    assert verify(there).code == WHOLE
    for action in ("verify", "show", "stats"):
        here, gone = (asys("audit", action, str(one), "--json") for one in (own, there))
        assert here.returncode == gone.returncode == 0
        if action == "verify":  # the node's first public key is not pushed
            told = [json.loads(one.stdout) for one in (here, gone)]
            for one in told:
                for kind in ("audit", "reads"):
                    del one[kind]["notes"]
            assert told[0] == told[1]
        else:
            assert here.stdout == gone.stdout != ""


def test_an_ack_is_an_anchor_for_the_nodes_own_directory(tmp_path: Path) -> None:
    own = tmp_path / "own"
    usual(own, end=False)
    with collecting(tmp_path / "kept") as collector, collector.node() as node:
        anchor = parse_anchor(node.bring(own).anchor)
    assert verify(own, anchor=anchor).code == WHOLE
    last = own / "audit-00000003.seg"
    last.write_bytes(last.read_bytes()[:-15])
    assert verify(own).code == OPEN
    assert verify(own, anchor=anchor).code == TAMPERED


def test_it_goes_on_where_it_stands(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = AuditFiles(own)
    with collecting(kept) as collector:
        for _ in range(3):
            files.segment()
            for _ in range(3):
                files.open()
                with collector.node() as node:
                    assert node.bring(own).anchor == files.chain.anchor
    with collecting(kept) as collector, collector.node() as node:
        files.open()
        assert node.bring(own, most=100).anchor == files.chain.anchor
    assert verify(kept / "web" / "1").anchor == files.chain.anchor


def test_an_entry_that_is_longer_than_a_put(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = AuditFiles(own)
    files.segment()
    files.add(Payload(0, 1, 0x60, bytes(65_000)))
    files.add(Payload(0, 2, 0x60, bytes(60_000)))
    with collecting(kept) as collector:
        with collector.node() as node:
            at = node.bring(own)
            assert at.anchor == files.chain.anchor
        files.add(Payload(0, 3, 0x60, bytes(65_000)))
        big = files.path.read_bytes()
        start = len(big) - 65_012
        with collector.node() as node:  # a connection that ends amid an entry leaves nothing of it
            node.open()
            node.send(push.Put("audit", 1, start, big[start : start + 60_000]))
            assert node.open() == push.Stands("audit", 1, start, at.count, at.h)
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor


def test_segments_that_hold_nothing_and_first_ones_that_are_gone(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = usual(own)
    files.segment(checkpoint=False)
    files.segment(checkpoint=False)
    files.segment()
    own.joinpath("audit-00000001.seg").unlink()
    with collecting(kept) as collector:
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor
        files.segment(checkpoint=False)
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor
    with collecting(kept) as collector, collector.node() as node:
        at = node.open()
        assert (at.segment, at.offset, at.count) == (7, 41, files.chain.entries)
    assert verify(kept / "web" / "1").anchor == verify(own).anchor


def test_a_node_that_begins_anew(tmp_path: Path) -> None:
    first, second, kept = tmp_path / "first", tmp_path / "second", tmp_path / "kept"
    usual(first)
    files = usual(second)
    with collecting(kept) as collector:
        with collector.node() as node:
            node.bring(first)
            node.open()
            found = node.ask(next(iter(_puts(second))))
            assert found == push.Refused("audit", push.Reason.NOT_CONTINUED)
            assert node.ended()
        with collector.node() as node:
            assert node.open(anew=True) == push.Stands("audit", 0, 0, 0, bytes(32))
            assert not kept.joinpath("web", "2").exists()
            for put in _puts(second):
                assert isinstance(node.ask(put), push.Ack)
            assert node.open().count == files.chain.entries
        collector.wait_for("BEGINS ANEW")
    for number, own in (("1", first), ("2", second)):
        assert verify(kept / "web" / number).anchor == verify(own).anchor


def _puts(directory: Path) -> list[push.Put]:
    return [put for put, _ in puts(directory, "audit", 0, 0)]


def test_a_mad_node_cannot_begin_anew_for_ever(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    AuditFiles(own).segment()
    (put,) = _puts(own)
    with collecting(kept) as collector, collector.node() as node:
        for _ in range(100):
            found = node.ask(push.Open("audit", anew=True))
            if isinstance(found, push.Refused):
                break
            node.ask(put)
        assert found == push.Refused("audit", push.Reason.GENERATIONS)
        assert len(list((kept / "web").iterdir())) == 24


# -- who may come in


def test_an_unknown_node_is_told_so_and_how_to_admit_it_stands_in_the_log(tmp_path: Path) -> None:
    stranger = PrivateKey.generate()
    kept = tmp_path / "kept"
    with collecting(kept) as collector:
        with collector.node(stranger) as node:
            assert node.answer() == push.Unknown()
            assert node.ended()
        collector.wait_for(f"{stranger.public.hex()} LABEL")
        assert asys("audit", "admit", str(kept), stranger.public.hex(), "db").returncode == 0
        collector.reload()
        with collector.node(stranger) as node:
            node.open()
            authorize(kept, {NODE: "web"})
            collector.reload()
            assert node.ended()
    assert not kept.joinpath("db").exists()


def test_another_prologue(tmp_path: Path) -> None:
    with collecting(tmp_path / "kept") as collector:
        for prologue in (b"", b"asys-audit-v2"):
            with pytest.raises(Ended):
                Node(collector.endpoint, NODE, prologue)
        collector.wait_for("handshake refused")
        with collector.node() as node:
            assert node.open().segment == 0


def test_of_two_connections_of_a_node_the_newer_one_wins(tmp_path: Path) -> None:
    own = tmp_path / "own"
    files = usual(own)
    with collecting(tmp_path / "kept") as collector, collector.node() as older:
        older.open()
        with collector.node() as newer:
            newer.bring(own)
            assert older.ended()
            assert newer.open().count == files.chain.entries


def test_a_handshake_that_is_not_confirmed_displaces_nobody(tmp_path: Path) -> None:
    """Whoever repeats a handshake that was recorded gets that far, and no further."""
    with collecting(tmp_path / "kept") as collector, collector.node() as older:
        older.open()
        with collector.node():
            assert older.open().segment == 0


# -- what a node sends that it should not


def _refused(collector: Collector, *messages: push.FromNode | bytes, opened: bool = True) -> int:
    with collector.node() as node:
        if opened:
            node.open()
        found = node.ask(*messages)
        assert isinstance(found, push.Refused), found
        assert node.ended()
        return found.reason


def test_what_does_not_belong_there_is_refused_and_not_kept(tmp_path: Path) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = AuditFiles(own)
    files.segment()
    files.open()
    data = files.path.read_bytes()
    malformed, astray = push.Reason.MALFORMED, push.Reason.NOT_CONTINUED

    def put(offset: int, what: bytes, segment: int = 1) -> push.Put:
        return push.Put("audit", segment, offset, what)

    with collecting(kept) as collector:
        for garbage in (b"", b"\x07", b"\x01\x00", b"\x02" * 10, bytes(60_015)):
            assert _refused(collector, garbage) == malformed
        assert _refused(collector, put(0, data), opened=False) == malformed
        assert _refused(collector, put(41, data[41:])) == astray
        assert _refused(collector, put(0, data[:40])) == malformed
        assert _refused(collector, put(0, data[:-1])) == malformed
        assert _refused(collector, put(0, data[:43])) == malformed
        assert _refused(collector, put(0, data, 2)) == malformed
        wrong = data[:9] + bytes([1]) + data[10:]
        assert _refused(collector, put(0, wrong)) == astray
        assert not kept.joinpath("web").exists()
        with collector.node() as node:
            node.bring(own)
        size = len(data)
        files.open()
        files.checkpoint()
        more = files.path.read_bytes()[size:]
        assert _refused(collector, put(size + 1, more)) == astray
        assert _refused(collector, put(size - 1, more)) == astray
        assert _refused(collector, put(size, b"\x00\x00\x01x")) == malformed
        assert _refused(collector, put(size, b"\x01\x00\x05" + bytes(5))) == malformed
        assert _refused(collector, put(size, more[:-200])) == malformed
        checkpoint = more[-147:]
        assert _refused(collector, put(size, checkpoint)) == astray
        flipped = more[:-1] + bytes([more[-1] ^ 1])
        assert _refused(collector, put(size, flipped)) == astray
        assert _refused(collector, put(0, data)) == astray
        assert _refused(collector, put(0, data, 3)) == astray
        there = kept / "web" / "1" / files.path.name
        assert there.read_bytes() == data
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor
    assert there.read_bytes() == files.path.read_bytes()


def test_what_is_good_before_something_bad_is_kept_and_acknowledged(tmp_path: Path) -> None:
    own = tmp_path / "own"
    files = usual(own)
    good = _puts(own)
    with collecting(tmp_path / "kept") as collector, collector.node() as node:
        node.open()
        node.send(*good, b"garbage", good[0])
        acks = [node.answer() for _ in good]
        assert acks[-1] == push.Ack("audit", files.chain.entries, files.chain.h)
        assert node.answer() == push.Refused("audit", push.Reason.MALFORMED)
        assert node.ended()


def test_a_stranger_who_says_nothing_is_cut_off(tmp_path: Path) -> None:
    with collecting(tmp_path / "kept") as collector:
        with socket.create_connection(collector.endpoint, 60) as silent:
            assert silent.recv(1) == b""
        collector.wait_for("no magic in time")
        with socket.create_connection(collector.endpoint, 60) as wrong:
            wrong.sendall(b"GET / HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert wrong.recv(1) == b""
        collector.wait_for("handshake refused")


def test_a_broken_record_ends_the_connection(tmp_path: Path) -> None:
    with collecting(tmp_path / "kept") as collector, collector.node() as node:
        node.open()
        node.socket.sendall(b"\x00\x20" + bytes(32))
        assert node.ended()
        collector.wait_for("breaks the protocol")


# -- starting


def test_two_collectors_do_not_share_a_directory(tmp_path: Path) -> None:
    with collecting(tmp_path / "kept"):
        second = asys(
            "audit", "collect", "--listen", "127.0.0.1:0", "--dir", str(tmp_path / "kept")
        )
        assert second.returncode == 2
        assert "another collector works in" in second.stderr


def test_a_directory_that_is_open_to_others_is_refused_with_the_remedy(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    kept.chmod(0o755)
    found = asys("audit", "collect", "--listen", "127.0.0.1:0", "--dir", str(kept))
    assert (found.returncode, f"chmod 700 {kept}" in found.stderr) == (2, True)
    assert asys("audit", "collect", "--listen", "nowhere", "--dir", str(kept)).returncode == 2


def test_its_key_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with collecting(kept) as collector:
        key = collector.key
    assert kept.joinpath("id_curve25519").stat().st_mode & 0o777 == 0o600
    assert kept.joinpath("id_curve25519.pub").read_text() == f"{key.hex()}\n"
    with collecting(kept) as collector:
        assert collector.key == key
