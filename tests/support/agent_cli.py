"""The command `asys` in tests: in this process, in one of its own, and at a pseudo terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

import asys
from asys.cli.agent import main
from support.wire_node import ThreadedWireNode

ASYS: Final = (sys.executable, "-m", "asys")


@dataclass(frozen=True)
class Run:
    """What one command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> Any:
        """What `--json` says about an error; there must be nothing beside it."""
        assert list(self.data) == ["error"]
        assert {"kind", "message", "sw", "advice"} <= set(self.data["error"])
        return self.data["error"]


class AgentCli:
    """An agent with files of its own, and the commands that it runs."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.identity: Final = directory / "agent"
        self.known_hosts: Final = directory / "known_hosts"
        self.public: Final = asys.Identity.create(self.identity).public
        self._capsys = capsys

    def trusts(self, node: ThreadedWireNode, key: bytes | None = None) -> str:
        """Makes a node known, and gives the name that it goes by."""
        inner = node.node
        asys.KnownHosts(self.known_hosts).add(inner.host, inner.port, key or inner.key.public)
        return name_of(node)

    @property
    def files(self) -> tuple[str, ...]:
        """The options of a command that connects."""
        return ("--identity", str(self.identity), *self.hosts)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The option of a command that needs known_hosts only."""
        return ("--known-hosts", str(self.known_hosts))

    def run(self, *words: str) -> Run:
        """Runs a command in this process."""
        self._capsys.readouterr()
        status = main(words)
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err
        return Run(status, captured.out, captured.err)

    def ask(self, command: str, node: ThreadedWireNode, *words: str) -> Run:
        """Runs a command on a node that is known."""
        return self.run(command, self.trusts(node), *words, *self.files)


def name_of(node: ThreadedWireNode) -> str:
    """HOST of a node on the command line."""
    return node.node.host if node.node.host[:5] == "unix:" else f"127.0.0.1:{node.node.port}"


def process(*words: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Run:
    """Runs the real command, with `stdin` in a pipe."""
    done = subprocess.run(
        (*ASYS, *words),
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


class Terminal:
    """A command whose stdin is a terminal at which a test types."""

    def __init__(self, running: subprocess.Popen[bytes], master: int) -> None:
        self._running = running
        self._master = master
        self.said = ""

    def read_until(self, text: str) -> None:
        """Reads stderr until `text` has come."""
        assert self._running.stderr is not None
        while text not in self.said:
            data = os.read(self._running.stderr.fileno(), 4096)
            assert data, f"it ended before it said {text!r}: {self.said}"
            self.said += data.decode()

    def type(self, text: str) -> None:
        """Types a line."""
        os.write(self._master, text.encode() + b"\n")

    def end_of_file(self) -> None:
        """Types Ctrl-D."""
        os.write(self._master, b"\x04")

    def end(self) -> Run:
        """Waits for the end of the command."""
        out, err = self._running.communicate(timeout=120)
        self.said += err.decode()
        assert "Traceback" not in self.said
        return Run(self._running.returncode, out.decode(), self.said)


@contextmanager
def at_terminal(*words: str) -> Iterator[Terminal]:
    """Runs the real command with a terminal as its stdin; stdout and stderr are pipes."""
    master, slave = pty.openpty()
    try:
        running = subprocess.Popen(
            (*ASYS, *words), stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        os.close(slave)
    try:
        with running:
            try:
                yield Terminal(running, master)
            finally:
                running.kill()
    finally:
        os.close(master)


def on_screen(*words: str, columns: int = 80, no_color: bool = False) -> str:
    """What the real command draws on a terminal of so many columns."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    if no_color:
        environment["NO_COLOR"] = "1"
    master, slave = pty.openpty()
    try:
        running = subprocess.Popen(
            (*ASYS, *words), stdin=subprocess.DEVNULL, stdout=slave, env=environment
        )
    finally:
        os.close(slave)
    drawn = b""
    try:
        with running:
            try:
                while data := _read_terminal(master):
                    drawn += data
            except BaseException:
                running.kill()
                raise
    finally:
        os.close(master)
    assert running.returncode == 0
    return drawn.decode().replace("\r\n", "\n")


def _read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # Linux says EIO when the last writer has gone
        return b""
