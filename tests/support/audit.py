"""The audit of a node in tests: what stands in its files, and a node's side without a node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

from asys.audit.chain import HEAD_SIZE
from asys.audit.entries import Entry, Run, parse
from asys.audit.records import Record
from asys.audit.segments import AUDIT, SegmentReader, find_segments
from asys.node.audit.append_only import set_append_only
from asys.node.audit.ring import Ring
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import WriterOptions
from asys.node.clock import LoopClock

KEY: Final = bytes(range(32))
"""Of an agent."""

PATIENCE: Final = 60.0
"""Seconds until what does not come counts as broken."""

PRODUCER: Final = """
import asyncio, sys
from pathlib import Path
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import WriterOptions
from asys.node.clock import LoopClock

async def main():
    audit = Supervisor(
        WriterOptions(Path(sys.argv[1]), append_only=False),
        LoopClock(asyncio.get_running_loop()),
    )
    audit.start()
    print(audit.pids[0], flush=True)
    session = audit.log.open_session(bytes(32), "label", 1, "peer")
    seq = int(sys.argv[2])
    while True:
        for _ in range(20):
            seq += 1
            if not audit.log.intent(session, 0x84, 0x20, seq, b""):
                raise SystemExit("full")
        print(seq, audit.log.doing.writer, flush=True)
        await asyncio.sleep(0.004)

asyncio.run(main())
"""
"""Records without an end, some 5000 records a second.

Its arguments are the directory and the Seq before the first. It says the PID of its keeper; then,
again and again, the last Seq and the PID of its writer.
"""

ENVIRONMENT: Final = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"),
}
"""For programs that import what is tested."""


def ended(pidfd: int) -> None:
    """Returns when a process has ended that need not be a child, and closes what stands for it."""
    with open(pidfd, "rb"):
        assert select.select([pidfd], [], [], PATIENCE)[0]


def entries(directory: Path, kind: str = AUDIT) -> Iterator[Entry]:
    """All entries of a chain, in order."""
    for segment in find_segments(directory, kind):
        with SegmentReader(segment) as reader:
            if not reader.read_header():
                continue
            while batch := reader.batch():
                for framed in batch:
                    yield parse(framed.data[0], framed.data[HEAD_SIZE:])


def records(directory: Path) -> list[tuple[int, Record]]:
    """All records: the session's number in the chain, and the record."""
    return [
        (entry.session, record)
        for entry in entries(directory)
        if isinstance(entry, Run)
        for record in entry.records
    ]


def sequence(directory: Path) -> list[int]:
    """The Seq of all records."""
    return [record.seq for _, record in records(directory)]


def small_rings(slots: int = 2000) -> tuple[Ring, Ring]:
    """Two rings that a test can fill."""
    return Ring.create("test-audit", slots), Ring.create("test-audit-reads", slots)


async def until(condition: Callable[[], bool]) -> None:
    """Returns when that holds; nothing tells when memory changes that another process writes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def everything_written(audit: Supervisor) -> bool:
    """Whether all that was put is on the disk, and nothing is counted only."""
    doing, reading = audit.log.doing, audit.log.reading
    return doing.tail == doing.head and reading.tail == reading.head


@contextlib.asynccontextmanager
async def audited(options: WriterOptions) -> AsyncIterator[Supervisor]:
    """An audit with its writer; at the end of the block the writer has written all and ended."""
    audit = Supervisor(options, LoopClock(asyncio.get_running_loop()))
    audit.start()
    try:
        yield audit
    finally:
        await audit.close(PATIENCE)


def make_removable(directory: Path) -> None:
    """Lets files that can only grow be removed again."""
    for path in directory.glob("*.seg"):
        fd = os.open(path, os.O_RDONLY)
        try:
            set_append_only(fd, on=False)
        finally:
            os.close(fd)
