"""Every peer does both jobs, truly, and its client proves who it is."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from benchmarks.peers.certificates import Certificates
from benchmarks.peers.held import held
from benchmarks.peers.jobs import COUNT, SHELL, Job
from benchmarks.peers.peer import Peer, Rig
from benchmarks.peers.registry import NAMES, PEERS
from benchmarks.plan import BenchmarkError

from benchmarks.peers import ansible

PATIENCE = 60.0
HERE = [name for name in NAMES if name != "ansible"]
"""Ansible is not among what the tests install: a question takes it a second."""

SHELLS = ("ssh", "ssh-mux", "asyncssh")

BUSY = """\
import hashlib, threading
def burn():
    while True: hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
for _ in range(8): threading.Thread(target=burn).start()
print("busy", flush=True)
"""
"""Eight threads, so that it stands out among all that a busy machine does."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")


@contextlib.contextmanager
def running(name: str) -> Iterator[tuple[Peer, int]]:
    """A peer whose server is running, and its port."""
    (entry,) = (one for one in PEERS if one.name == name)
    missing = entry.missing()
    if missing:
        pytest.skip(f"needs: {missing}")
    # The paths of ssh's sockets are short; those of a test's own directory are not.
    with tempfile.TemporaryDirectory(prefix="asys-") as directory:
        peer = entry.peer(Rig(Path(directory)))
        with peer.serve() as port:
            yield peer, port


@contextlib.contextmanager
def busy() -> Iterator[int]:
    """The PID of a process that uses all the CPU that it gets."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"busy\n"
            yield process.pid
        finally:
            process.kill()


def pids(name: str, text: str) -> list[int]:
    """Those of a top five."""
    if name in SHELLS:
        return [int(line.split()[0]) for line in text.splitlines()[1:]]
    return [
        int(one) for one in re.findall(r'pid"?:? (\d+)|"pid":(\d+)', text) for one in one if one
    ]


def available_mb(name: str, text: str) -> int:
    """As the vitals tell it."""
    if name in SHELLS:
        assert "load average: " in text
        assert "Inter-|" in text
        (memory,) = (line for line in text.splitlines() if line.startswith("Mem:"))
        return int(memory.split()[-1])
    for known in ("load1", "cpu_percent", "root_used_percent", "io_wait", "inbound_mbps"):
        assert known in text
    (found,) = re.findall(r'available_mb"?: ?(\d+)', text)
    return int(found)


@linux
@pytest.mark.parametrize("name", HERE)
def test_a_peer_does_both_jobs(name: str) -> None:
    with running(name) as (peer, port), peer.connect(port) as ask:
        told = available_mb(name, ask(Job.VITALS))
        assert told / 2 < psutil.virtual_memory().available / 2**20 < told * 2

        with busy() as pid:
            end = time.monotonic() + PATIENCE
            while True:
                found = pids(name, ask(Job.TOP))
                assert len(set(found)) == len(found) == COUNT
                if pid in found:
                    break
                assert time.monotonic() < end, f"{pid} is not among {found}"


@linux
def test_each_client_keeps_a_connection_of_its_own() -> None:
    with running("ssh-mux") as (peer, port):

        def kept() -> int:
            return sum(one.is_socket() for one in peer.rig.directory.iterdir())

        with peer.connect(port) as ask:
            ask(Job.TOP)
            ask(Job.TOP)
            assert kept() == 1
            with peer.connect(port) as another:
                assert kept() == 1
                another(Job.TOP)
                assert kept() == 2
            assert kept() == 1
        assert kept() == 0


@linux
def test_a_client_without_a_certificate_gets_no_answer() -> None:
    with running("http") as (peer, port):
        authority = Certificates(peer.rig.directory).certificate("authority")
        context = ssl.create_default_context(cafile=authority)
        with (
            httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.get("/vitals")
        with peer.connect(port) as ask:
            assert "load1" in ask(Job.VITALS)


@linux
def test_what_fails_on_the_other_side_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHELL, Job.TOP, "echo nonsense >&2; exit 3")
    with running("asyncssh") as (peer, port), peer.connect(port) as ask:
        with pytest.raises(BenchmarkError, match="nonsense"):
            ask(Job.TOP)
        assert "load average" in ask(Job.VITALS)


def test_what_ansible_prints_is_an_answer_only_where_it_ran() -> None:
    assert ansible.answer("node | CHANGED | rc=0 >>\n  PID %CPU\n    1  0.0\n") == (
        "  PID %CPU\n    1  0.0\n"
    )
    for printed in (
        "node | FAILED | rc=127 >>\n/bin/sh: 1: pss: not foundnon-zero return code\n",
        'node | UNREACHABLE! => {\n    "msg": "Failed to connect to the host via ssh"\n}\n',
        "node | CHANGED | rc=1 >>\n\n",
        "[WARNING]: provided hosts list is empty\n",
        "",
    ):
        with pytest.raises(BenchmarkError, match="Ansible said"):
            ansible.answer(printed)


class Refused(contextlib.AbstractAsyncContextManager[None]):
    """A client of what is not there."""

    async def __aenter__(self) -> None:
        raise ConnectionRefusedError("nobody there")

    async def __aexit__(self, *_: object) -> None:
        """Nothing was entered."""


def test_a_client_that_cannot_be_had_says_why() -> None:
    with pytest.raises(ConnectionRefusedError, match="nobody there") as told, held(Refused):
        pass
    assert told.value.__context__ is None
