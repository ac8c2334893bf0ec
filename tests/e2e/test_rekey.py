"""REKEY: new keys for both directions and for what is signed, and nothing behind it in one go."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from asys.node.session import TURN
from asys.protocol.limits import MAGIC
from support.daemon import AGENT, CORE_AGENT, LOOPS, Daemon, running
from support.delegates import page, sealed
from support.frames import (
    ALREADY_RECEIVED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
    header,
)
from support.raw_agent import RawAgent

REKEY = frame(0x13)
AGENTS = {AGENT: "agent caps=all,security", CORE_AGENT: "other"}


@pytest.fixture(scope="module", params=LOOPS)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with running(
        tmp_path_factory.mktemp("asyd"),
        "--handshake-rate",
        "0",
        agents=AGENTS,
        prelude=LOOPS[request.param],
    ) as daemon:
        yield daemon


@pytest.fixture
def agent(node: Daemon) -> Iterator[RawAgent]:
    with node.connect() as agent:
        yield agent


def keys(agent: RawAgent) -> tuple[bytes, bytes]:
    """To the node, and from it."""
    assert agent.link.keys is not None
    return agent.link.keys.agent_to_node, agent.link.keys.node_to_agent


def rekey(agent: RawAgent) -> None:
    """With the answer, and alone."""
    assert agent.ask(REKEY) == OK
    agent.link.rekey()


def test_both_directions_go_on_under_the_key_that_noise_says(agent: RawAgent) -> None:
    """ENCRYPT(k, 2^64-1, no associated data, 32 zero bytes), its first 32 bytes."""
    before = keys(agent)
    rekey(agent)
    last = bytes(4) + b"\xff" * 8
    wanted = tuple(ChaCha20Poly1305(key).encrypt(last, bytes(32), None)[:32] for key in before)
    assert keys(agent) == wanted
    assert agent.alive()


def test_the_answer_comes_under_the_old_keys(agent: RawAgent) -> None:
    """It is read with them: before the agent has changed its own."""
    assert agent.ask(REKEY) == OK


def test_again_and_again(agent: RawAgent) -> None:
    for number in range(1, 101):
        rekey(agent)
        assert agent.ask(agent.signed(0x01))[-2:] == OK
        assert agent.seq == number


def test_pipelined_in_front_of_it(agent: RawAgent) -> None:
    for count in (0, 1, TURN - 2, TURN - 1, TURN, TURN + 1, 3 * TURN - 1, 1000):
        agent.send(*[HELLO] * count, REKEY)
        assert [agent.answer()[:4] for _ in range(count)] == [MAGIC] * count
        assert agent.answer() == OK
        agent.link.rekey()
        assert agent.alive()


def test_in_one_message_behind_others(agent: RawAgent) -> None:
    agent.send(HELLO * 100 + REKEY)
    assert [agent.answer()[:4] for _ in range(100)] == [MAGIC] * 100
    assert agent.answer() == OK
    agent.link.rekey()
    assert agent.alive()


def test_behind_what_waits_for_the_sampler(agent: RawAgent) -> None:
    for _ in range(20):
        agent.send(STATUS, PROCS, agent.signed(0x02), sealed(agent, 0x62), REKEY)
        assert [agent.answer()[-2:] for _ in range(5)] == [OK] * 5
        agent.link.rekey()


def test_cut_into_pieces(agent: RawAgent) -> None:
    agent.send(HELLO + REKEY[:2])
    assert agent.answer()[:4] == MAGIC
    agent.send(REKEY[2:])
    assert agent.answer() == OK
    agent.link.rekey()
    assert agent.alive()


BEHIND = {
    "a frame in its message": lambda agent: agent.sealed(REKEY + HELLO),
    "half a frame in its message": lambda agent: agent.sealed(REKEY + HELLO[:1]),
    "another of it": lambda agent: agent.sealed(REKEY + REKEY),
    "a message": lambda agent: agent.sealed(REKEY, HELLO),
    "many messages": lambda agent: agent.sealed(REKEY, *[HELLO] * 200),
    "half a message": lambda agent: agent.sealed(REKEY, HELLO)[:-3],
    "a byte": lambda agent: agent.sealed(REKEY) + b"\0",
    "what no key opens": lambda agent: agent.sealed(REKEY) + b"\0\x20" + bytes(32),
    "an impossible length": lambda agent: agent.sealed(REKEY) + bytes(2),
}


@pytest.mark.parametrize("count", [0, 1, TURN - 1, TURN, TURN + 5])
@pytest.mark.parametrize("behind", BEHIND)
def test_whatever_is_behind_it_closes(agent: RawAgent, behind: str, count: int) -> None:
    """What stands in front is answered; nothing is done under keys that are in doubt."""
    before = agent.sealed(*[HELLO] * count)
    agent.write(before + BEHIND[behind](agent))
    *first, last = agent.final()
    assert [one[:4] for one in first] == [MAGIC] * count
    assert last == WRONG_LENGTH


def test_the_old_key_opens_nothing_any_more(agent: RawAgent) -> None:
    assert agent.ask(REKEY) == OK
    agent.send(HELLO)  # under the old key, with the next counter
    assert agent.final() == []


def test_the_counters_go_on(agent: RawAgent) -> None:
    """A record under the new key with the counter 0 is none."""
    for _ in range(3):
        assert agent.alive()
    rekey(agent)
    to_node = keys(agent)[0]
    ciphertext = ChaCha20Poly1305(to_node).encrypt(bytes(12), HELLO, None)
    agent.write(len(ciphertext).to_bytes(2, "big") + ciphertext)
    assert agent.final() == []


def test_the_next_counter_is_the_right_one(agent: RawAgent) -> None:
    for _ in range(3):
        assert agent.alive()
    rekey(agent)
    nonce = bytes(4) + (4).to_bytes(8, "little")
    ciphertext = ChaCha20Poly1305(keys(agent)[0]).encrypt(nonce, HELLO, None)
    agent.write(len(ciphertext).to_bytes(2, "big") + ciphertext)
    assert agent.answer()[:4] == MAGIC


# -- what is signed


def test_seq_goes_on(agent: RawAgent) -> None:
    assert agent.ask(agent.signed(0x01))[-2:] == OK
    assert agent.ask(sealed(agent, 0x01))[-2:] == OK
    rekey(agent)
    for seq in (0, 1, 2):
        assert agent.ask(agent.signed(0x01, seq=seq)) == ALREADY_RECEIVED
        assert agent.ask(sealed(agent, 0x01, seq=seq)) == ALREADY_RECEIVED
    assert agent.ask(agent.signed(0x01, seq=3))[-2:] == OK
    assert agent.ask(sealed(agent, 0x62, seq=4))[-2:] == OK


@pytest.mark.parametrize("make", ["signed", "sealed"])
def test_what_was_signed_before_is_worth_nothing(agent: RawAgent, make: str) -> None:
    """Not even a replay: the tag is of another key."""
    request = agent.signed(0x01) if make == "signed" else sealed(agent, 0x01)
    rekey(agent)
    agent.send(request)
    assert agent.final() == [DENIED]


@pytest.mark.parametrize("old", ["tag", "epoch"])
def test_tags_have_the_new_key_and_the_new_epoch(agent: RawAgent, old: str) -> None:
    before = keys(agent)[0]
    rekey(agent)
    after = keys(agent)[0]
    epoch_of, tag_of = (before, after) if old == "epoch" else (after, before)
    head, data = header(0x01, 0, 0, 4, 0x04), (1).to_bytes(4, "big")
    epoch = hmac.digest(epoch_of, b"asys-epoch-v1", "blake2b")[:4]
    tag = hmac.digest(tag_of, head + epoch + data, "blake2b")[:16]
    agent.send(head + data + b"\0" + tag)
    assert agent.final() == [DENIED]


def test_enc_sign_with_the_encryption_key_of_before(agent: RawAgent) -> None:
    old = hmac.digest(keys(agent)[0], b"asys-enc-v1", "blake2b")[:32]
    rekey(agent)
    head, seq = header(0x01, 0, 0, 20, 0x08), (1).to_bytes(4, "big")
    epoch = hmac.digest(keys(agent)[0], b"asys-epoch-v1", "blake2b")[:4]
    nonce = bytes(4) + (1).to_bytes(8, "little")
    data = seq + ChaCha20Poly1305(old).encrypt(nonce, b"", head + epoch + seq)
    agent.send(agent.tagged(0x01, data, cla=0x08))
    assert agent.final() == [DENIED]


def test_signed_and_sealed_rekey(agent: RawAgent) -> None:
    assert agent.ask(agent.signed(0x13)) == OK
    agent.link.rekey()
    assert agent.ask(sealed(agent, 0x13)) == OK
    agent.link.rekey()
    assert agent.ask(sealed(agent, 0x01))[-2:] == OK
    assert agent.seq == 3


# -- refused


def test_a_payload_is_refused_and_the_keys_stay(agent: RawAgent) -> None:
    before = keys(agent)
    for payload in (b"x", bytes(32), bytes(255)):
        assert agent.ask(frame(0x13, payload)) == WRONG_LENGTH
        assert agent.ask(agent.signed(0x13, payload[:200])) == WRONG_LENGTH
    assert agent.ask(frame(0x13, cla=0x10)) == WRONG_LENGTH
    assert agent.alive()
    assert keys(agent) == before
    rekey(agent)
    assert agent.alive()


def test_what_is_behind_a_refused_one_is_answered(agent: RawAgent) -> None:
    agent.send(frame(0x13, b"x"), HELLO)
    agent.send(frame(0x13, b"x") + HELLO)
    found = [agent.answer() for _ in range(4)]
    assert found[::2] == [WRONG_LENGTH] * 2
    assert [one[:4] for one in found[1::2]] == [MAGIC] * 2


def test_core_has_it(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        rekey(agent)
        assert agent.alive()


def test_who_is_not_granted_it_does_not_have_it(node: Daemon) -> None:
    node.reload({**AGENTS, CORE_AGENT: "other caps=SYS_HELLO"})
    with node.connect(CORE_AGENT) as agent:
        agent.send(REKEY, HELLO)
        assert agent.answer() == NO_SUCH_INSTRUCTION
        assert agent.answer()[:4] == MAGIC
    node.reload(AGENTS)


def test_other_sessions_keep_their_keys(node: Daemon) -> None:
    with node.connect() as one, node.connect() as other:
        assert other.alive()
        rekey(one)
        assert other.alive()
        assert page(one, 0) == page(other, 0)
