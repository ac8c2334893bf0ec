"""Who started whom, from /proc: a process with its ancestors and its descendants.

All of it comes in steps, as there may be thousands of processes and one event loop.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Final

from asys.isa import ProcessFlags
from asys.isa.diagnostics import DEFAULT_DEPTH, MOST_PROCESSES, ProcessTree, TreeProcess
from asys.isa.untrusted import UntrustedText
from asys.node.platform.base import NoSuchTarget, SystemFailure, Tree, node_failure
from asys.node.platform.processes.process import STATUS_SIZE
from asys.node.platform.processes.proclist import Listing, choose_listing
from asys.node.platform.procfs import PROC, STAT_SIZE, read_small, stat_fields
from asys.protocol.status import SW

_GIVEN_UP: Final = 64
"""Entries of a table that are given up in one step."""

_FLAGS: Final = {b"Z": ProcessFlags.ZOMBIE, b"D": ProcessFlags.UNINTERRUPTIBLE}


class ProcfsTrees:
    """As base.ProcessTrees, from /proc."""

    def __init__(self, root: str = PROC, *, listing: Listing | None = None) -> None:
        self._list = listing or choose_listing()
        self._pages = max(os.sysconf("SC_PHYS_PAGES"), 1)
        try:
            self._proc = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise node_failure(error, f"opening {root}") from error

    def close(self) -> None:
        """As ProcessTrees.close."""
        if self._proc >= 0:
            os.close(self._proc)
            self._proc = -1

    def holds(self, pid: int) -> bool:
        """As ProcessTrees.holds."""
        status = self._read(f"{pid}/status", STATUS_SIZE)
        # A thread has an entry too, which no listing shows.
        return _number(status, b"\nTgid:") == pid

    def tree(self, pid: int, depth: int, busy: Mapping[int, float]) -> Generator[None, None, Tree]:
        """As ProcessTrees.tree."""
        stats: dict[int, bytes] = {}
        children: dict[int, list[int]] = {}
        try:
            yield from self._scan(stats, children)
            tree = yield from self._tree(pid, depth or DEFAULT_DEPTH, busy, stats, children)
        except OSError as error:
            raise node_failure(error, "reading the process table") from error
        except (ValueError, IndexError) as error:
            raise SystemFailure(f"/proc is not as expected: {error}", SW.NODE_IO_ERROR) from error
        yield from _give_up(stats)
        yield from _give_up(children)
        return tree

    def _scan(
        self, stats: dict[int, bytes], children: dict[int, list[int]]
    ) -> Generator[None, None, None]:
        for names in self._list(self._proc):
            yield
            for name in names:
                stat = self._read(f"{name}/stat", STAT_SIZE)
                if stat:
                    pid = int(name)
                    stats[pid] = stat
                    children.setdefault(_parent(stat), []).append(pid)
                yield

    def _tree(
        self,
        pid: int,
        depth: int,
        busy: Mapping[int, float],
        stats: dict[int, bytes],
        children: dict[int, list[int]],
    ) -> Generator[None, None, Tree]:
        if pid not in stats:
            raise NoSuchTarget(f"there is no process {pid}")
        above = _ancestors(pid, stats)
        shown = above[-(MOST_PROCESSES - 1) :]
        chosen, below = yield from _descendants(
            pid, {pid, *above}, depth, MOST_PROCESSES - 1 - len(shown), children
        )
        total = len(above) + 1 + below
        rows: list[bytes] = []
        starts: dict[int, int] = {}
        index = -1
        waiting = [(one, level) for level, one in enumerate([*shown, pid])]
        waiting.reverse()
        while waiting:
            one, level = waiting.pop()
            fields = stat_fields(stats[one])
            row = self._row(one, level, stats[one], fields, busy)
            if row is None:  # it has ended meanwhile
                total -= 1
            else:
                index = len(rows) if one == pid else index
                rows.append(row.pack())
                starts[one] = int(fields[19])
            waiting += [(child, level + 1) for child in reversed(chosen.get(one, ()))]
            yield
        if index < 0:
            raise NoSuchTarget(f"process {pid} has ended")
        head = ProcessTree(total, len(rows), index, ()).pack()
        return Tree(head + b"".join(rows), starts)

    def _row(
        self, pid: int, level: int, stat: bytes, fields: list[bytes], busy: Mapping[int, float]
    ) -> TreeProcess | None:
        status = self._read(f"{pid}/status", STATUS_SIZE)
        if not status:
            return None
        uid = _number(status, b"\nUid:", 1)
        flags = _FLAGS.get(fields[0], ProcessFlags(0))
        if uid == 0:
            flags |= ProcessFlags.ROOT
        name = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
        return TreeProcess(
            pid,
            int(fields[1]),
            uid,
            busy.get(int(fields[19]) << 32 | pid, 0.0),
            int(fields[17]),
            level,
            fields[0].decode("ascii"),
            flags,
            min(int(fields[21]) * 100 // self._pages, 100),
            UntrustedText(name.decode(errors="replace")),
        )

    def _read(self, name: str, size: int) -> bytes:
        """The head of a file of a process; nothing when it has ended, or /proc hides it."""
        try:
            return read_small(name, size, self._proc)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return b""


def _parent(stat: bytes) -> int:
    return int(stat[stat.rindex(b")") + 4 :].split(None, 1)[0])


def _number(status: bytes, name: bytes, column: int = 0) -> int:
    """A number of /proc/PID/status, or -1."""
    at = status.find(name)
    if at < 0:
        return -1
    return int(status[at + len(name) :].split(None, column + 1)[column])


def _ancestors(pid: int, stats: Mapping[int, bytes]) -> list[int]:
    """The PIDs above a process, from the root down."""
    seen = {pid}
    above = []
    parent = _parent(stats[pid])
    # Processes are read one after the other: a PID that was given away meanwhile can be its own
    # ancestor.
    while parent in stats and parent not in seen:
        above.append(parent)
        seen.add(parent)
        parent = _parent(stats[parent])
    above.reverse()
    return above


def _descendants(
    pid: int, seen: set[int], depth: int, room: int, children: Mapping[int, list[int]]
) -> Generator[None, None, tuple[dict[int, list[int]], int]]:
    """The children to show of each process, and how many descendants there are in all.

    What is in `seen` is none. Of what there is no room for the deepest are left out first, and of
    one level the last.
    """
    chosen: dict[int, list[int]] = {}
    below = 0
    level = [pid]
    while level:
        next_level = []
        for parent in level:
            for child in sorted(children.get(parent, ())):
                if child not in seen:
                    seen.add(child)
                    below += 1
                    next_level.append(child)
                    if depth > 0 and room > 0:
                        room -= 1
                        chosen.setdefault(parent, []).append(child)
                yield
            yield
        level = next_level
        depth -= 1
    return chosen, below


def _give_up(table: dict[int, bytes] | dict[int, list[int]]) -> Generator[None, None, None]:
    """Empties a table a little at a time: thousands of entries at once would hold everybody."""
    while table:
        for _ in range(min(_GIVEN_UP, len(table))):
            table.popitem()
        yield
