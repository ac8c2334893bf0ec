"""What `asys-mcp` says and does when asyd goes away in the middle of a call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.children import suspended, waiting
from support.daemon import AGENT, PATIENCE, Daemon
from support.mcp_host import Desk, said, state
from support.own_daemon import argv, config

ESTABLISHED = "01"


@contextmanager
def started(config_dir: Path, port: int = 0) -> Iterator[Daemon]:
    """An asyd that a test may kill."""
    daemon = Daemon(config_dir, argv(config_dir, "--port", str(port)), read_log=True)
    try:
        daemon.await_ready()
        yield daemon
    finally:
        daemon.kill()


def unread(port: int) -> int:
    """Bytes that have arrived at a port of loopback, on all connections, and were not read."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, status, queues = line.split()[1:5]
        if status == ESTABLISHED and int(local.partition(":")[2], 16) == port:
            found += int(queues.partition(":")[2], 16)
    return found


async def killed_under(daemon: Daemon, call: asyncio.Task[object]) -> None:
    """Kills an asyd that has been stopped, once it has been sent something."""
    async with asyncio.timeout(PATIENCE):
        while not unread(daemon.endpoint[1]):
            assert not call.done(), call.result()
            await asyncio.sleep(0.01)
    daemon.kill()


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    return config(tmp_path)


async def test_killed_while_it_acts(config_dir: Path, tmp_path: Path) -> None:
    with started(config_dir) as asyd, waiting() as child:
        arguments = {"pid": child.pid, "action": "stop"}
        desk = Desk(tmp_path, asyd, key=AGENT)
        async with desk.stdio("--allow-changes", "--confirm", "host") as client:
            os.kill(asyd.pid, signal.SIGSTOP)
            call = asyncio.create_task(client.call_tool("proc_throttle", arguments))
            await killed_under(asyd, call)
            result = await call
            assert result.is_error
            assert "not known whether this has run" in said(result)
            assert state(child.pid) != "T"
            # While it is away.
            result = await client.call_tool("sys_status", {})
            assert result.is_error
            assert "cannot reach" in said(result)
            with started(config_dir, asyd.endpoint[1]):
                # Nothing is sent again by itself, and nothing is done to a PID of before.
                assert not (await client.call_tool("sys_status", {})).is_error
                result = await client.call_tool("proc_throttle", arguments)
                assert result.is_error
                assert "look again" in said(result)
                assert state(child.pid) != "T"
                assert not (await client.call_tool("sys_procs", {})).is_error
                assert not (await client.call_tool("proc_throttle", arguments)).is_error
                suspended(child.pid)


async def test_killed_while_it_tells(config_dir: Path, tmp_path: Path) -> None:
    with started(config_dir) as asyd:
        desk = Desk(tmp_path, asyd, key=AGENT)
        async with desk.stdio() as client:
            os.kill(asyd.pid, signal.SIGSTOP)
            call = asyncio.create_task(client.call_tool("sys_status", {}))
            await killed_under(asyd, call)
            result = await call
            assert result.is_error
            assert "no answer from the node" in said(result)
            # The list is what it last was; the node itself refuses what is not granted any more.
            assert (await client.list_tools()).tools
            with started(config_dir, asyd.endpoint[1]):
                assert not (await client.call_tool("sys_status", {})).is_error


async def test_another_node_in_its_place(config_dir: Path, tmp_path: Path) -> None:
    with started(config_dir) as asyd:
        port = asyd.endpoint[1]
        desk = Desk(tmp_path, asyd, key=AGENT)
        async with desk.stdio() as client:
            asyd.kill()
            (tmp_path / "other").mkdir()
            with started(config(tmp_path / "other"), port) as other:
                assert other.key != asyd.key
                result = await client.call_tool("sys_status", {})
                assert result.is_error
                assert "HAS CHANGED" in said(result)
