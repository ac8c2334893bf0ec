"""Enc+Sign: what a sealed frame is, worked out here without any code of the package."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from asys.conformance.vectors import load as load_vectors
from asys.errors import ProtocolError
from asys.protocol.apdu import Frame, FrameParser
from asys.protocol.limits import MAX_DATA
from asys.protocol.signing import MAX_SEQ, Signer, Verifier, encryption_key, epoch_id
from asys.protocol.status import SW

KEY = bytes(range(32))
OTHER_KEY = bytes(range(100, 132))
VECTORS: dict[str, Any] = load_vectors("sealed.json")
LARGEST = 65_474
"""The most that a sealed payload has: docs/protocol.md, section 3.3."""

octets = st.integers(0, 255)


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC over BLAKE2b in long hand: a block of 128 bytes, two passes (RFC 2104)."""
    block = key.ljust(128, b"\0")
    inner = hashlib.blake2b(bytes(octet ^ 0x36 for octet in block) + data).digest()
    return hashlib.blake2b(bytes(octet ^ 0x5C for octet in block) + inner).digest()


def tagged(key: bytes, head: bytes, data: bytes) -> bytes:
    """A frame of whatever data, with a right tag."""
    tag = mac(key, head + mac(key, b"asys-epoch-v1")[:4] + data)[:16]
    return head + data + bytes(2 if head[0] & 2 else 1) + tag


def ciphertext(key: bytes, head: bytes, seq: int, payload: bytes) -> bytes:
    """C of section 3.3."""
    epoch = mac(key, b"asys-epoch-v1")[:4]
    nonce = bytes(4) + seq.to_bytes(8, "little")
    cipher = ChaCha20Poly1305(mac(key, b"asys-enc-v1")[:32])
    return cipher.encrypt(nonce, payload, head + epoch + seq.to_bytes(4, "big"))


def header(ins: int, p1: int, p2: int, size: int, *, extended: bool = False) -> bytes:
    """CLA through the length field for `size` bytes of payload."""
    length = 4 + size + 16
    if length > 255 or extended:
        return bytes((0x0A, ins, p1, p2, 0)) + length.to_bytes(2, "big")
    return bytes((0x08, ins, p1, p2, length))


def sealed(
    seq: int,
    payload: bytes = b"",
    *,
    key: bytes = KEY,
    ins: int = 0x60,
    p1: int = 0,
    p2: int = 0,
    extended: bool = False,
) -> bytes:
    """An Enc+Sign frame as section 3.3 says it."""
    head = header(ins, p1, p2, len(payload), extended=extended)
    return tagged(key, head, seq.to_bytes(4, "big") + ciphertext(key, head, seq, payload))


def parsed(raw: bytes) -> Frame:
    (frame,) = FrameParser().feed(raw)
    return frame


def received(verifier: Verifier, raw: bytes) -> bytes | SW | None:
    """What becomes of a frame: its payload in clear, the refusal, or None: C does not open."""
    frame = parsed(raw)
    refused = verifier.verify(frame)
    if refused is not None:
        return refused
    opened = verifier.open(frame)
    if opened is None:
        return None
    assert opened[:4] == frame[:4]
    assert opened.data[:4] == frame.data[:4]
    return opened.data[4:]


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda one: one["what"])
def test_frames_pinned_for_ever(vector: dict[str, Any]) -> None:
    key, payload, raw = (bytes.fromhex(vector[name]) for name in ("key", "payload", "frame"))
    seq, (_, ins, p1, p2) = vector["seq"], raw[:4]
    assert mac(key, b"asys-epoch-v1")[:4].hex() == vector["epoch_id"] == epoch_id(key).hex()
    assert encryption_key(key).hex() == vector["encryption_key"]
    extended = bool(raw[0] & 2)
    assert sealed(seq, payload, key=key, ins=ins, p1=p1, p2=p2, extended=extended) == raw
    if extended == (len(payload) > 235):
        signer = Signer(key)
        signer.seq = seq - 1
        assert signer.seal(ins, p1, p2, payload) == raw
    assert received(Verifier(key), raw) == payload


def test_the_key_of_payloads() -> None:
    assert encryption_key(KEY) == mac(KEY, b"asys-enc-v1")[:32]
    assert encryption_key(KEY) == hmac.new(KEY, b"asys-enc-v1", "blake2b").digest()[:32]
    assert len(encryption_key(KEY)) == 32


@given(octets, octets, octets, st.binary(max_size=600), st.integers(0, MAX_SEQ - 1))
def test_what_is_sealed(ins: int, p1: int, p2: int, payload: bytes, last: int) -> None:
    signer = Signer(KEY)
    signer.seq = last
    raw = signer.seal(ins, p1, p2, payload)
    assert signer.seq == last + 1
    assert raw == sealed(last + 1, payload, ins=ins, p1=p1, p2=p2)
    assert received(Verifier(KEY), raw) == payload


@pytest.mark.parametrize("size", [0, 1, 235, 236, 1000, LARGEST])
def test_sizes(size: int) -> None:
    """Nothing; the most of a standard frame and one more; the most of all."""
    payload = bytes(at & 0xFF for at in range(size))
    raw = Signer(KEY).seal(0x62, 1, 2, payload)
    assert raw == sealed(1, payload, ins=0x62, p1=1, p2=2)
    assert bool(raw[0] & 2) == (size > 235)
    assert received(Verifier(KEY), raw) == payload


def test_more_than_a_frame_carries_uses_no_seq() -> None:
    signer = Signer(KEY)
    with pytest.raises(ValueError, match=f"{MAX_DATA + 1} bytes of data; a frame carries at most"):
        signer.seal(0x60, 0, 0, bytes(LARGEST + 1))
    with pytest.raises(ValueError, match="range"):
        signer.seal(0x60, 0, 256, b"")
    assert signer.seq == 0


@pytest.mark.parametrize("size", [0, 5, 235])
def test_an_extended_frame_where_a_standard_one_would_do(size: int) -> None:
    payload = b"x" * size
    raw = sealed(1, payload, extended=True)
    assert raw != sealed(1, payload)
    assert received(Verifier(KEY), raw) == payload


def test_le_is_covered_by_nothing() -> None:
    raw = bytearray(sealed(1, b"abc"))
    raw[-17] = 0x77
    assert received(Verifier(KEY), bytes(raw)) == b"abc"


@pytest.mark.parametrize("extended", [False, True])
def test_every_single_bit_counts(extended: bool) -> None:
    """But those of Le. A flip that changes the length gives a stream that never yields a frame."""
    raw = sealed(3, b"a payload", p1=1, extended=extended)
    le = set(range(len(raw) - 18, len(raw) - 16) if extended else [len(raw) - 17])
    assert received(Verifier(KEY), raw) == b"a payload"
    for at in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[at] ^= 1 << bit
            verifier = Verifier(KEY)
            frames = FrameParser().feed(bytes(changed))
            if at in le:
                assert verifier.verify(frames[0]) is None
                continue
            for frame in frames:
                if frame.tag:
                    assert verifier.verify(frame) == SW.DENIED
                else:  # the bits of Sec are gone: a plain frame, which proves nothing to anybody
                    assert at == 0
            assert verifier.last_seq == 0


@given(st.binary(max_size=40), st.integers(0), st.integers(0, 7))
def test_every_bit_of_the_ciphertext_counts_by_itself(payload: bytes, at: int, bit: int) -> None:
    """With the tag made anew by somebody who has K, C still does not open."""
    head = header(0x60, 0, 0, len(payload))
    inside = bytearray(ciphertext(KEY, head, 1, payload))
    inside[at % len(inside)] ^= 1 << bit
    raw = tagged(KEY, head, (1).to_bytes(4, "big") + bytes(inside))
    verifier = Verifier(KEY)
    assert received(verifier, raw) is None
    assert verifier.last_seq == 1


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("another instruction", lambda head: bytes((head[0], 0x61, *head[2:]))),
        ("another P1", lambda head: bytes((*head[:2], 1, *head[3:]))),
        ("another P2", lambda head: bytes((*head[:3], 1, *head[4:]))),
        ("more fragments", lambda head: bytes((head[0] | 0x10, *head[1:]))),
        ("extended", lambda head: bytes((head[0] | 2, *head[1:4], 0, 0, head[4]))),
    ],
)
def test_the_ciphertext_belongs_to_its_header(what: str, change: Callable[[bytes], bytes]) -> None:
    head = header(0x60, 0, 0, 3)
    inside = ciphertext(KEY, head, 1, b"abc")
    assert received(Verifier(KEY), tagged(KEY, head, b"\0\0\0\1" + inside)) == b"abc"
    moved = tagged(KEY, change(head), b"\0\0\0\1" + inside)
    assert received(Verifier(KEY), moved) is None, what


def test_the_ciphertext_belongs_to_its_seq() -> None:
    head = header(0x60, 0, 0, 3)
    inside = ciphertext(KEY, head, 1, b"abc")
    assert received(Verifier(KEY), tagged(KEY, head, b"\0\0\0\2" + inside)) is None


def test_the_nonce_is_little_endian_and_the_seq_big_endian() -> None:
    """Somebody who takes one order for both is not understood from the second frame on."""
    head = header(0x60, 0, 0, 3)
    seq = (2).to_bytes(4, "big")
    epoch = mac(KEY, b"asys-epoch-v1")[:4]
    cipher = ChaCha20Poly1305(mac(KEY, b"asys-enc-v1")[:32])
    swapped = cipher.encrypt(bytes(4) + (2).to_bytes(8, "big"), b"abc", head + epoch + seq)
    assert received(Verifier(KEY), tagged(KEY, head, seq + swapped)) is None
    assert received(Verifier(KEY), sealed(2, b"abc")) == b"abc"


def test_order_the_tag_before_seq_before_the_ciphertext() -> None:
    head = header(0x60, 0, 0, 3)
    garbage = bytes(19)
    verifier = Verifier(KEY)
    assert received(verifier, sealed(5, b"abc")) == b"abc"
    wrong = bytearray(tagged(KEY, head, (5).to_bytes(4, "big") + garbage))
    wrong[-1] ^= 1
    assert received(verifier, bytes(wrong)) == SW.DENIED
    for old in (0, 1, 5):
        raw = tagged(KEY, head, old.to_bytes(4, "big") + garbage)
        assert received(verifier, raw) == SW.ALREADY_RECEIVED
    assert verifier.last_seq == 5
    assert received(verifier, tagged(KEY, head, (6).to_bytes(4, "big") + garbage)) is None
    assert verifier.last_seq == 6
    assert received(verifier, sealed(6, b"abc")) == SW.ALREADY_RECEIVED
    assert received(verifier, sealed(7, b"abc")) == b"abc"


@pytest.mark.parametrize("size", range(16))
def test_a_ciphertext_shorter_than_its_own_tag(size: int) -> None:
    raw = tagged(KEY, bytes((0x08, 0x60, 0, 0, 4 + size)), b"\0\0\0\1" + bytes(size))
    assert received(Verifier(KEY), raw) is None


@pytest.mark.parametrize("size", range(4))
def test_too_short_for_a_seq(size: int) -> None:
    raw = tagged(KEY, bytes((0x08, 0x60, 0, 0, size)), bytes(size))
    assert received(Verifier(KEY), raw) == SW.DENIED


def test_signed_and_sealed_frames_share_one_seq() -> None:
    signer, verifier = Signer(KEY), Verifier(KEY)
    for seq in range(1, 9):
        make = signer.seal if seq % 2 else signer.sign
        raw = make(0x20, 0, 0, b"abcd")
        frame = parsed(raw)
        assert int.from_bytes(frame.data[:4], "big") == signer.seq == seq
        assert received(verifier, raw) == b"abcd"
        assert received(verifier, raw) == SW.ALREADY_RECEIVED
    assert received(verifier, sealed(8, b"abcd")) == SW.ALREADY_RECEIVED
    assert received(verifier, sealed(100, b"abcd")) == b"abcd"
    signer.seq = 99
    assert received(verifier, signer.sign(0x20, 0, 0, b"abcd")) == SW.ALREADY_RECEIVED


def test_no_seq_is_sealed_twice() -> None:
    signer = Signer(KEY)
    signer.seq = MAX_SEQ - 1
    assert received(Verifier(KEY), signer.seal(0x60, 0, 0, b"last")) == b"last"
    for _ in range(2):
        with pytest.raises(ProtocolError, match="used up its Seq; reconnect"):
            signer.seal(0x60, 0, 0, b"one more")
    assert signer.seq == MAX_SEQ


@pytest.mark.parametrize("cla", [0x00, 0x04, 0x06, 0x14])
def test_a_frame_that_is_not_sealed_is_opened_as_it_is(cla: int) -> None:
    frame = Frame(cla, 0x20, 0, 0, b"\0\0\0\1abcd", bytes((cla, 0x20, 0, 0, 8)), bytes(16))
    assert Verifier(KEY).open(frame) is frame


def test_a_sealed_payload_is_of_this_session() -> None:
    head = header(0x60, 0, 0, 3)
    foreign = ciphertext(OTHER_KEY, head, 1, b"abc")
    assert received(Verifier(KEY), sealed(1, b"abc", key=OTHER_KEY)) == SW.DENIED
    assert received(Verifier(KEY), tagged(KEY, head, b"\0\0\0\1" + foreign)) is None


@given(st.binary(max_size=80))
def test_equal_payloads_do_not_look_equal(payload: bytes) -> None:
    signer = Signer(KEY)
    first, second = (parsed(signer.seal(0x60, 0, 0, payload)).data[4:] for _ in range(2))
    assert first != second
    assert len(first) == len(second) == len(payload) + 16
    if len(payload) > 3:
        assert payload not in first


@given(st.lists(st.tuples(st.sampled_from(["sign", "seal", "rekey"]), st.binary(max_size=9))))
def test_rekey_derives_everything_anew_and_seq_goes_on(steps: list[tuple[str, bytes]]) -> None:
    signer, verifier = Signer(KEY), Verifier(KEY)
    key, seq = KEY, 0
    for step, payload in steps:
        if step == "rekey":
            old_tag = signer.sign(0x60, 0, 0, b"old")
            seq += 1
            key = hashlib.blake2b(key + payload, digest_size=32).digest()
            signer.rekey(key)
            verifier.rekey(key)
            assert received(verifier, old_tag) == SW.DENIED
            continue
        seq += 1
        raw = (signer.sign if step == "sign" else signer.seal)(0x60, 0, 0, payload)
        if step == "seal":
            assert raw == sealed(seq, payload, key=key)
        else:
            head = bytes((0x04, 0x60, 0, 0, 4 + len(payload)))
            assert raw == tagged(key, head, seq.to_bytes(4, "big") + payload)
        assert received(verifier, raw) == payload
        assert verifier.last_seq == signer.seq == seq


def test_nothing_of_the_old_key_is_left_after_rekey() -> None:
    """Both derived values are made anew even when they had been used before."""
    verifier = Verifier(KEY)
    assert received(verifier, sealed(1, b"abc")) == b"abc"
    verifier.rekey(OTHER_KEY)
    assert received(verifier, sealed(2, b"abc")) == SW.DENIED
    assert received(verifier, sealed(1, b"abc", key=OTHER_KEY)) == SW.ALREADY_RECEIVED
    head = header(0x60, 0, 0, 3)
    old_inside = ciphertext(KEY, head, 2, b"abc")
    assert received(verifier, tagged(OTHER_KEY, head, b"\0\0\0\2" + old_inside)) is None
    assert received(verifier, sealed(3, b"abc", key=OTHER_KEY)) == b"abc"
