"""What an admin does to a running node."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from asys.isa.capmap import CORE
from asys.node.admin.blackout import Blackout
from asys.node.admin.controls import REPORTED_LINES, NodeControls, report_agents
from asys.node.admin.verbs import SessionInfo
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.node.health.counts import Closing
from asys.protocol.keys import PrivateKey
from support.daemon import write_agents
from support.frames import DENIED, HELLO, NO_SUCH_INSTRUCTION, OK, frame
from support.metrics import health_of
from support.node_rig import AGENT, OTHER, PEER, Rig

UNIX = 1_700_000_000


class Desk:
    """An admin's controls of a rig's node, with directories of their own."""

    def __init__(self, tmp_path: Path) -> None:
        self.rig = Rig({AGENT: "agent caps=all", OTHER: ""})
        self.path = tmp_path / "asyd"
        self.path.mkdir(mode=0o700)
        self.config = ConfigDir(self.path)
        self.blackout = Blackout(tmp_path / "state")
        self.blackout.prepare()
        self.controls = NodeControls(
            self.rig.node, self.config, self.blackout, health_of(self.rig.node)
        )

    def authorize(self, agents: Mapping[PrivateKey, str], rest: str = "") -> None:
        """Writes `authorized_agents`."""
        write_agents(self.path, agents)
        with (self.path / "authorized_agents").open("a") as file:
            file.write(rest)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    await desk.rig.close()


# -- sessions


async def test_sessions_as_they_are(desk: Desk) -> None:
    agent = desk.rig.session()
    desk.rig.advance(7.5)
    late = desk.rig.connect(OTHER, "/a/socket")
    desk.rig.dial()
    desk.rig.advance(0.5)
    found = {one.key: one for one in desk.controls.sessions()}
    where = f"{PEER[0]}:{PEER[1]}"
    assert found == {
        AGENT.public: SessionInfo(
            AGENT.public, "agent", where, agent.session.id, UNIX, 8.0, confirmed=True
        ),
        OTHER.public: SessionInfo(OTHER.public, "", "unix", 0, UNIX + 8, 0.5, confirmed=False),
    }
    agent.session.close(Closing.ADMIN)
    late.transport.lose()
    assert desk.controls.sessions() == []


async def test_a_key_loses_all_its_sessions_and_may_come_again(desk: Desk) -> None:
    mine = [desk.rig.session(), desk.rig.session(), desk.rig.connect()]
    other = desk.rig.session(OTHER)
    assert desk.controls.close_key(AGENT.public) == 3
    assert all(agent.transport.eof_sent for agent in mine)
    assert desk.controls.close_key(AGENT.public) == 0
    assert other.ask(HELLO)[0].endswith(OK)
    desk.rig.session()


# -- darkness


async def test_dark_is_in_force_and_on_the_disk(desk: Desk) -> None:
    agent = desk.rig.session()
    assert not desk.controls.is_dark()
    await desk.controls.set_dark(True)
    assert desk.controls.is_dark()
    assert desk.blackout.load()
    assert agent.ask(frame(0x20)) == [NO_SUCH_INSTRUCTION]
    await desk.controls.set_dark(False)
    assert not desk.controls.is_dark()
    assert not desk.blackout.load()
    assert agent.ask(frame(0x20)) == [DENIED]


async def test_dark_holds_even_if_the_disk_does_not_take_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(dark: bool) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(desk.blackout, "set", full)
    agent = desk.rig.session()
    with pytest.raises(OSError, match="Read-only"):
        await desk.controls.set_dark(True)
    assert desk.controls.is_dark()
    assert agent.ask(frame(0x20)) == [NO_SUCH_INSTRUCTION]


# -- a new reading


async def test_a_new_reading_holds_and_says_what_it_brought(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    agent, other = desk.rig.session(), desk.rig.session(OTHER)
    desk.authorize({AGENT: "agent"}, "bad\n")
    with caplog.at_level(logging.INFO, "asyd"):
        report = desk.controls.reload()
    assert report.agents == 1
    assert [number for number, _ in report.faults] == [2]
    assert "line 2 grants nothing" in caplog.text
    assert "1 agents in" in caplog.text
    grant = desk.rig.node.grant(AGENT.public)
    assert grant is not None
    assert grant.holding.caps == CORE
    assert agent.ask(frame(0x20)) == [NO_SUCH_INSTRUCTION]
    assert other.transport.eof_sent


async def test_what_cannot_be_read_changes_nothing(desk: Desk) -> None:
    agent = desk.rig.session()
    desk.authorize({})
    desk.config.agents_path.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod 600"):
        desk.controls.reload()
    assert agent.ask(frame(0x20)) == [DENIED]


async def test_more_bad_lines_than_are_reported_one_by_one(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.authorize({AGENT: "agent"}, "bad\n" * (REPORTED_LINES + 3))
    assert len(desk.controls.reload().faults) == REPORTED_LINES + 3
    assert caplog.text.count("grants nothing: ") == REPORTED_LINES
    assert "3 more lines grant nothing; see: asyd agents check" in caplog.text


async def test_nobody_can_connect(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.authorize({})
    desk.controls.reload()
    assert f"asyd agents add KEY --config-dir {desk.path}" in caplog.text
    caplog.clear()
    desk.authorize({AGENT: ""})
    desk.controls.reload()
    report_agents(desk.config, desk.rig.node)
    assert "nobody can connect" not in caplog.text
