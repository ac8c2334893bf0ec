"""The admin's socket: who is heard, whose it is, and that it works when little else does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop

from asys.node import listen
from asys.node.admin import server as admin
from asys.node.admin.server import AdminDoor, serve_admin
from asys.node.listen import ListenError
from asys.node.logs import Throttled
from support.admin_rig import (
    PATIENCE,
    MadeControls,
    ask,
    exchange,
    fill_with_files,
    serving,
    session,
    small_disk,
)
from support.users import NOBODY, plain_user

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in each kind of event loop that asyd may have."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asyd" / "admin.sock"


# -- who may ask, and how many


def test_sixteen_at_a_time(run: Run, path: Path) -> None:
    async def use() -> None:
        controls = MadeControls(hold=asyncio.Event(), entered=asyncio.Event())
        with serving(controls, path):
            loop = asyncio.get_running_loop()
            waiting = []
            for _ in range(15):
                peer = socket.socket(socket.AF_UNIX)
                peer.setblocking(False)
                peer.connect(str(path))
                waiting.append(peer)
            sixteenth = asyncio.create_task(ask(path, verb="dark"))
            assert controls.entered is not None
            assert controls.hold is not None
            await controls.entered.wait()
            busy = {"error": "asyd is busy with other requests; try again"}
            assert json.loads(await exchange(path, b"")) == busy
            assert json.loads(await exchange(path, b"")) == busy
            controls.hold.set()
            assert await sixteenth == {"dark": True}
            assert (await ask(path, verb="sessions"))["dark"]
            for peer in waiting:
                await loop.sock_sendall(peer, b'{"verb": "light"}\n')
                assert json.loads(await loop.sock_recv(peer, 1000)) == {"dark": False}
                peer.close()

    run(use())


@contextmanager
def open_door(path: Path) -> Iterator[Path]:
    """A directory that everybody may enter; what is checked at the start must not be all."""
    directory = Path(tempfile.mkdtemp(prefix="asys-admin-"))
    try:
        yield directory / path.name
    finally:
        shutil.rmtree(directory)


@contextmanager
def user(uid: int) -> Iterator[None]:
    """Effective uid, which is what the kernel tells a peer."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


async def spoken_to(path: Path, uid: int) -> bytes:
    """What somebody of that user is answered."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.setblocking(False)
        with user(uid):
            peer.connect(str(path))
        try:
            await loop.sock_sendall(peer, b'{"verb": "dark"}\n')
            return await loop.sock_recv(peer, 1000)
        except (BrokenPipeError, ConnectionResetError):
            return b""


@pytest.mark.root
def test_others_get_nothing(run: Run, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    controls = MadeControls()

    async def use() -> None:
        with open_door(path) as open_path, serving(controls, open_path):
            open_path.parent.chmod(0o755)
            open_path.chmod(0o666)
            for _ in range(20):
                assert await spoken_to(open_path, NOBODY) == b""
            assert not controls.dark
            assert json.loads(await spoken_to(open_path, 0)) == {"dark": True}

    run(use())
    assert f"turned away: uid {NOBODY}, process {os.getpid()}" in caplog.text
    assert caplog.text.count("turned away:") < 20  # whoever knocks fast fills no log


@pytest.mark.root
def test_of_an_asyd_without_privileges(run: Run) -> None:
    """Its own user may ask, root may ask, and a third one may not."""
    controls = MadeControls()
    with plain_user() as home:

        async def use() -> None:
            server = serve_admin(controls, home / "admin.sock")
            try:
                os.seteuid(0)
                home.chmod(0o755)
                (home / "admin.sock").chmod(0o666)
                for uid, heard in ((NOBODY, True), (0, True), (12_345, False)):
                    assert bool(await spoken_to(home / "admin.sock", uid)) is heard
            finally:
                os.seteuid(NOBODY)
                server.close()

        run(use())


def test_where_the_system_does_not_tell_who_asks(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is the directory that keeps others out."""
    monkeypatch.setattr(listen, "_PEERCRED", None)
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path):
            assert await ask(path, verb="dark") == {"dark": True}

    run(use())


# -- the socket


def test_socket_and_directory_are_for_their_owner(run: Run, path: Path) -> None:
    async def use() -> None:
        before = os.umask(0)
        try:
            server = serve_admin(MadeControls(), path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
        server.close()
        assert os.listdir(path.parent) == []
        server.close()

    run(use())


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o755, 0o777])
def test_a_directory_that_others_may_enter(run: Run, path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)

    async def use() -> None:
        with pytest.raises(ListenError) as caught:
            serve_admin(MadeControls(), path)
        assert f"others may enter its directory (uid {os.geteuid()}, permissions 0{mode:o})" in str(
            caught.value
        )
        assert "see --admin-socket" in str(caught.value)
        assert os.listdir(path.parent) == []

    run(use())


def test_the_socket_of_an_asyd_that_is_gone(run: Run, path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    async def use() -> None:
        with serving(MadeControls(), path):
            assert await ask(path, verb="sessions") == {"dark": False, "sessions": []}

    run(use())


def test_the_socket_of_an_asyd_that_runs(run: Run, path: Path) -> None:
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path):
            with pytest.raises(ListenError) as caught:
                serve_admin(MadeControls(), path)
            assert str(caught.value) == (
                f"cannot listen on unix:{path}: another process listens there"
            )
            assert await ask(path, verb="dark") == {"dark": True}
            assert controls.dark

    run(use())


def test_a_file_in_its_place_is_left_alone(run: Run, path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")

    async def use() -> None:
        with pytest.raises(ListenError, match="there is a file that is no socket"):
            serve_admin(MadeControls(), path)

    run(use())
    assert path.read_text() == "precious"


def test_a_successors_socket_is_left_alone(run: Run, path: Path) -> None:
    async def use() -> None:
        first = serve_admin(MadeControls(), path)
        os.rename(
            path, path.parent / "old"
        )  # kept, so that the number of its file is not used again
        with serving(MadeControls(dark=True), path):
            first.close()
            assert (await ask(path, verb="sessions"))["dark"]
        assert os.listdir(path.parent) == ["old"]

    run(use())


def test_far_down_in_a_tree(run: Run, tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / "asyd" / "admin.sock"

    async def use() -> None:
        with serving(MadeControls(), path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(ListenError) as caught:
                serve_admin(MadeControls(), path)
            assert str(caught.value) == (
                f"cannot listen on unix:{path}: another process listens there"
            )
        assert os.listdir(path.parent) == []

    run(use())


@pytest.mark.parametrize("name", ["x" * 150, "x" * 300])
def test_a_name_that_cannot_be(run: Run, path: Path, name: str) -> None:
    async def use() -> None:
        with pytest.raises(ListenError, match=r"on unix:.*: \S.*--admin-socket"):
            serve_admin(MadeControls(), path.parent / name)

    run(use())


def test_a_directory_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def use() -> None:
        for path in (tmp_path / "file" / "admin.sock", tmp_path / "file" / "x" / "admin.sock"):
            with pytest.raises(ListenError, match="name another path with --admin-socket"):
                serve_admin(MadeControls(), path)

    run(use())


@pytest.mark.root
def test_no_room_for_the_socket(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def use(path: Path, fillers: list[Path]) -> None:
        door = AdminDoor(MadeControls(), path)
        door.open()
        assert f"cannot listen on unix:{path}: No space left on device" in caplog.text
        assert "make room, and send SIGHUP" in caplog.text
        door.close()
        for filler in fillers:
            filler.unlink()
        for _ in range(2):
            door.open()
            assert await ask(path, verb="dark") == {"dark": True}
        door.close()

    with small_disk(tmp_path / "disk", files=4) as disk:
        path = disk / "asyd" / "admin.sock"
        run(use(path, fill_with_files(disk)))
        assert not path.exists()


def test_a_door_that_another_holds_is_no_lack_of_room(run: Run, path: Path) -> None:
    async def use() -> None:
        with serving(MadeControls(), path):
            door = AdminDoor(MadeControls(), path)
            with pytest.raises(ListenError, match="another process listens there"):
                door.open()
            door.close()
            assert await ask(path, verb="dark") == {"dark": True}

    run(use())


def test_closing_ends_what_is_under_way(run: Run, path: Path) -> None:
    async def use() -> None:
        controls = MadeControls(hold=asyncio.Event(), entered=asyncio.Event())
        before = set(os.listdir("/proc/self/fd"))
        server = serve_admin(controls, path)
        asking = asyncio.create_task(exchange(path, b'{"verb": "dark"}\n'))
        assert controls.entered is not None
        await controls.entered.wait()
        server.close()
        assert await asking == b""
        assert os.listdir(path.parent) == []
        await asyncio.gather(*server._tasks, return_exceptions=True)
        left = set(os.listdir("/proc/self/fd")) - before
        assert not [fd for fd in left if _is_socket(fd)]

    run(use())


def _is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except FileNotFoundError:
        return False


# -- when there is little left


@contextmanager
def no_descriptors() -> Iterator[None]:
    """While the block lasts, this process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_descriptor_left(run: Run, path: Path) -> None:
    """Agents can no longer connect; the red button still works, and not only once."""
    controls = MadeControls([session()])

    async def use() -> None:
        loop = asyncio.get_running_loop()
        with serving(controls, path):
            assert await ask(path, verb="sessions")  # whatever is opened at the first use is now
            peers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for peer in peers:
                peer.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                with no_descriptors():
                    with pytest.raises(OSError, match="Too many open files"):
                        os.dup(0)
                    for peer, verb in zip(peers, ("dark", "light", "dark"), strict=True):
                        peer.connect(str(path))
                        await loop.sock_sendall(peer, b'{"verb": "%b"}\n' % verb.encode())
                        answer = json.loads(await loop.sock_recv(peer, 1000))
                        assert answer == {"dark": verb == "dark"}
                        while await loop.sock_recv(peer, 1000):
                            pass  # until it has closed, and has its descriptor back
            for peer in peers:
                peer.close()

    run(use())


class Signal(Throttled):
    """Says when something has been logged."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger)
        self.event = asyncio.Event()

    def log(self, kind: str, detail: str, now: float) -> None:
        """As Throttled.log."""
        super().log(kind, detail, now)
        self.event.set()


def test_without_even_the_spare_one(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and tried again, without a loop that takes all the CPU."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(admin, "RETRY_SECONDS", 0.01)
    controls = MadeControls([session()])

    async def use() -> None:
        loop = asyncio.get_running_loop()
        with serving(controls, path) as server, socket.socket(socket.AF_UNIX) as peer:
            assert await ask(path, verb="sessions")
            peer.setblocking(False)
            server._noticed = noticed = Signal(logging.getLogger("asyd.admin"))
            with no_descriptors():
                spare, server._spare = server._spare, None
                peer.connect(str(path))
                await asyncio.wait_for(noticed.event.wait(), PATIENCE)
            server._spare = spare
            await loop.sock_sendall(peer, b'{"verb": "dark"}\n')
            assert json.loads(await loop.sock_recv(peer, 1000)) == {"dark": True}

    run(use())
    assert "no request can be accepted: [Errno 24] Too many open files" in caplog.text
