"""Group 0, Core ISA: plain, read-only, without side effects, locked for ever.

docs/protocol.md, section 6. Offsets never move; a test pins every byte.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, Final

from asys.isa.definition import Empty, Guide, Instruction, Risk
from asys.protocol.codec import Layout, layout, p1, raw, slots, u8, u16, u32, u64

PAGES: Final = 4
PAGE_MASK: Final = PAGES - 1
"""Bits of `page` in the answer that say which page it is."""


class Architecture(IntEnum):
    """CPU architecture of a node."""

    X86_64 = 1
    AARCH64 = 2
    RISCV64 = 3
    UNKNOWN = 0xFFFF


class FileSystem(IntEnum):
    """File system of a node's root."""

    EXT = 1
    XFS = 2
    BTRFS = 3
    TMPFS = 4
    NFS = 5
    OVERLAY = 6
    ZFS = 7
    F2FS = 8
    UNKNOWN = 0xFFFF


class PressureSource(IntEnum):
    """Where a node's resource pressure index (RPI) comes from."""

    KERNEL_PSI = 1
    SIMULATED = 2
    NONE = 0xFF


class ProcessFlags(IntFlag):
    """What is special about a process."""

    ZOMBIE = 1
    UNINTERRUPTIBLE = 2
    ROOT = 4


class NodeFlags(IntFlag):
    """What of a node does not work as it should, though the node goes on."""

    AUDIT_DEGRADED = 1


@layout
class Capabilities(Layout):
    """SYS_CAPS: what this agent may do on this node, and what the node is. 34 bytes."""

    core_bitmap: Annotated[int, u32("bit N: instruction 40 x page + N exists for this agent")]
    ext_bitmap: Annotated[int, u32("bit N: instruction 40 x page + 20 + N exists for this agent")]
    protocol_version: Annotated[int, u16("protocol version, high byte major")]
    kernel_major: Annotated[int, u8("kernel version, major")]
    kernel_minor: Annotated[int, u8("kernel version, minor")]
    kernel_patch: Annotated[int, u16("kernel version, patch")]
    cpu_count: Annotated[int, u16("CPUs online")]
    architecture: Annotated[
        Architecture, u16("CPU architecture", enum=Architecture, unknown=Architecture.UNKNOWN)
    ]
    ram_mb: Annotated[int, u32("physical memory", unit="MB")]
    swap_mb: Annotated[int, u32("swap space", unit="MB")]
    root_size_mb: Annotated[int, u32("size of the root file system", unit="MB")]
    root_file_system: Annotated[
        FileSystem, u16("type of the root file system", enum=FileSystem, unknown=FileSystem.UNKNOWN)
    ]
    rpi_source: Annotated[
        PressureSource,
        u8(
            "where the resource pressure index comes from",
            enum=PressureSource,
            unknown=PressureSource.NONE,
        ),
    ]
    page: Annotated[
        int, u8("bits 1-0: page of the capability map; bit 7: a node flag is up; the rest reserved")
    ]

    @property
    def lit(self) -> int:
        """The part of the capability map that this page shows; bit = code of the instruction."""
        return (self.ext_bitmap << 32 | self.core_bitmap) << 64 * (self.page & PAGE_MASK)

    def has(self, code: int) -> bool:
        """True when instruction `code` stands on this page and exists for this agent."""
        return code >= 0 and bool(self.lit >> code & 1)

    @property
    def instructions(self) -> tuple[int, ...]:
        """The codes of all instructions on this page that exist for this agent."""
        return tuple(code for code in range(0x100) if self.has(code))


@layout
class CapabilitiesPage(Layout):
    """Which 64 codes of the capability map to show; it travels as P1."""

    page: Annotated[int, p1("page of the capability map: codes 40 x page and up", most=3)] = 0


@layout
class Hello(Layout):
    """SYS_HELLO: the node is alive, and who it is. 16 bytes."""

    magic: Annotated[bytes, raw('"ASYS"', 4)]
    node_uid: Annotated[int, u32("first 8 hex digits of the machine id; 0: none")]
    time_ns: Annotated[int, u64("the node's clock, Unix time", unit="ns")]


@layout
class Status(Layout):
    """SYS_STATUS: the node's vitals in the last sampling interval. 21 bytes."""

    load1: Annotated[float, u8("load average over 1 minute", scale=10)]
    load5: Annotated[float, u8("load average over 5 minutes", scale=10)]
    cpu_percent: Annotated[int, u8("CPU in use, 100 = the whole machine", unit="%")]
    available_mb: Annotated[int, u32("memory available without swapping", unit="MB")]
    root_used_percent: Annotated[int, u8("root file system in use", unit="%")]
    io_wait_ms: Annotated[int, u32("time that CPUs waited for I/O", unit="ms")]
    inbound_mbps: Annotated[int, u16("received, all interfaces but loopback", unit="Mbit/s")]
    outbound_mbps: Annotated[int, u16("sent, all interfaces but loopback", unit="Mbit/s")]
    rpi_percent: Annotated[
        int | None,
        u8("resource pressure index, 0 to 100", unit="%", absent=0xFF),
    ]
    node_flags: Annotated[
        NodeFlags,
        u8("1 the audit is not on the disk", enum=NodeFlags, reserved=3),
    ] = NodeFlags(0)


@layout
class Process(Layout):
    """One process in SYS_PROCS. 8 bytes."""

    pid: Annotated[int, u32("process id; 0: empty slot")]
    cpu_percent: Annotated[float, u16("CPU, 100 = one core", unit="%", scale=100)]
    memory_percent: Annotated[int, u8("resident memory of all physical memory", unit="%")]
    flags: Annotated[
        ProcessFlags, u8("1 zombie, 2 uninterruptible, 4 owned by uid 0", enum=ProcessFlags)
    ]


@layout
class Processes(Layout):
    """SYS_PROCS: how many processes there are and which five use most CPU. 42 bytes."""

    count: Annotated[int, u16("processes on the node")]
    top: Annotated[
        tuple[Process, ...],
        slots("the processes with most CPU in the last interval, most first", Process, 5),
    ]


SYS_CAPS = Instruction(
    0x00,
    "SYS_CAPS",
    since="0.1.0",
    request=CapabilitiesPage,
    reply=Capabilities,
    ignores_extra=True,
    guide=Guide(
        description="What this agent may do on the node, and what kind of machine the node is.",
        when="First on every node, and again after any answer 6A81.",
        when_not="To watch load or memory in use: the machine's size does not change; "
        "SYS_STATUS has what does.",
        side_effects="None.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)

SYS_HELLO = Instruction(
    0x01,
    "SYS_HELLO",
    since="0.1.0",
    request=Empty,
    reply=Hello,
    ignores_extra=True,
    guide=Guide(
        description="Whether the node answers, which node it is, and what its clock says.",
        when="To see that a node is alive, to keep a connection open, to compare clocks.",
        when_not="To judge a node's health: it answers even on a machine in trouble.",
        side_effects="None; it does not even wake the node's sampler.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)

SYS_STATUS = Instruction(
    0x02,
    "SYS_STATUS",
    since="0.1.0",
    request=Empty,
    reply=Status,
    ignores_extra=True,
    guide=Guide(
        description="The node's vitals: load, CPU, memory, root file system, I/O wait, network, "
        "pressure.",
        when="To observe: before a decision, and after an action to see what it changed.",
        when_not="To find out which process is the cause: SYS_PROCS tells that.",
        side_effects="None; the node keeps sampling for 5 seconds.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)

SYS_PROCS = Instruction(
    0x03,
    "SYS_PROCS",
    since="0.1.0",
    request=Empty,
    reply=Processes,
    ignores_extra=True,
    guide=Guide(
        description="How many processes run, and the five that used most CPU in the last sampling "
        "interval, with their memory.",
        when="To find the process behind a high CPU reading, before acting on a PID.",
        when_not="To list all processes, or to look one up by name.",
        side_effects="None; the node keeps sampling for 5 seconds. A PID shown here is remembered "
        "for the session, so a later action on it cannot hit another process.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)

INSTRUCTIONS = (SYS_CAPS, SYS_HELLO, SYS_STATUS, SYS_PROCS)
