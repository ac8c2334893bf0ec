"""However a payload is cut into fragments and records, the same payload arrives."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asys.protocol.apdu import CLA_MORE, CLA_SEC, FrameParser, encode_plain
from asys.protocol.limits import MAX_DATA, MAX_FRAGMENT, SEQ_SIZE
from asys.protocol.signing import Signer, Verifier

KEY = bytes(range(32))
INS, CONTINUE = 0xC0, 0x10
HANDLE = bytes.fromhex("0005c0de")

cuts = st.lists(st.integers(0, 2000), max_size=8)


def cut(payload: bytes, places: list[int]) -> list[bytes]:
    """A payload in pieces, some of which may be empty."""
    at = [0, *sorted(min(place, len(payload)) for place in places), len(payload)]
    return [payload[start:stop] for start, stop in pairwise(at)]


@given(
    payload=st.binary(max_size=2000),
    places=cuts,
    records=cuts,
    way=st.sampled_from(["plain", "sign", "seal"]),
)
def test_any_split_is_the_same_payload(
    payload: bytes, places: list[int], records: list[int], way: str
) -> None:
    signer, verifier, parser = Signer(KEY), Verifier(KEY), FrameParser()
    pieces = cut(payload, places)
    sent = b""
    for index, piece in enumerate(pieces):
        more = index < len(pieces) - 1
        ins, data = (CONTINUE, HANDLE + piece) if index else (INS, piece)
        if way == "plain":
            sent += encode_plain(ins, 0, 0, data, more=more)
        else:
            make = signer.sign if way == "sign" else signer.seal
            sent += make(ins, 0, 0, data, more=more)
    joined = b""
    count = 0
    for record in cut(sent, records):
        for frame in parser.feed(record):
            if frame.cla & CLA_SEC:
                assert verifier.verify(frame) is None
                opened = verifier.open(frame)
                assert opened is not None
                frame = opened._replace(data=opened.data[SEQ_SIZE:])
            assert bool(frame.cla & CLA_MORE) is (count < len(pieces) - 1)
            assert frame.ins == (CONTINUE if count else INS)
            joined += frame.data[len(HANDLE) :] if count else frame.data
            count += 1
    assert parser.error is None
    assert (count, joined) == (len(pieces), payload)


@given(more=st.booleans())
def test_the_tag_covers_m(more: bool) -> None:
    frame = Signer(KEY).sign(INS, 0, 0, b"part", more=more)
    turned = bytes((frame[0] ^ CLA_MORE,)) + frame[1:]
    [parsed] = FrameParser().feed(turned)
    assert Verifier(KEY).verify(parsed) is not None


def test_the_longest_fragment_fills_a_frame() -> None:
    frame = encode_plain(CONTINUE, data=HANDLE + bytes(MAX_FRAGMENT))
    [parsed] = FrameParser().feed(frame)
    assert len(parsed.data) == MAX_DATA
