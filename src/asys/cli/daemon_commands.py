"""What each command of `asyd` does, once the arguments have been read."""

from __future__ import annotations

import argparse
import os
import sys
import time

from asys.client.address import Address
from asys.node.audit.shadow.pinned import parse_collector
from asys.node.daemon import run
from asys.node.disk.config_dir import ConfigDir, default_config_dir
from asys.node.disk.files import ConfigError
from asys.node.disk.node_key import shown_key
from asys.node.disk.places import places
from asys.node.listen import Address as ListenAddress
from asys.node.listen import ListenError, parse_address
from asys.node.options import Options
from asys.node.platform.base import PlatformError
from asys.node.server import Limits
from asys.node.vendor.enabled import Enabled, parse_all
from asys.vendor.definition import VendorError


class UsageError(Exception):
    """An option that cannot mean anything."""


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked; returns the exit status. Faults are one line on stderr."""
    try:
        if arguments.command is None:
            run(_options(arguments))
            return 0
        status = _command(arguments)
    except UsageError as error:
        return _fault(error, 2)
    except (ConfigError, ListenError, PlatformError) as error:
        return _fault(error, 1)
    return status


def _command(arguments: argparse.Namespace) -> int:
    if arguments.command == "pubkey":
        return _pubkey(arguments)
    if arguments.command == "agents":
        from asys.cli import agents_commands

        return agents_commands.execute(arguments)
    if arguments.command in ("throttled", "isolations"):
        from asys.cli import held_commands

        return held_commands.execute(arguments)
    if arguments.command == "key":
        from asys.cli import key_commands

        return key_commands.execute(arguments)
    if arguments.command == "collector":
        from asys.cli import collector_commands

        return collector_commands.execute(arguments)
    from asys.cli import control_commands  # asyd itself has no use for it

    return control_commands.execute(arguments)


def _fault(error: Exception, status: int) -> int:
    print(f"asyd: {error}", file=sys.stderr)
    return status


def print_lines(lines: list[str]) -> None:
    """Prints lines on stdout. ConfigError when they do not arrive there whole."""
    try:
        for line in lines:
            print(line)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigError(f"cannot write to stdout: {error.strerror}") from error


def open_config(arguments: argparse.Namespace, *, make: bool = True) -> ConfigDir:
    """The config directory that is meant. ConfigError as ConfigDir."""
    return ConfigDir(arguments.config_dir or default_config_dir(), make=make)


def _options(arguments: argparse.Namespace) -> Options:
    """What to serve. UsageError; ConfigError when there is no config directory to be had."""
    written = arguments.listen or ["0.0.0.0"]  # noqa: S104  as sshd: the keys decide who comes in
    try:
        addresses = tuple(parse_address(one, arguments.port) for one in written)
    except ListenError as error:
        raise UsageError(error) from error
    check_supervisord(arguments.supervisord)
    if arguments.audit == "off" and arguments.audit_parameters == "on":
        raise UsageError("--audit-parameters on keeps what is beside records: not with --audit off")
    shadow = _shadow(arguments)
    metrics = _metrics(arguments.metrics)
    return Options(
        config_dir=arguments.config_dir or default_config_dir(),
        addresses=addresses,
        limits=Limits(
            sessions=arguments.max_sessions, sessions_per_key=arguments.max_sessions_per_key
        ),
        supervisord=arguments.supervisord,
        portable=arguments.portable,
        debug=arguments.debug,
        mode=arguments.mode,
        state_dir=arguments.state_dir,
        admin_socket=arguments.admin_socket,
        handshake_rate=arguments.handshake_rate,
        audit=arguments.audit,
        audit_dir=arguments.audit_dir,
        audit_full=arguments.audit_full,
        audit_shadow=shadow,
        audit_strict=arguments.audit_strict,
        throttle=arguments.throttle,
        throttle_lease=arguments.throttle_lease,
        nice=arguments.nice,
        audit_parameters=arguments.audit_parameters,
        audit_parameters_days=arguments.audit_parameters_days,
        vendors=_vendors(arguments),
        metrics=metrics,
        memory_lock=arguments.memory_lock,
    )


def _metrics(written: str | None) -> ListenAddress | None:
    """Where metrics are to be had over HTTP; of loopback unless an address is named. UsageError."""
    if written is None:
        return None
    try:
        return parse_address(
            f"127.0.0.1:{written}" if written.isascii() and written.isdecimal() else written,
            None,
            "--metrics",
        )
    except ListenError as error:
        raise UsageError(error) from error


def _shadow(arguments: argparse.Namespace) -> Address | None:
    """The collector that is meant, if there is to be one. UsageError."""
    if arguments.audit_shadow is None:
        if arguments.audit_strict:
            raise UsageError("--audit-strict waits for a collector; name one with --audit-shadow")
        return None
    if arguments.audit == "off":
        raise UsageError("--audit-shadow has nothing to push with --audit off; leave one of both")
    try:
        return parse_collector(arguments.audit_shadow)
    except ValueError as error:
        raise UsageError(f"--audit-shadow: {error}") from error


def _vendors(arguments: argparse.Namespace) -> tuple[Enabled, ...]:
    """The vendors to enable. UsageError."""
    if not arguments.vendor:
        return ()
    if arguments.mode == "monitor":
        raise UsageError("--vendor has no use with --mode monitor, which does nothing for anybody")
    try:
        return parse_all(arguments.vendor)
    except VendorError as error:
        raise UsageError(f"--vendor: {error}") from error


def check_supervisord(url: str | None) -> None:
    """UsageError for what cannot be the URL of a supervisord."""
    if url is None:
        return
    from asys.node.platform.services.http_rpc import Endpoint  # takes memory, and few need it

    try:
        Endpoint.parse(url)
    except ValueError as error:
        raise UsageError(f"--supervisord: {error}") from error


def _pubkey(arguments: argparse.Namespace) -> int:
    config = open_config(arguments)
    state_dir = places(config.path, state_dir=arguments.state_dir).state_dir
    print_lines([shown_key(config, state_dir, int(time.time())).hex()])
    return 0
