"""What ends a payload (counted texts, rows), and bytes that are more than bytes."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ArgumentError
from asys.protocol.codec import (
    BadValue,
    Conversion,
    Field,
    Layout,
    WrongSize,
    layout,
    p1,
    padded,
    raw,
    rows,
    text,
    u8,
    u16,
)


class Kind(IntEnum):
    ONE = 1
    TWO = 2


class Marks(IntFlag):
    NEW = 1
    OLD = 4


@layout
class Label(Layout):
    """A number and a counted text of up to 5 lower-case letters; x at its end is refused."""

    number: Annotated[int, u16("a number")]
    label: Annotated[
        str, text("a name", least=0, most=5, pattern="[a-z]*", refuse="x$", counted=True)
    ] = ""


@layout
class Row(Layout):
    """3 bytes, and not every value of them is allowed."""

    kind: Annotated[Kind, u8("a kind", enum=Kind)]
    number: Annotated[int, u8("a number", most=9)]
    marks: Annotated[Marks, u8("marks", enum=Marks)]


@layout
class Table(Layout):
    """A count, something else, and up to 4 rows."""

    count: Annotated[int, u8("how many")]
    other: Annotated[int, u16("something else", reserved=1)]
    rows: Annotated[tuple[Row, ...], rows("the rows", Row, 4)]


def _decoded(data: bytes) -> int:
    if data == b"\xff\xff":
        raise BadValue("all ones mean nothing")
    return int.from_bytes(data, "little")


def _of(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or not 0 <= value < 0xFFFF:
        raise ArgumentError(f"little must be 0 to 65534, not {value!r}")
    return value


LITTLE = Conversion(_decoded, lambda value: value.to_bytes(2, "little"), _of, "a number")


@layout
class Converted(Layout):
    """A number of the wrong byte order, which may be written as a text, and a padded text."""

    little: Annotated[int | str, raw("a number", 2, convert=LITTLE)]
    name: Annotated[str, padded("a name", 8)]


LAYOUTS: list[type[Layout]] = [Label, Table, Converted]


# Counted texts.


@pytest.mark.parametrize(
    ("label", "packed"), [("", "000700"), ("a", "00070161"), ("abcde", "0007056162636465")]
)
def test_a_counted_text(label: str, packed: str) -> None:
    made = Label(7, label)
    made.check()
    assert made.pack().hex() == packed
    assert Label.unpack(bytes.fromhex(packed)) == made
    assert (Label.SIZE, Label.FIXED) == (3, False)


def test_a_counted_text_may_be_left_out_by_the_caller_but_not_on_the_wire() -> None:
    assert Label(7) == Label(7, "")
    assert Label(7).pack() == b"\0\x07\0"
    for short in (b"", b"\0", b"\0\x07"):
        with pytest.raises(WrongSize, match=f"Label has 3 bytes, not {len(short)}"):
            Label.unpack(short)


@given(st.binary(max_size=8), st.integers(0, 255))
def test_the_length_of_a_counted_text_must_be_its_length(content: bytes, said: int) -> None:
    payload = b"\0\x07" + bytes((said,)) + content
    if said == len(content):
        with_or_without = Label.unpack if _allowed(content) else _bad_value
        with_or_without(payload)
        return
    with pytest.raises(WrongSize, match="label has another length than the byte before it says"):
        Label.unpack(payload)


def _allowed(content: bytes) -> bool:
    return (
        len(content) <= 5
        and all(octet in b"abcdefghijklmnopqrstuvwxyz" for octet in content)
        and not content.endswith(b"x")
    )


def _bad_value(payload: bytes) -> None:
    with pytest.raises(BadValue):
        Label.unpack(payload)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"abcdef", "has 6 characters, not 0 to 5"),
        (b"Ab", "has characters other than"),
        (b"ab\n", "has characters other than"),
        (b"a\x00", "has characters other than"),
        (b"\xc3\xa4", "has characters other than"),
        (b"\xff", "has characters other than"),
        (b"ax", "must not match"),
    ],
)
def test_a_counted_text_of_the_right_length_and_the_wrong_content(
    content: bytes, says: str
) -> None:
    with pytest.raises(BadValue, match=says):
        Label.unpack(b"\0\x07" + bytes((len(content),)) + content)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("abcdef", "label has 6 characters, not 0 to 5: 'abcdef'"),
        ("\N{LATIN SMALL LETTER A WITH DIAERESIS}", "label has characters other than [a-z]*: "),
        ("\N{LATIN SMALL LETTER LONG S}", "label has characters other than [a-z]*: "),
        ("ab\n", "label has characters other than [a-z]*: 'ab\\n'"),
        ("x", "label must not match x$: 'x'"),
        (b"ab", "label is not a string: b'ab'"),
        (None, "label is not a string: None"),
    ],
)
def test_a_counted_text_is_refused_before_it_is_sent(label: Any, says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Label(7, label).check()
    assert str(caught.value).startswith(says)


# Rows.

ROWS = (Row(Kind.ONE, 9, Marks.NEW), Row(Kind.TWO, 0, Marks.NEW | Marks.OLD))


def test_rows() -> None:
    table = Table(2, 0x0304, ROWS)
    assert table.pack().hex() == "02030400" + "010901" + "020005"
    assert Table.unpack(table.pack()) == table
    assert (Table.SIZE, Table.FIXED) == (4, False)
    assert Table.unpack(bytes(4)) == Table(0, 0, ())


def test_a_row_whose_first_field_is_zero_is_a_row() -> None:
    """Rows are counted: unlike a slot, none is empty."""
    with pytest.raises(BadValue, match="0 is not a Kind"):
        Table.unpack(b"\x01\0\0\0" + bytes(3))


@given(st.integers(0, 255), st.binary(max_size=20))
def test_rows_are_as_many_as_the_count_says(count: int, content: bytes) -> None:
    payload = bytes((count, 0, 0, 0)) + content
    whole, left = divmod(len(content), 3)
    if left or whole != count:
        with pytest.raises(WrongSize, match=f"{len(content)} bytes are not {count} rows of 3"):
            Table.unpack(payload)
    elif whole > 4:
        with pytest.raises(WrongSize, match=f"{whole} rows; 4 are the most"):
            Table.unpack(payload)
    else:
        try:
            assert len(Table.unpack(payload).rows) == count
        except BadValue:
            assert any(
                content[at] not in (1, 2) or content[at + 1] > 9 for at in range(0, 3 * whole, 3)
            )


@pytest.mark.parametrize("count", [3, 4, 5, 255])
def test_the_most_rows(count: int) -> None:
    payload = bytes((count, 0, 0, 0)) + b"\x01\0\0" * count
    if count <= 4:
        assert len(Table.unpack(payload).rows) == count
        return
    with pytest.raises(WrongSize, match=f"{count} rows; 4 are the most"):
        Table.unpack(payload)


def test_unknown_flags_of_a_row_are_kept_and_do_no_harm() -> None:
    read = Table.unpack(b"\x01\0\0\0\x01\x00\xfa")
    assert Marks.NEW not in read.rows[0].marks
    assert Marks.OLD not in read.rows[0].marks
    assert read.rows[0].marks == 0xFA
    assert Marks.OLD in Table.unpack(b"\x01\0\0\0\x01\x00\xfe").rows[0].marks
    assert read.pack() == b"\x01\0\0\0\x01\x00\xfa"


def test_rows_need_a_count() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.entries: rows need a field named count"):

        @layout
        class Wrong(Layout):
            total: Annotated[int, u8("how many")]
            entries: Annotated[tuple[Row, ...], rows("the rows", Row, 4)]


def test_rows_must_be_last() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.entries: rows must be the last field"):

        @layout
        class Wrong(Layout):
            count: Annotated[int, u8("how many")]
            entries: Annotated[tuple[Row, ...], rows("the rows", Row, 4)]
            behind: Annotated[int, u8("a number")]


def test_a_parameter_may_stand_behind_what_ends_the_payload() -> None:
    @layout
    class Fine(Layout):
        label: Annotated[str, text("a name", least=0, most=5, pattern=".*", counted=True)]
        page: Annotated[int, p1("a page")] = 0

    assert Fine("ab", 7).pack() == b"\x02ab"
    assert Fine.unpack(b"\x02ab", 7) == Fine("ab", 7)


# Bytes that are more than bytes.


def test_a_conversion() -> None:
    made = Converted(0x0102, "ab")
    made.check()
    assert made.pack() == b"\x02\x01ab" + bytes(6)
    assert Converted.unpack(made.pack()) == made
    assert Converted("258", "ab") == made
    assert Converted("258", "ab").little == 258
    assert hash(Converted("258", "ab")) == hash(made)


@pytest.mark.parametrize("wrong", ["", "x", -1, 0xFFFF, None, b"ab"])
def test_what_a_conversion_does_not_take(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="little must be 0 to 65534, not "):
        Converted(wrong, "ab")


def test_bytes_that_a_conversion_does_not_read() -> None:
    with pytest.raises(BadValue, match="all ones mean nothing"):
        Converted.unpack(b"\xff\xff" + bytes(8))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("", b""),
        ("abc", b"abc"),
        ("abcdefgh", b"abcdefgh"),
        ("abcdefghi", b"abcdefgh"),
        ("a\0b", b"a\0b"),
        ("\N{EURO SIGN}" * 3, "\N{EURO SIGN}".encode() * 2),  # 9 bytes: the third is left out whole
        ("abcde\N{EURO SIGN}", "abcde\N{EURO SIGN}".encode()),
        ("abcdef\N{EURO SIGN}", b"abcdef"),
        ("a\udcffb", b"a?b"),
    ],
)
def test_padded_texts(name: str, packed: bytes) -> None:
    assert Converted(0, name).pack() == b"\0\0" + packed.ljust(8, b"\0")
    read = Converted.unpack(Converted(0, name).pack()).name
    assert read == packed.decode()


@given(st.binary(min_size=8, max_size=8))
def test_any_bytes_are_some_padded_text(data: bytes) -> None:
    name = Converted.unpack(b"\0\0" + data).name
    assert name == data.rstrip(b"\0").decode("utf-8", "replace")
    name.encode()


@given(st.text(max_size=12))
def test_a_padded_text_comes_back_as_far_as_it_fits(name: str) -> None:
    read = Converted.unpack(Converted(0, name).pack()).name
    sent = name.encode(errors="replace").decode()
    assert sent.startswith(read)
    left = sent[len(read) :].lstrip("\0")
    assert not left or len((sent[: len(sent) - len(left) + 1]).encode()) > 8


# Any of them.


def _any(field: Field) -> st.SearchStrategy[Any]:
    if field.enum is not None:
        return st.sampled_from(field.enum)
    return st.integers(field.least, field.most)


one_row = st.builds(Row, **{name: _any(field) for name, field in Row.FIELDS.items()})
one_table = st.lists(one_row, max_size=4).flatmap(
    lambda found: st.builds(Table, st.just(len(found)), st.integers(0, 0xFFFF), st.just((*found,)))
)
one_label = st.builds(Label, st.integers(0, 0xFFFF), st.from_regex("[a-w]{0,5}", fullmatch=True))
one_converted = st.builds(
    Converted, st.integers(0, 0xFFFE), st.from_regex("[ -~]{0,8}", fullmatch=True)
)


@given(one_table | one_label | one_converted)
def test_round_trip(value: Layout) -> None:
    value.check()
    assert type(value).unpack(value.pack()) == value


@given(
    st.sampled_from(LAYOUTS),
    st.binary(max_size=24),
    st.one_of(st.none(), one_table, one_label, one_converted),
    st.integers(0, 24),
    st.booleans(),
)
def test_any_bytes_are_read_or_refused(
    kind: type[Layout], data: bytes, near: Layout | None, at: int, more: bool
) -> None:
    """Also what comes close: the start of a right payload with other bytes behind it."""
    if near is not None:
        kind = type(near)
        data = near.pack()[:at] + data
    try:
        read = kind.unpack(data, more=more)
    except (WrongSize, BadValue):
        return
    again = kind.unpack(read.pack())
    if isinstance(read, Converted) and isinstance(again, Converted):
        # What is no UTF-8 is read with marks that need more bytes.
        assert again.little == read.little
    else:
        assert again == read
