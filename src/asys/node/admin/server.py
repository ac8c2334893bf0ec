"""The admin's way into a running asyd: one line of JSON in, one out, on a Unix socket of its own.

It needs no disk, no agent and no session, and keeps a file descriptor for when there are none left.
Only root and asyd's own user are heard. What can be asked is in `asys.node.admin.verbs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any, Final

from asys.node.admin.verbs import Controls, NoSuchOrder, Verbs, line
from asys.node.disk.files import NO_ROOM, locked, make_directory
from asys.node.disk.places import socket_address
from asys.node.listen import ListenError, clear_stale, peer_credentials
from asys.node.logs import Throttled

MAX_REQUEST: Final = 64 << 10
"""Bytes of a request with the newline at its end."""

REQUEST_SECONDS: Final = 10.0
"""How long a request may take to arrive, and an answer to be read."""

MAX_CONNECTIONS: Final = 16
"""Requests under way at a time."""

RETRY_SECONDS: Final = 1.0
"""After which it is tried again to accept a connection, when that failed."""

_log = logging.getLogger("asyd.admin")


class AdminServer:
    """Answers admins until it is closed. Made by `serve_admin`."""

    def __init__(
        self, controls: Controls, listener: socket.socket, path: Path, seconds: float
    ) -> None:
        self._verbs = Verbs(controls)
        self._listener = listener
        self._path = path
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._own_uid = os.geteuid()
        self._identity = _identity(path)
        self._tasks: set[asyncio.Task[None]] = set()
        self._noticed = Throttled(_log)
        self._retry: asyncio.TimerHandle | None = None
        self._spare: int | None = None
        self._take_spare()
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Stops listening, removes the socket and ends what is under way."""
        if self._listener.fileno() < 0:
            return
        if self._identity is not None and _identity(self._path) == self._identity:
            with contextlib.suppress(OSError):
                self._path.unlink()  # while it is still ours; later it may be a successor's
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        self._give_spare()

    # -- connections

    def _accept(self) -> None:
        self._retry = None
        try:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare is None:
                    raise
                self._give_spare()
                connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._noticed.log("no request can be accepted:", str(error), time.monotonic())
            self._loop.remove_reader(self._listener)
            self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)
            return
        connection.setblocking(False)
        uid, pid = _credentials(connection, self._own_uid)
        if uid not in (0, self._own_uid):
            self._noticed.log("turned away:", f"uid {uid}, process {pid}", time.monotonic())
            self._hang_up(connection)
        elif len(self._tasks) >= MAX_CONNECTIONS:
            with contextlib.suppress(OSError):
                connection.send(line({"error": "asyd is busy with other requests; try again"}))
            self._hang_up(connection)
        else:
            task = self._loop.create_task(self._serve(connection, f"uid {uid}, process {pid}"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        self._accept()

    def _hang_up(self, connection: socket.socket) -> None:
        connection.close()
        self._take_spare()

    def _take_spare(self) -> None:
        if self._spare is None and self._listener.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._spare = os.dup(self._listener.fileno())

    def _give_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        try:
            try:
                request = await self._request(connection)
                answer = await self._verbs.answer(request, peer)
            except NoSuchOrder as refusal:
                answer = line({"error": str(refusal)})
            async with asyncio.timeout(self._seconds):
                await self._loop.sock_sendall(connection, answer)
        except OSError as error:
            # The peer has gone or does not read; what it asked for has been done.
            _log.debug("no answer for %s: %s", peer, error)
        finally:
            self._hang_up(connection)

    # -- requests

    async def _request(self, connection: socket.socket) -> dict[str, Any]:
        """The object that a peer sends. NoSuchOrder: what is wrong with it. OSError: it is gone."""
        data = b""
        try:
            async with asyncio.timeout(self._seconds):
                while b"\n" not in data and len(data) < MAX_REQUEST:
                    more = await self._loop.sock_recv(connection, MAX_REQUEST - len(data))
                    if not more:
                        raise NoSuchOrder("the request has no newline at its end")
                    data += more
        except TimeoutError:
            raise NoSuchOrder(f"no whole request came within {self._seconds:g} s") from None
        first, newline, rest = data.partition(b"\n")
        if not newline:
            raise NoSuchOrder(f"a request has at most {MAX_REQUEST} bytes")
        if rest:
            raise NoSuchOrder("one request is one line, and there is more behind it")
        try:
            request = json.loads(first)
        except (ValueError, RecursionError):
            raise NoSuchOrder("the request is not JSON") from None
        if not isinstance(request, dict):
            raise NoSuchOrder("the request is no JSON object")
        return request


class NoRoomError(ListenError):
    """There is no room for the socket now."""


class AdminDoor:
    """The way in for admins: open from the start, or as soon as there is room for its socket.

    A socket is a file; a disk that takes none must not keep asyd from starting.
    """

    def __init__(self, controls: Controls, path: Path) -> None:
        self._controls = controls
        self._path = path
        self._server: AdminServer | None = None

    def open(self) -> None:
        """Opens it if it is not. No room is logged, and it may be tried again; else ListenError."""
        if self._server is not None:
            return
        try:
            self._server = serve_admin(self._controls, self._path)
        except NoRoomError as error:
            _log.error("%s; until then no order of an admin is heard but signals", error)

    def close(self) -> None:
        """As AdminServer.close."""
        if self._server is not None:
            self._server.close()


def serve_admin(controls: Controls, path: Path, *, seconds: float = REQUEST_SECONDS) -> AdminServer:
    """Answers admins on a Unix socket at `path`, from the running event loop.

    The directory is made if it is not there. ListenError when the socket is not to be had: another
    asyd has it, or others than its owner may enter the directory. NoRoomError: there is no room.
    """
    try:
        make_directory(path.parent)
        _require_closed(path)
        # Of two that start at once, one must not take the socket of the other for a stale one.
        with locked(path.parent), socket_address(path) as address:
            clear_stale(Path(address), path)
            listener = _bound(address)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in NO_ROOM:
            raise NoRoomError(
                f"cannot listen on unix:{path}: {reason}; make room, and send SIGHUP"
            ) from error
        raise ListenError(
            f"cannot listen on unix:{path}: {reason}; name another path with --admin-socket"
        ) from error
    return AdminServer(controls, listener, path, seconds)


def _require_closed(path: Path) -> None:
    info = path.parent.stat()
    if info.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(info.st_mode) & 0o077:
        raise ListenError(
            f"cannot listen on unix:{path}: others may enter its directory (uid {info.st_uid}, "
            f"permissions {stat.S_IMODE(info.st_mode):04o}); it needs one of its own, with the "
            "permissions 0700: see --admin-socket"
        )


def _bound(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        with contextlib.suppress(OSError):
            os.fchmod(listener.fileno(), 0o600)  # on Linux the file has it from the beginning
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen(MAX_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of the same name; None when there is none."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _credentials(connection: socket.socket, own_uid: int) -> tuple[int, int]:
    """uid and PID of a peer. Where the system does not tell, the directory has let it in: ours."""
    return peer_credentials(connection) or (own_uid, 0)
