"""Spellings of a node's address."""

from __future__ import annotations

import pytest

from asys.client.address import Address
from asys.errors import ArgumentError


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("127.0.0.1", 7816, "127.0.0.1:7816"),
        ("Node.Example.ORG", 99, "node.example.org:99"),
        ("::1", 7816, "[::1]:7816"),
        ("[::1]", 7816, "[::1]:7816"),
        ("2001:DB8:0:0::1", 1, "[2001:db8::1]:1"),
        ("fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
        ("unix:/run/asyd.sock", 7816, "unix:/run/asyd.sock"),
        ("unix:/run/two words", 7816, "unix:/run/two words"),
    ],
)
def test_one_node_has_one_name(host: str, port: int, name: str) -> None:
    address = Address.of(host, port)

    assert str(address) == name
    assert Address.parse(name) == address
    assert Address.of(address.host, address.port or 7816) == address


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("node", "node", 7816),
        ("node:7", "node", 7),
        ("::1", "::1", 7816),
        ("[::1]", "::1", 7816),
        ("[::1]:7", "::1", 7),
        ("unix:/a:7", "unix:/a:7", 0),
    ],
)
def test_the_port_may_be_left_out(name: str, host: str, port: int) -> None:
    assert Address.parse(name) == Address(host, port)


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        " node",
        "node\n",
        "[node]",
        "node:7816",
        "1::2::3",
        "[::1]:7816",
        "unix:",
        "unix:relative",
        "unix:/a\n",
        "unix:/a ",
        "no\x7fde",
        "unix",
        "UNIX",
        "#node",
        "fe80::1%a b",
        "fe80::1%\nnode",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ArgumentError):
        Address.of(host)


@pytest.mark.parametrize("port", [0, -1, 65536, True, "7816", 1.5])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ArgumentError, match="port must be 1 to 65535"):
        Address.of("node", port)


@pytest.mark.parametrize(
    "name", ["node:", "node:x", "node:0", "node:\u0661", ":7", "a:b:7", "", "node:" + "1" * 5000]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError):
        Address.parse(name)


def test_only_unix_sockets_have_a_path() -> None:
    assert Address.of("unix:/a").path == "/a"
    assert Address.of("node").path == ""
