"""An asyd that is a service of a box, with vendors whose workers are units of it.

The box has cgroup v2 without the controllers for memory and CPU, which are on v1 outside: systemd
takes MemoryMax and CPUQuota, and what holds there are the resource limits.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.daemon import AGENT, COMMAND, write_agents
from support.frames import OK
from support.raw_agent import RawAgent
from support.systemd_box import SystemdBox
from support.vendors import Packages

GOOD, BAD = "good.example", "bad.example"
INSTRUCTIONS = {
    "DOUBLE": "0xC0",
    "SLEEP": "0xC1",
    "HOG": "0xC2",
    "CRASH": "0xC3",
    "LOOK": "0xC4, request=Text, reply=Text",
}
HANDLERS = """
import ctypes, os, resource, signal, socket, threading
from pathlib import Path

@handler(DOUBLE)
def double(request):
    return Number(2 * request.number)

@handler(SLEEP)
def sleep(request):
    threading.Event().wait()

@handler(HOG)
def hog(request):
    return Number(len(bytearray(1 << 30)))

@handler(CRASH)
def crash(request):
    os._exit(3)

@handler(LOOK)
def look(request):
    try:
        return Text(repr(eval(request.text)))
    except Exception as error:
        return Text(repr(type(error).__name__))
"""
UNIT = """\
[Service]
Type=notify
NotifyAccess=all
{environment}
ExecStart={python} -c "import sys; sys.path.append('/run/box/vendors'); {command}" {words}
"""


class Asyd:
    """An asyd that is a service of the box."""

    def __init__(self, box: SystemdBox, packages: Packages) -> None:
        self.box = box
        self.ids = packages.ids
        self.agent = RawAgent(str(box.share / "asyd.sock"))
        self.agent.handshake(AGENT)

    @property
    def pid(self) -> int:
        """As the box counts."""
        return int(self.box.property("test-asyd.service", "MainPID"))

    def ask(self, domain: str, code: int, body: bytes = b"\0\0\0\1") -> bytes:
        """The whole answer."""
        payload = self.ids[domain].to_bytes(4, "big") + body
        return self.agent.ask(self.agent.signed(code, payload))

    def again(self, domain: str) -> bytes:
        """What DOUBLE is answered, once there is a worker again."""
        answer = self.ask(domain, 0xC0)
        while answer.hex() == "6400":
            answer = self.ask(domain, 0xC0)
        return answer

    def look(self, domain: str, expression: str) -> Any:
        """What an expression is, in the worker; the name of an exception where it has none."""
        answer = self.ask(domain, 0xC4, expression.encode())
        assert answer[-2:] == OK, answer.hex()
        return ast.literal_eval(answer[:-2].decode())


@contextmanager
def service(box: SystemdBox, packages: Packages, *enabled: str) -> Iterator[Asyd]:
    """An asyd with these vendors, as a service of the box."""
    config = box.share / "asyd"
    config.mkdir(mode=0o700, exist_ok=True)
    write_agents(config, {AGENT: f"agent caps=core,vendor,process vendors={GOOD},{BAD}"})
    words = ["--config-dir", "/run/box/asyd", "--listen", "unix:/run/box/asyd.sock"]
    words += ["--audit", "off", "--handshake-rate", "0"]
    words += [word for one in enabled for word in ("--vendor", one)]
    name = "test-asyd.service"
    measured = [
        f'Environment="{k}={v}"' for k, v in os.environ.items() if k.startswith("COVERAGE_")
    ]
    text = UNIT.format(
        python=sys.executable,
        command=COMMAND,
        words=" ".join(words),
        environment="\n".join(measured),
    )
    box.unit(name, text)
    try:
        box.run("systemctl", "start", name)
        asyd = Asyd(box, packages)
        try:
            yield asyd
        finally:
            asyd.agent.close()
            box.run("systemctl", "stop", name)
    finally:
        box.remove_unit(name)
        box.run("systemctl", "reset-failed", unit("*"), check=False)


@contextmanager
def installed(box: SystemdBox) -> Iterator[Packages]:
    """Both vendors, in the box."""
    made = Packages(box.share / "vendors")
    try:
        for domain in (GOOD, BAD):
            made.add(domain, INSTRUCTIONS, HANDLERS)
        yield made
    finally:
        shutil.rmtree(made.directory)


def unit(domain: str) -> str:
    """The unit of a vendor's worker."""
    return f"asyd-vendor@{domain}.service"
