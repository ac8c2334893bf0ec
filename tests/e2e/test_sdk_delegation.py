"""The SDK against a real asyd: what it can, agents that it adds, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import asys
from support.asyd_cli import told
from support.children import waiting
from support.daemon import Daemon, running

ROOT = asys.Identity.generate()
ADMIN = asys.Identity.generate()
TIMEOUT = 60.0

LINES = f"""\
{ROOT.public.hex()} root caps=core,process,security rate=PROC_THROTTLE:2/h
{ADMIN.public.hex()} admin caps=core,security role=admin
"""

Connect = Callable[[asys.Identity], asys.sync.Node]


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("asyd"), "--handshake-rate", "0", agents={}) as daemon:
        write(daemon, LINES)
        yield daemon


def write(daemon: Daemon, lines: str) -> None:
    """Other lines, in force when it returns."""
    path = daemon.config_dir / "authorized_agents"
    path.write_text(lines)
    told(daemon.config_dir, "reload")


@pytest.fixture
def connect(node: Daemon) -> Connect:
    host, port = node.endpoint

    def connected(identity: asys.Identity) -> asys.sync.Node:
        return asys.sync.connect(host, port, identity=identity, node_key=node.key, timeout=TIMEOUT)

    return connected


def test_a_part_of_what_one_has_for_a_time(node: Daemon, connect: Connect) -> None:
    helper = asys.Identity.generate()
    with connect(ROOT) as root:
        added = root.agent_add(helper.public, "core,PROC_THROTTLE", ttl_s=600, label="helper")
        assert len(added.key_hash) == 4
        with connect(helper) as agent, waiting() as child:
            assert agent.can("PROC_THROTTLE")
            assert not agent.can("AGENT_ADD")
            agent.proc_throttle(child.pid, "stop")
            with pytest.raises(asys.Denied):
                agent.proc_throttle(1, "stop")
            (row,) = root.agents()
            assert (row.key, row.label) == (helper.public, "helper")
            assert row.expires > 0
            assert "PROC_THROTTLE" in row.caps
            root.agent_remove(helper.public)
            with pytest.raises(asys.ConnectionLost):
                agent.sys_hello()
        with pytest.raises(asys.AgentRejected):
            connect(helper)
        assert root.agents() == ()


def test_never_more_than_one_has(connect: Connect) -> None:
    with connect(ROOT) as root:
        with pytest.raises(asys.Denied):
            root.agent_add(asys.Identity.generate().public, "core,network")
        with pytest.raises(asys.InvalidPayload):
            root.agent_add(ADMIN.public, "core")
        with pytest.raises(asys.Denied):
            root.agent_remove(ADMIN.public)
        with pytest.raises(asys.InvalidPayload):
            root.agent_remove(asys.Identity.generate().public)
        assert root.agents() == ()


def test_more_than_a_page(connect: Connect) -> None:
    keys = [asys.Identity.generate().public for _ in range(35)]
    with connect(ROOT) as root, connect(ADMIN) as admin:
        for key in keys:
            root.agent_add(key, "SYS_HELLO")
        assert [row.key for row in root.agents()] == keys
        assert [row.key for row in admin.agents()] == [ROOT.public, ADMIN.public, *keys]


def test_the_button_and_the_file_are_seen(node: Daemon, connect: Connect) -> None:
    with connect(ROOT) as root, waiting() as child:
        root.proc_throttle(child.pid, "stop")
        told(node.config_dir, "dark")
        with pytest.raises(asys.NoSuchInstruction):
            root.proc_throttle(child.pid, "stop")
        told(node.config_dir, "light")
    with connect(ROOT) as root, waiting() as child:
        assert root.can("PROC_THROTTLE")
        root.proc_throttle(child.pid, "stop")
        with pytest.raises(asys.Blocked):
            root.proc_throttle(child.pid, "stop")
        write(node, LINES.replace("core,process,security", "core"))
    with connect(ROOT) as root:
        assert not root.can("PROC_THROTTLE")


def test_rekey_and_abandon(connect: Connect) -> None:
    with connect(ADMIN) as one, connect(ADMIN) as other:
        assert other.sys_hello()
        for _ in range(3):
            one.rekey()
            assert one.sys_hello()
            assert [row.label for row in one.agents()] == ["root", "admin"]
        with pytest.raises(asys.NoSuchInstruction):
            one.abandon()  # core does not have it
        assert other.sys_hello()
