"""What a layout makes of its annotations: packing, reading, checking."""

from __future__ import annotations

import dataclasses
from enum import IntEnum, IntFlag
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ArgumentError
from asys.protocol.codec import (
    BadValue,
    Layout,
    LayoutError,
    WrongSize,
    layout,
    p1,
    p2,
    raw,
    rest,
    slots,
    text,
    u8,
    u16,
    u32,
    u64,
)


class Colour(IntEnum):
    RED = 1
    DARK_BLUE = 2
    OTHER = 0xFF


class Marks(IntFlag):
    NEW = 1
    OLD = 4


@layout
class Numbers(Layout):
    """One of each width, with reserved bytes between and behind. 20 bytes."""

    one: Annotated[int, u8("one byte")]
    two: Annotated[int, u16("two bytes", reserved=3)]
    four: Annotated[int, u32("four bytes")]
    eight: Annotated[int, u64("eight bytes", reserved=2)]


@layout
class Readings(Layout):
    """Scales and sentinels."""

    load: Annotated[float, u8("a load", scale=10)]
    share: Annotated[float, u16("a share", unit="%", scale=100)]
    index: Annotated[int | None, u8("an index", absent=0xFF)]
    zero_is_none: Annotated[int | None, u16("or nothing", absent=0)]


@layout
class Codes(Layout):
    """Enums, with and without a member for what is unknown."""

    colour: Annotated[Colour, u8("a colour", enum=Colour, unknown=Colour.OTHER)]
    strict: Annotated[Colour, u16("a colour", enum=Colour)]
    marks: Annotated[Marks, u8("marks", enum=Marks)]


@layout
class Slot(Layout):
    """3 bytes."""

    key: Annotated[int, u8("0: empty")]
    value: Annotated[int, u16("a value")]


@layout
class Table(Layout):
    """Slots behind a number, a number behind the slots."""

    count: Annotated[int, u8("how many")]
    rows: Annotated[tuple[Slot, ...], slots("the rows", Slot, 3)]
    last: Annotated[int, u8("behind them")]


@layout
class Named(Layout):
    """A number and a text of 2 to 5 lower-case letters; x at its end is refused."""

    number: Annotated[int, u8("a number", least=3, most=9)]
    name: Annotated[str, text("a name", least=2, most=5, pattern="[a-z]+", refuse="x$")]


@layout
class Parameters(Layout):
    """Both parameters and a payload."""

    action: Annotated[Colour, p1("an action", enum=Colour)]
    key: Annotated[bytes, raw("a key", 4)]
    count: Annotated[int, p2("a count", most=32)]


@layout
class Nothing(Layout):
    """No payload."""


NUMBERS = bytes.fromhex("01 0203000000 04050607 08090a0b0c0d0e0f 0000".replace(" ", ""))


def test_integers_are_big_endian_and_reserved_bytes_zero() -> None:
    numbers = Numbers(0x01, 0x0203, 0x04050607, 0x08090A0B0C0D0E0F)
    assert Numbers.SIZE == 20
    assert numbers.pack() == NUMBERS
    assert Numbers.unpack(NUMBERS) == numbers


@given(st.binary(min_size=20, max_size=20))
def test_reserved_bytes_are_ignored_on_receipt(data: bytes) -> None:
    read = Numbers.unpack(data)
    packed = read.pack()
    assert packed[3:6] == bytes(3)
    assert packed[18:] == bytes(2)
    assert Numbers.unpack(packed) == read


@pytest.mark.parametrize("size", [0, 1, 19, 21, 40])
def test_a_wrong_size(size: int) -> None:
    with pytest.raises(WrongSize, match=f"Numbers has 20 bytes, not {size}"):
        Numbers.unpack(bytes(size))


def test_more_than_the_layout_may_be_ignored_and_less_may_not() -> None:
    assert Numbers.unpack(NUMBERS + b"more", more=True) == Numbers.unpack(NUMBERS)
    with pytest.raises(WrongSize):
        Numbers.unpack(NUMBERS[:-1], more=True)


def test_an_empty_layout() -> None:
    assert Nothing().pack() == b""
    assert Nothing.unpack(b"") == Nothing()
    assert Nothing().parameters() == (0, 0)
    assert Nothing.unpack(b"x", more=True) == Nothing()
    with pytest.raises(WrongSize, match="Nothing has 0 bytes, not 1"):
        Nothing.unpack(b"x")


@given(st.integers(-(1 << 70), 1 << 70))
def test_integers_saturate(value: int) -> None:
    read = Numbers.unpack(Numbers(value, value, value, value).pack())
    for name, bits in (("one", 8), ("two", 16), ("four", 32), ("eight", 64)):
        assert getattr(read, name) == min(max(value, 0), (1 << bits) - 1)


@given(st.floats(-1e9, 1e9))
def test_scaled_values_round_and_saturate(value: float) -> None:
    read = Readings.unpack(Readings(value, value, 0, None).pack())
    assert read.load == min(max(round(value * 10), 0), 255) / 10
    assert read.share == min(max(round(value * 100), 0), 65535) / 100


def test_absent_values() -> None:
    readings = Readings(0, 0, None, None)
    assert readings.pack() == bytes.fromhex("00 0000 ff 0000".replace(" ", ""))
    assert Readings.unpack(readings.pack()) == readings


@given(st.integers(0, 1 << 40))
def test_a_reading_off_the_scale_is_not_read_as_none(value: int) -> None:
    read = Readings.unpack(Readings(0, 0, value, None).pack())
    assert read.index == min(value, 254)


def test_none_for_a_field_that_always_has_a_value() -> None:
    kind: Any = Numbers
    broken = kind(1, None, 3, 4)
    with pytest.raises(BadValue, match="always has a value"):
        broken.pack()


def test_enums() -> None:
    codes = Codes(Colour.DARK_BLUE, Colour.RED, Marks.NEW | Marks.OLD)
    assert codes.pack() == b"\x02\x00\x01\x05"
    read = Codes.unpack(codes.pack())
    assert read == codes
    assert isinstance(read.colour, Colour)
    assert isinstance(read.marks, Marks)


@given(st.integers(0, 255))
def test_an_unknown_value_of_an_enum_reads_as_the_unknown_member(value: int) -> None:
    read = Codes.unpack(bytes((value, 0, 1, 0)))
    assert read.colour is (Colour(value) if value in (1, 2, 255) else Colour.OTHER)


@pytest.mark.parametrize("value", [0, 3, 256, 65535])
def test_an_unknown_value_without_such_a_member_is_a_bad_value(value: int) -> None:
    with pytest.raises(BadValue, match=f"{value} is not a Colour"):
        Codes.unpack(b"\x01" + value.to_bytes(2, "big") + b"\x00")


@given(st.integers(0, 255))
def test_unknown_flags_do_no_harm(value: int) -> None:
    read = Codes.unpack(bytes((1, 0, 1, value)))
    assert (Marks.NEW in read.marks) == bool(value & 1)
    assert (Marks.OLD in read.marks) == bool(value & 4)
    assert read.pack()[3] == value


def test_a_member_may_be_written_by_its_name() -> None:
    codes: Any = Codes
    by_name = codes(colour="dark_blue", strict="RED", marks="old")
    assert by_name == Codes(Colour.DARK_BLUE, Colour.RED, Marks.OLD)
    with pytest.raises(ArgumentError) as caught:
        codes(colour="green", strict="red", marks="old")
    assert str(caught.value) == "colour must be one of 'red', 'dark_blue', 'other', not 'green'"
    assert caught.value.__cause__ is None


def test_slots_that_are_empty_are_left_out() -> None:
    table = Table(7, (Slot(1, 2), Slot(3, 4)), 9)
    packed = bytes.fromhex("07 010002 030004 000000 09".replace(" ", ""))
    assert Table.SIZE == 11
    assert table.pack() == packed
    assert Table.unpack(packed) == table
    behind_a_gap = bytes.fromhex("07 010002 000000 030004 09".replace(" ", ""))
    assert Table.unpack(behind_a_gap) == table


def test_more_slots_than_there_is_room_for() -> None:
    rows = tuple(Slot(key, key) for key in range(1, 6))
    assert Table.unpack(Table(5, rows, 0).pack()).rows == rows[:3]


@pytest.mark.parametrize("name", ["ab", "abc", "abcde"])
def test_texts(name: str) -> None:
    named = Named(3, name)
    named.check()
    assert named.pack() == b"\x03" + name.encode()
    assert Named.unpack(named.pack()) == named
    assert Named.SIZE == 1
    assert not Named.FIXED


@pytest.mark.parametrize(
    ("payload", "kind", "says"),
    [
        (b"", WrongSize, "Named has 1 bytes, not 0"),
        (b"\x03", WrongSize, "0 bytes of text; at least 2"),
        (b"\x03a", WrongSize, "1 bytes of text; at least 2"),
        (b"\x03abcdef", BadValue, "has 6 characters, not 2 to 5"),
        (b"\x03aB", BadValue, "has characters other than"),
        (b"\x03ab\n", BadValue, "has characters other than"),
        (b"\x03a\xff", BadValue, "has characters other than"),
        (b"\x03a\x00", BadValue, "has characters other than"),
        (b"\x03aax", BadValue, "must not match"),
        (b"\x02ab", BadValue, "2 is not within 3 to 9"),
        (b"\x0aab", BadValue, "10 is not within 3 to 9"),
    ],
)
def test_texts_and_numbers_that_are_refused(
    payload: bytes, kind: type[LayoutError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        Named.unpack(payload)


def test_parameters_travel_in_the_header() -> None:
    parameters = Parameters(Colour.RED, b"abcd", 32)
    assert parameters.pack() == b"abcd"
    assert parameters.parameters() == (1, 32)
    assert Parameters.unpack(b"abcd", 1, 32) == parameters
    with pytest.raises(BadValue, match="5 is not a Colour"):
        Parameters.unpack(b"abcd", 5, 32)
    with pytest.raises(BadValue, match="33 is not within 0 to 32"):
        Parameters.unpack(b"abcd", 1, 33)


def test_the_length_is_judged_before_the_parameters() -> None:
    with pytest.raises(WrongSize):
        Parameters.unpack(b"abc", 5, 33)


@given(st.binary(max_size=30), st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, one: int, two: int, more: bool) -> None:
    for kind in (Numbers, Readings, Codes, Table, Named, Parameters, Nothing):
        try:
            read = kind.unpack(data, one, two, more=more)
        except LayoutError:
            continue
        assert kind.unpack(read.pack(), *read.parameters()) == read


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Numbers(256, 0, 0, 0), "one must be 0 to 255, not 256"),
        (Numbers(0, -1, 0, 0), "two must be 0 to 65535, not -1"),
        (Numbers(0, 0, 1 << 32, 0), "four must be 0 to 4294967295, not 4294967296"),
        (
            Numbers(0, 0, 0, 1 << 64),
            "eight must be 0 to 18446744073709551615, not 18446744073709551616",
        ),
        (Readings(25.6, 0, 0, 0), "load must be 0.0 to 25.5, not 25.6"),
        (Readings(0, -0.5, 0, 0), "share must be 0.0 to 655.35, not -0.5"),
        (Readings(float("nan"), 0, 0, 0), "load must be 0.0 to 25.5, not nan"),
        (Named(2, "ab"), "number must be 3 to 9, not 2"),
        (Named(3, "a"), "name has 1 characters, not 2 to 5: 'a'"),
        (Named(3, "A1"), "name has characters other than [a-z]+: 'A1'"),
        (Named(3, "ax"), "name must not match x$: 'ax'"),
        (Parameters(Colour.RED, b"abc", 0), "key must be 4 bytes"),
        (Parameters(Colour.RED, b"abcd", 33), "count must be 0 to 32, not 33"),
    ],
    ids=repr,
)
def test_an_argument_out_of_range_is_named_with_what_is_allowed(wrong: Layout, says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        wrong.check()
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"one": True}, "one must be a number, not True"),
        ({"one": "1"}, "one must be a number, not '1'"),
        ({"one": None}, "one must be a number, not None"),
        ({"one": 1.0}, "one must be a number, not 1.0"),
    ],
)
def test_an_argument_of_the_wrong_type(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        dataclasses.replace(Numbers(0, 0, 0, 0), **arguments).check()
    assert str(caught.value) == says


def test_texts_and_bytes_of_the_wrong_type() -> None:
    kinds: Any = Named
    with pytest.raises(ArgumentError, match=r"name is not a string: b'ab'"):
        kinds(3, b"ab").check()
    kinds = Parameters
    with pytest.raises(ArgumentError, match="key must be 4 bytes"):
        kinds(Colour.RED, "abcd", 0).check()


@pytest.mark.parametrize("value", [0, 3, 200])
def test_a_number_that_is_no_member_is_refused_before_it_is_sent(value: int) -> None:
    kind: Any = Parameters
    with pytest.raises(ArgumentError) as caught:
        kind(value, b"abcd", 0).check()
    assert str(caught.value) == (f"action must be one of 'red', 'dark_blue', 'other', not {value}")
    kind(2, b"abcd", 0).check()


def test_flags_may_be_combined_freely() -> None:
    kind: Any = Codes
    kind(Colour.RED, Colour.RED, 0b101).check()
    kind(Colour.RED, Colour.RED, 0).check()
    with pytest.raises(ArgumentError, match="marks must be 0 to 255, not 256"):
        kind(Colour.RED, Colour.RED, 256).check()


def test_none_passes_where_there_is_a_value_for_it() -> None:
    Readings(0, 0, None, None).check()
    Table(1, (Slot(1, 1),), 2).check()


def test_layouts_are_frozen_and_slotted() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Slot(1, 2), "key", 2)  # noqa: B010 - mypy refuses the plain assignment
    assert not hasattr(Slot(1, 2), "__dict__")
    assert Slot(1, 2) == Slot(1, 2)
    assert hash(Slot(1, 2)) == hash(Slot(1, 2))


def test_a_text_must_be_last() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.name: text must be the last field"):

        @layout
        class Wrong(Layout):
            name: Annotated[str, text("a name", least=1, most=2, pattern=".+")]
            number: Annotated[int, u8("a number")]


def test_the_bytes_of_each_kind_say_what_they_are() -> None:
    assert (u8.__doc__, u64.__doc__) == (
        "An unsigned integer of 8 bits; options are the fields of Field.",
        "An unsigned integer of 64 bits; options are the fields of Field.",
    )


@layout
class Rest(Layout):
    """A number, and one to four bytes."""

    number: Annotated[int, u16("a number")]
    body: Annotated[bytes, rest("bytes", least=1, most=4)]


def test_bytes_may_fill_the_rest_of_a_payload() -> None:
    assert (Rest.SIZE, Rest.FIXED) == (2, False)
    for body in (b"x", b"xyz\0"):
        made = Rest(7, body)
        made.check()
        assert made.pack() == b"\0\x07" + body
        assert Rest.unpack(made.pack()) == made
    for wrong in (b"\0", b"\0\x07", b"\0\x07abcde"):
        with pytest.raises(WrongSize):
            Rest.unpack(wrong)
    kind: Any = Rest
    for bad in (b"", b"abcde", "abc"):
        with pytest.raises(ArgumentError, match="body must be 1 to 4 bytes"):
            kind(7, bad).check()
