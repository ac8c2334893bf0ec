"""What a node's key states about the next one: the signature, and where statements lead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.protocol.keys import PrivateKey
from asys.protocol.statement import (
    STATEMENT_SIZE,
    BadStatement,
    KeyStatement,
    follow,
    parse_statements,
)
from asys.protocol.xeddsa import SIGNATURE_SIZE, sign, verify

raw_keys = st.binary(min_size=32, max_size=32)
moments = st.integers(0, 0xFFFFFFFF)
P = 2**255 - 19

KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 6)]
CHAIN = [KeyStatement.of(old, new.public, 7, 9) for old, new in pairwise(KEYS)]

# Made by libxeddsa, an implementation that shares nothing with ours: the point of the first key has
# the sign that must be turned, that of the second has not.
FOREIGN = [
    (
        1,
        "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c",
        "ed7f1c13e56dc919d368f18707675d77239462ecb1a2b4a227c349390a84fc38"
        "794fbd105ecde2e61de0ec23a64ced32f81a3381813c9491bca94dd4ef952105",
    ),
    (
        2,
        "ab9f2628c325c141e9fb2430f106850f62930bc3f0b12df39a9b84a49c7c1d12",
        "dc3cb60e482a502a2486f8bad9e293d1ef4783e81eb1acf502533bb6e9e12594"
        "91ba6b98059733d3ce0c4a6c6aa0c8896d47a716ca3c3a329b139a5dea50340c",
    ),
]


@pytest.mark.parametrize(("first", "public", "signature"), FOREIGN)
def test_signatures_of_another_implementation_verify(
    first: int, public: str, signature: str
) -> None:
    key = PrivateKey(bytes(range(first, first + 32)))
    assert key.public.hex() == public
    assert verify(key.public, b"ASys", bytes.fromhex(signature))
    assert not verify(key.public, b"asys", bytes.fromhex(signature))


@given(raw_keys, st.binary(max_size=200))
@settings(max_examples=30)
def test_every_key_signs_what_ed25519_verifies(raw: bytes, message: bytes) -> None:
    key = PrivateKey(raw)
    signature = sign(key, message)
    assert verify(key.public, message, signature)
    # The same with the arithmetic of section 8.4 written out here.
    u = int.from_bytes(key.public, "little")
    y = (u - 1) * pow(u + 1, P - 2, P) % P
    Ed25519PublicKey.from_public_bytes(y.to_bytes(32, "little")).verify(signature, message)
    assert not verify(key.public, message + b"\0", signature)
    assert sign(key, message) != signature  # no nonce is used twice


def test_a_signature_is_made_of_its_random_bytes() -> None:
    key = KEYS[0]
    assert sign(key, b"x", random=bytes(64)) == sign(key, b"x", random=bytes(64))
    assert sign(key, b"x", random=bytes(64))[:32] != sign(key, b"y", random=bytes(64))[:32]


@pytest.mark.parametrize(
    "public",
    [
        b"",
        bytes(31),
        bytes(33),
        (P - 1).to_bytes(32, "little"),  # it has no point on the other curve
        P.to_bytes(32, "little"),
        b"\xff" * 32,
    ],
)
def test_what_is_no_key_has_signed_nothing(public: bytes) -> None:
    assert not verify(public, b"x", bytes(SIGNATURE_SIZE))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_one_size(size: int) -> None:
    assert not verify(KEYS[0].public, b"x", (sign(KEYS[0], b"x") + b"\0")[:size])


@given(raw_keys, raw_keys, moments, moments)
@settings(max_examples=20)
def test_a_statement_is_its_bytes(old: bytes, new: bytes, made: int, ends: int) -> None:
    statement = KeyStatement.of(PrivateKey(old), PrivateKey(new).public, made, ends)
    data = statement.pack()
    assert len(data) == STATEMENT_SIZE == 136
    assert data[64:72] == made.to_bytes(4, "big") + ends.to_bytes(4, "big")
    assert KeyStatement.unpack(data) == statement
    if old != new:
        statement.check()


@given(st.integers(0, STATEMENT_SIZE * 8 - 1))
def test_any_bit_that_is_changed_is_refused(bit: int) -> None:
    data = bytearray(CHAIN[0].pack())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadStatement):
        KeyStatement.unpack(bytes(data)).check()


def test_every_byte_of_a_statement_counts() -> None:
    data = CHAIN[0].pack()
    for at in range(STATEMENT_SIZE):
        for value in (data[at] ^ 0xFF, data[at] ^ 1):
            bad = data[:at] + bytes((value,)) + data[at + 1 :]
            with pytest.raises(BadStatement):
                KeyStatement.unpack(bad).check()


@pytest.mark.parametrize("size", [0, 1, 135, 137])
def test_a_statement_has_one_size(size: int) -> None:
    with pytest.raises(BadStatement, match="136 bytes"):
        KeyStatement.unpack(bytes(size))


def test_a_key_cannot_name_itself_or_nobody() -> None:
    with pytest.raises(BadStatement, match="own place"):
        KeyStatement.of(KEYS[0], KEYS[0].public, 1, 2).check()
    with pytest.raises(BadStatement, match="nobody's"):
        KeyStatement.of(KEYS[0], bytes(32), 1, 2).check()


def test_a_signature_of_something_else_is_none() -> None:
    """Bytes that a key has signed for another purpose cannot be passed on as a statement."""
    old, new = KEYS[0], KEYS[1].public
    foreign = sign(old, old.public + new + bytes(8))
    with pytest.raises(BadStatement, match="not signed"):
        KeyStatement(old.public, new, 0, 0, foreign).check()


# -- where they lead


@pytest.mark.parametrize("order", [CHAIN, CHAIN[::-1]], ids=["in order", "backwards"])
def test_statements_lead_on_as_far_as_they_go(order: list[KeyStatement]) -> None:
    for start in range(len(KEYS)):
        way = follow(KEYS[start].public, order)
        assert way == CHAIN[start:]
    assert follow(b"\7" * 32, order) == []


def test_a_gap_ends_the_way() -> None:
    assert follow(KEYS[0].public, [CHAIN[0], CHAIN[2]]) == [CHAIN[0]]


def test_no_way_leads_back() -> None:
    """Not to where it began, not to what was superseded before: an end is final."""
    back = KeyStatement.of(KEYS[2], KEYS[0].public, 7, 9)
    with pytest.raises(BadStatement, match="leads back"):
        follow(KEYS[0].public, [*CHAIN[:2], back])
    with pytest.raises(BadStatement, match="leads back"):
        follow(KEYS[1].public, [*CHAIN[1:2], back], {KEYS[0].public})


def test_one_bad_statement_spoils_the_way() -> None:
    bad = KeyStatement(KEYS[1].public, KEYS[4].public, 7, 9, CHAIN[1].signature)
    with pytest.raises(BadStatement, match="not signed"):
        follow(KEYS[0].public, [CHAIN[0], bad])
    assert follow(KEYS[2].public, [CHAIN[2], bad]) == [CHAIN[2]]  # it is not on the way


def lines() -> Iterator[str]:
    yield "# of one node"
    yield ""
    yield from (f"  {one.pack().hex()} " for one in CHAIN)


def test_a_text_holds_one_a_line() -> None:
    assert parse_statements("\n".join(lines())) == CHAIN
    assert parse_statements("") == []


@pytest.mark.parametrize("line", ["x", "00", "zz" * 136, "00" * 135, "00" * 137])
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(BadStatement, match="line 2: a statement"):
        parse_statements(f"#\n{line}\n")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_statement_or_a_bad_one(data: bytes) -> None:
    """No statement at all is raised for, and nothing else is."""
    with pytest.raises(BadStatement):
        KeyStatement.unpack(data).check()


@given(st.text(max_size=400))
def test_any_text_has_no_statements_or_a_bad_line(text: str) -> None:
    with suppress(BadStatement):
        assert parse_statements(text) == []
