"""The sockets of a process: of which kinds they are, and what may go wrong with each."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from asys.node.platform.isolation import sockets as isolation_sockets
from asys.node.platform.isolation.sockets import Sockets
from support.isolating import isolation_missing

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())

SO_COOKIE = 57


@pytest.fixture
def found() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


def cookie(one: socket.socket) -> int:
    return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def test_internet_sockets_are_found_and_no_others(found: Sockets) -> None:
    """This process takes its own."""
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        internet = [
            stack.enter_context(socket.socket(family, kind))
            for family in (socket.AF_INET, socket.AF_INET6)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ]
        internet.append(stack.enter_context(socket.create_server(("127.0.0.1", 0))))
        others = [stack.enter_context(one) for one in socket.socketpair()]
        stack.enter_context(open(os.devnull, "rb"))
        found.take(os.getpid())
        assert {cookie(one) for one in internet} <= found.cookies
        assert not {cookie(one) for one in others} & found.cookies
        found.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_waits_is_ended_and_the_socket_is_as_it_was(found: Sockets) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients = [
            stack.enter_context(socket.create_connection(server.getsockname())) for _ in range(3)
        ]
        found.take(os.getpid())
        assert os.get_blocking(server.fileno())
        found.end_what_no_cookie_stops()
        assert os.get_blocking(server.fileno())
        for one in clients:
            assert one.recv(1) == b""
        found.end_what_no_cookie_stops()  # nothing waits


@pytest.mark.parametrize("gone", [errno.EBADF, errno.ESRCH, errno.ENOENT])
def test_a_descriptor_that_is_closed_meanwhile(
    found: Sockets, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.setattr(isolation_sockets, "_syscall", _raising(gone))
    with socket.socket():
        found.take(os.getpid())
    assert found.cookies == set()


def test_what_may_not_be_taken(found: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation_sockets, "_syscall", _raising(errno.EPERM))
    with socket.socket(), pytest.raises(PermissionError):
        found.take(os.getpid())


def test_a_process_that_is_not_there(found: Sockets) -> None:
    with pytest.raises(ProcessLookupError):
        found.take(2**22 - 1)


def test_threads_that_share_their_descriptors_are_looked_at_once(found: Sockets) -> None:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(3)]
    for one in threads:
        one.start()
    try:
        assert len(list(isolation_sockets._tables(os.getpid()))) == 1
    finally:
        end.set()
        for one in threads:
            one.join()


def _raising(number: int) -> Callable[..., int]:
    def refuse(*values: int) -> int:
        raise OSError(number, os.strerror(number))

    return refuse
