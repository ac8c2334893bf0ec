"""`asys conformance`: any node, tested from outside, level by level."""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asys.cli import failures, nodes
from asys.cli.failures import LocalFault
from asys.cli.screen import Output, Screen, print_json
from asys.client.options import DEFAULT_TIMEOUT
from asys.errors import ArgumentError, ConnectFailed, HostKeyChanged, UnknownHost
from asys.protocol.limits import DEFAULT_PORT, MAGIC

if TYPE_CHECKING:
    from asys.client.address import Address
    from asys.conformance.case import Case
    from asys.conformance.probe import Chainable, Target
    from asys.conformance.runner import Run
    from asys.conformance.verdicts import Outcome

HELP: Final = "test whether a node, in whatever language, does what the protocol says"

_MORE: Final = """

By default it only reads. What changes something runs where you give the means: --pid, --service, or
an identity that may add agents. Give it an identity of its own. A case that lacks its means is "not
run", never "passed". Status 0: all that ran has passed; 1: something failed."""

_CHAINABLE: Final = re.compile(r"([C-F][0-9A-F]):(?:0x)?([0-9A-F]{1,8})", re.IGNORECASE)

_SERVICE: Final = re.compile(r"[a-z0-9_.-]{1,64}")


def add_conformance(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys conformance`."""
    nodes.add_host(parser, optional=True)
    nodes.add_identity(parser)
    given = parser.add_argument_group("means")
    given.add_argument(
        "--other", type=Path, metavar="DIR", help="a second identity, which is granted less"
    )
    given.add_argument(
        "--pid", type=_pid, metavar="N", help="a process that may be stopped for a moment"
    )
    given.add_argument(
        "--service", type=_service, metavar="NAME", help="a service that may be restarted"
    )
    given.add_argument(
        "--outside-pid",
        type=_pid,
        metavar="N",
        help="a process that is not in users= of the second identity",
    )
    given.add_argument(
        "--outside-service",
        type=_service,
        metavar="NAME",
        help="a service that is not in services= of the second identity",
    )
    given.add_argument(
        "--chainable",
        type=_chainable,
        metavar="CODE:VENDOR_ID",
        help="an instruction that takes fragments, such as C1:B6FB4EB9",
    )
    given.add_argument(
        "--slow", action="store_true", help="run the cases that wait for 10 s and for 60 s too"
    )
    chosen = parser.add_argument_group("what is run, and how it is judged")
    chosen.add_argument(
        "--level", type=int, choices=range(1, 7), metavar="N", help="levels 1 to N (default: 6)"
    )
    chosen.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ID",
        help="this case, or those that match a pattern such as 'frame.*'; may be repeated",
    )
    chosen.add_argument(
        "--profile",
        choices=("deployed", "specified"),
        default="deployed",
        help="deployed: what asyd 0.3.1 is known to do otherwise is told and no failure, on a node "
        "that does not speak part B; specified: it is a failure (default: deployed)",
    )
    chosen.add_argument(
        "--require",
        type=int,
        choices=range(1, 7),
        default=0,
        metavar="N",
        help="what is not run of the levels 1 to N is a failure",
    )
    chosen.add_argument(
        "--seed", type=int, default=0, metavar="N", help="for what is drawn at random (default: 0)"
    )
    chosen.add_argument(
        "--pace",
        type=_pace,
        metavar="N",
        help="connections a second at most, 0: any (default: 15; a node may refuse more than 20)",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report there too")
    parser.add_argument(
        "--list", action="store_true", help="list the cases and what they need; nothing is run"
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        metavar="DIR",
        help="write the test vectors there, for who implements the protocol; nothing is run",
    )
    parser.description = (parser.description or "") + _MORE
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> Output:
    """Runs the cases. What `asys status` raises before it; LocalFault for a report not written."""
    if arguments.vectors is not None:
        return _write_vectors(arguments.vectors)
    from asys.conformance.case import all_cases
    from asys.conformance.runner import choose

    cases = choose(all_cases(), arguments.level, arguments.only)
    if not cases:
        raise ArgumentError("no case is meant; see asys conformance --list")
    if arguments.list:
        return _listed(cases)
    if arguments.host is None:
        raise ArgumentError("name the HOST to test, or --list or --vectors DIR")
    return _tested(arguments, cases)


def _tested(arguments: argparse.Namespace, cases: Sequence[Case]) -> Output:
    from asys.conformance import report, runner
    from asys.conformance.probe import Timing
    from asys.conformance.verdicts import Verdict

    address = nodes.address_of(arguments)
    target = _target(arguments, address)
    timing = Timing()
    if arguments.timeout is not None:
        timing = replace(timing, timeout=arguments.timeout)
    if arguments.pace is not None:
        timing = replace(timing, pace=arguments.pace)
    plan: Run = runner.Run(
        cases,
        timing=timing,
        seed=arguments.seed,
        specified=arguments.profile == "specified",
        require=arguments.require,
    )
    outcomes: list[Outcome] = []

    def show(screen: Screen) -> None:
        def told(one: Outcome) -> None:
            outcomes.append(one)
            if not arguments.json:
                screen.line(report.line(one))

        runner.run(target, plan, told)
        if arguments.junit is not None:
            _write(arguments.junit, report.as_junit(str(address), outcomes))
        if arguments.json:
            print_json(report.as_data(str(address), outcomes))
            return
        if importlib.util.find_spec("rich") is not None:
            from asys.cli.conformance_views import summary

            screen.show(summary(outcomes))
        screen.line(report.conclusion(outcomes))

    def status() -> int:
        failed = any(one.verdict is Verdict.FAILED for one in outcomes)
        return failures.REFUSED if failed else failures.OK

    return Output({}, show, streams=True, status=status)


def _target(arguments: argparse.Namespace, address: Address) -> Target:
    """The node with its key, which whoever sits here confirms where it is not known."""
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.conformance.probe import Target

    identity = Identity.load(arguments.identity).key.raw()
    other = None if arguments.other is None else Identity.load(arguments.other).key.raw()
    known_hosts = KnownHosts(arguments.known_hosts)
    key = known_hosts.lookup(address.host, address.port or DEFAULT_PORT)
    shown = _shown_key(address, arguments.timeout or DEFAULT_TIMEOUT)
    before = known_hosts.superseded(address.host, address.port or DEFAULT_PORT)
    if shown is not None and shown != key and shown not in before:
        if key is not None:
            raise HostKeyChanged(str(address), shown, key)
        nodes.confirm(UnknownHost(str(address), shown))
        nodes.add(known_hosts, address, shown)
        key = shown
    return Target(
        address,
        identity,
        key,
        other=other,
        pid=arguments.pid,
        service=arguments.service,
        outside_pid=arguments.outside_pid,
        outside_service=arguments.outside_service,
        chainable=arguments.chainable,
        slow=arguments.slow,
    )


def _shown_key(address: Address, timeout: float) -> bytes | None:
    """The key that the node shows; None where what it shows is wrong: cases say what.

    ConnectFailed: nothing listens there.
    """
    from asys.conformance.wire import Unreachable, Wire, WireError

    try:
        wire = Wire(address, timeout)
    except Unreachable as error:
        raise ConnectFailed(f"{address}: {error}") from None
    try:
        frame = wire.greet()
    except WireError:
        return None
    finally:
        wire.close()
    return frame[6:] if frame.startswith(MAGIC) else None


def _listed(cases: Sequence[Case]) -> Output:
    from asys.conformance.report import case_data

    def show(screen: Screen) -> None:
        for one in cases:
            needs = f" [{one.needed}]" if one.needs else ""
            screen.line(f"{one.level.value}  {one.id:<30} {one.section:<5} {one.title}{needs}")

    return Output({"cases": [case_data(one) for one in cases]}, show)


def _write_vectors(directory: Path) -> Output:
    from asys.conformance.vectors import FILES, contents

    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (directory / name).write_bytes(contents(name))
            written.append(str(directory / name))
    except OSError as error:
        raise LocalFault(f"the vectors cannot be written: {error}") from error

    def show(screen: Screen) -> None:
        for one in written:
            screen.line(one)

    return Output({"written": written}, show)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LocalFault(f"the report cannot be written: {error}") from error


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 2 <= int(text) < 1 << 32):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the PID of a process that may be stopped"
        )
    return int(text)


def _service(text: str) -> str:
    if _SERVICE.fullmatch(text) is None or text.endswith(".service"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a service, without .service: a-z, 0-9, _, . and -"
        )
    return text


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0 <= pace <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of connections a second")
    return pace


def _chainable(text: str) -> Chainable:
    from asys.conformance.probe import Chainable

    match = _CHAINABLE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not written CODE:VENDOR_ID, such as C1:B6FB4EB9"
        )
    return Chainable(int(match[1], 16), int(match[2], 16))
