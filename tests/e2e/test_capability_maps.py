"""SYS_CAPS tells what an agent has, on all pages, and every answer bears it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon, running
from support.delegates import CORE, sealed
from support.frames import CAPS, DENIED, INVALID_PAYLOAD, NO_SUCH_INSTRUCTION, OK, frame
from support.lit import KNOWN, MANAGED, OF_LINUX, lit, possible_here, told_truly
from support.supervised import supervisord

POSSIBLE = possible_here() - MANAGED
"""What a node without a service manager can do."""

CORE_ISA = {0x00, 0x01, 0x02, 0x03}
GROUPS = {code: set(range(code << 4, (code + 1) << 4)) for code in range(16)}
STANDARD = set(range(0x90)) - {0x60, 0x61, 0x62}
VENDORS = set(range(0xC0, 0x100))

MAPS = {
    "": CORE,
    "caps=core": CORE,
    "caps=SYS_CAPS": {0x00},
    "caps=00,01": {0x00, 0x01},
    "caps=SYS_CAPS,PROC_THROTTLE": {0x00, 0x20},
    "caps=core,SVC_RESTART": CORE | {0x22},
    "caps=core,ABANDON": CORE | {0x14},
    "caps=all": STANDARD,
    "caps=all,security": STANDARD | GROUPS[6],
    "caps=core,process,security": CORE | GROUPS[2] | GROUPS[6],
    "caps=SYS_CAPS,vendor": {0x00} | VENDORS,
    "caps=all,60,61,62,vendor,90,9F,B0,BF": STANDARD
    | {0x60, 0x61, 0x62, 0x90, 0x9F, 0xB0, 0xBF}
    | VENDORS,
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node without a service manager; tests decide on its agents."""
    options = ("--handshake-rate", "0")
    with running(tmp_path_factory.mktemp("asyd"), *options, agents={}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def all_maps(node: Daemon) -> Mapping[str, PrivateKey]:
    """An agent for each map."""
    return {caps: PrivateKey.generate() for caps in MAPS}


@pytest.mark.parametrize("caps", MAPS)
def test_the_map_is_told_truly(node: Daemon, all_maps: Mapping[str, PrivateKey], caps: str) -> None:
    node.reload({key: f"agent {written}" for written, key in all_maps.items()})
    with node.connect(all_maps[caps]) as agent:
        told_truly(agent, MAPS[caps], POSSIBLE, KNOWN)


def test_what_needs_a_service_manager_is_possible_with_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    agents = {AGENT: "agent caps=all,security"}
    with (
        supervisord({"web": "sleep infinity"}) as url,
        running(tmp_path_factory.mktemp("asyd"), "--supervisord", url, agents=agents) as node,
        node.connect() as agent,
    ):
        told_truly(agent, STANDARD | GROUPS[6], POSSIBLE | MANAGED, KNOWN)


def test_what_the_platform_cannot_do_is_dark_on_the_page_and_6d00(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    agents = {AGENT: "agent caps=all"}
    with (
        running(tmp_path_factory.mktemp("asyd"), "--portable", agents=agents) as node,
        node.connect() as agent,
    ):
        told_truly(agent, STANDARD, POSSIBLE - OF_LINUX, KNOWN)


def test_pages_differ_in_the_map_and_the_echo_alone(node: Daemon) -> None:
    node.reload({AGENT: "agent caps=all,security,vendor"})
    with node.connect() as agent:
        pages = [agent.ask(frame(0x00, p1=page)) for page in range(4)]
        assert {page[8:33] for page in pages} == {pages[0][8:33]}
        assert [page[33] for page in pages] == [0, 1, 2, 3]
        assert pages[2][:8] == pages[3][:8] == bytes(8)  # nothing is possible there
        assert agent.ask(CAPS) == pages[0]
        assert agent.ask(frame(0x00, p2=3)) == pages[0]
        assert agent.ask(agent.signed(0x00, p1=1)) == pages[1]
        assert agent.ask(sealed(agent, 0x00, p1=1)) == pages[1]
        assert agent.ask(frame(0x00, b"ignored", p1=1)) == pages[1]


def test_there_are_four_pages(node: Daemon) -> None:
    node.reload({AGENT: "agent"})
    with node.connect() as agent:
        for page in range(4, 256):
            assert agent.ask(frame(0x00, p1=page)) == INVALID_PAYLOAD
        assert agent.ask(agent.signed(0x00, p1=4)) == INVALID_PAYLOAD
        assert agent.ask(sealed(agent, 0x00, p1=0xFF)) == INVALID_PAYLOAD
        assert agent.alive()


def test_sys_caps_itself_can_be_dark(node: Daemon) -> None:
    node.reload({AGENT: "agent caps=SYS_HELLO"})
    with node.connect() as agent:
        assert agent.ask(CAPS) == NO_SUCH_INSTRUCTION
        assert agent.ask(frame(0x00, p1=9)) == NO_SUCH_INSTRUCTION
        assert agent.alive()


# -- SIGHUP


def test_a_map_changes_for_the_next_instruction_of_a_live_session(node: Daemon) -> None:
    node.reload({AGENT: "agent caps=core", CORE_AGENT: "other"})
    with node.connect() as agent, node.connect(CORE_AGENT) as other:
        for _ in range(3):
            assert lit(agent) == CORE
            assert agent.ask(agent.throttle(1)) == NO_SUCH_INSTRUCTION
            node.reload({AGENT: "agent caps=core,process", CORE_AGENT: "other"})
            assert lit(agent) == CORE | (POSSIBLE & GROUPS[2])
            assert agent.ask(agent.throttle(1)) == DENIED
            assert lit(other) == CORE
            node.reload({AGENT: "agent caps=core", CORE_AGENT: "other"})
        assert agent.seq == 6


def test_a_map_changes_between_the_requests_of_one_batch(node: Daemon) -> None:
    """SYS_STATUS waits for the sampler; what is behind it meets the map of a later moment."""
    before, after = {AGENT: "agent caps=core"}, {AGENT: "agent caps=SYS_HELLO"}
    node.reload(before)
    with node.connect() as agent:
        agent.send(*[frame(0x02)] * 500)
        node.reload(after)
        agent.send(frame(0x02), frame(0x01))
        found = [agent.answer() for _ in range(502)]
        changed = next(at for at, one in enumerate(found) if one == NO_SUCH_INSTRUCTION)
        assert {len(one) for one in found[:changed]} <= {23}
        assert set(found[changed:-1]) == {NO_SUCH_INSTRUCTION}
        assert found[-1][-2:] == OK


def test_removed_keys_are_closed_in_whatever_state_they_are(node: Daemon) -> None:
    """Idle, in the middle of a frame, not confirmed; the others notice nothing."""
    node.reload({AGENT: "agent caps=all", STRANGER: "stays"})
    with (
        node.connect() as idle,
        node.connect() as half,
        node.connect() as unconfirmed,
        node.connect(STRANGER) as stays,
    ):
        assert idle.alive()
        assert stays.alive()
        half.send(frame(0x01))
        half.answer()
        half.send(frame(0x01)[:3])
        node.reload({STRANGER: "stays"})
        for one in (idle, half, unconfirmed):
            assert one.final() == []
        assert stays.alive()
        with node.connect() as again:
            assert again.final() == [DENIED]


def test_a_line_that_turned_bad_grants_nothing(node: Daemon) -> None:
    node.reload({AGENT: "agent caps=all"})
    with node.connect() as agent:
        assert agent.alive()
        node.reload({AGENT: "agent caps=everything"})
        assert agent.final() == []
