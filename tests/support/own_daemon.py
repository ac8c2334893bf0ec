"""Parts of support.daemon for tests that start asyd in a way of their own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asys
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, COMMAND, PATIENCE, Daemon, unrecorded, write_agents

AGENTS: Final = {AGENT: "agent caps=all"}


def argv(config_dir: Path, *options: str, prelude: str = "") -> list[str]:
    """The command that starts asyd, on any port of loopback where no option says otherwise."""
    listen = [] if "--listen" in options else ["--listen", "127.0.0.1"]
    return [
        *(sys.executable, "-c", prelude + COMMAND),
        *("--config-dir", str(config_dir), "--port", "0", *listen),
        *(*unrecorded(options), *options),
    ]


def config(tmp_path: Path, agents: Mapping[PrivateKey, str] = AGENTS) -> Path:
    """A config directory with these agents."""
    directory = tmp_path / "asyd"
    directory.mkdir(mode=0o700)
    write_agents(directory, agents)
    return directory


@contextmanager
def faulty(
    directory: Path, *options: str, prelude: str = "", launcher: Sequence[str] = ()
) -> Iterator[Daemon]:
    """An asyd that logs errors because it meets some; it still has to end well.

    `launcher` is a command that starts it.
    """
    words = [*launcher, *argv(directory, *options, prelude=prelude)]
    daemon = Daemon(directory, words, read_log=True)
    try:
        daemon.await_ready()
        yield daemon
        daemon.process.send_signal(signal.SIGTERM)
        status = daemon.process.wait(PATIENCE)
        assert status == 0, f"asyd ended with status {status}; its log: {daemon.log}"
        assert "Traceback" not in "".join(daemon.log), "\n".join(daemon.log)
    finally:
        daemon.kill()


def sdk(daemon: Daemon, key: PrivateKey = AGENT, **options: Any) -> asys.sync.Node:
    """A session of the SDK's with an asyd, that waits as long as tests do."""
    host, port = daemon.endpoint
    return asys.sync.connect(
        host,
        port,
        **{
            "identity": asys.Identity(key),
            "node_key": daemon.key,
            "timeout": PATIENCE,
            **options,
        },
    )
