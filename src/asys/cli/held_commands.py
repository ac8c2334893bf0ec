"""`asyd throttled` and `asyd isolations`: what asyd holds, and letting it go.

A running asyd is asked (asys.node.admin.verbs). Where none runs, it is done here: in an emergency
asyd may be what has failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

from asys.cli.control_commands import NotRunning, ask, duration
from asys.cli.daemon_commands import open_config, print_lines
from asys.node.admin.held import EVERYTHING, Held
from asys.node.admin.verbs import not_held
from asys.node.clock import LoopClock
from asys.node.disk.config_dir import default_config_dir
from asys.node.disk.files import ConfigError
from asys.node.disk.places import Places, places
from asys.node.held.throttled import ThrottleBook, Throttling
from asys.node.held.throttled_store import ThrottledStore
from asys.node.logs import clean
from asys.node.platform import choose_platform
from asys.node.platform.machine import boot_id

T = TypeVar("T")

_HEADINGS: Final = ("PID", "NAME", "HOW", "AGENT", "SINCE", "GOES ON")


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. ConfigError, PlatformError: it cannot be."""
    config_dir = arguments.config_dir or default_config_dir()
    where = places(config_dir, state_dir=arguments.state_dir, admin_socket=arguments.admin_socket)
    what: str = arguments.command
    if arguments.action == "list":
        order: dict[str, Any] = {"verb": what}
    else:
        pid = EVERYTHING if arguments.all else arguments.pid
        order = {"verb": "release", "what": what, "pid": pid}
    try:
        answer = ask(where, order)
    except NotRunning:
        open_config(arguments, make=False)  # a wrong directory is the likelier fault
        answer = _without_asyd(where, what, order)
    if arguments.json:
        print_lines([json.dumps(answer)])
    elif arguments.action == "list":
        print_lines(_table(answer[what]))
    else:
        print_lines([f"released: {answer['released']}"])
    return 0


def _without_asyd(where: Places, what: str, order: dict[str, Any]) -> dict[str, Any]:
    """The answer that asyd would give. ConfigError, PlatformError."""
    make = _throttled if what == "throttled" else _isolations

    async def work(held: Held) -> dict[str, Any]:
        if order["verb"] != "release":
            return {what: [asdict(one) for one in held.listed()]}
        released = await held.release(order["pid"])
        if not released and order["pid"] != EVERYTHING:
            raise ConfigError(not_held(what, order["pid"]))
        return {"released": released}

    return asyncio.run(make(where, work))


async def _throttled(where: Places, work: Callable[[Held], Awaitable[T]]) -> T:
    """Does it with what the file of an asyd that has ended says."""
    platform = choose_platform()
    store = ThrottledStore(where.state_dir, boot_id())
    options = Throttling(store=store, entries=store.load())
    book = ThrottleBook(platform, LoopClock(asyncio.get_running_loop()), options)
    try:
        await book.look()
        return await work(book)
    finally:
        await book.close()


async def _isolations(where: Places, work: Callable[[Held], Awaitable[T]]) -> T:
    """Does it with what is in force in the kernel, which outlasts asyd."""
    from asys.node.held.isolations import standing  # not every system has it

    held = await standing(where.state_dir)
    try:
        return await work(held)
    finally:
        await held.close()


def _table(held: list[dict[str, Any]]) -> list[str]:
    now = time.time()
    rows = [_HEADINGS, *(_row(one, now) for one in held)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(one: dict[str, Any], now: float) -> tuple[str, ...]:
    return (
        str(one["pid"]),
        clean(one["name"]) or "-",
        clean(one["how"]),
        clean(one["agent"]),
        f"{duration(now - one['since'])} ago",
        f"in {duration(one['until'] - now)}" if one["until"] else "-",
    )
