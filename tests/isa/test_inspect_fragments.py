"""Long frames and fragments for the eye."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.isa.inspect import FAULT, describe_request
from asys.protocol.apdu import encode_plain
from asys.protocol.signing import Signer
from support.chained import CHAINED, SEALED, declared

SIGNER = Signer(bytes(32))


@pytest.fixture(autouse=True)
def chainable() -> Iterator[None]:
    with declared():
        yield


def said(frame: bytes) -> dict[str, str]:
    """What each part says; all bytes of the frame stand in one."""
    parts = describe_request(frame)
    assert b"".join(part.raw for part in parts) == frame
    return {part.name: part.meaning for part in parts}


def test_a_signed_extended_frame() -> None:
    found = said(SIGNER.sign(CHAINED.code, 1, 2, bytes(300)))
    assert found["CLA"] == "version 0, signed, extended"
    assert found["placeholder"] == "an extended length follows"
    assert found["Lc"] == "304 bytes of data"
    assert found["body"] == "300 bytes: any bytes"
    assert found["Auth_Tag"].startswith("not verified")
    assert FAULT not in found


def test_a_first_fragment_is_not_taken_for_the_whole() -> None:
    for frame, name in (
        (SIGNER.sign(CHAINED.code, 1, 2, b"", more=True), "Seq"),
        (SIGNER.sign(CHAINED.code, 1, 2, b"part", more=True), "payload"),
        (SIGNER.seal(SEALED.code, 1, 2, b"part", more=True), "sealed payload"),
    ):
        found = said(frame)
        assert "more fragments follow" in found["CLA"]
        assert name in found
        assert FAULT not in found
    assert said(SIGNER.sign(CHAINED.code, 1, 2, b"part", more=True))["payload"] == (
        "its first fragment"
    )


def test_a_further_fragment() -> None:
    handle = bytes.fromhex("00057bb0")
    for more in (True, False):
        found = said(SIGNER.sign(0x10, 0, 0, handle + bytes(300), more=more))
        assert found["INS"] == "CONTINUE"
        assert found["handle"].startswith("00057BB0 (session 0005, number 7BB0): chain handle")
        assert found["fragment"] == "300 bytes: the next part of the payload"
        assert FAULT not in found
    assert FAULT not in said(SIGNER.seal(0x10, 0, 0, handle, more=True))
    assert said(encode_plain(0x10, data=handle[:3], more=True))[FAULT].startswith("6700 ")


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (SIGNER.sign(0x20, 0, 0, bytes(4), more=True), "6700 "),
        (SIGNER.seal(0x20, 0, 0, bytes(4), more=True), "6700 "),
        (encode_plain(CHAINED.code, data=b"part", more=True), "6982 "),
        (SIGNER.sign(SEALED.code, 0, 0, b"part", more=True), "6982 "),
        (encode_plain(0x01, more=True), "6700 "),
    ],
)
def test_what_a_node_would_refuse(frame: bytes, fault: str) -> None:
    assert said(frame)[FAULT].startswith(fault)
