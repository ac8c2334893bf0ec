"""What went wrong, for people and for programs: one line or one object, and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Any, Final, TextIO

from asys.errors import (
    AgentRejected,
    ArgumentError,
    AsysError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    IdentityError,
    InventoryError,
    LinkError,
    OutcomeUnknown,
    ProtocolError,
    SessionLimit,
    StatusError,
    UnknownHost,
)

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
CONNECTION: Final = 3
UNKNOWN: Final = 4
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_STATUS: Final = """\
exit status:
  0    done
  1    the node answered with another status word, or a task did not succeed
  2    wrong usage or argument, or trouble on this side: key files, output
  3    connection: unreachable, unknown or changed host key, agent rejected
  4    a signed instruction was sent, and whether it ran is not known
  130  interrupted
  141  nobody reads the output any more
"""


class UsageError(AsysError):
    """The command line cannot be read; `usage` shows how it is written."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class MissingExtra(AsysError):
    """Tables need a library that is not installed."""


class LocalFault(AsysError):
    """The operating system refused something on this side."""


class TaskFailed(AsysError):
    """An asynchronous instruction was accepted, and its task did not succeed."""


class Interrupted(AsysError):
    """The user pressed Ctrl-C."""


_ADVICE: Final[tuple[tuple[type[AsysError], str, bool], ...]] = (
    (UsageError, "see --help", True),
    (MissingExtra, "install it, or use --json", True),
    (ArgumentError, "correct the argument", True),
    (IdentityError, "mend or make the file that the message names", True),
    (InventoryError, "mend or write the file that the message names", True),
    (TaskFailed, "the node's own log says why", False),
    (ConnectFailed, "see that asyd runs there and that nothing blocks the port", False),
    (AgentRejected, "have an admin of the node add this agent's key", True),
    (SessionLimit, "back off and try again", True),
    (ConnectionLost, "try again; asyd's log on the node may say why", False),
    (DeadlineExceeded, "try again, or give it more time with --timeout", False),
    (ProtocolError, "see that asyd is what listens there, and that versions agree", False),
    (OutcomeUnknown, "look at the node before you repeat it", False),
)
"""Family -> what to do, and whether the message says so itself."""


def exit_status(error: AsysError) -> int:
    """The exit status that stands for an error."""
    if isinstance(error, OutcomeUnknown):
        return UNKNOWN  # before StatusError: 6985 is both
    if isinstance(error, StatusError | TaskFailed):
        return REFUSED
    if isinstance(error, LinkError):
        return CONNECTION
    return INTERRUPTED if isinstance(error, Interrupted) else USAGE


def as_data(error: AsysError) -> dict[str, Any]:
    """The object that `--json` prints for an error."""
    about: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": _message(error),
        "sw": f"{error.sw:04X}" if isinstance(error, StatusError) else None,
        "advice": _advice(error)[0] or None,
    }
    if isinstance(error, StatusError):
        about["message"] = error.meaning
    if isinstance(error, StatusError | OutcomeUnknown):
        about["instruction"] = error.instruction
    if isinstance(error, OutcomeUnknown):
        about["seq"] = error.seq
    if isinstance(error, UnknownHost | HostKeyChanged):
        about |= {"host": error.host, "key": error.key.hex()}
    if isinstance(error, HostKeyChanged):
        about["known"] = error.known.hex()
    return {"error": about}


def as_text(error: AsysError) -> str:
    """What stands on stderr for an error: one line; more only for a changed host key."""
    advice, said = _advice(error)
    line = f"asys: {_message(error)}"
    if advice and not said:
        line += f"; {advice}"
    if isinstance(error, UsageError):
        return f"{error.usage}{line}"
    if isinstance(error, HostKeyChanged):
        return (
            f"{line}\n  known_hosts has  {error.known.hex()}\n  the node shows   {error.key.hex()}"
        )
    return line


def complain(text: str) -> None:
    """Prints on stderr; when nobody reads that either, there is nobody to tell."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        abandon(sys.stderr)


def abandon(stream: TextIO) -> None:
    """Nothing more can be written to it; without this the interpreter would try it at its end."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        return


def _message(error: AsysError) -> str:
    if isinstance(error, UnknownHost):
        return f"{error.host} is unknown: it shows the key {error.key.hex()}"
    if isinstance(error, HostKeyChanged):
        return f"THE KEY OF {error.host} HAS CHANGED. SOMEBODY MAY BE IN BETWEEN. Nothing was asked"
    return str(error)


def _advice(error: AsysError) -> tuple[str, bool]:
    """What to do, and whether the message says so already."""
    if isinstance(error, StatusError):
        return error.advice, True
    if isinstance(error, UnknownHost):
        return (
            f"to trust it, run: asys trust {error.host} KEY, with the KEY that `asyd pubkey` "
            "prints on the node",
            False,
        )
    if isinstance(error, HostKeyChanged):
        return (
            "only if `asyd pubkey` on the node shows that it really has a new key, run: "
            f"asys trust --replace {error.host}; or, with the file of its admin's `asyd key "
            f"statement`: asys trust --statement FILE {error.host}",
            False,
        )
    for family, advice, said in _ADVICE:
        if isinstance(error, family):
            return advice, said
    return "", True
