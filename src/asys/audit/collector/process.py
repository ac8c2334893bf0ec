"""The collector as a process: start, READY, signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from asys.audit.collector.connection import Connection
from asys.audit.collector.directory import CollectorDir
from asys.audit.collector.keeper import Keeper
from asys.audit.collector.nodes import parse_nodes
from asys.audit.collector.server import Collector, Limits
from asys.node.clock import LoopClock
from asys.node.listen import Address, listen
from asys.node.logs import set_up

_log = logging.getLogger("asys.collector")

SPARE_FILES = 64
"""File descriptors that are needed beside one for each connection."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides."""

    directory: Path
    address: Address
    limits: Limits = field(default_factory=Limits)
    debug: bool = False


def run(options: Options) -> None:
    """Serves until SIGTERM or SIGINT.

    ConfigError, IdentityError, CannotStart or ListenError when it cannot start.
    """
    directory = CollectorDir(options.directory.absolute(), make=True)
    handler = set_up(debug=options.debug)
    try:
        asyncio.run(_serve(directory, options))
    finally:
        handler.close()


async def _serve(directory: CollectorDir, options: Options) -> None:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    nodes = parse_nodes(directory.read_nodes().decode("utf-8", "replace"))
    collector = Collector(directory.load_key(), nodes, clock, options.limits)
    keeper = collector.keeper = Keeper(directory.path, collector, clock, debug=options.debug)
    _make_room(options.limits)
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    server: asyncio.Server | None = None
    try:
        await keeper.start()
        loop.add_signal_handler(signal.SIGHUP, collector.reload)
        server, actual = await listen(lambda: Connection(collector), options.address)
        collector.watch()
        _log.info("collects audits in %s, listens on %s", directory.path, actual)
        _say_ready(f"READY {actual} {collector.key.public.hex()}\n")
        await end.wait()
        _log.info("ending")
    finally:
        if server is not None:
            server.close()
        collector.close()
        keeper.close()


def _make_room(limits: Limits) -> None:
    """Raises the soft limit of file descriptors, as far as the hard one lets it."""
    needed = limits.nodes + limits.unconfirmed + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    room = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))


def _say_ready(line: str) -> None:
    """One line on stdout for whoever started it."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError):  # whoever closed it does not wait for the line
            os.write(sys.stdout.fileno(), line.encode())
