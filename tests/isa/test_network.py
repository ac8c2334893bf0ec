"""NET_ISOLATE: its bytes, and what may be left out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asys.errors import ArgumentError
from asys.isa import NET_ISOLATE, IsolateAction
from asys.isa.export import as_dict
from asys.isa.inspect import describe_request
from asys.isa.network import Isolate
from asys.protocol.codec import BadValue, Layout, WrongSize
from isa.golden import check

GOLDEN = Path(__file__).with_name("network_isa.golden")


def test_its_bytes_stay_where_they_are() -> None:
    check(GOLDEN, [NET_ISOLATE], "NET_ISOLATE")


@pytest.mark.parametrize(
    ("request_", "payload", "parameters"),
    [
        (Isolate(0x01020304, "isolate"), "01020304", (0, 0)),
        (Isolate(0x01020304, "isolate", keep_loopback=True), "01020304", (0, 1)),
        (Isolate(0x01020304, "isolate", ttl_s=0x0A0B0C0D), "010203040a0b0c0d", (0, 0)),
        (Isolate(1, IsolateAction.ISOLATE, True, 0xFFFFFFFF), "00000001ffffffff", (0, 1)),
        (Isolate(0xFFFFFFFF, "release"), "ffffffff", (1, 0)),
    ],
)
def test_known_requests(request_: Isolate, payload: str, parameters: tuple[int, int]) -> None:
    request_.check()
    assert request_.pack().hex() == payload
    assert request_.parameters() == parameters
    assert NET_ISOLATE.parse(*parameters, bytes.fromhex(payload)) == request_


def test_a_ttl_of_zero_may_be_written_out() -> None:
    assert NET_ISOLATE.parse(0, 0, bytes.fromhex("0000000100000000")) == Isolate(1, "isolate")


@pytest.mark.parametrize("p2", [0, 2, 0x80, 0xFE])
def test_of_p2_bit_0_alone_counts(p2: int) -> None:
    assert NET_ISOLATE.parse(0, p2, b"\0\0\0\1") == Isolate(1, "isolate")
    kept = NET_ISOLATE.parse(0, p2 | 1, b"\0\0\0\1")
    assert kept == Isolate(1, "isolate", keep_loopback=True)
    assert kept.parameters() == (0, 1)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 6, 7, 9, 12])
@pytest.mark.parametrize("p1", [0, 1, 2])
def test_another_length_is_a_wrong_size_whatever_p1_says(size: int, p1: int) -> None:
    with pytest.raises(WrongSize):
        NET_ISOLATE.parse(p1, 0, bytes(size))


@pytest.mark.parametrize("ttl", ["00000000", "00000001"])
def test_a_release_has_no_ttl(ttl: str) -> None:
    with pytest.raises(WrongSize, match="ttl_s does not go with this action"):
        NET_ISOLATE.parse(1, 0, bytes.fromhex("00000001" + ttl))


@pytest.mark.parametrize("payload", ["00000000", "0000000000000005"])
def test_pid_0_and_an_unknown_action_are_bad_values(payload: str) -> None:
    with pytest.raises(BadValue):
        NET_ISOLATE.parse(0, 0, bytes.fromhex(payload))
    with pytest.raises(BadValue):
        NET_ISOLATE.parse(2, 0, bytes.fromhex("00000001" + payload[8:]))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"action": "release", "ttl_s": 1}, "ttl_s does not go with this action"),
        ({"action": "isolate", "ttl_s": -1}, "ttl_s must be 0 to 4294967295"),
        ({"action": "isolate", "ttl_s": 1 << 32}, "ttl_s must be 0 to 4294967295"),
        ({"action": "isolate", "keep_loopback": 1}, "keep_loopback must be True or False"),
        ({"action": "isolate", "keep_loopback": "no"}, "keep_loopback must be True or False"),
    ],
)
def test_arguments_that_cannot_travel(arguments: dict[str, object], fault: str) -> None:
    make: type[Layout] = NET_ISOLATE.request
    with pytest.raises(ArgumentError, match=fault):
        make(pid=1, **arguments).check()  # type: ignore[call-arg]  # as a caller might
    with pytest.raises(ArgumentError, match="action must be one of"):
        Isolate(1, "cut").check()  # type: ignore[arg-type]  # as a caller might


def test_extra_bytes_where_they_are_ignored() -> None:
    assert Isolate.unpack(bytes.fromhex("000000010000000599"), more=True) == Isolate(
        1, "isolate", ttl_s=5
    )
    with pytest.raises(WrongSize):
        Isolate.unpack(bytes.fromhex("0000000199"), more=True)


def test_the_export_says_what_may_be_left_out() -> None:
    (found,) = [one for one in as_dict()["instructions"] if one["code"] == 0x21]
    json.dumps(found)
    assert (found["request"]["size_min"], found["request"]["size_max"]) == (4, 8)
    fields = {one["name"]: one for one in found["request"]["fields"]}
    assert fields["ttl_s"]["offset"] == 4
    assert fields["ttl_s"]["optional"] is True
    assert fields["ttl_s"]["only_with"] == {"action": 0}
    assert fields["keep_loopback"]["boolean"] is True
    assert "optional" not in fields["pid"]


def _said(frame: str) -> dict[str, str]:
    parts = describe_request(bytes.fromhex(frame))
    assert b"".join(part.raw for part in parts) == bytes.fromhex(frame)
    return {part.name: part.meaning for part in parts}


TAG = "00" * 16


def test_what_the_inspector_says() -> None:
    said = _said(f"0421000308000000010000012c00{TAG}")
    assert said["P2"] == "keep_loopback = 03 (yes)"
    assert said["pid"].startswith("300:")
    assert "ttl_s" not in said
    assert "fault" not in said
    said = _said(f"042100000c000000010000012c0000003c00{TAG}")
    assert said["P2"] == "keep_loopback = 00 (no)"
    assert said["ttl_s"].startswith("60 s:")
    assert "fault" not in said


@pytest.mark.parametrize("payload", ["0000012c0000", "0000012c0000003c00"])
def test_what_the_inspector_says_of_a_wrong_length(payload: str) -> None:
    size = f"{4 + len(payload) // 2:02x}"
    said = _said(f"04210000{size}00000001{payload}00{TAG}")
    assert said["fault"].startswith("6700")
    sealed = f"{4 + len(payload) // 2 + 16:02x}"
    said = _said(f"08210000{sealed}00000001{payload}{TAG}00{TAG}")
    assert said["fault"].startswith("6700")


def test_what_the_inspector_says_of_a_release_with_a_ttl() -> None:
    said = _said(f"042101000c000000010000012c0000003c00{TAG}")
    assert "ttl_s does not go with this action" in said["fault"]
