"""Addresses, and sockets of daemons that are gone or that are not."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from asys.node.listen import Address, ListenError, listen, parse_address
from support.users import plain_user

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in each kind of event loop that asyd may have."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by descent.
        transport = cast(asyncio.Transport, transport)
        transport.write(b"hello")
        transport.close()


async def greeted(address: Address) -> bool:
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        return await reader.read() == b"hello"
    finally:
        writer.close()
        await writer.wait_closed()


@contextmanager
def bound(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        yield sock


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("1.2.3.4", "1.2.3.4", 7816),
        ("1.2.3.4:99", "1.2.3.4", 99),
        ("10.0.0.0:0", "10.0.0.0", 0),
        ("1.2.3.4:65535", "1.2.3.4", 65535),
        ("localhost", "127.0.0.1", 7816),
        ("localhost:1", "127.0.0.1", 1),
        ("::", "::", 7816),
        ("::1", "::1", 7816),
        ("[::1]", "::1", 7816),
        ("[::1]:99", "::1", 99),
        ("::1:99", "::1:99", 7816),
        ("2001:DB8:0:0::1", "2001:db8::1", 7816),
        ("fe80::1%eth0", "fe80::1%eth0", 7816),
        ("[fe80::1%eth0]:5", "fe80::1%eth0", 5),
    ],
)
def test_tcp_addresses(written: str, host: str, port: int) -> None:
    assert parse_address(written, 7816) == Address(host, port)


@pytest.mark.parametrize("path", ["/run/asyd.sock", "asyd.sock", "/a b:c", "[::1]:5", "unix:x"])
def test_unix_addresses(path: str) -> None:
    assert parse_address(f"unix:{path}", 7816) == Address("", 0, path)


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "*", ":", ":99", "example.org", "example.org:99", "UNIX:/x", "/run/asyd.sock"),
        *("1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", " 1.2.3.4", "1.2.3.4/24", "1.2.3.4:5:6"),
        *("[::1", "::1]", "[::1]x", "[::1] ", "[::1]99", "[[::1]]", "[]", "[]:99", ":::1"),
        *("[1.2.3.4]", "[1.2.3.4]:99", "[localhost]", "http://1.2.3.4"),
    ],
)
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ListenError) as caught:
        parse_address(written, 7816)
    assert str(caught.value).startswith(f"--listen {written}: ")
    assert "nor unix:PATH" in str(caught.value) or "the port is" in str(caught.value)


@pytest.mark.parametrize(
    "digits",
    [
        *("", "65536", "-1", "+1", "1 ", "0x1", "1e3", "99999", "1" * 5000, "x"),
        *("\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}", "1\n"),
    ],
)
def test_what_is_no_port(digits: str) -> None:
    for host in ("1.2.3.4", "[::1]"):
        with pytest.raises(ListenError, match="the port is 0 to 65535"):
            parse_address(f"{host}:{digits}", 7816)


def test_a_unix_address_without_a_path() -> None:
    with pytest.raises(ListenError, match="unix: needs a path"):
        parse_address("unix:", 7816)


@given(st.text(alphabet=st.sampled_from("0123456789abcdef:.[]%ux ²\n"), max_size=12))
def test_anything_is_an_address_or_refused(written: str) -> None:
    try:
        address = parse_address(written, 7816)
    except ListenError:
        return
    assert parse_address(str(address), 1) == address


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (Address("1.2.3.4", 99), "1.2.3.4:99"),
        (Address("::1", 99), "[::1]:99"),
        (Address("", 0, "/run/x"), "unix:/run/x"),
    ],
)
def test_an_address_in_words(address: Address, written: str) -> None:
    assert str(address) == written


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listening_on_any_port(run: Run, host: str) -> None:
    async def use() -> None:
        server, address = await listen(Greeter, Address(host, 0))
        async with server:
            assert address.host == host
            assert address.port > 0
            assert await greeted(address)

    run(use())


def test_a_port_in_use(run: Run) -> None:
    async def use() -> None:
        server, address = await listen(Greeter, Address("127.0.0.1", 0))
        async with server:
            with pytest.raises(ListenError) as caught:
                await listen(Greeter, address)
            assert str(caught.value) == f"cannot listen on {address}: Address already in use"
            assert await greeted(address)

    run(use())


def test_an_address_of_another_machine(run: Run) -> None:
    async def use() -> None:
        with pytest.raises(ListenError, match=r"on 192\.0\.2\.1:0: Cannot assign requested"):
            await listen(Greeter, Address("192.0.2.1", 0))
        with pytest.raises(ListenError, match=r"cannot listen on \[fe80::1%nothing\]:0: "):
            await listen(Greeter, Address("fe80::1%nothing", 0))

    run(use())


def test_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def use() -> None:
        server, address = await listen(Greeter, Address("", 0, str(tmp_path / "sock")))
        async with server:
            assert address == Address("", 0, str(tmp_path / "sock"))
            assert await greeted(address)
            # Whoever has a key may come in, whatever their user.
            assert stat.S_IMODE((tmp_path / "sock").stat().st_mode) == 0o666

    run(use())


def test_the_socket_of_a_daemon_that_is_gone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with bound(path) as sock:
        sock.listen()
    assert path.is_socket()

    async def use() -> None:
        server, address = await listen(Greeter, Address("", 0, str(path)))
        async with server:
            assert await greeted(address)

    run(use())


@pytest.mark.parametrize("backlog", ["empty", "full"])
def test_the_socket_of_a_daemon_that_runs(run: Run, tmp_path: Path, backlog: str) -> None:
    """Also of one that does not get round to accepting: asking must not wait for it."""
    path = tmp_path / "sock"
    waiting: list[socket.socket] = []
    with bound(path) as sock:
        sock.listen(0)
        while backlog == "full":
            peer = socket.socket(socket.AF_UNIX)
            waiting.append(peer)
            peer.setblocking(False)
            try:
                peer.connect(str(path))
            except BlockingIOError:
                break

        async def use() -> None:
            with pytest.raises(ListenError) as caught:
                await listen(Greeter, Address("", 0, str(path)))
            assert str(caught.value) == (
                f"cannot listen on unix:{path}: another process listens there"
            )

        run(use())
        assert path.is_socket()
        for peer in waiting:
            peer.close()


@pytest.mark.parametrize("kind", ["file", "directory", "pipe", "link to a file"])
def test_what_is_no_socket_is_left_alone(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "file").write_text("precious")
        path.symlink_to("file")
    before = os.lstat(path)

    async def use() -> None:
        with pytest.raises(ListenError, match="there is a file that is no socket"):
            await listen(Greeter, Address("", 0, str(path)))

    run(use())
    assert os.lstat(path) == before


def test_a_socket_of_another_kind_is_left_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sock"

    async def use() -> None:
        with pytest.raises(ListenError, match="Protocol wrong type for socket"):
            await listen(Greeter, Address("", 0, str(path)))

    with bound(path, socket.SOCK_DGRAM):
        run(use())
    assert path.is_socket()


@pytest.mark.parametrize("path", ["missing/sock", "x" * 90 + "/sock", "x" * 300, "x" * 107])
def test_a_path_that_cannot_be(run: Run, tmp_path: Path, path: str) -> None:
    async def use() -> None:
        with pytest.raises(ListenError, match=r"cannot listen on unix:.*: \S"):
            await listen(Greeter, Address("", 0, str(tmp_path / path)))

    run(use())
    assert os.listdir(tmp_path) == []


def test_a_socket_that_belongs_to_somebody_else(run: Run, tmp_path: Path) -> None:
    async def use() -> None:
        with pytest.raises(ListenError, match="Permission denied"):
            await listen(Greeter, Address("", 0, str(path)))

    with plain_user() as home:
        path = home / "sock"
        with bound(path) as sock:
            sock.listen()
            path.chmod(0)
            run(use())
            assert path.is_socket()
