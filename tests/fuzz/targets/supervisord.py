"""What a server of XML-RPC answers over HTTP: supervisord's socket may be anybody's."""

from __future__ import annotations

import asyncio
import xmlrpc.client
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

from asys.node.platform.base import NotPermitted, SystemFailure
from asys.node.platform.services import http_rpc
from asys.node.platform.services.http_rpc import BODY_LIMIT, HEADER_LIMIT, Endpoint, Fault
from fuzz.choices import Choices, Script

COVERS = ("asys.node.platform.services.http_rpc",)

_ENDPOINT: Final = Endpoint("/run/nobody", "", 0, "user:pass")


def one(data: bytes) -> None:
    """An answer in pieces, or a URL."""
    choices = Choices(data)
    if choices.flag():
        _url(choices.rest().decode("utf-8", "replace"))
    else:
        asyncio.run(_answer(choices.pieces()))


class _Writer:
    """A StreamWriter whose peer takes everything."""

    def __init__(self, sent: list[bytes]) -> None:
        self.write = sent.append

    async def drain(self) -> None:
        """As StreamWriter.drain."""

    def close(self) -> None:
        """As StreamWriter.close."""

    async def wait_closed(self) -> None:
        """As StreamWriter.wait_closed."""


async def _answer(pieces: list[bytes]) -> None:
    sent: list[bytes] = []

    async def connect(path: str, *, limit: int) -> tuple[asyncio.StreamReader, Any]:
        assert (path, limit) == ("/run/nobody", HEADER_LIMIT)
        reader = asyncio.StreamReader(limit)
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        return reader, _Writer(sent)

    stream = b"".join(pieces)
    with mock.patch("asyncio.open_unix_connection", connect):
        try:
            result = await http_rpc.call(_ENDPOINT, "supervisor.getState", timeout_s=60.0)
        except Fault as fault:
            assert isinstance(fault.code, int)
        except NotPermitted:
            assert stream.startswith(b"HTTP/1.")
        except SystemFailure as failure:
            assert str(failure)
            assert "pass" not in str(failure) or b"pass" in stream
        else:
            head, _, body = stream.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.")
            assert len(body) <= BODY_LIMIT or b"ontent" in head
            assert repr(result)
    assert sent[0].startswith(b"POST /RPC2 HTTP/1.0\r\n")


def _url(url: str) -> None:
    try:
        endpoint = Endpoint.parse(url)
    except ValueError as error:
        secret = url.partition("@")[0].rpartition(":")[2]
        assert len(secret) < 20 or secret not in str(error)
        return
    assert bool(endpoint.path) is not bool(endpoint.host)
    assert endpoint.path == "" or endpoint.path.startswith("/")
    assert endpoint.host == "" or 0 <= endpoint.port <= 0xFFFF
    assert "credentials" not in repr(endpoint)


def seeds() -> Iterator[bytes]:
    """A result, a fault, refusals, and what is no HTTP or no XML; URLs."""
    bodies = [
        xmlrpc.client.dumps(({"statecode": 1, "statename": "RUNNING"},), methodresponse=True),
        xmlrpc.client.dumps((["a", True, 1.5],), methodresponse=True),
        xmlrpc.client.dumps(xmlrpc.client.Fault(10, "BAD_NAME")),
        "<methodResponse><fault><value><string>x</string></value></fault></methodResponse>",
        "<?xml version='1.0'?><a>",
        "",
    ]
    for body in bodies:
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        yield bytes(Script().byte(0, 0).raw((head + body).encode()))
    for status in (b"401 no", b"403 no", b"500 no", b"x", b""):
        yield bytes(Script().byte(0, 2, 9, 4).raw(b"HTTP/1.1 " + status + b"\r\n\r\nbody"))
    for other in (
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Len",
    ):
        yield bytes(Script().byte(0, 0).raw(other))
    for url in (
        "unix:///run/s.sock",
        "http://user:p%40ss@[::1]:9001/RPC2",
        "http://h",
        "x",
        "//[:",
    ):
        yield bytes(Script().byte(1).raw(url.encode()))
