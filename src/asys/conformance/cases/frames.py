"""Level 2: how frames are cut out of the stream, and what is malformed (docs/protocol.md, 2)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import ends, expect, is_status, refuses, shown, succeeds
from asys.conformance.frames import (
    CAPS,
    CLA_EXTENDED,
    HELLO,
    STATUS,
    SYS_HELLO,
    UNKNOWN,
    frame,
)
from asys.conformance.handshake import MAGIC
from asys.conformance.probe import SESSION, Probe
from asys.conformance.wire import Silent

MAX_DATA = 65494

ROUND = (HELLO, CAPS, HELLO, STATUS, CAPS, STATUS)
"""The lengths of the answers tell the order in which they come."""


@case("frame.le", Level.FRAMES, "2.1", "Le is ignored: an answer is never cut by it", SESSION)
def le(probe: Probe) -> None:
    """Deployed agents send 00, 03 and 06."""
    agent = probe.session()
    whole = len(agent.ask(HELLO))
    for value in (0x03, 0x06, 0xFF):
        answer = agent.ask(frame(SYS_HELLO, le=bytes((value,))))
        expect(len(answer) == whole, f"with Le {value:02X} the answer has {len(answer)} bytes")


@case("frame.extended", Level.FRAMES, "2.1", "an extended frame of 9 bytes is whole", SESSION)
def extended(probe: Probe) -> None:
    """Lc has three bytes, Le two."""
    succeeds(probe.session().ask(frame(SYS_HELLO, cla=CLA_EXTENDED)), None, "an extended frame")


@case(
    "frame.extended-length", Level.FRAMES, "2.1", "Lc of an extended frame is big-endian", SESSION
)
def extended_length(probe: Probe) -> None:
    """Data of 300 bytes, then another frame."""
    agent = probe.session()
    data = probe.random.randbytes(300)
    answer = agent.ask(frame(SYS_HELLO, data, cla=CLA_EXTENDED))
    succeeds(answer, None, "an extended frame with 300 bytes of data")
    succeeds(agent.ask(HELLO), None, "the frame behind it")


@case("frame.largest", Level.FRAMES, "2.3", "data of 255 and of 65,494 bytes is taken", SESSION)
def largest(probe: Probe) -> None:
    """The most that a standard and an extended frame hold."""
    agent = probe.session()
    for size, cla in ((255, 0), (MAX_DATA, CLA_EXTENDED)):
        answer = agent.ask(frame(SYS_HELLO, bytes(size), cla=cla))
        whole = len(agent.ask(HELLO))
        expect(len(answer) == whole, f"behind {size} bytes of data the stream is lost")
        succeeds(answer, None, f"SYS_HELLO with {size} bytes of data")


@case(
    "frame.in-parts",
    Level.FRAMES,
    "2.2",
    "a frame over several messages: wait for the rest",
    SESSION,
)
def in_parts(probe: Probe) -> None:
    """Messages are one stream of bytes."""
    agent = probe.session()
    agent.say(HELLO[:4])
    said = agent.unasked(probe.timing.quiet)
    expect(said is None, f"4 bytes of a frame are answered {shown(said or b'')}")
    agent.say(HELLO[4:5])
    said = agent.unasked(probe.timing.quiet / 2)
    expect(said is None, f"a frame without its Le is answered {shown(said or b'')}")
    agent.say(HELLO[5:])
    succeeds(agent.answer(), None, "a frame in three messages")


@case("frame.lc-beyond", Level.FRAMES, "2.4", "an Lc beyond what is there: wait for it", SESSION)
def lc_beyond(probe: Probe) -> None:
    """It is no fault."""
    agent = probe.session()
    agent.say(frame(SYS_HELLO, bytes(9))[:-4])
    said = agent.unasked(probe.timing.quiet)
    expect(said is None, f"data that is not whole is answered {shown(said or b'')}")
    agent.say(bytes(4))
    succeeds(agent.answer(), None, "the frame, once it is whole")


@case("frame.several", Level.FRAMES, "2.2", "bytes behind a frame begin the next, at once", SESSION)
def several(probe: Probe) -> None:
    """Two frames in one message."""
    agent = probe.session()
    agent.say(HELLO + STATUS)
    succeeds(agent.answer(), None, "the first of two frames in a message")
    try:
        second = agent.answer(probe.timing.timeout / 2)
    except Silent:
        agent.say(HELLO, HELLO)
        expect(len(agent.answer()) > 2, "the bytes behind a frame are lost")
        probe.deviates("bytes behind a frame wait until another message arrives")
    succeeds(second, None, "the second of two frames in a message")


@case("frame.empty-message", Level.FRAMES, "2.2", "a message may be empty", SESSION)
def empty_message(probe: Probe) -> None:
    """It is no frame and no fault."""
    agent = probe.session()
    agent.say(b"", HELLO)
    succeeds(agent.answer(), None, "the frame behind an empty message")


@case("frame.order", Level.FRAMES, "1.4", "requests are answered in order, each once", SESSION)
def order(probe: Probe) -> None:
    """Twelve are sent before the first is answered."""
    agent = probe.session()
    single = [len(agent.ask(request)) for request in ROUND]
    agent.say(*ROUND, *ROUND)
    sizes = [len(agent.answer()) for _ in range(2 * len(ROUND))]
    expect(sizes == single * 2, f"the answers have {sizes} bytes, one by one {single * 2}")
    answer = agent.ask(HELLO)
    expect(len(answer) == single[0], f"the answer behind them has {len(answer)} bytes")


@case(
    "frame.version-bits", Level.FRAMES, "2.4", "version bits of CLA not 000: 6E00, close", SESSION
)
def version_bits(probe: Probe) -> None:
    """Also where bit 0 is wrong as well: the version comes first."""
    for cla in (0x20, 0x80, 0xE1):
        ends(probe.session(), frame(SYS_HELLO, cla=cla)[:6], "6E00", f"CLA {cla:02X}")


@case("frame.reserved-bit", Level.FRAMES, "2.4", "bit 0 of CLA: 6700, close", SESSION)
def reserved_bit(probe: Probe) -> None:
    """It has no meaning yet."""
    ends(probe.session(), frame(SYS_HELLO, cla=0x01), "6700", "CLA 01")


@case("frame.reserved-sec", Level.FRAMES, "2.4", "Sec = 11: 6E00, close", SESSION)
def reserved_sec(probe: Probe) -> None:
    """Deployed nodes take it for signed."""
    agent = probe.session()
    answer = agent.ask(agent.signed(SYS_HELLO, cla=0x0C))
    if answer[:4] == MAGIC:
        probe.deviates("Sec = 11 is taken for signed")
    is_status(answer, "6E00", "CLA 0C")
    expect(agent.ended(), "the session stays open after CLA 0C")


@case(
    "frame.placeholder",
    Level.FRAMES,
    "2.4",
    "byte 4 of an extended frame not 00: 6700, close",
    SESSION,
)
def placeholder(probe: Probe) -> None:
    """Decided at that byte."""
    ends(probe.session(), bytes.fromhex("0201000001"), "6700", "an extended frame with byte 4 = 01")


@case("frame.too-long", Level.FRAMES, "2.4", "Lc over 65,494: 6700, close", SESSION)
def too_long(probe: Probe) -> None:
    """Decided at the last byte of Lc."""
    ends(
        probe.session(),
        bytes.fromhex("02010000") + b"\0" + (MAX_DATA + 1).to_bytes(2, "big"),
        "6700",
        "an Lc of 65,495",
    )


@case(
    "frame.earlier-first",
    Level.FRAMES,
    "2.4",
    "earlier requests are answered before a fault",
    SESSION,
)
def earlier_first(probe: Probe) -> None:
    """And nothing behind the fault is read."""
    agent = probe.session()
    agent.say(HELLO, frame(SYS_HELLO, cla=0x20), STATUS)
    succeeds(agent.answer(), None, "the request before a malformed frame")
    is_status(agent.answer(), "6E00", "the malformed frame")
    expect(agent.ended(), "what stands behind a malformed frame is answered")


@case(
    "frame.unknown-code",
    Level.FRAMES,
    "5.2",
    "an unknown instruction: 6A81, and it goes on",
    SESSION,
)
def unknown_code(probe: Probe) -> None:
    """Only what is malformed or has a wrong tag closes."""
    refuses(probe.session(), frame(UNKNOWN), "6A81", f"code {UNKNOWN:02X}")
