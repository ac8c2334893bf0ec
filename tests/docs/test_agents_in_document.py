"""docs/protocol.md against the code: lines of authorized_agents, capability maps, pages."""

from __future__ import annotations

import re

import pytest

from asys.isa.capmap import SETS, bits, parse_caps, to_wire, words
from asys.isa.core import PAGES
from asys.node.agents.book import (
    LABEL,
    OPTIONS,
    Agent,
    AgentBook,
    BadLine,
    parse_agents,
    parse_line,
)
from asys.node.agents.rates import MAX_COUNT
from support.protocol_document import section, table_below

FILE = section("8.1 The node")
KEY = "5a" * 32


def no_users(_name: str) -> None:
    """A machine without users."""


def examples() -> AgentBook:
    """The lines that section 8.1 gives as examples, on a machine with the users that they name."""
    (block,) = re.findall(r"^Examples:\n\n```\n(.*?)^```", FILE, re.MULTILINE | re.DOTALL)
    return parse_agents(block, {"build": 990}.get)


def example(label: str) -> Agent:
    (found,) = (agent for agent in examples().agents.values() if agent.label == label)
    return found


def test_options_are_those_of_the_parser() -> None:
    assert [option for option, *_ in table_below(FILE, "| Option |")] == [
        f"`{option}=`" for option in OPTIONS
    ]


def test_words_of_caps_are_those_of_the_parser() -> None:
    rows = {word: grants for word, grants in table_below(FILE, "| Word |")}
    sets = [word for cell in rows for word in re.findall(r"`(\w+)`", cell)]
    assert sorted(sets) == sorted(SETS)
    core = next(grants for word, grants in rows.items() if word == "`core`")
    assert parse_caps(",".join(re.findall(r"\w+_\w+|REKEY", core))) == SETS["core"]
    assert rows["`all`"] == "00-8F without 60, 61 and 62"
    assert SETS["all"] == bits(set(range(0x90)) - {0x60, 0x61, 0x62})
    assert SETS["vendor"] == bits(range(0xC0, 0x100))


def test_every_example_is_a_line_that_holds() -> None:
    book = examples()
    assert book.faults == ()
    assert [agent.label for agent in book.agents.values()] == ["watcher", "web", "planner", "admin"]


def test_examples_mean_what_their_comments_say() -> None:
    watcher, web, planner, admin = map(example, ("watcher", "web", "planner", "admin"))
    assert watcher.caps == SETS["core"]
    assert web.scope.allows_service("nginx")
    assert web.scope.allows_service("php8.2-fpm")
    assert not web.scope.allows_service("sshd")
    assert str(web.rates[0]) == "SVC_RESTART:3/h"
    assert web.expires == 1830297600  # 2028-01-01T00:00:00Z
    assert web.sources is not None
    assert web.sources.allows(("10.1.2.3", 4711))
    assert not web.sources.allows(("10.2.2.3", 4711))
    assert planner.scope.users == frozenset({990, 1001})
    assert planner.caps >> 0x60 & 0b111 == 0b111
    assert admin.admin
    assert admin.sources is not None
    assert admin.sources.allows("")
    assert not admin.sources.allows(("127.0.0.1", 4711))


@pytest.mark.parametrize(
    ("written", "holds"),
    [
        (f"{KEY} {'a' * 31}", True),
        (f"{KEY} {'a' * 32}", False),
        (f"{KEY} services={'a' * 64}", True),
        (f"{KEY} services={'a' * 65}", False),
        (f"{KEY} services=nginx.service", False),
        (f"{KEY} services=nginx,", False),
        (f"{KEY} users=4294967294", True),
        (f"{KEY} users=nobody-has-this-name", False),
        (f"{KEY} vendors=0x400,example.com", True),
        (f"{KEY} from=10.0.0.1/8", False),
        (f"{KEY} from=fe80::1%eth0", False),
        (f"{KEY} rate=SVC_RESTART:{MAX_COUNT}/s,20:1/m", True),
        (f"{KEY} rate=SVC_RESTART:{MAX_COUNT + 1}/s", False),
        (f"{KEY} rate=22:1/s,SVC_RESTART:1/m", False),
        (f"{KEY} rate=SYS_CAPS:1/s", False),
        (f"{KEY} rate=00:1/s", False),
        (f"{KEY} expires=2106-02-06", True),
        (f"{KEY} expires=2106-02-07", False),
        (f"{KEY} role=root", False),
        (f"{KEY} caps=core caps=core", False),
        (f"{KEY} caps=", False),
        (f"{KEY} colour=red", False),
        (f"{KEY} one two", False),
        (f"{KEY} caps=core label", False),
        ("00" * 32, False),
    ],
)
def test_a_line_holds_or_is_bad_as_the_text_says(written: str, holds: bool) -> None:
    if holds:
        assert parse_line(written, 1, no_users).line == 1
        return
    with pytest.raises(BadLine):
        parse_line(written, 1, no_users)


def test_bounds_of_lines_are_the_parsers() -> None:
    assert f"N is 1 to {MAX_COUNT:,}" in FILE
    assert LABEL.pattern == "[A-Za-z0-9._-]{1,31}"
    assert "LABEL is 1 to 31 of `A-Z a-z 0-9 . _ -`" in FILE


def test_a_bad_line_is_about_its_key_all_the_same() -> None:
    text = " ".join(FILE.split())
    assert "also behind characters other than letters, digits and `#`" in text
    for line in (f"{KEY} colour=red", f'"{KEY}" web', f"= {KEY}"):
        book = parse_agents(line, no_users)
        assert not book.agents
        assert book.named == {bytes.fromhex(KEY)}
    assert parse_agents(f"# {KEY}\nx{KEY}\n{KEY}0", no_users).named == frozenset()


def test_capability_map_of_the_text() -> None:
    text = section("4.2 Capability maps")
    codes = (0x00, 0x01, 0x02, 0x03, 0x11, 0x13, 0x22)
    assert "The map with 00-03, 11, 13 and 22 is" in " ".join(text.split())
    (block,) = re.findall(r"^```\n([0-9A-F ]+)\n```", text, re.MULTILINE)
    wire = bytes.fromhex(block)
    for n in range(256):  # by the formula of the text
        assert wire[4 * (n // 32) + 3 - (n % 32) // 8] >> n % 8 & 1 == (n in codes)
    lit = bits(codes)
    assert to_wire(lit) == wire
    pages = [word.to_bytes(4, "big") for page in range(PAGES) for word in words(lit, page)]
    assert b"".join(pages) == wire
