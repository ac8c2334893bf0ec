"""XML-RPC answers that are not as they should be, and URLs that are none."""

from __future__ import annotations

import asyncio
import xmlrpc.client
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asys.isa import TaskStatus
from asys.node.platform.base import NotPermitted, SystemFailure
from asys.node.platform.services import http_rpc
from asys.node.platform.services.http_rpc import BODY_LIMIT, HEADER_LIMIT, Endpoint, Fault
from asys.node.platform.services.supervisord import Supervisord
from asys.protocol.status import SW


class Server:
    """Answers with what it was given, whatever it is asked, and keeps the last request."""

    def __init__(self) -> None:
        self.answer = b""
        self.answers: list[bytes] = []
        """Come first, one a request."""
        self.request = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.request = head + await reader.readexactly(length)
        writer.write(self.answers.pop(0) if self.answers else self.answer)
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_unix_server(server.serve, tmp_path / "s")
    yield server
    listener.close()
    await listener.wait_closed()


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    return Endpoint.parse(f"unix://user:p%40ss@{tmp_path}/s")


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.0 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


def response(value: Any) -> bytes:
    return http(xmlrpc.client.dumps((value,), methodresponse=True).encode())


async def ask(endpoint: Endpoint) -> object:
    return await http_rpc.call(endpoint, "a.method", "text", True, timeout_s=60)


async def test_a_call_and_its_result(server: Server, endpoint: Endpoint) -> None:
    server.answer = response([1, "two"])
    assert await ask(endpoint) == [1, "two"]
    head, _, body = server.request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /RPC2 HTTP/1.0\r\nHost: localhost\r\n")
    assert b"\r\nAuthorization: Basic dXNlcjpwQHNz" in head
    assert xmlrpc.client.loads(body) == (("text", True), "a.method")


async def test_a_fault(server: Server, endpoint: Endpoint) -> None:
    fault = xmlrpc.client.Fault(10, "BAD_NAME: x")
    server.answer = http(xmlrpc.client.dumps(fault, methodresponse=True).encode())
    with pytest.raises(Fault, match="BAD_NAME: x") as caught:
        await ask(endpoint)
    assert caught.value.code == 10


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refused_password(server: Server, endpoint: Endpoint, status: str) -> None:
    server.answer = http(b"no", status)
    with pytest.raises(NotPermitted):
        await ask(endpoint)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.0 abc\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n<no-length/>",
        b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nX: " + b"x" * HEADER_LIMIT,
        b"HTTP/1.0 200 OK\r\nX: " + b"x" * HEADER_LIMIT + b"\r\n\r\n",
        http(b"", length=BODY_LIMIT + 1),
        http(b"", length=-1),
        http(b"short", length=6),
        http(b"", "500 Oops"),
        http(b"<methodResponse>"),
        http(b"\x00\xff"),
        http(b"<methodResponse><params></params></methodResponse>"),
        http(
            b"<methodResponse><params><param><value><int>x</int></value></param></params>"
            b"</methodResponse>"
        ),
        http(xmlrpc.client.dumps((1, 2)).encode()),
    ],
    ids=lambda answer: repr(answer[:40]),
)
async def test_an_answer_that_is_none(server: Server, endpoint: Endpoint, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(SystemFailure) as caught:
        await ask(endpoint)
    assert caught.value.sw == SW.NODE_IO_ERROR
    assert "p@ss" not in str(caught.value)


async def test_an_answer_too_large_is_not_read(server: Server, endpoint: Endpoint) -> None:
    server.answer = http(b"x" * 100, length=BODY_LIMIT + 1)
    with pytest.raises(SystemFailure, match=f"over {BODY_LIMIT} bytes"):
        await ask(endpoint)


async def test_nobody_listens(endpoint: Endpoint) -> None:
    with pytest.raises(SystemFailure) as caught:
        await ask(endpoint)
    assert caught.value.sw == SW.NODE_IO_ERROR


async def test_a_server_that_says_nothing(tmp_path: Path, endpoint: Endpoint) -> None:
    asked = asyncio.Event()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await done.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        with pytest.raises(SystemFailure) as caught:
            await http_rpc.call(endpoint, "a.method", timeout_s=0.05)
        assert caught.value.sw == SW.NODE_TIMED_OUT
        await asked.wait()
        done.set()


@pytest.mark.parametrize("value", ["text", [1], {}, [["x"]]])
async def test_supervisord_must_answer_with_a_list(
    server: Server, tmp_path: Path, value: object
) -> None:
    server.answer = response(value)
    with pytest.raises(SystemFailure, match="something else than a list"):
        await Supervisord(f"unix://{tmp_path}/s").resolve("x")


async def test_a_program_that_supervisord_does_not_want_to_stop(
    server: Server, tmp_path: Path
) -> None:
    failed = xmlrpc.client.Fault(30, "FAILED: no")
    server.answers = [response([{"group": "x", "name": "x"}])]
    server.answer = http(xmlrpc.client.dumps(failed, methodresponse=True).encode())
    job = await Supervisord(f"unix://{tmp_path}/s").restart("x")
    assert await job.wait() is TaskStatus.FAILED
    assert b"stopProcess" in server.request


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("unix:///run/s.sock", Endpoint("/run/s.sock", "", 0, "")),
        ("unix:///run/a%20b", Endpoint("/run/a b", "", 0, "")),
        ("unix://u:p%2F%40@/run/s", Endpoint("/run/s", "", 0, "u:p/@")),
        ("http://127.0.0.1:9001", Endpoint("", "127.0.0.1", 9001, "")),
        ("http://u@[::1]:80/", Endpoint("", "::1", 80, "u:")),
        ("http://u:p@localhost:9001/RPC2", Endpoint("", "localhost", 9001, "u:p")),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/run/s.sock",
        "unix://",
        "unix:run/s.sock",
        "unix://host/run/s",
        "unix://host:1/run/s",
        "http://:hidden@:9001",
        "http://u:hidden@host",
        "http://u:hidden@host:port",
        "http://u:hidden@host:99999",
        "http://u:hidden@host:1/other",
        "http://u:hidden@host:1?x",
        "http://u:hidden@host:1#x",
        "https://u:hidden@host:1",
        "http://u:hidden@[::1",
    ],
)
def test_what_is_no_url_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Endpoint.parse(url)
    assert "hidden" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    endpoint = Endpoint.parse("http://u:hidden@h:1")
    assert "hidden" not in repr(endpoint) + str(endpoint)
    assert str(endpoint) == "h:1"
