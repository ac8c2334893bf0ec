"""What a vendor may declare."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from asys.isa import Mode
from asys.vendor import (
    Empty,
    Guide,
    Instruction,
    Layout,
    Level,
    Risk,
    Vendor,
    VendorError,
    id_of_domain,
    layout,
    raw,
    u32,
)
from asys.vendor.definition import MAX_BODY, MAX_JOINED_BODY, MAX_REPLY, check_id, same_id

GUIDE = Guide("For tests.", "In a test.", "Else.", "None.", "Nothing to undo.", Risk.LOW)


@layout
class Number(Layout):
    """Four bytes."""

    number: Annotated[int, u32("a number")]


NOTHING: Any = "DOUBLE"


def bytes_of(size: int) -> type[Layout]:
    """A layout of so many bytes."""

    class Bytes(Layout):
        data: Annotated[bytes, raw("bytes", size)]

    Bytes.__annotations__ = {"data": Annotated[bytes, raw("bytes", size)]}
    return layout(Bytes)


def instruction(
    code: int = 0xC0,
    name: str = "DOUBLE",
    *,
    request: type[Layout] = Number,
    reply: type[Layout] = Number,
    level: Level = Level.SIGNED,
    mode: Mode = Mode.SYNC,
    chainable: bool = False,
) -> Instruction[..., Layout]:
    """One that can stand in a vendor."""
    return Instruction(
        code,
        name,
        request=request,
        reply=reply,
        guide=GUIDE,
        level=level,
        mode=mode,
        chainable=chainable,
    )


def vendor(
    *instructions: Instruction[..., Layout],
    domain: str = "example.com",
    title: str = "Example",
    handlers: str = "example.handlers",
    vendor_id: int | None = None,
) -> Vendor:
    """A vendor, with one instruction where none are given."""
    return Vendor(domain, title, instructions or (instruction(),), handlers, vendor_id)


def test_a_vendor_and_what_it_has() -> None:
    first, second = instruction(0xC0, "BACKUP_START"), instruction(0xFF, "BACKUP_END", reply=Empty)
    made = vendor(first, second, domain="DB.Example.COM.")
    assert made.domain == "db.example.com"
    assert made.bits == 1 << 0xC0 | 1 << 0xFF
    assert (made.get(0xC0), made.get(0xC1)) == (first, None)
    assert (made.named("backup-end"), made.named("backup")) == (second, None)
    assert repr(made) == f"<Vendor {made.id:08X} db.example.com>"


def test_the_id_follows_from_the_domain() -> None:
    """CRC-32 as zip has it, worked out by hand bit by bit, with bit 16 set."""
    crc = 0xFFFF_FFFF
    for byte in b"example.com":
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB8_8320 if crc & 1 else 0)
    expected = (crc ^ 0xFFFF_FFFF) | 0x0001_0000
    assert expected == 0xB6FB_4EB9
    for written in ("example.com", "EXAMPLE.com", "example.com."):
        assert id_of_domain(written) == expected
        assert vendor(domain=written).id == expected


@pytest.mark.parametrize("vendor_id", [0, 0x17, 0x3FF, 0x400, 0xFFFF])
def test_ids_that_are_given_out(vendor_id: int) -> None:
    assert vendor(vendor_id=vendor_id).id == vendor_id


@pytest.mark.parametrize("vendor_id", [-1, 0x10000, 0xFFFF_FFFF, 1 << 32, True])
def test_ids_that_are_not(vendor_id: int) -> None:
    with pytest.raises(VendorError, match=r"example\.com"):
        vendor(vendor_id=vendor_id)


def test_its_own_derived_id_may_be_written_down() -> None:
    check_id("example.com", id_of_domain("example.com"))
    assert vendor(vendor_id=0xB6FB_4EB9).id == vendor().id


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: vendor(domain="localhost"), "no domain name"),
        (lambda: vendor(domain="a..b"), "no domain name"),
        (lambda: vendor(domain="-a.example"), "no domain name"),
        (lambda: vendor(domain="a" * 64 + ".example"), "no domain name"),
        (lambda: vendor(domain=("a" * 60 + ".") * 5 + "example"), "no domain name"),
        (lambda: vendor(domain="\u212aelvin.example"), "no domain name"),
        (lambda: vendor(title=""), "title"),
        (lambda: vendor(title="a\nb"), "title"),
        (lambda: vendor(title="a" * 81), "title"),
        (lambda: vendor(handlers="a b"), "no module's name"),
        (lambda: vendor(handlers=""), "no module's name"),
        (lambda: Vendor("example.com", "Example", (), "a"), "declares no instruction"),
        (lambda: vendor(instruction(0x20)), "outside of C0 to FF"),
        (lambda: vendor(instruction(0xBF)), "outside of C0 to FF"),
        (lambda: vendor(instruction(name="double")), "has a name"),
        (lambda: vendor(instruction(name="A__B")), "has a name"),
        (lambda: vendor(instruction(name="A" * 49)), "has a name"),
        (lambda: vendor(instruction(name="SYS_HELLO")), "name of a standard instruction"),
        (lambda: vendor(instruction(level=Level.PLAIN)), "must be at least signed"),
        (lambda: vendor(instruction(mode=Mode.ASYNC)), "must be synchronous"),
        (lambda: vendor(instruction(), instruction(name="OTHER")), "have the code C0"),
        (lambda: vendor(instruction(), instruction(0xC1)), "two instructions are called DOUBLE"),
        (lambda: vendor(instruction(request=bytes_of(MAX_BODY + 1))), "16384 are the most"),
        (
            lambda: vendor(instruction(request=bytes_of(MAX_JOINED_BODY + 1), chainable=True)),
            "262140 are the most",
        ),
        (lambda: vendor(instruction(reply=bytes_of(MAX_REPLY + 1))), "go in one message"),
        (lambda: vendor(NOTHING), "is no asys.isa.Instruction"),
    ],
)
def test_what_cannot_be(wrong: object, why: str) -> None:
    assert callable(wrong)
    with pytest.raises(VendorError, match=why):
        wrong()


def test_the_largest_that_can() -> None:
    vendor(
        instruction(0xC0, "A", request=bytes_of(MAX_BODY), reply=bytes_of(MAX_REPLY)),
        instruction(0xC1, "B", request=bytes_of(MAX_JOINED_BODY), chainable=True),
        instruction(0xC2, "C", level=Level.ENC_SIGN),
    )


def test_two_with_one_id_are_both_named() -> None:
    said = same_id("a.example", "b.example", 0x17)
    assert "a.example and b.example have the same id 00000017; b.example is left out" in said
