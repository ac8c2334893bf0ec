"""Which instruction leaves what on record, and when: before its effect, and for its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from asys.audit.records import Refusal, digest
from asys.isa import TaskStatus
from asys.node.health.counts import Closing
from asys.node.tasks import MAX_JOINED
from asys.protocol.keys import PrivateKey
from support.delegates import addition, key_hash, sealed
from support.frames import (
    ALREADY_RECEIVED,
    BLOCKED,
    CAPS,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    NOT_SUPPORTED,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
    pid_payload,
    scrambled,
)
from support.node_rig import AGENT, PEER, Rig
from support.on_record import LINE, Place
from support.target import Machine

PID: Final = pid_payload(4711)
SIGNED, ENC_SIGN = 0x04, 0x08
REKEY, ABANDON = frame(0x13), frame(0x14)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    await place.rig.close()


# -- what has an intent


async def test_an_intent_before_the_effect_and_an_outcome_behind_it(place: Place) -> None:
    agent = place.agent
    assert await place.ask(agent.throttle(4711)) == OK
    payload = PID.hex()
    assert place.audit.take() == [
        f"intent 20 1 {payload}",
        "stop",
        f"outcome 20 1 {payload} 9000 intended",
    ]
    place.machine.target.error = PermissionError(1, "not permitted")
    assert await place.ask(agent.throttle(4711, 1)) == DENIED
    assert place.audit.take() == [
        f"intent 20 2 {payload}",
        f"outcome 20 2 {payload} 6982 intended",
    ]
    assert place.audit.classes == {SIGNED}
    assert place.audit.counted() == {}


async def test_the_payload_is_that_in_clear(place: Place) -> None:
    assert await place.ask(sealed(place.agent, 0x20, PID)) == OK
    payload = PID.hex()
    assert place.audit.take() == [
        f"intent 20 1 {payload}",
        "stop",
        f"outcome 20 1 {payload} 9000 intended",
    ]
    assert place.audit.classes == {ENC_SIGN}


@pytest.mark.parametrize(
    ("frame_of", "answer"),
    [
        (lambda agent: frame(0x20, PID), DENIED),
        (lambda agent: agent.signed(0x20, pid_payload(1)), DENIED),
        (lambda agent: agent.signed(0x20, pid_payload(4712)), INVALID_PAYLOAD),
        (lambda agent: agent.signed(0x20, PID, 7), INVALID_PAYLOAD),
        (lambda agent: agent.signed(0x20, PID + b"x"), WRONG_LENGTH),
        (lambda agent: agent.signed(0x20, PID, cla=0x14), WRONG_LENGTH),
        (lambda agent: agent.signed(0x20, PID, seq=0), ALREADY_RECEIVED),
        (lambda agent: agent.signed(0x22, b"no such!"), INVALID_PAYLOAD),
        (lambda agent: agent.signed(0x21, b"no isolator"), NOT_SUPPORTED),
        (lambda agent: agent.signed(0x23, b"dark"), NO_SUCH_INSTRUCTION),
        (lambda agent: agent.signed(0x95, b"no handler"), NO_SUCH_INSTRUCTION),
        (lambda agent: frame(0x10), NO_SUCH_INSTRUCTION),
        (lambda agent: frame(0x12), WRONG_LENGTH),
        (lambda agent: frame(0xFF, b"plain"), DENIED),
        (lambda agent: agent.signed(0xFF, b"abc"), WRONG_LENGTH),
        (lambda agent: agent.signed(0xFF, b"no vendor"), DENIED),
        (lambda agent: agent.signed(0x60, bytes(69)), DENIED),
        (lambda agent: sealed(agent, 0x60, b"short"), WRONG_LENGTH),
    ],
)
async def test_what_is_refused_leaves_its_outcome_alone(
    place: Place, frame_of: object, answer: bytes
) -> None:
    assert callable(frame_of)
    request = frame_of(place.agent)
    assert await place.ask(request) == answer
    [step] = place.audit.take()
    assert step.startswith(f"outcome {request[1]:02X} ")
    assert step.endswith(f" {answer.hex().upper()}")
    assert place.audit.classes == {request[0]}
    assert place.audit.counted() == {}


async def test_what_the_node_cannot_do(place: Place) -> None:
    rig = Rig({AGENT: LINE}, platform=Machine())
    rig.node.audit = place.audit
    agent = rig.session()
    assert agent.ask(agent.restart("web")) == [NOT_SUPPORTED]
    assert place.audit.take() == [f"outcome 22 1 {b'web'.hex()} 6D00"]
    agent.session.abort()
    await rig.close()


@pytest.mark.parametrize(
    ("frame_of", "step"),
    [
        (lambda agent: agent.signed(0x20, PID, bad=True), f"outcome 20 1 {PID.hex()} 6982"),
        (lambda agent: agent.signed(0x95, b"dark", bad=True), f"outcome 95 1 {b'dark'.hex()} 6982"),
        (lambda agent: sealed(agent, 0x61, b"x" * 32, bad="c"), "outcome 61 1 "),
        (lambda agent: sealed(agent, 0x61, b"x" * 32, bad="tag"), "outcome 61 1 "),
        (lambda agent: agent.tagged(0x20, b"\0\1"), "outcome 20 1  6982"),
    ],
    ids=["bad tag", "bad tag of what is dark", "bad C", "bad tag of C", "no Seq"],
)
async def test_what_ends_the_session_is_on_record_before_its_end(
    place: Place, frame_of: object, step: str
) -> None:
    assert callable(frame_of)
    assert await place.ask(frame_of(place.agent)) == DENIED
    [found] = place.audit.take()
    assert found.startswith(step)
    assert found.endswith(" 6982")
    assert place.audit.closed == [1]


# -- rates


async def test_over_the_rate_there_is_no_intent(place: Place) -> None:
    assert await place.ask(ABANDON) == b"\0\0" + OK
    assert await place.ask(ABANDON) == b"\0\0" + OK
    place.audit.take()
    assert await place.ask(ABANDON) == BLOCKED
    assert place.audit.take() == ["outcome 14 0  6400"]
    assert (await place.ask(sealed(place.agent, 0x62)))[-2:] == OK
    assert place.audit.take() == ["intent 62 1 ", "outcome 62 1  9000 intended"]
    assert await place.ask(sealed(place.agent, 0x62)) == BLOCKED
    assert place.audit.take() == ["outcome 62 2  6400"]


async def test_what_has_no_room_takes_nothing_from_the_rate(place: Place) -> None:
    place.audit.room = False
    for _ in range(3):
        assert await place.ask(sealed(place.agent, 0x62)) == BLOCKED
    for _ in range(30):
        assert await place.ask(place.agent.throttle(4711)) == BLOCKED
    place.audit.room = True
    assert (await place.ask(sealed(place.agent, 0x62)))[-2:] == OK
    assert await place.ask(place.agent.throttle(4711)) == OK


# -- Protocol Control


async def test_what_changes_the_session_has_an_intent(place: Place) -> None:
    assert await place.ask(REKEY) == OK
    place.agent.link.rekey()
    assert await place.ask(ABANDON) == b"\0\0" + OK
    assert place.audit.take() == [
        "intent 13 0 ",
        "outcome 13 0  9000 intended",
        "intent 14 0 ",
        "outcome 14 0  9000 intended",
    ]


async def test_abandon_is_intended_before_the_others_end(place: Place) -> None:
    place.rig.session()
    place.audit.steps.clear()
    assert await place.ask(ABANDON) == b"\0\1" + OK
    assert place.audit.take() == ["intent 14 0 ", "outcome 14 0  9000 intended"]
    assert place.audit.closed == [2]


async def test_rekey_with_more_behind_it_leaves_no_intent(place: Place) -> None:
    assert place.agent.ask(REKEY, HELLO) == [WRONG_LENGTH]
    assert place.audit.take() == ["outcome 13 0  6700"]
    assert place.audit.closed == [1]


# -- who is let in


async def test_the_whole_payload_of_who_is_let_in_comes_before_the_intent(place: Place) -> None:
    added = PrivateKey.generate().public
    payload = addition(added, label=b"helper")
    assert (await place.ask(sealed(place.agent, 0x60, payload)))[-2:] == OK
    assert place.audit.take() == [
        f"payload 60 1 {payload.hex()}",
        f"intent 60 1 {payload.hex()}",
        "save",
        f"outcome 60 1 {payload.hex()} 9000 intended",
    ]
    assert (await place.ask(sealed(place.agent, 0x61, added)))[-2:] == OK
    assert place.audit.take() == [
        f"payload 61 2 {added.hex()}",
        f"intent 61 2 {added.hex()}",
        "save",
        f"outcome 61 2 {added.hex()} 9000 intended",
    ]
    assert await place.ask(sealed(place.agent, 0x61, added)) == INVALID_PAYLOAD
    assert place.audit.take() == [f"outcome 61 3 {added.hex()} 6A80"]


@pytest.mark.parametrize("lack", ["room", "payload_room"])
async def test_nobody_is_let_in_without_a_record(place: Place, lack: str) -> None:
    setattr(place.audit, lack, False)
    added = PrivateKey.generate().public
    payload = addition(added)
    assert await place.ask(sealed(place.agent, 0x60, payload)) == BLOCKED
    assert place.rig.node.grant(added) is None
    steps = place.audit.take()
    assert "save" not in steps
    assert steps[-1] == f"outcome 60 1 {payload.hex()} 6400"
    setattr(place.audit, lack, True)
    assert (await place.ask(sealed(place.agent, 0x60, payload)))[-2:] == OK
    place.audit.take()
    setattr(place.audit, lack, False)
    assert await place.ask(sealed(place.agent, 0x61, added)) == BLOCKED
    assert place.rig.node.grant(added) is not None
    assert "save" not in place.audit.take()


async def test_an_answer_that_comes_after_the_session_is_on_record_before_its_end(
    place: Place,
) -> None:
    """The disk is waited for, and the agent does not wait."""
    payload = addition(PrivateKey.generate().public)
    place.agent.send(sealed(place.agent, 0x60, payload))
    place.agent.transport.lose()
    assert place.audit.closed == []
    await place.rig.settle()
    assert place.audit.take()[-1] == f"outcome 60 1 {payload.hex()} 9000 intended"
    assert place.audit.closed == [1]


async def test_readings_that_wait_count_before_the_end_of_the_session(place: Place) -> None:
    place.rig.advance(100.0)  # what the node knows of its processes is old
    agent = place.rig.session()
    place.audit.counted()
    agent.send(PROCS)
    agent.transport.lose()
    assert place.audit.closed == [1]
    await place.rig.until(lambda: place.audit.closed == [1, 2])
    assert place.audit.counted() == {(0x03, 0x9000): 1}


# -- tasks


async def test_a_task_leaves_a_record_more_at_its_end(place: Place) -> None:
    assert (await place.ask(place.agent.restart("web")))[-2:] == OK
    web = b"web"
    assert place.audit.take() == [
        f"intent 22 1 {web.hex()}",
        "restart",
        f"outcome 22 1 {web.hex()} 9000 intended",
    ]
    place.services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await place.rig.settle()
    assert place.audit.take() == [f"end 22 1 {digest(web).hex()} {TaskStatus.SUCCESS}"]


async def test_whoever_joins_a_task_has_an_end_of_its_own(place: Place) -> None:
    for _ in range(MAX_JOINED + 3):
        assert (await place.ask(place.agent.restart("web")))[-2:] == OK
    assert place.services.restarts == 1
    steps = place.audit.take()
    assert steps.count("restart") == sum(one.startswith("intent") for one in steps) == 1
    assert sum(one.startswith("outcome 22") for one in steps) == MAX_JOINED + 3
    place.services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await place.rig.settle()
    assert place.audit.take() == [
        f"end 22 {seq} {digest(b'web').hex()} {TaskStatus.SUCCESS}"
        for seq in range(1, MAX_JOINED + 2)
    ]


async def test_a_task_leaves_it_though_its_session_has_gone(place: Place) -> None:
    await place.ask(place.agent.restart("web"))
    place.agent.transport.lose()
    await place.rig.settle()
    assert place.audit.closed == [1]
    place.audit.take()
    place.services.jobs["web.unit"].result.set_result(TaskStatus.FAILED)
    await place.rig.settle()
    assert place.audit.take() == [f"end 22 1 {digest(b'web').hex()} {TaskStatus.FAILED}"]


async def test_a_task_that_fails_at_once_ends_behind_its_outcome(place: Place) -> None:
    place.services.missing.add("web.unit")
    assert (await place.ask(place.agent.restart("web")))[-2:] == OK
    web = b"web"
    assert place.audit.take() == [
        f"intent 22 1 {web.hex()}",
        f"outcome 22 1 {web.hex()} 9000 intended",
        f"end 22 1 {digest(web).hex()} {TaskStatus.FAILED}",
    ]


async def test_no_task_begins_without_a_record(place: Place) -> None:
    place.audit.room = False
    assert await place.ask(place.agent.restart("web")) == BLOCKED
    assert place.services.restarts == 0
    assert place.audit.take() == [f"outcome 22 1 {b'web'.hex()} 6400"]


# -- no room


async def test_without_room_nothing_is_done_but_sessions_go_on(place: Place) -> None:
    place.audit.room = False
    payload = PID.hex()
    assert await place.ask(place.agent.throttle(4711)) == BLOCKED
    assert place.audit.take() == [f"outcome 20 1 {payload} 6400"]
    assert await place.ask(ABANDON) == b"\0\0" + OK
    assert await place.ask(REKEY) == OK
    place.agent.link.rekey()
    assert place.audit.take() == ["outcome 14 0  9000", "outcome 13 0  9000"]
    assert (await place.ask(HELLO))[-2:] == OK
    assert place.audit.counted() == {(0x01, 0x9000): 1}


async def test_where_the_audit_is_not_needed_all_runs(place: Place) -> None:
    place.rig.node._audit_needed = False
    agent = place.agent = place.rig.session()
    place.audit.room = place.audit.payload_room = False
    assert await place.ask(agent.throttle(4711)) == OK
    assert await place.ask(sealed(agent, 0x60, addition(PrivateKey.generate().public))) != BLOCKED
    assert (await place.ask(agent.restart("web")))[-2:] == OK
    effects = [step for step in place.audit.take() if not step.startswith("outcome")]
    assert effects == ["stop", "save", "restart"]


# -- what is only counted


async def test_readings_are_only_counted(place: Place) -> None:
    for request, ins, sw in (
        (CAPS, 0x00, 0x9000),
        (STATUS, 0x02, 0x9000),
        (PROCS, 0x03, 0x9000),
        (place.agent.signed(0x01), 0x01, 0x9000),
        (frame(0x01, cla=0x10), 0x01, 0x6700),
        (frame(0x11, bytes(4)), 0x11, 0x9000),
        (frame(0x11), 0x11, 0x6700),
        (place.agent.signed(0x11, bytes(4), seq=0), 0x11, 0x6985),
        (place.agent.signed(0x02, bad=True), 0x02, 0x6982),
    ):
        place.audit.counted()
        assert (await place.ask(request))[-2:] == sw.to_bytes(2, "big")
        assert place.audit.counted() == {(ins, sw): 1}
    assert place.audit.take() == []


@pytest.mark.parametrize("code", [0x04, 0x0F, 0x15, 0x45, 0x9A, 0xB0])
async def test_what_does_not_exist_has_an_outcome_of_its_own_whatever_it_is(
    place: Place, code: int
) -> None:
    """Also where it would be a reading: all of it takes one way."""
    place.audit.counted()
    assert await place.ask(frame(code)) == NO_SUCH_INSTRUCTION
    assert place.audit.counted() == {}
    assert len(place.audit.take()) == 1


async def test_counts_add_up_over_many_turns(place: Place) -> None:
    kinds = {HELLO: (0x01, 0x9000), frame(0x11): (0x11, 0x6700), CAPS: (0x00, 0x9000)}
    kinds[frame(0x11, bytes(4))] = (0x11, 0x9000)
    order = [list(kinds)[byte % len(kinds)] for byte in scrambled(3000)]
    expected = {key: 0 for key in kinds.values()}
    for request in order:
        expected[kinds[request]] += 1
    place.agent.send(*order[:1000])
    place.agent.send(b"".join(order[1000:]))
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    assert len(place.agent.responses()) == 3001
    assert place.audit.counted() == expected
    assert len(place.audit.take()) == 3


async def test_runs_of_equal_readings_are_told_once_a_turn(place: Place) -> None:
    assert len(place.agent.ask(*[HELLO] * 64)) == 64
    assert place.audit.reads == [(0x01, 0x9000, 64)]


# -- sessions


async def test_who_comes_and_goes(place: Place) -> None:
    peer = f"{PEER[0]}:{PEER[1]}"
    assert place.audit.opened == [(AGENT.public, "agent", 1, peer)]
    unconfirmed = place.rig.connect()
    assert len(place.audit.opened) == 1
    unconfirmed.transport.lose()
    assert place.audit.closed == []
    added = PrivateKey.generate()
    await place.ask(sealed(place.agent, 0x60, addition(added.public, label=b"helper")))
    other = place.rig.session(added, ("192.0.2.9", 9))
    # A delegate's rights come from the line of who has let it in.
    assert place.audit.opened[1:] == [(added.public, "helper", 1, "192.0.2.9:9")]
    place.agent.transport.lose()
    assert place.audit.closed == [1]
    other.session.close(Closing.ADMIN)
    await place.rig.settle()
    assert place.audit.closed == [1, 2]


async def test_a_session_for_which_there_is_no_room_is_not_opened(place: Place) -> None:
    known = 1
    while place.rig.connect().ask(HELLO) != [BLOCKED]:
        known += 1
    assert len(place.audit.opened) == known
    assert place.audit.turned_away == [(Refusal.LIMIT, key_hash(AGENT.public))]
    assert place.audit.counted() == {(0x01, 0x9000): known - 1}
