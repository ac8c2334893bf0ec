"""The command `asys`: an agent's side, for people and scripts. It runs on any system."""

from __future__ import annotations

import argparse
import errno
import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from asys import __version__
from asys.cli import audit_commands, failures
from asys.cli.failures import Interrupted, LocalFault, UsageError, abandon, complain
from asys.cli.screen import Output, emit, need_tables, print_json
from asys.errors import AsysError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_DESCRIPTION: Final = """\
Typed instructions for a node that runs asyd: an agent's side of ASys.
First `asys keygen`, then `asys trust HOST`, then `asys status HOST`.
"""

_MORE: Final = """\
Every instruction is a command too, named after it (sys-status, proc-throttle ...);
`asys isa` lists them all, `asys COMMAND --help` tells about one.

"""


_NOBODY_READS: Final = (errno.EPIPE, errno.EINVAL)
"""What writing to a closed pipe gives; the second on Windows."""


class _Parser(argparse.ArgumentParser):
    """Raises UsageError in place of ending the process, so that --json holds for that too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse's own is silent about a full disk

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)", self.format_usage())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `asys` and returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        abandon(sys.stdout)
        if error.errno in _NOBODY_READS:
            return failures.BROKEN_PIPE
        fault = LocalFault(f"cannot write the output: {error.strerror or error}")
        complain(failures.as_text(fault))
        return failures.USAGE
    return status


def _run(words: list[str]) -> int:
    """Does what the words say; every foreseeable fault becomes a message and an exit status."""
    as_json = "--json" in words
    try:
        arguments = parser(words).parse_args(words)
        as_json = arguments.json
        if arguments.tables and not as_json and not getattr(arguments, "toml", False):
            need_tables()
        if arguments.command == "audit":
            return audit_commands.execute(arguments)  # its OSErrors are about the output
        output = _guarded(arguments.run, arguments)
        emit(output, as_json=as_json)
        return output.status()
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail(Interrupted("interrupted"), as_json)
    except AsysError as error:
        return _fail(error, as_json)


def _guarded(run: Callable[[argparse.Namespace], Output], arguments: argparse.Namespace) -> Output:
    """Runs a command. LocalFault for what the operating system refuses and nobody translated."""
    try:
        return run(arguments)
    except AsysError:
        raise  # some are OSErrors as well
    except OSError as error:
        raise LocalFault(str(error)) from error


def _fail(error: AsysError, as_json: bool) -> int:
    if as_json:
        print_json(failures.as_data(error))
    else:
        complain(failures.as_text(error))
    return failures.exit_status(error)


def parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line, with a command for every instruction that is declared.

    Those of vendors are in it where `words` ask for them.
    """
    from asys.cli import (
        conformance_commands,
        fleet_commands,
        instructions,
        keys,
        reference,
        top_commands,
        vendor_commands,
    )

    top = _Parser(prog="asys", description=_DESCRIPTION, epilog=_MORE + failures.EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"asys {__version__}")
    top.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, errors included"
    )
    top.set_defaults(tables=False)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help_text: str, add: Callable[[_Parser], None]) -> None:
        _add(commands, name, help_text, add)

    command("keygen", "make this agent's key", keys.add_keygen)
    command("trust", "add a node's key to the known ones", keys.add_trust)
    for one in instructions.commands():
        command(one.name, one.help, _adder(one))
    command("isa", "list the instruction set, or show one instruction", reference.add_isa)
    command("inspect", "decode a frame, field by field", reference.add_inspect)
    command("top", top_commands.HELP, top_commands.add_top)
    command(
        "fleet",
        "many nodes at once: status, procs, throttle, resume",
        lambda made: fleet_commands.add_fleet(made, _add),
    )
    audit_commands.add_audit(commands)
    command("conformance", conformance_commands.HELP, conformance_commands.add_conformance)
    command(
        "vendor",
        "instructions that vendors have added, and a package to begin one",
        lambda made: vendor_commands.add_vendor(made, _add, words),
    )
    return top


def _add(commands: Any, name: str, help_text: str, add: Callable[[_Parser], None]) -> None:
    """A command; without `help_text` it works and is not listed."""
    about: dict[str, Any] = {"description": help_text, "epilog": failures.EXIT_STATUS}
    if help_text:
        about["help"] = help_text
    made = commands.add_parser(name, **about)
    if name != "isa":  # whose --json stands against its --toml
        made.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="one JSON object on stdout, errors included",
        )
    add(made)


def _adder(one: Any) -> Callable[[argparse.ArgumentParser], None]:
    from asys.cli.instructions import add_command

    return lambda made: add_command(made, one)
