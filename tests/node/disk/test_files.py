"""Atomic writes with a failure at each step, locks, and what counts as private."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asys.node.disk.files import (
    ConfigError,
    is_there,
    locked,
    quoted,
    read_private,
    require_private,
    write_atomically,
)
from support.disk import DiskFull, FullDisk, fail
from support.users import give_away, plain_user, run_remedy


class Power(BaseException):
    """What no `except Exception` sees."""


def cut_power(*_arguments: Any) -> Any:
    raise Power


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_a_write_replaces_the_file_whole(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    for data in (b"first", b"", b"x" * 100_000):
        write_atomically(path, data, mode)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("module", "step", "replacement"),
    [
        (tempfile, "mkstemp", fail),
        (os, "fchmod", fail),
        (os, "fdopen", lambda handle, mode: FullDisk(handle, mode)),
        (os, "fsync", fail),
        (os, "replace", fail),
    ],
    ids=["mkstemp", "fchmod", "write", "fsync", "replace"],
)
@pytest.mark.parametrize("before", [b"old", None])
def test_a_write_that_fails_leaves_what_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    step: str,
    replacement: Callable[..., Any],
    before: bytes | None,
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(module, step, replacement)
    with pytest.raises(DiskFull):
        write_atomically(path, b"new data", 0o600)
    monkeypatch.undo()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == (
        [("file", before)] if before is not None else []
    )


def test_not_even_an_interrupt_leaves_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", cut_power)
    with pytest.raises(Power):
        write_atomically(tmp_path / "file", b"data", 0o600)
    assert os.listdir(tmp_path) == []


def test_the_new_file_is_whole_even_if_the_directory_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told, as after a loss of power the old file may be back."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    synced: list[int] = []

    def fsync(handle: int) -> None:
        if synced:
            raise DiskFull
        synced.append(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    handles = os.listdir("/proc/self/fd")
    with pytest.raises(DiskFull):
        write_atomically(path, b"new", 0o600)
    assert len(os.listdir("/proc/self/fd")) == len(handles)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_only_one_at_a_time_holds_a_directory(tmp_path: Path) -> None:
    waits = threading.Event()
    order: list[str] = []

    def second() -> None:
        waits.set()
        with locked(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path):
        thread.start()
        assert waits.wait(30)
        with pytest.raises(BlockingIOError):
            _try_lock(tmp_path)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    _try_lock(tmp_path)


def _try_lock(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def test_a_lock_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), locked(tmp_path):
        raise DiskFull
    _try_lock(tmp_path)
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing"):
        pass


def test_is_there(tmp_path: Path) -> None:
    assert not is_there(tmp_path / "file")
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "nowhere", "loop"):
        assert is_there(tmp_path / name)
    with pytest.raises(ConfigError, match="file/below: Not a directory"):
        is_there(tmp_path / "file" / "below")


def test_what_nobody_may_look_into() -> None:
    with plain_user() as directory:
        (directory / "file").write_bytes(b"data")
        (directory / "file").chmod(0)
        with pytest.raises(ConfigError, match="file: Permission denied"):
            read_private(directory / "file", forbidden=0o077, mend="600", limit=10)
        directory.chmod(0)
        with pytest.raises(ConfigError, match="file: Permission denied"):
            is_there(directory / "file")
        with pytest.raises(ConfigError, match="file: Permission denied"):
            require_private(directory / "file", forbidden=0o077, mend="600")


@pytest.mark.parametrize(
    ("mode", "forbidden", "good"),
    [
        (0o600, 0o077, True),
        (0o400, 0o077, True),
        (0o000, 0o077, True),
        (0o644, 0o022, True),
        (0o640, 0o077, False),
        (0o604, 0o077, False),
        (0o601, 0o077, False),
        (0o620, 0o022, False),
        (0o602, 0o022, False),
    ],
)
def test_permissions_and_the_command_that_mends_them(
    tmp_path: Path, mode: int, forbidden: int, good: bool
) -> None:
    path = tmp_path / "a file's name"
    path.touch()
    path.chmod(mode)
    if not good:
        with pytest.raises(ConfigError, match=f"has the permissions {mode:04o}") as caught:
            require_private(path, forbidden=forbidden, mend="600")
        run_remedy(str(caught.value))
        mode = 0o600
    info = require_private(path, forbidden=forbidden, mend="600")
    assert stat.S_IMODE(info.st_mode) == mode


def test_another_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    owner, me = give_away(path)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(ConfigError) as caught:
        require_private(path, forbidden=0o077, mend="600")
    assert f"belongs to another user (uid {owner}); run: chown {me} {path}" in str(caught.value)


def test_roots_files_are_trusted() -> None:
    """Root may do anything anyway; a config file of root's is safe with any user."""
    root_file = next(path for path in (Path("/etc/passwd"), Path("/etc/hosts")) if path.exists())
    with plain_user():
        info = require_private(root_file, forbidden=0o022, mend="600")
    assert info.st_uid == 0


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "file").chmod(0o644)
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(ConfigError, match="permissions 0644"):
        read_private(tmp_path / "link", forbidden=0o077, mend="600", limit=10)
    (tmp_path / "file").chmod(0o600)
    assert read_private(tmp_path / "link", forbidden=0o077, mend="600", limit=10) == b"data"
    (tmp_path / "nowhere").symlink_to("missing")
    with pytest.raises(ConfigError, match="nowhere: No such file"):
        read_private(tmp_path / "nowhere", forbidden=0o077, mend="600", limit=10)


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    path.chmod(0o600)
    assert read_private(path, forbidden=0o077, mend="600", limit=9) == bytes(10)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    for name in ("pipe", "directory"):
        with pytest.raises(ConfigError, match=f"{name} is no regular file"):
            read_private(tmp_path / name, forbidden=0o077, mend="600", limit=9)


def test_commands_in_messages_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "it's $HOME; rm -rf"
    shown = subprocess.run(
        ["sh", "-c", f"printf %s {quoted(path)}"], capture_output=True, text=True
    )
    assert shown.stdout == str(path)
