"""Everything that asyd has on a disk is on one that is full, read-only or hangs.

Its keys, agents, state and audit; only its admin socket is in memory, as it is by default.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

import asys
from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command
from support.audit import make_removable
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, PATIENCE, Daemon
from support.frames import DENIED, HELLO, NO_SUCH_INSTRUCTION, OK, PROCS, STATUS
from support.isolating import isolation_missing
from support.loop_disk import LoopDisk, fill, loop_disk_missing
from support.own_daemon import config, faulty, sdk
from support.raw_agent import RawAgent
from support.recording import Recording, assert_whole

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing()),
    pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing()),
]

ADDED, LATER, AFTER = (PrivateKey.generate() for _ in range(3))

FAULTS: Final = ("full", "read-only", "hung")

ANSWERS: Final = {
    "full": asys.NodeNoSpace,
    "read-only": asys.NodeIOError,
    "hung": asys.NodeTimedOut,
}
"""What AGENT_ADD and AGENT_REMOVE are answered."""


RESCUE: Final = 200.0
"""Seconds after which a disk does not hang any more, whatever becomes of the test."""

HASTY: Final = "import asys.node.disk.state as s; s.PATIENCE = 1.0\n"
"""Python that has asyd wait for its disk a second in place of five."""


class Place:
    """Where asyd has its files, and the socket of its admin."""

    def __init__(self, disk: LoopDisk, memory: Path) -> None:
        self.disk = disk
        self.config = config(disk.path, {AGENT: "agent caps=all,security"})
        memory.mkdir(mode=0o700)
        self.socket = memory / "admin.sock"
        self.audit = self.config / "state" / "audit"

    @contextmanager
    def asyd(self, port: int = 0) -> Iterator[Daemon]:
        """One that has everything on the disk."""
        options = ("--audit", "on", "--admin-socket", str(self.socket), "--port", str(port))
        with faulty(self.config, "--handshake-rate", "0", *options, prelude=HASTY) as daemon:
            yield daemon

    def admin(self, *words: str) -> tuple[int, str]:
        """Exit status and messages of a command."""
        done = asyd_command(self.config, *words, "--admin-socket", str(self.socket))
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def broken(self, fault: str) -> Iterator[None]:
        """While the block lasts nothing can be written. A read-only disk stays so."""
        if fault == "hung":
            with ExitStack() as frozen:
                frozen.enter_context(self.disk.hung())
                # A process that waits for the disk cannot be killed: without this a test that
                # fails would wait for it for ever.
                rescue = threading.Timer(RESCUE, frozen.close)
                rescue.start()
                try:
                    yield
                finally:
                    rescue.cancel()
                    rescue.join()
        elif fault == "full":
            fill(self.disk.path)
            yield
            (self.disk.path / "filler").unlink()
        else:
            number = self.disk.path.stat().st_dev
            device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
            self.disk._run("mount", "-o", "remount,errors=remount-ro", "disk")
            Path("/sys/fs/ext4", device, "trigger_fs_error").write_text("a test")
            yield


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "disk").mkdir()
    with LoopDisk(tmp_path / "disk") as disk:
        made = Place(disk, tmp_path / "run")
        yield made
        if made.audit.exists() and os.access(made.audit, os.W_OK):
            make_removable(made.audit)


def acts(agent: RawAgent, child: int, times: int = 1) -> None:
    """Reads, stops a process and lets it go on."""
    assert agent.ask(HELLO)[-2:] == OK
    assert len(agent.ask(STATUS)) == 23
    assert len(agent.ask(PROCS)) == 44
    for _ in range(times):
        assert agent.ask(agent.throttle(child)) == OK
        suspended(child)
        assert agent.ask(agent.throttle(child, 1)) == OK
        resumed(child)


def degraded(agent: RawAgent, wanted: int = 1) -> None:
    """Returns when SYS_STATUS shows AUDIT_DEGRADED, or that it is over."""
    end = time.monotonic() + PATIENCE
    while agent.ask(STATUS)[17] != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def shut_out(asyd: Daemon, key: PrivateKey) -> bool:
    """Whether the node refuses a key."""
    with asyd.connect(key) as agent:
        return agent.ask(HELLO)[-2:] == DENIED


@pytest.mark.parametrize("fault", FAULTS)
def test_the_node_goes_on_ends_and_is_followed_by_another(place: Place, fault: str) -> None:
    with ExitStack() as last:
        child = last.enter_context(waiting()).pid
        with ExitStack() as first:
            asyd = first.enter_context(place.asyd())
            record = Recording(asyd, place.audit)
            agent = first.enter_context(sdk(asyd))
            agent.agent_add(ADDED.public, "core", label="added")
            broken = last.enter_context(ExitStack())
            broken.enter_context(place.broken(fault))

            with asyd.connect() as raw:
                # More than what a block of the disk that is there already has room for.
                acts(raw, child, 50)
                degraded(raw)
                acts(raw, child)
            agent.log_summary(window_s=60)
            agent.proc_tree(child)
            agent.net_isolate(child, "isolate", ttl_s=3600)
            assert str(child) in place.admin("isolations", "list")[1]
            agent.net_isolate(child, "release")
            with pytest.raises(ANSWERS[fault]):
                agent.agent_add(LATER.public, "core")
            assert shut_out(asyd, LATER)
            with pytest.raises(ANSWERS[fault]):
                agent.agent_remove(ADDED.public)
            assert shut_out(asyd, ADDED)

            dark, words = place.admin("dark")
            assert (dark == 0) == (fault == "full")  # a byte is written over: that takes no room
            assert dark == 0 or "the node is dark now, but its disk does not have that" in words
            with asyd.connect() as raw:
                assert raw.ask(raw.throttle(child)) == NO_SUCH_INSTRUCTION
            light, words = place.admin("light")
            assert (light == 0) == (fault == "full")
            assert place.admin("sessions", "list")[0] == 0

            seen = asyd.said("agents in")
            asyd.process.send_signal(signal.SIGHUP)
            asyd.wait_for("agents in", times=seen + 1)
            with asyd.connect() as raw:
                acts(raw, child)
            port = asyd.endpoint[1]
        # It has ended, as an admin would end it, and its port is free.
        with place.asyd(port) as successor:
            after = Recording(successor, place.audit)
            assert successor.endpoint[1] == port
            with successor.connect() as raw:
                acts(raw, child)
                degraded(raw)
                acts(raw, child)
            if fault != "read-only":
                broken.close()
                with successor.connect() as raw:
                    degraded(raw, 0)
                    acts(raw, child)
                with sdk(successor) as other:
                    other.agent_add(AFTER.public, "core")
                assert not shut_out(successor, AFTER)
        if fault != "read-only":
            record.written()
            after.written()
            assert_whole(place.audit)
