"""Scopes: what an agent may touch, and the words for it."""

from __future__ import annotations

import os
import pwd
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.node.agents.scope import (
    MAX_UID,
    Scope,
    parse_services,
    parse_users,
    parse_vendors,
    uid_here,
)
from asys.node.agents.words import BadOption

USERS = {"root": 0, "www-data": 33, "svc.app": 990, "CORP\\ada": 70001, "host$": 5}


@pytest.mark.parametrize(
    ("globs", "name", "allowed"),
    [
        ("nginx", "nginx", True),
        ("nginx", "nginx2", False),
        ("nginx", "my-nginx", False),
        ("nginx", "Nginx", False),
        ("NetworkManager", "NetworkManager", True),
        ("web-*", "web-", True),
        ("web-*", "web-1", True),
        ("web-*", "web", False),
        ("web-?", "web-1", True),
        ("web-?", "web-", False),
        ("web-?", "web-12", False),
        ("*", "", True),
        ("*", "anything@x", True),
        ("*", "two\nlines", True),
        ("nginx", "nginx\n", False),
        ("db,web-*", "db", True),
        ("db,web-*", "web-3", True),
        ("db,web-*", "mail", False),
        ("getty@*", "getty@tty1", True),
        ("a.b", "axb", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-b-b-cd", False),
        ("group:app", "group:app", True),
    ],
)
def test_services(globs: str, name: str, allowed: bool) -> None:
    assert Scope(services=parse_services(globs)).allows_service(name) is allowed


@pytest.mark.parametrize("glob", ["[ab]", "[!x]", "[", "[a-z]*"])
def test_brackets_mean_themselves(glob: str) -> None:
    scope = Scope(services=(glob,))
    assert scope.allows_service(glob)
    assert not scope.allows_service("a")


def _matches(glob: str, name: str) -> bool:
    """A second reading of a glob, by its first character."""
    if not glob:
        return not name
    if glob[0] == "*":
        return any(_matches(glob[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and glob[0] in ("?", name[0]) and _matches(glob[1:], name[1:])


@given(st.text("ab*?", min_size=1, max_size=7), st.text("ab", max_size=8))
def test_globs_against_a_second_reading(glob: str, name: str) -> None:
    assert Scope(services=parse_services(glob)).allows_service(name) is _matches(glob, name)


def test_a_glob_with_many_stars_does_not_explode() -> None:
    """One that is tried every way would take longer than anybody waits."""
    scope = Scope(services=parse_services("*a" * 31 + "*b"))
    assert not scope.allows_service("a" * 255)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "there is no value"),
        (",", "nothing next to a comma"),
        ("nginx,", "nothing next to a comma"),
        (",nginx", "nothing next to a comma"),
        ("a,,b", "nothing next to a comma"),
        ("nginx.service", "'nginx.service' must be written without its .service"),
        ("*.service", "without its .service"),
        ("x" * 65, "is not 1 to 64 of"),
        ("a/b", "'a/b' is not 1 to 64 of A-Z a-z 0-9 _ . : @ - and the wildcards * ?"),
        ("[ab]", "is not 1 to 64"),
        ("dev\\x2d", "is not 1 to 64"),
        ("a=b", "is not 1 to 64"),
        ("nginx\n", "is not 1 to 64"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "is not 1 to 64"),
    ],
)
def test_bad_services(written: str, why: str) -> None:
    with pytest.raises(BadOption, match=re.escape(why)):
        parse_services(written)


def test_the_longest_glob() -> None:
    assert parse_services("x" * 64 + ",y") == ("x" * 64, "y")


@pytest.mark.parametrize(
    ("written", "uids"),
    [
        ("root", {0}),
        ("0", {0}),
        ("www-data,svc.app", {33, 990}),
        ("33,www-data", {33}),
        ("CORP\\ada", {70001}),
        ("host$", {5}),
        (str(MAX_UID), {MAX_UID}),
    ],
)
def test_users(written: str, uids: set[int]) -> None:
    assert parse_users(written, USERS.get) == uids


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "there is no value"),
        ("root,", "nothing next to a comma"),
        ("bob", "no user 'bob'; make the user first, or write a uid"),
        ("Root", "no user 'Root'"),
        ("-1", "'-1' is no user name, and no uid from 0 to 4294967294"),
        ("4294967295", "is no user name, and no uid"),
        ("99999999999999999999", "is no user name, and no uid"),
        ("007", "is no user name, and no uid"),
        ("0x21", "no user '0x21'"),
        ("a b", "is no user name"),
        ("*", "is no user name"),
        ("\N{FULLWIDTH DIGIT ONE}", "is no user name"),
        ("\N{SUPERSCRIPT TWO}", "is no user name"),
        ("root\x00", "is no user name"),
        ("x" * 65, "is no user name"),
    ],
)
def test_bad_users(written: str, why: str) -> None:
    with pytest.raises(BadOption, match=re.escape(why)):
        parse_users(written, USERS.get)


def test_users_of_this_machine() -> None:
    here = pwd.getpwuid(os.getuid())
    assert uid_here(here.pw_name) == here.pw_uid
    assert uid_here("no-such-user-of-asys") is None
    assert parse_users("root", uid_here) == {0}


CRC_EXAMPLE = zlib.crc32(b"example.com") | 0x10000


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("0x0", {0}),
        ("0x3fF,0X400", {0x3FF, 0x400}),
        ("0xFFFFFFFF", {0xFFFFFFFF}),
        ("example.com", {CRC_EXAMPLE}),
        ("EXAMPLE.com.", {CRC_EXAMPLE}),
        ("a.b-c.x1,0x7", {zlib.crc32(b"a.b-c.x1") | 0x10000, 7}),
        ("xn--bcher-kva.example", {zlib.crc32(b"xn--bcher-kva.example") | 0x10000}),
    ],
)
def test_vendors(written: str, ids: set[int]) -> None:
    assert parse_vendors(written) == ids


def _crc32(data: bytes) -> int:
    """CRC-32 as its catalogue entry has it: reflected, 04C11DB7, all ones before and after."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (0xEDB88320 if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF


def test_the_id_of_a_domain_is_the_crc_that_the_protocol_means() -> None:
    assert _crc32(b"123456789") == 0xCBF43926
    assert parse_vendors("example.com") == {_crc32(b"example.com") | 0x10000}


@pytest.mark.parametrize(
    "word",
    [
        "17",
        "3FF",
        "0x",
        "0x123456789",
        "0xg",
        "-0x1",
        "example",
        ".com",
        "a..b",
        "example.com..",
        "-a.com",
        "a-.com",
        "a_b.com",
        "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
        "x" * 64 + ".com",
        ".".join(["x" * 60] * 5),
        "example.com\n",
    ],
)
def test_bad_vendors(word: str) -> None:
    with pytest.raises(BadOption, match="is no vendor: write an id as 0x"):
        parse_vendors(word)
    with pytest.raises(BadOption, match="is no vendor"):
        parse_vendors(f"0x1,{word}")


@pytest.mark.parametrize("written", ["", ",", "0x1,", ",0x1"])
def test_no_vendor_between_commas(written: str) -> None:
    with pytest.raises(BadOption, match="there is no"):
        parse_vendors(written)


def test_who_has_no_scope_may_touch_all_but_vendors() -> None:
    scope = Scope()
    assert scope.allows_service("nginx")
    assert scope.allows_user(0)
    assert not scope.allows_vendor(0)
    assert scope.describe() == ""


def test_what_a_scope_leaves_out() -> None:
    scope = Scope(("nginx",), frozenset({33}), frozenset({7}))
    assert scope.allows_user(33)
    assert not scope.allows_user(0)
    assert scope.allows_vendor(7)
    assert not scope.allows_vendor(8)
    assert scope.describe() == "services=nginx users=33 vendors=0x7"


def test_scopes_with_nothing_in_them_allow_nothing() -> None:
    scope = Scope(services=(), users=frozenset())
    assert not scope.allows_service("nginx")
    assert not scope.allows_user(0)


@given(
    st.none() | st.lists(st.text("aB0_.:@*?-", min_size=1, max_size=64), min_size=1).map(tuple),
    st.none() | st.frozensets(st.integers(0, MAX_UID), min_size=1),
    st.frozensets(st.integers(0, 0xFFFFFFFF)),
)
def test_what_is_described_reads_back(
    services: tuple[str, ...] | None, users: frozenset[int] | None, vendors: frozenset[int]
) -> None:
    scope = Scope(services, users, vendors)
    options = dict(word.split("=") for word in scope.describe().split())
    again = Scope(
        parse_services(options["services"]) if "services" in options else None,
        parse_users(options["users"], USERS.get) if "users" in options else None,
        parse_vendors(options["vendors"]) if "vendors" in options else frozenset(),
    )
    assert again == scope
