"""Waiting for a directory to change."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.audit.follow import POLL_SECONDS, Watch


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    directory = tmp_path / "audit"
    directory.mkdir()
    directory.joinpath("old").write_bytes(b"1")
    with Watch(directory) as made:
        yield made


def test_what_changed_since_it_was_made_is_not_missed(tmp_path: Path, watch: Watch) -> None:
    for change in ("old", "new"):
        with tmp_path.joinpath("audit", change).open("ab") as file:
            file.write(b"2")
        assert watch()


def test_a_file_that_is_moved_in_is_a_change(tmp_path: Path, watch: Watch) -> None:
    moved = tmp_path / "moved"
    moved.write_bytes(b"1")
    moved.rename(tmp_path / "audit" / "moved")
    assert watch()


def test_it_waits_until_something_changes(tmp_path: Path, watch: Watch) -> None:
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(watch()))
    waiting.start()
    assert answers == []
    tmp_path.joinpath("audit", "old").write_bytes(b"22")
    waiting.join(60)
    assert answers == [True]


@pytest.mark.parametrize("way", ["removed", "moved", "replaced"])
def test_a_directory_that_goes_ends_it(tmp_path: Path, watch: Watch, way: str) -> None:
    directory = tmp_path / "audit"
    with directory.joinpath("old").open("rb"):  # as the reader that waits has it
        if way == "removed":
            shutil.rmtree(directory)
        else:
            directory.rename(tmp_path / "other")
        if way == "replaced":
            directory.mkdir()
        assert not watch()


def test_what_is_no_directory_cannot_be_watched(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file"):
        if path.name == "file":
            path.write_bytes(b"")
        with pytest.raises(OSError, match=path.name):
            Watch(path)


def test_without_inotify_it_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("asys.audit.follow.sys.platform", "other")
    monkeypatch.setattr("asys.audit.follow.time.sleep", slept.append)
    directory = tmp_path / "audit"
    directory.mkdir()
    with Watch(directory) as watch:
        assert watch()
        directory.rmdir()
        assert not watch()
    assert slept == [POLL_SECONDS] * 2
