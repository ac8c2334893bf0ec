"""Metrics over HTTP: what is answered, what is not, and that nobody can take the loop with it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop

from asys.node.clock import LoopClock
from asys.node.health.http import (
    IDLE_SECONDS,
    LONGEST_PAUSE,
    MAX_CONNECTIONS,
    MAX_HEAD,
    REQUEST_SECONDS,
    SHARE,
    Connection,
    MetricsServer,
    serve_metrics,
)
from asys.node.listen import Address, ListenError
from support.clock import ManualClock

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

TEXT = "# TYPE made gauge\nmade 1\n# EOF\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n"
LOOPBACK = Address("127.0.0.1", 0)
PATIENCE = 60.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in each kind of event loop that asyd may have."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


def text() -> str:
    return TEXT


async def served(
    use: Callable[[int], Awaitable[None]],
    render: Callable[[], str] = text,
    address: Address = LOOPBACK,
) -> None:
    """Calls `use` with the port of a server, which is closed behind it."""
    server = await serve_metrics(render, LoopClock(asyncio.get_running_loop()), address)
    try:
        await use(int(server.url.rpartition(":")[2].removesuffix("/metrics")))
    finally:
        server.close()


async def exchange(port: int, *sent: bytes, end: bool = True) -> bytes:
    """Sends bytes, and their end if told; what comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        if end:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def answers(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer, as Python's own client reads them."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        found.append((int(status.split()[1]), headers, rest[:size]))
        data = rest[size:]
    return found


# -- what is answered


def test_an_answer(run: Run) -> None:
    async def use(port: int) -> None:
        [(status, headers, body)] = answers(await exchange(port, GET))
        assert (status, body.decode()) == (200, TEXT)
        assert headers["content-type"] == (
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
        assert headers["date"].endswith(" gmt")
        assert "connection" not in headers

    run(served(use))


def test_python_s_own_client(run: Run) -> None:
    """With one connection for all that it asks, as Prometheus does."""

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for method, path, status, body in (
            ("GET", "/metrics", 200, TEXT),
            ("HEAD", "/metrics", 200, ""),
            ("GET", "/metrics?name[]=made", 200, TEXT),
            ("GET", "/", 404, "There is nothing here but /metrics.\n"),
            ("HEAD", "/metric", 404, ""),
            ("DELETE", "/metrics", 405, "There is nothing but GET and HEAD.\n"),
            ("GET", "/metrics", 200, TEXT),
        ):
            connection.request(method, path)
            response = connection.getresponse()
            assert (response.status, response.read().decode()) == (status, body)
            assert response.getheader("Allow") == ("GET, HEAD" if status == 405 else None)
            assert response.reason
            assert connection.sock is not None, "the connection is kept"
        connection.close()

    async def use(port: int) -> None:
        await asyncio.to_thread(ask, port)

    run(served(use))


def test_each_byte_on_its_own(run: Run) -> None:
    async def use(port: int) -> None:
        parts = [GET[at : at + 1] for at in range(len(GET))]
        [(status, _, _)] = answers(await exchange(port, *parts))
        assert status == 200

    run(served(use))


def test_requests_behind_each_other_in_one_piece(run: Run) -> None:
    count = 0

    def render() -> str:
        nonlocal count
        count += 1
        return f"made {count}\n# EOF\n"

    last = b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"

    async def use(port: int) -> None:
        found = answers(await exchange(port, GET * 19 + last, end=False))
        assert [body for _, _, body in found] == [
            f"made {number}\n# EOF\n".encode() for number in range(1, 21)
        ]
        assert found[-1][1]["connection"] == "close"

    run(served(use, render))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"POST /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 99\r\n\r\nhello", 405),
        (b"POST / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\n", 200),
        (b"CONNECT node:1 HTTP/1.1\r\nHost: n\r\n\r\n", 404),
        (b"CONNECT /metrics HTTP/1.1\r\nHost: n\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: n\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"ASYS\x01\x02\x00\x00" + bytes(32) + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n" + b"A: b\r\n" * MAX_HEAD, 431),
        (b"G" * (MAX_HEAD + 1), 431),
        (b"GET / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_ends_the_connection(run: Run, sent: bytes, status: int) -> None:
    """One answer, and its end, though the client waits for more."""

    async def use(port: int) -> None:
        [(found, headers, body)] = answers(await exchange(port, sent, end=False))
        assert found == status
        assert headers["connection"] == "close"
        assert body

    run(served(use))


def test_metrics_that_cannot_be_told(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    broken = [True]

    def render() -> str:
        if broken:
            raise ZeroDivisionError
        return TEXT

    async def use(port: int) -> None:
        [(status, _, body)] = answers(await exchange(port, GET))
        assert (status, body) == (500, b"The log of asyd says more.\n")
        broken.clear()
        [(status, _, _)] = answers(await exchange(port, GET))
        assert status == 200

    with caplog.at_level(logging.ERROR):
        run(served(use, render))
    [record] = caplog.records
    assert record.exc_info is not None


# -- where


def test_a_unix_socket(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "metrics"

    async def use() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        server = await serve_metrics(text, clock, Address("", 0, str(path)))
        assert server.url == f"unix:{path}"
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        server.close()
        assert not path.exists()
        server.close()

    run(use())


def test_a_port_that_is_taken(run: Run) -> None:
    async def use() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(ListenError, match="cannot listen on"),
        ):
            await serve_metrics(text, clock, Address("127.0.0.1", taken.getsockname()[1]))

    run(use())


def test_its_end_ends_connections(run: Run) -> None:
    async def use() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        server = await serve_metrics(text, clock, LOOPBACK)
        port = int(server.url.rpartition(":")[2].removesuffix("/metrics"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET[:10])
        second, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(GET)
        assert (await second.readline()).startswith(b"HTTP/1.1 200")
        other.write(GET)
        server.close()
        for one in (reader, second):
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(one.read(), PATIENCE)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        other.close()

    run(use())


def test_only_so_many_at_a_time(run: Run) -> None:
    async def use(port: int) -> None:
        there = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        for _, writer in there:
            writer.write(GET)
        for reader, _ in there:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await asyncio.to_thread(asked, port) == b""
        _, leaves = there.pop()
        leaves.close()
        while not await asyncio.to_thread(asked, port):
            pass  # its end has not been seen yet
        for _, writer in there:
            writer.close()

    def asked(port: int) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(GET)
                return client.recv(12)
        except ConnectionError:
            return b""

    run(served(use))


# -- time: without a network


class Wire(asyncio.Transport):
    """The server's end of a connection in memory; `taking`: the client reads."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.taking = True
        self.reading = True
        self.sent = b""
        self.unread = b""
        self.closing = False
        self._gone = False
        connection.connection_made(self)

    def gone(self) -> bool:
        return self._gone

    def send(self, data: bytes) -> None:
        assert self.reading, "it does not want to hear anything now"
        self.connection.data_received(data)

    def take(self) -> None:
        self.sent += self.unread
        self.unread = b""
        self.connection.resume_writing()
        if self.closing:
            self.abort()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.taking:
            self.sent += bytes(data)
        else:
            self.unread += bytes(data)
            self.connection.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing or self._gone

    def close(self) -> None:
        self.closing = True
        if not self.unread:
            self.abort()

    def abort(self) -> None:
        if not self._gone:
            self._gone = True
            self.connection.connection_lost(None)


class Made:
    """A server on a clock that a test turns; each rendering takes `cost` seconds of the loop."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cost = 0.0
        self.spent = 0.0
        self.rendered = 0
        self.server = MetricsServer(self.render, self.clock, timer=lambda: self.spent)

    def render(self) -> str:
        self.rendered += 1
        self.spent += self.cost
        return TEXT

    def dial(self) -> Wire:
        return Wire(Connection(self.server))


@pytest.fixture
def made() -> Made:
    return Made()


def test_a_request_that_takes_too_long(made: Made) -> None:
    """Counted from its connection on; each byte moves nothing."""
    wire = made.dial()
    for byte in GET[: int(REQUEST_SECONDS)]:
        made.clock.advance(0.9)
        wire.send(bytes([byte]))
    assert not wire.gone()
    made.clock.advance(1.01)
    assert wire.gone()
    assert not made.clock.pending


def test_a_second_request_that_takes_too_long(made: Made) -> None:
    wire = made.dial()
    wire.send(GET)
    made.clock.run_ready()
    made.clock.advance(60)
    wire.send(GET[:1])
    made.clock.advance(REQUEST_SECONDS - 0.1)
    wire.send(GET[1:2])
    assert not wire.gone()
    made.clock.advance(0.1)
    assert wire.gone()


def test_who_asks_nothing_more_goes(made: Made) -> None:
    wire = made.dial()
    for _ in range(5):
        wire.send(GET)
        made.clock.advance(IDLE_SECONDS - 1)
        assert not wire.gone()
    made.clock.advance(1)
    assert wire.gone()
    assert len(answers(wire.sent)) == 5


def test_who_does_not_read_is_not_answered_and_goes(made: Made) -> None:
    wire = made.dial()
    wire.taking = False
    wire.send(GET * 3)
    made.clock.advance(REQUEST_SECONDS - 0.1)
    assert made.rendered == 1
    wire.take()
    made.clock.run_ready()
    assert made.rendered == 2
    made.clock.advance(REQUEST_SECONDS)
    assert wire.gone()
    assert made.rendered == 2


def test_an_end_that_is_not_read_comes_all_the_same(made: Made) -> None:
    reads, leaves = made.dial(), made.dial()
    for wire in (reads, leaves):
        wire.taking = False
        wire.send(b"GET /metrics HTTP/1.0\r\n\r\n")
    made.clock.run_ready()
    made.clock.run_ready()
    assert (reads.closing, reads.gone()) == (True, False)
    reads.connection.data_received(b"more")
    reads.take()
    assert reads.gone()
    assert len(answers(reads.sent)) == 1
    made.clock.advance(REQUEST_SECONDS)
    assert leaves.gone()
    assert made.rendered == 2


def test_a_share_of_the_loop_and_no_more(made: Made) -> None:
    """However many ask, and however much of it at once."""
    made.cost = 0.001
    greedy, modest = made.dial(), made.dial()
    greedy.send(GET * 1000)
    modest.send(GET)
    made.clock.run_ready()
    assert made.rendered == 1
    made.clock.advance(made.cost / SHARE)
    assert made.rendered == 2
    assert len(answers(modest.sent)) == 1, "each in its turn"
    made.clock.advance(1.0)
    assert made.spent == pytest.approx(SHARE, abs=3 * made.cost)
    greedy.abort()
    made.clock.advance(1.0)
    assert not [one for one in made.clock.pending if one.due < made.clock.now() + 1]
    rendered = made.rendered
    modest.send(GET)
    made.clock.run_ready()
    assert made.rendered == rendered + 1, "who has not asked for long is answered at once"


def test_no_pause_is_longer_than_a_second(made: Made) -> None:
    made.cost = 60.0
    wire = made.dial()
    wire.send(GET * 2)
    made.clock.run_ready()
    made.clock.advance(LONGEST_PAUSE - 0.1)
    assert made.rendered == 1
    made.clock.advance(0.11)
    assert made.rendered == 2


def test_who_leaves_before_its_turn(made: Made) -> None:
    made.cost = 0.01
    first, second = made.dial(), made.dial()
    first.send(GET)
    second.send(GET)
    made.clock.run_ready()
    second.abort()
    made.clock.advance(0.01 / SHARE)
    assert made.rendered == 1
    made.server.close()
    made.server.close()
    assert first.gone()


def test_who_is_about_to_be_gone_is_not_answered(made: Made) -> None:
    wire = made.dial()
    wire.send(GET)
    wire.closing = True
    made.clock.run_ready()
    assert made.rendered == 0
    assert not wire.sent


def test_bytes_that_come_while_one_waits_for_its_turn(made: Made) -> None:
    """As an event loop may have read them already."""
    wire = made.dial()
    wire.send(GET)
    wire.connection.data_received(GET)
    made.clock.run_ready()
    made.clock.run_ready()
    assert len(answers(wire.sent)) == 2


def test_the_close_of_a_server_that_owes_an_answer(made: Made) -> None:
    wire = made.dial()
    wire.send(GET)
    made.server.close()
    made.clock.run_ready()
    assert wire.gone()
    assert made.rendered == 0
    assert not made.clock.pending


def test_nodes_that_nobody_scrapes_do_not_load_it() -> None:
    """What speaks HTTP takes memory."""
    program = "import sys, asys.node.daemon, asys.cli.daemon_commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    loaded = done.stdout.split()
    assert "asys.node.health.metrics" in loaded
    assert not {"h11", "asys.node.health.http", "prometheus_client"} & set(loaded)


def test_the_bounds() -> None:
    assert (MAX_CONNECTIONS, MAX_HEAD) == (8, 8192)
    assert (REQUEST_SECONDS, IDLE_SECONDS) == (10.0, 120.0)
    assert (SHARE, LONGEST_PAUSE) == (0.05, 1.0)
