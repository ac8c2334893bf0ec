"""The worker program itself, without a cage: what it answers, and how it ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asys.node.vendor.launch import WORKER, import_path
from asys.vendor import worker
from asys.vendor.discovery import find
from asys.vendor.handlers import handlers_of
from asys.vendor.wire import (
    ANSWER,
    FAILED,
    HELLO,
    MAX_TO_NODE,
    Messages,
    message,
    pack_request,
    unpack_answer,
    unpack_hello,
)
from support.vendors import Packages

PATIENCE = 60.0
DOMAIN = "a.example"

INSTRUCTIONS = {
    "DOUBLE": "0xC0",
    "LATER": "0xC1",
    "NOTHING": "0xC2, request=Empty, reply=Empty",
    "RUN": "0xC3, request=Text, reply=Text",
    "MIXED": "0xC4, request=Text",
}
HANDLERS = """
import asyncio, os, threading, time

@handler(DOUBLE)
def double(request):
    return Number(2 * request.number)

@handler(LATER)
async def later(request):
    await asyncio.sleep(0)
    return Number(request.number + 1)

@handler(NOTHING)
def nothing(request):
    return None

met = threading.Barrier(4, timeout=60)

@handler(RUN)
def run(request):
    return Text(str(eval(request.text)))

@handler(MIXED)
def mixed(request):
    return eval(request.text)

def throw(error):
    raise error
"""


class Worker:
    """A process, and asyd's end of its wire."""

    def __init__(self, packages: Packages, domain: str = DOMAIN, *, listens: str = "") -> None:
        if listens:
            passed = socket.socket(socket.AF_UNIX)
            passed.bind(listens)
            passed.listen()
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(listens)
        else:
            self.socket, passed = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        with passed:
            command = [sys.executable, "-I", str(WORKER), domain, str(passed.fileno())]
            self.process = subprocess.Popen(
                [*command, *import_path(), str(packages.directory)],
                pass_fds=[passed.fileno()],
                stderr=subprocess.PIPE,
            )
        self._messages = Messages(MAX_TO_NODE)
        self._found: list[tuple[int, bytes]] = []

    def read(self) -> tuple[int, bytes]:
        """The next message."""
        while not self._found:
            data = self.socket.recv(1 << 16)
            assert data, "the worker has hung up"
            self._found = self._messages.feed(data)
        return self._found.pop(0)

    def ask(self, code: int, body: bytes = b"", number: int = 1) -> tuple[int, str, bytes]:
        """Status word, note and reply."""
        self.socket.sendall(pack_request(number, code, 0, 0, body))
        kind, answer = self.read()
        assert kind == ANSWER
        found, sw, note, reply = unpack_answer(answer)
        assert found == number
        return sw, note, reply

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Sees to it that nothing is left of it."""
        self.socket.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    made = Packages(tmp_path / "site")
    made.add(DOMAIN, INSTRUCTIONS, HANDLERS)
    return made


@pytest.fixture
def start(packages: Packages) -> Iterator[Callable[..., Worker]]:
    """Starts workers."""
    made: list[Worker] = []

    def start(domain: str = DOMAIN, *, listens: str = "") -> Worker:
        made.append(Worker(packages, domain, listens=listens))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def running(start: Callable[..., Worker]) -> Worker:
    """One that has said who it is."""
    made = start()
    kind, body = made.read()
    assert kind == HELLO
    assert unpack_hello(body).domain == DOMAIN
    return made


def test_what_it_answers(running: Worker) -> None:
    assert running.ask(0xC0, b"\0\0\0\4") == (0x9000, "", b"\0\0\0\10")
    assert running.ask(0xC1, b"\0\0\0\4") == (0x9000, "", b"\0\0\0\5")
    assert running.ask(0xC2) == (0x9000, "", b"")
    assert running.ask(0xC3, b"6*7") == (0x9000, "", b"42")


@pytest.mark.parametrize(
    ("code", "body", "sw"),
    [
        (0xC0, b"", 0x6700),
        (0xC0, b"\0" * 5, 0x6700),
        (0xC3, b"\xff", 0x6A80),
        (0xCF, b"", 0x6A81),
        (0xC3, b"throw(Refuse(0x6982, 'not him'))", 0x6982),
        (0xC3, b"throw(MemoryError())", 0x6F01),
        (0xC3, b"throw(TimeoutError())", 0x6F04),
        (0xC3, b"throw(ValueError('a secret'))", 0x6F00),
        (0xC3, b"throw(SystemExit(3))", 0x6F00),
        (0xC3, b"throw(KeyboardInterrupt())", 0x6F00),
        (0xC3, b"throw(StopIteration())", 0x6F00),
        (0xC3, b"chr(228)", 0x6F00),
        (0xC4, b"None", 0x6F00),
        (0xC4, b"7", 0x6F00),
        (0xC4, b"Number(1 << 40)", 0x6F00),
    ],
)
def test_what_goes_wrong_in_a_handler(running: Worker, code: int, body: bytes, sw: int) -> None:
    found, note, reply = running.ask(code, body)
    assert (found, reply) == (sw, b"")
    assert "secret" not in note
    assert running.ask(0xC0, b"\0\0\0\4")[0] == 0x9000  # it goes on


def test_notes_say_what_and_where(running: Worker) -> None:
    _, note, _ = running.ask(0xC3, b"throw(ValueError('a secret'))")
    assert note.startswith("ValueError < ")
    assert "handlers.py" in note
    assert "in throw" in note
    assert running.ask(0xC3, b"throw(Refuse(0x6982, 'not him'))")[1] == "not him"


def test_four_are_in_work_at_a_time(running: Worker) -> None:
    """Each waits for the three others."""
    for number in range(4):
        running.socket.sendall(pack_request(number, 0xC3, 0, 0, b"met.wait() >= 0"))
    answers = [unpack_answer(running.read()[1]) for _ in range(4)]
    assert sorted(number for number, *_ in answers) == [0, 1, 2, 3]
    assert {(sw, reply) for _, sw, _, reply in answers} == {(0x9000, b"True")}


def test_it_ends_with_asyd_whatever_it_does(running: Worker) -> None:
    running.socket.sendall(pack_request(1, 0xC3, 0, 0, b"threading.Event().wait()"))
    assert running.ask(0xC0, b"\0\0\0\4", 2)[0] == 0x9000
    running.socket.shutdown(socket.SHUT_WR)
    assert running.ended() == 0


@pytest.mark.parametrize("said", [message(0x55, b""), b"\0\0\0\0", message(1, b"\0")])
def test_asyd_has_to_keep_to_the_wire_as_well(running: Worker, said: bytes) -> None:
    running.socket.sendall(said)
    assert running.ended() == 1


def test_it_takes_a_socket_that_listens(start: Callable[..., Worker], tmp_path: Path) -> None:
    """As from systemd."""
    made = start(listens=str(tmp_path / "sock"))
    assert made.read()[0] == HELLO
    assert made.ask(0xC0, b"\0\0\0\4")[0] == 0x9000


@pytest.mark.parametrize(
    ("domain", "why"),
    [("b.example", "no vendor b.example is installed; installed: a.example"), ("x", "no domain")],
)
def test_it_says_why_there_is_no_vendor(
    start: Callable[..., Worker], domain: str, why: str
) -> None:
    made = start(domain)
    kind, body = made.read()
    assert kind == FAILED
    assert why in body.decode()
    assert made.ended() == 1


def test_its_code_may_fail_to_import(start: Callable[..., Worker], packages: Packages) -> None:
    packages.add("c.example", {"DOUBLE": "0xC0"}, "raise RuntimeError('broken')")
    made = start("c.example")
    kind, body = made.read()
    assert kind == FAILED
    assert "cannot be imported: RuntimeError: broken" in body.decode()


@pytest.fixture
def work(packages: Packages, monkeypatch: pytest.MonkeyPatch) -> Iterator[worker.Work]:
    """The handlers in this process."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(packages.directory)
    vendor = find(DOMAIN).load()
    yield worker.Work(vendor, handlers_of(vendor))
    for name in set(sys.modules) - before:
        if name.startswith("vendor_"):
            del sys.modules[name]


async def test_handlers_without_a_process(work: worker.Work) -> None:
    async def ask(code: int, body: bytes) -> Any:
        [(_, answer)] = Messages(MAX_TO_NODE).feed(await work.answer(1, code, 0, 0, body))
        return unpack_answer(answer)[1:]

    assert await ask(0xC0, b"\0\0\0\2") == (0x9000, "", b"\0\0\0\4")
    assert await ask(0xC1, b"\0\0\0\2") == (0x9000, "", b"\0\0\0\3")
    assert await ask(0xC4, b"later(Number(1))") == (0x9000, "", b"\0\0\0\2")
    assert (await ask(0xC4, b"Text('a')"))[0] == 0x6F00
