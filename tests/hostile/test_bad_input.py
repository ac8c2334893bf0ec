"""Nonsense to the instructions of delegation, REKEY, ABANDON and the pages of SYS_CAPS.

It gets its status word, never 6F00, and the session goes on; only what is marked closes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from asys.protocol.keys import PrivateKey, is_low_order
from asys.protocol.limits import MAX_DATA
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import AGENT_ADD, AGENT_LIST, AGENT_REMOVE, addition, listing, sealed
from support.frames import (
    BLOCKED,
    DENIED,
    INVALID_PAYLOAD,
    OK,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.raw_agent import RawAgent

CONTINUE = 0x10
KEY_STATEMENT = 0x15
REKEY = 0x13
ABANDON = 0x14
KEY = PrivateKey.generate().public
SMALL = PrivateKey.generate()
LINES = [key.public for key in (AGENT, CORE_AGENT, SMALL)]

SIZES = range(201)

ROUNDS = 400


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """At its end it must not have logged a fault; 6F00 is one."""
    agents = {
        AGENT: "agent caps=all,security role=admin",
        CORE_AGENT: "other",
        SMALL: "small caps=SYS_HELLO,AGENT_ADD,AGENT_REMOVE",
    }
    with running(tmp_path_factory.mktemp("asyd"), "--handshake-rate", "0", agents=agents) as daemon:
        yield daemon


@pytest.fixture
def agent(node: Daemon) -> Iterator[RawAgent]:
    """A session that still answers at the end, and nobody was added."""
    with node.connect() as agent:
        yield agent
        assert agent.alive()
        assert [row.key for row in listing(agent)] == LINES


Make = Callable[[RawAgent, int, bytes, int, int], bytes]

LEVELS: dict[str, Make] = {
    "plain": lambda agent, ins, data, p1, p2: frame(ins, data, p1, p2),
    "signed": lambda agent, ins, data, p1, p2: agent.signed(ins, data, p1, p2),
    "sealed": lambda agent, ins, data, p1, p2: sealed(agent, ins, data, p1, p2),
    "plain, extended": lambda agent, ins, data, p1, p2: frame(ins, data, p1, p2, cla=0x02),
    "signed, extended": lambda agent, ins, data, p1, p2: agent.signed(ins, data, p1, p2, cla=0x06),
    "sealed, extended": lambda agent, ins, data, p1, p2: sealed(agent, ins, data, p1, p2, cla=0x0A),
}


def all_answers(agent: RawAgent, requests: list[bytes]) -> list[bytes]:
    """Sends them all, each its own message, and gives their answers."""
    agent.send(*requests)
    return [agent.answer() for _ in requests]


# -- every length


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ins", [AGENT_ADD, AGENT_REMOVE, AGENT_LIST])
def test_every_length_of_those_about_agents(agent: RawAgent, ins: int, level: str) -> None:
    """All bytes FF: a map that is never within one's own, a key that nobody has."""
    requests = [LEVELS[level](agent, ins, b"\xff" * size, 0, 0) for size in SIZES]
    found = all_answers(agent, requests)
    if not level.startswith("sealed"):
        assert set(found) == {DENIED}
        return
    fitting = {AGENT_ADD: [], AGENT_REMOVE: [32], AGENT_LIST: [0]}[ins]
    for size, answer in zip(SIZES, found, strict=True):
        if size not in fitting:
            assert answer == WRONG_LENGTH, size
    if ins == AGENT_REMOVE:
        assert found[32] == INVALID_PAYLOAD
    if ins == AGENT_LIST:
        assert found[0][-2:] == OK


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ins", [REKEY, ABANDON])
def test_every_length_of_those_without_a_payload(agent: RawAgent, ins: int, level: str) -> None:
    requests = [LEVELS[level](agent, ins, bytes(size), 0, 0) for size in SIZES if size]
    assert set(all_answers(agent, requests)) == {WRONG_LENGTH}


@pytest.mark.parametrize("level", LEVELS)
def test_every_length_of_sys_caps_is_ignored(agent: RawAgent, level: str) -> None:
    requests = [LEVELS[level](agent, 0x00, bytes(size), size % 4, 0) for size in SIZES]
    for size, answer in zip(SIZES, all_answers(agent, requests), strict=True):
        assert (len(answer), answer[-2:], answer[33] & 3) == (36, OK, size % 4)


def test_the_longest_frames_there_are(agent: RawAgent) -> None:
    for ins in (AGENT_ADD, AGENT_REMOVE, AGENT_LIST, ABANDON, REKEY):
        assert agent.ask(sealed(agent, ins, bytes(MAX_DATA - 20), cla=0x0A)) == WRONG_LENGTH


# -- every label length that AGENT_ADD could say


def test_every_label_length_with_every_payload_that_could_go_with_it(agent: RawAgent) -> None:
    """Only where both agree the rest is looked at: the map is not within the caller's."""
    cases = [(count, size) for count in (0, 1, 30, 31, 32, 33, 100) for size in range(0, 132, 1)]
    requests = []
    for count, size in cases:
        payload = KEY + b"\xff" * 32 + bytes(4) + bytes((count,)) + b"x" * size
        requests.append(sealed(agent, AGENT_ADD, payload))
    for (count, size), answer in zip(cases, all_answers(agent, requests), strict=True):
        if count != size:
            assert answer == WRONG_LENGTH, (count, size)
        else:
            assert answer == (DENIED if count <= 31 else INVALID_PAYLOAD), (count, size)


@pytest.mark.parametrize("where", [0, 15, 30])
def test_every_byte_that_a_label_could_have(agent: RawAgent, where: int) -> None:
    """Of 256, the 65 that a label is made of are let through to the check of the map."""
    requests = []
    for byte in range(256):
        label = bytearray(b"x" * 31)
        label[where] = byte
        payload = addition(KEY, b"\xff" * 32, 0, bytes(label))
        requests.append(sealed(agent, AGENT_ADD, payload))
    found = all_answers(agent, requests)
    wanted = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
    assert {byte for byte in range(256) if found[byte] == DENIED} == set(wanted)
    assert set(found) == {DENIED, INVALID_PAYLOAD}


# -- P1 and P2


@pytest.mark.parametrize("ins", [AGENT_ADD, AGENT_REMOVE, ABANDON])
def test_p1_and_p2_without_a_meaning_are_ignored(agent: RawAgent, ins: int) -> None:
    payload = {AGENT_ADD: addition(KEY, b"\xff" * 32), AGENT_REMOVE: KEY, ABANDON: b""}[ins]
    wanted = {AGENT_ADD: DENIED, AGENT_REMOVE: INVALID_PAYLOAD, ABANDON: bytes(2) + OK}[ins]
    requests = [sealed(agent, ins, payload, p1, 255 - p1) for p1 in range(256)]
    assert set(all_answers(agent, requests)) == {wanted}


def test_every_p1_and_p2_of_rekey(agent: RawAgent) -> None:
    for p1 in range(256):
        assert agent.ask(frame(REKEY, p1=p1, p2=p1 ^ 0x5A)) == OK
        agent.link.rekey()


def test_every_page_of_agent_list(agent: RawAgent) -> None:
    for p1 in range(256):
        answer = agent.ask(sealed(agent, AGENT_LIST, p1=p1, p2=p1))
        count = len(LINES) if p1 == 0 else 0
        assert answer[:4] == bytes((0, len(LINES), count, p1))
        assert (len(answer), answer[-2:]) == (4 + count * 108 + 2, OK)


def test_every_page_of_sys_caps(agent: RawAgent) -> None:
    for level in LEVELS.values():
        requests = [level(agent, 0x00, b"", p1, p1 ^ 0xFF) for p1 in range(256)]
        found = all_answers(agent, requests)
        assert [(len(one), one[33]) for one in found[:4]] == [(36, page) for page in range(4)]
        assert set(found[4:]) == {INVALID_PAYLOAD}


# -- chance


@pytest.mark.parametrize("seed", range(4))
def test_random_payloads_with_right_tags(agent: RawAgent, seed: int) -> None:
    """Every level, size, P1 and P2; payloads without order, or almost right ones."""
    chance = random.Random(seed)  # noqa: S311  the same in every run
    requests = []
    for number in range(ROUNDS):
        ins = chance.choice([AGENT_ADD, AGENT_REMOVE, AGENT_LIST, ABANDON, 0x00, REKEY])
        data = bytearray(scrambled(chance.randrange(1, 120), f"{seed} {number}"))
        if ins == AGENT_ADD and chance.random() < 0.7:
            data = bytearray(addition(KEY, b"\xff" * 32, chance.getrandbits(32), b"label"))
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if is_low_order(bytes(data[:32]).ljust(32, b"\0")):
            continue
        level = LEVELS[chance.choice(list(LEVELS))]
        p1, p2 = chance.randrange(256), chance.randrange(256)
        requests.append(level(agent, ins, bytes(data), p1, p2))
    for answer in all_answers(agent, requests):
        assert answer[-2:] in (OK, DENIED, WRONG_LENGTH, INVALID_PAYLOAD, BLOCKED)


def test_every_bit_of_a_map(node: Daemon) -> None:
    """Those of the caller's are handed on, all others are refused; two that nobody can be
    granted are neither."""
    with node.connect(SMALL) as agent:
        for bit in range(256):
            lit = bytearray(32)
            lit[bit // 8] = 0x80 >> bit % 8
            answer = agent.ask(sealed(agent, AGENT_ADD, addition(KEY, bytes(lit))))
            code = bit // 32 * 32 + 31 - bit % 32
            assert (answer[4:] == OK) == (code in {0x01, CONTINUE, KEY_STATEMENT, 0x60, 0x61}), code
            assert answer[4:] == OK or answer == DENIED
        assert agent.ask(sealed(agent, AGENT_REMOVE, KEY)) == OK


def test_keys_that_differ_in_one_bit(agent: RawAgent) -> None:
    for bit in range(0, 256, 15):
        key = bytearray(KEY)
        key[bit // 8] ^= 1 << bit % 8
        assert agent.ask(sealed(agent, AGENT_ADD, addition(bytes(key))))[4:] == OK
        assert agent.ask(sealed(agent, AGENT_REMOVE, KEY)) == INVALID_PAYLOAD
        assert agent.ask(sealed(agent, AGENT_REMOVE, bytes(key))) == OK


# -- only this closes


@pytest.mark.parametrize("ins", [AGENT_ADD, AGENT_REMOVE, AGENT_LIST, REKEY, ABANDON, 0x00])
@pytest.mark.parametrize("what", ["tag", "c", "version", "reserved", "short"])
def test_what_closes(node: Daemon, ins: int, what: str) -> None:
    with node.connect() as agent:
        request = {
            "tag": lambda: sealed(agent, ins, KEY, bad="tag"),
            "c": lambda: sealed(agent, ins, KEY, bad="c"),
            "version": lambda: sealed(agent, ins, KEY, cla=0x28),
            "reserved": lambda: sealed(agent, ins, KEY, cla=0x09),
            "short": lambda: agent.tagged(ins, bytes(3), cla=0x08),
        }[what]()
        agent.send(request)
        wanted = {"version": b"\x6e\x00", "reserved": WRONG_LENGTH}.get(what, DENIED)
        assert agent.final() == [wanted]
