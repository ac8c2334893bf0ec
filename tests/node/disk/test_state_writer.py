"""The child process that does the disk work of the node's state."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asys.node.disk import state, state_writer
from support import bare_python

SECONDS = 60
"""Deadline for what takes milliseconds on an idle machine."""


def wait_until(done: Callable[[], bool]) -> None:
    """Looks again and again: what waits for a lock does not say so."""
    deadline = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)


def test_the_child_starts_light() -> None:
    """Only what writes files: it is started for every write."""
    loaded = set(
        bare_python.run(
            "import subprocess, sys\n"
            "from asys.node.disk.state import WRITER\n"
            "print(subprocess.run([sys.executable, '-I', '-S', '-X', 'importtime', WRITER,\n"
            "    'replace', '600', '0', '/missing/file'], stdin=subprocess.DEVNULL,\n"
            "    capture_output=True, text=True).stderr)\n"
        ).split()
    )
    assert "asys.node.disk.files" in loaded
    heavy = {"asyncio", "cryptography", "subprocess", "logging", "socket", "asys.errors", "site"}
    assert not loaded & heavy


def answer(monkeypatch: pytest.MonkeyPatch, data: bytes, *arguments: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return state_writer.main(list(arguments))


def test_the_child_writes_what_came_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    assert answer(monkeypatch, b"data", "replace", "640", "4", str(path)) == "done"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert answer(monkeypatch, b"atad", "overwrite", "4", str(path)) == "done"
    assert path.read_bytes() == b"atad"
    for what in (["replace", "600"], ["overwrite"]):
        said = answer(monkeypatch, b"dat", *what, "4", str(path))
        assert said == f"{errno.EPIPE} 3 bytes came, not 4"
        assert path.read_bytes() == b"atad"
    said = answer(monkeypatch, b"", "replace", "600", "0", str(tmp_path / "no" / "file"))
    assert said == f"{errno.ENOENT} {os.strerror(errno.ENOENT)}"


def test_what_killed_children_left_is_swept_away(tmp_path: Path) -> None:
    stays = [".file.json.abcdefgh", ".file.toolong_01", ".other.abcdefgh", "file.abcdefgh", "file"]
    for name in [*stays, ".file.abcdefgh", ".file.0_z9xy12"]:
        (tmp_path / name).touch()
    (tmp_path / ".file.adirecto").mkdir()
    state_writer.replace(tmp_path / "file", b"data", 0o600)
    assert sorted(os.listdir(tmp_path)) == sorted([*stays, ".file.adirecto"])


@pytest.mark.parametrize("work", ["replace", "overwrite"])
def test_one_child_at_a_time_works_in_a_directory(tmp_path: Path, work: str) -> None:
    """So what an earlier asyd's hung child still writes does not come after what is newer."""
    (tmp_path / "file").write_bytes(b"old!")
    what = [*(["replace", "600"] if work == "replace" else ["overwrite"]), "4"]
    command = [sys.executable, "-I", "-S", str(state.WRITER), *what, str(tmp_path / "file")]
    holder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            try:
                assert child.stdin is not None
                child.stdin.write(b"new!")
                child.stdin.close()
                waits = f"-> FLOCK  ADVISORY  WRITE {child.pid} "
                wait_until(lambda: waits in Path("/proc/locks").read_text())
                assert (tmp_path / "file").read_bytes() == b"old!"
                fcntl.flock(holder, fcntl.LOCK_UN)
                assert child.wait(SECONDS) == 0
            finally:
                child.send_signal(signal.SIGKILL)
    finally:
        os.close(holder)
    assert (tmp_path / "file").read_bytes() == b"new!"


def test_an_overwrite_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"0")
    synced: list[bytes] = []

    def fsync(handle: int) -> None:
        synced.append(os.pread(handle, 10, 0))

    monkeypatch.setattr(os, "fsync", fsync)
    state_writer.overwrite(tmp_path / "file", b"1")
    assert synced == [b"1"]


@pytest.mark.parametrize(("written", "code"), [(0, errno.EIO), (1, None)])
def test_a_short_overwrite_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, code: int | None
) -> None:
    (tmp_path / "file").write_bytes(b"0")
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: written)
    if code is None:
        state_writer.overwrite(tmp_path / "file", b"1")
        return
    with pytest.raises(OSError, match="not all bytes") as failed:
        state_writer.overwrite(tmp_path / "file", b"1")
    assert failed.value.errno == code
