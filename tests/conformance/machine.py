"""The machine that the model node speaks of: one that is not there, with a number in each field."""

from __future__ import annotations

import time
from hashlib import blake2b
from struct import pack
from typing import ClassVar, Final

from asys.conformance.handshake import MAGIC

EVENT_IDS: Final = (bytes.fromhex("0123456789abcdef"), bytes.fromhex("1123456789abcdef"))
NOW_NS: Final = 1_795_187_797_736_660_849


class Machine:
    """What is read of it, as it travels."""

    PID: ClassVar[int] = 4321
    OUTSIDE_PID: ClassVar[int] = 777
    PIDS: ClassVar[tuple[int, ...]] = (1, 4321, 777)
    SERVICE: ClassVar[str] = "web"
    OUTSIDE_SERVICE: ClassVar[str] = "database"
    SERVICES: ClassVar[tuple[str, ...]] = ("web", "database")
    RESTART_SECONDS: ClassVar[float] = 0.05

    def caps(self, words: bytes, page: int) -> bytes:
        """SYS_CAPS: 6.18.44, 2 CPUs, x86_64, 24,105 MB, no swap, ext4, PSI."""
        return words + pack(
            ">HBBHHHIIIHBB", 0x0100, 6, 18, 44, 2, 1, 24105, 4095, 258019, 1, 1, page
        )

    def hello(self) -> bytes:
        """SYS_HELLO."""
        return MAGIC + pack(">IQ", 0x3D1219C7, time.time_ns())

    def status(self) -> bytes:
        """SYS_STATUS."""
        return pack(">BBBIBIHHBB3x", 24, 18, 100, 22798, 11, 5, 1, 2, 50, 0)

    def procs(self) -> bytes:
        """SYS_PROCS: four of 124."""
        rows = ((25632, 9252, 0, 4), (15844, 1951, 1, 4), (16041, 1463, 0, 2), (2531, 487, 0, 1))
        return pack(">H", 124) + b"".join(pack(">IHBB", *row) for row in rows) + bytes(8)

    def events(self) -> list[bytes]:
        """Two events of the log, worst first."""
        return [
            EVENT_IDS[0] + pack(">QIIB3x32s", NOW_NS, 7, 4321, 3, b"web.service"),
            EVENT_IDS[1] + pack(">QIIB3x32s", NOW_NS - 5, 2, 0, 6, b"kernel"),
        ]

    def log_summary(self, priority: int, wanted: int) -> bytes:
        """LOG_SUMMARY."""
        found = [one for one in self.events() if one[24] <= priority][:wanted]
        return pack(">IBBH", 9, len(found), 1, 1) + b"".join(found)

    def was_shown(self, event: bytes) -> bool:
        """Whether an event was in a summary."""
        return event in EVENT_IDS

    def log_detail(self) -> bytes:
        """LOG_DETAIL of the first event."""
        return pack(">BBH", 2, 1, 0) + self.entry(NOW_NS - 9, b"before") + self.entry(NOW_NS)

    def entry(self, time_ns: int, message: bytes = b"disk full") -> bytes:
        """One entry of the log."""
        return pack(">QIBBH", time_ns, 4321, 3, 0, len(message)) + message

    def proc_tree(self, pid: int) -> bytes:
        """PROC_TREE: PID 1, two children, and a child of the first."""
        rows = [(1, 0, 0, b"init"), (777, 1, 1, b"database"), (800, 777, 2, b"worker")]
        rows.append((4321, 1, 1, b"web"))
        shown = rows if pid == 1 else [rows[0], *(row for row in rows if row[0] == pid)]
        index = [row[0] for row in shown].index(pid)
        return pack(">HHHH", len(rows), len(shown), index, 0) + b"".join(
            self.process(*row) for row in shown
        )

    def process(self, pid: int, parent: int, depth: int, name: bytes) -> bytes:
        """One process."""
        return pack(">IIIHHBcBB16s", pid, parent, 0, 150, 1, depth, b"S", 4, 1, name)

    def key_hash(self, key: bytes) -> bytes:
        """What an agent is named by."""
        return blake2b(key).digest()[:4]
