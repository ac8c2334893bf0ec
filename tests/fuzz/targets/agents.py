"""`authorized_agents`: whatever stands in it, nobody holds more than a line of its own says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from asys.isa import REGISTRY
from asys.isa.capmap import SETS
from asys.node.agents.book import Agent, line_key, parse_agents, parse_line
from asys.node.agents.check import Severity, check_agents
from fuzz.choices import Choices, Script
from support.agents_text import HEX, OPTION_WORDS, OTHER, THIRD, USERS, mentioned

COVERS = (
    "asys.node.agents.book",
    "asys.node.agents.scope",
    "asys.node.agents.sources",
    "asys.node.agents.rates",
    "asys.node.agents.check",
    "asys.isa.capmap",
)

_NOW: Final = 1_790_000_000
_COMMENT: Final = re.compile(r"[ \t]*(#.*)?", re.DOTALL)


def one(data: bytes) -> None:
    """A file, cut from the input: keys are written short, so that mutations keep them whole."""
    text = _with_keys(Choices(data).rest().decode("utf-8", "replace"))
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    about = [mentioned(line) for line in lines]
    book = parse_agents(text, USERS.get)
    assert book.named == {key for key in about if key is not None}

    faulty = {number for number, _ in book.faults}
    good = {agent.line for agent in book.agents.values()}
    for number, line in enumerate(lines, 1):
        if not _COMMENT.fullmatch(line):
            twice = about[number - 1] is not None and about.count(about[number - 1]) > 1
            assert number in faulty or number in good or twice
    for number, fault in book.faults:
        assert 1 <= number <= len(lines)
        assert fault.isprintable()
        assert len(fault) < 1000

    for key, agent in book.agents.items():
        line = lines[agent.line - 1]
        assert agent.key == key == line_key(line) == about[agent.line - 1]
        assert about.count(key) == 1
        assert agent.line not in faulty
        assert parse_line(line, agent.line, USERS.get) == agent
        _holds_what_it_says(agent, line)
        # Its line alone grants it the same, and so do the words that describe it.
        for alone in (line, f"{key.hex()} {agent.label} {agent.options()}"):
            [there] = parse_agents(alone, USERS.get).agents.values()
            assert replace(there, line=0) == replace(agent, line=0)

    findings = check_agents(text, _NOW, USERS.get)
    assert {one.line for one in findings if one.severity is Severity.ERROR} == faulty


def _holds_what_it_says(agent: Agent, line: str) -> None:
    """Each right is written in a word of the line, and each word that limits it counts."""
    words = line.replace("\t", " ").split(" ")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    allowed = _codes(options.get("caps", "core"))
    assert {code for code in range(256) if agent.caps >> code & 1} == allowed
    assert agent.admin is (options.get("role") == "admin")
    assert (agent.scope.services is None) is ("services" not in options)
    assert (agent.scope.users is None) is ("users" not in options)
    assert bool(agent.scope.vendors) is ("vendors" in options)
    assert (agent.sources is None) is ("from" not in options)
    assert bool(agent.rates) is ("rate" in options)
    assert bool(agent.expires) is ("expires" in options)
    if agent.scope.services is not None:
        assert ",".join(agent.scope.services) == options["services"]
    if agent.scope.users is not None:
        assert len(agent.scope.users) <= options["users"].count(",") + 1
    if agent.sources is not None:
        assert agent.sources.unix is ("unix" in options["from"].split(","))
        assert len(agent.sources.networks) <= options["from"].count(",") + 1
        assert not agent.sources.allows(None)


def _codes(caps: str) -> set[int]:
    """The codes that a list names, word by word."""
    found = set()
    for word in caps.split(","):
        known = next((one.code for one in REGISTRY if one.name == _spelled(word)), None)
        if word in SETS:
            found |= {code for code in range(256) if SETS[word] >> code & 1}
        else:
            found.add(int(word, 16) if known is None else known)
    return found


def _spelled(word: str) -> str:
    return word.upper().replace("-", "_")


def _with_keys(text: str) -> str:
    """A few keys for signs that stand for them."""
    for sign, key in zip("\u00a7\u00b6\u00a4", (HEX, OTHER, THIRD), strict=True):
        text = text.replace(sign, key)
    return text


def seeds() -> Iterator[bytes]:
    """Each option, right and wrong; two agents, one twice, comments, other line ends."""
    for word in OPTION_WORDS:
        yield bytes(Script().raw(f"\u00a7 label {word}\n".encode()))
    for text in (
        "# who\n\n\u00a7 a caps=core\n\u00b6 b caps=all role=admin\r\n\t\u00a4\n",
        "\u00a7 a\n\u00a7 b\n\u00b6\n",
        "\u00a7 a caps=20 users=33\n#\u00a7\n\ufeff\u00b6 b\nnonsense\n",
        f"{HEX} web-1 caps=core,process,60 services=ng?nx,*.d users=0,www-data from=::1,unix\n",
        "\u00a7 x vendors=example.com,0x1 rate=PROC_THROTTLE:3/h,22:1/s expires=2031-12-31\n",
    ):
        yield bytes(Script().raw(text.encode()))
