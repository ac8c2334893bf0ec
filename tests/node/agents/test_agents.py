"""`authorized_agents`: whatever is in the file, only lines that are understood whole grant."""

from __future__ import annotations

import hashlib
import string
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa.capmap import ALL, CORE
from asys.node.agents.book import (
    OPTIONS,
    Agent,
    AgentBook,
    BadLine,
    last_day,
    line_key,
    parse_agents,
    parse_line,
)
from asys.node.agents.rates import RateLimit
from asys.node.agents.scope import Scope, parse_vendors
from asys.node.agents.sources import Sources
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(bytes(range(1, 33))).public
OTHER = PrivateKey(bytes(range(2, 34))).public
THIRD = PrivateKey(bytes(range(3, 35))).public
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
    assert book == AgentBook({KEY: Agent(KEY, label, caps, 3)}, (), frozenset({KEY}))
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
        (f"{HEX} caps=all shell=yes", "'shell' is not known to this version; there are caps= "),
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


USERS = {"www-data": 33, "backup": 34}


def read(line: str) -> Agent:
    """The agent of a line that holds, on a machine with these users."""
    book = parse_agents(line, USERS.get)
    assert not book.faults
    [agent] = book.agents.values()
    return agent


def test_all_options_of_one_line() -> None:
    agent = read(
        f"{HEX} web-ops caps=core,20,22 services=nginx,web-? users=www-data,1000 "
        "vendors=0x17,example.com from=10.0.0.0/8,2001:db8::1,unix "
        "rate=SVC_RESTART:3/h,20:5/s expires=2030-02-28 role=admin"
    )
    assert agent == Agent(
        KEY,
        "web-ops",
        CORE | 1 << 0x20 | 1 << 0x22,
        1,
        Scope(("nginx", "web-?"), frozenset({33, 1000}), parse_vendors("0x17,example.com")),
        (RateLimit(0x22, 3, 3600), RateLimit(0x20, 5, 1)),
        Sources((ip_network("10.0.0.0/8"), ip_network("2001:db8::1")), unix=True),
        int(datetime(2030, 3, 1, tzinfo=UTC).timestamp()),
        admin=True,
    )


def test_options_stand_in_any_order_and_say_nothing_about_each_other() -> None:
    words = ["caps=22", "services=a", "users=34", "from=unix", "rate=22:1/s", "role=admin"]
    assert read(f"{HEX} {' '.join(words)}") == read(f"{HEX} {' '.join(reversed(words))}")
    for word in words:
        agent = read(f"{HEX} {word}")
        assert agent != read(HEX)
        others = [one for one in words if one != word]
        assert read(f"{HEX} {' '.join([*others, word])}") == read(f"{HEX} {' '.join(words)}")


def test_what_is_not_said_is_not_limited_but_nothing_is_lit() -> None:
    assert read(HEX) == Agent(KEY, "", CORE, 1, Scope(), (), None, 0, admin=False)


@pytest.mark.parametrize(
    ("day", "expires"),
    [
        ("1970-01-01", 86400),
        ("2024-02-29", int(datetime(2024, 3, 1, tzinfo=UTC).timestamp())),
        ("2026-12-31", int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())),
        ("2106-02-06", 49710 * 86400),
    ],
)
def test_a_line_holds_to_the_end_of_its_day(day: str, expires: int) -> None:
    agent = read(f"{HEX} expires={day}")
    assert 0 < agent.expires == expires <= 0xFFFFFFFF
    assert str(last_day(agent.expires)) == day
    assert agent.options() == f"caps=core expires={day}"


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("services=", "services=: there is no value; write one, or leave the option out"),
        ("services=a,", "services=: there is nothing next to a comma"),
        ("services=a.service", "services=: 'a.service' must be written without its .service"),
        ("services=[a]", "services=: '[a]' is not 1 to 64 of"),
        ("users=", "users=: there is no value"),
        ("users=eve", "users=: this machine has no user 'eve'; make the user first, or write"),
        ("vendors=", "vendors=: there is no value"),
        ("vendors=12", "vendors=: '12' is no vendor: write an id as 0x and 1 to 8 hex digits"),
        ("from=", "from=: there is no value"),
        ("from=10.0.0.1/8", "from=: '10.0.0.1/8' has bits set behind its prefix; write 10.0.0.0/8"),
        ("from=here", "from=: 'here' is no IPv4 or IPv6 address"),
        ("rate=", "rate=: there is no value"),
        ("rate=3/h", "rate=: '3/h' is no rate: write NAME:N/s"),
        ("rate=22:1/s,22:1/s", "rate=: '22:1/s' is the second rate of one instruction"),
        ("expires=", "expires=: '' is no day from 1970-01-01 to 2106-02-06, written YYYY-MM-DD"),
        ("expires=2026-02-29", "is no day"),
        ("expires=2026-13-01", "is no day"),
        ("expires=2026-00-01", "is no day"),
        ("expires=2026-01-00", "is no day"),
        ("expires=1969-12-31", "is no day"),  # its end is 0, which would mean never
        ("expires=0000-01-01", "is no day"),
        ("expires=2106-02-07", "is no day"),  # its end is beyond u32
        ("expires=9999-12-31", "is no day"),
        ("expires=26-01-01", "is no day"),
        ("expires=2026-1-1", "is no day"),
        ("expires=20260101", "is no day"),
        ("expires=2026-01-01T00:00", "is no day"),
        ("expires=never", "is no day"),
        ("expires=\N{ARABIC-INDIC DIGIT TWO}026-01-01", "is no day"),
        ("role=", "role=: '' is no role; there is admin"),
        ("role=Admin", "role=: 'Admin' is no role; there is admin"),
        ("role=admin,admin", "is no role"),
        ("caps=core services=a services=b", "the option 'services' stands twice; leave one"),
        ("role=admin role=admin", "the option 'role' stands twice"),
        ("users=33 late", "'late' stands behind an option"),
        ("services=a, b", "'b' stands behind an option"),
        ("Users=33", "the option 'Users' is not known to this version; there are caps= services="),
    ],
)
def test_bad_options_say_why_and_grant_nothing(option: str, why: str) -> None:
    """Also where all others are right."""
    for line in (f"{HEX} {option}", f"{HEX} a {option}"):
        book = parse_agents(f"{line}\n{OTHER.hex()} good users=33", USERS.get)
        [(number, fault)] = book.faults
        assert number == 1
        assert why in fault
        assert list(book.agents) == [OTHER]
        assert book.named == {KEY, OTHER}


def test_every_option_can_stand_once_only() -> None:
    values = {
        "caps": "core",
        "services": "a",
        "users": "33",
        "vendors": "0x1",
        "from": "unix",
        "rate": "22:1/s",
        "expires": "2030-01-01",
        "role": "admin",
    }
    assert set(values) == set(OPTIONS)
    line = HEX + "".join(f" {name}={value}" for name, value in values.items())
    read(line)
    for name, value in values.items():
        [(_, fault)] = parse_agents(f"{line} {name}={value}").faults
        assert fault == f"the option '{name}' stands twice; leave one"


def test_users_are_looked_up_once_however_many_lines_name_them() -> None:
    asked: list[str] = []

    def uid_of(name: str) -> int | None:
        asked.append(name)
        return USERS.get(name)

    text = f"{HEX} users=www-data,backup\n{OTHER.hex()} users=backup,eve\n{THIRD.hex()} users=eve"
    assert list(parse_agents(text, uid_of).agents) == [KEY]
    assert sorted(asked) == ["backup", "eve", "www-data"]


def test_users_of_this_machine_without_further_ado() -> None:
    assert parse_agents(f"{HEX} users=root").agents[KEY].scope.users == frozenset({0})
    assert parse_agents(f"{HEX} users=no-such-user-of-asys").faults


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", set()),
        (HEX, {KEY}),
        (f"# {HEX}\n#{HEX}", set()),
        (f"{HEX} bad=1", {KEY}),
        (f"{HEX} a\n{HEX} a", {KEY}),
        (f"{HEX}\x00 a", {KEY}),
        (f'"{HEX}"', {KEY}),
        (f"{HEX} a\r{OTHER.hex()} b", {KEY}),
        (f"{HEX} a\n{OTHER.hex()} nonsense nonsense", {KEY, OTHER}),
        (f"{HEX}0", set()),
        (bytes(32).hex(), {bytes(32)}),
    ],
)
def test_every_key_that_a_line_is_about_is_named(text: str, named: set[bytes]) -> None:
    """Also one that holds nothing: whoever asks for it must not be served from elsewhere."""
    assert parse_agents(text).named == named


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


NETWORKS = st.builds(
    lambda ip, cut: ip_network((int(ip), max(0, ip.max_prefixlen - cut)), strict=False),
    st.ip_addresses(v=4),
    st.integers(0, 32),
) | st.builds(
    lambda cut: ip_network((0x20010DB8 << 96, 128 - cut), strict=False), st.integers(0, 96)
)


@given(
    st.builds(
        Agent,
        st.just(KEY),
        st.text(string.ascii_letters + string.digits + "._-", max_size=31),
        st.integers(1, 2**256 - 1),
        st.just(7),
        st.builds(
            Scope,
            st.none()
            | st.lists(st.text("aZ0_.:@*?-", min_size=1, max_size=64), min_size=1).map(tuple),
            st.none() | st.frozensets(st.integers(0, 2**32 - 2), min_size=1),
            st.frozensets(st.integers(0, 2**32 - 1)),
        ),
        st.lists(
            st.builds(
                RateLimit,
                st.integers(1, 255),
                st.integers(1, 1_000_000),
                st.sampled_from([1, 60, 3600]),
            ),
            unique_by=lambda limit: limit.code,
        ).map(tuple),
        st.none()
        | st.builds(Sources, st.lists(NETWORKS, min_size=1).map(tuple), st.booleans())
        | st.just(Sources((), unix=True)),
        st.just(0) | st.integers(1, 49710).map(lambda days: days * 86400),
        st.booleans(),
    )
)
def test_a_written_agent_reads_back(agent: Agent) -> None:
    assert parse_line(f"{HEX} {agent.label} {agent.options()}", 7) == agent
