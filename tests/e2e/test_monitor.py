"""--mode monitor: what `core` names, for everybody; no privileges needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from support.children import waiting
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import CORE, add, addition, sealed
from support.frames import NO_SUCH_INSTRUCTION, NOT_SUPPORTED, OK, PROCS, STATUS, frame
from support.lit import KNOWN, told_truly
from support.nobody import as_nobody
from support.own_daemon import argv, config
from support.supervised import supervisord
from support.users import NOBODY

READING = 1 << 2
"""CAP_DAC_READ_SEARCH: nobody may have to have it to read the checkout."""

GRANTED = set(range(0x90))
AGENTS = {AGENT: "agent caps=all,security", CORE_AGENT: "other"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node that could restart services, if its mode let it."""
    with (
        supervisord({"web": "sleep infinity"}) as url,
        running(
            tmp_path_factory.mktemp("asyd"),
            *("--mode", "monitor", "--supervisord", url, "--handshake-rate", "0"),
            agents=AGENTS,
        ) as daemon,
    ):
        yield daemon


def test_the_map_is_core_whatever_is_granted(node: Daemon) -> None:
    with node.connect() as agent:
        told_truly(agent, GRANTED, CORE, KNOWN)
    with node.connect(CORE_AGENT) as agent:
        told_truly(agent, CORE, CORE, KNOWN)


def test_what_changes_something_answers_6d00_however_it_is_sent(node: Daemon) -> None:
    with node.connect() as agent, node.connect(CORE_AGENT) as other, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == NOT_SUPPORTED
        assert agent.ask(agent.restart("web")) == NOT_SUPPORTED
        assert agent.ask(frame(0x14)) == NOT_SUPPORTED
        assert add(agent, PrivateKey.generate().public) == NOT_SUPPORTED
        assert agent.ask(agent.signed(0x60, b"short")) == NOT_SUPPORTED
        assert agent.ask(frame(0x60)) == NOT_SUPPORTED
        assert other.ask(other.throttle(child.pid)) == NO_SUCH_INSTRUCTION
        key = addition(PrivateKey.generate().public)
        assert other.ask(sealed(other, 0x60, key)) == NO_SUCH_INSTRUCTION
        state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state != "T"


def test_core_works(node: Daemon) -> None:
    with node.connect() as agent:
        for request, size in [(STATUS, 23), (PROCS, 44), (frame(0x11, bytes(4)), 3)]:
            answer = agent.ask(request)
            assert (len(answer), answer[-2:]) == (size, OK)
        assert agent.ask(frame(0x13)) == OK
        agent.link.rekey()
        assert agent.alive()


def test_a_reload_does_not_leave_the_mode(node: Daemon) -> None:
    node.reload(AGENTS)
    with node.connect() as agent:
        assert agent.ask(agent.throttle(os.getpid())) == NOT_SUPPORTED


@contextmanager
def _as_nobody(directory: Path) -> Iterator[Daemon]:
    """An asyd in this mode whose uid is nobody's."""
    config_dir = config(directory, AGENTS)
    for path in (config_dir, *config_dir.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    command = [*as_nobody(), *argv(config_dir, "--mode", "monitor")]
    daemon = Daemon(config_dir, command, read_log=True)
    try:
        daemon.await_ready()
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()


@pytest.mark.root
def test_no_privileges_are_needed() -> None:
    """As nobody, who can be no other user and may read little."""
    with tempfile.TemporaryDirectory(prefix="asys-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with _as_nobody(directory) as daemon, daemon.connect() as agent:
            status = Path(f"/proc/{daemon.pid}/status").read_text()
            assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
            assert int(status.partition("CapEff:")[2].split()[0], 16) & ~READING == 0
            assert agent.ask(STATUS)[-2:] == OK
            assert agent.ask(PROCS)[-2:] == OK
            told_truly(agent, GRANTED, CORE, KNOWN)
