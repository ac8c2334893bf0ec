"""`authorized_agents`: whatever is in the file, only lines that are understood whole grant."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.node.agents import Agent, AgentBook, BadLine, line_key, parse_agents, parse_line
from asys.node.capability import ALL, CORE, describe, parse_caps
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(bytes(range(1, 33))).public
OTHER = PrivateKey(bytes(range(2, 34))).public
HEX = KEY.hex()

P = 2**255 - 19
LOW_ORDER = [
    (value | high << 255).to_bytes(32, "little")
    for high in (0, 1)
    for value in (
        *(0, 1, P - 1, P, P + 1),
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
]
"""Every encoding of a point whose order divides 8 on Curve25519 or its twist."""


def faults(text: str) -> list[int]:
    """Numbers of the lines that are refused; nothing else in the file may be granted."""
    book = parse_agents(text)
    assert not book.agents
    return [number for number, _ in book.faults]


@pytest.mark.parametrize(
    ("line", "label", "caps"),
    [
        (HEX, "", CORE),
        (HEX.upper(), "", CORE),
        (f"{HEX} agent-1", "agent-1", CORE),
        (f"\t{HEX}\t agent.1_x \t", "agent.1_x", CORE),
        (f"{HEX} {'x' * 31}", "x" * 31, CORE),
        (f"{HEX} caps=all", "", ALL),
        (f"{HEX} a caps=core,PROC_THROTTLE", "a", CORE | 1 << 0x20),
        (f"{HEX} a caps=sys_hello,22,fF", "a", 1 << 1 | 1 << 0x22 | 1 << 0xFF),
        (f"{HEX} 00\r", "00", CORE),
    ],
)
def test_good_lines(line: str, label: str, caps: int) -> None:
    book = parse_agents(f"# agents\n\n{line}\n")
    assert book == AgentBook({KEY: Agent(KEY, label, caps, 3)}, ())
    assert book.get(KEY) == Agent(KEY, label, caps, 3)
    assert book.get(OTHER) is None


def test_what_logs_call_an_agent() -> None:
    assert parse_line(f"{HEX} watcher", 1).name == "watcher"
    assert parse_line(HEX, 1).name == HEX[:8]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("hello", "64 hex digits"),
        (HEX[:-1], "64 hex digits"),
        (HEX + "0", "64 hex digits"),
        (HEX[:-1] + "g", "64 hex digits"),
        (f"label {HEX}", "64 hex digits"),
        (f"caps=core {HEX}", "64 hex digits"),
        (f'"{HEX}"', "64 hex digits"),
        (f"{HEX},a", "64 hex digits"),
        (HEX[:-1] + "\N{FULLWIDTH DIGIT ONE}", "64 hex digits"),
        (f"{HEX} a b", "second label 'b'"),
        (f"{HEX} a # comment", "second label '#'"),
        (f"{HEX} #comment", "label '#comment'"),
        (f"{HEX} {'x' * 32}", "1 to 31"),
        (f"{HEX} a/b", "1 to 31"),
        (f"{HEX} \N{LATIN SMALL LETTER E WITH ACUTE}", "1 to 31"),
        (f"{HEX} caps=core late", "'late' stands behind an option"),
        (f"{HEX} caps=core caps=core", "'caps' stands twice"),
        (f"{HEX} caps=", "'' is no instruction"),
        (f"{HEX} caps=core,", "'' is no instruction"),
        (f"{HEX} caps=core, SYS_HELLO", "'SYS_HELLO' stands behind an option"),
        (f"{HEX} caps=core;all", "'core;all' is no instruction"),
        (f"{HEX} caps=reboot", "there are core, all, process"),
        (f"{HEX} caps=0x20", "'0x20' is no instruction"),
        (f"{HEX} caps=caps=core", "'caps=core' is no instruction"),
        (f"{HEX} CAPS=core", "'CAPS' is not known"),
        (f"{HEX} =core", "'' is not known"),
        (f"{HEX} na=me", "'na' is not known"),
        (f"{HEX} caps=all role=admin", "'role' is not known to this version; there is caps="),
        (f"{HEX} a\x00", "do not print"),
        (f"{HEX}\x00", "do not print"),
        (f"\ufeff{HEX}", "do not print"),
        (f"\x0b{HEX}", "do not print"),
        (f"{HEX}\x1f", "do not print"),
        (f"{HEX}\x85", "do not print"),
        (f"{HEX}\u2028", "do not print"),
        (f"{HEX}\N{NO-BREAK SPACE}caps=all", "do not print"),
        (f"{HEX}\r\r", "do not print"),
        (f"\r{HEX}", "do not print"),
        (f"{HEX} \x1b[2J", "do not print"),
        (f"{HEX} \ufffd", "1 to 31"),
    ],
)
def test_bad_lines_say_why_and_grant_nothing(line: str, why: str) -> None:
    book = parse_agents(f"\n{line}\n{OTHER.hex()} good\n")
    [(number, fault)] = book.faults
    assert number == 2
    assert why in fault
    assert list(book.agents) == [OTHER]


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_newline_ends_a_line(separator: str) -> None:
    """Nothing that another reader takes for the end of a line can hide an agent, or make one."""
    assert faults(f"{HEX} a{separator}{OTHER.hex()} b") == [1]
    assert faults(f"# comment{separator}{HEX} a") == []
    assert faults(f"{separator}# comment") in ([], [1])


@pytest.mark.parametrize("key", LOW_ORDER, ids=bytes.hex)
def test_a_key_of_low_order_is_nobodys(key: bytes) -> None:
    [(_, fault)] = parse_agents(key.hex()).faults
    assert "low order" in fault


@pytest.mark.parametrize(
    "second",
    [
        HEX,
        HEX.upper(),
        f"{HEX} other caps=all",
        f"{HEX} caps=nonsense",
        f"{HEX} two labels",
        f"{HEX} unknown=1",
        f"{HEX}\x00",
        f"{HEX}\x85 label",
        f"\ufeff{HEX}",
        f'"{HEX}"',
        f"{HEX},label",
    ],
)
def test_a_key_that_stands_twice_grants_nothing(second: str) -> None:
    """Whichever comes first, and however wrong one of the two is."""
    first = f"{HEX} a caps=core"
    assert 2 in faults(f"{first}\n{second}")
    assert 2 in faults(f"{second}\n{first}")
    assert faults(f"{first}\n{second}\n{first}")[-2:] == [2, 3]
    [*_, (_, fault)] = parse_agents(f"\n{first}\n{second}").faults
    assert "the key of line 2 stands here again; both are refused" in fault


def test_a_second_line_does_not_touch_other_agents() -> None:
    book = parse_agents(f"{HEX} a\n{OTHER.hex()} b\n{HEX} c")
    assert list(book.agents) == [OTHER]


def test_a_comment_with_a_key_is_a_comment() -> None:
    book = parse_agents(f"#{HEX}\n # {HEX} caps=all\n{HEX} a")
    assert book.agents[KEY].caps == CORE
    assert not book.faults


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (HEX, KEY),
        (f" {HEX} x", KEY),
        (f'\ufeff"{HEX}"', KEY),
        (f"{HEX}\n", KEY),
        (f"{HEX}0", None),
        (f"x {HEX}", None),
        (f"# {HEX}", None),
        ("", None),
    ],
)
def test_who_a_line_is_about(line: str, key: bytes | None) -> None:
    assert line_key(line) == key


def test_messages_stay_short_however_long_a_word_is() -> None:
    word = "x" * 1_000_000
    for line in (f"{HEX} {word}", f"{HEX} a {word}", f"{HEX} {word}=1", f"{HEX} caps={word}"):
        [(_, fault)] = parse_agents(line).faults
        assert len(fault) < 400
    [(_, fault)] = parse_agents(f"{HEX} caps=core {word}").faults
    assert len(fault) < 400


def test_a_large_file() -> None:
    keys = [hashlib.sha256(number.to_bytes(2, "big")).digest() for number in range(1000)]
    text = "".join(f"{key.hex()} agent{number}\nbad\n" for number, key in enumerate(keys))
    book = parse_agents(text)
    assert list(book.agents) == keys
    assert [number for number, _ in book.faults] == list(range(2, 2001, 2))


def test_parse_line_of_nothing() -> None:
    with pytest.raises(BadLine, match="64 hex digits"):
        parse_line("  ", 1)


WORDS = st.one_of(
    st.just(HEX),
    st.just(HEX.upper()),
    st.just(OTHER.hex()),
    st.sampled_from(["label", "caps=core", "caps=all", "caps=", "caps=20,22", "role=admin", "#"]),
    st.text(string.ascii_letters + "=,.#\t", max_size=8),
    st.text(max_size=5),
)
GAPS = st.sampled_from(
    [" ", " ", " ", "\t", "\n", "\n", "\r\n", "\r", "\x0b", "\x85", "\u2028", ""]
)


@given(st.lists(st.tuples(WORDS, GAPS)).map(lambda parts: "".join(map("".join, parts))))
@example(f"{HEX} a\n{HEX.upper()} b\n")
def test_any_text_grants_only_what_a_good_line_says(text: str) -> None:
    """Against a second reading, made of the sentences of docs/protocol.md 8.1 and nothing else."""
    granted: dict[str, int] = {}
    mentioned: list[str] = []
    for whole in text.split("\n"):
        line = whole.removesuffix("\r")
        for key in (HEX, OTHER.hex()):
            mentioned += [key] * (line.strip(" \t").lower().split(" ")[0].split("\t")[0] == key)
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if not words or words[0].lower() not in (HEX, OTHER.hex()):
            continue
        label = words[1:2] if len(words) > 1 and "=" not in words[1] else []
        options = words[1 + len(label) :]
        if label and not set(label[0]) <= set(string.ascii_letters + string.digits + "._-"):
            continue
        if len(options) > 1 or any(len(word) > 31 for word in label):
            continue
        caps = CORE
        if options:
            name, _, value = options[0].partition("=")
            try:
                caps = parse_caps(value)
            except ValueError:
                continue
            if name != "caps":
                continue
        granted[words[0].lower()] = caps
    book = parse_agents(text)
    for agent in book.agents.values():
        assert mentioned.count(agent.key.hex()) == 1
        assert granted[agent.key.hex()] == agent.caps
    for name in granted:
        if name not in {key.hex() for key in book.agents}:
            assert book.faults  # nothing is refused in silence


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    book = parse_agents(data.decode("utf-8", "replace"))
    assert not book.agents


@given(
    st.text(string.ascii_letters + string.digits + "._-", max_size=31), st.integers(1, 2**256 - 1)
)
def test_a_written_agent_reads_back(label: str, caps: int) -> None:
    agent = parse_line(f"{HEX} {label} caps={describe(caps)}", 7)
    assert agent == Agent(KEY, label, caps, 7)
