"""Directories of an audit as a writer would leave them, made with the chain itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from asys.audit.chain import Chain, CheckpointKeys
from asys.audit.entries import Entry, Run, SessionClosed, SessionOpened
from asys.audit.records import Record, digest
from asys.audit.segments import AUDIT, segment_name

KEY: Final = bytes(range(32))
START_NS: Final = 1_790_000_000 * 10**9
"""2026-09-21 14:13:20 UTC."""

MS: Final = 10**6


class AuditFiles:
    """A directory, the chain in it and its keys; a clock that goes on by 1 ms with each entry."""

    def __init__(self, directory: Path, kind: str = AUDIT, *, publish: bool = True) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.kind = kind
        self.chain = Chain()
        self.keys = CheckpointKeys.generate()
        self.first_key = self.keys.public
        self.now_ns = START_NS
        if publish:
            directory.joinpath(f"{kind}.pub").write_text(f"{self.first_key.hex()}\n")

    @property
    def path(self) -> Path:
        """The segment that is written now."""
        return self.directory / segment_name(self.kind, self.chain.segment)

    def segment(self, *, checkpoint: bool = True) -> None:
        """Begins a segment, with a checkpoint at its head."""
        head = self.chain.begin_segment()
        self.path.write_bytes(head)
        if checkpoint:
            self.checkpoint()

    def add(self, *entries: Entry) -> None:
        """Appends entries."""
        for entry in entries:
            self.now_ns += MS
            self.append(self.chain.add(entry))

    def append(self, data: bytes) -> None:
        """Appends bytes as they are."""
        with self.path.open("ab") as file:
            file.write(data)

    def checkpoint(self) -> None:
        """Appends a checkpoint."""
        self.append(self.chain.checkpoint(self.keys, self.now_ns))

    def end(self) -> None:
        """Ends it cleanly."""
        self.append(self.chain.clean_end(self.keys, self.now_ns))

    def keep_key(self) -> None:
        """Leaves the private key where the writer keeps it."""
        path = self.directory / f"{self.kind}.key"
        path.write_bytes(self.keys.private)
        path.chmod(0o600)

    # -- contents

    def open(self, label: str = "planner", key: bytes = KEY, peer: str = "192.0.2.7:40000") -> int:
        """Opens a session; returns its number."""
        number = self.chain.session_number()
        self.add(SessionOpened(number, key, 3, self.now_ns, label, peer))
        return number

    def close(self, session: int) -> None:
        """Closes it."""
        self.add(SessionClosed(session, self.now_ns))

    def record(
        self, seq: int, ins: int, sw: int, *, payload: bytes = b"", key: bytes = KEY
    ) -> Record:
        """A record of now."""
        self.now_ns += MS
        cla = 4 if seq else 0
        return Record(self.now_ns, digest(key), ins, cla, seq, digest(payload), sw)

    def act(self, session: int, seq: int, ins: int, sw: int = 0x9000) -> None:
        """An intent and its outcome."""
        self.add(Run.of(session, [self.record(seq, ins, 0), self.record(seq, ins, sw)]))


def usual(directory: Path, *, segments: int = 3, end: bool = True) -> AuditFiles:
    """A few sessions over a few segments, with a checkpoint amid each; ends cleanly."""
    files = AuditFiles(directory)
    for _ in range(segments):
        files.segment()
        session = files.open()
        other = files.open("web", bytes(32))
        files.act(session, 1, 0x20)
        files.act(other, 1, 0x22)
        files.checkpoint()
        files.act(session, 2, 0x20, 0x6982)
        files.close(session)
    if end:
        files.end()
    return files
