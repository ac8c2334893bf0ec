"""The dark flag: what it says after whatever may have become of its file."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from asys.node.admin import blackout as module
from asys.node.admin.blackout import Blackout
from asys.node.disk.files import ConfigError
from support.admin_rig import fill, fill_with_files, small_disk
from support.users import plain_user, run_remedy


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_a_new_node_is_light(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Blackout(state).load() is False
    assert not state.exists()
    assert caplog.records == []


def test_the_file_is_made_once(state: Path) -> None:
    blackout = Blackout(state)
    blackout.prepare()
    assert blackout.path == state / "dark"
    assert blackout.path.read_bytes() == b"0"
    assert blackout.path.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert os.listdir(state) == ["dark"]
    blackout.path.write_bytes(b"1")
    Blackout(state).prepare()
    assert blackout.path.read_bytes() == b"1"


async def test_dark_and_light_again(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    blackout = Blackout(state)
    blackout.prepare()
    assert blackout.load() is False
    assert caplog.records == []
    before = blackout.path.stat()
    await blackout.set(True)
    assert Blackout(state).load() is True
    assert "dark: every agent is down to core; to lift it, run: asyd light" in caplog.text
    await blackout.set(True)
    assert Blackout(state).load() is True
    await blackout.set(False)
    assert Blackout(state).load() is False
    after = blackout.path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, 1)  # always in place


async def test_the_last_of_many_holds(state: Path) -> None:
    blackout = Blackout(state)
    blackout.prepare()
    await asyncio.gather(*(blackout.set(bool(number % 2)) for number in range(6)))
    assert blackout.path.read_bytes() == b"1"


@pytest.mark.parametrize("data", [b"", b"2", b"\0", b"1\n", b"0\n", b"00", b"light", b"1" * 5000])
async def test_a_damaged_file_means_dark(
    state: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    blackout = Blackout(state)
    blackout.prepare()
    blackout.path.write_bytes(data)
    blackout.prepare()
    assert blackout.path.read_bytes() == data  # evidence; nothing but an order replaces it
    assert blackout.load() is True
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "every agent is down to core, as it cannot be told whether the node is to be dark: "
        f"{blackout.path} is damaged: it is one byte, 0 or 1; to lift it, run: asyd light"
    )
    await blackout.set(False)
    assert blackout.path.read_bytes() == b"0"
    assert blackout.path.stat().st_mode & 0o777 == 0o600
    assert blackout.load() is False


@pytest.mark.parametrize("what", ["directory", "pipe", "loose", "link to nothing", "loop"])
def test_what_cannot_be_read_means_dark(
    state: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    blackout = Blackout(state)
    state.mkdir(mode=0o700)
    if what == "directory":
        blackout.path.mkdir()
    elif what == "pipe":
        os.mkfifo(blackout.path, 0o600)
    elif what == "loose":
        blackout.path.write_bytes(b"0")
        blackout.path.chmod(0o620)
    else:
        blackout.path.symlink_to("nothing" if what == "link to nothing" else "dark")
    assert blackout.load() is True
    assert "every agent is down to core, as it cannot be told" in caplog.text
    assert str(blackout.path) in caplog.text


def test_what_is_not_permitted_means_dark(caplog: pytest.LogCaptureFixture) -> None:
    with plain_user() as home:
        blackout = Blackout(home / "state")
        blackout.prepare()
        blackout.path.chmod(0)
        assert blackout.load() is True
        assert "Permission denied" in caplog.text
        (home / "state").chmod(0)
        assert blackout.load() is True


async def test_a_file_that_was_removed_is_made_again(state: Path) -> None:
    blackout = Blackout(state)
    blackout.prepare()
    blackout.path.unlink()
    await blackout.set(True)
    assert blackout.path.read_bytes() == b"1"
    assert blackout.path.stat().st_mode & 0o777 == 0o600


async def test_what_the_disk_does_not_take(state: Path) -> None:
    blackout = Blackout(state)
    with pytest.raises(FileNotFoundError):
        await blackout.set(True)
    blackout.prepare()
    blackout.path.unlink()
    blackout.path.mkdir()
    with pytest.raises(OSError, match=r"."):
        await blackout.set(True)


async def test_a_disk_that_does_not_answer(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing else is tried on it."""
    blackout = Blackout(state)
    blackout.prepare()

    async def hang(path: Path, data: bytes) -> None:
        raise TimeoutError(f"{path}: no answer")

    monkeypatch.setattr(module, "overwrite", hang)
    with pytest.raises(TimeoutError, match="no answer"):
        await blackout.set(True)
    assert blackout.path.read_bytes() == b"0"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_in(state: Path, mode: int) -> None:
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(ConfigError, match=rf"has the permissions 0{mode:o}") as caught:
        Blackout(state).prepare()
    assert os.listdir(state) == []
    run_remedy(str(caught.value))
    Blackout(state).prepare()


def test_a_directory_that_others_may_look_into(state: Path) -> None:
    """As systemd makes it with StateDirectory=."""
    state.mkdir(mode=0o755)
    Blackout(state).prepare()
    assert Blackout(state).load() is False


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="name another directory with --state-dir"):
        Blackout(tmp_path / "file" / "state").prepare()
    with pytest.raises(ConfigError, match="name another directory with --state-dir"):
        Blackout(tmp_path / "file").prepare()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_no_room_for_the_file(
    state: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """asyd starts without it, and says what that means."""

    def take_nothing(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", take_nothing)
        Blackout(state).prepare()
    assert f"{state / 'dark'} cannot be made: {os.strerror(number)}" in caplog.text
    assert "make room, and send SIGHUP" in caplog.text
    assert Blackout(state).load() is False
    caplog.clear()
    Blackout(state).prepare()
    assert (state / "dark").read_bytes() == b"0"
    assert caplog.records == []


def test_a_file_that_cannot_be_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "write_atomically", break_down)
    with pytest.raises(ConfigError, match="cannot be made: Input/output error; name another"):
        Blackout(state).prepare()


@pytest.mark.root
def test_no_room_for_the_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", files=4) as disk:
        blackout = Blackout(disk / "state")
        fillers = fill_with_files(disk)
        blackout.prepare()
        assert f"{blackout.path} cannot be made: No space left on device" in caplog.text
        assert blackout.load() is False
        fillers.pop().unlink()
        fillers.pop().unlink()
        blackout.prepare()
        assert blackout.path.read_bytes() == b"0"


@pytest.mark.root
async def test_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        blackout = Blackout(disk / "state")
        blackout.prepare()
        fill(disk)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (disk / "more").write_bytes(b"x")
        for dark in (True, False, True):
            await blackout.set(dark)
            assert Blackout(disk / "state").load() is dark
        # What is missing now cannot be made: the answer is the disk's own.
        blackout.path.unlink()
        fill(disk)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            await blackout.set(False)
