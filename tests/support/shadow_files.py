"""A chain's files and the ring of their writer, for what only reads both."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from asys.audit.push import Stands
from asys.audit.segments import AUDIT
from asys.node.audit.ring import Position, Ring
from asys.node.audit.shadow.source import Source
from support.audit_files import AuditFiles
from support.shadow_collector import Kept


class Written(AuditFiles):
    """As AuditFiles; `ring` says how far the writer is, when `tell` says so."""

    def __init__(self, directory: Path, kind: str = AUDIT) -> None:
        super().__init__(directory, kind)
        self.ring: Final = Ring.create("test-shadow", 100)

    def mark(self, tail: int = 0, *, closed: bool = False, ended: bool = False) -> Position:
        """Where the writer is; `closed`: nothing more goes into the segment."""
        chain = self.chain
        offset = 0 if closed or not chain.segment else self.path.stat().st_size
        return Position(tail, 0, chain.segment, offset, chain.entries, chain.h, ended)

    def tell(self, tail: int = 0, *, closed: bool = False, ended: bool = False) -> None:
        """Everything is on the disk, and with it so many slots."""
        self.ring.position = self.mark(tail, closed=closed, ended=ended)

    def some(self, segments: int, *, entries: int = 20) -> None:
        """A few segments more."""
        for _ in range(segments):
            self.segment()
            session = self.open()
            for seq in range(entries):
                self.act(session, seq, 0x20)
            self.checkpoint()

    def places(self) -> list[Stands]:
        """Every place at which a collector of this chain may stand, in order; the first is none."""
        kept = Kept()
        found = [kept.stands(self.kind)]
        source = Source(self.directory, self.kind)
        source.begin()
        mark = self.mark()
        while pieces := source.read(mark):
            for piece in pieces:
                put = piece.put
                at = 41 if not put.offset else 0
                head = put.data[:at]
                while at < len(put.data):
                    end = at + 3 + int.from_bytes(put.data[at + 1 : at + 3], "big")
                    start = put.offset + at - len(head)
                    data = head + put.data[at:end]
                    assert kept.put(type(put)(self.kind, put.segment, start, data))
                    found.append(kept.stands(self.kind))
                    head, at = b"", end
        source.leave()
        return found


def shipped(source: Source, mark: Position, kept: Kept) -> None:
    """Everything up to the mark goes to the collector, which takes it."""
    while pieces := source.read(mark):
        for piece in pieces:
            assert kept.put(piece.put) is (None if piece.end is None else True)
            if piece.end is not None:
                assert (kept.segment, kept.offset, kept.count, kept.h) == piece.end


def same(kept: Kept, written: AuditFiles, *, first: int = 1) -> None:
    """The collector has the very bytes of the files."""
    for number in range(first, written.chain.segment + 1):
        name = f"{written.kind}-{number:08d}.seg"
        assert bytes(kept.segments[number]) == (written.directory / name).read_bytes()
    assert (kept.count, kept.h) == (written.chain.entries, written.chain.h)
