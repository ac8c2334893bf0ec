"""SVC_RESTART's way to a real supervisord."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from supervisor.xmlrpc import SupervisorTransport

from asys.isa import TaskStatus
from asys.node.platform.base import NoSuchTarget, NotPermitted, SystemFailure
from asys.node.platform.services.supervisord import Supervisord
from asys.protocol.status import SW
from support.jobs import SECONDS, outcome

STUBBORN = """\
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""
"""Tells through a pipe that it ignores SIGTERM from now on."""

CONFIG = """\
[supervisord]
nodaemon=true
pidfile={dir}/supervisord.pid
logfile={dir}/supervisord.log
childlogdir={dir}
user={user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
{server}

[program:plain]
command=/bin/sleep 3600
startsecs=0
[program:idle]
command=/bin/sleep 3600
autostart=false
startsecs=0
[program:broken]
command=/bin/false
autostart=false
startretries=0
[program:absent]
command={dir}/no-such-file
autostart=false

[program:many]
command=/bin/sleep 3600
process_name=many-%(process_num)d
numprocs=2
startsecs=0

[program:part]
command=/bin/sleep 3600
autostart=false
startsecs=0
[program:half]
command=/bin/false
autostart=false
startretries=0
[group:mixed]
programs=part,half

[program:twin]
command=/bin/sleep 3600
autostart=false
[group:left]
programs=twin
[program:stubborn]
command={python} {dir}/stubborn.py {dir}/ignores-sigterm
stopwaitsecs=3600
autostart=false
startsecs=0
"""

AUTOSTARTED = {"plain", "many-0", "many-1"}
USER, SECRET = "asyd", "secret/word"
LOGIN = f"username={USER}\npassword={SECRET}\n"


class Daemon:
    """A supervisord of its own."""

    def __init__(self, directory: Path, server: str) -> None:
        self.directory = directory
        (directory / "stubborn.py").write_text(STUBBORN)
        os.mkfifo(directory / "ignores-sigterm")
        config = directory / "supervisord.conf"
        config.write_text(
            CONFIG.format(dir=directory, python=sys.executable, user=os.geteuid(), server=server)
        )
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("supervisord"), "-c", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        missing, log = AUTOSTARTED, ""
        for line in self.process.stdout:
            log += line
            if "entered RUNNING state" in line:
                missing = {name for name in missing if f"success: {name} " not in line}
            if not missing:
                return
        self.stop()
        raise RuntimeError(f"supervisord ended:\n{log}")

    @property
    def path(self) -> Path:
        """Where its Unix socket is."""
        return self.directory / "s"

    def info(self, name: str) -> dict[str, Any]:
        """What it tells its own client about a program."""
        with self._client() as client:
            info = client.supervisor.getProcessInfo(name)
        assert isinstance(info, dict)
        return info

    def shut_down(self) -> None:
        """Tells it to end once its programs have."""
        with self._client() as client:
            client.supervisor.shutdown()

    def _client(self) -> xmlrpc.client.ServerProxy:
        transport = SupervisorTransport(USER, SECRET, f"unix://{self.path}")
        return xmlrpc.client.ServerProxy("http://unused", transport)

    def stop(self) -> None:
        """Ends it and its programs at once; suspended, it can start none anew meanwhile."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGSTOP)
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        self.process.kill()
        self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """For tests that leave it alive."""
    directory = tmp_path_factory.mktemp("supervisord")
    daemon = Daemon(directory, f"[unix_http_server]\nfile={directory}/s\n")
    yield daemon
    daemon.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """For one test alone."""
    daemon = Daemon(tmp_path, f"[unix_http_server]\nfile={tmp_path}/s\n")
    yield daemon
    daemon.stop()


@pytest.fixture
async def manager(shared: Daemon) -> AsyncIterator[Supervisord]:
    manager = Supervisord(f"unix://{shared.path}", call_timeout_s=SECONDS)
    yield manager
    await manager.close()


async def test_a_program_is_restarted(shared: Daemon, manager: Supervisord) -> None:
    before = shared.info("plain")["pid"]
    assert await manager.resolve("plain") == "plain"
    job = await manager.restart("plain")
    assert await outcome(job) is TaskStatus.SUCCESS
    assert await outcome(job) is TaskStatus.SUCCESS
    after = shared.info("plain")
    assert after["statename"] == "RUNNING"
    assert after["pid"] not in (0, before)


async def test_a_program_that_does_not_run_is_started(shared: Daemon, manager: Supervisord) -> None:
    assert await outcome(await manager.restart("idle")) is TaskStatus.SUCCESS
    assert shared.info("idle")["statename"] == "RUNNING"


def test_it_works_on_uvloop(shared: Daemon) -> None:
    async def restart() -> TaskStatus:
        manager = Supervisord(f"unix://{shared.path}", call_timeout_s=SECONDS)
        try:
            return await outcome(await manager.restart(await manager.resolve("plain")))
        finally:
            await manager.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(restart()) is TaskStatus.SUCCESS


@pytest.mark.parametrize("name", ["broken", "absent", "mixed:*"])
async def test_what_does_not_start_is_a_failed_job_and_the_log_says_why(
    shared: Daemon, manager: Supervisord, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await outcome(await manager.restart(name)) is TaskStatus.FAILED
    assert f"supervisord did not restart {name}" in caplog.text


@pytest.mark.parametrize("name", ["no-such-thing", "part", "mixed", "no-such-thing:*", "twin:x"])
async def test_what_supervisord_does_not_have(manager: Supervisord, name: str) -> None:
    with pytest.raises(NoSuchTarget, match=f"no program {name.replace('*', '.')}"):
        await manager.restart(name)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("plain", "plain"),
        ("many", "many:*"),
        ("many-1", "many:many-1"),
        ("mixed", "mixed:*"),
        ("part", "mixed:part"),
        ("left", "left:twin"),
        ("twin", "left:twin"),
        ("no-such-thing", "no-such-thing"),
    ],
)
async def test_names_are_resolved(manager: Supervisord, name: str, unit: str) -> None:
    assert await manager.resolve(name) == unit


async def test_a_group_is_restarted_as_a_whole_or_in_part(
    shared: Daemon, manager: Supervisord
) -> None:
    names = ["many:many-0", "many:many-1"]
    before = [shared.info(name)["pid"] for name in names]
    assert await outcome(await manager.restart("many:*")) is TaskStatus.SUCCESS
    after = [shared.info(name)["pid"] for name in names]
    assert not set(before) & set(after)
    assert await outcome(await manager.restart("many:many-0")) is TaskStatus.SUCCESS
    assert shared.info("many:many-0")["pid"] != after[0]
    assert shared.info("many:many-1")["pid"] == after[1]


async def test_restarts_of_one_group_do_not_get_in_each_others_way(
    shared: Daemon, manager: Supervisord
) -> None:
    units = ["many:many-0", "many:*", "many:many-0", "plain"]
    jobs = [await manager.restart(unit) for unit in units]
    results = await asyncio.gather(*(outcome(job) for job in jobs))
    assert results == [TaskStatus.SUCCESS] * len(units)


async def test_a_stop_that_takes_for_ever_and_a_wait_that_was_given_up(own: Daemon) -> None:
    manager = Supervisord(f"unix://{own.path}", call_timeout_s=SECONDS)
    job = await manager.restart("stubborn")
    await asyncio.to_thread((own.directory / "ignores-sigterm").read_text)
    assert await outcome(job) is TaskStatus.SUCCESS
    job = await manager.restart("stubborn")
    waiting = asyncio.create_task(job.wait())
    await manager.resolve("stubborn")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await manager.close()
    assert await outcome(job) is TaskStatus.FAILED
    await manager.close()


async def test_nothing_is_taken_out_of_a_queue_that_is_not_there(
    shared: Daemon, manager: Supervisord
) -> None:
    job = await manager.restart("plain")
    assert await job.cancel() is TaskStatus.PENDING
    assert await outcome(job) is TaskStatus.SUCCESS
    assert await job.cancel() is TaskStatus.SUCCESS


async def test_a_supervisord_that_dies_under_a_job(own: Daemon) -> None:
    manager = Supervisord(f"unix://{own.path}", call_timeout_s=SECONDS)
    await outcome(await manager.restart("stubborn"))
    await asyncio.to_thread((own.directory / "ignores-sigterm").read_text)
    job = await manager.restart("stubborn")
    while own.info("stubborn")["statename"] != "STOPPING":
        await manager.resolve("stubborn")
    own.stop()
    assert await outcome(job) is TaskStatus.FAILED
    with pytest.raises(SystemFailure) as caught:
        await manager.resolve("stubborn")
    assert caught.value.sw == SW.NODE_IO_ERROR
    await manager.close()


async def test_a_supervisord_that_is_about_to_end(own: Daemon) -> None:
    manager = Supervisord(f"unix://{own.path}", call_timeout_s=SECONDS)
    await outcome(await manager.restart("stubborn"))
    await asyncio.to_thread((own.directory / "ignores-sigterm").read_text)
    own.shut_down()  # which waits for the stubborn one
    with pytest.raises(SystemFailure, match="SHUTDOWN_STATE"):
        await manager.restart("plain")
    await manager.close()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A TCP port on the loopback that nobody else is given: it is taken, but nobody listens."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("kind", ["unix", "inet"])
async def test_user_and_password(
    tmp_path: Path, free_port: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, url = {
        "unix": (f"[unix_http_server]\nfile={tmp_path}/s\n", f"unix://{{}}{tmp_path}/s"),
        "inet": (
            f"[inet_http_server]\nport=127.0.0.1:{free_port}\n",
            f"http://{{}}127.0.0.1:{free_port}",
        ),
    }[kind]
    daemon = Daemon(tmp_path, server + LOGIN)
    try:
        with caplog.at_level(logging.DEBUG):
            good = Supervisord(url.format("asyd:secret%2Fword@"), call_timeout_s=SECONDS)
            assert await outcome(await good.restart("plain")) is TaskStatus.SUCCESS
            assert await outcome(await good.restart("broken")) is TaskStatus.FAILED
            for login in ("", "asyd:secret@", "secret%2Fword@"):
                with pytest.raises(NotPermitted) as caught:
                    await Supervisord(url.format(login)).resolve("plain")
                assert "secret" not in str(caught.value)
        assert "did not restart broken" in caplog.text
        assert "secret" not in caplog.text
        assert "secret" not in repr(good)
        await good.close()
    finally:
        daemon.stop()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Supervisord("unix:///run/supervisor.sock")
    monkeypatch.delenv("SUPERVISOR_GROUP_NAME", raising=False)
    monkeypatch.delenv("SUPERVISOR_PROCESS_NAME", raising=False)
    assert manager.refusal("asyd") == ""
    assert manager.refusal("nginx:*") == ""
    for unit in ("dbus", "base:dbus-daemon", "dbus-broker:*"):
        assert manager.refusal(unit) == "the message bus"
    for unit in ("journald", "base:systemd-journald"):
        assert manager.refusal(unit) == "the journal"
    monkeypatch.setenv("SUPERVISOR_GROUP_NAME", "agents")
    monkeypatch.setenv("SUPERVISOR_PROCESS_NAME", "asyd")
    assert manager.refusal("agents:asyd") == "asyd itself"
    assert manager.refusal("agents:*") == "asyd itself"
    assert manager.refusal("agents:other") == ""
    assert manager.refusal("asyd") == ""
    monkeypatch.setenv("SUPERVISOR_GROUP_NAME", "asyd")
    assert manager.refusal("asyd") == "asyd itself"
