"""Added agents over restarts, ends of every kind, and a file that is damaged."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon, running
from support.delegates import CORE, add, listing, remove
from support.frames import DENIED, INVALID_PAYLOAD, OK
from support.lit import lit
from support.own_daemon import argv, config, faulty

LINES = {AGENT: "root caps=core,security", CORE_AGENT: "other"}
HELD = CORE | {0x60, 0x61, 0x62}
NODE_EIO = b"\x6f\x02"


@contextmanager
def started(config_dir: Path) -> Iterator[Daemon]:
    """An asyd that the test ends as it likes."""
    daemon = Daemon(config_dir, argv(config_dir), read_log=True)
    try:
        daemon.await_ready()
        yield daemon
    finally:
        daemon.kill()


def stored(config_dir: Path) -> list[str]:
    """The keys in the file."""
    data = json.loads((config_dir / "state" / "delegated_agents.json").read_text())
    return [entry["key"] for entry in data["agents"]]


def grow(daemon: Daemon) -> list[PrivateKey]:
    """An agent below the line, and one below that."""
    keys = [PrivateKey.generate() for _ in range(2)]
    with daemon.connect() as root:
        assert add(root, keys[0].public, HELD, label=b"one")[4:] == OK
        with daemon.connect(keys[0]) as child:
            assert add(child, keys[1].public, {0x00, 0x01}, 100_000, b"two")[4:] == OK
    return keys


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_they_are_there_after_a_restart(tmp_path: Path, how: signal.Signals) -> None:
    config_dir = config(tmp_path, LINES)
    with started(config_dir) as daemon:
        keys = grow(daemon)
        with daemon.connect() as root:
            before = listing(root)
            daemon.process.send_signal(how)
            daemon.process.wait(60)
    with started(config_dir) as daemon:
        with daemon.connect() as root:
            assert listing(root) == before
        with daemon.connect(keys[1]) as agent:
            assert lit(agent) == {0x00, 0x01}
        daemon.stop()


def test_what_was_answered_is_on_the_disk(tmp_path: Path) -> None:
    """Killed with the answer in hand, over and over: each addition and each removal holds."""
    config_dir = config(tmp_path, LINES)
    expected: list[bytes] = []
    for number in range(4):
        with started(config_dir) as daemon, daemon.connect() as root:
            assert [row.key for row in listing(root)] == expected
            if number % 2:
                gone = expected.pop(0)
                answer = remove(root, gone)
            else:
                for _ in range(2):
                    expected.append(PrivateKey.generate().public)
                    answer = add(root, expected[-1])
            daemon.process.kill()
            assert answer[-2:] == OK
    assert stored(config_dir) == [key.hex() for key in expected]


def test_a_line_written_meanwhile_overrides(tmp_path: Path) -> None:
    config_dir = config(tmp_path, LINES)
    with started(config_dir) as daemon:
        child, grandchild = grow(daemon)
        daemon.authorize({**LINES, child: "now-a-line caps=SYS_CAPS"})
        daemon.process.kill()
        daemon.process.wait(60)
    with started(config_dir) as daemon:
        with daemon.connect(child) as agent:
            assert lit(agent) == {0x00}
        with daemon.connect(grandchild) as agent:
            assert agent.final() == [DENIED]
        with daemon.connect() as root:
            assert listing(root) == []
        daemon.stop()
    assert stored(config_dir) == []


def test_what_has_gone_is_off_the_disk_when_asyd_ends(tmp_path: Path) -> None:
    """However soon after the file was read that is."""
    config_dir = config(tmp_path, LINES)
    with started(config_dir) as daemon:
        grow(daemon)
        assert len(stored(config_dir)) == 2
        daemon.reload({CORE_AGENT: "other"})
        daemon.stop()
    assert stored(config_dir) == []


def test_without_their_line_they_are_gone_after_a_restart(tmp_path: Path) -> None:
    config_dir = config(tmp_path, LINES)
    with started(config_dir) as daemon:
        keys = grow(daemon)
        daemon.authorize({CORE_AGENT: "other"})
        daemon.process.kill()
        daemon.process.wait(60)
    with started(config_dir) as daemon:
        for key in keys:
            with daemon.connect(key) as agent:
                assert agent.final() == [DENIED]
        daemon.stop()
    with started(config_dir) as daemon:  # nor do they come back with it
        daemon.reload(LINES)
        for key in keys:
            with daemon.connect(key) as agent:
                assert agent.final() == [DENIED]
        daemon.stop()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-20],
    "empty": lambda data: b"",
    "no JSON": lambda data: b"\0" * len(data),
    "no map": lambda data: b"[]",
    "a key that is none": lambda data: data.replace(b'"key": "', b'"key": "zz', 1),
    "another version": lambda data: data.replace(b'"version": 1', b'"version": 9', 1),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_keeps_out_whom_it_names_and_nobody_else(tmp_path: Path, kind: str) -> None:
    with running(tmp_path, agents=LINES) as daemon:
        keys = grow(daemon)
    path = daemon.config_dir / "state" / "delegated_agents.json"
    damaged = DAMAGE[kind](path.read_bytes())
    path.write_bytes(damaged)
    with faulty(daemon.config_dir) as again:
        again.wait_for("no agent that an agent has added can connect")
        for key in keys:
            with again.connect(key) as agent:
                assert agent.final() == [DENIED]
        with again.connect() as root, again.connect(CORE_AGENT) as other:
            assert other.alive()
            assert lit(root) == HELD
            assert listing(root) == []
            assert add(root, STRANGER.public) == NODE_EIO
            assert listing(root) == []
            assert remove(root, STRANGER.public) == INVALID_PAYLOAD
            with again.connect(STRANGER) as agent:
                assert agent.final() == [DENIED]
            again.reload({**LINES, STRANGER: "by-hand"})
            with again.connect(STRANGER) as agent:
                assert agent.alive()
            assert root.alive()
        assert path.read_bytes() == damaged
    assert path.read_bytes() == damaged


def test_a_file_that_others_may_write_is_damaged(tmp_path: Path) -> None:
    with running(tmp_path, agents=LINES) as daemon:
        (key, _) = grow(daemon)
    path = daemon.config_dir / "state" / "delegated_agents.json"
    path.chmod(0o666)
    with faulty(daemon.config_dir) as again:
        with again.connect(key) as agent:
            assert agent.final() == [DENIED]
        with again.connect() as root:
            assert add(root, STRANGER.public) == NODE_EIO
    path.chmod(0o600)
    with started(daemon.config_dir) as whole:
        with whole.connect(key) as agent:
            assert agent.alive()
        whole.stop()


@pytest.mark.root
def test_an_addition_that_does_not_reach_the_disk_has_not_happened(tmp_path: Path) -> None:
    """The state directory has become a file: nothing can be made in it any more."""
    config_dir = config(tmp_path, LINES)
    first, second = PrivateKey.generate(), PrivateKey.generate()
    with faulty(config_dir) as daemon:
        state, aside = config_dir / "state", config_dir / "aside"
        with daemon.connect() as root:
            assert add(root, first.public, {0x00, 0x01})[4:] == OK
            before = listing(root)
            state.rename(aside)
            state.write_text("")
            for key, codes in ((second, CORE), (first, {0x00})):
                assert add(root, key.public, codes)[:1] == b"\x6f"
                assert listing(root) == before
            with daemon.connect(second) as agent:
                assert agent.final() == [DENIED]
            with daemon.connect(first) as agent:
                assert lit(agent) == {0x00, 0x01}
                # Who is removed is out, whether or not the disk takes it.
                assert remove(root, first.public)[:1] == b"\x6f"
                assert agent.final() == []
            assert listing(root) == []
            state.unlink()
            aside.rename(state)
            assert add(root, second.public)[4:] == OK
        assert stored(config_dir) == [second.public.hex()]
