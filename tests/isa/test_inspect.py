"""Frames taken apart for the eye."""

from __future__ import annotations

from typing import Annotated

import pytest

from asys.isa import SYS_HELLO, Empty, Instruction
from asys.isa.inspect import (
    FAULT,
    Part,
    describe_request,
    describe_response,
    instruction_of,
)
from asys.protocol.codec import Layout, layout, u8
from isa.shown import fault, plain, request, response


def test_a_bare_request() -> None:
    assert request("000100000000") == [
        (0, "00", "CLA", "version 0, plain"),
        (1, "01", "INS", "SYS_HELLO"),
        (2, "00", "P1", "no meaning here"),
        (3, "00", "P2", "no meaning here"),
        (4, "00", "Lc", "0 bytes of data"),
        (5, "00", "Le", "0: length expected, advisory"),
    ]


def test_a_signed_request() -> None:
    assert request("04200100080000000200003ec9001af4e27f70676aa2d4430cd74983852b") == [
        (0, "04", "CLA", "version 0, signed"),
        (1, "20", "INS", "PROC_THROTTLE"),
        (2, "01", "P1", "action = 1 (continue)"),
        (3, "00", "P2", "no meaning here"),
        (4, "08", "Lc", "8 bytes of data"),
        (5, "00000002", "Seq", "2"),
        (9, "00003ec9", "pid", "16073: process id"),
        (13, "00", "Le", "0: length expected, advisory"),
        (
            14,
            "1af4e27f70676aa2d4430cd74983852b",
            "Auth_Tag",
            "not verified: that takes the session's key",
        ),
    ]


def test_an_extended_signed_request() -> None:
    tag = "00" * 16
    assert request(f"06220000 00 0009 00000001 6e67696e78 0100 {tag}")[4:-1] == [
        (4, "00", "placeholder", "an extended length follows"),
        (5, "0009", "Lc", "9 bytes of data"),
        (7, "00000001", "Seq", "1"),
        (11, "6e67696e78", "name", "'nginx': service name without .service"),
        (16, "0100", "Le", "256: length expected, advisory"),
    ]


def test_several_frames() -> None:
    names = [part[2] for part in request("000100000000" + "001100000400057bb000" + "0003")]
    bare = ["CLA", "INS", "P1", "P2", "Lc", "Le"]
    assert names == [*bare, *bare[:5], "handle", "Le", "CLA", "INS", FAULT]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("", "nothing to read"),
        ("00", "cut short in INS: 0 of 1 bytes are here"),
        ("0001", "cut short in P1"),
        ("000100", "cut short in P2"),
        ("00010000", "cut short in Lc"),
        ("0001000000", "cut short in Le"),
        ("02010000", "cut short in the extended placeholder"),
        ("020100000000", "cut short in Lc: 1 of 2 bytes are here"),
        ("02010000000000", "cut short in Le: 0 of 2"),
        ("0011000004000000", "cut short in the data: 3 of 4 bytes are here; a node waits"),
        ("0420000008000000010000000100" + "00" * 15, "cut short in Auth_Tag: 15 of 16"),
        ("200100000000", "6E00 protocol version or class not supported: the version bits"),
        ("0c0100000000", "6E00 protocol version or class not supported: the security bits 11"),
        ("0d0100000000", "6E00 protocol version or class not supported: the security bits 11"),
        ("010100000000", "6700 wrong length or malformed frame: bit 0 is reserved"),
        ("02010000ff0001aa0000", "6700 wrong length or malformed frame: the extended placeholder"),
        ("02c0000000ffd7", "6700 wrong length or malformed frame: a frame has at most 65494"),
        ("000400000000", "6A81 the instruction does not exist for this agent"),
        ("00c0000002aabb00", "6A81 the instruction does not exist for this agent"),
        ("00200000040000000100", "6982 denied"),
        ("0020000000" + "00", "6982 denied"),
        ("042000000361626300" + "00" * 16, "6982 denied"),
        ("0420000000" + "00" + "00" * 16, "6982 denied"),
        (
            "0820000008" + "00000001" + "00000001" + "00" + "00" * 16,
            "a sealed payload has at least",
        ),
        ("0820000004" + "00000001" + "00" + "00" * 16, "a sealed payload has at least 16 bytes"),
        ("0420000008" + "00000000" + "00000001" + "00" + "00" * 16, "6985 this Seq was received"),
        ("0420000009" + "00000001" + "0000000100" + "00" + "00" * 16, "6700 wrong length"),
        ("0420000007" + "00000001" + "000001" + "00" + "00" * 16, "6700 wrong length"),
        ("0420020008" + "00000001" + "00000001" + "00" + "00" * 16, "2 is not a ThrottleAction"),
        ("0420000008" + "00000001" + "00000000" + "00" + "00" * 16, "0 is not within 1 to"),
        ("0422000004" + "00000001" + "00" + "00" * 16, "6700 wrong length"),
        ("0422000005" + "00000001" + "41" + "00" + "00" * 16, "6A80 the parameters"),
        (
            "0011000002000000",
            "6700 wrong length or malformed frame: TaskQuery has 4 bytes, not 2",
        ),
    ],
)
def test_faults(frame: str, says: str) -> None:
    assert says in fault(frame)


def test_parts_go_up_to_the_fault() -> None:
    assert request("02010000ff0001aa0000")[-2:] == [
        (3, "00", "P2", "no meaning here"),
        (
            4,
            "ff0001aa0000",
            FAULT,
            "6700 wrong length or malformed frame: the extended placeholder is not 00",
        ),
    ]


def test_what_does_not_fit_is_shown_and_named() -> None:
    tag = "00" * 16
    assert request(f"0420000009 00000001 0000000163 00 {tag}")[6:8] == [
        (9, "00000001", "pid", "1: process id"),
        (13, "63", "payload", "more than the instruction takes"),
    ]
    assert request(f"0420000006 00000001 0001 00 {tag}")[6][3] == "too short: Throttle has 4 bytes"
    assert request("0011000005 00057bb063 00")[6] == (9, "63", "payload", "ignored")
    assert request("0001000001 63 00")[5] == (5, "63", "payload", "ignored")


@pytest.mark.parametrize(
    ("cla", "says"),
    [
        (0x00, "version 0, plain"),
        (0x16, "version 0, signed, extended, more fragments follow"),
        (0x08, "version 0, enc+sign"),
        (0x4D, "version 2, reserved security level, reserved bit set"),
    ],
)
def test_what_a_class_says(cla: int, says: str) -> None:
    assert describe_request(bytes((cla,)))[0] == Part(0, bytes((cla,)), "CLA", says)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (0x04, "no instruction known here, group core"),
        (0x95, "no instruction known here, a reserved group"),
        (0xEE, "no instruction known here, group vendor"),
        (0x22, "SVC_RESTART"),
    ],
)
def test_what_a_code_says(code: int, says: str) -> None:
    assert describe_request(bytes((0, code)))[1].meaning == says


def test_texts_are_shown_without_their_control_characters() -> None:
    shown = request(f"0422000009 00000001 1b5b324aff 00 {'00' * 16}")[6]
    assert shown[3] == r"'\x1b[2J\xff': service name without .service"


def test_a_response_of_sys_caps() -> None:
    text = "0002000f0000000501000612002c0002000100005e29000000000003efe3000101009000"
    said = {name: meaning for _, _, name, meaning in response(text, "sys-caps")}
    assert said["core_bitmap"].startswith(
        "0002000F (SYS_CAPS, SYS_HELLO, SYS_STATUS, SYS_PROCS, TASK_QUERY): "
    )
    assert said["ext_bitmap"].startswith("00000005 (PROC_THROTTLE, SVC_RESTART): ")
    assert said["protocol_version"].startswith("1.0: ")
    assert said["architecture"] == "1 (x86_64): CPU architecture"
    assert said["ram_mb"] == "24105 MB: physical memory"
    assert said["SW"] == "9000 success; use the payload"


@pytest.mark.parametrize(
    ("page", "core", "ext"),
    [
        ("00", "SYS_CAPS", "PROC_THROTTLE"),
        ("01", "LOG_SUMMARY", "AGENT_ADD"),
        ("02", "80", "A0"),
        ("83", "C0", "E0"),
    ],
)
def test_bitmaps_of_a_page_name_the_codes_of_that_page(page: str, core: str, ext: str) -> None:
    said = response(f"00000001 00000001 {'00' * 25} {page} 9000", "SYS_CAPS")
    assert said[0][3].startswith(f"00000001 ({core}): ")
    assert said[1][3].startswith(f"00000001 ({ext}): ")


def test_bitmaps_name_what_is_not_known_by_its_code() -> None:
    said = response("80000010" + "00000000" + "00" * 26 + "9000", "SYS_CAPS")
    assert said[0][3].startswith("80000010 (04, 1F): ")
    assert said[1][3].startswith("00000000 (none): ")


def test_a_response_of_sys_hello() -> None:
    said = response("415359533d1219c718e9c9ca6d359f719000", "SYS_HELLO")
    assert said == [
        (0, "41535953", "magic", "'ASYS': \"ASYS\""),
        (4, "3d1219c7", "node_uid", "3d1219c7: first 8 hex digits of the machine id; 0: none"),
        (
            8,
            "18e9c9ca6d359f71",
            "time_ns",
            "1795187797736660849 ns (2026-11-20 15:16:37 UTC): the node's clock, Unix time",
        ),
        (16, "9000", "SW", "9000 success; use the payload"),
    ]
    odd = response("00ff0a1b" + "00" * 4 + "ff" * 8 + "9000", "SYS_HELLO")
    assert odd[0][3] == '00ff0a1b: "ASYS"'
    assert "2554-07-21" in odd[2][3]


def test_a_response_of_sys_status() -> None:
    said = response("1812640000590e0b0000000000000000ff000000009000", "SYS_STATUS")
    assert [part[3] for part in said[:3]] == [
        "2.4: load average over 1 minute",
        "1.8: load average over 5 minutes",
        "100 %: CPU in use, 100 = the whole machine",
    ]
    assert said[-4:-1] == [
        (16, "ff", "rpi_percent", "none: resource pressure index, 0 to 100"),
        (17, "00", "node_flags", "00 (none): 1 the audit is not on the disk"),
        (18, "000000", "reserved", "no meaning yet"),
    ]


def test_a_response_of_sys_procs() -> None:
    said = response("007c" + "000064202434" + "0005" + "00" * 32 + "9000", "SYS_PROCS")
    assert [part[2:] for part in said[1:7]] == [
        ("top[0].pid", "25632: process id; 0: empty slot"),
        ("top[0].cpu_percent", "92.68 %: CPU, 100 = one core"),
        ("top[0].memory_percent", "0 %: resident memory of all physical memory"),
        ("top[0].flags", "05 (zombie, root): 1 zombie, 2 uninterruptible, 4 owned by uid 0"),
        ("top[1]", "empty slot"),
        ("top[2]", "empty slot"),
    ]
    none = response("007c" + "000064202434" + "0000" + "00" * 32 + "9000", "SYS_PROCS")
    assert none[4][3].startswith("00 (none): ")


def test_a_response_of_a_task() -> None:
    assert response("00057bb09000", "SVC_RESTART")[0] == (
        0,
        "00057bb0",
        "handle",
        "00057BB0 (session 0005, number 7BB0): task handle, valid in this session only",
    )
    assert response("029000", "TASK_QUERY")[0][3].startswith("2 (failed): ")
    assert response("639000", "TASK_QUERY")[0][3].startswith("99 (unknown): ")


@pytest.mark.parametrize("text", ["", "90"])
def test_a_response_without_status_word(text: str) -> None:
    assert response(text, "SYS_HELLO") == [
        (0, text, FAULT, "a response ends in a status word of 2 bytes")
    ]


def test_a_response_that_is_an_error() -> None:
    assert response("6a81", "SYS_HELLO") == [
        (
            0,
            "6a81",
            "SW",
            "6A81 the instruction does not exist for this agent; "
            "refresh the capability map and stop",
        )
    ]
    assert response("ab6f07", "SYS_HELLO")[0][2:] == (
        "payload",
        "not expected with this status word",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("9000", "not a response to SYS_HELLO: Hello has 16 bytes, not 0"),
        ("415359539000", "not a response to SYS_HELLO: Hello has 16 bytes, not 4"),
        ("4153595300" + "9000", "not a response to SYS_HELLO: Hello has 16 bytes, not 5"),
        ("00" * 17 + "9000", "not a response to SYS_HELLO: Hello has 16 bytes, not 17"),
    ],
)
def test_a_response_of_another_length(text: str, says: str) -> None:
    said = response(text, "SYS_HELLO")
    assert said[-1][2:] == (FAULT, says)
    assert said[-2][2] == "SW"


def test_a_success_with_node_flags_is_read_as_one() -> None:
    said = response("00057bb09101", "SVC_RESTART")
    assert [part[2] for part in said] == ["handle", "SW"]
    assert said[1][3] == "9101 success, and the node has more to tell; use the payload"


def test_a_response_to_nobody_knows_what() -> None:
    assert plain(describe_response(b"\x01\x90\x00")) == [
        (0, "01", "payload", "name the instruction to have it read"),
        (1, "9000", "SW", "9000 success; use the payload"),
    ]
    assert [part.name for part in describe_response(b"\x90\x00")] == ["SW"]


@layout
class Strict(Layout):
    """A reply with a bound, as no instruction has one yet."""

    number: Annotated[int, u8("a number", most=3)]


def test_a_response_with_a_value_that_cannot_be() -> None:
    strict = Instruction(0x05, "STRICT", request=Empty, reply=Strict, guide=SYS_HELLO.guide)
    said = describe_response(b"\x04\x90\x00", strict)
    assert said[-1].meaning == "not a response to STRICT: 4 is not within 0 to 3"
    assert len(describe_response(b"\x03\x90\x00", strict)) == 2


def test_the_instruction_of_a_request() -> None:
    assert instruction_of(bytes.fromhex("000100000000")) is SYS_HELLO
    assert instruction_of(bytes.fromhex("00ee00000000")) is None
    assert instruction_of(b"\x00") is None
    assert instruction_of(b"") is None
