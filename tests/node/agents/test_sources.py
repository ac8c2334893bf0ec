"""Where agents may connect from."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from asys.node.agents.sources import Sources, parse_sources
from asys.node.agents.words import BadOption

MAPPED = ipaddress.ip_network("::ffff:0:0/96")


def v4(host: str) -> tuple[str, int]:
    return (host, 40000)


def v6(host: str) -> tuple[str, int, int, int]:
    return (host, 40000, 0, 0)


@pytest.mark.parametrize(
    ("written", "peer", "allowed"),
    [
        ("192.0.2.7", v4("192.0.2.7"), True),
        ("192.0.2.7", v4("192.0.2.8"), False),
        ("192.0.2.7", v6("::ffff:192.0.2.7"), True),
        ("192.0.2.7", v6("::ffff:c000:207"), True),
        ("192.0.2.7", v6("::192.0.2.7"), False),
        ("192.0.2.7", v6("64:ff9b::192.0.2.7"), False),
        ("10.0.0.0/8", v4("10.255.255.255"), True),
        ("10.0.0.0/8", v4("11.0.0.0"), False),
        ("10.0.0.0/8", v6("::ffff:10.1.2.3"), True),
        ("0.0.0.0/0", v4("255.255.255.255"), True),
        ("0.0.0.0/0", v6("::ffff:1.2.3.4"), True),
        ("0.0.0.0/0", v6("2001:db8::1"), False),
        ("0.0.0.0/0", "", False),
        ("::/0", v6("2001:db8::1"), True),
        ("::/0", v4("1.2.3.4"), False),
        ("::/0", v6("::ffff:1.2.3.4"), False),
        ("2001:db8::/32", v6("2001:db8:ffff::1"), True),
        ("2001:db8::/32", v6("2001:db9::"), False),
        ("2001:DB8::1", v6("2001:db8:0:0:0:0:0:1"), True),
        ("fe80::/10", v6("fe80::1%eth0"), True),
        ("fe80::1", ("fe80::1%3", 1, 0, 3), True),
        ("fe80::1", ("fe80::2%3", 1, 0, 3), False),
        ("10.0.0.1,2001:db8::1", v6("2001:db8::1"), True),
        ("10.0.0.1,2001:db8::1", v4("10.0.0.1"), True),
        ("unix", "", True),
        ("unix", "/run/agent.sock", True),
        ("unix", b"\0abstract", True),
        ("unix", v4("127.0.0.1"), False),
        ("unix,127.0.0.0/8", v4("127.0.0.1"), True),
        ("127.0.0.0/8,unix", "", True),
        ("127.0.0.1", "", False),
        ("unix,0.0.0.0/0,::/0", None, False),
        ("unix,0.0.0.0/0,::/0", (), False),
        ("unix,0.0.0.0/0,::/0", ("localhost", 1), False),
        ("unix,0.0.0.0/0,::/0", ("", 1), False),
        ("unix,0.0.0.0/0,::/0", (None, 1), False),
        ("unix,0.0.0.0/0,::/0", 7, False),
    ],
)
def test_who_is_let_in(written: str, peer: object, allowed: bool) -> None:
    assert parse_sources(written).allows(peer) is allowed


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "there is no value"),
        ("unix,", "nothing next to a comma"),
        (",unix", "nothing next to a comma"),
        ("localhost", "'localhost' is no IPv4 or IPv6 address, no prefix such as 10.0.0.0/8"),
        ("UNIX", "is no IPv4 or IPv6 address"),
        ("unix:/run/s", "is no IPv4 or IPv6 address"),
        ("10", "is no IPv4"),
        ("10.0.0", "is no IPv4"),
        ("10.0.0.256", "is no IPv4"),
        ("010.0.0.1", "is no IPv4"),
        ("10.0.0.0/", "is no IPv4"),
        ("10.0.0.0/33", "is no IPv4"),
        ("10.0.0.0/-1", "is no IPv4"),
        ("10.0.0.0/255.0.0.0", "is no IPv4"),
        ("10.0.0.0/0.255.255.255", "is no IPv4"),
        ("10.0.0.0/8/8", "is no IPv4"),
        ("::/129", "is no IPv4"),
        ("[::1]", "is no IPv4"),
        (":::", "is no IPv4"),
        ("10.0.0.1:80", "is no IPv4"),
        ("*", "is no IPv4"),
        ("10.0.0.1\n", "is no IPv4"),
        ("\N{FULLWIDTH DIGIT ONE}0.0.0.1", "is no IPv4"),
        ("fe80::1%eth0", "'fe80::1%eth0' has a scope id; write the address without %"),
        ("10.0.0.1/8", "'10.0.0.1/8' has bits set behind its prefix; write 10.0.0.0/8"),
        ("10.0.0.1/0", "write 0.0.0.0/0"),
        ("2001:db8::1/32", "has bits set behind its prefix; write 2001:db8::/32"),
        ("::ffff:10.0.0.1", "in the clothes of IPv6; write 10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "in the clothes of IPv6; write 10.0.0.0/8"),
        ("::ffff:0:0/96", "in the clothes of IPv6; write 0.0.0.0/0"),
    ],
)
def test_bad_sources(written: str, why: str) -> None:
    with pytest.raises(BadOption, match=re.escape(why)):
        parse_sources(written)
    if written:
        with pytest.raises(BadOption, match=re.escape(why)):
            parse_sources(f"192.0.2.1,{written}")


@pytest.mark.parametrize(
    "written", ["unix", "10.0.0.0/8", "192.0.2.1,2001:db8::/32,unix", "0.0.0.0/0,::/0", "::1"]
)
def test_what_is_written_stays(written: str) -> None:
    assert str(parse_sources(written)) == written


@given(
    st.lists(
        st.one_of(
            st.ip_addresses().filter(lambda ip: ip not in MAPPED).map(str),
            st.builds(
                lambda ip, cut: str(ipaddress.ip_network((int(ip), 32 - cut), strict=False)),
                st.ip_addresses(v=4),
                st.integers(0, 32),
            ),
            st.builds(
                lambda ip, cut: str(ipaddress.IPv6Network((int(ip), 128 - cut), strict=False)),
                st.ip_addresses(v=6).filter(lambda ip: ip not in MAPPED),
                st.integers(0, 32),
            ),
            st.just("unix"),
        ),
        min_size=1,
    )
)
def test_sources_read_back(words: list[str]) -> None:
    sources = parse_sources(",".join(words))
    assert parse_sources(str(sources)) == sources
    assert sources.unix is ("unix" in words)
    for network in sources.networks:
        assert sources.allows((str(network.network_address), 1))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(written: str) -> None:
    try:
        sources = parse_sources(written)
    except BadOption:
        return
    assert parse_sources(str(sources)) == sources


async def _check_names(path: str) -> None:
    """TCP of both versions over a dual-stack socket, and a Unix socket."""
    names: asyncio.Queue[Any] = asyncio.Queue()

    class Ear(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            names.put_nowait(transport.get_extra_info("peername"))
            transport.close()

    loop = asyncio.get_running_loop()
    dual = socket.socket(socket.AF_INET6)
    dual.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    dual.bind(("::", 0))
    port = dual.getsockname()[1]
    servers = [await loop.create_server(Ear, sock=dual), await loop.create_unix_server(Ear, path)]
    try:
        for family, address, word in (
            (socket.AF_INET, ("127.0.0.1", port), "127.0.0.1"),
            (socket.AF_INET6, ("::1", port), "::1"),
            (socket.AF_UNIX, path, "unix"),
        ):
            with socket.socket(family) as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                peer = await names.get()
            for other in ("127.0.0.1", "::1", "unix"):
                assert parse_sources(other).allows(peer) is (other == word), (peer, other)
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_transports_call_their_peers(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_check_names(str(tmp_path / "socket")))


def test_nowhere() -> None:
    assert not Sources().allows(("127.0.0.1", 1))
    assert not Sources().allows("")
