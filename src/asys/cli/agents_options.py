"""`asyd agents`: what can be written behind it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
AddCommand: TypeAlias = Callable[[Commands, str, str], argparse.ArgumentParser]
AddOption: TypeAlias = Callable[[argparse.ArgumentParser, str], None]

CAPS: Final = "instruction names, hex codes, groups, core, all, with commas"

OPTIONS: Final = {
    "services": ("GLOBS", "services that it may restart, with * and ?, with commas", "all"),
    "users": ("USERS", "whose processes it may touch: names or uids, with commas", "all"),
    "vendors": ("VENDORS", "whose extensions it may use: 0x ids or domains, with commas", "none"),
    "from": ("PREFIXES", "where it may connect from: addresses, prefixes, unix", "anywhere"),
    "rate": ("RATES", "how often: NAME:N/s, NAME:N/m or NAME:N/h, with commas", "no limit"),
    "expires": ("YYYY-MM-DD", "last day, UTC, on which it may connect", "none"),
    "role": ("ROLE", "admin: it sees and removes what other agents have added", "none"),
}
"""Options of a line beside caps=, as in docs/protocol.md, section 8."""


class _MixedParser(argparse.ArgumentParser):
    """Takes positional arguments wherever they stand between options."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As ArgumentParser.parse_known_args, which the mixed kind calls twice for its work."""
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


_PARSER: Final[type[argparse.ArgumentParser]] = _MixedParser


def add_actions(
    agents: argparse.ArgumentParser, add_command: AddCommand, add_state: AddOption
) -> None:
    """Adds the actions of `asyd agents` to its parser; those that look there get --state-dir."""
    actions = agents.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=_PARSER
    )
    add = add_command(actions, "add", "let an agent in")
    add.usage = "%(prog)s KEY [OPTION ...]"
    add.add_argument("key", metavar="KEY", help="the agent's public key, 64 hex digits")
    add.add_argument("--caps", metavar="LIST", help=f"what exists for it: {CAPS} (default: core)")
    add.add_argument("--label", default="", help="a name for it, 1 to 31 of A-Z a-z 0-9 . _ -")
    _add_line_options(add)

    grant = add_command(actions, "grant", "give an agent more, or change its options")
    _add_change(grant, "to add")
    revoke = add_command(actions, "revoke", "take something from an agent, or change its options")
    _add_change(revoke, "to take away")

    remove = add_command(actions, "remove", "shut an agent out")
    remove.add_argument("who", metavar="KEY|LABEL")
    listing = add_command(actions, "list", "show who may connect, and lines that are refused")

    show = add_command(actions, "show", "show what an agent holds now, and where it comes from")
    show.add_argument("who", metavar="KEY|LABEL")

    check = add_command(
        actions, "check", "look authorized_agents over, and what an upgrade lights in it"
    )
    _add_check(check)
    pin = add_command(actions, "pin", "keep upgrades from lighting more for an agent")
    _add_pin(pin)

    test = add_command(actions, "test", "tell what an agent would be answered, and by which rule")
    _add_test(test)
    for parser in (grant, revoke, remove, listing, show, check, pin, test):
        add_state(parser, argparse.SUPPRESS)
    _add_migrate(add_command(actions, "migrate", "take over the agents and the key of asyd 0.3.1"))


def _add_check(check: argparse.ArgumentParser) -> None:
    check.description = (
        "Look authorized_agents over: lines that grant nothing (error), may grant too much "
        "(warning), or grant more than with the version of asyd that ran before (new), as words "
        "such as all or diagnostics take in what an upgrade brings. It can be asked before the new "
        "version is started, and after."
    )
    check.epilog = "exit status: 1 for errors; with --strict for warnings; with --new for news"
    check.add_argument("--strict", action="store_true", help="exit status 1 for warnings too")
    check.add_argument(
        "--new",
        action="store_true",
        help="tell only what is new, and which lines an upgrade can add to; exit status 1 if "
        "something is",
    )
    _add_since(check)
    check.add_argument("--json", action="store_true", help="print JSON")


def _add_pin(pin: argparse.ArgumentParser) -> None:
    pin.description = (
        "Write what an agent has as a list of instructions that no upgrade adds to. What the last "
        "upgrade has lit is left out, as `asyd agents check` shows it."
    )
    pin.add_argument("who", metavar="KEY|LABEL")
    _add_since(pin)


def _add_since(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        metavar="VERSION",
        help="new is what this version of asyd did not have (default: the one that ran before)",
    )


def _add_migrate(migrate: argparse.ArgumentParser) -> None:
    migrate.description = (
        "Take over the agents and the key of asyd 0.3.1, into a config directory of its own, so "
        "that both can run side by side. What 0.3.1 has is only read, and nothing in the new "
        "directory is written over. In 0.3.1 every agent may do everything, so say with --caps "
        "what each is to have; all that they had is core,PROC_THROTTLE,SVC_RESTART."
    )
    migrate.epilog = "exit status: 1 when something could not be taken over, also a single line"
    migrate.add_argument(
        "--from",
        dest="old_dir",
        type=Path,
        default=Path("/etc/asyd"),
        metavar="DIR",
        help="the config directory of asyd 0.3.1 (default: %(default)s)",
    )
    migrate.add_argument(
        "--caps",
        action="append",
        required=True,
        metavar="[WHO=]LIST",
        help=f"what exists for every agent, or for the one with this label or key: {CAPS}; may be "
        "repeated",
    )
    migrate.add_argument(
        "--new-key",
        action="store_true",
        help="do not copy the node's key: it keeps or gets its own, which agents must trust anew",
    )
    migrate.add_argument("--dry-run", action="store_true", help="show it, and write nothing")
    migrate.add_argument("--json", action="store_true", help="print JSON")


def _add_test(test: argparse.ArgumentParser) -> None:
    test.usage = "%(prog)s KEY|LABEL INSTRUCTION [VALUE ...] [OPTION ...]"
    test.description = (
        "Tell what an agent would be answered, and by which rule, from the files and the machine "
        "as they are now. Nothing is done to the target, and no asyd needs to run. What only a "
        "running asyd knows is left out: what is left of a rate, PIDs that it has shown, its "
        "options (name --mode, --portable and --supervisord as asyd has them), and lines that it "
        "has not read yet. Run it as the user that asyd runs as."
    )
    test.epilog = "exit status: 0 for 9000, 1 for a refusal or what cannot be told, 2 wrong usage"
    test.add_argument("who", metavar="KEY|LABEL")
    test.add_argument("instruction", metavar="INSTRUCTION", help="name or two-digit hex code")
    test.add_argument(
        "values", nargs="*", metavar="VALUE", help="its arguments in order, such as nginx or a PID"
    )
    test.add_argument(
        "--mode", choices=("full", "monitor"), default=argparse.SUPPRESS, help="as asyd has it"
    )
    test.add_argument(
        "--portable", action="store_true", default=argparse.SUPPRESS, help="as asyd has it"
    )
    test.add_argument(
        "--supervisord", metavar="URL", default=argparse.SUPPRESS, help="as asyd has it"
    )


def _add_change(parser: argparse.ArgumentParser, what: str) -> None:
    parser.usage = "%(prog)s KEY|LABEL [LIST] [OPTION ...]"
    parser.add_argument("who", metavar="KEY|LABEL")
    parser.add_argument("caps", nargs="?", default="", metavar="LIST", help=f"{what}: {CAPS}")
    parser.add_argument("--label", help="another name; '' takes it away")
    _add_line_options(parser)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=tuple(OPTIONS),
        help="take an option out of the line; may be repeated",
    )


def _add_line_options(parser: argparse.ArgumentParser) -> None:
    for name, (metavar, about, absent) in OPTIONS.items():
        parser.add_argument(
            f"--{name}", dest=f"line_{name}", metavar=metavar, help=f"{about}; without it: {absent}"
        )
