"""AGENT_ADD, AGENT_REMOVE and AGENT_LIST in a node: what they do to sessions that are open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.isa import AGENT_ADD, AGENT_LIST, AGENT_REMOVE, AgentFlags, Agents, CapabilityMap
from asys.isa.capmap import parse_caps
from asys.isa.security import PAGE_SIZE, AgentKey, NewAgent
from asys.node.agents.directory import Delegate, key_hash
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from support.frames import (
    BLOCKED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent

CHILD, GRANDCHILD = PrivateKey.generate(), PrivateKey.generate()
UNIX = 1_700_000_000
SECURITY = "core,20,security"


class Disk:
    """A Store that a test can break."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.saved: tuple[Delegate, ...] = ()

    async def save(self, delegates: tuple[Delegate, ...]) -> None:
        """As Store.save."""
        if self.error is not None:
            raise self.error
        self.saved = delegates


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def rig(disk: Disk) -> AsyncIterator[Rig]:
    agents = {AGENT: "agent caps=all,security rate=AGENT_REMOVE:2/h", OTHER: "boss role=admin"}
    agents[OTHER] += " caps=core,security"
    rig = Rig(agents, store=disk)
    yield rig
    await rig.close()


async def sealed(agent: RigAgent, ins: int, payload: bytes = b"", p1: int = 0) -> bytes:
    """The answer to an Enc+Sign frame."""
    agent.send(agent.link.signer.seal(ins, p1, 0, payload))
    await agent.rig.settle()
    [answer] = agent.responses()
    return answer


async def add(
    agent: RigAgent, key: PrivateKey = CHILD, caps: str = SECURITY, ttl: int = 0, label: str = ""
) -> bytes:
    new = NewAgent(key.public, CapabilityMap(parse_caps(caps)), ttl, label)
    return await sealed(agent, AGENT_ADD.code, new.pack())


async def remove(agent: RigAgent, key: PrivateKey = CHILD) -> bytes:
    return await sealed(agent, AGENT_REMOVE.code, AgentKey(key.public).pack())


async def listed(agent: RigAgent, page: int = 0) -> Agents:
    answer = await sealed(agent, AGENT_LIST.code, p1=page)
    assert answer.endswith(OK)
    return Agents.unpack(answer[:-2])


async def test_who_is_added_gets_in_and_is_on_the_disk(rig: Rig, disk: Disk) -> None:
    agent = rig.session()
    assert await add(agent, ttl=60, label="child") == key_hash(CHILD.public) + OK
    assert disk.saved == (
        Delegate(CHILD.public, AGENT.public, parse_caps(SECURITY), "child", UNIX + 60),
    )
    child = rig.session(CHILD)
    assert child.session.name == "child"
    assert child.ask(frame(0x20)) == [DENIED]  # plain: it exists, and must be signed


async def test_what_is_added_again_holds_in_open_sessions(rig: Rig) -> None:
    agent = rig.session()
    await add(agent)
    child = rig.session(CHILD)
    await add(agent, caps="core")
    assert child.ask(frame(0x20)) == [NO_SUCH_INSTRUCTION]


async def test_who_is_removed_is_closed_with_all_below_before_the_answer(
    rig: Rig, disk: Disk
) -> None:
    agent = rig.session()
    await add(agent)
    child = rig.session(CHILD)
    await add(child, GRANDCHILD, "core")
    grandchild = rig.session(GRANDCHILD)
    assert await remove(agent) == OK
    assert child.transport.eof_sent
    assert grandchild.transport.eof_sent
    assert disk.saved == ()
    assert rig.connect(CHILD).responses() == [DENIED]
    assert await remove(agent) == INVALID_PAYLOAD
    await add(agent)
    assert await remove(agent) == OK
    assert await remove(agent, OTHER) == DENIED
    assert await remove(agent) == BLOCKED


async def test_a_disk_that_fails(rig: Rig, disk: Disk) -> None:
    """Who was to be added is not in; who was removed is out."""
    agent = rig.session()
    await add(agent)
    child = rig.session(CHILD)
    disk.error = OSError(28, "No space left on device")
    assert await add(agent, GRANDCHILD) == SW.NODE_NO_SPACE.wire
    assert rig.connect(GRANDCHILD).responses() == [DENIED]
    assert await remove(agent) == SW.NODE_NO_SPACE.wire
    assert child.transport.eof_sent
    assert rig.connect(CHILD).responses() == [DENIED]


async def test_refusals_of_additions(rig: Rig) -> None:
    agent = rig.session()
    assert await add(agent, caps="core,vendor") == DENIED
    assert await add(agent, OTHER) == INVALID_PAYLOAD
    assert await sealed(agent, AGENT_ADD.code, bytes(68)) == WRONG_LENGTH
    assert agent.ask(agent.signed(AGENT_ADD.code, bytes(69), seq=100)) == [DENIED]
    agent.link.signer.seq = 100
    await add(agent, caps="core")
    assert rig.session(CHILD).ask(frame(AGENT_ADD.code), frame(AGENT_LIST.code)) == (
        [NO_SUCH_INSTRUCTION] * 2
    )


async def test_the_list_of_an_agent_and_of_an_admin(rig: Rig) -> None:
    agent, boss = rig.session(), rig.session(OTHER)
    await add(agent, ttl=60, label="child")
    child = rig.session(CHILD)
    await add(child, GRANDCHILD, "core")
    found = await listed(agent)
    assert (found.total, found.count, found.page) == (2, 2, 0)
    first, second = found.agents
    assert (first.key, first.parent_hash) == (CHILD.public, key_hash(AGENT.public))
    assert (first.label, first.expires, first.flags) == ("child", UNIX + 60, AgentFlags.CONNECTED)
    assert CapabilityMap.of(first.caps).bits == parse_caps(SECURITY)
    assert (second.parent_hash, second.expires) == (key_hash(CHILD.public), UNIX + 60)
    assert (second.label, second.flags) == ("", AgentFlags(0))
    assert (await listed(child)).agents == (second,)
    everybody = await listed(boss)
    by_key = {one.key: one for one in everybody.agents}
    assert by_key.keys() == {one.public for one in (AGENT, OTHER, CHILD, GRANDCHILD)}
    assert by_key[OTHER.public].flags == AgentFlags.CONNECTED | AgentFlags.ADMIN
    assert by_key[AGENT.public].parent_hash == bytes(4)
    assert await remove(boss) == OK
    assert (await listed(agent)).total == 0


async def test_pages_of_32(rig: Rig) -> None:
    agent = rig.session()
    keys = [PrivateKey.generate() for _ in range(PAGE_SIZE + 1)]
    for key in keys:
        assert (await add(agent, key, "core")).endswith(OK)
    pages = [await listed(agent, page) for page in range(3)]
    assert [page.count for page in pages] == [PAGE_SIZE, 1, 0]
    assert {page.total for page in pages} == {PAGE_SIZE + 1}
    assert [one.key for page in pages for one in page.agents] == [key.public for key in keys]


async def test_an_added_agent_ends_with_its_time(rig: Rig, disk: Disk) -> None:
    agent = rig.session()
    await add(agent, ttl=30)
    child = rig.session(CHILD)
    rig.advance(29.9)
    assert child.ask(HELLO)[0].endswith(OK)
    rig.advance(0.1)
    assert child.transport.eof_sent
    await rig.settle()
    assert disk.saved == ()


async def test_a_disk_that_does_not_answer_is_told_and_leaves_no_traceback(
    rig: Rig, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    agent = rig.session()
    assert (await add(agent))[-2:] == OK
    disk.error = TimeoutError("the disk has not answered")
    assert await add(agent, GRANDCHILD) == SW.NODE_TIMED_OUT.wire
    assert await remove(agent) == SW.NODE_TIMED_OUT.wire
    assert "6F04 AGENT_ADD for agent: the disk has not answered" in caplog.text
    assert "Traceback" not in caplog.text
    disk.error = None
