"""The admin's way into a running asyd: one line of JSON in, one out, on a Unix socket of its own.

It needs no disk, no agent and no session, and keeps a file descriptor for when there are none left.
Only root and asyd's own user are heard.

{"verb": "sessions"}              -> {"dark": false, "sessions": [{"key": ..., ...}, ...]}
{"verb": "close", "who": "KEY"}   -> {"key": "...", "closed": 2}         a key or a label
{"verb": "dark"}, also "light"    -> {"dark": true}
{"verb": "reload"}                -> {"agents": 3, "faults": [[7, "..."], ...], "fault_count": 1}
anything that fails               -> {"error": "..."}
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from asys.node.disk.files import ConfigError, locked
from asys.node.disk.places import socket_address
from asys.node.listen import ListenError, clear_stale, peer_credentials
from asys.node.logs import Throttled, clean

MAX_REQUEST: Final = 64 << 10
"""Bytes of a request with the newline at its end."""

REQUEST_SECONDS: Final = 10.0
"""How long a request may take to arrive, and an answer to be read."""

MAX_CONNECTIONS: Final = 16
"""Requests under way at a time."""

RETRY_SECONDS: Final = 1.0
"""After which it is tried again to accept a connection, when that failed."""

REPORTED_FAULTS: Final = 1000
"""Bad lines that an answer names; more are counted."""

SLICE: Final = 256
"""Sessions that are put in words before agents get their turn again."""

_log = logging.getLogger("asyd.admin")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session, as an admin sees it."""

    key: bytes
    label: str
    peer: str
    id: int
    """0 while it is unconfirmed."""
    opened: int
    """Unix time in seconds."""
    idle_seconds: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a new reading of `authorized_agents` has brought: agents that hold, and bad lines."""

    agents: int
    faults: tuple[tuple[int, str], ...]


class Controls(Protocol):
    """What an admin can do to a node."""

    def sessions(self) -> list[SessionInfo]:
        """Every session, unconfirmed ones too."""

    def close_key(self, key: bytes) -> int:
        """Closes every session of a key; how many there were."""

    async def set_dark(self, dark: bool) -> None:
        """Every agent falls to `core`, or has what it had again.

        OSError or TimeoutError when that holds, but is not on the disk.
        """

    def is_dark(self) -> bool:
        """Whether every agent is down to `core`."""

    def reload(self) -> ReloadReport:
        """Reads `authorized_agents` again. ConfigError when that fails: nothing has changed."""


class _Refused(Exception):
    """What was asked for cannot be done; the text is the answer."""


class AdminServer:
    """Answers admins until it is closed. Made by `serve_admin`."""

    def __init__(
        self, controls: Controls, listener: socket.socket, path: Path, seconds: float
    ) -> None:
        self._controls = controls
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
                connection.send(_line({"error": "asyd is busy with other requests; try again"}))
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
                answer = await self._answer(request, peer)
            except _Refused as refusal:
                answer = _line({"error": str(refusal)})
            async with asyncio.timeout(self._seconds):
                await self._loop.sock_sendall(connection, answer)
        except OSError as error:
            # The peer has gone or does not read; what it asked for has been done.
            _log.debug("no answer for %s: %s", peer, error)
        finally:
            self._hang_up(connection)

    # -- requests

    async def _request(self, connection: socket.socket) -> dict[str, Any]:
        """The object that a peer sends. _Refused: what is wrong with it. OSError: it is gone."""
        data = b""
        try:
            async with asyncio.timeout(self._seconds):
                while b"\n" not in data and len(data) < MAX_REQUEST:
                    more = await self._loop.sock_recv(connection, MAX_REQUEST - len(data))
                    if not more:
                        raise _Refused("the request has no newline at its end")
                    data += more
        except TimeoutError:
            raise _Refused(f"no whole request came within {self._seconds:g} s") from None
        line, newline, rest = data.partition(b"\n")
        if not newline:
            raise _Refused(f"a request has at most {MAX_REQUEST} bytes")
        if rest:
            raise _Refused("one request is one line, and there is more behind it")
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            raise _Refused("the request is not JSON") from None
        if not isinstance(request, dict):
            raise _Refused("the request is no JSON object")
        return request

    async def _answer(self, request: dict[str, Any], peer: str) -> bytes:
        """Does what a request says. _Refused says why not."""
        verb = request.pop("verb", None)
        wanted = {"who"} if verb == "close" else set()
        if not isinstance(verb, str) or verb not in (
            "sessions",
            "close",
            "dark",
            "light",
            "reload",
        ):
            raise _Refused("the verb is sessions, close, dark, light or reload")
        if set(request) != wanted:
            raise _Refused(f"{verb} takes {' and '.join(sorted(wanted)) or 'nothing else'}")
        if verb != "sessions":
            _log.warning(
                "%s: %s", peer, " ".join([verb, *(clean(str(v)) for v in request.values())])
            )
        try:
            if verb == "sessions":
                return await self._sessions()
            if verb == "close":
                return _line(self._close_who(request["who"]))
            if verb == "reload":
                return _line(self._reload())
            return _line(await self._set_dark(verb == "dark"))
        except _Refused:
            raise
        except ConfigError as error:
            raise _Refused(f"nothing has changed: {error}") from error
        except Exception as error:
            _log.exception("%s failed", verb)
            raise _Refused(f"{verb} failed in asyd; its log says more") from error

    async def _sessions(self) -> bytes:
        sessions = sorted(self._controls.sessions(), key=_opened)
        words: list[str] = []
        for start in range(0, len(sessions), SLICE):
            words.extend(json.dumps(_described(one)) for one in sessions[start : start + SLICE])
            await asyncio.sleep(0)
        dark = json.dumps(self._controls.is_dark())
        return f'{{"dark": {dark}, "sessions": [{", ".join(words)}]}}\n'.encode()

    def _close_who(self, who: object) -> dict[str, Any]:
        if not isinstance(who, str) or not who:
            raise _Refused("who is a key, 64 hex digits, or a label")
        keys = {
            one.key
            for one in self._controls.sessions()
            if one.key.hex() == who.lower() or one.label == who
        }
        if not keys:
            raise _Refused(f"no open session has the key or label {who!r}; see: asyd sessions list")
        if len(keys) > 1:
            raise _Refused(
                f"more than one agent has the label {who!r}; name one of the keys "
                f"{' '.join(sorted(key.hex() for key in keys))}"
            )
        key = keys.pop()
        return {"key": key.hex(), "closed": self._controls.close_key(key)}

    def _reload(self) -> dict[str, Any]:
        report = self._controls.reload()
        return {
            "agents": report.agents,
            "faults": report.faults[:REPORTED_FAULTS],
            "fault_count": len(report.faults),
        }

    async def _set_dark(self, dark: bool) -> dict[str, Any]:
        try:
            await self._controls.set_dark(dark)
        except OSError as error:  # TimeoutError is one
            verb = "dark" if dark else "light"
            raise _Refused(
                f"the node is {verb} now, but its disk does not have that: "
                f"{error.strerror or error}; it will not outlast a restart of asyd. Mend the disk, "
                f"then run asyd {verb} again"
            ) from error
        return {"dark": self._controls.is_dark()}


def serve_admin(controls: Controls, path: Path, *, seconds: float = REQUEST_SECONDS) -> AdminServer:
    """Answers admins on a Unix socket at `path`, from the running event loop.

    The directory is made if it is not there. ListenError when the socket is not to be had: another
    asyd has it, or others than its owner may enter the directory.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_closed(path)
        # Of two that start at once, one must not take the socket of the other for a stale one.
        with locked(path.parent), socket_address(path) as address:
            clear_stale(Path(address), path)
            listener = _bound(address)
    except OSError as error:
        reason = error.strerror or str(error)
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


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _opened(session: SessionInfo) -> int:
    return session.opened


def _described(session: SessionInfo) -> dict[str, Any]:
    return {
        "key": session.key.hex(),
        "label": session.label,
        "peer": session.peer,
        "id": session.id,
        "opened": session.opened,
        "idle_seconds": round(session.idle_seconds, 3),
        "confirmed": session.confirmed,
    }
