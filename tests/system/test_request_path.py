"""From READY on, a request opens nothing but in /proc and in cgroups, imports nothing and starts
nothing: what has run out, or hangs, would hold up asyd there.

Every built-in instruction is driven, in success and in refusal, and a vendor's; so are connections
that come and go, and what an admin asks. SIGHUP is no request: it reads a file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.isa import REGISTRY
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, COMMAND, CORE_AGENT, STRANGER, Daemon, running, write_agents
from support.delegates import AGENT_LIST, add, listing, remove, sealed
from support.frames import (
    ALREADY_RECEIVED,
    CAPS,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
    pid_payload,
)
from support.raw_agent import RawAgent
from support.request_path import Opened, children, faults, prelude, threads
from support.supervised import supervisord
from support.systemd_box import SystemdBox
from support.vendors import Packages

pytestmark = pytest.mark.root

DOMAIN = "path.example"
INSTRUCTIONS = {
    "DOUBLE": "0xC0",
    "MEASURE": "0xC1, request=Text, chainable=True",
    "FAIL": "0xC2",
}
HANDLERS = """
@handler(DOUBLE)
def double(request):
    return Number(2 * request.number)

@handler(MEASURE)
def measure(request):
    return Number(len(request.text))

@handler(FAIL)
def fail(request):
    raise ValueError
"""
NEXT_KEY = """
import time
from pathlib import Path
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.next_key import NextKey, beginning, do_all
config = ConfigDir(Path({config!r}))
do_all(iter([beginning(config, NextKey.make(config.load_key(), int(time.time()), 86400))]))
"""
"""What `asyd key rotate` does before asyd starts."""

AGENTS = {
    AGENT: f"boss caps=all,security,vendor vendors={DOMAIN} role=admin",
    CORE_AGENT: "core caps=core",
}
ADDED = PrivateKey.generate()

driven: set[int] = set()
"""Codes that have been answered with success."""


@contextmanager
def sleeper() -> Iterator[int]:
    """A process that anybody may touch; its PID."""
    with subprocess.Popen(["sleep", "infinity"], start_new_session=True) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def good(answer: bytes, ins: int) -> bytes:
    """The payload of a success, flags or not."""
    assert answer[-2:-1] in (b"\x90", b"\x91"), (hex(ins), answer.hex())
    driven.add(ins)
    return answer[:-2]


def core(agent: RawAgent) -> None:
    for ins, request in ((0, CAPS), (1, HELLO), (2, STATUS), (3, PROCS)):
        good(agent.ask(request), ins)
    for page in range(4):
        good(agent.ask(frame(0, p1=page)), 0)
    assert agent.ask(frame(0, p1=4)) == INVALID_PAYLOAD


def control(agent: RawAgent, asyd: Daemon) -> None:
    good(agent.ask(frame(0x11, bytes(4))), 0x11)
    good(agent.ask(frame(0x12, bytes(4))), 0x12)
    assert agent.ask(frame(0x11)) == WRONG_LENGTH
    assert agent.ask(agent.signed(0x10, bytes(4))) == INVALID_PAYLOAD
    with asyd.connect() as other:
        good(other.ask(HELLO), 1)
        good(agent.ask(frame(0x14)), 0x14)
        assert other.ended()


def rekey(agent: RawAgent) -> None:
    good(agent.ask(frame(0x13)), 0x13)
    agent.link.rekey()
    core(agent)


def next_key(agent: RawAgent) -> None:
    """While there is one; who asks is remembered."""
    for _ in range(2):
        good(agent.ask(frame(0x15)), 0x15)


def processes(agent: RawAgent, asyd: Daemon) -> None:
    with sleeper() as pid:
        for action in (0, 0, 1, 1):
            good(agent.ask(agent.throttle(pid, action)), 0x20)
        for payload in (pid_payload(pid), pid_payload(pid) + (60).to_bytes(4, "big")):
            good(agent.ask(agent.signed(0x21, payload, 0, 1)), 0x21)
        good(agent.ask(agent.signed(0x21, pid_payload(pid), 1)), 0x21)
        assert agent.ask(agent.signed(0x21, pid_payload(pid), 1)) == INVALID_PAYLOAD
        good(agent.ask(agent.signed(0x42, pid_payload(pid))), 0x42)
    for pid in (1, asyd.pid, *children(asyd.pid)):
        assert agent.ask(agent.throttle(pid)) == DENIED
        assert agent.ask(agent.signed(0x21, pid_payload(pid))) == DENIED
    for ins in (0x20, 0x21, 0x42):
        assert agent.ask(agent.signed(ins, pid_payload(1 << 30))) == INVALID_PAYLOAD
        assert agent.ask(agent.signed(ins, b"")) == WRONG_LENGTH
        assert agent.ask(frame(ins, pid_payload(1))) == DENIED


def logs(agent: RawAgent) -> None:
    summary = good(agent.ask(agent.signed(0x40, bytes(4), 7, 32)), 0x40)
    if summary[4]:
        good(agent.ask(agent.signed(0x41, summary[8:16], 2, 2)), 0x41)
    assert agent.ask(agent.signed(0x41, bytes(8))) == INVALID_PAYLOAD
    assert agent.ask(agent.signed(0x40, bytes(3))) == WRONG_LENGTH


def agents(agent: RawAgent, asyd: Daemon) -> None:
    for label in (b"", b"added"):
        good(add(agent, ADDED.public, label=label), 0x60)
    with asyd.connect(ADDED) as added:
        good(added.ask(STATUS), 2)
        assert added.ask(added.throttle(1)) == NO_SUCH_INSTRUCTION
        assert any(row.key == ADDED.public for row in listing(agent))
        driven.add(AGENT_LIST)
        good(remove(agent, ADDED.public), 0x61)
        assert added.ended()
    assert remove(agent, ADDED.public) == INVALID_PAYLOAD
    assert add(agent, bytes(32)) == INVALID_PAYLOAD
    assert agent.ask(agent.signed(0x60, bytes(69))) == DENIED


def vendors(agent: RawAgent, vendor: int) -> None:
    head = vendor.to_bytes(4, "big")
    good(agent.ask(agent.signed(0xC0, head + bytes(4))), 0xC0)
    agent.ask(agent.signed(0xC2, head + bytes(4)))  # whatever it answers
    assert agent.ask(agent.signed(0xC9, head)) == NO_SUCH_INSTRUCTION
    assert agent.ask(agent.signed(0xC0, bytes(8))) == DENIED
    first = good(agent.ask(agent.signed(0xC1, head + b"one", cla=0x14)), 0xC1)
    good(agent.ask(agent.signed(0x10, first[:4] + b"two", cla=0x14)), 0x10)
    last = good(agent.ask(agent.signed(0x10, first[:4] + b"three")), 0x10)
    assert last == (11).to_bytes(4, "big")


def services(agent: RawAgent, name: str) -> None:
    """Asks for a restart, and follows it to its end."""
    handle = good(agent.ask(agent.restart(name)), 0x22)
    while (state := agent.ask(frame(0x11, handle)))[:1] == b"\0":
        pass
    assert state == b"\1" + OK
    assert agent.ask(agent.restart(f"{name}.service")) == INVALID_PAYLOAD
    assert agent.ask(agent.signed(0x22)) == WRONG_LENGTH
    handle = good(agent.ask(agent.restart("no-such-one")), 0x22)
    while (state := agent.ask(frame(0x11, handle)))[:1] == b"\0":
        pass
    assert state == b"\2" + OK


def bad_frames(agent: RawAgent, asyd: Daemon) -> None:
    assert agent.ask(frame(0x99)) == NO_SUCH_INSTRUCTION
    assert agent.ask(agent.signed(0x42, pid_payload(1), seq=1)) == ALREADY_RECEIVED
    for wrong in (frame(1, cla=0x20), frame(1, cla=1), frame(1, cla=0x0C)):
        with asyd.connect() as other:
            other.send(wrong)
            assert len(other.final()) == 1
    with asyd.connect() as other:
        assert other.ask(other.signed(0x42, pid_payload(1), bad=True)) == DENIED
        assert other.ended()
    with asyd.connect() as other:
        assert other.ask(sealed(other, AGENT_LIST, bad="c")) == DENIED
        assert other.ended()
    with asyd.connect() as other:
        other.write(b"\0\3abc")
        assert other.ended()


def strangers(asyd: Daemon) -> None:
    with asyd.connect(STRANGER) as stranger:
        assert stranger.answer() == DENIED
    with asyd.dial() as nobody:
        nobody.write(b"GET / HTTP/1.1\r\n\r\n")
        assert nobody.rest() == b""
    with asyd.dial() as garbage:
        garbage.magic()
        garbage.write(bytes(96))
        assert garbage.rest() == b""
    with asyd.connect() as gone:
        gone.reset()


def admin(asyd: Daemon) -> None:
    """What an admin asks; `asyd reload` is none of it: it reads a file."""
    for words in (("sessions", "list"), ("throttled", "list"), ("isolations", "list")):
        ask_admin(asyd, *words)
    ask_admin(asyd, "dark")
    ask_admin(asyd, "light")


def ask_admin(asyd: Daemon, *words: str) -> None:
    command = [sys.executable, "-c", COMMAND, *words, "--config-dir", str(asyd.config_dir)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_a_request_opens_imports_and_starts_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report"
    packages = Packages(tmp_path / "vendors")
    vendor = packages.add(DOMAIN, INSTRUCTIONS, HANDLERS)
    tmp_path.chmod(0o755)
    options = ["--vendor", DOMAIN, "--audit", "on", "--audit-parameters", "on"]
    driven.clear()
    pins = f"{tmp_path}/asyd/state/bpf/"
    rotated = NEXT_KEY.format(config=str(tmp_path / "asyd"))
    before = "\n".join((packages.prelude, rotated, prelude(report, pins)))
    with (
        supervisord({"web": "sleep infinity"}) as url,
        running(tmp_path, *options, "--supervisord", url, agents=AGENTS, prelude=before) as asyd,
    ):
        there = threads(asyd.pid), children(asyd.pid)
        with Opened(asyd.pid, tmp_path) as opened:
            for _ in range(2):  # what is only done the first time, and what every time
                with asyd.connect() as agent:
                    core(agent)
                    control(agent, asyd)
                    next_key(agent)
                    processes(agent, asyd)
                    logs(agent)
                    agents(agent, asyd)
                    vendors(agent, vendor)
                    services(agent, "web")
                    rekey(agent)
                    bad_frames(agent, asyd)
                strangers(asyd)
            admin(asyd)
        assert (threads(asyd.pid), children(asyd.pid)) == there
        assert faults(report) == []
    assert opened.paths == []
    assert driven >= {one.code for one in REGISTRY} - {0x41}


@pytest.mark.parametrize(("error", "sw"), [("ValueError", "6fff"), ("MemoryError", "6f01")])
def test_nor_does_what_nobody_foresaw(tmp_path: Path, error: str, sw: str) -> None:
    """It is logged with its traceback, and the lines of source in that are on a disk."""
    report = tmp_path / "report"
    breaks = (
        "from asys.node import server\n"
        "def fails(*arguments):\n"
        f"    raise {error}\n"
        "server.Node.caps_reply = fails\n"
    )
    with running(tmp_path, agents=AGENTS, prelude=prelude(report) + breaks) as asyd:
        with Opened(asyd.pid) as opened, asyd.connect() as agent:
            assert agent.ask(CAPS).hex() == sw
            assert agent.alive()
            asyd.wait_for("SYS_CAPS for boss failed")
        assert faults(report) == []
        asyd.log.clear()  # or it would count as a fault
    assert opened.paths == []


@pytest.mark.parametrize("how", ["freeze", "cpu:20"])
def test_nor_does_it_where_cgroups_stop_processes(tmp_path: Path, how: str) -> None:
    report = tmp_path / "report"
    with (
        running(tmp_path, "--throttle", how, agents=AGENTS, prelude=prelude(report)) as asyd,
        sleeper() as pid,
    ):
        there = threads(asyd.pid), children(asyd.pid)
        with Opened(asyd.pid, tmp_path) as opened, asyd.connect() as agent:
            for _ in range(2):
                assert agent.ask(agent.throttle(pid)) == OK
                assert agent.ask(agent.throttle(pid, 1)) == OK
        assert (threads(asyd.pid), children(asyd.pid)) == there
        assert faults(report) == []
    assert opened.paths == []


def test_nor_does_a_restart_through_systemd(box: SystemdBox) -> None:
    name = "request-path"
    config = box.share / name
    config.mkdir(mode=0o700)
    write_agents(config, {AGENT: "boss caps=core,process"})
    report = box.share / f"{name}.report"
    service = box.service()
    box.run("systemctl", "start", service)
    asyd = box.popen(
        *(sys.executable, "-c", prelude(f"/run/box/{name}.report") + COMMAND),
        *("--config-dir", f"/run/box/{name}", "--listen", f"unix:/run/box/{name}.sock"),
        *("--audit", "off"),
    )
    assert asyd.stdout is not None
    assert asyd.stdout.readline().startswith("READY")
    with RawAgent(str(box.share / f"{name}.sock")) as agent:
        agent.handshake(AGENT)
        for _ in range(2):
            services(agent, service)
    box.run("systemctl", "restart", "dbus.service")
    with RawAgent(str(box.share / f"{name}.sock")) as agent:
        agent.handshake(AGENT)
        services(agent, service)
    assert faults(report) == []
    shutil.rmtree(config)
    report.unlink()


CONTROLS = {
    "open": "open('/etc/hostname').close()",
    "import": "import this_is_no_module",
    "_thread.start_new_thread": "import threading; threading.Thread(target=int).start()",
    "subprocess.Popen": "import subprocess; subprocess.run(['true'])",
}


@pytest.mark.parametrize("event", CONTROLS)
def test_what_a_handler_does_is_seen(tmp_path: Path, event: str) -> None:
    """The control: an instruction that does it."""
    report = tmp_path / "report"
    does = (
        "import threading, subprocess\n"
        "from asys.node import sampler\n"
        "really = sampler.Sampler.wake\n"
        "def wake(self):\n"
        "    try:\n"
        f"        {CONTROLS[event]}\n"
        "    except ImportError:\n"
        "        pass\n"
        "    really(self)\n"
        "sampler.Sampler.wake = wake\n"
    )
    with running(tmp_path, agents=AGENTS, prelude=prelude(report) + does) as asyd:
        with Opened(asyd.pid) as opened, asyd.connect() as agent:
            assert agent.ask(HELLO)[-2:] == OK
        seen = faults(report)
    assert [line for line in seen if line.startswith(f"{event} ")], seen
    assert ("/etc/hostname" in opened.paths) is (event == "open")
