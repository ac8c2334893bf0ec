"""`asyd dark`, `light`, `sessions` and `reload`, as an admin runs them against a running asyd."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC
from support.asyd_cli import asyd_command, sessions, told
from support.children import waiting
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon
from support.delegates import CORE, add, listing, sealed
from support.frames import DENIED, HELLO, NO_SUCH_INSTRUCTION, OK, frame
from support.lit import lit
from support.nobody import as_nobody
from support.own_daemon import argv, config
from support.raw_agent import RawAgent

LINES = {AGENT: "root caps=all,security", CORE_AGENT: "other"}


@contextmanager
def started(config_dir: Path, *options: str) -> Iterator[Daemon]:
    """An asyd that may be killed; one that is not has to end well."""
    daemon = Daemon(config_dir, argv(config_dir, *options), read_log=True)
    try:
        daemon.await_ready()
        yield daemon
        if daemon.process.poll() is None:
            daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    with started(config(tmp_path, LINES)) as daemon:
        yield daemon


def is_dark(agent: RawAgent) -> bool:
    """Whether a session has `core` and nothing else; if not, it can throttle."""
    has = lit(agent)
    answers = {agent.ask(agent.throttle(1)), agent.ask(sealed(agent, 0x62))[-2:]}
    assert has & CORE == CORE
    if has == CORE:
        assert answers == {NO_SUCH_INSTRUCTION}
        return True
    assert 0x20 in has
    assert answers == {DENIED, OK}
    return False


# -- dark and light


def test_live_sessions_fall_to_core_and_rise_again(node: Daemon) -> None:
    with node.connect() as agent, node.connect(CORE_AGENT) as other, waiting() as child:
        assert not is_dark(agent)
        for _ in range(2):
            assert "every agent is down to core" in told(node.config_dir, "dark")
            assert is_dark(agent)
            assert agent.ask(agent.throttle(child.pid)) == NO_SUCH_INSTRUCTION
            assert lit(other) == CORE
            with node.connect() as late:
                assert is_dark(late)
            assert "light" in told(node.config_dir, "light")
            assert not is_dark(agent)
            assert agent.ask(agent.throttle(child.pid)) == OK


def test_twice_is_as_once(node: Daemon) -> None:
    with node.connect() as agent:
        for verb in ("dark", "dark", "light", "light"):
            told(node.config_dir, verb)
            assert is_dark(agent) == (verb == "dark")


def test_delegates_fall_with_all_others(node: Daemon) -> None:
    key = PrivateKey.generate()
    with node.connect() as root:
        assert add(root, key.public, {0x00, 0x01, 0x20})[4:] == OK
        with node.connect(key) as child:
            told(node.config_dir, "dark")
            assert lit(child) == {0x00, 0x01}
            assert child.ask(child.throttle(1)) == NO_SUCH_INSTRUCTION
            told(node.config_dir, "light")
            assert lit(child) == {0x00, 0x01, 0x20}


def test_sighup_and_reload_light_nothing_up(node: Daemon) -> None:
    told(node.config_dir, "dark")
    with node.connect() as agent:
        node.reload({**LINES, STRANGER: "new caps=all"})
        assert is_dark(agent)
        told(node.config_dir, "reload")
        assert is_dark(agent)
        with node.connect(STRANGER) as new:
            assert lit(new) == CORE
    told(node.config_dir, "light")


def test_what_has_less_than_core_gets_no_more(node: Daemon) -> None:
    node.reload({**LINES, CORE_AGENT: "other caps=SYS_CAPS,PROC_THROTTLE"})
    with node.connect(CORE_AGENT) as agent:
        told(node.config_dir, "dark")
        assert lit(agent) == {0x00}
        assert agent.ask(HELLO) == NO_SUCH_INSTRUCTION
        told(node.config_dir, "light")
        assert lit(agent) == {0x00, 0x20}


def test_it_outlives_kill_9_at_once(tmp_path: Path) -> None:
    config_dir = config(tmp_path, LINES)
    for verb in ("dark", "light", "dark"):
        with started(config_dir) as daemon:
            told(config_dir, verb)
            daemon.process.kill()
            daemon.process.wait(60)
        with started(config_dir) as daemon:
            with daemon.connect() as agent:
                assert is_dark(agent) == (verb == "dark")
            assert bool(daemon.said("dark: every agent is down to core")) == (verb == "dark")


def test_without_a_running_asyd_it_holds_from_the_next_start_on(tmp_path: Path) -> None:
    config_dir = config(tmp_path, LINES)
    with started(config_dir):
        pass
    assert "from the next start" in told(config_dir, "dark")
    with started(config_dir) as daemon, daemon.connect() as agent:
        assert is_dark(agent)
    assert "from the next start" in told(config_dir, "light")
    with started(config_dir) as daemon, daemon.connect() as agent:
        assert not is_dark(agent)


@contextmanager
def tmpfs(directory: Path) -> Iterator[Path]:
    """A small file system of its own."""
    directory.mkdir(mode=0o700)
    mount = ("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(directory))
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the capability to mount")
    try:
        yield directory
    finally:
        subprocess.run(("umount", str(directory)), check=True)


@pytest.mark.root
def test_on_a_full_disk(tmp_path: Path) -> None:
    """No room for a byte: the button works, also for the next start; an addition is refused."""
    config_dir = config(tmp_path, LINES)
    with tmpfs(tmp_path / "full") as full:
        options = ("--state-dir", str(full))
        with started(config_dir, *options) as daemon, daemon.connect() as agent:
            fill(full)
            told(config_dir, "dark", *options)
            assert is_dark(agent)
            told(config_dir, "light", *options)
            assert not is_dark(agent)
            assert add(agent, PrivateKey.generate().public) == b"\x6f\x03"
            assert listing(agent) == []
            told(config_dir, "dark", *options)
            daemon.process.kill()
            daemon.process.wait(60)
        with started(config_dir, *options) as daemon, daemon.connect() as agent:
            assert is_dark(agent)


def fill(directory: Path) -> None:
    """Until nothing more can be written or made."""
    number = 0
    with contextlib.suppress(OSError):
        while True:
            number += 1
            with (directory / f"filler-{number}").open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
    with pytest.raises(OSError, match="No space left"):
        (directory / "one-more").write_bytes(b"x")


def test_when_no_agent_can_connect(tmp_path: Path) -> None:
    """Every place is taken and nobody is answered: the admin's way in is another one."""
    config_dir = config(tmp_path, LINES)
    options = ("--max-sessions", "3", "--handshake-rate", "1")
    with started(config_dir, *options) as daemon, ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(daemon.connect()).alive()
        with daemon.dial() as refused:
            refused.write(MAGIC)
            assert refused.rest() == b""
        told(config_dir, "dark")
        assert len(sessions(config_dir)) == 3
        assert told(config_dir, "sessions", "close", "root") == (
            f"closed: 3 of {AGENT.public.hex()}\n"
        )
        assert sessions(config_dir) == []


# -- sessions


def test_sessions_are_listed(node: Daemon) -> None:
    with node.connect() as one, node.connect() as two, node.connect(CORE_AGENT) as unconfirmed:
        assert one.alive()
        assert two.alive()
        found = sorted(sessions(node.config_dir), key=lambda row: (row["label"], row["peer"]))
        assert [row["label"] for row in found] == ["other", "root", "root"]
        assert [row["confirmed"] for row in found] == [False, True, True]
        assert [row["key"] for row in found[1:]] == [AGENT.public.hex()] * 2
        ends = {f"127.0.0.1:{agent.socket.getsockname()[1]}" for agent in (one, two)}
        assert {row["peer"] for row in found[1:]} == ends
        assert len({row["id"] for row in found}) == 3
        assert found[0]["id"] == 0
        listed = told(node.config_dir, "sessions", "list").splitlines()
        assert len(listed) == 4
        assert sum("root" in line for line in listed) == 2
        assert unconfirmed.alive()
        assert all(row["confirmed"] for row in sessions(node.config_dir))
    node.wait_for("by the agent", times=3)
    assert sessions(node.config_dir) == []


def test_a_stranger_is_no_session(node: Daemon) -> None:
    with node.connect(STRANGER) as stranger, node.dial() as silent:
        assert stranger.final() == [DENIED]
        silent.magic()
        assert sessions(node.config_dir) == []


@pytest.mark.parametrize("by_label", [True, False])
def test_sessions_are_closed_and_may_come_back(node: Daemon, by_label: bool) -> None:
    who = "root" if by_label else AGENT.public.hex()
    with node.connect() as one, node.connect() as two, node.connect(CORE_AGENT) as other:
        for agent in (one, two, other):
            assert agent.alive()
        assert told(node.config_dir, "sessions", "close", who).startswith("closed: 2 of ")
        assert one.final() == two.final() == []
        assert other.alive()
        with node.connect() as again:
            assert again.alive()


def test_closing_who_is_not_there(node: Daemon) -> None:
    done = asyd_command(node.config_dir, "sessions", "close", "nobody-here")
    assert done.returncode == 1
    assert "nobody-here" in done.stderr
    assert "Traceback" not in done.stderr


# -- reload


def test_reload_is_in_force_when_it_returns(node: Daemon) -> None:
    with node.connect() as agent, node.connect(CORE_AGENT) as other:
        assert other.alive()
        node.authorize({AGENT: "root caps=core"})
        assert told(node.config_dir, "reload") == "1 agent may connect now\n"
        assert lit(agent) == CORE
        assert other.final() == []


def test_reload_names_bad_lines(node: Daemon) -> None:
    node.authorize({**LINES, STRANGER: "x caps=nonsense"})
    done = asyd_command(node.config_dir, "reload")
    assert done.returncode == 1
    assert "line 3 grants nothing" in done.stderr
    assert done.stdout == "2 agents may connect now\n"


def test_reload_of_a_file_that_cannot_be_used_changes_nothing(node: Daemon) -> None:
    with node.connect() as agent:
        node.authorize({})
        (node.config_dir / "authorized_agents").chmod(0o666)
        done = asyd_command(node.config_dir, "reload")
        assert done.returncode == 1
        assert "chmod" in done.stderr
        assert agent.alive()
        assert agent.ask(frame(0x20)) == DENIED


# -- who may


@pytest.mark.root
@pytest.mark.parametrize("verb", [["dark"], ["light"], ["sessions", "list"], ["reload"]])
def test_others_may_not(node: Daemon, verb: list[str]) -> None:
    """Neither by its mode nor by who asks: a process of nobody's finds the door shut."""
    socket = node.config_dir / "admin.sock"
    assert socket.stat().st_mode & 0o077 == 0
    assert socket.stat().st_uid == os.geteuid()
    done = asyd_command(node.config_dir, *verb, launcher=as_nobody())
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    with node.connect() as agent:
        assert not is_dark(agent)
