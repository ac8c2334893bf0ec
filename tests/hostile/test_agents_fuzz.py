"""`authorized_agents` in any state that a person, a script or an attack can leave it in."""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from asys.isa.capmap import CapabilityError, parse_caps
from asys.node.agents.book import (
    Agent,
    BadLine,
    line_key,
    parse_line,
)
from asys.node.agents.rates import RateLimit
from asys.node.agents.scope import Scope
from asys.node.agents.sources import Sources
from support.agents_text import (
    HEX,
    KEYS,
    OTHER,
    PIECES,
    TEXTS,
    THIRD,
    USERS,
    book_of,
    fuzz,
    held,
    mentioned,
)

# A second reading, made of the sentences of docs/protocol.md and nothing else.

ELEMENTS: dict[str, dict[str, Any]] = {
    "vendors": {"0x00000017": 0x17},
    "from": {
        "10.0.0.0/8": ip_network("10.0.0.0/8"),
        "192.0.2.1": ip_network("192.0.2.1"),
        "unix": None,
    },
    "rate": {"22:3/h": RateLimit(0x22, 3, 3600)},
}


class Bad(Exception):
    """The second reading does not understand a line."""


def second_reading(text: str) -> dict[bytes, Agent]:
    mentions = [mentioned(line) for line in text.split("\n")]
    agents = {}
    for number, line in enumerate(text.split("\n")):
        try:
            agent = one_line(line.removesuffix("\r"), number + 1)
        except Bad:
            continue
        if mentions.count(agent.key) == 1:
            agents[agent.key] = agent
    return agents


def one_line(line: str, number: int) -> Agent:
    words = [word for word in line.replace("\t", " ").split(" ") if word]
    if not words or words[0].lower() not in (HEX, OTHER, THIRD):
        raise Bad
    rest = words[1:]
    label = rest.pop(0) if rest and "=" not in rest[0] else ""
    if not re.fullmatch("[A-Za-z0-9._-]{0,31}", label):
        raise Bad
    pairs = [word.split("=", 1) for word in rest if "=" in word]
    options = {name: value for name, value in pairs}
    if len(pairs) != len(rest) or len(options) != len(pairs):
        raise Bad
    try:
        caps = parse_caps(options.pop("caps", "core"))
    except CapabilityError:
        raise Bad from None
    services = users = None
    if "services" in options:
        services = tuple(options.pop("services").split(","))
        for glob in services:
            if not re.fullmatch("[A-Za-z0-9_.:@*?-]{1,64}", glob) or glob.endswith(".service"):
                raise Bad
    if "users" in options:
        users = frozenset(map(one_user, options.pop("users").split(",")))
    elements: dict[str, list[Any]] = {}
    for name, known in ELEMENTS.items():
        listed = options.pop(name).split(",") if name in options else []
        if set(listed) - set(known):
            raise Bad
        elements[name] = [known[word] for word in listed]
    if len(elements["rate"]) > 1:
        raise Bad
    networks = tuple(one for one in elements["from"] if one is not None)
    sources = Sources(networks, None in elements["from"]) if elements["from"] else None
    expires = options.pop("expires", None)
    role = options.pop("role", None)
    if options or expires not in (None, "2030-01-01") or role not in (None, "admin"):
        raise Bad
    return Agent(
        bytes.fromhex(words[0]),
        label,
        caps,
        number,
        Scope(services, users, frozenset(elements["vendors"])),
        tuple(elements["rate"]),
        sources,
        1893542400 if expires else 0,
        role == "admin",
    )


def one_user(word: str) -> int:
    if re.fullmatch("0|[1-9][0-9]{0,8}", word):
        return int(word)
    if word not in USERS:
        raise Bad
    return USERS[word]


@fuzz
@given(TEXTS)
@example(f"{HEX} a\n{HEX.upper()} b\n")
@example(f"{HEX} a caps=core services=nginx users=www-data rate=22:3/h role=admin\r\n")
@example(f"{HEX} a\n\x00{HEX} caps=all\n{OTHER} b expires=2030-01-01")
def test_a_file_grants_what_its_sentences_say_and_nothing_else(text: str) -> None:
    book = book_of(text)
    assert book.agents == second_reading(text)
    mentions = [mentioned(line) for line in text.split("\n")]
    assert book.named == {key for key in mentions if key is not None}
    for key in book.named - set(book.agents):
        lines = {number for number, one in enumerate(mentions, 1) if one == key}
        assert lines & {number for number, _ in book.faults}  # nothing is refused in silence


def test_the_second_reading_reads() -> None:
    """Or it would agree to anything."""
    options = "services=nginx users=www-data from=unix,192.0.2.1 rate=22:3/h role=admin"
    [agent] = second_reading(f"# x\n{HEX} a caps=20 {options} expires=2030-01-01\n").values()
    assert agent == parse_line(
        f"{HEX} a caps=20 {options} expires=2030-01-01", 2, {"www-data": 33}.get
    )
    assert second_reading(f"{HEX} a\n{OTHER} b\n").keys() == {KEYS[0], KEYS[1]}
    assert not second_reading(f"{HEX} a\n\ufeff{HEX} b")


@fuzz
@given(st.lists(PIECES, max_size=40).map(b"".join))
@example(b"\xff" + HEX.encode() + b"\n" + HEX.encode())
def test_whatever_the_bytes_each_agent_stands_in_one_line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    book = book_of(text)
    assert set(book.agents) <= book.named
    for key, agent in book.agents.items():
        assert agent.key == key
        line = lines[agent.line - 1]
        assert parse_line(line, agent.line, USERS.get) == agent
        assert held(line) == {key: replace(agent, line=0)}
        assert [line_key(one) for one in lines].count(key) == 1
        again = f"{key.hex()} {agent.label} {agent.options()}"
        assert held(again) == {key: replace(agent, line=0)}
    for number, fault in book.faults:
        assert 1 <= number <= len(lines)
        assert fault.isprintable()
        assert len(fault) < 1000


@fuzz
@given(TEXTS, TEXTS)
def test_no_text_widens_what_another_says(first: str, second: str) -> None:
    """Put behind each other, files grant what one of them alone grants to a key, or nothing."""
    both = held(f"{first}\n{second}")
    one, other = held(first), held(second)
    for key, agent in both.items():
        assert agent in (one.get(key), other.get(key))
        assert not (key in one and key in other)


@fuzz
@given(TEXTS, st.text(max_size=60), st.integers(0))
def test_a_line_that_is_broken_by_anything_grants_no_other_key(
    text: str, junk: str, place: int
) -> None:
    """Text without a newline, wherever it gets in, cannot make an agent of nothing."""
    junk = junk.replace("\n", "")
    at = place % (len(text) + 1)
    broken = text[:at] + junk + text[at:]
    for agent in book_of(broken).agents.values():
        assert line_key(broken.split("\n")[agent.line - 1]) == agent.key
        assert agent.key in KEYS[:3]


SEPARATORS = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if chr(code) not in "\n \t"
    and (
        chr(code).isspace()
        or len(f"a{chr(code)}b".splitlines()) > 1
        or unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Zs")
    )
]


def test_no_other_separator_makes_a_line_or_a_word() -> None:
    """Every blank, line end and invisible sign of Unicode, at each place where it could matter."""
    assert {"\r", "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2028", "\u2029", "\u200b"} < set(
        SEPARATORS
    )
    for sign in SEPARATORS:
        assert not held(f"{OTHER} a{sign}{HEX} b caps=all")
        assert not held(f"# comment{sign}{HEX} b caps=all")
        assert not held(f"{HEX}{sign}caps=all")
        assert not held(f"{HEX}{sign}label")
        assert not held(f"{HEX} a{sign}caps=all")
        assert not held(f"{HEX} caps=core{sign}role=admin")
        assert not held(f"{HEX} caps=core,{sign}all")
        assert not held(f"{sign}{HEX} a")
        assert not held(f"{HEX} a\n{sign}{HEX} caps=all")
        assert not held(f"{HEX} services=ng{sign}inx")
        assert not held(f"{HEX} users={sign}33")
        assert held(f"{HEX} a{sign}") == (held(f"{HEX} a") if sign == "\r" else {})


@fuzz
@given(st.text(max_size=80).filter(lambda text: "\n" not in text))
def test_a_bad_line_next_to_good_ones_changes_nothing(junk: str) -> None:
    good = f"{HEX} a caps=20 users=33\n{OTHER} b\n"
    try:
        parse_line(junk, 1, USERS.get)
    except BadLine:
        for text in (
            f"{junk}\n{good}",
            f"{good}{junk}",
            f"{HEX} a caps=20 users=33\n{junk}\n{OTHER} b",
        ):
            assert held(text) == held(good)
