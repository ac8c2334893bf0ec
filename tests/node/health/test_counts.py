"""What a node counts: answers by status word, sessions by how they ended, refusals by reason."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.records import Refusal
from asys.node.connection import HANDSHAKE_SECONDS, IDLE_SECONDS, MAGIC_SECONDS
from asys.node.health.counts import LAG_BOUNDS, REFUSALS, Closing, Costs, Counts, Lag
from asys.node.server import Limits
from asys.node.session import TURN
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC
from asys.protocol.status import SW
from support.frames import (
    CLASS_NOT_SUPPORTED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    STATUS,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent

GRANTED = {AGENT: "agent caps=all", OTHER: "other caps=core"}


def counted(rig: Rig) -> dict[str, int]:
    """Answers so far, by status word; without those that there were none of."""
    return {word.hex(): count for word, count in rig.node.counts.answers.items() if count}


def closed(rig: Rig) -> dict[Closing, int]:
    """Sessions that have ended, likewise."""
    return {why: count for why, count in rig.node.counts.closed.items() if count}


def refused(rig: Rig) -> dict[str, int]:
    """Refusals, likewise."""
    return {why: count for why, count in rig.node.counts.refused.items() if count}


# -- answers


@given(st.lists(st.sampled_from([*(sw.wire for sw in SW), b"\x91\x01"]), min_size=1, max_size=64))
def test_every_answer_is_counted_once(words: Sequence[bytes]) -> None:
    counts = Counts()
    counts.answered([b"\x90\x00payload" + word for word in words])
    assert {word: n for word, n in counts.answers.items() if n} == {
        word: words.count(word) for word in words
    }


def test_only_success_begins_as_success_does() -> None:
    """What counts answers quickly looks at one byte."""
    assert [sw for sw in SW if sw >> 8 == SW.SUCCESS >> 8] == [SW.SUCCESS]
    assert set(Counts().answers) == {sw.wire for sw in SW}


def test_answers_of_requests_in_flight() -> None:
    rig = Rig()
    agent = rig.session()
    assert counted(rig) == {"9000": 1}
    agent.ask(*[HELLO] * TURN, frame(0x1F), *[HELLO] * TURN, frame(0x1E))
    assert counted(rig) == {"9000": 1 + 2 * TURN, "6a81": 2}


def test_an_answer_that_ends_a_session() -> None:
    rig = Rig()
    agent = rig.session()
    assert agent.ask(HELLO, b"\xff" + HELLO[1:])[-1] == CLASS_NOT_SUPPORTED
    assert counted(rig) == {"9000": 2, "6e00": 1}
    assert closed(rig) == {Closing.REFUSED: 1}


async def test_an_answer_that_comes_later() -> None:
    rig = Rig()
    agent = rig.session()
    agent.send(STATUS)
    await rig.until(lambda: counted(rig) == {"9000": 2})
    assert len(agent.responses()) == 1
    await rig.close()


async def test_an_answer_that_nobody_gets_is_none() -> None:
    rig = Rig()
    agent = rig.session()
    agent.send(STATUS)
    await asyncio.sleep(0)
    agent.transport.lose()
    await rig.until(lambda: rig.node.sampler.fresh(rig.clock.now()))
    await rig.settle()
    assert counted(rig) == {"9000": 1}
    await rig.close()


# -- sessions


def test_how_sessions_end() -> None:
    rig = Rig(GRANTED)
    counts = rig.node.counts
    leaves, waits, stalls, breaks = (rig.session() for _ in range(4))
    assert (counts.opened, closed(rig)) == (4, {})
    leaves.transport.lose()
    assert closed(rig) == {Closing.AGENT: 1}
    breaks.write(bytes(40))
    assert closed(rig) == {Closing.AGENT: 1, Closing.FAULT: 1}
    stalls.send(HELLO[:3])
    rig.advance(IDLE_SECONDS)
    assert waits.session.closed
    assert closed(rig) == {Closing.AGENT: 1, Closing.FAULT: 2, Closing.IDLE: 1}
    shut = rig.session()
    shut.session.close(Closing.ADMIN)
    shut.session.close(Closing.IDLE)
    assert closed(rig)[Closing.ADMIN] == 1
    other = rig.session(OTHER)
    rig.node.authority.replace_book(Rig({AGENT: "agent caps=all"}).node.book)
    assert other.session.closed
    assert closed(rig)[Closing.REVOKED] == 1
    assert counts.opened == 6
    assert sum(closed(rig).values()) == 6


def test_a_session_that_was_never_confirmed_is_none() -> None:
    rig = Rig()
    rig.connect().transport.lose()
    assert (rig.node.counts.opened, closed(rig)) == (0, {})


# -- who is refused


def test_the_audit_s_reasons_and_two_more() -> None:
    assert (
        *("unknown_key", "wrong_address", "bad_handshake", "replay", "rate", "limit"),
        *("too_slow", "evicted"),
    ) == REFUSALS
    assert len(REFUSALS) == len(Refusal) + 2


def test_the_reasons() -> None:
    """With no audit at all."""
    rig = Rig({AGENT: "agent caps=core", OTHER: "other caps=core from=10.0.0.0/8"})
    assert rig.connect(PrivateKey.generate()).responses() == [DENIED]
    assert rig.connect(OTHER).responses() == [DENIED]
    rig.dial().write(b"GET / HTTP/1.1\r\n")
    assert refused(rig) == {"unknown_key": 1, "wrong_address": 1, "bad_handshake": 1}
    assert counted(rig) == {"6982": 2}
    rig.dial()
    rig.advance(MAGIC_SECONDS)
    rig.dial().write(MAGIC)
    rig.advance(HANDSHAKE_SECONDS)
    assert refused(rig)["too_slow"] == 2


def test_a_rate_and_a_limit() -> None:
    rig = Rig(GRANTED, limits=Limits(sessions=1, handshakes=1))
    first: list[RigAgent] = [rig.dial() for _ in range(6)]
    for one in first:
        one.write(MAGIC)
    assert refused(rig) == {"rate": 1}
    rig.advance(60)
    late = rig.connect(OTHER)
    served = rig.session(AGENT)
    rig.dial()
    assert late.ask(HELLO) == [b"\x64\x00"]
    assert refused(rig) == {"rate": 1, "too_slow": 5, "limit": 2}
    assert served.ask(HELLO)[0].endswith(OK)


def test_a_newcomer_takes_a_place() -> None:
    rig = Rig(GRANTED, limits=Limits(unconfirmed=2, handshakes=0))
    for _ in range(5):
        rig.dial()
    assert refused(rig) == {"evicted": 3}


# -- time


def test_lags_are_counted_in_classes() -> None:
    lag = Lag()
    for seconds in (-0.001, 0.0, 0.001, 0.0011, 10.0, 11.0):
        lag.observe(seconds)
    assert lag.counts == [3, 1, *[0] * 10, 1, 1]
    assert len(lag.counts) == len(LAG_BOUNDS) + 1
    assert math.isclose(lag.total, 21.0021)
    assert lag.most == 11.0


def test_costs_add_up() -> None:
    costs = Costs()
    costs.took(0.25)
    costs.took(0.5)
    assert (costs.slices, costs.seconds, costs.readings, costs.failures) == (2, 0.75, 0, 0)


def test_unknown_codes_are_answered_alike() -> None:
    rig = Rig(GRANTED)
    agent = rig.session(OTHER)
    assert agent.ask(frame(0x20)) == [NO_SUCH_INSTRUCTION]
    assert counted(rig) == {"9000": 1, "6a81": 1}


@pytest.mark.parametrize("why", Closing)
def test_each_way_to_end_has_words_for_the_log(why: Closing) -> None:
    assert str(why) == why.value
    assert why.name.lower().isalpha()
