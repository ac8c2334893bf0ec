"""SIGHUP: who may come in is read again, and nobody else notices."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon, running
from support.frames import ALREADY_RECEIVED, CAPS, DENIED, HELLO, NO_SUCH_INSTRUCTION, OK, frame
from support.supervised import FOR_EVER, supervisord

AGENTS = {AGENT: "agent caps=all", CORE_AGENT: "other"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    """An asyd whose agents a test may change."""
    with running(tmp_path, agents=AGENTS) as daemon:
        yield daemon


def test_a_removed_agent_is_closed_and_others_are_not(node: Daemon) -> None:
    with node.connect() as removed, node.connect(CORE_AGENT) as stays:
        assert removed.alive()
        node.reload({CORE_AGENT: "other"})
        assert removed.ended()
        assert stays.alive()
        with node.connect() as again:
            assert again.final() == [DENIED]
        node.wait_for("closed agent 127.0.0.1", times=1)


def test_an_added_agent_gets_in(node: Daemon) -> None:
    with node.connect(STRANGER) as agent:
        assert agent.final() == [DENIED]
    node.reload({**AGENTS, STRANGER: "not-any-more"})
    with node.connect(STRANGER) as agent:
        assert agent.alive()


def test_grants_hold_from_the_next_instruction(node: Daemon) -> None:
    with node.connect() as agent:
        assert agent.ask(frame(0x20)) == DENIED
        before = agent.ask(CAPS)
        node.reload({AGENT: "agent caps=SYS_HELLO,SYS_CAPS"})
        assert agent.ask(frame(0x20)) == NO_SUCH_INSTRUCTION
        assert agent.ask(frame(0x02)) == NO_SUCH_INSTRUCTION
        assert agent.ask(CAPS)[:8] == bytes.fromhex("0000000300000000")
        node.reload(AGENTS)
        assert agent.ask(CAPS) == before
        assert agent.ask(frame(0x20)) == DENIED


def test_a_session_whose_key_stays_keeps_its_seq_and_its_tasks(tmp_path: Path) -> None:
    with (
        supervisord({"service": "sleep infinity"}, startsecs=FOR_EVER) as url,
        running(tmp_path, "--supervisord", url, agents=AGENTS) as node,
        node.connect() as agent,
    ):
        handle = agent.ask(agent.restart("service"))[:4]
        node.reload({AGENT: "another-name caps=core"})
        assert agent.ask(frame(0x11, handle)) == b"\x00" + OK
        assert agent.ask(agent.signed(0x01, seq=1)) == ALREADY_RECEIVED
        assert agent.ask(agent.signed(0x01, seq=2))[-2:] == OK


def test_requests_under_way_are_not_disturbed(node: Daemon) -> None:
    with node.connect() as agent:
        agent.send(*[HELLO] * 3000)
        node.reload({AGENT: "agent"})
        agent.send(*[HELLO] * 3000)
        assert [len(agent.answer()) for _ in range(6000)] == [18] * 6000


def test_a_file_that_cannot_be_used_changes_nothing(node: Daemon) -> None:
    with node.connect() as agent:
        node.authorize({})
        (node.config_dir / "authorized_agents").chmod(0o666)
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("authorized_agents is not read again")
        assert agent.alive()
        with node.connect() as another:
            assert another.alive()
    node.log[:] = [line for line in node.log if "is not read again" not in line]  # as it should


def test_a_bad_line_is_named_and_the_others_hold(node: Daemon) -> None:
    node.reload({**AGENTS, STRANGER: "name caps=everything"})
    assert node.said("authorized_agents line 3 grants nothing") == 1
    with node.connect(STRANGER) as agent:
        assert agent.final() == [DENIED]
    with node.connect() as agent:
        assert agent.alive()
