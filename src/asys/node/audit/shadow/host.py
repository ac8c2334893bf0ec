"""asyd's side of the shipper: starts it, hears what it says, starts it again. It never waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asys.node.audit.log import AuditLog
from asys.node.audit.shadow.strict import Strict
from asys.node.audit.shadow.words import MOVED, NOTED, Destination
from asys.node.children import ended, runner
from asys.node.clock import Clock, Handle
from asys.protocol.keys import PrivateKey

SHIPPER: Final = Path(__file__).parent / "shipper.py"

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
LIVED_SECONDS: Final = 30.0
"""A shipper that lived longer than this is started again after the first pause."""

_LINE: Final = 4096

_log = logging.getLogger("asyd.audit")


@dataclass(frozen=True, slots=True)
class Shadow:
    """What an admin has decided about a collector. `strict`: more waits for it than has to."""

    destination: Destination
    key: PrivateKey
    strict: bool = False


class ShadowHost:
    """The shipper of a node's rings, from `start` to `close`.

    As with the writer it is not a process of asyncio's: it goes on for a while when asyd has ended.
    """

    def __init__(
        self,
        shadow: Shadow,
        directory: Path,
        log: AuditLog,
        clock: Clock,
        hurry: Callable[[], None],
    ) -> None:
        """`hurry` has the writer write at once. `log` is degraded while no collector follows."""
        self._shadow = shadow
        self._directory = directory
        self._log = log
        self._clock = clock
        self._hurry_writer = hurry
        self.strict: Final = Strict(log.doing, clock, more=shadow.strict, hurry=self._hurry)
        log.shadowed = True
        self.starts = 0
        """Shippers that have been started."""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._leash = -1
        self._heard = b""
        self._pause = FIRST_PAUSE
        self._begun = 0.0
        self._timer: Handle | None = None
        self._ended: asyncio.Event | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The shipper: nobody may touch it, whatever was granted."""
        return (self._process.pid,) if self._process is not None else ()

    def start(self) -> None:
        """Starts the shipper; what goes wrong is logged and tried again."""
        self._timer = None
        if self._process is not None and self._process.poll() is None:
            self._again()  # it has let go of everything, and will have ended in a bit
            return
        self._process = None
        log, shadow = self._log, self._shadow
        ours, theirs = socket.socketpair()
        held, self._leash = os.pipe()
        try:
            ours.setblocking(False)
            os.write(self._leash, shadow.key.raw())
            passed = (log.doing.fd, log.reading.fd, theirs.fileno(), held)
            words = [*map(str, passed), str(self._directory), *shadow.destination.words()]
            self._process = subprocess.Popen(  # noqa: S603  this package's own program
                [*runner(), SHIPPER, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self._let_go()
            _log.error("the shipper of the audit cannot be started: %s", error)
            self._again()
            return
        finally:
            theirs.close()
            os.close(held)
        self.starts += 1
        self._control = ours
        self._begun = self._clock.now()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def end(self) -> None:
        """asyd ends: what the writer still writes is still pushed, for a while."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._control is not None:
            self._ended = asyncio.Event()
            self._control.shutdown(socket.SHUT_WR)
        self._let_go()

    async def close(self, patience: float = 0.0) -> None:
        """Behind `end`: waits for the shipper for so long, if a collector listens to it."""
        if self._ended is not None and self._log.doing.followed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._ended.wait()
        self._hang_up()
        if self._process is not None:
            ended(self._process, 1 if self._ended is not None and self._ended.is_set() else 0)
            self._process = None

    def _hurry(self) -> None:
        """Somebody waits for the collector."""
        self._hurry_writer()
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(b"!", socket.MSG_DONTWAIT)

    def _hear(self) -> None:
        """Lines; the end of them is the end of the shipper."""
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
            if line == MOVED:
                continue
            level = logging.INFO if line.startswith(NOTED) else logging.WARNING
            _log.log(level, "%s", line.removeprefix(NOTED).decode("utf-8", "replace"))
        self.strict.look()
        if data:
            self._heard = self._heard[-_LINE:]
            return
        self._hang_up()
        if self._ended is not None:
            self._ended.set()
            return
        for ring in (self._log.doing, self._log.reading):
            ring.followed = False
        self._let_go()
        _log.error("the shipper of the audit has died; it is started again")
        if self._clock.now() - self._begun >= LIVED_SECONDS:
            self._pause = FIRST_PAUSE
        self._again()

    def _again(self) -> None:
        self._timer = self._clock.call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _let_go(self) -> None:
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
