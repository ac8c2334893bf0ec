"""Vendors' packages on a real asyd: what they do, and what they cannot do to anybody else.

The workers run in cages that asyd closes itself, as root.
"""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asys.vendor.definition import MAX_BODY
from support.daemon import AGENT, CORE_AGENT, LOOPS, Daemon, running
from support.frames import HELLO, OK
from support.own_daemon import argv, config
from support.raw_agent import RawAgent
from support.vendors import Packages

pytestmark = pytest.mark.root

GOOD, BAD = "good.example", "bad.example"
INSTRUCTIONS = {
    "DOUBLE": "0xC0",
    "SPIN": "0xC1",
    "SLEEP": "0xC2",
    "HOG": "0xC3",
    "CRASH": "0xC4",
    "LOOK": "0xC5, request=Text, reply=Text",
    "EMPTY": "0xC6, request=Empty, reply=Empty",
}
HANDLERS = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading
from pathlib import Path

@handler(DOUBLE)
def double(request):
    return Number(2 * request.number)

@handler(SPIN)
async def spin(request):
    while True:
        pass

@handler(SLEEP)
def sleep(request):
    threading.Event().wait()

@handler(HOG)
def hog(request):
    return Number(len(bytearray(1 << 30)))

@handler(CRASH)
def crash(request):
    ctypes.string_at(0)

@handler(EMPTY)
def empty(request):
    return None

@handler(LOOK)
def look(request):
    try:
        return Text(repr(eval(request.text)))
    except Exception as error:
        return Text(repr(type(error).__name__))

def bomb():
    "Starts processes until that is refused; how many it were."
    children = []
    try:
        while len(children) < 500:
            children.append(os.fork())
            if not children[-1]:
                signal.pause()
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children)
"""
AGENTS = {
    AGENT: f"agent caps=core,vendor,process vendors={GOOD},{BAD}",
    CORE_AGENT: "other caps=core,vendor",
}


class Asked:
    """A session, and what it asks of one vendor."""

    def __init__(self, agent: RawAgent, vendor_id: int) -> None:
        self.agent = agent
        self.id = vendor_id.to_bytes(4, "big")

    def ask(self, code: int, body: bytes = b"\0\0\0\1") -> bytes:
        """The whole answer."""
        payload = self.id + body
        cla = 0x04 if len(payload) < 250 else 0x06
        return self.agent.ask(self.agent.signed(code, payload, cla=cla))

    def double(self) -> bytes:
        """What proves that it works."""
        return self.ask(0xC0)

    def look(self, expression: str) -> Any:
        """What an expression is, in the worker; the name of an exception where it has none."""
        answer = self.ask(0xC5, expression.encode())
        assert answer[-2:] == OK, answer.hex()
        return ast.literal_eval(answer[:-2].decode())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    made = Packages(tmp_path_factory.mktemp("vendors") / "site")
    for domain in (GOOD, BAD):
        made.add(domain, INSTRUCTIONS, HANDLERS)
    return made


@contextmanager
def vendors(
    directory: Path, packages: Packages, *enabled: str, agents: Any = AGENTS, **options: Any
) -> Iterator[Daemon]:
    """An asyd with these vendors."""
    words = [word for one in enabled for word in ("--vendor", one)]
    with running(directory, *words, agents=agents, prelude=packages.prelude, **options) as asyd:
        yield asyd


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory, packages: Packages) -> Iterator[Daemon]:
    with vendors(tmp_path_factory.mktemp("asyd"), packages, GOOD, f"{BAD},network") as daemon:
        yield daemon


@pytest.fixture
def agent(asyd: Daemon) -> Iterator[RawAgent]:
    with asyd.connect() as agent:
        yield agent


@pytest.fixture
def good(agent: RawAgent, packages: Packages) -> Asked:
    return Asked(agent, packages.ids[GOOD])


@pytest.fixture
def bad(agent: RawAgent, packages: Packages) -> Asked:
    """The one with a network."""
    return Asked(agent, packages.ids[BAD])


# -- what it does


def test_two_vendors_have_one_code(good: Asked, bad: Asked) -> None:
    """Each answers for itself."""
    assert good.double() == b"\0\0\0\2" + OK
    assert bad.double() == b"\0\0\0\2" + OK
    assert good.look("__name__") == "vendor_good_example.handlers"
    assert bad.look("__name__") == "vendor_bad_example.handlers"
    assert good.ask(0xC6, b"") == OK


def test_what_is_lit(asyd: Daemon, agent: RawAgent) -> None:
    def page(of: RawAgent) -> int:
        answer = of.ask(bytes((0, 0, 3, 0, 0, 0)))
        return int.from_bytes(answer[:8], "big")

    assert page(agent) == 0x7F << 32  # C0 to C6: the first word is C0-DF
    with asyd.connect(CORE_AGENT) as other:
        assert page(other) == 0
        assert other.ask(other.signed(0xC0, bytes(8))).hex() == "6982"


def test_sixteen_kilobytes_and_one(good: Asked) -> None:
    assert good.ask(0xC5, bytes(MAX_BODY + 1)).hex() == "6700"
    text = b"0" + b" " * (MAX_BODY - 1)
    assert good.ask(0xC5, text) == b"0" + OK
    assert good.ask(0xC5, b"'x' * 16000 + ''") == b"'" + b"x" * 16000 + b"'" + OK


# -- what it cannot do


def test_it_is_nobody(asyd: Daemon, good: Asked, bad: Asked) -> None:
    uids = [one.look("os.getresuid() + os.getresgid()") for one in (good, bad)]
    for found in uids:
        assert len(set(found)) == 1
        assert found[0] > 1_000_000_000
    assert uids[0] != uids[1]
    assert good.look("os.getgroups()") == []
    status = good.look("Path('/proc/self/status').read_text()")
    assert re.findall(r"^Cap\w+:\t(\w+)$", status, re.MULTILINE) == ["0" * 16] * 5
    assert "NoNewPrivs:\t1" in status
    assert good.look("os.environ.get('NOTIFY_SOCKET'), sorted(os.environ)[:2]") == (
        None,
        ["HOME", "LANG"],
    )


def test_asyds_key_is_not_there(asyd: Daemon, good: Asked) -> None:
    key = asyd.config_dir / "id_curve25519"
    assert key.exists()
    assert good.look(f"open({str(key)!r}, 'rb').read()") == "FileNotFoundError"
    assert good.look(f"os.listdir({str(asyd.config_dir)!r})") in ("FileNotFoundError", [])


def test_asyds_descriptors_are_not_there(asyd: Daemon, good: Asked) -> None:
    """Its own socket to asyd, and what its loop has made, are all that it has."""
    kinds = good.look(
        "sorted(os.readlink(f'/proc/self/fd/{one}').split(':')[0]"
        " for one in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{one}'))"
    )
    assert set(kinds) <= {"/dev/null", "anon_inode", "socket", "pipe"}
    assert good.look(f"os.listdir('/proc/{asyd.pid}/fd')") == "FileNotFoundError"
    assert good.look("open('/proc/1/mem', 'rb').read(1)") != b""  # it is its own PID 1


def test_nobody_can_be_signalled_or_traced(asyd: Daemon, good: Asked) -> None:
    cage = subprocess.run(
        ["ps", "--ppid", str(asyd.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    others = [asyd.pid, os.getpid(), *map(int, cage.stdout.split())]
    assert len(others) >= 4
    for pid in others:
        assert good.look(f"os.kill({pid}, signal.SIGKILL)") == "ProcessLookupError"
        # PTRACE_ATTACH
        assert good.look(f"ctypes.CDLL(None).ptrace(16, {pid}, 0, 0)") == -1
    assert good.look("sorted(one for one in os.listdir('/proc') if one.isdigit())") == ["1"]


def test_the_network_is_not_there_unless_granted(good: Asked, bad: Asked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"socket.create_connection(('127.0.0.1', {port}), 60).close()"
        assert good.look(connect) == "OSError"
        assert bad.look(connect) is None
        server.accept()[0].close()
    assert good.look("[name for _, name in socket.if_nameindex()]") in (["lo"], [])


def test_nothing_can_be_written(good: Asked) -> None:
    for path in ("/etc/x", "/usr/x", "/x", "/srv/x", "/var/x"):
        assert good.look(f"open({path!r}, 'w')") in ("OSError", "FileNotFoundError")
    name = f"asys-{uuid.uuid4().hex}"
    assert good.look(f"Path('/tmp/{name}').write_text('x')") == 1
    assert name in good.look("os.listdir('/tmp')")
    assert not os.path.exists(f"/tmp/{name}")  # noqa: S108  the test's own, which is another one


def test_a_fork_bomb_is_bounded(good: Asked) -> None:
    assert 1 <= good.look("bomb()") < 40
    assert good.double() == b"\0\0\0\2" + OK


def test_no_privileges_can_be_had_again(good: Asked) -> None:
    assert good.look("os.setuid(0)") == "PermissionError"
    assert good.look("ctypes.CDLL(None).unshare(0x10000000)") in (-1, 0)  # CLONE_NEWUSER
    assert good.look("os.chroot('/tmp')") == "PermissionError"
    assert good.look("resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))") == "ValueError"


def test_agents_may_not_touch_a_worker(asyd: Daemon, good: Asked) -> None:
    listed = Path(f"/proc/{asyd.pid}/task/{asyd.pid}/children").read_text().split()
    inside = [
        int(pid)
        for cage in listed
        for pid in Path(f"/proc/{cage}/task/{cage}/children").read_text().split()
    ]
    assert len(inside) == 2
    for pid in (*inside, *map(int, listed)):
        assert good.agent.ask(good.agent.throttle(pid)).hex() == "6982"


# -- what becomes of the others


def again(asked: Asked) -> bytes:
    """What DOUBLE is answered, once there is a worker again."""
    answer = asked.double()
    while answer.hex() == "6400":
        answer = asked.double()
    return answer


def test_a_gigabyte_is_too_much(asyd: Daemon, good: Asked, bad: Asked) -> None:
    assert bad.ask(0xC3).hex() == "6f01"
    assert again(bad) == b"\0\0\0\2" + OK
    assert good.double() == b"\0\0\0\2" + OK


def test_a_crash_is_alone(asyd: Daemon, good: Asked, bad: Asked) -> None:
    before = good.look("os.getpid(), id(threading)")
    assert bad.ask(0xC4).hex() == "6f00"
    assert good.look("os.getpid(), id(threading)") == before
    assert again(bad) == b"\0\0\0\2" + OK


@pytest.mark.parametrize("code", [0xC1, 0xC2], ids=["endless loop", "sleep"])
def test_five_seconds_are_enough(asyd: Daemon, bad: Asked, code: int) -> None:
    """Meanwhile asyd, and the other vendor, answer everybody."""
    payload = bad.id + b"\0\0\0\1"
    bad.agent.send(bad.agent.signed(code, payload))
    with asyd.connect() as beside:
        other = Asked(beside, int.from_bytes(bad.id, "big"))
        assert beside.ask(HELLO)[-2:] == OK
        if code == 0xC2:  # a handler in a thread does not hold up another
            assert other.double() == b"\0\0\0\2" + OK
    assert bad.agent.answer().hex() == "6f04"
    assert again(bad) == b"\0\0\0\2" + OK


def test_four_in_work_and_no_fifth(asyd: Daemon, bad: Asked) -> None:
    assert again(bad) == b"\0\0\0\2" + OK
    agents = [asyd.connect() for _ in range(4)]
    try:
        for one in agents:
            one.send(one.signed(0xC2, bad.id + b"\0\0\0\1"))
        answers = set()
        while "6400" not in answers:  # the four may not have arrived yet
            answers.add(bad.double()[-2:].hex())
        assert answers <= {"9000", "6400"}
        ends = sorted(one.answer().hex() for one in agents)
        assert set(ends) <= {"6f04", "6f00"}  # the first is late, which costs the others theirs
        assert "6f04" in ends
    finally:
        for one in agents:
            one.close()
    assert again(bad) == b"\0\0\0\2" + OK


def test_a_thousand_requests_while_another_crashes_over_and_over(
    asyd: Daemon, good: Asked, packages: Packages
) -> None:
    with asyd.connect() as crashing, asyd.connect() as hello:
        bad = Asked(crashing, packages.ids[BAD])
        before = asyd.said("the worker of bad.example")
        crash = crashing.signed(0xC4, bad.id + b"\0\0\0\1")
        crashing.send(crash)
        answers = set()
        for number in range(1000):
            assert good.double() == b"\0\0\0\2" + OK
            if number % 20 == 0:
                assert hello.ask(HELLO)[-2:] == OK
                answers.add(crashing.answer().hex())
                crashing.send(crashing.signed(0xC4, bad.id + b"\0\0\0\1"))
        assert answers <= {"6f00", "6400"}
        assert "6f00" in answers
        assert asyd.said("the worker of bad.example") > before
        assert asyd.said("the worker of good.example") == 0


# -- starting


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_two_with_one_id(tmp_path: Path, loop: str) -> None:
    packages = Packages(tmp_path / "site")
    for domain in (GOOD, BAD):
        packages.add(domain, INSTRUCTIONS, HANDLERS, vendor_id=0x17)
    agents = {AGENT: "agent caps=core,vendor vendors=0x17"}
    words = ("--vendor", GOOD, "--vendor", BAD)
    command = argv(config(tmp_path, agents), *words, prelude=loop + packages.prelude)
    daemon = Daemon(tmp_path / "asyd", command, read_log=True)
    try:
        daemon.await_ready()
        daemon.wait_for("have the same id 00000017")
        with daemon.connect() as agent:
            assert "vendor_" in Asked(agent, 0x17).look("__name__")
        daemon.process.terminate()
        assert daemon.process.wait(60) == 0
    finally:
        daemon.kill()


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["--vendor", "nobody.example"], 1, "no vendor nobody.example is installed; installed: "),
        (["--vendor", "nobody.example,memory=1K"], 2, "is no size"),
        (["--vendor", GOOD, "--mode", "monitor"], 2, "has no use with --mode monitor"),
    ],
)
def test_what_asyd_does_not_start_with(
    tmp_path: Path, packages: Packages, words: list[str], status: int, why: str
) -> None:
    ran = subprocess.run(
        argv(config(tmp_path, AGENTS), *words, prelude=packages.prelude),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == status
    assert why in ran.stderr
    if status == 1:
        assert f"{BAD}, {GOOD}" in ran.stderr
