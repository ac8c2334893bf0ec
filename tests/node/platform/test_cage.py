"""The cage: what it plans, and its parts in processes of their own."""

from __future__ import annotations

import dataclasses
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asys.node.platform import cage
from asys.node.platform.cage import FAILED, MAPPED_BYTES, Cage, hidden, limits
from asys.vendor.wire import FAILED as SAYS_FAILED
from asys.vendor.wire import MAX_TO_NODE, Messages

CAGE = Cage(
    command=("/bin/true",),
    uid=1_900_000_000,
    gid=1_900_000_000,
    groups=(),
    network=False,
    memory=64 << 20,
    processes=32,
    needs=(),
    secrets=(),
)

FURNISH = """
import os, sys
from asys.node.platform import confine
from asys.node.platform.cage import Cage, furnish

confine.unshare(confine.CLONE_NEWNS)
furnish(Cage.from_json(sys.argv[1]))
secret, need, beside = sys.argv[2:]
assert os.listdir(secret) == []
assert sorted(os.listdir(need)) == ["secret", "there"]
assert not os.path.exists(beside)
assert os.statvfs("/").f_flag & os.ST_RDONLY
for path in ("/tmp", "/var/tmp"):
    open(os.path.join(path, "mine"), "w").close()
for path in ("/etc/x", os.path.join(need, "x")):
    try:
        open(path, "w")
    except OSError as error:
        assert error.errno == 30, error
    else:
        raise AssertionError(path)
confine.mount("none", "/", "", confine.MS_REMOUNT | confine.MS_BIND)
"""
"""What it measures itself by is written at its end, so the last line opens the disk again."""


def test_the_command_line_has_all_of_it() -> None:
    assert Cage.from_json(CAGE.to_json()) == CAGE


def test_limits() -> None:
    found = limits(CAGE)
    assert found[resource.RLIMIT_DATA] == 64 << 20
    assert found[resource.RLIMIT_AS] == (64 << 20) + MAPPED_BYTES
    assert found[resource.RLIMIT_NPROC] == 32
    assert found[resource.RLIMIT_CORE] == 0


def test_what_would_keep_it_from_what_it_needs_is_hidden(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inside = closed / "also closed" / "need"
    inside.mkdir(parents=True)
    for directory in (tmp_path, closed):
        directory.chmod(0o700)
    found = hidden((str(inside),))
    assert [one for one in found if tmp_path.is_relative_to(one) or one.startswith(str(tmp_path))]
    assert not any(one != two and Path(one).is_relative_to(two) for one in found for two in found)
    assert "/tmp" in found  # noqa: S108  it is always the cage's own
    assert hidden(("/usr/lib",)) == hidden(())


@pytest.mark.root
def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    need, beside = tmp_path / "need", tmp_path / "beside"
    secret = need / "secret"
    for directory, name in ((need, "there"), (secret, "key"), (beside, "x")):
        directory.mkdir()
        (directory / name).write_text("x")
    packages = [one for one in sys.path if one and os.path.isdir(one)]
    wanted = dataclasses.replace(
        CAGE,
        needs=(str(need), sys.prefix, sys.base_prefix, *packages),
        secrets=(str(secret), str(tmp_path / "never was")),
    )
    words = [wanted.to_json(), str(secret), str(need), str(beside)]
    ran = subprocess.run(
        [sys.executable, "-c", FURNISH, *words],
        capture_output=True,
        text=True,
        check=False,
        # What it ran could not be written down where nothing can be written.
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (secret / "key").exists()


def run(wanted: Cage, *before: str, parent: int | None = None) -> tuple[int, bytes]:
    """Exit status of a cage, and what came over its socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [*before, sys.executable, "-I", cage.__file__, str(theirs.fileno())]
        ran = subprocess.run(
            [*command, wanted.to_json(), str(os.getpid() if parent is None else parent)],
            pass_fds=[theirs.fileno()],
            check=False,
            timeout=60,
        )
        theirs.close()
        said = b""
        while data := ours.recv(4096):
            said += data
    return ran.returncode, said


def failure(said: bytes) -> str:
    """What the program would have said that cannot serve."""
    [(kind, text)] = Messages(MAX_TO_NODE).feed(said)
    assert kind == SAYS_FAILED
    return text.decode()


@pytest.mark.root
@pytest.mark.parametrize(("status", "program"), [(0, "true"), (1, "false")])
def test_it_ends_as_the_program_ends(status: int, program: str) -> None:
    wanted = Cage.from_json(CAGE.to_json().replace("/bin/true", f"/bin/{program}"))
    assert run(wanted) == (status, b"")


@pytest.mark.root
def test_a_program_that_is_not_there() -> None:
    status, said = run(Cage.from_json(CAGE.to_json().replace("/bin/true", "/bin/nothing")))
    assert status == FAILED
    assert "the cage cannot be closed" in failure(said)


@pytest.mark.root
def test_without_the_right_to_close_it_nothing_is_executed() -> None:
    status, said = run(CAGE, "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
    assert status == FAILED
    assert "unshare: Operation not permitted" in failure(said)


def test_it_ends_with_asyd() -> None:
    status, said = run(CAGE, parent=1)
    assert status == FAILED
    assert "the parent 1 has ended" in failure(said)
