"""Auth_Tag and Seq."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ProtocolError
from asys.protocol.apdu import SEC_SIGNED, Frame, FrameParser, encode_signed, header
from asys.protocol.limits import AUTH_TAG_SIZE, MAX_DATA, SEQ_SIZE
from asys.protocol.signing import MAX_SEQ, Signer, Verifier, epoch_id
from asys.protocol.status import SW

KEY = bytes(range(32))
EPOCH = hmac.digest(KEY, b"asys-epoch-v1", "blake2b")[:4]


def parsed(raw: bytes) -> Frame:
    """The one frame in `raw`."""
    (frame,) = FrameParser().feed(raw)
    return frame


def tagged(seq: int, payload: bytes = b"", *, key: bytes = KEY) -> Frame:
    """A frame with a right tag and whatever Seq is asked for."""
    data = seq.to_bytes(SEQ_SIZE, "big") + payload
    return tagged_data(data, key=key)


def tagged_data(data: bytes, *, key: bytes = KEY) -> Frame:
    """A frame with a right tag for whatever data."""
    head = header(0x20, 0, 0, len(data), sec=SEC_SIGNED)
    tag = hmac.digest(key, head + epoch_id(key) + data, "blake2b")[:AUTH_TAG_SIZE]
    return parsed(encode_signed(head, data, tag))


def test_epoch_id_is_a_cut_of_the_whole_hash() -> None:
    assert epoch_id(KEY) == EPOCH


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=600),
    st.integers(0, MAX_SEQ - 1),
)
def test_what_is_signed(ins: int, p1: int, p2: int, payload: bytes, last: int) -> None:
    signer, verifier = Signer(KEY), Verifier(KEY)
    signer.seq = last
    raw = signer.sign(ins, p1, p2, payload)
    assert signer.seq == last + 1
    frame = parsed(raw)
    seq = (last + 1).to_bytes(4, "big")
    assert (frame.ins, frame.p1, frame.p2, frame.data) == (ins, p1, p2, seq + payload)
    assert bool(frame.cla & 0x02) == (len(payload) > 251)
    covered = raw[: 7 if frame.cla & 0x02 else 5] + EPOCH + seq + payload
    assert frame.tag == hmac.digest(KEY, covered, "blake2b")[:16]
    assert verifier.verify(frame) is None
    assert verifier.last_seq == last + 1


@pytest.mark.parametrize("payload", [b"", b"nginx", bytes(251), bytes(252), bytes(MAX_DATA - 4)])
def test_standard_and_extended_frames_verify(payload: bytes) -> None:
    signer, verifier = Signer(KEY), Verifier(KEY)
    for _ in range(3):
        assert verifier.verify(parsed(signer.sign(0x22, 0, 0, payload))) is None


def test_seq_starts_at_1_and_counts() -> None:
    signer, verifier = Signer(KEY), Verifier(KEY)
    for seq in range(1, 5):
        frame = parsed(signer.sign(0x20, 0, 0, b""))
        assert int.from_bytes(frame.data, "big") == signer.seq == seq
        assert verifier.verify(frame) is None


def test_a_frame_sent_again() -> None:
    verifier = Verifier(KEY)
    assert verifier.verify(tagged(5)) is None
    assert verifier.verify(tagged(5)) == SW.ALREADY_RECEIVED
    assert verifier.verify(tagged(4, b"older")) == SW.ALREADY_RECEIVED
    assert verifier.last_seq == 5
    assert verifier.verify(tagged(6)) is None


def test_gaps_are_allowed() -> None:
    verifier = Verifier(KEY)
    for seq in (1, 2, 10, 1_000_000, MAX_SEQ):
        assert verifier.verify(tagged(seq)) is None
    assert verifier.verify(tagged(MAX_SEQ)) == SW.ALREADY_RECEIVED


def test_seq_0_is_never_valid() -> None:
    verifier = Verifier(KEY)
    assert verifier.verify(tagged(0)) == SW.ALREADY_RECEIVED
    assert verifier.verify(tagged(1)) is None


@pytest.mark.parametrize("bit", range(128))
def test_every_bit_of_the_tag_counts(bit: int) -> None:
    verifier = Verifier(KEY)
    frame = tagged(1)
    wrong = (int.from_bytes(frame.tag, "big") ^ 1 << bit).to_bytes(16, "big")
    assert verifier.verify(frame._replace(tag=wrong)) == SW.DENIED
    assert verifier.last_seq == 0
    assert verifier.verify(frame) is None


@given(st.binary(max_size=40), st.integers(0), st.integers(0, 7))
def test_every_bit_that_the_tag_covers_counts(payload: bytes, position: int, bit: int) -> None:
    raw = bytearray(Signer(KEY).sign(0x20, 1, 2, payload))
    covered = 5 + 4 + len(payload)
    frame = parsed(bytes(raw))
    at = position % covered
    raw[at] ^= 1 << bit
    changed = frame._replace(header=bytes(raw[:5]), data=bytes(raw[5:covered]))
    verifier = Verifier(KEY)
    assert verifier.verify(changed) == SW.DENIED
    assert verifier.last_seq == 0


def test_le_is_not_covered() -> None:
    raw = bytearray(Signer(KEY).sign(0x20, 0, 0, b"abcd"))
    raw[13] = 0x6D
    assert Verifier(KEY).verify(parsed(bytes(raw))) is None


def test_the_tag_is_of_this_session() -> None:
    assert Verifier(KEY).verify(tagged(1, key=bytes(32))) == SW.DENIED


@pytest.mark.parametrize("size", range(SEQ_SIZE))
def test_too_short_for_a_seq_even_with_a_right_tag(size: int) -> None:
    verifier = Verifier(KEY)
    assert verifier.verify(tagged_data(bytes(size))) == SW.DENIED
    assert verifier.last_seq == 0


@pytest.mark.parametrize("tag", [b"", bytes(15), bytes(17)])
def test_a_tag_of_the_wrong_length(tag: bytes) -> None:
    assert Verifier(KEY).verify(tagged(1)._replace(tag=tag)) == SW.DENIED


def test_seq_runs_out() -> None:
    signer = Signer(KEY)
    signer.seq = MAX_SEQ - 1
    last = parsed(signer.sign(0x20, 0, 0, b""))
    assert last.data == b"\xff\xff\xff\xff"
    for _ in range(2):
        with pytest.raises(ProtocolError, match="used up its Seq; reconnect"):
            signer.sign(0x20, 0, 0, b"")
    assert signer.seq == MAX_SEQ


def test_what_cannot_be_framed_uses_no_seq() -> None:
    signer = Signer(KEY)
    with pytest.raises(ValueError, match="at most 65494"):
        signer.sign(0x20, 0, 0, bytes(MAX_DATA - SEQ_SIZE + 1))
    with pytest.raises(ValueError, match="range"):
        signer.sign(0x20, 256, 0, b"")
    assert signer.seq == 0
