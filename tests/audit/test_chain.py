"""The chain and its keys: values that somebody else can compute, and keys that roll forward."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from asys.audit.chain import (
    GENESIS,
    Chain,
    CheckpointKeys,
    format_anchor,
    header,
    is_signed,
    parse_anchor,
    public_of,
)
from asys.audit.entries import MAX_RUN, Checkpoint, CleanEnd, Gap, parse
from asys.audit.records import EntryType

SEED = bytes(range(32))


def checkpoint_in(data: bytes) -> Checkpoint:
    """The checkpoint that is all of `data`."""
    assert data[0] == EntryType.CHECKPOINT
    assert int.from_bytes(data[1:3], "big") == len(data) - 3
    entry = parse(data[0], data[3:])
    assert isinstance(entry, Checkpoint)
    return entry


def test_a_head_byte_by_byte() -> None:
    assert header(7, b"\x55" * 32) == b"ASAU" + b"\x01" + b"\0\0\0\x07" + b"\x55" * 32


def test_an_entry_and_its_chain_value_by_hand() -> None:
    chain = Chain()
    framed = chain.add(Gap(1, 2, 3))
    body = struct.pack(">QQQ", 1, 2, 3)
    assert framed == b"\x03\x00\x18" + body
    assert chain.h == hashlib.blake2b(GENESIS + b"\x03" + b"\x00\x18" + body).digest()[:32]
    assert chain.entries == 1
    first = chain.h
    chain.add(CleanEnd(9))
    assert chain.h == hashlib.blake2b(first + b"\x06\x00\x08" + bytes(7) + b"\x09").digest()[:32]
    assert chain.anchor == f"2:{chain.h.hex()}"


def test_a_segment_goes_on_from_the_chain_value() -> None:
    chain = Chain()
    assert chain.begin_segment() == header(1, GENESIS)
    chain.add(CleanEnd(1))
    assert chain.begin_segment() == header(2, chain.h)
    with pytest.raises(OverflowError):
        Chain(segment=2**32 - 1).begin_segment()


def test_records_become_as_few_runs_as_they_fit() -> None:
    one, other = Chain(), Chain()
    packed = b"".join(bytes(20) + n.to_bytes(4, "big") for n in range(MAX_RUN + 2))
    data = one.add_records(5, packed)
    assert one.entries == 2
    first = struct.pack(">I", 5) + packed[: 24 * MAX_RUN]
    second = struct.pack(">I", 5) + packed[24 * MAX_RUN :]
    assert data == other.add_body(1, first) + other.add_body(1, second)
    assert one.h == other.h
    assert one.add_records(5, b"") == b""


@pytest.mark.parametrize(("session", "packed"), [(1, bytes(23)), (-1, bytes(24)), (2**32, b"")])
def test_records_that_are_none_change_nothing(session: int, packed: bytes) -> None:
    chain = Chain()
    with pytest.raises(ValueError, match="24 bytes"):
        chain.add_records(session, packed)
    assert (chain.h, chain.entries) == (GENESIS, 0)


def test_a_body_too_long_changes_nothing() -> None:
    chain = Chain()
    with pytest.raises(ValueError, match="65536 bytes"):
        chain.add_body(4, bytes(65_536))
    assert (chain.h, chain.entries) == (GENESIS, 0)


def test_session_numbers_are_never_given_twice() -> None:
    chain = Chain()
    numbers = []
    for _ in range(5):
        numbers.append(chain.session_number())
        chain.add(CleanEnd(1))
    assert len(set(numbers)) == 5
    assert Chain(entries=2**32 + 7).session_number() == 7


def test_a_checkpoint_is_signed_over_what_the_format_says() -> None:
    keys = CheckpointKeys(SEED)
    public = keys.public
    chain = Chain(segment=3)
    chain.add(CleanEnd(1))
    before = chain.h
    entry = checkpoint_in(chain.checkpoint(keys, 77))
    assert (entry.entries, entry.h, entry.time_ns) == (1, before, 77)
    signed = b"asys-audit-v1" + struct.pack(">IQ", 3, 1) + before + struct.pack(">Q", 77)
    key = Ed25519PublicKey.from_public_bytes(public)
    key.verify(entry.signature, signed + entry.next_key)
    with pytest.raises(InvalidSignature):
        key.verify(entry.signature, signed + bytes(32))
    assert is_signed(entry, 3, public)
    assert not is_signed(entry, 4, public)
    assert not is_signed(entry, 3, entry.next_key)
    assert not is_signed(entry, 3, b"no key")


def test_keys_roll_forward_and_forget() -> None:
    keys = CheckpointKeys(SEED, bytes(32))
    assert (keys.private, keys.following) == (SEED, bytes(32))
    assert keys.public == public_of(SEED)
    chain = Chain()
    first = checkpoint_in(chain.checkpoint(keys, 1))
    assert first.next_key == keys.public == public_of(bytes(32))
    assert keys.private == bytes(32)
    assert keys.following not in (SEED, bytes(32))
    named = public_of(keys.following)
    second = checkpoint_in(chain.checkpoint(keys, 2))
    assert second.next_key == named
    assert is_signed(second, 0, first.next_key)
    assert not is_signed(second, 0, public_of(SEED))


def test_a_clean_end_is_covered_by_its_checkpoint() -> None:
    keys, chain = CheckpointKeys.generate(), Chain()
    data = chain.clean_end(keys, 5)
    assert data[:11] == b"\x06\x00\x08" + bytes(7) + b"\x05"
    assert checkpoint_in(data[11:]).entries == 1
    assert chain.entries == 2


def test_keys_show_nothing_of_themselves() -> None:
    keys = CheckpointKeys(SEED, bytes(32))
    assert SEED.hex() not in repr(keys)
    assert "\\x01" not in repr(keys)
    with pytest.raises(ValueError, match="32"):
        CheckpointKeys(b"short")


def test_anchors_go_there_and_back() -> None:
    assert parse_anchor(format_anchor(12, SEED)) == (12, SEED)
    assert parse_anchor(f" 12:{SEED.hex().upper()}\n") == (12, SEED)


@pytest.mark.parametrize(
    "text",
    ["", "12", "12:", f":{'0' * 64}", f"-1:{'0' * 64}", f"1:{'0' * 63}", f"1:{'g' * 64}", "²:0"],
)
def test_what_is_no_anchor(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        parse_anchor(text)
