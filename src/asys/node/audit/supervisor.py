"""asyd's side of the writer: starts it, hears what it says, starts it again. It never waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from pathlib import Path
from typing import Final

from asys.node.audit.journaled_log import JournaledLog
from asys.node.audit.log import AuditLog
from asys.node.audit.parameters import JOURNAL
from asys.node.audit.ring import DOING, READING, Ring
from asys.node.audit.shadow.host import Shadow, ShadowHost
from asys.node.audit.writer import WORKS, WriterOptions
from asys.node.children import ended, runner
from asys.node.clock import Clock, Handle

KEEPER: Final = Path(__file__).parent / "keeper.py"

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
LIVED_SECONDS: Final = 30.0
"""A writer that lived longer than this is started again after the first pause."""

_LINE: Final = 4096

_log = logging.getLogger("asyd.audit")


class Supervisor:
    """The writer of a node's rings, in processes of its own, from `start` to `close`.

    The processes are not asyncio's, which would kill them when its loop ends: they have to write
    what is left. When all of them are gone, however they went, the socket to them says so.
    """

    def __init__(
        self,
        options: WriterOptions,
        clock: Clock,
        *,
        doing: int = DOING,
        reading: int = READING,
        parameters: bool = False,
        journal: int = JOURNAL,
        shadow: Shadow | None = None,
    ) -> None:
        """Takes the memory. OSError: there is none. `doing`, `reading` and `journal` are slots.

        `parameters`: what instructions said is kept too. `shadow`: a collector follows.
        """
        self._options = options
        self._clock = clock
        self._doing = Ring.create("asyd-audit", doing)
        self._reading = Ring.create("asyd-audit-reads", reading)
        self._journal = Ring.create("asyd-audit-parameters", journal) if parameters else None
        self.log: Final = (
            AuditLog(clock, self._doing, self._reading)
            if self._journal is None
            else JournaledLog(clock, self._doing, self._reading, self._journal)
        )
        self.shadow: Final = (
            ShadowHost(shadow, options.directory, self.log, clock, self._hurry) if shadow else None
        )
        self.log.hurry = self._hurry
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._heard = b""
        self._pause = FIRST_PAUSE
        self._begun = 0.0
        self._timer: Handle | None = None
        self._ended: asyncio.Event | None = None
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the writer: nobody may touch them, whatever was granted."""
        kept = self._process.pid if self._process is not None else 0
        shippers = self.shadow.pids if self.shadow is not None else ()
        return tuple(pid for pid in (kept, self._doing.writer, *shippers) if pid)

    def start(self) -> None:
        """Starts the writer; what goes wrong raises AUDIT_DEGRADED and is tried again."""
        self._timer = None
        self._reap()
        if self._process is not None:  # it has let go of everything, and will have ended in a bit
            self._again()
            return
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            journal = self._journal.fd if self._journal is not None else -1
            passed = (self._doing.fd, self._reading.fd, journal, theirs.fileno())
            self._process = subprocess.Popen(  # noqa: S603  this package's own program
                [*runner(), KEEPER, *map(str, passed), *self._options.words()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[fd for fd in passed if fd >= 0],
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self.log.fault = True
            _log.error("the writer of the audit cannot be started: %s", error)
            self._again()
            return
        finally:
            theirs.close()
        self._control = ours
        self._begun = self._clock.now()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    async def close(self, patience: float = 0.0) -> None:
        """Lets the writer write what is left and end.

        For `patience` seconds it is waited for; longer than that it does alone. Once is enough.
        """
        if self._closed:
            return
        self._closed = True
        self.log.close()
        if self.shadow is not None:
            self.shadow.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._control is not None:
            self._ended = asyncio.Event()
            self._control.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._ended.wait()
            self._hang_up()
        if self._process is not None:
            # Once the socket has come to its end there is nothing left to wait for.
            ended(self._process, 1 if self._ended is not None and self._ended.is_set() else 0)
            self._process = None
        if self.shadow is not None:
            await self.shadow.close(patience)
        self._doing.close()
        self._reading.close()
        if self._journal is not None:
            self._journal.close()

    def _hurry(self) -> None:
        """What is in the rings is written at once: whatever is said to the writer wakes it."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(b"!", socket.MSG_DONTWAIT)

    def _hear(self) -> None:
        """Lines for the log; the end of them is the end of the writer."""
        if self._control is None:
            return
        try:
            data = self._control.recv(_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            if line == WORKS:
                self.log.fault = False
            else:
                _log.warning("%s", line.decode("utf-8", "replace"))
        if data:
            self._heard = self._heard[-_LINE:]
            return
        self._hang_up()
        if self._ended is not None:
            self._ended.set()
            return
        self.log.fault = True
        _log.error("the writer of the audit has died; it is started again")
        if self._clock.now() - self._begun >= LIVED_SECONDS:
            self._pause = FIRST_PAUSE
        self._again()

    def _again(self) -> None:
        self._timer = self._clock.call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    def _reap(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            self._process = None
