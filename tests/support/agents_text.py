"""Texts of `authorized_agents`: such as people write, and such as nobody should."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from asys.node.agents.book import Agent, AgentBook, line_key, parse_agents
from asys.protocol.keys import PrivateKey

fuzz = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

KEYS = [PrivateKey(bytes([number]) * 32).public for number in range(1, 5)]
HEX, OTHER, THIRD, FOURTH = (key.hex() for key in KEYS)
USERS = {"www-data": 33, "backup": 34}


def book_of(text: str) -> AgentBook:
    return parse_agents(text, USERS.get)


def mentioned(line: str) -> bytes | None:
    """Whose line it is, even if other marks stand around the key; read sign by sign."""
    start = next((at for at, sign in enumerate(line) if sign == "#" or is_alnum(sign)), 0)
    digits, behind = line[start : start + 64], line[start + 64 : start + 65]
    if len(digits) < 64 or set(digits) - set("0123456789abcdefABCDEF") or is_alnum(behind):
        return None
    return bytes.fromhex(digits)


def is_alnum(sign: str) -> bool:
    """Whether it is a letter or a digit of ASCII."""
    return sign.isascii() and sign.isalnum()


def held(text: str) -> dict[bytes, Agent]:
    """What each key holds, wherever in the file it stands."""
    return {key: replace(agent, line=0) for key, agent in book_of(text).agents.items()}


OPTION_WORDS = [
    "caps=core",
    "caps=all",
    "caps=20,SVC_RESTART",
    "caps=60,61,62",
    "caps=",
    "services=nginx",
    "services=*",
    "services=a.service",
    "users=www-data",
    "users=33,34",
    "users=eve",
    "vendors=0x00000017",
    "vendors=23",
    "from=10.0.0.0/8",
    "from=unix,192.0.2.1",
    "from=10.0.0.1/8",
    "rate=22:3/h",
    "rate=22:3/h,SVC_RESTART:3/h",
    "expires=2030-01-01",
    "expires=2030-02-30",
    "role=admin",
    "role=root",
    "shell=yes",
    "=",
]
GOOD = [
    "caps=core",
    "caps=all",
    "caps=20,SVC_RESTART",
    "services=nginx",
    "users=33,34",
    "vendors=0x00000017",
    "from=unix,192.0.2.1",
    "rate=22:3/h",
    "expires=2030-01-01",
    "role=admin",
]


def option_name(word: str) -> str:
    return word.partition("=")[0]


WORDS = st.one_of(
    st.sampled_from([HEX, HEX, HEX.upper(), OTHER, bytes(32).hex()]),
    st.sampled_from(["label", "web-1", "two", "#", "x" * 32, '"', "\ufeff", "\x00"]),
    st.sampled_from(OPTION_WORDS),
    st.text(max_size=4),
)
GAPS = st.sampled_from([*[" "] * 8, "\t", *["\n"] * 4, "\r\n", "\r", "\x0b", "\x85", "\u2028", ""])
SCATTERED = st.lists(st.tuples(WORDS, GAPS), max_size=16).map(
    lambda parts: "".join(word + gap for word, gap in parts)
)
LINES = st.builds(
    lambda key, label, rest, end: " ".join([key, *label, *rest]) + end,
    st.sampled_from([HEX, OTHER, HEX.upper(), OTHER, THIRD, "\ufeff" + OTHER, "#" + HEX]),
    st.sampled_from([[], ["label"], ["web-1"], ["web-1"], ["a", "b"]]),
    st.one_of(
        st.lists(st.sampled_from(GOOD), max_size=4, unique_by=option_name),
        st.lists(st.sampled_from(GOOD), max_size=4, unique_by=option_name),
        st.lists(st.sampled_from(OPTION_WORDS), max_size=3),
    ),
    st.sampled_from(["\n", "\n", "\n", "\r\n", "  \t\n"]),
)
FILES = st.lists(LINES, max_size=4, unique_by=line_key).map("".join)
TEXTS = FILES | st.lists(LINES | SCATTERED, max_size=6).map("".join)
PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([word.encode() for word in [HEX, OTHER, *OPTION_WORDS]]),
    st.sampled_from(
        [b" ", b" ", b"\n", b"\n", b"\r\n", b"\t", b"#", b"\xff", b"\xc2\x85", b"label"]
    ),
)
