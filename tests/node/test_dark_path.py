"""What does not exist for an agent is answered by one object, whatever the reason (section 4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.isa import AGENT_ADD, PROC_THROTTLE, REGISTRY, SVC_RESTART, SYS_CAPS, Capabilities
from asys.isa.capmap import CORE, UNGRANTED, parse_caps
from asys.node.agents.grant import Grant
from asys.node.dispatch import dark, unsupported
from asys.node.server import Limits, Mode, Node
from asys.protocol.apdu import CLA_MORE, encode_plain, split_response
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from support.frames import DENIED, NO_SUCH_INSTRUCTION, NOT_SUPPORTED, WRONG_LENGTH, frame
from support.node_rig import NODE, Rig, RigAgent, book

DECLARED = frozenset(one.code for one in REGISTRY if not UNGRANTED >> one.code & 1)
"""CONTINUE is there only for whoever has something that may come in fragments: nobody here; and
KEY_STATEMENT while the node has a next key: never here.
"""

VENDORS = frozenset(range(0xC0, 0x100))
"""Every node has these, with vendors or without."""

EVERY_CODE = ",".join(f"{code:02X}" for code in range(256))
DATA = b"0123456789abcdef"

MAPS = {
    "nothing": "caps=SYS_CAPS",
    "core": "caps=core",
    "one of each kind": "caps=core,PROC_THROTTLE,2F,95,C0,FF",
    "all": "caps=all",
    "services": "caps=core,SVC_RESTART services=web-*",
    "security": "caps=core,security role=admin",
    "every code there is": f"caps={EVERY_CODE}",
    "scopes and rates": "caps=all,60 users=0 vendors=0x401 from=192.0.2.0/24 "
    "rate=PROC_THROTTLE:3/h,SYS_HELLO:5/s,SVC_RESTART:1/m,95:1/s expires=2100-01-01",
}
KEYS = {PrivateKey.generate(): line for line in MAPS.values()}
ADDED = PrivateKey.generate()
ADDED_BELOW = PrivateKey.generate()


def caps_of(line: str) -> int:
    """The map that a line grants, read without the code that is tested."""
    return parse_caps(line.split()[0].removeprefix("caps="))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(KEYS, limits=Limits(handshakes=0))
    yield rig
    for transport in rig.transports:
        transport.protocol.abort()
    rig.run()
    rig.node.sampler.close()


def granted(node: Node, key: PrivateKey) -> Grant:
    grant = node.grant(key.public)
    assert grant is not None
    return grant


def check(node: Node, key: PrivateKey, caps: int) -> None:
    """Every code that `caps` does not grant, or that nothing stands for, has the same entry."""
    table = granted(node, key).table
    assert len(table) == 256
    for code, entry in enumerate(table):
        exists = code in DECLARED | VENDORS and bool(caps >> code & 1)
        assert (entry is dark) == (not exists), f"{code:02X}"


@pytest.mark.parametrize("falls", [False, True], ids=["lit", "fallen to core"])
@pytest.mark.parametrize("mode", list(Mode))
def test_one_object_answers_every_dark_code_of_every_agent(
    rig: Rig, mode: Mode, falls: bool
) -> None:
    node = Node(
        key=NODE,
        book=book(KEYS),
        platform=rig.node.platform,
        clock=rig.clock,
        mode=mode,
        dark=falls,
    )
    for key, line in KEYS.items():
        check(node, key, caps_of(line) & CORE if falls else caps_of(line))


async def test_agents_that_were_added_have_the_same_object(rig: Rig) -> None:
    root = next(key for key, line in KEYS.items() if "role=admin" in line)
    chain = ((root, ADDED, "core,60,PROC_THROTTLE"), (ADDED, ADDED_BELOW, "core"))
    for parent, key, caps in chain:
        held = parse_caps(caps) & caps_of(KEYS[root])
        charge = granted(rig.node, parent).charge(AGENT_ADD.code, rig.clock.now())
        await rig.node.authority.add(parent.public, key.public, held, 60, "", charge)
        check(rig.node, key, held)


def test_sessions_that_are_open_have_it_from_the_moment_of_a_change(rig: Rig) -> None:
    key = next(key for key, line in KEYS.items() if line == MAPS["one of each kind"])
    agent = rig.connect(key)
    code = PROC_THROTTLE.code
    assert agent.session.grant.table[code] is not dark
    rig.node.authority.set_dark(True)
    assert agent.session.grant.table[code] is dark
    rig.node.authority.set_dark(False)
    assert agent.session.grant.table[code] is not dark
    rig.node.authority.replace_book(book({key: "caps=core"}))
    assert agent.session.grant.table[code] is dark


def test_what_the_node_cannot_do_is_another_object_and_says_so(rig: Rig) -> None:
    """6D00 tells an agent that it is granted: it is only ever given to one that is."""
    assert rig.node.services is None
    assert unsupported is not dark
    answers = {}
    for key, line in KEYS.items():
        entry = granted(rig.node, key).table[SVC_RESTART.code]
        is_granted = bool(caps_of(line) >> SVC_RESTART.code & 1)
        assert entry is (unsupported if is_granted else dark)
        agent = rig.connect(key)
        answers[is_granted] = agent.ask(agent.restart("web-1"))
    assert answers == {True: [NOT_SUPPORTED], False: [NO_SUCH_INSTRUCTION]}


def test_monitor_mode_has_nothing_dark_that_is_granted(rig: Rig) -> None:
    node = Node(
        key=NODE, book=book(KEYS), platform=rig.node.platform, clock=rig.clock, mode=Mode.MONITOR
    )
    for key, line in KEYS.items():
        for code in DECLARED | VENDORS:
            if caps_of(line) >> code & 1 and not CORE >> code & 1:
                assert granted(node, key).table[code] is unsupported


# -- over a session


def forms(agent: RigAgent, code: int) -> list[bytes]:
    """A code in every form that a frame has."""
    signer = agent.link.signer
    return [
        encode_plain(code),
        encode_plain(code, 0xFF, 0xFF),
        encode_plain(code, 1, 2, DATA),
        frame(code, DATA * 50, cla=0x02),
        frame(code, DATA, cla=CLA_MORE),
        signer.sign(code, 0, 0, b""),
        signer.sign(code, 1, 2, DATA),
        signer.seal(code, 0, 0, b""),
        signer.seal(code, 1, 2, DATA),
    ]


@pytest.mark.parametrize("line", MAPS.values(), ids=MAPS)
def test_every_dark_code_has_the_same_answer_in_every_form(rig: Rig, line: str) -> None:
    agent = rig.connect(next(key for key, one in KEYS.items() if one == line))
    caps = caps_of(line)
    for code in range(256):
        if code not in DECLARED | VENDORS or not caps >> code & 1:
            asked = forms(agent, code)
            assert agent.ask(*asked) == [NO_SUCH_INSTRUCTION] * len(asked), f"{code:02X}"
    assert not agent.session.closed


@pytest.mark.parametrize("falls", [False, True], ids=["lit", "fallen to core"])
@pytest.mark.parametrize("line", MAPS.values(), ids=MAPS)
def test_sys_caps_shows_just_what_is_neither_dark_nor_unsupported(
    rig: Rig, line: str, falls: bool
) -> None:
    agent = rig.connect(next(key for key, one in KEYS.items() if one == line))
    if falls:
        rig.node.authority.set_dark(True)
    lit = 0
    for page in range(4):
        payload, sw = split_response(agent.ask(encode_plain(SYS_CAPS.code, page))[0])
        assert sw == SW.SUCCESS
        shown = Capabilities.unpack(payload)
        lit |= (shown.core_bitmap | shown.ext_bitmap << 32) << 64 * page
    caps = caps_of(line) & CORE if falls else caps_of(line)
    for code in range(256):
        # A fragment of what takes none is refused before anything is done, by what exists.
        answer = agent.ask(frame(code, cla=CLA_MORE))
        if lit >> code & 1:
            assert answer in ([DENIED], [WRONG_LENGTH])
        elif code in VENDORS and caps >> code & 1:
            assert answer == [DENIED]
        elif code in DECLARED and caps >> code & 1:
            assert answer == [NOT_SUPPORTED]
            assert agent.session.grant.table[code] is unsupported
        else:
            assert answer == [NO_SUCH_INSTRUCTION]
