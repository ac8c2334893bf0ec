"""Level 3: Core ISA. Each is some bytes of an answer that are wrong."""

from __future__ import annotations

import secrets
from typing import ClassVar

from conformance.model import Node
from conformance.parts import INVALID, WRONG_LENGTH, Connection, Frame


def swapped(data: bytes, start: int, size: int) -> bytes:
    """An answer with one of its numbers in little-endian."""
    return data[:start] + data[start : start + size][::-1] + data[start + size :]


def with_byte(data: bytes, at: int, value: int) -> bytes:
    """An answer with another byte in one place."""
    return data[:at] + bytes((value,)) + data[at + 1 :]


class LongCaps(Node):
    """37 bytes."""

    caught_by = ("caps.length",)

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words, page) + b"\0"


class LongHello(Node):
    """19 bytes."""

    caught_by = ("hello.length",)

    def hello(self) -> bytes:
        return super().hello() + b"\0"


class ShortStatus(Node):
    """Without its reserved bytes."""

    caught_by = ("status.length",)

    def status(self) -> bytes:
        return super().status()[:-3]


class LongProcs(Node):
    """Six slots."""

    caught_by = ("procs.length",)

    def procs(self) -> bytes:
        return super().procs() + bytes(8)


class RefusesData(Node):
    """6700 for SYS_PROCS with data."""

    caught_by = ("core.data-ignored",)

    def do_03(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return WRONG_LENGTH if payload else super().do_03(one, frame, payload)


class RefusesParameters(Node):
    """6A80 for SYS_STATUS with a P1."""

    caught_by = ("core.parameters-ignored",)

    def do_02(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return INVALID if frame.p1 else super().do_02(one, frame, payload)


class AnotherVersion(Node):
    """1.1 in SYS_CAPS, 1.0 in its first frame."""

    caught_by = ("caps.version",)

    def caps(self, words: bytes, page: int) -> bytes:
        return with_byte(super().caps(words, page), 9, 1)


class LittleEndianBitmap(Node):
    """The words of the map the wrong way round."""

    caught_by = ("caps.bitmap", "dark.map")

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words[3::-1] + words[:3:-1], page)


class LittleEndianPatch(Node):
    """Kernel 6.18.11264."""

    caught_by = ("caps.kernel",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 12, 2)


class LittleEndianCpus(Node):
    """512 CPUs."""

    caught_by = ("caps.kernel",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 14, 2)


class LittleEndianMemory(Node):
    """RAM the wrong way round."""

    caught_by = ("caps.memory",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 18, 4)


class LittleEndianSwap(Node):
    """Swap the wrong way round."""

    caught_by = ("caps.memory",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 22, 4)


class LittleEndianRoot(Node):
    """The root file system's size the wrong way round."""

    caught_by = ("caps.memory",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 26, 4)


class LittleEndianArchitecture(Node):
    """0100 for x86_64."""

    caught_by = ("caps.codes",)

    def caps(self, words: bytes, page: int) -> bytes:
        return swapped(super().caps(words, page), 16, 2)


class ReservedBits(Node):
    """A bit of byte 33 that has no meaning."""

    caught_by = ("caps.reserved",)

    def caps(self, words: bytes, page: int) -> bytes:
        return with_byte(super().caps(words, page), 33, page | 8)


class HelloMagic(Node):
    """Another magic."""

    caught_by = ("hello.magic",)

    def hello(self) -> bytes:
        return b"asys" + super().hello()[4:]


class NewUid(Node):
    """Another UID each time."""

    caught_by = ("hello.uid",)

    def hello(self) -> bytes:
        hello = super().hello()
        return hello[:4] + secrets.token_bytes(4) + hello[8:]


class LittleEndianTime(Node):
    """The clock the wrong way round."""

    caught_by = ("hello.time",)

    def hello(self) -> bytes:
        return swapped(super().hello(), 8, 8)


class SecondsNotNanoseconds(Node):
    """Unix time in s."""

    caught_by = ("hello.time",)

    def hello(self) -> bytes:
        hello = super().hello()
        return hello[:8] + (int.from_bytes(hello[8:], "big") // 10**9).to_bytes(8, "big")


class StoppedClock(Node):
    """The same time in every answer."""

    caught_by = ("hello.time",)

    def __init__(self) -> None:
        super().__init__()
        self._hello = super().hello()

    def hello(self) -> bytes:
        return self._hello


class PerCpu(Node):
    """200 % of CPU."""

    caught_by = ("status.ranges",)

    def status(self) -> bytes:
        return with_byte(super().status(), 2, 200)


class NoPressure(Node):
    """No RPI in SYS_STATUS, and one in SYS_CAPS."""

    caught_by = ("status.ranges",)

    def status(self) -> bytes:
        return with_byte(super().status(), 16, 0xFF)


class LittleEndianAvailable(Node):
    """Available memory the wrong way round."""

    caught_by = ("status.memory",)

    def status(self) -> bytes:
        return swapped(super().status(), 3, 4)


class LittleEndianIoWait(Node):
    """I/O wait the wrong way round."""

    caught_by = ("status.io-wait",)

    def status(self) -> bytes:
        return swapped(super().status(), 8, 4)


class ReservedBytes(Node):
    """Something in the reserved bytes of SYS_STATUS."""

    caught_by = ("status.reserved",)

    def status(self) -> bytes:
        return with_byte(super().status(), 19, 1)


class LittleEndianPids(Node):
    """A PID the wrong way round."""

    caught_by = ("procs.pids",)

    def procs(self) -> bytes:
        return swapped(super().procs(), 2, 4)


class PidTwice(Node):
    """A process that stands in two slots."""

    caught_by = ("procs.pids",)

    def procs(self) -> bytes:
        procs = super().procs()
        return procs[:10] + procs[2:10] + procs[18:]


class DirtySlot(Node):
    """An empty slot with a share of CPU in it."""

    caught_by = ("procs.slots",)

    def procs(self) -> bytes:
        return with_byte(super().procs(), 41, 4)


class GapInSlots(Node):
    """An empty slot before one that is not."""

    caught_by = ("procs.slots",)

    def procs(self) -> bytes:
        procs = super().procs()
        return procs[:26] + bytes(8) + bytes.fromhex("000009e300000004")


class LittleEndianShares(Node):
    """Shares of CPU the wrong way round."""

    caught_by = ("procs.order",)
    SHARES: ClassVar = range(5)

    def procs(self) -> bytes:
        procs = super().procs()
        for slot in self.SHARES:
            procs = swapped(procs, 6 + 8 * slot, 2)
        return procs


class UnknownFlags(Node):
    """A flag that has no meaning."""

    caught_by = ("procs.fields",)

    def procs(self) -> bytes:
        return with_byte(super().procs(), 9, 0x10)
