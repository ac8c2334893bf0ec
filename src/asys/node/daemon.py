"""asyd as a process: start, READY, signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from asys import __version__
from asys.node.admin.blackout import Blackout
from asys.node.admin.controls import NodeControls, report_agents
from asys.node.admin.server import AdminDoor
from asys.node.audit.start import start_audit
from asys.node.clock import LoopClock
from asys.node.disk import state
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.credentials import Credentials, take_credentials
from asys.node.disk.files import ConfigError
from asys.node.disk.moved_store import MovedStore
from asys.node.disk.node_key import load_node_keys
from asys.node.disk.places import places
from asys.node.health.metrics import Health
from asys.node.health.notify import Notifier, take_notifier, take_watchdog
from asys.node.health.watchdog import SHARE, Watchdog
from asys.node.held import beside
from asys.node.keys import NodeKeys
from asys.node.listen import Address, ListenError, listen
from asys.node.logs import set_up
from asys.node.options import Options
from asys.node.platform import choose_platform, settle_allocator
from asys.node.platform.base import Platform, Unsupported
from asys.node.platform.own_usage import OwnUsage
from asys.node.platform.priority import raise_priority
from asys.node.restore import (
    load_delegates,
    load_isolations,
    load_past,
    load_throttled,
    note_instructions,
    report_new,
)
from asys.node.server import Limits, Mode, Node
from asys.node.session import Session
from asys.node.vendor.start import prepare

if TYPE_CHECKING:
    from asys.node.health.http import MetricsServer

try:
    import uvloop
except ImportError:  # it is not to be had everywhere; asyncio's own loop serves, more slowly
    uvloop: ModuleType | None = None  # type: ignore[no-redef]

_log = logging.getLogger("asyd")

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

AUDIT_PATIENCE: Final = 2.0
"""Seconds that asyd waits at its end for the last records; they reach the disk anyway."""

THREAD_STACK: Final = 256 << 10
"""Bytes of the stack of a thread: Python's own calls need none of it."""

SPARE_FILES: Final = 128
"""File descriptors that asyd needs beside one for each connection."""


def run(options: Options) -> None:
    """Serves until SIGTERM or SIGINT. ConfigError, ListenError or Unsupported: it cannot start."""
    _fill_standard_files()
    threading.stack_size(THREAD_STACK)
    settle_allocator()
    given = take_credentials(os.environ)
    config = ConfigDir(options.config_dir, credentials=given)
    lack = raise_priority(options.nice)  # before there is another thread
    handler = set_up(debug=options.debug)
    notifier = take_notifier(os.environ)
    period = take_watchdog(os.environ)
    try:
        if lack:
            _log.info("%s", lack)
        factory = uvloop.new_event_loop if uvloop is not None else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(config, given, options, notifier, period))
    finally:
        notifier.close()
        handler.close()


def _fill_standard_files() -> None:
    """Where 0, 1 or 2 is closed, a connection would get the number; libuv aborts at such a one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


async def _serve(
    config: ConfigDir, given: Credentials, options: Options, notifier: Notifier, period: float
) -> None:
    """`period` is that of systemd's watchdog, in seconds; 0: there is none."""
    platform = choose_platform(portable=options.portable)
    spared_lack = platform.spare_me()  # before there are helpers, which inherit it
    scribe = state.start()
    beside.start()
    where = places(config.path, state_dir=options.state_dir, admin_socket=options.admin_socket)
    blackout = Blackout(where.state_dir)
    blackout.prepare()
    upgraded_from = await note_instructions(where)
    delegates, store = load_delegates(where)
    clock = LoopClock(asyncio.get_running_loop())
    secret = [config.path, where.state_dir, *filter(None, (options.audit_dir, given.directory))]
    vendors = prepare(options.vendors, secret, clock)
    loaded, place = load_node_keys(config, where.state_dir, given, clock.time_ns() // 1_000_000_000)
    keys = NodeKeys(
        loaded,
        clock,
        place=place,
        elsewhere=where.state_dir,
        memory=MovedStore(where.state_dir),
    )
    supervisor = start_audit(options, where, clock, config, loaded.key)
    logs = platform.logs(clock) if Mode(options.mode) is Mode.FULL else None
    node = Node(
        key=keys,
        book=config.load_agents(),
        platform=platform,
        clock=clock,
        services=platform.service_manager(options.supervisord),
        logs=logs,
        limits=replace(options.limits, handshakes=options.handshake_rate),
        mode=Mode(options.mode),
        delegates=delegates,
        store=store,
        past=load_past(where),
        audit=supervisor.log if supervisor is not None else None,
        audit_needed=options.audit_full == "refuse",
        throttling=load_throttled(options, where),
        isolations=load_isolations(platform, where, clock),
        vendors=vendors,
    )
    node.protection.helpers = lambda: (
        *(supervisor.pids if supervisor is not None else ()),
        *(vendors.pids if vendors is not None else ()),
        *(logs.pids if logs is not None else ()),
        *scribe.pids,
    )
    if supervisor is not None and supervisor.shadow is not None:
        node.strict = supervisor.shadow.strict
    watchdog = Watchdog(notifier, clock, period, node.counts.lag) if period else None
    health = Health(node, OwnUsage(), options.mode, supervisor, watchdog)
    controls = NodeControls(node, config, blackout, health)
    report_agents(config, node)
    if upgraded_from is not None:
        report_new(config, upgraded_from, clock.time_ns() // 1_000_000_000)
    make_room(options.limits)
    asyncio.get_running_loop().set_exception_handler(partial(_on_loop_error, node))
    admin = AdminDoor(controls, where.admin_socket)
    servers: list[asyncio.Server | AdminDoor | MetricsServer] = [admin]
    listening: list[Address] = []
    try:
        if node.isolations is not None:
            await node.isolations.recover()
        if node.throttled is not None:
            await node.throttled.look()  # what was stopped before may have ended since
        end = _handle_signals(lambda: _look_again(controls, notifier, blackout, admin))
        admin.open()
        # Not before: an order that comes when nobody listens yet is left in the flag.
        node.authority.set_dark(blackout.load())
        for address in options.addresses:
            listener, actual = await listen(lambda: Session(node), address)
            servers.append(listener)
            listening.append(actual)
        if options.metrics is not None:
            servers.append(await _serve_metrics(health, options.metrics))
        if vendors is not None:
            await vendors.start()
        if logs is not None:
            logs.start()
        node.count_descriptors()
        gc.collect()
        gc.freeze()  # what is here now stays: looking at it again would hold the loop for 10 ms
        lock_memory(platform, options.memory_lock)
        services = node.services.name if node.services is not None else "no service manager"
        for address in listening:
            _log.info("asyd %s listens on %s", __version__, address)
        _log.info("platform %s, %s, mode %s", platform.name, services, options.mode)
        for lack in (*platform.lacks(), *filter(None, [spared_lack])):
            _log.info("%s", lack)
        if node.throttled is not None and node.throttled.lack:
            _log.warning("PROC_THROTTLE answers 6D00: %s", node.throttled.lack)
        _say_ready(listening[0], node)
        notifier.ready()
        if watchdog is not None:
            watchdog.start()
            _log.info("systemd's watchdog is fed, every %g s", period * SHARE)
        await end.wait()
        _log.info("ending")
        notifier.stopping()
    finally:
        for address in listening:
            if address.path:  # while the socket is still ours; then it may be a successor's
                with contextlib.suppress(OSError):
                    os.unlink(address.path)
        # The admin's socket last: it is unlinked, and a disk that hangs would hold that up.
        for server in reversed(servers):
            server.close()
        await node.close()
        if supervisor is not None:
            await supervisor.close(AUDIT_PATIENCE)
        if watchdog is not None:
            watchdog.close()
        health.usage.close()


async def _serve_metrics(health: Health, address: Address) -> MetricsServer:
    """Metrics over HTTP. What speaks it takes memory, and not every node needs it."""
    from asys.node.health.http import serve_metrics

    server = await serve_metrics(health.text, health.node.clock, address)
    _log.info("metrics are at %s", server.url)
    return server


def _on_loop_error(node: Node, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the event loop could not tell anybody else.

    Without descriptors asyncio reports each connection of its backlog, over and over: a line a
    second is enough.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        node.noticed.log("no connection can be accepted:", str(error), node.clock.now())
    else:
        loop.default_exception_handler(context)


def lock_memory(platform: Platform, how: str) -> None:
    """Keeps what asyd has in memory there, as `--memory-lock` says. Unsupported: it must, and
    cannot.
    """
    if how == "off":
        _log.info("memory is not locked, as --memory-lock off says")
        return
    lack = platform.lock_memory()
    if not lack:
        _log.info("memory is locked: %d MB", platform.locked_bytes() >> 20)
    elif how == "require":
        raise Unsupported(f"memory cannot be locked: {lack}; or start with --memory-lock auto")
    else:
        _log.warning("memory is not locked, so asyd may be slow when it runs out: %s", lack)


def make_room(limits: Limits) -> None:
    """Raises the soft limit of file descriptors, as far as the hard one lets it."""
    needed = limits.sessions + limits.unconfirmed + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    room = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(ValueError):  # a system may have a bound that is not in the limits
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    room, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room < needed:
        _log.warning(
            "the system allows %d open files; %d are needed for %d sessions, so raise the limit "
            "(LimitNOFILE= in a systemd unit) or lower --max-sessions",
            room,
            needed,
            limits.sessions,
        )


def _handle_signals(look_again: Callable[[], None]) -> asyncio.Event:
    """SIGHUP looks again; SIGTERM and SIGINT set the event that ends the daemon."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, look_again)
    loop.add_signal_handler(signal.SIGTERM, end.set)
    loop.add_signal_handler(signal.SIGINT, end.set)
    return end


def _look_again(
    controls: NodeControls, notifier: Notifier, blackout: Blackout, admin: AdminDoor
) -> None:
    """Makes what there was no room for at the start, and reads `authorized_agents` again."""
    try:
        blackout.prepare()
        admin.open()
    except (ConfigError, ListenError) as error:
        _log.error("%s", error)
    reload(controls, notifier)


def reload(controls: NodeControls, notifier: Notifier) -> None:
    """Reads `authorized_agents` again; when it cannot be read, what was known stays in force."""
    notifier.reloading()
    try:
        controls.reload()
    except ConfigError as error:
        _log.error("authorized_agents is not read again, the agents stay as they were: %s", error)
    notifier.ready()


def _say_ready(address: Address, node: Node) -> None:
    """One line on stdout for whoever started asyd."""
    line = f"READY {address} {node.key.public.hex()}\n".encode("utf-8", "surrogateescape")
    if sys.stdout is not None:
        with contextlib.suppress(OSError):  # whoever closed it does not wait for the line
            os.write(sys.stdout.fileno(), line)


if sys.platform == "win32":
    raise ImportError("asyd runs on POSIX systems; on Windows use the SDK and the asys command")
