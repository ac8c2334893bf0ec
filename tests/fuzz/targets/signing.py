"""Signed frames: what is altered in them is refused, and each Seq passes once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from asys.protocol.apdu import CLA_EXTENDED, CLA_SEC, SEC_ENC_SIGN, Frame, FrameParser
from asys.protocol.limits import AUTH_TAG_SIZE, SEQ_SIZE
from asys.protocol.signing import Signer, Verifier
from asys.protocol.status import SW
from fuzz.choices import Choices, Script

COVERS = ("asys.protocol.signing",)


def one(data: bytes) -> None:
    """An agent's frames arrive as they are, again, altered, or are not the agent's at all."""
    choices = Choices(data)
    # Of each input its own, or a fuzzer would replay frames of an earlier execution.
    key = blake2b(data).digest()[:32]
    signer, verifier = Signer(key), Verifier(key)
    sent: list[tuple[bytes, bytes]] = []
    while choices.left:
        what = choices.below(6)
        last = verifier.last_seq
        if what < 2 or not sent:
            write = signer.seal if what else signer.sign
            ins, p1, p2 = choices.byte(), choices.byte(), choices.byte()
            payload = choices.blob()
            raw = write(ins, p1, p2, payload, more=choices.flag())
            sent.append((raw, payload))
            if choices.byte() & 3 == 3:
                continue  # it gets lost on the way
            frame = _parsed(raw)
            assert verifier.verify(frame) is None
            assert verifier.last_seq == signer.seq > last
            opened = verifier.open(frame)
            assert opened is not None
            assert opened.data[SEQ_SIZE:] == payload
            assert (opened.ins, opened.p1, opened.p2) == (ins, p1, p2)
        elif what == 2:
            raw, _ = choices.pick(sent)
            frame = _parsed(raw)
            seq = int.from_bytes(frame.data[:SEQ_SIZE], "big")
            assert verifier.verify(frame) is (SW.ALREADY_RECEIVED if seq <= last else None)
            assert verifier.last_seq == max(seq, last)
        elif what == 3:
            raw, _ = choices.pick(sent)
            at = choices.u16() % len(raw)
            altered = raw[:at] + bytes((raw[at] ^ (choices.byte() or 1),)) + raw[at + 1 :]
            _altered(verifier, raw, altered)
        elif what == 4:
            key = key[1:] + key[:1]
            signer.rekey(key)
            verifier.rekey(key)
            sent.clear()
        else:
            for frame in FrameParser().feed(choices.blob()):
                if frame.cla & CLA_SEC:
                    assert verifier.verify(frame) is SW.DENIED
            assert verifier.last_seq == last


def _parsed(raw: bytes) -> Frame:
    [frame] = FrameParser().feed(raw)
    return frame


def _altered(verifier: Verifier, raw: bytes, altered: bytes) -> None:
    """One byte of a frame is another: DENIED, unless it is Le, which nothing covers."""
    last = verifier.last_seq
    le = 2 if raw[0] & CLA_EXTENDED else 1
    covered = raw[: len(raw) - AUTH_TAG_SIZE - le] + raw[-AUTH_TAG_SIZE:]
    same = altered[: len(raw) - AUTH_TAG_SIZE - le] + altered[-AUTH_TAG_SIZE:] == covered
    for frame in FrameParser().feed(altered):
        if not frame.cla & CLA_SEC:
            continue
        verdict = verifier.verify(frame)
        if not same:
            assert verdict is SW.DENIED
            assert verifier.last_seq == last
            if frame.cla & CLA_SEC == SEC_ENC_SIGN:
                assert verifier.open(frame) is None or frame.data == _parsed(raw).data


def seeds() -> Iterator[bytes]:
    """Frames signed and sealed, short and long; sent again, lost, altered, forged."""
    for kind in (0, 1):
        for size in (0, 4, 300):
            first = Script().byte(kind, 0x20, 1, 2).blob(bytes(size)).byte(0, 0)
            yield bytes(first)
            yield bytes(first) + b"\2\0"
            yield bytes(first) + b"\3\0\0\6\1"
            yield bytes(first) + b"\4" + bytes(first)
    lost = Script().byte(0, 0x22, 0, 0).blob(b"nginx").byte(1, 3)
    yield bytes(lost) * 2 + b"\2\0\2\1\2\0"
    forged = b"\4\x20\0\0\x08\0\0\0\1\0\0\0\7\0" + bytes(16)
    yield bytes(Script().byte(0, 0, 0, 0).blob(b"").byte(0, 0).byte(5).blob(forged))
