"""`rate=`: 6400 in its place among the checks, one token for what has passed them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from asys.protocol.keys import PrivateKey
from support.children import gone, suspended, waiting, zombie
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import add, addition, page, remove, sealed
from support.frames import (
    ALREADY_RECEIVED,
    BLOCKED,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.raw_agent import RawAgent
from support.supervised import FOR_EVER, supervisord

ELSE = 54_321
"""A uid that no process has."""

THROTTLES = {0x20}
DELEGATES = {0x00, 0x01, 0x20, 0x60, 0x61, 0x62}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node whose agents tests decide on."""
    programs = dict.fromkeys(("web", "db"), "sleep infinity")
    with (
        supervisord(programs, startsecs=FOR_EVER) as url,
        running(
            tmp_path_factory.mktemp("asyd"),
            *("--supervisord", url, "--handshake-rate", "0"),
            agents={},
        ) as daemon,
    ):
        yield daemon


@contextmanager
def holding(node: Daemon, options: str) -> Iterator[tuple[RawAgent, PrivateKey]]:
    """A session of an agent that was never there before, so its buckets are full."""
    key = PrivateKey.generate()
    node.reload({key: f"agent {options}"})
    with node.connect(key) as agent:
        yield agent, key


def test_so_many_and_no_more(node: Daemon) -> None:
    with holding(node, "rate=PROC_THROTTLE:3/h caps=all") as (agent, _), waiting() as child:
        for action in (0, 1, 0):
            assert agent.ask(agent.throttle(child.pid, action)) == OK
        for action in (1, 0, 1):
            assert agent.ask(agent.throttle(child.pid, action)) == BLOCKED
        suspended(child.pid)
        assert agent.alive()


def test_what_is_refused_takes_no_token(node: Daemon) -> None:
    """Every check, one after the other; the one token is still there."""
    options = "rate=PROC_THROTTLE:1/h caps=all"
    with holding(node, options) as (agent, _), waiting() as child, zombie() as dead:
        for _ in range(2):
            assert agent.ask(frame(0x20, child.pid.to_bytes(4, "big"))) == DENIED
            assert agent.ask(agent.signed(0x20, bytes(4), cla=0x14)) == WRONG_LENGTH
            assert agent.ask(agent.signed(0x20, bytes(5))) == WRONG_LENGTH
            assert agent.ask(agent.throttle(child.pid, 3)) == INVALID_PAYLOAD
            assert agent.ask(agent.throttle(0)) == INVALID_PAYLOAD
            assert agent.ask(agent.throttle(1)) == DENIED
            assert agent.ask(agent.throttle(node.pid)) == DENIED
            assert agent.ask(agent.throttle(gone())) == INVALID_PAYLOAD
            assert agent.ask(agent.throttle(dead)) == INVALID_PAYLOAD
            assert agent.ask(agent.signed(0x20, bytes(4), seq=1)) == ALREADY_RECEIVED
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == BLOCKED


def test_scope_then_rate_then_target(node: Daemon) -> None:
    """With the bucket empty: what stands before the rate keeps its answer, what is behind not."""
    options = f"caps=all rate=PROC_THROTTLE:1/h users={os.geteuid()}"
    with holding(node, options) as (agent, key), waiting() as child, zombie() as dead:
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == BLOCKED
        assert agent.ask(agent.throttle(gone())) == BLOCKED  # and not 6A80
        assert agent.ask(agent.throttle(dead)) == BLOCKED
        assert agent.ask(agent.throttle(1)) == DENIED
        assert agent.ask(agent.throttle(child.pid, 2)) == INVALID_PAYLOAD
        assert agent.ask(agent.throttle(0)) == INVALID_PAYLOAD
        assert agent.ask(agent.signed(0x20, bytes(3))) == WRONG_LENGTH
        assert agent.ask(frame(0x20, bytes(3))) == DENIED
        node.reload({key: f"agent caps=all rate=PROC_THROTTLE:1/h users={ELSE}"})
        assert agent.ask(agent.throttle(child.pid)) == DENIED  # and not 6400
        node.reload({key: "agent caps=core rate=PROC_THROTTLE:1/h"})
        assert agent.ask(agent.throttle(child.pid)) == NO_SUCH_INSTRUCTION


def test_restarts(node: Daemon) -> None:
    options = "caps=all rate=SVC_RESTART:1/h services=all:web,no*,all:db"
    with holding(node, options) as (agent, key):
        assert agent.ask(agent.signed(0x22)) == WRONG_LENGTH
        assert agent.ask(agent.restart("Web")) == INVALID_PAYLOAD
        assert agent.ask(agent.restart("elsewhere")) == DENIED
        answer = agent.ask(agent.restart("web"))
        assert answer[4:] == OK
        assert agent.ask(agent.restart("web")) == answer  # the same task again is no second one
        assert agent.ask(agent.restart("db")) == BLOCKED
        assert agent.ask(agent.restart("no-such-service")) == BLOCKED
        assert agent.ask(agent.restart("elsewhere")) == DENIED
        assert agent.ask(agent.restart("Web")) == INVALID_PAYLOAD
        with node.connect(key) as again:  # another session of the agent has the same bucket
            assert again.ask(again.restart("web")) == BLOCKED


def test_plain_instructions_have_rates_too(node: Daemon) -> None:
    options = "caps=all rate=SYS_HELLO:2/h,TASK_QUERY:1/h,REKEY:1/h,ABANDON:1/h"
    with holding(node, options) as (agent, _):
        assert agent.alive()
        assert agent.ask(agent.signed(0x01))[-2:] == OK
        assert agent.ask(HELLO) == BLOCKED
        assert agent.ask(sealed(agent, 0x01)) == BLOCKED
        assert agent.ask(frame(0x11, bytes(3))) == WRONG_LENGTH
        assert agent.ask(frame(0x11, bytes(4))) == b"\xff" + OK
        assert agent.ask(frame(0x11, bytes(4))) == BLOCKED
        assert agent.ask(frame(0x11, bytes(3))) == WRONG_LENGTH
        assert agent.ask(frame(0x13, b"x")) == WRONG_LENGTH
        assert agent.ask(frame(0x13)) == OK
        agent.link.rekey()
        assert agent.ask(frame(0x13)) == BLOCKED  # and the keys are what they were
        assert agent.ask(frame(0x14)) == bytes(2) + OK
        assert agent.ask(frame(0x14)) == BLOCKED
        assert agent.ask(frame(0x02))[-2:] == OK


def test_a_bucket_fills_again(node: Daemon) -> None:
    """100 a second: it is empty after a burst of far more, and does not stay so."""
    with holding(node, "caps=all rate=SYS_HELLO:100/s") as (agent, _):
        agent.send(*[HELLO] * 5000)
        found = [agent.answer()[-2:] for _ in range(5000)]
        assert found[:100] == [OK] * 100
        assert BLOCKED in found
        while agent.ask(HELLO) == BLOCKED:
            pass
        assert agent.ask(frame(0x00))[-2:] == OK


# -- SIGHUP


def test_reading_the_file_again_fills_nothing(node: Daemon) -> None:
    line = "agent caps=all rate=PROC_THROTTLE:2/h"
    key = PrivateKey.generate()
    node.reload({key: line})
    with node.connect(key) as agent, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        node.reload({key: line})
        assert agent.ask(agent.throttle(child.pid)) == OK
        for again in (line, f"renamed {line.partition(' ')[2]} users={os.geteuid()}"):
            node.reload({key: again})
            assert agent.ask(agent.throttle(child.pid)) == BLOCKED
            with node.connect(key) as other:
                assert other.ask(other.throttle(child.pid)) == BLOCKED


def test_another_rate_is_another_bucket(node: Daemon) -> None:
    key = PrivateKey.generate()
    node.reload({key: "agent caps=all rate=PROC_THROTTLE:1/h"})
    with node.connect(key) as agent, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == BLOCKED
        node.reload({key: "agent caps=all rate=PROC_THROTTLE:2/h"})
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == BLOCKED
        node.reload({key: "agent caps=all"})
        for _ in range(5):
            assert agent.ask(agent.throttle(child.pid)) == OK


def test_lines_do_not_share(node: Daemon) -> None:
    line = "agent caps=all rate=PROC_THROTTLE:1/h"
    one, other = PrivateKey.generate(), PrivateKey.generate()
    node.reload({one: line, other: line})
    with node.connect(one) as agent, node.connect(other) as another, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(child.pid)) == BLOCKED
        assert another.ask(another.throttle(child.pid)) == OK
        assert another.ask(another.throttle(child.pid)) == BLOCKED


# -- delegates


def test_a_whole_subtree_has_one_bucket(node: Daemon) -> None:
    options = "caps=core,process,security rate=PROC_THROTTLE:3/h"
    child_key, grandchild_key = PrivateKey.generate(), PrivateKey.generate()
    with holding(node, options) as (agent, _), waiting() as process:
        assert add(agent, child_key.public, DELEGATES)[4:] == OK
        with node.connect(child_key) as child:
            assert add(child, grandchild_key.public, THROTTLES)[4:] == OK
            with node.connect(grandchild_key) as grandchild:
                for one in (agent, child, grandchild):
                    assert one.ask(one.throttle(process.pid)) == OK
                for one in (agent, child, grandchild):
                    assert one.ask(one.throttle(process.pid)) == BLOCKED
            # Who adds an agent anew does not get another bucket with it.
            assert remove(child, grandchild_key.public) == OK
            assert add(child, grandchild_key.public, THROTTLES)[4:] == OK
            with node.connect(grandchild_key) as grandchild:
                assert grandchild.ask(grandchild.throttle(process.pid)) == BLOCKED


def test_scopes_are_handed_on_with_the_rest(node: Daemon) -> None:
    key = PrivateKey.generate()
    with holding(node, f"caps=all,security users={ELSE}") as (agent, _), waiting() as process:
        assert add(agent, key.public, THROTTLES)[4:] == OK
        with node.connect(key) as child:
            assert child.ask(child.throttle(process.pid)) == DENIED


def test_agent_add_takes_a_token_when_all_else_has_passed(node: Daemon) -> None:
    options = "caps=core,security rate=AGENT_ADD:2/h"
    first, second = PrivateKey.generate().public, PrivateKey.generate().public
    with holding(node, options) as (agent, own):
        request = addition(first)
        refused = [
            (request[:-1], WRONG_LENGTH),
            (addition(bytes(32)), INVALID_PAYLOAD),
            (addition(node.key), INVALID_PAYLOAD),
            (addition(first, label=b"a b"), INVALID_PAYLOAD),
            (addition(first, {0x20}), DENIED),
            (addition(own.public), INVALID_PAYLOAD),
        ]
        for payload, answer in refused * 2:
            assert agent.ask(sealed(agent, 0x60, payload)) == answer
        assert add(agent, first)[4:] == OK
        assert add(agent, first)[4:] == OK  # again is once more
        assert add(agent, second) == BLOCKED
        for payload, answer in refused[:-1]:
            assert agent.ask(sealed(agent, 0x60, payload)) == answer
        assert add(agent, own.public) == BLOCKED  # whether a key is known stands behind the rate
        assert page(agent, 0)[0] == 1


def test_agent_remove_and_agent_list_have_rates(node: Daemon) -> None:
    options = "caps=core,security rate=AGENT_REMOVE:1/h,AGENT_LIST:1/h"
    first, second = PrivateKey.generate().public, PrivateKey.generate().public
    with holding(node, options) as (agent, own):
        for key in (first, second):
            assert add(agent, key)[4:] == OK
        assert remove(agent, CORE_AGENT.public) == INVALID_PAYLOAD
        assert remove(agent, own.public) == DENIED
        assert remove(agent, first) == OK
        assert remove(agent, second) == BLOCKED
        assert remove(agent, CORE_AGENT.public) == BLOCKED
        assert remove(agent, own.public) == DENIED
        assert agent.ask(agent.signed(0x62)) == DENIED
        assert page(agent, 0)[0] == 1
        assert agent.ask(sealed(agent, 0x62)) == BLOCKED
        assert agent.ask(sealed(agent, 0x62, b"x")) == WRONG_LENGTH


def test_a_rate_of_what_is_not_granted_grants_nothing(node: Daemon) -> None:
    node.reload({AGENT: "agent rate=PROC_THROTTLE:1/h"})
    with node.connect() as agent, waiting() as child:
        for _ in range(2):
            assert agent.ask(agent.throttle(child.pid)) == NO_SUCH_INSTRUCTION
