"""The child process that does the disk work of the node's state."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asys.node.disk import state_writer
from asys.node.disk.scribe import WRITER
from asys.node.disk.state_writer import ANSWER_HEAD, OVERWRITE, REPLACE, Write, answer
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
    """Only what writes files: it stays, and its memory is never asyd's to spare."""
    loaded = set(
        bare_python.run(
            "import subprocess, sys\n"
            "from asys.node.disk.scribe import WRITER\n"
            "print(subprocess.run([sys.executable, '-I', '-S', '-X', 'importtime', WRITER],\n"
            "    stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr)\n"
        ).split()
    )
    assert "asys.node.disk.files" in loaded
    heavy = {"asyncio", "cryptography", "subprocess", "logging", "socket", "asys.errors", "site"}
    assert not loaded & heavy


def write(what: int, path: Path, data: bytes, mode: int = 0o600, number: int = 7) -> Write:
    return Write(number, what, mode, os.fsencode(path), data)


def said(answer: bytes) -> tuple[int, int, str]:
    number, code, size = ANSWER_HEAD.unpack_from(answer)
    assert len(answer) == ANSWER_HEAD.size + size
    return number, code, answer[ANSWER_HEAD.size :].decode()


def test_what_is_done_and_what_is_said_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert said(answer(write(REPLACE, path, b"data", 0o640))) == (7, 0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert said(answer(write(OVERWRITE, path, b"atad"))) == (7, 0, "")
    assert path.read_bytes() == b"atad"
    missing = said(answer(write(REPLACE, tmp_path / "no" / "file", b"")))
    assert missing == (7, errno.ENOENT, os.strerror(errno.ENOENT))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(), errno.EIO, "OSError"),
        (ValueError("why"), errno.EIO, "ValueError: why"),
        (OSError(errno.EIO, "x" * 10_000), errno.EIO, "x" * 400),
    ],
)
def test_whatever_goes_wrong_is_said_in_a_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, words: str
) -> None:
    def fails(path: Path, data: bytes, mode: int) -> None:
        raise error

    monkeypatch.setattr(state_writer, "replace", fails)
    assert said(answer(write(REPLACE, tmp_path / "file", b""))) == (7, code, words)


def serve(sent: bytes) -> bytes:
    """What a child answers that is sent this and then nothing more."""
    source, to_it = os.pipe()
    from_it, sink = os.pipe()
    try:

        def feed() -> None:
            os.write(to_it, sent)
            os.close(to_it)

        feeding = threading.Thread(target=feed)
        feeding.start()
        state_writer.serve(source, sink)
        feeding.join()
        os.close(sink)
        with open(from_it, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(source)
        os.close(from_it)


def test_only_what_came_whole_is_written(tmp_path: Path) -> None:
    """asyd may die in the middle of sending: then it is as if it had not begun."""
    whole = write(REPLACE, tmp_path / "whole", b"data" * 50_000, number=1).pack()
    cut = write(REPLACE, tmp_path / "cut", b"data", number=2).pack()
    for size in (0, 1, 12, 20, len(cut) - 1):
        (tmp_path / "whole").unlink(missing_ok=True)
        assert said(serve(whole + cut[:size])) == (1, 0, "")
        assert (tmp_path / "whole").read_bytes() == b"data" * 50_000
        assert not (tmp_path / "cut").exists()


def test_what_nobody_hears_is_done_all_the_same(tmp_path: Path) -> None:
    source, to_it = os.pipe()
    from_it, sink = os.pipe()
    os.close(from_it)
    os.write(to_it, write(REPLACE, tmp_path / "file", b"data").pack())
    os.close(to_it)
    try:
        state_writer.serve(source, sink)
    finally:
        os.close(source)
        os.close(sink)
    assert (tmp_path / "file").read_bytes() == b"data"


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
    what = REPLACE if work == "replace" else OVERWRITE
    sent = write(what, tmp_path / "file", b"new!").pack()
    command = [sys.executable, "-I", "-S", str(WRITER)]
    holder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            try:
                assert child.stdin is not None
                child.stdin.write(sent)
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
