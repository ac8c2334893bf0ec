"""Processes that talk over a network of their own, when a test says so.

    with Wire() as wire:
        talker = wire.talker()
        talker.do("tcp", "old", *wire.tcp4)
        assert talker.echoes("old")

Two network namespaces with one wire between them: talkers at this end, a server that echoes at the
other. What holds the namespaces, and every process in them, ends with the block.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

PROGRAM: Final = Path(__file__).with_name("talker_program.py")
NEAR_4, FAR_4 = "192.0.2.1", "192.0.2.2"
NEAR_6, FAR_6 = "2001:db8::1", "2001:db8::2"

ROUNDS: Final = 5
"""Round trips of somebody else, after which what was sent before would have come back."""


class Talker:
    """One process. `path` names the child of it that is meant, from child to child."""

    def __init__(
        self, process: subprocess.Popen[str], pid: int, path: tuple[str, ...] = ()
    ) -> None:
        self._process = process
        self._path = path
        self.pid: Final = pid

    def do(self, verb: str, *arguments: Any) -> Any:
        """Has it do something, and gives its answer. OSError as it met it."""
        order: list[Any] = [verb, *arguments]
        for name in reversed(self._path):
            order = ["tell", name, *order]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the talker has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise OSError(*answer["error"])
        return answer["answer"]

    def child(self, name: str) -> Talker:
        """A child of it."""
        pid = self.do("child", name)
        return Talker(self._process, pid, (*self._path, name))

    def echoes(self, name: str, text: str = "hello") -> bool:
        """Sends, and waits for it to come back."""
        self.do("send", name, text)
        got = ""
        while len(got) < len(text):
            part = self.do("recv", name)
            assert part, "the connection has ended"
            got += part
        return bool(got == text)

    def end(self) -> None:
        """Kills it, and waits until it is gone."""
        os.kill(self.pid, 9)
        if not self._path:
            self._process.wait()


class Wire:
    """The two namespaces."""

    def __init__(self) -> None:
        self._exit = ExitStack()

    def __enter__(self) -> Wire:
        with self._exit:
            self._near = self._namespace()
            self._far = self._namespace()
            self._join()
            self._server = self._run(self._far)
            server = Talker(self._server, self._server.pid)
            ports = server.do("serve", FAR_4, FAR_6, "127.0.0.1")
            self.tcp4, self.udp4 = (FAR_4, ports[0]), (FAR_4, ports[1])
            self.tcp6, self.udp6 = (FAR_6, ports[2]), (FAR_6, ports[3])
            local = self._run(self._near)
            ports = Talker(local, local.pid).do("serve", "127.0.0.1", "::1")
            self.local_tcp4, self.local_udp4 = ("127.0.0.1", ports[0]), ("127.0.0.1", ports[1])
            self.local_tcp6, self.local_udp6 = ("::1", ports[2]), ("::1", ports[3])
            self._exit = self._exit.pop_all()
        return self

    def _namespace(self) -> int:
        """The PID of a process that holds a new one."""
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._exit.callback(holder.communicate)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        return holder.pid

    def _join(self) -> None:
        near, far = "near", "far"
        self._ip(self._near, "link", "add", near, "type", "veth", "peer", far)
        self._ip(self._near, "link", "set", far, "netns", str(self._far))
        for holder, name, addresses in (
            (self._near, near, (f"{NEAR_4}/24", f"{NEAR_6}/64")),
            (self._far, far, (f"{FAR_4}/24", f"{FAR_6}/64")),
        ):
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                self._ip(holder, "addr", "add", address, "dev", name, *nodad)
            self._ip(holder, "link", "set", name, "up")

    def _ip(self, holder: int, *arguments: str) -> None:
        command = ["nsenter", f"--net=/proc/{holder}/ns/net", "ip", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def _run(self, holder: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{holder}/ns/net", sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._exit.callback(_kill, process)
        return process

    def talker(self, *, far: bool = False) -> Talker:
        """A process at this end, or beside the server."""
        process = self._run(self._far if far else self._near)
        return Talker(process, process.pid)

    def settle(self, bystander: Talker, name: str) -> None:
        """Returns when what was sent before would have come back: others' words have."""
        for _ in range(ROUNDS):
            assert bystander.echoes(name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
