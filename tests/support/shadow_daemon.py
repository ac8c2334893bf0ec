"""A real `asys audit collect`, and an asyd whose audit goes there.

with real_collector(tmp_path) as collector: ...
    config_dir = followed_config(tmp_path, collector, AGENTS)
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from asys.node.disk.config_dir import ConfigDir
from asys.protocol.keys import PrivateKey
from support.asyd_cli import told
from support.daemon import PATIENCE
from support.frames import STATUS
from support.own_daemon import config
from support.raw_agent import RawAgent

_COMMAND: Final = "import sys; from asys.cli.agent import main; sys.exit(main())"
_READY: Final = re.compile(r"READY (\S+) ([0-9a-f]{64})\n")
LABEL: Final = "node-1"


class RealCollector:
    """A collector in a process of its own, which may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.port = 0
        self.key = ""
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """On the port that it had."""
        words = ["audit", "collect", "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words, "--dir", str(self.directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0]
        match = _READY.fullmatch(self.process.stdout.readline())
        assert match is not None
        self.port = int(match[1].rpartition(":")[2])
        self.key = match[2]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it; returns when it is gone."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """While the block lasts it does nothing at all."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def admit(self, node_key: bytes) -> None:
        """Lets a node in."""
        words = ["audit", "admit", str(self.directory), node_key.hex(), LABEL]
        subprocess.run(
            [sys.executable, "-c", _COMMAND, *words],
            check=True,
            timeout=PATIENCE,
            stdout=subprocess.DEVNULL,
        )
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def generations(self) -> list[Path]:
        """What it has of the node, oldest first."""
        place = self.directory / LABEL
        if not place.is_dir():
            return []
        return sorted(
            (one for one in place.iterdir() if one.name.isdigit()), key=lambda one: int(one.name)
        )


@contextlib.contextmanager
def real_collector(directory: Path) -> Iterator[RealCollector]:
    """A collector that runs; killed at the end of the block."""
    made = RealCollector(directory / "collector")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def followed_config(
    tmp_path: Path,
    address: str,
    key: str,
    agents: Mapping[PrivateKey, str],
    admit: Callable[[bytes], None] | None = None,
) -> Path:
    """The config directory of a node that trusts a collector, and is known to it."""
    config_dir = config(tmp_path, agents)
    told(config_dir, "collector", "trust", address, key)
    if admit is not None:
        admit(ConfigDir(config_dir).load_key().public)
    return config_dir


def until_flags(agent: RawAgent, wanted: int) -> None:
    """Asks until SYS_STATUS shows it."""
    end = time.monotonic() + PATIENCE
    while agent.ask(STATUS)[17] != wanted:
        assert time.monotonic() < end, f"AUDIT_DEGRADED did not become {wanted}"
        time.sleep(0.01)
