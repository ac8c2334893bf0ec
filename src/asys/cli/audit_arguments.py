"""Arguments of `asys audit`: which actions are wanted, and what else stands on the command line."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose actions: by agent, instruction, status, time and chain."""
    parser.add_argument("--agent", default="", metavar="LABEL", help="label, key or key hash")
    parser.add_argument(
        "--instruction", type=checked(_instruction), metavar="NAME", help="name or hex code"
    )
    parser.add_argument(
        "--status",
        type=checked(_status),
        metavar="STATUS",
        help="ok, failed, queued, unfinished, or a status word such as 6982 or 6Fxx",
    )
    for name in ("since", "until"):
        parser.add_argument(
            f"--{name}",
            type=checked(_moment),
            metavar="TIME",
            help="date, date and time (UTC), or so long ago: 90s, 5m, 2h, 7d",
        )
    parser.add_argument("--reads", action="store_true", help="what was only read, instead")


def add_all(parser: argparse.ArgumentParser) -> None:
    """Adds the option for what is beside actions."""
    parser.add_argument(
        "--all", action="store_true", help="also sessions, refused handshakes and ends"
    )


def checked(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """A converter whose words argparse keeps."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def anchor(text: str) -> tuple[int, bytes]:
    """COUNT:HASH. ValueError."""
    from asys.audit.chain import parse_anchor

    return parse_anchor(text)


def count(text: str) -> int:
    """A number of lines. ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text)):
        raise ValueError(f"{text!r} is no number from 1 to 999999")
    return int(text)


def hostname(text: str) -> str:
    """The name of the node in messages. ValueError."""
    from asys.audit.export_syslog import parse_hostname

    return parse_hostname(text)


def _instruction(text: str) -> int:
    from asys.audit.choose import parse_instruction

    return parse_instruction(text)


def _status(text: str) -> str:
    from asys.audit.choose import parse_status

    return parse_status(text)


def _moment(text: str) -> int:
    from asys.audit.choose import parse_moment

    return parse_moment(text, time.time_ns())
