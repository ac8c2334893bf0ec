"""Sealed frames, and agents, taken apart for the eye."""

from __future__ import annotations

import pytest

from asys.isa.inspect import FAULT
from isa.shown import fault, request, response


def test_a_sealed_request() -> None:
    parts = request(f"08610000 34 00000001 {'aa' * 32} {'11' * 16} 00 {'22' * 16}")
    assert parts[0] == (0, "08", "CLA", "version 0, enc+sign")
    assert parts[1][3] == "AGENT_REMOVE"
    assert parts[5:] == [
        (5, "00000001", "Seq", "1"),
        (9, "aa" * 32, "sealed payload", "not opened: that takes the session's key"),
        (41, "11" * 16, "payload tag", "not verified: that takes the session's key"),
        (57, "00", "Le", "0: length expected, advisory"),
        (58, "22" * 16, "Auth_Tag", "not verified: that takes the session's key"),
    ]


def test_a_sealed_request_without_payload() -> None:
    parts = request(f"08620000 14 00000001 {'11' * 16} 00 {'22' * 16}")
    assert parts[2] == (2, "00", "P1", "page = 0")
    assert [part[2] for part in parts[5:]] == ["Seq", "payload tag", "Le", "Auth_Tag"]


def test_an_extended_sealed_request() -> None:
    parts = request(f"0a610700 00 0034 00000001 {'aa' * 32} {'11' * 16} 0000 {'22' * 16}")
    assert parts[0][3] == "version 0, enc+sign, extended"
    assert parts[2] == (2, "07", "P1", "no meaning here")
    assert [part[2] for part in parts[4:]] == [
        *("placeholder", "Lc", "Seq", "sealed payload", "payload tag", "Le", "Auth_Tag")
    ]


@pytest.mark.parametrize(
    ("code", "inner", "says"),
    [
        ("60", 68, "6700 wrong length or malformed frame: 68 bytes are sealed, AGENT_ADD takes 69"),
        ("60", 69, ""),
        ("60", 100, ""),
        ("60", 101, ""),  # how a text that is too long is answered, its length byte decides
        ("61", 31, "6700 wrong length or malformed frame: 31 bytes are sealed, AGENT_REMOVE takes"),
        ("61", 32, ""),
        ("61", 33, "6700 wrong length or malformed frame: 33 bytes are sealed, AGENT_REMOVE takes"),
        ("62", 1, "6700 wrong length or malformed frame: 1 bytes are sealed, AGENT_LIST takes 0"),
        ("00", 9, ""),  # it ignores what it does not take
        ("20", 4, ""),  # higher than its level is accepted
        ("63", 0, "6A81 the instruction does not exist for this agent: the code is not known"),
    ],
)
def test_what_can_be_said_of_a_sealed_payload(code: str, inner: int, says: str) -> None:
    head = f"08{code}0000 {20 + inner:02x}"
    parts = request(f"{head} 00000001 {'aa' * inner} {'11' * 16} 00 {'22' * 16}")
    assert parts[-1][2] == (FAULT if says else "Auth_Tag")
    assert parts[-1][3].startswith(says)
    again = request(f"{head} 00000000 {'aa' * inner} {'11' * 16} 00 {'22' * 16}")
    assert again[-1][3].startswith("6985 this Seq was received before")


def test_what_must_be_sealed_and_is_not() -> None:
    tag = "22" * 16
    said = "6982 denied: the identity is fine, this target or security level is not: "
    assert fault("006200000000") == said + "AGENT_LIST must be enc-sign"
    assert fault(f"04620000 04 00000001 00 {tag}") == said + "AGENT_LIST must be enc-sign"


def test_a_request_for_an_agent_in_the_words_of_its_fields() -> None:
    """What a dissected frame shows of AGENT_ADD when its payload is in clear."""
    caps = (1 << 0x20 | 1 << 0x0F) << 192
    words = b"".join((caps >> shift & 0xFFFFFFFF).to_bytes(4, "big") for shift in range(0, 256, 32))
    payload = f"{'4b' * 32} {words.hex()} 00000e10 05 {b'cron1'.hex()}"
    parts = request(f"04600000 4e 00000001 {payload} 00 {'22' * 16}")
    assert [part[2:] for part in parts[6:11]] == [
        ("key", f"{'4b' * 32}: static public key of the agent"),
        ("caps", "'CF,E0': capability map, at most what the caller has"),
        ("ttl_s", "3600 s: time after which it ends by itself; 0: never"),
        ("label length", "5 bytes of text follow"),
        ("label", "'cron1': a name for it, or nothing"),
    ]
    bare = f"{'4b' * 32} {'00' * 32} 00000000 00"
    parts = request(f"04600000 49 00000001 {bare} 00 {'22' * 16}")
    assert [part[2:] for part in parts[7:11]] == [
        ("caps", "none: capability map, at most what the caller has"),
        ("ttl_s", "0 s: time after which it ends by itself; 0: never"),
        ("label length", "0 bytes of text follow"),
        ("Le", "0: length expected, advisory"),
    ]


ROW = f"{'41' * 32} deadbeef {'0002000f' + '00' * 28} 65920080 03 000000 {'61' * 31}00"


def test_a_response_of_agent_list() -> None:
    said = response(f"0023 02 01 {ROW} {'00' * 107}80 9100", "AGENT_LIST")
    assert [part[2:] for part in said] == [
        ("total", "35: agents on all pages"),
        ("count", "2: agents on this page"),
        ("page", "1: this page"),
        ("agents[0].key", f"{'41' * 32}: static public key"),
        ("agents[0].parent_hash", "deadbeef: key hash of who added it; zero: the node's admin"),
        (
            "agents[0].caps",
            "'SYS_CAPS,SYS_HELLO,SYS_STATUS,SYS_PROCS,TASK_QUERY': what exists for it now",
        ),
        (
            "agents[0].expires",
            "1704067200 (2024-01-01 00:00:00 UTC): when it ends, Unix time; 0: never",
        ),
        ("agents[0].flags", "03 (connected, admin): 1 connected, 2 admin"),
        ("agents[0].reserved", "no meaning yet"),
        ("agents[0].label", f"'{'a' * 31}': its name, filled up with zero bytes"),
        ("agents[1].key", f"{'00' * 32}: static public key"),
        ("agents[1].parent_hash", "00000000: key hash of who added it; zero: the node's admin"),
        ("agents[1].caps", "none: what exists for it now"),
        ("agents[1].expires", "0 (never): when it ends, Unix time; 0: never"),
        ("agents[1].flags", "00 (none): 1 connected, 2 admin"),
        ("agents[1].reserved", "no meaning yet"),
        ("agents[1].label", r"'" + "\\x00" * 31 + r"\ufffd': its name, filled up with zero bytes"),
        ("SW", "9100 success, and the node has more to tell; use the payload"),
    ]


@pytest.mark.parametrize(
    ("payload", "left", "says"),
    [
        (f"0001 02 00 {ROW}", "", "108 bytes are not 2 rows of 108"),
        (f"0001 01 00 {ROW} 00ff", "00ff", "110 bytes are not 1 rows of 108"),
        ("0001 01 00 4141", "4141", "2 bytes are not 1 rows of 108"),
        ("0001 01", "", "Agents has 4 bytes, not 3"),
        ("0001 01 00", "", "0 bytes are not 1 rows of 108"),
        (f"0040 21 00 {ROW * 33}", "", "33 rows; 32 are the most"),
    ],
)
def test_rows_that_are_not_what_they_say(payload: str, left: str, says: str) -> None:
    said = response(f"{payload} 9000", "AGENT_LIST")
    assert said[-1][2:] == (FAULT, f"not a response to AGENT_LIST: {says}")
    assert [part[1] for part in said if part[2] == "payload"] == [left] * bool(left)


def test_a_page_past_the_end() -> None:
    said = response("0023 00 ff 9000", "AGENT_LIST")
    assert [part[2] for part in said] == ["total", "count", "page", "SW"]


def test_responses_of_the_new_instructions() -> None:
    assert [part[2:] for part in response("0002 9000", "ABANDON")[:1]] == [
        ("closed", "2: other sessions of this agent that were closed")
    ]
    assert response("31323334 9000", "AGENT_ADD")[0][2:] == (
        "key_hash",
        "31323334: first 4 bytes of the BLAKE2b of its key",
    )
    for name in ("REKEY", "AGENT_REMOVE"):
        assert [part[2] for part in response("9000", name)] == ["SW"]
