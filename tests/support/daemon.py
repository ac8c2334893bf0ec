"""A real asyd in a process of its own, as an admin would start it.

    with running(tmp_path, agents={AGENT: "caps=all"}) as asyd:
        with asyd.connect(AGENT) as agent: ...

The end of the block sends SIGTERM and asserts that asyd ends by it with status 0.
"""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from asys.protocol.keys import PrivateKey
from support.raw_agent import Address, RawAgent

PATIENCE: Final = 60.0
"""Seconds until a daemon that does not do what it should counts as broken."""

COMMAND: Final = "import sys; from asys.cli.daemon import main; sys.exit(main())"

AGENT: Final = PrivateKey.generate()
"""The agent of tests that need one, and do not care which."""

CORE_AGENT: Final = PrivateKey.generate()
"""Another one, for what must not concern it or be granted to it."""

DEPLOYED_AGENT: Final = PrivateKey.generate()
"""One that holds what every agent of a deployed node holds: `DEPLOYED_CAPS`."""

DEPLOYED_CAPS: Final = "00,01,02,03,11,20,22"

STRANGER: Final = PrivateKey.generate()
"""One that nobody has authorised."""

LOOPS: Final = {"uvloop": "", "asyncio": "import sys; sys.modules['uvloop'] = None;"}
"""Preludes that make asyd run on each event loop that it can run on."""

_READY: Final = re.compile(r"READY (\S+) ([0-9a-f]{64})\n")
_LISTENS: Final = re.compile(r" listens on (\S+)$")


class Daemon:
    """One asyd. `log` has its lines so far, unless they are left unread."""

    def __init__(self, config_dir: Path, command: Sequence[str], *, read_log: bool) -> None:
        self.config_dir: Final = config_dir
        self.log: list[str] = []
        self.key = b""
        self.ready = ""
        self.process: Final = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._said = threading.Condition()
        self._reader: threading.Thread | None = None
        if read_log:
            self._reader = threading.Thread(target=self._collect, name="asyd-stderr")
            self._reader.start()

    @property
    def pid(self) -> int:
        """Of the daemon itself."""
        return self.process.pid

    @property
    def addresses(self) -> list[Address]:
        """Everything that it says it listens on, in order."""
        found = [match[1] for line in self.log if (match := _LISTENS.search(line))]
        return [_address(one) for one in found]

    @property
    def address(self) -> Address:
        """What its READY line names."""
        return _address(self.ready)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of its READY line."""
        assert not isinstance(self.address, str)
        return self.address

    def await_ready(self) -> None:
        """Returns when the READY line has come."""
        line = _line(_pipe(self.process.stdout))
        match = _READY.fullmatch(line)
        if match is None:
            self.kill()
            raise AssertionError(f"asyd said {line!r} and not READY; its log: {self.log}")
        self.ready = match[1]
        self.key = bytes.fromhex(match[2])

    def connect(self, key: PrivateKey = AGENT, address: Address | None = None) -> RawAgent:
        """An agent with an open session."""
        agent = RawAgent(address or self.address)
        try:
            agent.handshake(key)
        except BaseException:
            agent.close()
            raise
        return agent

    def dial(self, address: Address | None = None) -> RawAgent:
        """A connection on which nothing has been sent."""
        return RawAgent(address or self.address)

    def authorize(self, agents: Mapping[PrivateKey, str]) -> None:
        """Writes `authorized_agents` anew; asyd does not know of it yet."""
        write_agents(self.config_dir, agents)

    def reload(self, agents: Mapping[PrivateKey, str]) -> None:
        """Changes the agents, and returns when asyd holds by them."""
        seen = self.said("agents in")
        self.authorize(agents)
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("agents in", times=seen + 1)

    def said(self, text: str) -> int:
        """How many lines of the log so far have `text` in them."""
        with self._said:
            return sum(text in line for line in self.log)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Returns when so many lines of the log have `text` in them."""
        with self._said:
            found = self._said.wait_for(
                lambda: sum(text in line for line in self.log) >= times, PATIENCE
            )
        assert found, f"asyd did not log {text!r}; its log: {self.log}"

    def stop(self) -> None:
        """Ends it as an admin would; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        finally:
            self.kill()
        assert status == 0, f"asyd ended with status {status}; its log: {self.log}"
        assert not self.faults, "asyd logged faults:\n" + "\n".join(self.log)

    @property
    def faults(self) -> list[str]:
        """What it logged that no peer should be able to cause."""
        return [line for line in self.log if " ERROR " in line or "Traceback" in line]

    def kill(self) -> None:
        """Sees to it that nothing is left of it."""
        self.process.kill()
        self.process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            _pipe(pipe).close()

    def _collect(self) -> None:
        for line in _pipe(self.process.stderr):
            with self._said:
                self.log.append(line.rstrip("\n"))
                self._said.notify_all()

    # -- what it costs

    def cpu_ticks(self) -> int:
        """CPU time so far, in clock ticks of 10 ms."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return int(fields[11]) + int(fields[12])

    def switches(self) -> int:
        """How often its main thread has gone to sleep."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.MULTILINE)[0])

    def resident_kb(self) -> int:
        """Its share of memory (PSS)."""
        return self._memory("Pss")

    def anonymous_kb(self) -> int:
        """What it has of memory that is neither of a file nor shared."""
        return self._memory("Pss_Anon")

    def _memory(self, what: str) -> int:
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.findall(rf"^{what}:\s*(\d+) kB$", rollup, re.MULTILINE)[0])


@contextmanager
def running(
    directory: Path,
    *options: str,
    agents: Mapping[PrivateKey, str],
    listen: Sequence[str] = ("127.0.0.1",),
    prelude: str = "",
    launcher: Sequence[str] = (),
    read_log: bool = True,
    count_handshakes: bool = False,
) -> Iterator[Daemon]:
    """An asyd with its files in `directory`, on ports of its own.

    `agents` are the lines of `authorized_agents`: behind each key its label and options. `prelude`
    is Python that runs in the daemon's process before it, `launcher` a command that starts it.
    Without `read_log` nobody reads stderr. All agents of tests have one address, so asyd does not
    limit its handshakes unless it is to `count_handshakes`, or `options` name a rate. Nothing is on
    record unless `options` say something of the audit.
    """
    config_dir = directory / "asyd"
    config_dir.mkdir(mode=0o700)
    write_agents(config_dir, agents)
    listens = [word for one in listen for word in ("--listen", one)]
    rate = () if count_handshakes or "--handshake-rate" in options else ("--handshake-rate", "0")
    command = [*launcher, sys.executable, "-c", prelude + COMMAND, "--config-dir", str(config_dir)]
    command += [*listens, "--port", "0", *rate, *unrecorded(options), *options]
    daemon = Daemon(config_dir, command, read_log=read_log)
    try:
        daemon.await_ready()
        if read_log:
            daemon.wait_for(" platform ")  # behind it, every address has been logged
        yield daemon
    except BaseException:
        daemon.kill()
        raise
    daemon.stop()


def unrecorded(options: Sequence[str]) -> tuple[str, ...]:
    """What leaves the audit out, with the processes that it has, where no option is about it."""
    return () if any(one.startswith("--audit") for one in options) else ("--audit", "off")


def write_agents(config_dir: Path, agents: Mapping[PrivateKey, str]) -> None:
    """`authorized_agents`: one line a key."""
    path = config_dir / "authorized_agents"
    path.write_text("".join(f"{key.public.hex()} {rest}\n" for key, rest in agents.items()))
    path.chmod(0o600)


def _address(written: str) -> Address:
    if written.startswith("unix:"):
        return written.removeprefix("unix:")
    host, _, port = written.rpartition(":")
    return host.strip("[]"), int(port)


def _line(pipe: IO[str]) -> str:
    """The next line, or what there is of it when the process ends or the time is over."""
    ready, _, _ = select.select([pipe], [], [], PATIENCE)
    return pipe.readline() if ready else ""


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
