"""The shared memory of a running asyd, seen from outside: what it has put, and what is synced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asys.audit.segments import AUDIT, SegmentReader, find_segments
from asys.node.audit.encode import slots_of
from asys.node.audit.ring import Ring


@contextmanager
def ring_of(pid: int, name: str = "asyd-audit") -> Iterator[Ring]:
    """A ring of the asyd with this PID; it must not be written to. Needs memfds."""
    wanted = f"/memfd:{name} (deleted)"
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(link) == wanted:
            ring = Ring(os.open(link, os.O_RDWR | os.O_CLOEXEC))
            try:
                yield ring
            finally:
                ring.close()
            return
    raise AssertionError(f"asyd has no {name}")


def slots_on(directory: Path, kind: str = AUDIT) -> int:
    """So many slots of rings are in the segments of a directory."""
    count = 0
    for segment in find_segments(directory, kind):
        with SegmentReader(segment) as reader:
            while reader.read_header() and (batch := reader.batch()):
                count += sum(slots_of(framed.data) for framed in batch)
    return count
