"""SIGHUP: the agents are read again, and whoever stays notices nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from asys.node.admin.controls import REPORTED_LINES
from asys.node.disk.files import write_atomically
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, LOOPS, Daemon, running, write_agents
from support.frames import HELLO
from support.own_daemon import AGENTS, config, faulty

OTHER = PrivateKey.generate()


def refused(daemon: Daemon, key: PrivateKey) -> bool:
    """Whether asyd does not know a key."""
    with daemon.connect(key) as agent:
        return agent.final() == [b"\x69\x82"]


@pytest.mark.parametrize("prelude", LOOPS.values(), ids=LOOPS.keys())
def test_a_new_reading_of_the_agents(tmp_path: Path, prelude: str) -> None:
    with running(tmp_path, agents=AGENTS, prelude=prelude) as asyd:
        stays = asyd.connect()
        assert refused(asyd, OTHER)
        asyd.reload({AGENT: "renamed caps=core", OTHER: ""})
        assert stays.alive()
        comes = asyd.connect(OTHER)
        assert comes.alive()
        asyd.reload({OTHER: ""})
        assert stays.ended()
        assert refused(asyd, AGENT)
        assert comes.alive()
        for agent in (stays, comes):
            agent.close()


def make_unreadable(path: Path) -> str:
    path.unlink()
    path.mkdir(mode=0o700)
    return "is no regular file"


def make_loose(path: Path) -> str:
    path.chmod(0o666)
    return "run: chmod 600"


def make_dangling(path: Path) -> str:
    path.unlink()
    path.symlink_to("missing")
    return "No such file or directory"


def make_huge(path: Path) -> str:
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    return "is larger than"


@pytest.mark.parametrize("spoil", [make_unreadable, make_loose, make_dangling, make_huge])
def test_what_cannot_be_read_changes_nothing(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    directory = config(tmp_path)
    path = directory / "authorized_agents"
    with faulty(directory) as asyd, asyd.connect() as stays:
        write_agents(directory, {OTHER: ""})
        why = spoil(path)
        asyd.process.send_signal(signal.SIGHUP)
        asyd.wait_for("authorized_agents is not read again, the agents stay as they were: ")
        [line] = [line for line in asyd.log if "is not read again" in line]
        assert why in line
        assert " ERROR " in line
        assert stays.alive()
        with asyd.connect() as agent:
            assert agent.alive()
        assert refused(asyd, OTHER)
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        asyd.reload({OTHER: ""})
        assert stays.ended()


def test_a_bad_line_is_reported_and_the_others_hold(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, asyd.connect() as agent:
        asyd.reload({OTHER: "two labels", AGENT: ""})
        asyd.wait_for("authorized_agents line 1 grants nothing: has a second label 'labels'")
        asyd.wait_for("1 agents in")
        assert agent.alive()
        assert refused(asyd, OTHER)


def test_a_key_that_comes_to_stand_twice_is_shut_out(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, asyd.connect() as agent:
        path = asyd.config_dir / "authorized_agents"
        with path.open("a") as file:
            file.write(f"{AGENT.public.hex()} again\n")
        asyd.process.send_signal(signal.SIGHUP)
        assert agent.ended()
        asyd.wait_for("line 2 grants nothing: the key of line 1 stands here again")


def test_no_file_is_no_agents(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, asyd.connect() as agent:
        (asyd.config_dir / "authorized_agents").unlink()
        asyd.process.send_signal(signal.SIGHUP)
        assert agent.ended()
        asyd.wait_for(
            "nobody can connect; add an agent with: "
            f"asyd agents add KEY --config-dir {asyd.config_dir}"
        )


def test_a_thousand_bad_lines_do_not_flood_the_log(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, asyd.connect() as agent:
        path = asyd.config_dir / "authorized_agents"
        with path.open("a") as file:
            file.write("bad\n" * 1000)
        asyd.process.send_signal(signal.SIGHUP)
        asyd.wait_for(f"{1000 - REPORTED_LINES} more lines grant nothing; see: asyd agents check")
        asyd.wait_for("1 agents in", times=2)
        assert asyd.said("grants nothing: must begin with") == REPORTED_LINES
        assert agent.alive()


def test_a_session_goes_on_while_agents_are_read_again_and_again(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, asyd.connect() as agent:
        for number in range(20):
            line = f"{AGENT.public.hex()} agent{number} caps=all\n"
            write_atomically(asyd.config_dir / "authorized_agents", line.encode(), 0o600)
            asyd.process.send_signal(signal.SIGHUP)
            agent.send(HELLO, HELLO)
            assert [agent.answer()[:4] for _ in range(2)] == [b"ASYS"] * 2
