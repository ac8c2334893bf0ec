"""An upgrade of a real asyd: what its agents get by it is told before it is started, and after.

The coming version is this one with an instruction more (`support.planted`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.node.disk.files import quoted
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, COMMAND, CORE_AGENT, PATIENCE, Daemon
from support.frames import frame
from support.own_daemon import argv, config
from support.planted import CODE, NAME, PRELUDE

AGENTS = {AGENT: "wide caps=all", CORE_AGENT: "narrow caps=core"}


@contextmanager
def running(directory: Path, prelude: str = "") -> Iterator[Daemon]:
    """An asyd that serves, and ends well."""
    daemon = Daemon(directory, argv(directory, prelude=prelude), read_log=True)
    try:
        daemon.await_ready()
        daemon.wait_for(" platform ")
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()


def check(directory: Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """`asyd agents check --new` of a version."""
    where = ("--config-dir", str(directory))
    return subprocess.run(
        (sys.executable, "-c", prelude + COMMAND, "agents", "check", "--new", *where),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def is_lit(daemon: Daemon, key: PrivateKey) -> bool:
    """Whether SYS_CAPS shows the instruction, on page 1."""
    with daemon.connect(key) as agent:
        words = agent.ask(frame(0x00, p1=1))[:8]
    return bool(int.from_bytes(words[:4], "big") >> CODE - 0x40 & 1)


def test_it_is_told_before_the_new_version_is_started_and_after(tmp_path: Path) -> None:
    directory = config(tmp_path, AGENTS)
    with running(directory) as old:
        assert not is_lit(old, AGENT)
        assert check(directory).returncode == 0
        told = check(directory, PRELUDE)
    assert told.returncode == 1
    [line] = told.stdout.splitlines()
    assert f":1: new: all of caps= lights {NAME} (risk none), which asyd " in line
    assert "pinned: narrow\n" in told.stderr

    with running(directory, PRELUDE) as new:
        assert (is_lit(new, AGENT), is_lit(new, CORE_AGENT)) == (True, False)
        [said] = [line for line in new.log if " ran here before; " in line]
        assert f"new since: {NAME}; lines that get some of it by words such as all: 1; see" in said
        assert said.endswith(f"see: asyd agents check --new --config-dir {quoted(directory)}")
        assert check(directory, PRELUDE).stdout == told.stdout
    with running(directory, PRELUDE) as again:
        assert not again.said(" ran here before; ")
    assert check(directory, PRELUDE).stdout == told.stdout


def test_nothing_is_said_where_nobody_gets_anything(tmp_path: Path) -> None:
    directory = config(tmp_path, {CORE_AGENT: "narrow caps=core"})
    with running(directory):
        pass
    with running(directory, PRELUDE) as new:
        assert not new.said(" ran here before; ")
    assert check(directory, PRELUDE).returncode == 0


@pytest.mark.parametrize("what", ["damaged", "not to be written"])
def test_a_record_that_fails_keeps_nobody_out(tmp_path: Path, what: str) -> None:
    directory = config(tmp_path, AGENTS)
    record = directory / "state" / "instructions.json"
    record.parent.mkdir(mode=0o700)
    if what == "damaged":
        record.write_text("damaged")
        record.chmod(0o600)
    else:
        record.mkdir()  # nothing can be put in its place
        (record / "full").touch()
    with running(directory) as asyd:
        assert asyd.said("what an upgrade lights will not be known: ") == 1
        assert not is_lit(asyd, CORE_AGENT)
    assert os.path.isdir(record) or record.read_text() == "damaged"
