"""Every layout of the registry: round trips, sentinels, saturation, and any bytes at all."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import (
    REGISTRY,
    SYS_PROCS,
    SYS_STATUS,
    TASK_QUERY,
    AnyInstruction,
    Empty,
    Process,
    Processes,
    Status,
)
from asys.isa.bytemap import parameters, size_range, spans
from asys.isa.control import TaskState, TaskStatus
from asys.isa.core import Capabilities, FileSystem, Hello, NodeFlags, ProcessFlags
from asys.protocol.codec import Layout, LayoutError, layout, p1, rows, text, u8, u16
from isa.layouts import is_map, places, values

LAYOUTS = sorted(
    {layout for one in REGISTRY for layout in (one.request, one.reply)},
    key=lambda layout: layout.__name__,
)
every = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


@every
@given(st.data())
def test_round_trip(layout: type[Layout], data: st.DataObject) -> None:
    value = data.draw(values(layout))
    value.check()
    packed = value.pack()
    least, most = size_range(layout)
    assert least <= len(packed) <= most
    assert layout.unpack(packed, *value.parameters()) == value


@every
@given(st.data(), st.binary(max_size=80), st.integers(0, 255), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(
    layout: type[Layout], data: st.DataObject, payload: bytes, p1: int, p2: int
) -> None:
    """Also bytes that come close: a right payload with some of it changed, lost or doubled."""
    if data.draw(st.booleans()):
        near = bytearray(data.draw(values(layout)).pack())
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(near))] * 2)))
        near[start:stop] = data.draw(st.sampled_from([payload, near[start:stop] * 2]))
        payload = bytes(near)
    try:
        value = layout.unpack(payload, p1, p2)
    except LayoutError:
        return
    again = layout.unpack(value.pack(), *value.parameters())
    assert _without_texts(again) == _without_texts(value)


def _without_texts(value: Layout) -> dict[str, object]:
    """A text that is no UTF-8 is read with marks that need more bytes than there are."""
    found: dict[str, object] = {}
    for name, field in value.FIELDS.items():
        if field.slot is not None:
            found[name] = [_without_texts(row) for row in getattr(value, name)]
        elif field.convert is None or is_map(field):
            found[name] = getattr(value, name)
    return found


@pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)
@given(st.data())
def test_a_reply_takes_any_bytes_of_its_size(one: AnyInstruction, data: st.DataObject) -> None:
    """An agent reads whatever a later node may send; rows only have to be as many as it says."""
    size = one.reply.SIZE
    payload = data.draw(st.binary(min_size=size, max_size=size))
    for field in one.reply.FIELDS.values():
        if field.kind != "rows" or field.slot is None:
            continue
        rows = data.draw(st.integers(0, field.most))
        row = data.draw(st.binary(min_size=field.slot.SIZE, max_size=field.slot.SIZE))
        if not field.slot.FIXED:  # what ends it is as long as the two bytes before it say
            (end,) = [text for text in field.slot.FIELDS.values() if text.kind == "text"]
            tail = data.draw(st.binary(max_size=end.most))
            row = row[:-2] + len(tail).to_bytes(2, "big") + tail
        (count,) = [span for span in spans(one.reply) if span.name == "count"]
        said = rows.to_bytes(count.size, "big")
        payload = payload[: count.offset] + said + payload[count.offset + count.size :] + row * rows
    one.reply.unpack(payload)


@every
def test_the_byte_map_is_what_packing_does(layout: type[Layout]) -> None:
    found = [
        (span.offset, span.size, "" if span.field is None else span.name) for span in spans(layout)
    ]
    assert found == [tuple(place) for place in places(layout)]
    counted = sum(field.counted for field in layout.FIELDS.values())
    assert sum(size for _, size, _ in found) + counted == layout.SIZE + layout.OPTIONAL
    header = parameters(layout)
    assert {name for name, _ in header.values()} | {name for _, _, name in found if name} == set(
        layout.FIELDS
    )
    assert set(header) <= {"p1", "p2"}


@layout
class Pair(Layout):
    """3 bytes."""

    one: Annotated[int, u8("a number")]
    two: Annotated[int, u16("a number")]


@layout
class Gaps(Layout):
    """Reserved bytes between fields and a text behind them, as no instruction has yet."""

    first: Annotated[int, u8("a number", reserved=3)]
    mode: Annotated[int, p1("a mode")]
    second: Annotated[int, u16("a number", reserved=1)]
    name: Annotated[str, text("a name", least=2, most=5, pattern="[a-z]+")]


@layout
class Ends(Layout):
    """Numbers, then rows, and a parameter declared behind them, as no instruction has yet."""

    count: Annotated[int, u8("how many")]
    rest: Annotated[int, u16("a number", reserved=1)]
    gaps: Annotated[tuple[Pair, ...], rows("the rows", Pair, 5)]
    mode: Annotated[int, p1("a mode")]


@layout
class Said(Layout):
    """A counted text behind reserved bytes, and a parameter declared behind it."""

    first: Annotated[int, u8("a number", reserved=2)]
    name: Annotated[str, text("a name", least=2, most=5, pattern="[a-z]+", counted=True)]
    mode: Annotated[int, p1("a mode")]


def test_the_byte_map_of_what_is_open_ended() -> None:
    assert [span[:3] for span in spans(Ends)] == [
        (0, 1, "count"),
        (1, 2, "rest"),
        (3, 1, "reserved"),
        (4, 0, "gaps"),
    ]
    assert size_range(Ends) == (4, 4 + 5 * 3)
    assert [span[:3] for span in spans(Said)] == [
        (0, 1, "first"),
        (1, 2, "reserved"),
        (3, 0, "name"),
    ]
    assert Said(1, "abc", 9).pack() == b"\x01\0\0\x03abc"
    assert size_range(Said) == (6, 9)


def test_the_byte_map_of_a_layout_with_gaps() -> None:
    assert [span[:3] for span in spans(Gaps)] == [
        (0, 1, "first"),
        (1, 3, "reserved"),
        (4, 2, "second"),
        (6, 1, "reserved"),
        (7, 0, "name"),
    ]
    assert Gaps(1, 2, 3, "ab").pack() == b"\x01\0\0\0\0\x03\0ab"
    assert [place for place, (name, _) in parameters(Gaps).items() if name == "mode"] == ["p1"]
    assert size_range(Gaps) == (9, 12)
    assert size_range(Empty) == (0, 0)


@pytest.mark.parametrize(
    ("one", "response"),
    [
        (
            Status(40, 18, 100, 22798, 11, 0, 0, 0, None),
            "ff b4 64 0000590e 0b 00000000 0000 0000 ff 00000000",
        ),
        (
            Status(2.4, 0.04, 0, 1 << 40, 300, 250, 70_000, 1, 100),
            "18 00 00 ffffffff ff 000000fa ffff 0001 64 00000000",
        ),
        (
            Status(0, 0, 0, 1, 0, 0, 0, 0, 0, NodeFlags.AUDIT_DEGRADED),
            "00 00 00 00000001 00 00000000 0000 0000 00 01000000",
        ),
        (Hello(b"ASYS", 0x3D1219C7, 1), "41535953 3d1219c7 0000000000000001"),
        (TaskState(TaskStatus.NOT_FOUND), "ff"),
        (
            Processes(
                70_000,
                (Process(1, 123.456, 7, ProcessFlags.ROOT), Process(2, 700, 0, ProcessFlags(5))),
            ),
            "ffff 00000001 303a 07 04 00000002 ffff 00 05" + "00" * 24,
        ),
    ],
)
def test_packing_by_hand(one: Layout, response: str) -> None:
    assert one.pack().hex() == response.replace(" ", "")


def test_reading_sentinels_and_saturated_values() -> None:
    status = SYS_STATUS.reply.unpack(b"\xff" * 21)
    assert status == Status(
        25.5, 25.5, 255, 0xFFFFFFFF, 255, 0xFFFFFFFF, 0xFFFF, 0xFFFF, None, NodeFlags(0xFF)
    )
    assert status.pack() == b"\xff" * 18 + bytes(3)


@given(st.integers(0, 0xFFFF))
def test_unknown_codes_of_a_later_node_are_read(code: int) -> None:
    raw = bytearray(34)
    raw[16:18] = raw[30:32] = code.to_bytes(2, "big")
    raw[32] = code & 0xFF
    caps = Capabilities.unpack(bytes(raw))
    known = {int(member) for member in FileSystem}
    assert int(caps.root_file_system) == (code if code in known else 0xFFFF)
    assert caps.architecture.name
    assert caps.rpi_source.name
    assert TASK_QUERY.reply.unpack(bytes((code & 0xFF,))).status in TaskStatus


def test_empty_slots_of_sys_procs() -> None:
    one = Process(25632, 92.68, 0, ProcessFlags.ROOT)
    few = Processes(2, (one,))
    packed = few.pack()
    assert len(packed) == 42
    assert packed[10:] == bytes(32)
    read = SYS_PROCS.reply.unpack(packed)
    assert read == few
    assert read.top[0].flags is ProcessFlags.ROOT
    assert SYS_PROCS.reply.unpack(bytes(42)) == Processes(0, ())


def test_results_are_values() -> None:
    hello = Hello(b"ASYS", 1, 2)
    assert hello == Hello(b"ASYS", 1, 2)
    assert dataclasses.asdict(hello) == {"magic": b"ASYS", "node_uid": 1, "time_ns": 2}
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(hello, "node_uid", 3)  # noqa: B010 - mypy refuses the plain assignment
