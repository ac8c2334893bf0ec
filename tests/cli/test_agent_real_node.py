"""The whole way by hand: keys on both sides, trust over a pipe, a real node, a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.agent_cli import process

ASYD = (sys.executable, "-c", "import sys; from asys.cli.daemon import main; sys.exit(main())")


def asyd(config: Path, *words: str) -> str:
    """Runs a command of `asyd` and gives what it printed."""
    command = (*ASYD, *words, "--config-dir", str(config))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def serving(config: Path, *listen: str) -> Iterator[list[str]]:
    """A real asyd; gives the words of its READY line."""
    options = [word for one in listen for word in ("--listen", one)]
    with subprocess.Popen(
        (*ASYD, "--config-dir", str(config), *options, "--port", "0", "--audit", "off"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as node:
        try:
            assert node.stdout is not None
            yield node.stdout.readline().split()
        finally:
            node.terminate()


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be suspended."""
    with subprocess.Popen(("sleep", "600")) as running:
        try:
            yield running
        finally:
            running.kill()


def test_from_the_first_key_to_a_suspended_process(tmp_path: Path) -> None:
    config = tmp_path / "node"
    files = ("--known-hosts", str(tmp_path / "known_hosts"))
    agent = (*files, "--identity", str(tmp_path / "agent"))

    made = process("keygen", "--dir", str(tmp_path / "agent"), "--json").data
    asyd(config, "agents", "add", made["public_key"], "--caps", "core,PROC_THROTTLE")
    with serving(config, "127.0.0.1") as (ready, host, key), sleeper() as sleeping:
        assert ready == "READY"
        trusted = process("trust", host, "--stdin", *files, stdin=asyd(config, "pubkey"))
        assert trusted.status == 0
        assert key in trusted.out

        assert process("hello", host, *agent, "--json").data["sw"] == "9000"
        status = process("status", host, *agent, "--json").data["result"]
        assert status["available_mb"] > 0
        procs = process("procs", host, *agent)
        assert procs.status == 0
        assert " processes; these use most CPU" in procs.out
        caps = process("caps", host, *agent, "--json").data["result"]
        assert "PROC_THROTTLE" in caps["instructions"]
        assert "SVC_RESTART" in caps["lacks"]
        assert "AGENT_ADD" in caps["lacks"]

        pid = str(sleeping.pid)
        assert process("throttle", host, pid, *agent).status == 0
        stopped = os.waitid(os.P_PID, sleeping.pid, os.WSTOPPED)
        assert stopped is not None
        assert stopped.si_code == os.CLD_STOPPED
        assert process("resume", host, pid, *agent).status == 0
        resumed = os.waitid(os.P_PID, sleeping.pid, os.WCONTINUED)
        assert resumed is not None
        assert resumed.si_code == os.CLD_CONTINUED

        assert process("throttle", host, "1", *agent, "--json").error["sw"] == "6982"
        assert process("restart", host, "nginx", *agent, "--json").error["sw"] == "6A81"

        stranger = (*files, "--identity", str(tmp_path / "stranger"))
        process("keygen", "--dir", str(tmp_path / "stranger"))
        assert process("hello", host, *stranger, "--json").error["kind"] == "AgentRejected"


def test_a_unix_socket(tmp_path: Path) -> None:
    config = tmp_path / "node"
    made = process("keygen", "--dir", str(tmp_path / "agent"), "--json").data
    asyd(config, "agents", "add", made["public_key"])
    files = ("--known-hosts", str(tmp_path / "known_hosts"))
    with serving(config, f"unix:{tmp_path / 'asyd.sock'}") as (_, host, key):
        assert process("trust", host, key, *files).status == 0
        run = process("hello", host, *files, "--identity", str(tmp_path / "agent"))
    assert run.status == 0
    assert run.out.startswith(f"unix:{tmp_path / 'asyd.sock'}  SYS_HELLO 9000 in ")
