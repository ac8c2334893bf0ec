"""The bytes of REKEY, ABANDON and the instructions that hand on rights, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ArgumentError
from asys.isa import (
    ABANDON,
    AGENT_ADD,
    AGENT_LIST,
    AGENT_REMOVE,
    REKEY,
    SYS_CAPS,
    Abandoned,
    AgentFlags,
    AgentHash,
    Agents,
    CapabilityMap,
    Empty,
    ListedAgent,
)
from asys.isa.core import Capabilities, CapabilitiesPage
from asys.isa.security import AgentKey, AgentPage, NewAgent
from asys.protocol.codec import BadValue, WrongSize

KEY = bytes(range(32))
CAPS = bytes.fromhex("0002000f 00000005" + "00000000" * 6)
"""SYS_CAPS to SYS_PROCS, TASK_QUERY, PROC_THROTTLE and SVC_RESTART."""

LIT = "SYS_CAPS,SYS_HELLO,SYS_STATUS,SYS_PROCS,TASK_QUERY,PROC_THROTTLE,SVC_RESTART"
NEW = KEY + CAPS + bytes.fromhex("00000e10 05") + b"cron1"


def listed(octet: int, flags: int = 0) -> ListedAgent:
    """A row whose key is made of one octet."""
    return ListedAgent(
        bytes([octet]) * 32, b"\xde\xad\xbe\xef", CapabilityMap(1), 9, AgentFlags(flags), "a"
    )


def row(octet: int, flags: int = 0) -> bytes:
    """The 108 bytes of `listed`."""
    return (
        bytes([octet]) * 32
        + b"\xde\xad\xbe\xef"
        + bytes((0, 0, 0, 1))
        + bytes(28)
        + bytes((0, 0, 0, 9))
        + bytes((flags, 0, 0, 0))
        + b"a".ljust(32, b"\0")
    )


def test_an_agent_to_add() -> None:
    request = NewAgent(KEY, LIT, 3600, "cron1")
    request.check()
    assert request.pack() == NEW
    assert request.parameters() == (0, 0)
    read = AGENT_ADD.parse(7, 7, NEW)
    assert read == request
    assert isinstance(read, NewAgent)
    assert read.caps == CapabilityMap.of(LIT)
    assert str(read.caps) == LIT
    assert AgentHash.unpack(b"abcd") == AgentHash(b"abcd")


def test_an_agent_to_add_with_nothing_but_what_it_needs() -> None:
    request = NewAgent(KEY, "")
    request.check()
    assert request.pack() == KEY + bytes(37)
    assert AGENT_ADD.parse(0, 0, KEY + bytes(37)) == request


@pytest.mark.parametrize("size", [0, 1, 31, 32, 68])
def test_an_agent_to_add_that_is_too_short(size: int) -> None:
    with pytest.raises(WrongSize, match=f"NewAgent has 69 bytes, not {size}"):
        AGENT_ADD.parse(0, 0, NEW[:size])


@pytest.mark.parametrize("said", [0, 1, 4, 6, 255])
def test_a_label_of_another_length_than_it_says(said: int) -> None:
    with pytest.raises(WrongSize, match="label has another length"):
        AGENT_ADD.parse(0, 0, NEW[:68] + bytes((said,)) + b"cron1")


@pytest.mark.parametrize(
    "label",
    [
        b"x" * 32,
        b"x" * 255,
        b"a b",
        b"a=b",
        b"a,b",
        b"#",
        b"\n",
        b"a\n",
        b"a\0",
        b"\xff",
        b"\xc3\xa4",
    ],
)
def test_a_label_that_cannot_be_one(label: bytes) -> None:
    with pytest.raises(BadValue, match="characters"):
        AGENT_ADD.parse(0, 0, NEW[:68] + bytes((len(label),)) + label)


@pytest.mark.parametrize("label", ["", "a", "x" * 31, "A.b_c-9", "-", "."])
def test_labels(label: str) -> None:
    request = NewAgent(KEY, "core", 0, label)
    request.check()
    assert AGENT_ADD.parse(0, 0, request.pack()) == request


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"key": KEY[:31]}, "key must be 32 bytes"),
        ({"key": KEY.hex()}, "key must be 32 bytes"),
        ({"ttl_s": -1}, "ttl_s must be 0 to 4294967295, not -1"),
        ({"ttl_s": 1 << 32}, "ttl_s must be 0 to 4294967295, not 4294967296"),
        ({"ttl_s": 1.5}, "ttl_s must be a number, not 1.5"),
        ({"label": "x" * 32}, "label has 32 characters, not 0 to 31: "),
        ({"label": "a b"}, "label has characters other than [A-Za-z0-9._-]*: 'a b'"),
        ({"caps": "cores"}, "capability map: 'cores' is no instruction, hex code or set; there "),
        ({"caps": 7}, "a capability map is a text such as 'core,20', not 7"),
        ({"caps": CAPS}, "a capability map is a text such as 'core,20', not b'"),
    ],
)
def test_arguments_that_are_refused_before_anything_is_sent(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        NewAgent(**{"key": KEY, "caps": "core", **arguments}).check()
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_agent_to_remove(size: int) -> None:
    assert AGENT_REMOVE.parse(0, 0, KEY) == AgentKey(KEY)
    assert AgentKey(KEY).pack() == KEY
    with pytest.raises(WrongSize, match=f"AgentKey has 32 bytes, not {size}"):
        AGENT_REMOVE.parse(0, 0, bytes(size))


@given(st.integers(0, 255))
def test_pages_of_agents(page: int) -> None:
    """Any page may be asked for: past the end there is none on it."""
    request = AGENT_LIST.parse(page, 9, b"")
    assert request == AgentPage(page)
    assert (request.pack(), request.parameters()) == (b"", (page, 0))
    request.check()
    past = Agents(65_535, 0, page, ())
    assert past.pack() == b"\xff\xff\x00" + bytes((page,))
    assert Agents.unpack(past.pack()) == past
    with pytest.raises(WrongSize):
        AGENT_LIST.parse(page, 0, b"\0")


def test_a_list_of_agents() -> None:
    both = AgentFlags.CONNECTED | AgentFlags.ADMIN
    agents = Agents(34, 2, 1, (listed(7), listed(8, both)))
    assert agents.pack() == b"\x00\x22\x02\x01" + row(7) + row(8, 3)
    assert Agents.unpack(agents.pack()) == agents
    assert ListedAgent.SIZE == 108
    assert Agents.unpack(agents.pack()).agents[1].flags is both


@pytest.mark.parametrize("rows", [0, 1, 31, 32])
def test_full_and_empty_pages(rows: int) -> None:
    payload = b"\x01\x00" + bytes((rows, 7)) + row(5) * rows
    assert Agents.unpack(payload).agents == (listed(5),) * rows


@pytest.mark.parametrize(
    ("count", "content", "says"),
    [
        (33, row(5) * 33, "33 rows; 32 are the most"),
        (1, b"", "0 bytes are not 1 rows of 108"),
        (0, row(5), "108 bytes are not 0 rows of 108"),
        (2, row(5), "108 bytes are not 2 rows of 108"),
        (1, row(5)[:-1], "107 bytes are not 1 rows of 108"),
        (1, row(5) + b"\0", "109 bytes are not 1 rows of 108"),
    ],
)
def test_a_list_that_is_not_what_it_says(count: int, content: bytes, says: str) -> None:
    with pytest.raises(WrongSize, match=says):
        Agents.unpack(b"\x00\x22" + bytes((count, 0)) + content)


@given(st.integers(0, 255))
def test_flags_of_a_later_node_do_no_harm(flags: int) -> None:
    payload = b"\x00\x01\x01\x00" + row(5, flags)
    (one,) = Agents.unpack(payload).agents
    assert (AgentFlags.CONNECTED in one.flags) == bool(flags & 1)
    assert (AgentFlags.ADMIN in one.flags) == bool(flags & 2)
    assert one.flags == flags
    assert repr(one.flags)
    assert Agents(1, 1, 0, (one,)).pack() == payload


def test_reserved_bytes_of_a_row_are_ignored() -> None:
    strange = bytearray(row(5))
    strange[73:76] = b"\xff" * 3
    assert ListedAgent.unpack(bytes(strange)) == listed(5)


def test_rekey_and_abandon() -> None:
    for one in (REKEY, ABANDON):
        assert one.parse(9, 9, b"") == Empty()
        with pytest.raises(WrongSize, match="Empty has 0 bytes, not 1"):
            one.parse(0, 0, b"\0")
    assert Abandoned(258).pack() == b"\x01\x02"
    assert ABANDON.reply.unpack(b"\x01\x02") == Abandoned(258)
    assert REKEY.reply is Empty


def test_pages_of_the_capability_map() -> None:
    for page in range(4):
        assert SYS_CAPS.parse(page, 9, b"ignored") == CapabilitiesPage(page)
        assert CapabilitiesPage(page).parameters() == (page, 0)
    for page in (4, 5, 255):
        with pytest.raises(BadValue, match=f"{page} is not within 0 to 3"):
            SYS_CAPS.parse(page, 0, b"")
    with pytest.raises(ArgumentError, match="page must be 0 to 3, not 4"):
        CapabilitiesPage(4).check()
    assert SYS_CAPS.parse(0, 0, b"") == CapabilitiesPage() == SYS_CAPS.make_request()


@pytest.mark.parametrize("flags", [0x00, 0x80, 0xFC])
@pytest.mark.parametrize("page", range(4))
def test_what_a_page_says(page: int, flags: int) -> None:
    """The echo of the page says which codes the words are; the other bits are not of it."""
    caps = Capabilities.unpack(b"\x80\0\0\1\0\0\0\4" + bytes(25) + bytes((page | flags,)))
    lit = (64 * page, 64 * page + 31, 64 * page + 34)
    assert caps.instructions == lit
    assert [code for code in range(-300, 300) if caps.has(code)] == list(lit)
    assert list(CapabilityMap(caps.lit)) == list(lit)
