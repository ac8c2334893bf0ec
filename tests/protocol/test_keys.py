"""Keys: what they refuse, and that nothing lets them out."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise.backends.default.diffie_hellmans import ED25519

from asys.errors import HandshakeError, LinkError
from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey, is_low_order
from asys.protocol.link import AgentLink, NodeLink
from asys.protocol.noise import Initiator, Responder, SessionKeys
from asys.protocol.signing import Signer, Verifier, encryption_key
from protocol.silence import assert_silent

P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    P - 1,
    P,
    P + 1,
    # The two u-coordinates of order 8 on the curve and on its twist.
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]
"""Every u below 2^255 whose point has an order that divides 8."""

RAW = bytes(range(7, 39))


def _wire(u: int) -> bytes:
    return u.to_bytes(32, "little")


@pytest.mark.parametrize("top", [0, 1 << 255], ids=["", "with the top bit"])
@pytest.mark.parametrize("u", LOW_ORDER)
def test_low_order_points_are_refused(u: int, top: int) -> None:
    """X25519 ignores the top bit, so each stands for two keys."""
    public = _wire(u | top)
    assert is_low_order(public)
    with pytest.raises(HandshakeError, match="not a usable X25519 key"):
        PrivateKey(RAW).exchange(public)


@pytest.mark.parametrize("top", [0, 1 << 255], ids=["", "with the top bit"])
@pytest.mark.parametrize(
    "near", [*(u + step for u in LOW_ORDER for step in range(-3, 4)), *range(P - 40, 2**255)]
)
def test_the_table_of_low_order_points_is_what_the_exchange_refuses(near: int, top: int) -> None:
    """Their neighbours and everything that is not reduced: nothing is missing or too much."""
    if 0 <= near < 2**255:
        public = _wire(near | top)
        assert is_low_order(public) is _is_refused(public) is (near in LOW_ORDER)


@given(st.binary(min_size=32, max_size=32))
def test_the_table_against_the_exchange_for_any_key(public: bytes) -> None:
    assert is_low_order(public) is _is_refused(public)


def _is_refused(public: bytes) -> bool:
    try:
        PrivateKey(RAW).exchange(public)
    except HandshakeError:
        return True
    return False


def test_low_order_keys_are_refused_in_every_message() -> None:
    node = PrivateKey(RAW)
    for u in LOW_ORDER:
        with pytest.raises(HandshakeError):
            Initiator(node, _wire(u)).write_message_1()
        with pytest.raises(HandshakeError):
            Responder(node).read_message_1(_wire(u) + bytes(64))
        initiator = Initiator(node, node.public)
        initiator.write_message_1()
        with pytest.raises(HandshakeError):
            initiator.read_message_2(_wire(u) + bytes(16))


@given(st.binary(min_size=32, max_size=32))
def test_real_keys_are_not_of_low_order(raw: bytes) -> None:
    assert not is_low_order(PrivateKey(raw).public)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_exchange_is_x25519(mine: bytes, yours: bytes) -> None:
    here, there = PrivateKey(mine), PrivateKey(yours)
    theirs = ED25519()  # the library's name for X25519
    pair = theirs.klass.from_private_bytes(mine)
    assert here.public == pair.public_bytes
    assert here.exchange(there.public) == there.exchange(here.public)
    assert here.exchange(there.public) == theirs.dh(
        pair.private, theirs.klass.from_public_bytes(there.public).public
    )


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_private_key_of_the_wrong_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"has 32 bytes, not {size}") as caught:
        PrivateKey(bytes(range(100, 164))[:size])
    if size > 16:  # shorter ones stand in some line number by chance
        assert_silent(caught.value, bytes(range(100, 164))[:size])


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_public_key_of_the_wrong_size(size: int) -> None:
    with pytest.raises(HandshakeError, match="not a usable X25519 key"):
        PrivateKey(RAW).exchange(bytes(size))


def test_raw_gives_the_key_back_and_generate_makes_new_ones() -> None:
    assert PrivateKey(RAW).raw() == RAW
    keys = {PrivateKey.generate().raw() for _ in range(5)}
    assert len(keys) == 5


# Nothing says a key aloud.


def _holders() -> dict[str, tuple[object, list[bytes]]]:
    """One of everything that holds a secret, with the secrets."""
    agent, node = PrivateKey(RAW), PrivateKey(RAW[::-1])
    agent_link, node_link = AgentLink(agent), NodeLink(node)
    node_link.receive_data(agent_link.data_to_send())
    agent_link.receive_data(node_link.data_to_send())
    agent_link.begin_handshake()
    half_open = AgentLink(agent)
    half_open.receive_data(b"ASYS\x01\x00" + node.public)
    half_open.begin_handshake()
    node_link.receive_data(agent_link.data_to_send())
    agent_link.receive_data(node_link.data_to_send())
    keys = agent_link.keys
    assert keys is not None
    session = [keys.agent_to_node, keys.node_to_agent]
    initiator = Initiator(agent, node.public)
    initiator.write_message_1()
    sealer, renewed = Signer(keys.agent_to_node), Channel(*session)
    sealer.seal(0x60, 0, 0, b"sealed")
    return {
        "PrivateKey": (agent, [RAW]),
        "SessionKeys": (keys, session),
        "Signer": (Signer(keys.agent_to_node), session),
        "Signer that has sealed": (sealer, [*session, encryption_key(keys.agent_to_node)]),
        "Channel with new keys": (renewed, [*session, *renewed.rekey()]),
        "Verifier": (Verifier(keys.agent_to_node), session),
        "Channel": (Channel(*session), session),
        "Initiator": (initiator, [RAW, initiator._symmetric._chaining_key]),
        "SymmetricState": (initiator._symmetric, [initiator._symmetric._chaining_key]),
        "Responder": (Responder(node), [node.raw()]),
        "AgentLink": (agent_link, [RAW, *session]),
        "AgentLink in its handshake": (half_open, [RAW]),
        "NodeLink": (node_link, [node.raw(), *session]),
    }


HOLDERS = _holders()
holders = pytest.mark.parametrize(("holder", "secrets"), HOLDERS.values(), ids=HOLDERS.keys())


@holders
def test_no_text_of_it_has_a_secret(holder: object, secrets: list[bytes]) -> None:
    assert_silent(holder, *secrets)
    assert_silent([holder], *secrets)
    assert_silent({"holder": holder}, *secrets)


@holders
def test_it_is_not_logged(
    holder: object, secrets: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("asys").warning("holder %s %r", holder, holder)
    assert "holder" in caplog.text
    assert_silent(caplog.text, *secrets)


@holders
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(holder: object, secrets: list[bytes], protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        pickle.dumps(holder, protocol)
    assert_silent(caught.value, *secrets)


@holders
def test_it_is_not_copied(holder: object, secrets: list[bytes]) -> None:
    for copier in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copier(holder)


@holders
def test_it_is_no_json(holder: object, secrets: list[bytes]) -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps(holder)
    assert_silent(caught.value, *secrets)


@holders
def test_no_public_attribute_says_a_secret(holder: object, secrets: list[bytes]) -> None:
    """But for the two keys of SessionKeys, whose purpose it is to hold them."""
    for name in dir(holder):
        if name.startswith("_") or name in ("agent_to_node", "node_to_agent", "raw"):
            continue
        assert_silent(getattr(holder, name, None), *secrets)


def _failures() -> Iterator[tuple[str, BaseException, list[bytes]]]:
    """Every way to make a holder of secrets raise."""

    def caught(action: Any, *arguments: Any) -> BaseException:
        with pytest.raises(Exception) as info:  # noqa: PT011 - whatever it is, it must be silent
            action(*arguments)
        return info.value

    agent, node = PrivateKey(RAW), PrivateKey(RAW[::-1])
    secrets = [agent.raw(), node.raw()]
    yield "a low-order key", caught(agent.exchange, bytes(32)), secrets
    yield "message 1", caught(Responder(node).read_message_1, bytes(range(96))), secrets
    initiator = Initiator(agent, node.public)
    initiator.write_message_1()
    yield "message 2", caught(initiator.read_message_2, bytes(range(48))), secrets
    yield "no key at all", caught(PrivateKey, "x" * 32), secrets
    yield "no public key at all", caught(agent.exchange, "x" * 32), secrets
    key = bytes(range(50, 82))
    channel = Channel(key, key)
    channel.feed(b"\x00\x10" + bytes(16))
    yield "a record", caught(channel.receive), [key]
    yield "a broken channel", caught(channel.seal, [b"x"]), [key]
    yield "too large a message", caught(Channel(key, key).seal, [bytes(70_000)]), [key]
    yield "too short a channel key", caught(Channel, key[:31], key), [key[:31]]
    signer = Signer(key)
    yield "too much to sign", caught(signer.sign, 0x20, 0, 0, bytes(70_000)), [key]
    signer.seq = 0xFFFFFFFF
    yield "no Seq left", caught(signer.sign, 0x20, 0, 0, b""), [key]
    yield "no Seq left to seal", caught(signer.seal, 0x60, 0, 0, b""), [key, encryption_key(key)]
    yield "too much to seal", caught(Signer(key).seal, 0x60, 0, 0, bytes(70_000)), [key]
    channel = Channel(key, key)
    channel.feed(b"\x00")
    yield "bytes behind the old keys", caught(channel.rekey), [key]
    yield "no new keys for a broken channel", caught(channel.rekey), [key]
    link = NodeLink(node)
    yield "garbage", caught(link.receive_data, b"GET / HTTP/1.1"), secrets
    yield "a failed link", caught(link.seal, [b"x"]), secrets
    session = SessionKeys(key, key[::-1], bytes(64))
    yield "a frozen dataclass", caught(setattr, session, "agent_to_node", b""), [key, key[::-1]]


FAILURES = list(_failures())


@pytest.mark.parametrize(
    ("error", "secrets"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_no_exception_says_a_secret(error: BaseException, secrets: list[bytes]) -> None:
    assert_silent(error, *secrets)


def test_errors_of_the_link_family_name_no_attribute_but_what_is_public() -> None:
    for _, error, _ in FAILURES:
        if isinstance(error, LinkError):
            assert vars(error) == {}


def test_the_check_for_silence_hears() -> None:
    with pytest.raises(AssertionError):
        assert_silent(ValueError(RAW.hex()), RAW)
    with pytest.raises(AssertionError):
        assert_silent([RAW], RAW)


def test_the_package_never_prints_or_logs_from_the_core() -> None:
    package = Path(__file__).parents[2] / "src" / "asys" / "protocol"
    for path in package.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "print(" not in text
        assert "import logging" not in text
