"""A node gets another key: agents are carried over, and the old key ends (section 8.4)."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asys
from asys.audit.entries import NodeKey
from asys.cli.agent import main
from asys.isa import KEY_STATEMENT, SYS_CAPS
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.next_key import NextKey, beginning, do_all
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState
from asys.protocol.statement import KeyStatement
from support.asyd_cli import asyd_command, told
from support.audit import entries
from support.daemon import (
    AGENT,
    CORE_AGENT,
    DEPLOYED_AGENT,
    DEPLOYED_CAPS,
    PATIENCE,
    Daemon,
    running,
)
from support.frames import NO_SUCH_INSTRUCTION, OK, frame
from support.killed import started
from support.own_daemon import argv
from support.raw_agent import Ended, RawAgent
from support.wire_node import ThreadedWireNode, serve

LINES = {
    AGENT: "agent caps=core",
    CORE_AGENT: "narrow caps=TASK_QUERY",
    DEPLOYED_AGENT: f"deployed caps={DEPLOYED_CAPS}",
}

SHIFTED = """\
import time
def shifted(real=time.time_ns, path={path!r}):
    try:
        with open(path) as file:
            return real() + int(file.read())
    except FileNotFoundError:
        return real()
time.time_ns = shifted
time.time = lambda: shifted() / 1e9
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path, agents=LINES) as daemon:
        yield daemon


@pytest.fixture
def hosts(tmp_path: Path, node: Daemon) -> asys.KnownHosts:
    made = asys.KnownHosts(tmp_path / "agent" / "known_hosts")
    made.add("example.org", 7816, bytes(range(32)))
    made.add(*node.endpoint, node.key)
    return made


def rotate(node: Daemon, *options: str) -> dict[str, Any]:
    answer = json.loads(told(node.config_dir, "key", "rotate", "--json", *options))
    assert isinstance(answer, dict)
    return answer


def status(node: Daemon) -> dict[str, Any]:
    answer = json.loads(told(node.config_dir, "key", "status", "--json"))
    assert isinstance(answer, dict)
    return answer


def has(node: Daemon) -> dict[str, str]:
    """What each agent has, by label."""
    return {one["label"]: one["has"] for one in status(node)["agents"]}


def connect(
    node: Daemon, hosts: asys.KnownHosts | None, key: PrivateKey = AGENT, **options: Any
) -> asys.sync.Node:
    return asys.sync.connect(
        *node.endpoint,
        **{
            "identity": asys.Identity(key),
            "known_hosts": hosts,
            "timeout": PATIENCE,
            **options,
        },
    )


def shown(node: Daemon) -> bytes:
    """The key in the pre-handshake frame."""
    link = AgentLink(AGENT)
    with node.dial() as agent:
        agent.write(link.data_to_send())
        while link.state is LinkState.MAGIC:
            link.receive_data(agent.read())
    return link.shown_key


def test_an_agent_is_carried_over(
    node: Daemon, hosts: asys.KnownHosts, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(node, hosts) as before:
        assert before.next_key is None
        assert not before.can("KEY_STATEMENT")
        answer = rotate(node)
        new = bytes.fromhex(answer["new_key"])
        assert answer["ends"] - answer["made"] == 30 * 86_400
        assert shown(node) == node.key
        assert has(node) == {"agent": "old", "narrow": "old", "deployed": "old"}

        with (
            caplog.at_level(logging.WARNING, "asys.client"),
            connect(node, hosts) as session,
        ):
            assert session.node_key == node.key
            assert session.next_key == new
            assert hosts.lookup(*node.endpoint) == new
            assert hosts.superseded(*node.endpoint) == {node.key}
            assert hosts.lookup("example.org") == bytes(range(32))
        (record,) = (one for one in caplog.records if one.__dict__.get("asys_event") == "next-key")
        assert record.__dict__["asys_new_key"] == new.hex()
        assert has(node)["agent"] == "told"

        # From then on with the next key alone; the node still shows the old one.
        with connect(node, hosts) as session:
            assert (session.node_key, session.next_key) == (new, None)
            assert session.sys_hello().magic == b"ASYS"
        assert has(node)["agent"] == "next"

        told(node.config_dir, "key", "finish")
        assert before.sys_hello().magic == b"ASYS"  # sessions go on
        assert shown(node) == new
        with connect(node, hosts) as session:
            assert session.node_key == new
            assert not session.can("KEY_STATEMENT")
    assert status(node) == {"key": new.hex(), "next": None, "agents": []}
    assert told(node.config_dir, "pubkey").strip() == new.hex()


def test_one_without_sys_caps_is_carried_over_too(node: Daemon, hosts: asys.KnownHosts) -> None:
    new = bytes.fromhex(rotate(node)["new_key"])
    with connect(node, hosts, CORE_AGENT) as session:
        assert session.caps is None
        assert session.next_key == new
    assert hosts.lookup(*node.endpoint) == new


def test_dark_and_rates_keep_nobody_from_it(node: Daemon, hosts: asys.KnownHosts) -> None:
    told(node.config_dir, "dark")
    new = bytes.fromhex(rotate(node)["new_key"])
    with connect(node, hosts) as session:
        assert session.next_key == new


async def test_a_reconnecting_agent_moves_by_itself(node: Daemon, hosts: asys.KnownHosts) -> None:
    """Nobody touches it: it loses its connection twice and has the next key behind it."""
    asks = asyd_command
    async with asys.connect(
        *node.endpoint,
        identity=asys.Identity(AGENT),
        known_hosts=hosts,
        reconnect=asys.Reconnect(first=0.01, most=0.1),
        timeout=PATIENCE,
    ) as session:
        await session.sys_hello()
        rotated = await asyncio.to_thread(rotate, node)
        new = bytes.fromhex(rotated["new_key"])
        for expected in (node.key, new):
            closed = await asyncio.to_thread(asks, node.config_dir, "sessions", "close", "agent")
            assert closed.returncode == 0, closed.stderr
            await session.sys_hello()
            assert session.node_key == expected
        await asyncio.to_thread(told, node.config_dir, "key", "finish")
        await asyncio.to_thread(asks, node.config_dir, "sessions", "close", "agent")
        await session.sys_hello()
        assert session.node_key == new
    assert hosts.lookup(*node.endpoint) == new


def test_a_key_in_code_is_told_and_nothing_is_written(node: Daemon, hosts: asys.KnownHosts) -> None:
    before = hosts.path.read_bytes()
    new = bytes.fromhex(rotate(node)["new_key"])
    with connect(node, hosts, node_key=node.key) as session:
        assert session.next_key == new
    with connect(node, hosts, node_key=new) as session:  # and may be put there from now on
        assert (session.node_key, session.next_key) == (new, None)
    assert hosts.path.read_bytes() == before
    told(node.config_dir, "key", "finish")
    with pytest.raises(asys.HostKeyChanged) as caught:
        connect(node, hosts, node_key=node.key)
    assert (caught.value.known, caught.value.key) == (node.key, new)


def test_a_deployed_agent_works_until_the_end(node: Daemon) -> None:
    """It compares the key that is shown with the one on record, and knows nothing else."""
    rotate(node)
    for _ in range(2):
        assert shown(node) == node.key
        with node.connect(DEPLOYED_AGENT) as agent:
            assert agent.ask(frame(SYS_CAPS.code))[-2:] == OK
    assert has(node)["deployed"] == "old"
    told(node.config_dir, "key", "finish")
    assert shown(node) != node.key


def test_one_that_was_away_needs_the_statements(
    node: Daemon, hosts: asys.KnownHosts, tmp_path: Path
) -> None:
    """Over two rotations of which it saw neither."""
    for _ in range(2):
        last = rotate(node, "--overlap", "1h")
        told(node.config_dir, "key", "finish")
    new = bytes.fromhex(last["new_key"])
    with pytest.raises(asys.HostKeyChanged, match=r"asys trust --statement FILE"):
        connect(node, hosts)
    file = tmp_path / "statements"
    file.write_text(told(node.config_dir, "key", "statement"))
    host, port = node.endpoint
    words = ["trust", f"{host}:{port}", "--known-hosts", str(hosts.path)]
    assert main([*words, "--statement", str(file)]) == 0
    assert hosts.lookup(host, port) == new
    assert len(hosts.superseded(host, port)) == 2
    with connect(node, hosts) as session:
        assert session.node_key == new


def test_the_answer_is_the_statement_and_nothing_before_and_after(node: Daemon) -> None:
    ask = frame(KEY_STATEMENT.code)
    with node.connect() as agent:
        assert agent.ask(ask) == NO_SUCH_INSTRUCTION
        answer = rotate(node)
        reply = agent.ask(ask)
        assert reply[-2:] == OK
        statement = KeyStatement.unpack(reply[:-2])
        statement.check()
        assert statement.pack().hex() == answer["statement"]
        assert (statement.old_key, statement.new_key.hex()) == (node.key, answer["new_key"])
        assert agent.ask(frame(KEY_STATEMENT.code, b"x")) == b"\x67\x00"
        told(node.config_dir, "key", "finish")
        assert agent.ask(ask) == NO_SUCH_INSTRUCTION


def test_a_thief_of_the_old_key_has_nothing_of_those_who_moved(
    node: Daemon, hosts: asys.KnownHosts
) -> None:
    """A node that shows the old key and holds nothing else is not taken for it any more."""
    old = (node.config_dir / "id_curve25519").read_bytes()
    rotate(node)
    connect(node, hosts).close()
    with ThreadedWireNode(serve()) as thief:
        thief.node.key = PrivateKey(old)
        known = hosts.lookup(*node.endpoint)
        assert known is not None
        hosts.add(thief.node.host, thief.node.port, known)
        with pytest.raises(asys.HostKeyChanged):
            asys.sync.connect(
                thief.node.host,
                thief.node.port,
                identity=asys.Identity(AGENT),
                known_hosts=hosts,
                timeout=PATIENCE,
            )


def test_what_cannot_be_done_is_said(node: Daemon) -> None:
    none = asyd_command(node.config_dir, "key", "finish")
    assert (none.returncode, none.stdout) == (1, "")
    assert "there is no next key" in none.stderr
    assert "asyd key rotate" in asyd_command(node.config_dir, "key", "statement").stderr
    rotate(node)
    twice = asyd_command(node.config_dir, "key", "rotate")
    assert twice.returncode == 1
    assert "asyd key finish" in twice.stderr
    assert asyd_command(node.config_dir, "key", "rotate", "--overlap", "367d").returncode == 2


def test_no_overlap_takes_over_at_once(node: Daemon) -> None:
    answer = rotate(node, "--overlap", "0")
    assert shown(node).hex() == answer["new_key"]
    with node.connect() as agent:
        assert agent.ask(frame(KEY_STATEMENT.code)) == NO_SUCH_INSTRUCTION
    assert not (node.config_dir / "id_curve25519.next").exists()


# -- restarts and time


def test_it_outlasts_a_restart_and_who_has_moved_is_remembered(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    with started(tmp_path) as node:
        hosts.add("node", 1, node.key)
        old, answer = node.key, rotate(node)
        for _ in range(2):
            connect(node, None, node_key=hosts.lookup("node", 1)).close()
            hosts.remove("node", 1)
            hosts.add("node", 1, bytes.fromhex(answer["new_key"]))
        assert has(node) == {"agent": "next"}
        node.stop()
        assert has(node) == {"agent": "next"}  # without an asyd
        assert json.loads(told(node.config_dir, "key", "status", "--json"))["next"] is not None
        again = Daemon(node.config_dir, argv(node.config_dir), read_log=True)
        try:
            again.await_ready()
            assert again.key == old
            assert status(again)["next"]["new_key"] == answer["new_key"]
            assert has(again) == {"agent": "next"}
        finally:
            again.kill()


def test_one_that_was_made_while_asyd_was_away_is_found(tmp_path: Path) -> None:
    with started(tmp_path) as node:
        node.kill()
        done = asyd_command(node.config_dir, "key", "rotate", "--json")
        assert done.returncode == 0, done.stderr
        assert "it finds the key when it starts" in done.stderr
        new = json.loads(done.stdout)["new_key"]
        again = Daemon(node.config_dir, argv(node.config_dir), read_log=True)
        try:
            again.await_ready()
            assert (again.key, status(again)["next"]["new_key"]) == (node.key, new)
            again.kill()
            assert new in told(node.config_dir, "key", "finish")
        finally:
            again.kill()
        assert told(node.config_dir, "pubkey").strip() == new


def test_sighup_finds_a_next_key(node: Daemon) -> None:
    """As where the command had nobody to ask, and asyd started at that moment."""
    config = ConfigDir(node.config_dir)
    made = NextKey.make(config.load_key(), 1_700_000_000, 2**31)
    do_all(iter([beginning(config, made)]))
    node.process.send_signal(signal.SIGHUP)
    node.wait_for("two keys:")
    assert status(node)["next"]["new_key"] == made.key.public.hex()


def test_the_clock_ends_it_and_setting_it_back_revives_nothing(tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    prelude = SHIFTED.format(path=str(shift))
    with running(tmp_path, agents=LINES, prelude=prelude) as node:
        new = bytes.fromhex(rotate(node, "--overlap", "1h")["new_key"])
        aside = shift.with_suffix(".new")
        aside.write_text(str(3601 * 10**9))
        aside.rename(shift)
        assert shown(node) == new  # whoever knocks finds it ended, whenever the timer comes
        shift.unlink()
        assert shown(node) == new
        with node.dial() as agent, pytest.raises(Ended):
            _handshake_for(agent, node.key)
    assert not (node.config_dir / "id_curve25519.next").exists()
    assert (node.config_dir / "id_curve25519.pub").read_bytes() == new


def _handshake_for(agent: RawAgent, key: bytes) -> None:
    """Message 1 for a key, whatever is shown; returns when the node has answered it."""
    link = AgentLink(AGENT)
    agent.write(link.data_to_send())
    while link.state is LinkState.MAGIC:
        link.receive_data(agent.read())
    link.begin_handshake(key)
    agent.write(link.data_to_send())
    while link.state is not LinkState.OPEN:
        link.receive_data(agent.read())


# -- the record


def test_it_is_on_record(tmp_path: Path) -> None:
    with running(tmp_path, "--audit", "on", agents=LINES) as node:
        answer = rotate(node)
        with node.connect() as agent:
            agent.ask(frame(KEY_STATEMENT.code))
        told(node.config_dir, "key", "finish")
    found = [
        one for one in entries(node.config_dir / "state" / "audit") if isinstance(one, NodeKey)
    ]
    assert [(one.event, one.old_key, one.new_key.hex(), one.ends) for one in found] == [
        (event, node.key, answer["new_key"], answer["ends"]) for event in (1, 2)
    ]
    log = "".join(node.log)
    secret = (node.config_dir / "id_curve25519").read_bytes().hex()
    assert secret not in log
    assert answer["new_key"] in log
