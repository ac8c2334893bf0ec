"""`asyd throttled` and `asyd isolations`: over a real admin socket, and without an asyd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.cli.daemon import main
from asys.node.admin.held import EVERYTHING, Held, HeldInfo
from asys.node.held.throttled_store import Entry, ThrottledStore
from asys.node.platform.base import NotPermitted
from asys.node.platform.machine import boot_id
from asys.node.platform.processes.cgroups import start_of
from support.admin_rig import MadeControls, answering
from support.children import resumed, suspended, waiting

KEY = "ab" * 32


class MadeHeld:
    """Holds what a test says. `trouble` is raised."""

    def __init__(self, *held: HeldInfo) -> None:
        self.held = list(held)
        self.trouble: Exception | None = None
        self.closings = 0

    def listed(self) -> list[HeldInfo]:
        """As Held.listed."""
        return self.held

    async def release(self, pid: int) -> int:
        """As Held.release."""
        if self.trouble is not None:
            raise self.trouble
        before = len(self.held)
        self.held = [one for one in self.held if pid not in (EVERYTHING, one.pid)]
        return before - len(self.held)

    async def close(self) -> None:
        """As Isolations.close."""
        self.closings += 1


class Admin:
    """Runs `asyd` on a directory in this process: exit status, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.capsys = capsys
        self.directory = directory

    def __call__(self, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--config-dir", str(self.directory)])
        out, err = self.capsys.readouterr()
        return status, out, err


@pytest.fixture
def asyd(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Admin:
    directory = tmp_path / "asyd"
    directory.mkdir(mode=0o700)
    return Admin(capsys, directory)


@contextmanager
def node(asyd: Admin, **things: Held) -> Iterator[None]:
    """One that runs and holds these."""
    with answering(MadeControls(things=things), asyd.directory / "admin.sock"):
        yield


def info(pid: int = 7, *, until: int = 0) -> HeldInfo:
    """A process that has been held for two hours."""
    since = int(time.time()) - 7200
    return HeldInfo(pid, "java\x1b[2J", "cpu:20", "watcher", since, until)


# -- asking asyd


@pytest.mark.parametrize("what", ["throttled", "isolations"])
def test_a_table(asyd: Admin, what: str) -> None:
    until = int(time.time()) + 3600 + 59
    with node(asyd, **{what: MadeHeld(info(), info(8888, until=until))}):
        status, out, err = asyd(what, "list")

    lines = [line.split("  ") for line in out.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert (status, err) == (0, "")
    assert rows[0] == ["PID", "NAME", "HOW", "AGENT", "SINCE", "GOES ON"]
    assert rows[1][:1] + rows[1][2:] == ["7", "cpu:20", "watcher", "2h 0m ago", "-"]
    assert rows[2][-1] == "in 1h 0m"
    assert "\x1b" not in out


@pytest.mark.parametrize("what", ["throttled", "isolations"])
def test_json(asyd: Admin, what: str) -> None:
    with node(asyd, **{what: MadeHeld(info())}):
        status, out, _ = asyd(what, "list", "--json")
        assert status == 0
        [one] = json.loads(out)[what]
        assert set(one) == {"pid", "name", "how", "agent", "since", "until"}
        assert (one["pid"], one["agent"]) == (7, "watcher")

        assert json.loads(asyd(what, "release", "7", "--json")[1]) == {"released": 1}


@pytest.mark.parametrize("what", ["throttled", "isolations"])
def test_releasing_one_or_all(asyd: Admin, what: str) -> None:
    held = MadeHeld(info(7), info(8), info(9))
    with node(asyd, **{what: held}):
        assert asyd(what, "release", "8") == (0, "released: 1\n", "")
        assert [one.pid for one in held.held] == [7, 9]
        assert asyd(what, "release", "8") == (
            1,
            "",
            f"asyd: process 8 is not held by asyd; see: asyd {what} list\n",
        )
        assert asyd(what, "release", "--all") == (0, "released: 2\n", "")
        assert asyd(what, "release", "--all") == (0, "released: 0\n", "")


def test_what_cannot_be_released_is_told(asyd: Admin) -> None:
    held = MadeHeld(info())
    held.trouble = NotPermitted("SIGCONT to process 7: Operation not permitted")
    with node(asyd, throttled=held):
        status, out, err = asyd("throttled", "release", "7")

    assert (status, out) == (1, "")
    assert err == "asyd: SIGCONT to process 7: Operation not permitted\n"


def test_a_node_that_cannot_hold_any(asyd: Admin) -> None:
    with node(asyd):
        status, _, err = asyd("isolations", "list")

    assert status == 1
    assert "there are no isolations here" in err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("release",),
        ("release", "7", "--all"),
        ("release", "0"),
        ("release", "-1"),
        ("release", "x"),
        ("release", "4294967296"),
        ("list", "7"),
    ],
    ids=" ".join,
)
def test_wrong_usage(asyd: Admin, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        asyd("throttled", *words)

    assert caught.value.code == 2


# -- without asyd


def save(asyd: Admin, *entries: Entry, boot: str = "") -> ThrottledStore:
    """What an asyd that has ended has left."""
    state = asyd.directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    asyncio.run(ThrottledStore(state, boot or boot_id()).save(entries))
    return ThrottledStore(state, boot_id())


def entry(pid: int, start: int) -> Entry:
    """A process that asyd has stopped a while ago."""
    return Entry(pid, start, "cat", KEY, "", int(time.time()) - 600, "signal")


def test_in_an_emergency_no_asyd_is_needed(asyd: Admin) -> None:
    with waiting() as child, waiting() as other:
        for one in (child, other):
            os.kill(one.pid, signal.SIGSTOP)
            suspended(one.pid)
        store = save(
            asyd, entry(child.pid, start_of(child.pid)), entry(other.pid, start_of(other.pid))
        )
        status, out, _ = asyd("throttled", "list", "--json")
        listed = json.loads(out)["throttled"]
        assert status == 0
        assert [one["pid"] for one in listed] == [child.pid, other.pid]
        assert listed[0]["agent"] == KEY[:8]

        assert asyd("throttled", "release", str(child.pid))[:2] == (0, "released: 1\n")
        resumed(child.pid)
        assert [one.pid for one in store.load()] == [other.pid]
        assert asyd("throttled", "release", str(child.pid))[0] == 1
        assert asyd("throttled", "release", "--all")[:2] == (0, "released: 1\n")
        resumed(other.pid)
        assert store.load() == ()


def test_another_process_with_the_pid_gets_no_signal(asyd: Admin) -> None:
    with waiting() as child:
        os.kill(child.pid, signal.SIGSTOP)
        suspended(child.pid)
        save(asyd, entry(child.pid, start_of(child.pid) - 1))

        assert asyd("throttled", "release", str(child.pid))[0] == 1
        assert Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "T"


def test_what_was_stopped_before_the_machine_started_anew_is_void(asyd: Admin) -> None:
    with waiting() as child:
        save(asyd, entry(child.pid, start_of(child.pid)), boot="another")

        assert json.loads(asyd("throttled", "list", "--json")[1]) == {"throttled": []}


def test_without_a_file_nothing_is_held(asyd: Admin) -> None:
    assert asyd("throttled", "list")[:2] == (0, "PID  NAME  HOW  AGENT  SINCE  GOES ON\n")
    assert asyd("throttled", "release", "--all")[:2] == (0, "released: 0\n")


def test_a_directory_that_is_none(asyd: Admin) -> None:
    asyd.directory.rmdir()

    status, _, err = asyd("throttled", "list")
    assert status == 1
    assert str(asyd.directory) in err


def test_isolations_without_asyd(asyd: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    held = MadeHeld(info())
    seen: list[Path] = []

    async def standing(state_dir: Path) -> Held:
        seen.append(state_dir)
        return held

    monkeypatch.setattr("asys.node.held.isolations.standing", standing)
    assert json.loads(asyd("isolations", "list", "--json")[1])["isolations"][0]["pid"] == 7
    assert asyd("isolations", "release", "7")[:2] == (0, "released: 1\n")
    assert seen == [asyd.directory / "state"] * held.closings
    assert held.closings == 2


def test_a_file_that_others_may_write_to_is_refused(asyd: Admin) -> None:
    with waiting() as child:
        store = save(asyd, entry(child.pid, start_of(child.pid)))
    store.path.chmod(0o666)

    status, _, err = asyd("throttled", "list")
    assert status == 1
    assert "chmod 600" in err
