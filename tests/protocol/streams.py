"""Hypothesis strategies for byte streams: frames, and any way to cut bytes into pieces."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from asys.protocol.apdu import Frame


def assemble(
    cla: int, ins: int, p1: int, p2: int, data: bytes, le: int, tag: bytes
) -> tuple[bytes, Frame]:
    """A frame's bytes, put together from docs/protocol.md, section 2, and what it should read as.

    The tag is used where the security bits ask for one.
    """
    head = bytes((cla, ins, p1, p2))
    if cla & 0x02:
        head += b"\x00" + len(data).to_bytes(2, "big")
        tail = le.to_bytes(2, "big")
    else:
        head += bytes((len(data),))
        tail = bytes((le & 0xFF,))
    tag = tag if cla & 0x0C else b""
    return head + data + tail + tag, Frame(cla, ins, p1, p2, data, head, tag)


_octet = st.integers(0, 0xFF)
_cla = st.builds(
    lambda sec, extended, more: sec | extended | more,
    st.sampled_from((0x00, 0x04, 0x08)),
    st.sampled_from((0x00, 0x02)),
    st.sampled_from((0x00, 0x10)),
)
frames = st.builds(
    assemble,
    _cla,
    _octet,
    _octet,
    _octet,
    st.binary(max_size=40) | st.binary(min_size=250, max_size=255),
    st.integers(0, 0xFFFF),
    st.binary(min_size=16, max_size=16),
)
"""(bytes, Frame) of any well-formed frame with at most 255 bytes of data."""

bare_frames = _octet.map(lambda ins: assemble(0, ins, 0, 0, b"", 0, b""))
streams = st.lists(frames | bare_frames, max_size=8)
"""Several frames behind one another, those of polling agents among them."""


def cut(data: bytes, marks: Iterable[int]) -> list[bytes]:
    """`data` in pieces; each mark says where one ends, counted modulo the size."""
    ends = sorted(mark % (len(data) + 1) for mark in marks)
    starts = [0, *ends]
    return [data[start:end] for start, end in zip(starts, [*ends, len(data)], strict=True)]


marks = st.lists(st.integers(0, 1 << 20), max_size=12)
