"""Capability maps: sets, names, codes, and back into words and bytes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.errors import ArgumentError
from asys.isa import REGISTRY, CapabilityMap
from asys.isa.capmap import (
    ALL,
    CORE,
    MAP_SIZE,
    SETS,
    CapabilityError,
    bits,
    code_of,
    describe,
    from_wire,
    parse_caps,
    to_wire,
    words,
)

MAPS = st.one_of(
    st.integers(0, 2**256 - 1),
    st.sets(st.integers(0, 255)).map(bits),
    st.sets(st.sampled_from(sorted(SETS))).map(
        lambda names: bits(code for name in names for code in range(256) if SETS[name] >> code & 1)
    ),
)


def codes(lit: int) -> set[int]:
    return {code for code in range(256) if lit >> code & 1}


def test_the_sets_of_the_protocol() -> None:
    """As docs/protocol.md 8.1 has them."""
    assert codes(CORE) == {0x00, 0x01, 0x02, 0x03, 0x11, 0x13}
    assert codes(ALL) == set(range(0x90)) - {0x60, 0x61, 0x62}
    groups = ["process", "network", "diagnostics", "storage", "security", "runtime", "hardware"]
    for group, name in enumerate(groups, 2):
        assert codes(parse_caps(name)) == set(range(group << 4, (group << 4) + 16))
    assert codes(parse_caps("vendor")) == set(range(0xC0, 0x100))
    assert set(SETS) == {"core", "all", "vendor", *groups}


@pytest.mark.parametrize(
    ("written", "lit"),
    [
        ("SYS_HELLO", {1}),
        ("sys_hello", {1}),
        ("sys-hello,SYS_CAPS", {0, 1}),
        ("00,9f,FF,Ab", {0x00, 0x9F, 0xAB, 0xFF}),
        ("core,core,20", codes(CORE) | {0x20}),
    ],
)
def test_words(written: str, lit: set[int]) -> None:
    assert codes(parse_caps(written)) == lit


@pytest.mark.parametrize(
    "word",
    [
        *("", " ", "core ", "Core", "ALL", "control", "0", "000", "0x0", "-1", "+1", "1_", "g0"),
        *("*", "SYS", "\N{ARABIC-INDIC DIGIT ONE}0", "\N{FULLWIDTH DIGIT TWO}0"),
        *("\N{LATIN SMALL LETTER LONG S}ys_hello", "SYS_HE\N{FULLWIDTH LATIN CAPITAL LETTER L}LO"),
    ],
)
def test_words_that_mean_nothing(word: str) -> None:
    for written in (word, f"core,{word}", f"{word},core"):
        with pytest.raises(CapabilityError) as caught:
            parse_caps(written)
        assert f"{word!r} is no instruction, hex code or set; there are core, all" in str(
            caught.value
        )


def test_the_message_stays_short() -> None:
    with pytest.raises(CapabilityError) as caught:
        parse_caps("x" * 1_000_000)
    assert len(str(caught.value)) < 400


@given(MAPS)
@example(2**256 - 1)
@example(ALL)
@example(CORE)
@example(ALL | 0b111 << 0x60)
def test_describe_and_parse_are_inverse(lit: int) -> None:
    written = describe(lit)
    if lit:
        assert parse_caps(written) == lit
    else:
        assert written == ""


@pytest.mark.parametrize(
    ("lit", "written"),
    [
        (CORE, "core"),
        (ALL, "all"),
        (ALL | CORE | 1 << 0xC0, "all,C0"),
        (ALL | 1 << 0x60, "all,AGENT_ADD"),
        (ALL | 0b111 << 0x60, "all,security"),
        (CORE | 1 << 0x20, "core,PROC_THROTTLE"),
        (0xFFFF << 0x20 | 1 << 0x9A, "process,9A"),
        (ALL | SETS["security"] | SETS["vendor"], "all,security,vendor"),
    ],
)
def test_describe_is_short(lit: int, written: str) -> None:
    assert describe(lit) == written


@given(MAPS)
def test_words_of_a_map(lit: int) -> None:
    pages = [word for page in range(4) for word in words(lit, page)]
    assert sum(word << 32 * index for index, word in enumerate(pages)) == lit
    assert all(0 <= word < 2**32 for word in pages)
    assert words(lit) == (pages[0], pages[1])


def test_every_instruction_can_be_named() -> None:
    for instruction in REGISTRY:
        assert codes(parse_caps(instruction.name)) == {instruction.code}


# The wire form.


def lit_on_the_wire(data: bytes) -> set[int]:
    """Bit by bit: word w has the bytes 4w to 4w + 3, its bit 0 is the lowest of the last one."""
    return {
        32 * word + bit
        for word in range(8)
        for bit in range(32)
        if data[4 * word + 3 - bit // 8] & 1 << bit % 8
    }


@given(MAPS)
def test_the_wire_form(lit: int) -> None:
    data = to_wire(lit)
    assert len(data) == MAP_SIZE == 32
    assert lit_on_the_wire(data) == codes(lit)
    assert from_wire(data) == lit
    assert data == b"".join(
        word.to_bytes(4, "big") for page in range(4) for word in words(lit, page)
    )


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_map(data: bytes) -> None:
    assert codes(from_wire(data)) == lit_on_the_wire(data)
    assert to_wire(from_wire(data)) == data


@pytest.mark.parametrize(
    ("code", "at", "octet"),
    [(0x00, 3, 0x01), (0x1F, 0, 0x80), (0x20, 7, 0x01), (0x60, 15, 0x01), (0xFF, 28, 0x80)],
)
def test_where_a_bit_stands(code: int, at: int, octet: int) -> None:
    data = bytearray(32)
    data[at] = octet
    assert to_wire(1 << code) == bytes(data)


# The map that an agent's author reads and writes.


def _codes_one_by_one() -> Iterator[str | int]:
    yield from ("SYS_HELLO", 0x20, "c0", "security")


@pytest.mark.parametrize(
    ("value", "lit"),
    [
        ("", set()),
        ("core", codes(CORE)),
        ("core,PROC_THROTTLE,9A", codes(CORE) | {0x20, 0x9A}),
        (CapabilityMap(7), {0, 1, 2}),
        ([], set()),
        (["core", "PROC_THROTTLE"], codes(CORE) | {0x20}),
        (("proc-throttle", "22", 0x11), {0x11, 0x20, 0x22}),
        ({0, 255}, {0, 255}),
        (frozenset({"all"}), codes(ALL)),
        (range(0x20, 0x30), codes(SETS["process"])),
        (_codes_one_by_one(), {0x01, 0x20, 0xC0, *range(0x60, 0x70)}),
    ],
    ids=lambda one: type(one).__name__,  # some have their address in their repr
)
def test_a_map_of_what_may_be_written_for_one(value: object, lit: set[int]) -> None:
    made = CapabilityMap.of(value)
    assert codes(made.bits) == lit
    assert list(made) == sorted(lit)
    assert CapabilityMap.of(made) is made


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            "core,SVC_RESTARTS",
            "capability map: 'SVC_RESTARTS' is no instruction, hex code or set; ",
        ),
        ("core, all", "capability map: ' all' is no instruction, hex code or set; there are core"),
        (" ", "capability map: ' ' is no instruction"),
        (["core,all"], "capability map: 'core,all' is no instruction"),
        (["SYS_HELLO", ""], "capability map: '' is no instruction"),
        ([256], "an instruction's code is 0 to 255, not 256"),
        ([-1], "an instruction's code is 0 to 255, not -1"),
        ([True], "True is no instruction's name or two-digit code"),
        ([None], "None is no instruction's name or two-digit code"),
        ([1.0], "1.0 is no instruction's name or two-digit code"),
        ([b"core"], "b'core' is no instruction's name or two-digit code"),
        (None, "a capability map is a text such as 'core,20', not None"),
        (15, "a capability map is a text such as 'core,20', not 15"),
        (b"core", "a capability map is a text such as 'core,20', not b'core'"),
        (bytearray(32), "a capability map is a text such as 'core,20', not bytearray("),
        (memoryview(bytes(32)), "a capability map is a text such as 'core,20', not <memory"),
    ],
    ids=lambda one: type(one).__name__,  # some have their address in their repr
)
def test_what_is_no_map_is_refused_with_what_would_be_one(value: object, says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        CapabilityMap.of(value)
    assert str(caught.value).startswith(says)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 100_000], bytes(100_000), 10**4000])
def test_the_refusal_stays_short(value: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        CapabilityMap.of(value)
    assert len(str(caught.value)) < 500


@given(MAPS)
def test_a_map_in_words_and_back(lit: int) -> None:
    made = CapabilityMap(lit)
    assert str(made) == describe(lit)
    assert CapabilityMap.of(str(made)) == made
    assert CapabilityMap.of(list(made)) == made
    assert set(made) == codes(lit)


def test_what_is_in_a_map() -> None:
    made = CapabilityMap.of("core,20")
    for one in ("PROC_THROTTLE", "proc-throttle", "proc_throttle", "20", 0x20, "SYS_CAPS", 0):
        assert one in made
    for one in ("SVC_RESTART", "22", 0x22, "FF", 255):
        assert one not in made


@pytest.mark.parametrize("name", ["PROC_THROTLE", "core", "", "0", "256", -1, 256, True, None, 1.5])
def test_what_does_not_exist_is_neither_in_a_map_nor_not(name: Any) -> None:
    """A slip of the pen must not read as "not granted"."""
    with pytest.raises(ArgumentError):
        code_of(name)
    for made in (CapabilityMap(0), CapabilityMap(2**256 - 1)):
        with pytest.raises(ArgumentError):
            assert name in made


@given(st.integers(0, 255))
def test_the_code_of_an_instruction(code: int) -> None:
    assert code_of(code) == code_of(f"{code:02X}") == code_of(f"{code:02x}") == code
    known = REGISTRY.get(code)
    if known is not None:
        assert code_of(known.name) == code_of(known.command) == code


def test_maps_are_values() -> None:
    assert CapabilityMap(5) == CapabilityMap(5) != CapabilityMap(4)
    assert len({CapabilityMap(5), CapabilityMap(5)}) == 1
    assert pickle.loads(pickle.dumps(CapabilityMap(5))) == CapabilityMap(5)  # noqa: S301  our own
