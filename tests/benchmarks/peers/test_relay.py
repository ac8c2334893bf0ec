"""The relay counts every byte of the streams that it passes on, and changes none."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks.peers.relay import CHUNK, HOST, Passed, Relay

PATIENCE = 60.0


@contextmanager
def doubling() -> Iterator[int]:
    """A server that answers, when all has been said, with twice what was said; its port."""

    def serve(connection: socket.socket) -> None:
        with connection:
            said = b""
            while data := connection.recv(CHUNK):
                said += data
            connection.sendall(said + said)

    with socket.create_server((HOST, 0), backlog=16) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,)).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def say(port: int, data: bytes) -> bytes:
    """What is answered to it."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(CHUNK):
            answer += more
        return answer


def test_it_counts_exactly_what_passes_on_many_connections() -> None:
    sizes = [0, 1, 2, 1459, CHUNK - 1, CHUNK, CHUNK + 1, 3_000_017]
    said = {size: hashlib.shake_128(str(size).encode()).digest(size) for size in sizes}
    heard: dict[int, bytes] = {}
    with doubling() as port, Relay(port) as relay:
        assert relay.passed == (0, 0)

        def talk(size: int) -> None:
            heard[size] = say(relay.port, said[size])

        talking = [threading.Thread(target=talk, args=(size,)) for size in sizes]
        for one in talking:
            one.start()
        for one in talking:
            one.join()
        assert relay.settled() == Passed(sum(sizes), 2 * sum(sizes))
        say(relay.port, b"once more")
        assert relay.settled() == (sum(sizes) + 9, 2 * sum(sizes) + 18)
    assert heard == {size: data + data for size, data in said.items()}


def test_a_connection_that_is_open_ends_with_it() -> None:
    with doubling() as port:
        relay = Relay(port)
        with socket.create_connection((HOST, relay.port), timeout=PATIENCE) as connection:
            connection.sendall(b"half a word")
            assert relay.settled() == (11, 0)
            relay.close()
            while connection.recv(CHUNK):
                pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, relay.port))


def test_a_node_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with Relay(port) as relay:
        with socket.create_connection((HOST, relay.port), timeout=PATIENCE) as connection:
            assert connection.recv(CHUNK) == b""
        assert relay.passed == (0, 0)
