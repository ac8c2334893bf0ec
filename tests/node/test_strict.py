"""What waits until a collector has its record: it runs then, or never."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from asys.isa import TaskStatus
from asys.node.audit.shadow.strict import ALWAYS, BY_OPTION, PATIENCE
from asys.protocol.keys import PrivateKey
from support.delegates import addition, sealed
from support.frames import (
    BLOCKED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    frame,
    pid_payload,
)
from support.node_rig import AGENT, OTHER, RigAgent, book
from support.on_record import LINE
from support.shadow_place import ShadowPlace

PID: Final = pid_payload(4711)
STOP_1: Final = f"intent 20 1 {PID.hex()}"


@pytest.fixture
async def place() -> AsyncIterator[ShadowPlace]:
    place = ShadowPlace()
    yield place
    await place.close()


@pytest.fixture
async def usual() -> AsyncIterator[ShadowPlace]:
    place = ShadowPlace(more=False)
    yield place
    await place.close()


async def answers(place: ShadowPlace, agent: RigAgent | None = None) -> list[bytes]:
    """What has been answered by now."""
    await place.rig.settle()
    return (agent or place.agent).responses()


def test_which_codes_wait() -> None:
    assert {code for code in range(256) if code not in ALWAYS | BY_OPTION} == {
        *range(0x20),
        *range(0x90, 0xC0),
    }
    assert {*range(0x60, 0x70), *range(0xC0, 0x100)} == ALWAYS
    assert not ALWAYS & BY_OPTION


# -- it waits, and runs


async def test_nothing_is_done_before_the_collector_has_the_intent(place: ShadowPlace) -> None:
    place.agent.send(place.agent.throttle(4711))
    assert await answers(place) == []
    assert place.audit.take() == [STOP_1]
    assert place.machine.target.handles == 0
    assert place.hurries == 1
    place.acknowledge(place.ring.head - 1)
    assert await answers(place) == []
    place.acknowledge()
    assert await answers(place) == [OK]
    assert place.audit.take() == ["stop", f"outcome 20 1 {PID.hex()} 9000 intended"]


async def test_what_is_acknowledged_before_it_is_waited_for(place: ShadowPlace) -> None:
    place.ring.acknowledged = 1000
    assert await place.ask(place.agent.throttle(4711)) == OK
    assert place.hurries == 0
    assert len(place.audit.take()) == 3


async def test_without_an_acknowledgement_it_never_runs(place: ShadowPlace) -> None:
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    place.rig.clock.advance(PATIENCE - 0.001)
    assert await answers(place) == []
    place.rig.clock.advance(0.001)
    assert await answers(place) == [BLOCKED]
    assert place.audit.take() == [STOP_1, f"outcome 20 1 {PID.hex()} 6400 intended"]
    place.acknowledge()
    assert await answers(place) == []
    assert place.audit.take() == []


async def test_only_what_an_admin_wants_waits(usual: ShadowPlace) -> None:
    assert await usual.ask(usual.agent.throttle(4711)) == OK
    assert (await usual.ask(usual.agent.restart("web")))[-2:] == OK
    assert await usual.ask(frame(0x14)) == b"\0\1" + OK
    added = addition(PrivateKey.generate().public)
    usual.agent.send(sealed(usual.agent, 0x60, added), sealed(usual.agent, 0x62))
    assert await answers(usual) == []
    usual.acknowledge()
    [answer] = await answers(usual)
    assert answer[-2:] == OK
    usual.acknowledge()
    [listed] = await answers(usual)
    assert listed[-2:] == OK


async def test_readings_and_refusals_do_not_wait(place: ShadowPlace) -> None:
    assert (await place.ask(HELLO))[-2:] == OK
    assert await place.ask(place.agent.throttle(1)) == DENIED
    assert await place.ask(place.agent.throttle(4712)) == INVALID_PAYLOAD
    assert await place.ask(sealed(place.agent, 0x60, addition(AGENT.public))) == INVALID_PAYLOAD
    assert place.hurries == 0


async def test_new_keys_do_not_wait(place: ShadowPlace) -> None:
    assert await place.ask(frame(0x13)) == OK
    place.agent.link.rekey()
    assert (await place.ask(HELLO))[-2:] == OK


async def test_agents_are_let_in_and_out(place: ShadowPlace) -> None:
    added = PrivateKey.generate().public
    payload = addition(added, label=b"helper")
    place.agent.send(sealed(place.agent, 0x60, payload), sealed(place.agent, 0x61, added))
    assert await answers(place) == []
    assert place.rig.node.grant(added) is None
    assert place.audit.take() == [f"payload 60 1 {payload.hex()}", f"intent 60 1 {payload.hex()}"]
    place.acknowledge()
    [answer] = await answers(place)
    assert answer[-2:] == OK
    assert place.audit.take() == [
        "save",
        f"outcome 60 1 {payload.hex()} 9000 intended",
        f"payload 61 2 {added.hex()}",
        f"intent 61 2 {added.hex()}",
    ]
    assert place.rig.node.grant(added) is not None
    place.acknowledge()
    [answer] = await answers(place)
    assert answer[-2:] == OK
    assert place.rig.node.grant(added) is None
    assert place.audit.take() == ["save", f"outcome 61 2 {added.hex()} 9000 intended"]


async def test_nobody_is_let_in_without_the_collector(place: ShadowPlace) -> None:
    payload = addition(PrivateKey.generate().public)
    assert await place.ask(sealed(place.agent, 0x60, payload)) == BLOCKED
    assert place.audit.take() == [
        f"payload 60 1 {payload.hex()}",
        f"intent 60 1 {payload.hex()}",
        f"outcome 60 1 {payload.hex()} 6400 intended",
    ]
    assert place.rig.node.authority.listing(AGENT.public) == []


async def test_a_restart(place: ShadowPlace) -> None:
    place.agent.send(place.agent.restart("web"))
    assert await answers(place) == []
    assert len(place.rig.node.tasks) == 0
    place.acknowledge()
    [answer] = await answers(place)
    assert answer[-2:] == OK
    assert place.services.restarts == 1
    assert place.audit.take() == [
        f"intent 22 1 {b'web'.hex()}",
        "restart",
        f"outcome 22 1 {b'web'.hex()} 9000 intended",
    ]
    place.services.jobs["web.unit"].result.set_result(TaskStatus.SUCCESS)
    await place.rig.settle()
    [end] = place.audit.take()
    assert end.startswith("end 22 1 ")


async def test_no_task_is_left_of_a_restart_that_never_ran(place: ShadowPlace) -> None:
    for _ in range(20):  # more than a session may have
        assert await place.ask(place.agent.restart("web")) == BLOCKED
    assert len(place.rig.node.tasks) == 0
    assert place.services.restarts == 0


# -- rates


async def test_what_never_ran_takes_nothing_from_the_rate(place: ShadowPlace) -> None:
    for _ in range(3):  # AGENT_LIST has one an hour
        assert await place.ask(sealed(place.agent, 0x62)) == BLOCKED
    for _ in range(30):  # PROC_THROTTLE has twenty
        assert await place.ask(place.agent.throttle(4711)) == BLOCKED
    place.ring.acknowledged = 1000
    assert (await place.ask(sealed(place.agent, 0x62)))[-2:] == OK
    for _ in range(20):
        assert await place.ask(place.agent.throttle(4711)) == OK
    assert await place.ask(place.agent.throttle(4711)) == BLOCKED


async def test_a_rate_that_others_used_up_meanwhile(place: ShadowPlace) -> None:
    second = place.rig.session()
    place.agent.send(sealed(place.agent, 0x62))
    second.send(sealed(second, 0x62))
    await place.rig.settle()
    place.audit.take()
    place.acknowledge()
    [answer] = await answers(place)
    assert answer[-2:] == OK
    assert await answers(place, second) == [BLOCKED]
    assert place.audit.take() == ["outcome 62 1  9000 intended", "outcome 62 1  6400 intended"]


# -- order


async def test_what_follows_in_the_session_waits_too(place: ShadowPlace) -> None:
    other = place.rig.session()
    agent = place.agent
    agent.send(HELLO, agent.throttle(4711), agent.throttle(4711, 1), HELLO)
    [hello] = await answers(place)
    assert hello[-2:] == OK
    assert other.ask(HELLO)[0][-2:] == OK  # and nobody else
    place.acknowledge()
    assert await answers(place) == [OK]
    place.acknowledge()
    stopped, hello = await answers(place)
    assert stopped == OK
    assert hello[:4] == b"ASYS"
    payload = PID.hex()
    assert place.audit.take() == [
        STOP_1,
        "stop",
        f"outcome 20 1 {payload} 9000 intended",
        f"intent 20 2 {payload}",
        "continue",
        f"outcome 20 2 {payload} 9000 intended",
    ]


async def test_sessions_that_wait_together_go_on_in_the_order_of_their_intents(
    place: ShadowPlace,
) -> None:
    agents = [place.agent, place.rig.session(), place.rig.session()]
    for number, agent in enumerate(agents):
        agent.seq = 10 * number
        agent.send(agent.throttle(4711, number % 2))
    await place.rig.settle()
    assert place.strict.waiting == 3
    place.audit.take()
    place.acknowledge()
    for agent in agents:
        assert await answers(place, agent) == [OK]
    steps = place.audit.take()
    assert [step for step in steps if " " not in step] == ["stop", "continue", "stop"]
    outcomes = [step.split()[2] for step in steps if " " in step]
    assert outcomes == ["1", "11", "21"]


async def test_one_that_gave_up_does_not_hold_up_the_next(place: ShadowPlace) -> None:
    second = place.rig.session()
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    place.rig.clock.advance(PATIENCE / 2)
    second.send(second.throttle(4711, 1))
    await place.rig.settle()
    place.rig.clock.advance(PATIENCE / 2)
    assert await answers(place) == [BLOCKED]
    assert place.strict.waiting == 1
    place.acknowledge()
    assert await answers(place, second) == [OK]


# -- what has changed meanwhile


async def test_an_instruction_that_was_taken_away(place: ShadowPlace) -> None:
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    place.rig.node.authority.replace_book(book({AGENT: "agent"}))
    place.acknowledge()
    assert await answers(place) == [NO_SUCH_INSTRUCTION]
    assert place.audit.take() == [STOP_1, f"outcome 20 1 {PID.hex()} 6A81 intended"]


async def test_an_agent_that_was_shut_out(place: ShadowPlace) -> None:
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    place.rig.node.authority.replace_book(book({OTHER: "other"}))
    place.acknowledge()
    await place.rig.settle()
    assert place.audit.take() == [STOP_1, f"outcome 20 1 {PID.hex()} 6400 intended"]
    assert place.audit.closed == [1]
    assert place.agent.session.closed


async def test_a_scope_that_became_narrower(place: ShadowPlace) -> None:
    place.agent.send(place.agent.restart("web"))
    await place.rig.settle()
    place.rig.node.authority.replace_book(book({AGENT: f"{LINE} services=db"}))
    place.acknowledge()
    assert await answers(place) == [DENIED]
    assert place.services.restarts == 0


async def test_a_target_that_has_ended(place: ShadowPlace) -> None:
    place.agent.send(place.agent.throttle(4711))
    await place.rig.settle()
    place.machine.target.zombie = True
    place.acknowledge()
    assert await answers(place) == [INVALID_PAYLOAD]
    assert place.audit.take() == [STOP_1, f"outcome 20 1 {PID.hex()} 6A80 intended"]


async def test_everybody_has_fallen_to_core(place: ShadowPlace) -> None:
    added = addition(PrivateKey.generate().public)
    place.agent.send(sealed(place.agent, 0x60, added))
    await place.rig.settle()
    place.rig.node.authority.set_dark(True)
    place.acknowledge()
    assert await answers(place) == [NO_SUCH_INSTRUCTION]
    assert "save" not in place.audit.take()


# -- the end


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_session_that_ends_meanwhile_leaves_nothing(
    place: ShadowPlace, acknowledged: bool
) -> None:
    place.agent.send(place.agent.throttle(4711), place.agent.restart("web"))
    await place.rig.settle()
    place.agent.transport.lose()
    assert place.audit.closed == []  # on record that comes behind the answer
    if acknowledged:
        place.acknowledge()
    place.rig.clock.advance(PATIENCE)
    await place.rig.settle()
    assert place.audit.take() == [STOP_1, f"outcome 20 1 {PID.hex()} 6400 intended"]
    assert place.audit.closed == [1]
    assert place.strict.waiting == 0
    assert place.rig.node.session_count == 1


async def test_a_node_that_ends_meanwhile(place: ShadowPlace) -> None:
    place.agent.send(sealed(place.agent, 0x60, addition(PrivateKey.generate().public)))
    await place.rig.settle()
    assert place.strict.waiting == 1
    await place.rig.node.close()
    assert place.strict.waiting == 0
    assert "save" not in place.audit.take()


async def test_what_has_no_room_does_not_run_though_the_audit_is_not_needed() -> None:
    place = ShadowPlace()
    place.rig.node._audit_needed = False
    agent = place.agent = place.rig.session()
    place.audit.room = False
    assert await place.ask(agent.throttle(4711)) == BLOCKED
    assert await place.ask(frame(0x14)) == b"\0\2" + OK
    assert "stop" not in place.audit.take()
    await place.close()
