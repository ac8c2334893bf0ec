"""A node that can be asked over a real admin socket, and whose sessions a test decides on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asys.node.admin.blackout import Blackout
from asys.node.admin.held import Held
from asys.node.admin.keys import KeysInfo
from asys.node.admin.server import REQUEST_SECONDS, AdminServer, serve_admin
from asys.node.admin.verbs import Controls, ReloadReport, SessionInfo
from asys.node.disk.files import ConfigError
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import KeyStatement

KEY: Final = PrivateKey(bytes(range(1, 33))).public
OTHER: Final = PrivateKey(bytes(range(2, 34))).public

PATIENCE: Final = 60.0

METRICS: Final = '# TYPE made gauge\n# HELP made Made \\"up\\".\nmade 1\n# EOF\n'
"""What such a node says of itself."""


def session(
    key: bytes = KEY,
    label: str = "watcher",
    *,
    peer: str = "192.0.2.1:5000",
    number: int = 7,
    opened: int = 1_700_000_000,
    idle: float = 1.5,
    confirmed: bool = True,
) -> SessionInfo:
    """One session."""
    return SessionInfo(key, label, peer, number if confirmed else 0, opened, idle, confirmed)


@dataclass
class MadeControls:
    """What an admin can do to a node of which there is nothing else. `trouble` is raised."""

    open: list[SessionInfo] = field(default_factory=list)
    report: ReloadReport = field(default=ReloadReport(2, ()))
    blackout: Blackout | None = None
    trouble: Exception | None = None
    things: dict[str, Held] = field(default_factory=dict)
    closed: list[bytes] = field(default_factory=list)
    reloads: int = 0
    dark: bool = False
    stated: KeyStatement | None = None
    hold: asyncio.Event | None = None
    entered: asyncio.Event | None = None

    def sessions(self) -> list[SessionInfo]:
        """As Controls.sessions."""
        self._stumble()
        return list(self.open)

    def close_key(self, key: bytes) -> int:
        """As Controls.close_key."""
        self._stumble()
        self.closed.append(key)
        count = sum(one.key == key for one in self.open)
        self.open = [one for one in self.open if one.key != key]
        return count

    async def set_dark(self, dark: bool) -> None:
        """As Controls.set_dark; waits for `hold`, if there is one."""
        self.dark = dark
        if self.entered is not None:
            self.entered.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.blackout is not None:
            await self.blackout.set(dark)
        self._stumble()

    def is_dark(self) -> bool:
        """As Controls.is_dark."""
        return self.dark

    def reload(self) -> ReloadReport:
        """As Controls.reload."""
        self._stumble()
        self.reloads += 1
        return self.report

    def metrics(self) -> str:
        """As Controls.metrics."""
        self._stumble()
        return METRICS

    def keys(self) -> KeysInfo:
        """As Controls.keys."""
        self._stumble()
        return KeysInfo(KEY, self.stated, ())

    async def rotate(self, overlap: int) -> KeyStatement:
        """As Controls.rotate."""
        self._stumble()
        self.stated = KeyStatement(KEY, OTHER, 1, 1 + overlap, bytes(64))
        return self.stated

    async def finish(self) -> KeyStatement:
        """As Controls.finish."""
        self._stumble()
        stated, self.stated = self.stated, None
        if stated is None:
            raise ConfigError("there is no next key")
        return stated

    async def held(self, what: str) -> Held | None:
        """As Controls.held."""
        self._stumble()
        return self.things.get(what)

    def _stumble(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@contextmanager
def serving(
    controls: Controls, path: Path, *, seconds: float = REQUEST_SECONDS
) -> Iterator[AdminServer]:
    """The admin socket in the event loop that runs, until the end of the block."""
    server = serve_admin(controls, path, seconds=seconds)
    try:
        yield server
    finally:
        server.close()


async def exchange(path: Path, data: bytes, *, end: bool = False) -> bytes:
    """Sends bytes, and their end if told; what comes until the other side closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        answer = b""
        try:
            while more := await reader.read(1 << 16):
                answer += more
        except ConnectionResetError:
            pass  # not all that was sent was read
        return answer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(path: Path, **request: Any) -> Any:
    """The answer to a request."""
    answer = await exchange(path, json.dumps(request).encode() + b"\n")
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1
    return json.loads(answer)


@contextmanager
def answering(
    controls: MadeControls, path: Path, *, seconds: float = REQUEST_SECONDS
) -> Iterator[None]:
    """The admin socket in an event loop of its own, beside the test."""
    up = threading.Event()
    failure: list[BaseException] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        end = asyncio.Event()
        ends.append((asyncio.get_running_loop(), end))
        server = serve_admin(controls, path, seconds=seconds)
        up.set()
        await end.wait()
        server.close()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=work, name="admin")
    thread.start()
    up.wait(PATIENCE)
    try:
        if not failure:
            yield
    finally:
        if thread.is_alive():
            loop, end = ends[0]
            loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)
    if failure:
        raise failure[0]


@contextmanager
def small_disk(directory: Path, files: int = 1000) -> Iterator[Path]:
    """A file system of 1 MB at `directory`, with room for so many files; root only."""
    directory.mkdir()
    options = f"size=1m,mode=0700,nr_inodes={files}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill_with_files(directory: Path) -> list[Path]:
    """Leaves no room for one more file on the file system of `directory`; those that fill it."""
    made: list[Path] = []
    while True:
        path = directory / f"filler-{len(made)}"
        try:
            path.touch()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return made
        made.append(path)


def fill(directory: Path) -> None:
    """Leaves no room on the file system of `directory`."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if os.strerror(error.errno or 0) != "No space left on device":
                    raise
