"""A real asyd with its audit, and the processes that write it.

with recording(tmp_path, agents={AGENT: "caps=all"}) as asyd: ...
# Here asyd has ended, and all that it recorded is in asyd.directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from asys.audit.reading import Action, read
from asys.audit.segments import AUDIT, READS
from asys.audit.verify import WHOLE, verify
from asys.protocol.keys import PrivateKey
from support.audit import ended, make_removable
from support.daemon import PATIENCE, Daemon, running
from support.own_daemon import argv


class Recording:
    """An asyd and where it is on record."""

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self.daemon: Final = daemon
        self.directory: Final = directory
        [self.keeper] = self.children("keeper.py")
        self._keeper = os.pidfd_open(self.keeper)

    def children(self, program: str) -> list[int]:
        """The PIDs of children of asyd that run a program of its own."""
        return [
            one.pid
            for one in psutil.Process(self.daemon.pid).children()
            if any(word.endswith(f"/{program}") for word in one.cmdline())
        ]

    def writer(self, *, other_than: int = 0) -> int:
        """The PID of the writer, once there is one; nothing tells when its process begins."""
        end = time.monotonic() + PATIENCE
        while True:
            for one in psutil.Process(self.keeper).children():
                if one.pid != other_than:
                    return one.pid
            assert time.monotonic() < end, "there is no writer"
            time.sleep(0.005)

    def written(self) -> None:
        """Returns when the writer has written all and ended; asyd must have ended before."""
        ended(self._keeper)

    def kill(self) -> None:
        """kill -9."""
        self.daemon.process.kill()
        self.daemon.process.wait()


@contextmanager
def recording(
    directory: Path, *options: str, agents: Mapping[PrivateKey, str], audit: Path | None = None
) -> Iterator[Recording]:
    """As `running`, with an audit in `audit`; behind the block the writer has ended too."""
    audit = audit or directory / "audit"
    found: list[Recording] = []
    try:
        with running(directory, "--audit-dir", str(audit), *options, agents=agents) as daemon:
            found.append(Recording(daemon, audit))
            yield found[0]
    finally:
        for one in found:
            one.written()
        make_removable(audit)


@contextmanager
def mortal(config_dir: Path, audit: Path, *options: str, prelude: str = "") -> Iterator[Recording]:
    """One that may be killed, or logs errors; killed at the end of the block.

    Nobody waits for what it has left to write, or makes that removable. `prelude` is Python that
    runs in its process before it.
    """
    words = argv(
        config_dir,
        *("--audit-dir", str(audit), "--handshake-rate", "0", *options),
        prelude=prelude,
    )
    daemon = Daemon(config_dir, words, read_log=True)
    try:
        daemon.await_ready()
        yield Recording(daemon, audit)
    finally:
        daemon.kill()


def actions(directory: Path, kind: str = AUDIT) -> list[Action]:
    """All that was done, in order; nothing may be wrong or missing."""
    items = list(read(directory, kind))
    return [one for one in items if isinstance(one, Action)]


def assert_whole(directory: Path) -> None:
    """Both chains verify, to their clean end."""
    for kind in (AUDIT, READS):
        verdict = verify(directory, kind=kind)
        assert verdict.code == WHOLE, verdict
