"""Chains: docs/protocol.md 7.14 by a clock that moves when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.isa import CONTINUE, REGISTRY
from asys.isa.capmap import CARRIER, bits
from asys.node.chains import CHAIN_SECONDS, NODE_BYTES
from asys.node.server import Mode
from asys.protocol.limits import MAX_CHAIN
from support.chained import CHAINED, PLAIN, SEALED, declared, seen
from support.frames import (
    ALREADY_RECEIVED,
    BLOCKED,
    CAPS,
    DENIED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book
from support.on_record import Witnessed

MORE = 0x10
SIGNED = 0x04
EXTENDED = 0x02
LINE = "agent caps=core,58,59,1E,20,ABANDON"


@pytest.fixture(autouse=True)
def chainable() -> Iterator[None]:
    with declared():
        yield


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig({AGENT: LINE, OTHER: LINE})
    yield rig
    await rig.close()


@pytest.fixture
def agent(rig: Rig) -> RigAgent:
    return rig.session()


def fragment(
    agent: RigAgent, ins: int, data: bytes, p1: int = 0, p2: int = 0, *, more: bool = True
) -> bytes:
    """A signed fragment; extended where it must be."""
    cla = SIGNED | (MORE if more else 0) | (EXTENDED if len(data) > 251 else 0)
    return agent.signed(ins, data, p1, p2, cla=cla)


def first(agent: RigAgent, data: bytes, ins: int = CHAINED.code, p1: int = 0, p2: int = 0) -> bytes:
    """The handle that a first fragment is answered."""
    [answer] = agent.ask(fragment(agent, ins, data, p1, p2))
    assert answer[-2:] == OK
    assert len(answer) == 6
    return answer[:4]


def go_on(agent: RigAgent, handle: bytes, data: bytes, *, more: bool = True) -> bytes:
    """What a further fragment is answered."""
    [answer] = agent.ask(fragment(agent, CONTINUE.code, handle + data, more=more))
    return answer


def test_fragments_run_as_one_payload_with_the_parameters_of_the_first(
    rig: Rig, agent: RigAgent
) -> None:
    handle = first(agent, b"one ", p1=3, p2=7)
    assert int.from_bytes(handle[:2], "big") == agent.session.id
    assert handle[2:] != b"\0\0"
    assert go_on(agent, handle, b"two ") == OK
    [answer] = agent.ask(agent.signed(CONTINUE.code, handle + b"three", 9, 9))
    assert answer == seen(b"one two three", 3, 7).pack() + OK
    assert (len(rig.node.chains), rig.node.chains.held) == (0, 0)
    assert go_on(agent, handle, b"") == INVALID_PAYLOAD


def test_every_way_to_protect_a_frame_may_carry_a_chain(agent: RigAgent) -> None:
    [answer] = agent.ask(frame(PLAIN.code, b"plain ", cla=MORE))
    [answer] = agent.ask(frame(CONTINUE.code, answer[:4] + b"chain"))
    assert answer == seen(b"plain chain").pack() + OK
    signer = agent.link.signer
    for code in (PLAIN.code, CHAINED.code, SEALED.code):
        [answer] = agent.ask(signer.seal(code, 1, 2, bytes(300), more=True))
        [answer] = agent.ask(signer.seal(CONTINUE.code, 0, 0, answer[:4] + b"end"))
        assert answer == seen(bytes(300) + b"end", 1, 2).pack() + OK


def test_a_chain_takes_256_kib_and_no_byte_more(rig: Rig, agent: RigAgent) -> None:
    body = scrambled(MAX_CHAIN)
    for extra, expected in ((b"", seen(body).pack() + OK), (b"x", WRONG_LENGTH)):
        handle = first(agent, body[:60_000])
        for start in range(60_000, 240_000, 60_000):
            assert go_on(agent, handle, body[start : start + 60_000]) == OK
        assert go_on(agent, handle, body[240_000:] + extra, more=False) == expected
        assert rig.node.chains.held == 0
        assert go_on(agent, handle, b"") == INVALID_PAYLOAD


def test_a_chain_ends_30_s_after_its_first_fragment(rig: Rig, agent: RigAgent) -> None:
    handle = first(agent, b"slow")
    rig.advance(CHAIN_SECONDS - 0.001)
    assert go_on(agent, handle, b" and") == OK
    rig.advance(0.001)
    assert (len(rig.node.chains), rig.node.chains.held) == (0, 0)
    assert go_on(agent, handle, b" late", more=False) == INVALID_PAYLOAD


def test_chains_are_freed_in_time_when_nobody_asks(rig: Rig) -> None:
    for seconds in (0.0, 1.0, 1.0):
        rig.advance(seconds)
        first(rig.session(), b"waits")
    assert rig.node.chains.held == 15
    for left in (10, 5, 0):
        rig.advance(CHAIN_SECONDS - 2 if left == 10 else 1.0)
        assert rig.node.chains.held == left


def test_another_session_cannot_touch_a_chain(rig: Rig, agent: RigAgent) -> None:
    other, stranger = rig.session(), rig.session(OTHER)
    handle = first(agent, b"mine")
    for thief in (other, stranger):
        assert go_on(thief, handle, b"x", more=False) == INVALID_PAYLOAD
    assert go_on(agent, handle, b"", more=False) == seen(b"mine").pack() + OK


def test_an_unknown_handle_leaves_the_chain_alone(agent: RigAgent) -> None:
    handle = first(agent, b"a")
    wrong = (int.from_bytes(handle, "big") ^ 1).to_bytes(4, "big")
    assert go_on(agent, wrong, b"x") == INVALID_PAYLOAD
    assert go_on(agent, handle, b"b", more=False) == seen(b"ab").pack() + OK


def test_less_than_a_handle_is_no_fragment(agent: RigAgent) -> None:
    handle = first(agent, b"a")
    assert go_on(agent, handle[:3], b"") == WRONG_LENGTH
    assert go_on(agent, handle, b"b", more=False) == seen(b"ab").pack() + OK


def test_a_new_first_fragment_ends_the_chain_before_it(rig: Rig, agent: RigAgent) -> None:
    before = first(agent, b"before")
    handle = first(agent, b"now")
    assert (len(rig.node.chains), rig.node.chains.held) == (1, 3)
    assert go_on(agent, before, b"", more=False) == INVALID_PAYLOAD
    assert go_on(agent, handle, b"", more=False) == seen(b"now").pack() + OK


@pytest.mark.parametrize("more", [True, False])
def test_another_sec_than_the_first_ends_the_chain(rig: Rig, agent: RigAgent, more: bool) -> None:
    signer = agent.link.signer
    cla = MORE if more else 0

    def plain(handle: bytes) -> bytes:
        return frame(CONTINUE.code, handle + b"x", cla=cla)

    def sealed(handle: bytes) -> bytes:
        signer.seq = agent.seq
        agent.seq += 1
        return signer.seal(CONTINUE.code, 0, 0, handle + b"x", more=more)

    for other in (plain, sealed):
        handle = first(agent, b"signed")
        assert agent.ask(other(handle)) == [DENIED]
        assert rig.node.chains.held == 0
        assert go_on(agent, handle, b"", more=False) == INVALID_PAYLOAD


def test_a_bad_tag_ends_the_session_and_its_chain(rig: Rig, agent: RigAgent) -> None:
    handle = first(agent, b"signed")
    assert agent.ask(agent.signed(CONTINUE.code, handle + b"x", bad=True)) == [DENIED]
    assert agent.session.closed
    assert (len(rig.node.chains), rig.node.chains.held) == (0, 0)


def test_a_repeated_fragment_is_not_added(agent: RigAgent) -> None:
    handle = first(agent, b"a")
    again = fragment(agent, CONTINUE.code, handle + b"b")
    assert agent.ask(again, again) == [OK, ALREADY_RECEIVED]
    assert go_on(agent, handle, b"c", more=False) == seen(b"abc").pack() + OK


def test_what_is_not_chainable_takes_no_fragment(rig: Rig, agent: RigAgent) -> None:
    assert agent.ask(fragment(agent, 0x20, bytes(4))) == [WRONG_LENGTH]
    assert agent.ask(frame(0x01, cla=MORE)) == [WRONG_LENGTH]
    assert len(rig.node.chains) == 0


def test_a_first_fragment_below_its_level_begins_nothing(rig: Rig, agent: RigAgent) -> None:
    assert agent.ask(frame(CHAINED.code, b"x", cla=MORE)) == [DENIED]
    assert agent.ask(fragment(agent, SEALED.code, b"x")) == [DENIED]
    assert len(rig.node.chains) == 0


def test_the_end_of_a_session_frees_its_chain(rig: Rig, agent: RigAgent) -> None:
    first(agent, b"gone")
    agent.transport.send_eof()
    rig.run()
    assert (len(rig.node.chains), rig.node.chains.held) == (0, 0)


def test_abandon_frees_the_chains_of_the_others(rig: Rig, agent: RigAgent) -> None:
    first(rig.session(), b"gone")
    kept = first(agent, b"kept")
    assert agent.ask(frame(0x14)) == [b"\0\x01" + OK]
    assert rig.node.chains.held == 4
    assert go_on(agent, kept, b"", more=False) == seen(b"kept").pack() + OK


def test_the_joined_payload_is_checked_as_any_other(agent: RigAgent) -> None:
    for body, p1, expected in ((b"", 0, WRONG_LENGTH), (b"x", 10, INVALID_PAYLOAD)):
        handle = first(agent, b"", p1=p1)
        assert go_on(agent, handle, body, more=False) == expected


@given(
    body=st.binary(min_size=1, max_size=600),
    places=st.lists(st.integers(0, 600), max_size=6),
    together=st.booleans(),
)
@settings(max_examples=60)
def test_any_split_gives_the_same_answer(body: bytes, places: list[int], together: bool) -> None:
    rig = Rig({AGENT: LINE})
    agent = rig.session()
    at = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    pieces = [body[start:stop] for start, stop in pairwise(at)]
    if len(pieces) == 1:
        pieces.append(b"")
    handle = first(agent, pieces[0])
    frames = [fragment(agent, CONTINUE.code, handle + one) for one in pieces[1:-1]]
    frames.append(fragment(agent, CONTINUE.code, handle + pieces[-1], more=False))
    answers = agent.ask(*frames) if together else [agent.ask(one)[0] for one in frames]
    assert answers == [*[OK] * (len(frames) - 1), seen(body).pack() + OK]
    assert rig.node.chains.held == 0


# -- how much a node holds


def test_a_node_holds_16_mib_for_all_chains(rig: Rig) -> None:
    agents = [rig.session() for _ in range(64)]
    rig.node.chains._node_bytes = 1000
    handles = [first(one, bytes(15)) for one in agents]
    assert rig.node.chains.held == 960
    assert go_on(agents[0], handles[0], bytes(40)) == OK
    assert go_on(agents[1], handles[1], b"x") == BLOCKED
    # What is behind it in the pipeline must not run without it.
    assert go_on(agents[1], handles[1], b"y", more=False) == INVALID_PAYLOAD
    assert rig.node.chains.held == 985
    [answer] = agents[2].ask(fragment(agents[2], CHAINED.code, bytes(31)))
    assert answer == BLOCKED
    assert go_on(agents[0], handles[0], b"", more=False) == seen(bytes(55)).pack() + OK
    first(agents[1], bytes(60))


def test_the_limits_of_the_protocol() -> None:
    assert (CHAIN_SECONDS, MAX_CHAIN, NODE_BYTES) == (30.0, 262_144, 16_777_216)


# -- permission, rate, existence


def regrant(rig: Rig, line: str) -> None:
    rig.node.authority.replace_book(book({AGENT: line, OTHER: LINE}))


def test_permission_counts_at_the_last_fragment(rig: Rig, agent: RigAgent) -> None:
    handle = first(agent, b"a")
    regrant(rig, "agent caps=core,59")
    assert go_on(agent, handle, b"b") == OK
    assert go_on(agent, handle, b"", more=False) == NO_SUCH_INSTRUCTION
    assert rig.node.chains.held == 0


def test_without_any_chainable_instruction_the_chain_is_gone(rig: Rig, agent: RigAgent) -> None:
    handle = first(agent, b"a")
    regrant(rig, "agent caps=core,20")
    assert rig.node.chains.held == 0
    assert go_on(agent, handle, b"b") == NO_SUCH_INSTRUCTION
    regrant(rig, LINE)
    assert go_on(agent, handle, b"b") == INVALID_PAYLOAD


async def test_a_rate_is_looked_at_and_spent_at_the_last_fragment() -> None:
    rig = Rig({AGENT: f"{LINE} rate=58:1/m"})
    agent = rig.session()
    for expected in (seen(b"ab").pack() + OK, BLOCKED):
        handle = first(agent, b"a")
        assert go_on(agent, handle, b"b", more=False) == expected
    await rig.close()


async def test_a_rate_of_continue_ends_the_chain() -> None:
    rig = Rig({AGENT: f"{LINE} rate=CONTINUE:1/m"})
    agent = rig.session()
    handle = first(agent, b"a")
    assert go_on(agent, handle, b"b") == OK
    assert go_on(agent, handle, b"c") == BLOCKED
    assert rig.node.chains.held == 0
    await rig.close()


@pytest.mark.parametrize(
    ("caps", "mode", "lit"),
    [
        ("core,58", Mode.FULL, True),
        ("core,1E", Mode.FULL, True),
        ("core,CONTINUE", Mode.FULL, False),
        ("all", Mode.FULL, True),
        ("core", Mode.FULL, False),
        ("core,58", Mode.MONITOR, False),
    ],
)
async def test_continue_exists_for_whoever_holds_something_chainable(
    caps: str, mode: Mode, lit: bool
) -> None:
    rig = Rig({AGENT: f"agent caps={caps}"}, mode=mode)
    agent = rig.session()
    [answer] = agent.ask(CAPS)
    assert bool(int.from_bytes(answer[:4], "big") & CARRIER) is lit
    expected = INVALID_PAYLOAD if lit else NO_SUCH_INSTRUCTION
    assert agent.ask(frame(CONTINUE.code, bytes(4))) == [expected]
    await rig.close()


def test_nothing_built_in_is_chainable() -> None:
    ours = bits((PLAIN.code, CHAINED.code, SEALED.code))
    assert bits(one.code for one in REGISTRY if one.chainable) == ours


# -- what is on record


async def test_the_record_has_the_joined_payload_under_the_instruction() -> None:
    audit = Witnessed()
    rig = Rig({AGENT: LINE})
    rig.node.audit = audit
    agent = rig.session()
    audit.steps.clear()
    handle = first(agent, b"a")
    assert go_on(agent, handle, b"b") == OK
    assert go_on(agent, handle, b"c", more=False)[-2:] == OK
    assert go_on(agent, handle, b"d", more=False) == INVALID_PAYLOAD
    one = handle.hex()
    assert audit.steps == [
        f"outcome {CHAINED.code:02X} 1 {b'a'.hex()} 9000",
        f"outcome {CONTINUE.code:02X} 2 {one}{b'b'.hex()} 9000",
        f"intent {CHAINED.code:02X} 3 {b'abc'.hex()}",
        f"outcome {CHAINED.code:02X} 3 {b'abc'.hex()} 9000 intended",
        f"outcome {CONTINUE.code:02X} 4 {one}{b'd'.hex()} 6A80",
    ]
    await rig.close()
