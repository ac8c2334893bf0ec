"""The bytes of deployed instructions stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from asys.isa import REGISTRY, SYS_HELLO, SYS_STATUS, AnyInstruction, Guide, Instruction, Level
from asys.isa.core import Hello, NodeFlags, Status
from asys.isa.definition import Empty
from asys.protocol.codec import Layout, layout, raw, u8, u16, u32, u64
from isa.golden import check, lines

HERE = Path(__file__).parent
CORE = HERE / "core_isa.golden"
STANDARD = HERE / "standard_isa.golden"
DEPLOYED_STANDARD = (0x11, 0x20, 0x22)


def test_the_core_isa_is_locked_for_ever() -> None:
    check(CORE, [one for one in REGISTRY if one.code < 0x10], "the Core ISA")


def test_the_deployed_standard_isa_is_locked_for_ever() -> None:
    deployed = [one for one in REGISTRY if one.code in DEPLOYED_STANDARD]
    check(STANDARD, deployed, "the Standard ISA that is deployed")


def test_every_byte_of_a_response_is_pinned() -> None:
    """Also the reserved ones and those of the status word: no gap, no overlap."""
    sizes = {"SYS_CAPS": 36, "SYS_HELLO": 18, "SYS_STATUS": 23, "SYS_PROCS": 44}
    sizes |= {"TASK_QUERY": 3, "PROC_THROTTLE": 2, "SVC_RESTART": 6}
    for name, size in sizes.items():
        seen = [0] * size
        for line in (CORE.read_text() + STANDARD.read_text()).splitlines():
            who, direction, offset, *rest = line.split()
            if (who, direction) == (name, "response") and offset.isdigit() and "slots" not in rest:
                for byte in range(int(offset), int(offset) + int(rest[0])):
                    seen[byte] += 1
        assert seen == [1] * size


@layout
class HelloSwapped(Layout):
    """Hello with two fields in each other's place."""

    magic: Annotated[bytes, raw("", 4)]
    time_ns: Annotated[int, u64("")]
    node_uid: Annotated[int, u32("")]


@layout
class HelloLonger(Layout):
    """Hello with a byte more."""

    magic: Annotated[bytes, raw("", 4)]
    node_uid: Annotated[int, u32("")]
    time_ns: Annotated[int, u64("")]
    more: Annotated[int, u8("")]


@layout
class HelloScaled(Layout):
    """Hello with another scale."""

    magic: Annotated[bytes, raw("", 4)]
    node_uid: Annotated[int, u32("")]
    time_ns: Annotated[float, u64("", scale=10)]


@layout
class HelloRenamed(Layout):
    """Hello with another name."""

    magic: Annotated[bytes, raw("", 4)]
    uid: Annotated[int, u32("")]
    time_ns: Annotated[int, u64("")]


@layout
class HelloSplit(Layout):
    """Hello with a field in two."""

    magic: Annotated[bytes, raw("", 4)]
    node_uid: Annotated[int, u16("")]
    node_uid_low: Annotated[int, u16("")]
    time_ns: Annotated[int, u64("")]


def _hello(
    reply: type[Layout], code: int = 0x01, level: Level = Level.PLAIN
) -> Instruction[[], Layout]:
    guide: Guide = SYS_HELLO.guide
    return Instruction(code, "SYS_HELLO", request=Empty, reply=reply, guide=guide, level=level)


@pytest.mark.parametrize(
    "changed",
    [
        _hello(HelloSwapped),
        _hello(HelloLonger),
        _hello(HelloScaled),
        _hello(HelloRenamed),
        _hello(HelloSplit),
        _hello(Hello, code=0x04),
        _hello(Hello, level=Level.SIGNED),
    ],
)
def test_a_change_fails_and_says_that_it_is_locked(changed: AnyInstruction, tmp_path: Path) -> None:
    agreed = tmp_path / "agreed.golden"
    agreed.write_text("\n".join(lines([_hello(Hello)])) + "\n", encoding="utf-8")
    check(agreed, [SYS_HELLO], "SYS_HELLO")
    with pytest.raises(AssertionError, match="locked for ever") as caught:
        check(agreed, [changed], "SYS_HELLO")
    assert "agreed.golden" in str(caught.value)
    assert "gone: [" in str(caught.value)


def test_an_instruction_that_is_gone_fails() -> None:
    core = [one for one in REGISTRY if one.code < 0x10]
    with pytest.raises(AssertionError, match="locked for ever"):
        check(CORE, core[:-1], "the Core ISA")
    with pytest.raises(AssertionError, match="the order is another"):
        check(CORE, [core[1], core[0], *core[2:]], "the Core ISA")


def test_a_field_may_take_reserved_bytes_with_a_line_of_its_own(tmp_path: Path) -> None:
    """What section 9 allows shows as that one line, and nothing else moves."""

    @layout
    class StatusWithMore(Layout):
        """SYS_STATUS with a field in the first reserved byte."""

        load1: Annotated[float, u8("", scale=10)]
        load5: Annotated[float, u8("", scale=10)]
        cpu_percent: Annotated[int, u8("")]
        available_mb: Annotated[int, u32("")]
        root_used_percent: Annotated[int, u8("")]
        io_wait_ms: Annotated[int, u32("")]
        inbound_mbps: Annotated[int, u16("")]
        outbound_mbps: Annotated[int, u16("")]
        rpi_percent: Annotated[int | None, u8("", absent=0xFF)]
        node_flags: Annotated[NodeFlags, u8("", enum=NodeFlags)]
        more: Annotated[int, u8("", reserved=2)]

    assert StatusWithMore.SIZE == Status.SIZE
    changed = Instruction(
        0x02, "SYS_STATUS", request=Empty, reply=StatusWithMore, guide=SYS_STATUS.guide
    )
    before, after = set(lines([SYS_STATUS])), set(lines([changed]))
    assert before - after == {"SYS_STATUS response 18 3 - reserved -"}
    assert after - before == {
        "SYS_STATUS response 18 1 more u8 1",
        "SYS_STATUS response 19 2 - reserved -",
    }
