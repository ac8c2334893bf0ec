"""A node that dies and comes back at the same address, for agents that are to come back too.

with Comeback(tmp_path) as node:
    node.die()
    node.start()
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import asys
from asys.client.aio import Connecting
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, Daemon
from support.own_daemon import AGENTS, argv, config

DIES_ONCE_DONE: Final = """
import os, signal
from asys.node.held.throttled import ThrottleBook
_stop = ThrottleBook.stop
def stop(*arguments, **options):
    _stop(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
ThrottleBook.stop = stop
"""
"""An asyd that dies when it has stopped a process, and before it says so."""

DIES_WHEN_TOLD: Final = """
import os, signal
from asys.node.held.throttled import ThrottleBook
_stop, _told = ThrottleBook.stop, []
def stop(*arguments, **options):
    _stop(*arguments, **options)
    if _told:
        os.kill(os.getpid(), signal.SIGKILL)
ThrottleBook.stop = stop
signal.signal(signal.SIGUSR1, lambda *_: _told.append(True))
"""
"""The same, of the first process that it stops after SIGUSR1."""


class Comeback:
    """One asyd at a time, with one config directory and one port."""

    def __init__(
        self,
        directory: Path,
        *,
        agents: Mapping[PrivateKey, str] = AGENTS,
        prelude: str = "",
        options: Sequence[str] = (),
    ) -> None:
        """`prelude` is for the first one only; `options` win over those that it has here."""
        self.config_dir: Final = config(directory, agents)
        self._prelude = prelude
        self._options = options
        self._port = 0
        self._key = b""
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        """The one that runs, or ran last."""
        assert self._daemon is not None
        return self._daemon

    def start(self, prelude: str = "") -> None:
        """Starts one, with a `prelude` for it alone; it takes connections then."""
        options = ("--port", str(self._port), "--handshake-rate", "0", *self._options)
        command = argv(self.config_dir, *options, prelude=prelude or self._prelude)
        self._daemon = Daemon(self.config_dir, command, read_log=True)
        self._daemon.await_ready()
        self._prelude = ""
        self._port = self._daemon.endpoint[1]
        self._key = self._key or self._daemon.key

    def die(self) -> None:
        """Kills the one that runs."""
        self.daemon.kill()

    def die_once_done(self) -> None:
        """Has one that DIES_WHEN_TOLD die between what it does next and the answer."""
        self.daemon.process.send_signal(signal.SIGUSR1)
        self.await_death()

    def await_death(self) -> None:
        """Returns when it has died by itself."""
        assert self.daemon.process.wait(60) == -signal.SIGKILL
        self.daemon.kill()

    def forget_key(self) -> None:
        """The next one has another key."""
        for path in self.config_dir.glob("id_curve25519*"):
            path.unlink()

    def options(self, **changes: Any) -> dict[str, Any]:
        """Arguments for `connect` behind host and port."""
        return {
            "identity": asys.Identity(AGENT),
            "node_key": self._key,
            "timeout": 60.0,
            "reconnect": asys.Reconnect(first=0.01, most=0.1),
            **changes,
        }

    def connect(self, **changes: Any) -> Connecting:
        """`asys.connect`."""
        return asys.connect("127.0.0.1", self._port, **self.options(**changes))

    def connect_sync(self, **changes: Any) -> asys.sync.Node:
        """`asys.sync.connect`."""
        return asys.sync.connect("127.0.0.1", self._port, **self.options(**changes))

    def __enter__(self) -> Comeback:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.daemon.kill()
