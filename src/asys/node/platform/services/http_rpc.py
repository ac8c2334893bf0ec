"""XML-RPC over HTTP/1.0, on a Unix or TCP socket: one connection a call, bounded answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import xmlrpc.client
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from asys.node.platform.base import NotPermitted, SystemFailure
from asys.protocol.status import SW

CONNECT_TIMEOUT_S: Final = 2.0
HEADER_LIMIT: Final = 16 * 1024
"""Bytes of the status line and the headers of an answer."""

BODY_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of the body of an answer: room for some 3,000 processes in one listing."""


class Fault(Exception):
    """The server refused the call; `code` is its own number for why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens: a Unix socket's `path`, else `host` and `port`."""

    path: str
    host: str
    port: int
    credentials: str = field(repr=False)
    """`user:password`, or ''."""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Reads unix:///PATH or http://HOST:PORT, with `user:password@` after the slashes if the
        server asks for them. ValueError says what is wrong, without repeating the URL: it may hold
        a password.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError("not a URL; write unix:///PATH or http://HOST:PORT") from None
        credentials = ""
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        if parts.query or parts.fragment:
            raise ValueError("a '?' or '#' in the URL; in a password write %3F or %23")
        if parts.scheme == "unix":
            if host or port or not parts.path.startswith("/"):
                raise ValueError("a Unix socket needs an absolute path: unix:///PATH")
            return cls(unquote(parts.path), "", 0, credentials)
        if parts.scheme == "http":
            if not host or port is None or parts.path not in ("", "/", "/RPC2"):
                raise ValueError("host and port are needed, and no path: http://HOST:PORT")
            return cls("", host, port, credentials)
        raise ValueError("only unix:///PATH and http://HOST:PORT can be used")

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


async def call(
    endpoint: Endpoint, method: str, *arguments: str | bool, timeout_s: float | None
) -> Any:
    """The result of a method. `timeout_s` bounds all of it; None, only the connecting is bounded.

    Raises Fault when the server refuses the call, NotPermitted when it refuses the password, and
    SystemFailure when it cannot be reached or answers what cannot be read.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status, body = await _post(endpoint, xmlrpc.client.dumps(arguments, method).encode())
    except TimeoutError:
        raise SystemFailure(f"{endpoint}: no answer to {method} in time", SW.NODE_TIMED_OUT) from (
            None
        )
    except EOFError as error:
        raise SystemFailure(
            f"{endpoint}: the connection ended before {method} was answered", SW.NODE_IO_ERROR
        ) from error
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        raise SystemFailure(f"{endpoint}: {method}: {error}", SW.NODE_IO_ERROR) from error
    if status in (401, 403):
        raise NotPermitted(f"{endpoint}: user or password refused")
    if status != 200:
        raise SystemFailure(f"{endpoint}: HTTP status {status} to {method}", SW.NODE_IO_ERROR)
    try:
        (result,), _ = xmlrpc.client.loads(body)
    except xmlrpc.client.Fault as fault:
        raise Fault(int(fault.faultCode), str(fault.faultString)) from None
    except Exception as error:  # the parser lets out what its parts raise
        raise SystemFailure(
            f"{endpoint}: the answer to {method} cannot be read: {error}", SW.NODE_IO_ERROR
        ) from error
    return result


async def _post(endpoint: Endpoint, body: bytes) -> tuple[int, bytes]:
    """Sends one request; the answer's status and body. OSError, EOFError, ValueError,
    LimitOverrunError."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        if endpoint.path:
            reader, writer = await asyncio.open_unix_connection(endpoint.path, limit=HEADER_LIMIT)
        else:
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, limit=HEADER_LIMIT
            )
    try:
        lines = [
            "POST /RPC2 HTTP/1.0",
            f"Host: {endpoint.host or 'localhost'}",
            "Content-Type: text/xml",
            f"Content-Length: {len(body)}",
        ]
        if endpoint.credentials:
            token = base64.b64encode(endpoint.credentials.encode()).decode()
            lines.append(f"Authorization: Basic {token}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, length = _read_head(head)
        return status, await reader.readexactly(length) if status == 200 else b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _read_head(head: str) -> tuple[int, int]:
    """Status and Content-Length of an answer. ValueError."""
    first, *lines = head.split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("the answer is not HTTP")
    status = int(rest[:3])
    fields = dict(line.lower().split(":", 1) for line in lines if ":" in line)
    length = int(fields.get("content-length", "-1"))
    if status == 200 and not 0 <= length <= BODY_LIMIT:
        raise ValueError(f"the answer has no length, or one over {BODY_LIMIT} bytes")
    return status, length
