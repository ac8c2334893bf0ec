"""`asys top` on the command line: what it needs, and the real program at a real terminal."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pty
import select
import struct
import subprocess
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

import asys
from asys.cli import top_commands
from asys.errors import UnknownHost
from support import bare_python
from support.agent_cli import ASYS, AgentCli
from support.daemon import AGENT, PATIENCE, running
from support.wire_node import ThreadedWireNode


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def test_it_needs_a_terminal(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        done = agent.ask("top", node)

    assert done.status == 2
    assert "needs a terminal" in done.err


def test_without_textual_it_says_what_to_install(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "textual" else find(name)
    )
    done = agent.run("top", "web-1", *agent.files)

    assert done.status == 2
    assert "pip install 'asys[tui]'" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json",), "asys status HOST --json"),
        (("--interval", "0"), "0.2 to 20"),
        (("--interval", "21"), "0.2 to 20"),
        (("--interval", "nan"), "0.2 to 20"),
        (("--interval", "often"), "0.2 to 20"),
        (("other", "--audit", "."), "one HOST"),
        (("--port", "x"), "not a port"),
    ],
)
def test_words_that_cannot_be_right(agent: AgentCli, words: tuple[str, ...], said: str) -> None:
    done = agent.run("top", "127.0.0.1", *words, *agent.files)

    assert done.status == 2
    assert said in done.out + done.err


def test_an_audit_that_is_not_there(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(top_commands, "is_terminal", lambda stream: True)
    with ThreadedWireNode() as node:
        done = agent.ask("top", node, "--audit", str(tmp_path / "none"))

    assert done.status == 2
    assert "the audit cannot be read" in done.err


def test_an_unknown_key_is_never_trusted_by_itself(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        arguments = _arguments(agent, f"127.0.0.1:{node.node.port}")
        with pytest.raises(UnknownHost):
            top_commands.targets(arguments)


def test_a_node_that_cannot_be_reached_is_for_the_view_to_show(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        port = node.node.port
    host = f"127.0.0.1:{port}"
    [found] = top_commands.targets(_arguments(agent, host, host))

    assert (found.name, found.host, found.port) == (host, "127.0.0.1", port)


def _arguments(agent: AgentCli, *hosts: str) -> argparse.Namespace:
    return argparse.Namespace(
        host=list(hosts),
        port=None,
        identity=agent.identity,
        known_hosts=agent.known_hosts,
        timeout=None,
    )


def test_other_commands_do_not_import_textual() -> None:
    code = "import sys; from asys.cli.agent import parser; parser(); print(*sys.modules)"
    modules = bare_python.run(code).split()

    assert not [one for one in modules if one.split(".")[0] in ("textual", "rich")]
    assert not [one for one in modules if one.startswith("asys.tui")]


def test_the_real_program_at_a_terminal_of_80x24(tmp_path: Path) -> None:
    identity = asys.Identity.create(tmp_path / "agent")
    known_hosts = tmp_path / "known_hosts"
    agents = {AGENT: "other"}
    with running(tmp_path, agents=agents) as asyd:
        asyd.reload({**agents, identity.key: "boss caps=all"})
        host, port = asyd.endpoint
        asys.KnownHosts(known_hosts).add(host, port, asyd.key)
        words = ("top", f"{host}:{port}", "--identity", str(tmp_path / "agent"))
        status, said = at_terminal(
            (*words, "--known-hosts", str(known_hosts)), until="Suspend", then=b"q"
        )

    assert status == 0, said
    for text in ("live", "CPU", "Pressure", "PID", "SYS_STATUS"):
        assert text in said
    assert "Traceback" not in said


def at_terminal(words: tuple[str, ...], *, until: str, then: bytes) -> tuple[int, str]:
    """Runs `asys` on a terminal of 80x24 until it has drawn all that it should, then types."""
    master, slave = pty.openpty()
    ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    said = b""
    try:
        with subprocess.Popen(
            (*ASYS, *words), stdin=slave, stdout=slave, stderr=slave, env=environment
        ) as running:
            os.close(slave)
            try:
                said = _read(
                    master,
                    lambda so_far: (
                        until.encode() in so_far and b"live" in so_far and b"SYS_STATUS" in so_far
                    ),
                )
                os.write(master, then)
                said += _read(master, lambda so_far: False)
                status = running.wait(PATIENCE)
            finally:
                running.kill()
    finally:
        os.close(master)
    return status, said.decode(errors="replace")


def _read(master: int, enough: Callable[[bytes], bool]) -> bytes:
    """What is drawn until it is enough, or the program has ended."""
    drawn = b""
    while not enough(drawn):
        ready, _, _ = select.select([master], [], [], PATIENCE)
        assert ready, f"nothing more is drawn: {drawn.decode(errors='replace')}"
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says EIO when the last writer has gone
            break
        if not data:
            break
        drawn += data
    return drawn
