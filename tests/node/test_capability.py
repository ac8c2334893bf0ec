"""Capability maps: sets, names, codes, and back into words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.isa import REGISTRY
from asys.node.capability import ALL, CORE, SETS, CapabilityError, bits, describe, parse_caps, words

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
        (ALL | 1 << 0x60, "all,60"),
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
