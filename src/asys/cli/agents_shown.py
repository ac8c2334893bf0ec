"""`asyd agents show` and `test`: what an agent holds, and what it would be answered."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from asys.cli.agents_known import Known, moment, running_asyd, told
from asys.cli.daemon_commands import UsageError, check_supervisord, print_lines
from asys.cli.fields import convert
from asys.errors import ArgumentError
from asys.isa import NET_ISOLATE, PROC_THROTTLE, REGISTRY, SVC_RESTART, AnyInstruction
from asys.isa.capmap import CORE, SETS, UNGRANTED, bits, code_of, describe
from asys.node.agents.directory import Holding
from asys.node.agents.scope import parse_vendors
from asys.node.agents.trial import Link, Trial, Verdict, chain, lacks, user
from asys.node.agents.words import BadOption
from asys.node.clock import LoopClock
from asys.node.disk.files import ConfigError, quoted
from asys.node.disk.places import Places
from asys.node.platform import choose_platform
from asys.node.server import Mode
from asys.protocol.codec import Field
from asys.protocol.status import SW, explain
from asys.vendor.definition import CODES, id_of_domain

_WIDTH: Final = 10

_GRANTED: Final = bits(one.code for one in REGISTRY) & ~UNGRANTED
"""The instructions that lines grant."""

_OF_PROCESSES: Final = bits([PROC_THROTTLE.code, NET_ISOLATE.code])
"""Those that `users=` bounds."""


def show(known: Known, who: str) -> int:
    """Prints what an agent holds, and the chain that it comes from. ConfigError: it is nothing."""
    key = known.key_of(who)
    holding = known.directory.holding(key, known.now)
    if holding is None:
        raise ConfigError(f"{who!r} holds nothing: {known.why_nothing(key)}")
    links = chain(known.directory, key)
    _print_rows(
        [
            ("key", key.hex()),
            ("label", holding.label or "-"),
            ("holds", describe(holding.caps) or "nothing"),
            *(("", row) for row in _instructions(known, holding, links)),
            ("lacks", describe(_GRANTED & ~holding.caps) or "nothing"),
            *zip(("comes from", *[""] * len(links)), _origins(known, links), strict=False),
            *_limits(holding),
            *_ends(known, holding),
        ]
    )
    return 0


def _instructions(known: Known, holding: Holding, links: tuple[Link, ...]) -> Iterator[str]:
    """A row for each instruction: where it comes from, and what bounds it."""
    scope = holding.root.scope
    through = "".join(f", through {link.name}" for link in links[:-1])
    users = "" if scope.users is None else _option(holding, "users")
    bounds = {
        PROC_THROTTLE.code: users,
        NET_ISOLATE.code: users,
        SVC_RESTART.code: "" if scope.services is None else _option(holding, "services"),
    }
    rates = {limit.code: f"rate={limit}" for limit in holding.root.rates}
    listed = UNGRANTED
    for one in REGISTRY:
        if (holding.caps & _GRANTED) >> one.code & 1:
            listed |= 1 << one.code
            words = [f"{one.code:02X} {one.name:<14} line {links[0].line}{through}"]
            words += [bounds.get(one.code, ""), rates.get(one.code, "")]
            if known.dark and not CORE >> one.code & 1:
                words.append("dark now")
            yield "; ".join(word for word in words if word)
    theirs = holding.caps & SETS["vendor"]
    if theirs:
        count = theirs.bit_count()
        yield f"and {count} code{'s' * (count > 1)} of the vendors that it may use"
    spare = holding.caps & ~listed & ~theirs
    if spare:
        count = spare.bit_count()
        yield f"and {count} code{'s' * (count > 1)} that this version has no instruction for"


def _origins(known: Known, links: tuple[Link, ...]) -> Iterator[str]:
    root = links[0]
    yield f"{known.config.agents_path} line {root.line}, {root.name}: {_map(root.given)}"
    for above, link in pairwise(links):
        ends = f" until {moment(link.expires)}" if link.expires else ""
        leaves = "all of it" if link.left == link.given else _map(link.left)
        yield (
            f"{link.name}, added by {above.name}{ends}: {_map(link.given)}; the chain leaves "
            f"{leaves}"
        )


def _map(caps: int) -> str:
    return describe(caps) or "nothing"


def _limits(holding: Holding) -> Iterator[tuple[str, str]]:
    """Scopes, rates and addresses; those of the line hold for all that hangs below it."""
    root, scope = holding.root, holding.root.scope
    if scope.services is not None:
        yield "services", ", ".join(scope.services)
    elif holding.caps >> SVC_RESTART.code & 1:
        yield "services", "all, but for what nobody may restart"
    if scope.users is not None:
        yield "users", "processes of " + ", ".join(map(user, sorted(scope.users)))
    elif holding.caps & _OF_PROCESSES:
        yield "users", "processes of all users, but for what nobody may touch"
    if scope.vendors or holding.caps & SETS["vendor"]:
        known = domains()
        names = [f"0x{one:X} {known.get(one, '')}".rstrip() for one in sorted(scope.vendors)]
        yield "vendors", ", ".join(names) or "none"
    if root.rates:
        shared = f", for line {root.line} and all that is added below it together"
        yield "rates", ", ".join(map(str, root.rates)) + shared
    yield "connects", f"from {root.sources}" if root.sources is not None else "from anywhere"
    if holding.admin:
        yield "role", "admin: it sees and removes all that agents have added"


def _ends(known: Known, holding: Holding) -> Iterator[tuple[str, str]]:
    yield "ends", moment(holding.expires) if holding.expires else "never"
    if known.dark:
        left = _map(holding.caps & CORE)
        yield "dark", f"the node is dark: {left} is in force; to lift it, run: asyd light"


# -- trying


def test(known: Known, where: Places, arguments: argparse.Namespace) -> int:
    """Prints the status word that the agent would get, and the rule; exit status 1 if refused.

    UsageError: there is no such instruction, or its arguments cannot be sent.
    """
    check_supervisord(arguments.supervisord)
    code = _code(arguments.instruction)
    key = known.key_of(arguments.who)
    holding = known.directory.holding(key, known.now)
    if holding is None:
        verdict = Verdict(
            SW.DENIED,
            known.why_nothing(key),
            ("it cannot connect: this is the answer to its handshake, and the end of it",),
        )
        notes = list(verdict.notes)
    else:
        verdict = asyncio.run(_verdict(known, where, arguments, holding, code))
        notes = [*verdict.notes, *_conditions(known, holding, code, verdict)]
    _print_rows(
        [
            (str(verdict.sw), explain(verdict.sw).meaning),
            ("rule", verdict.rule),
            *(("note", note) for note in notes),
        ]
    )
    return 0 if verdict.sw is SW.SUCCESS else 1


async def _verdict(
    known: Known, where: Places, arguments: argparse.Namespace, holding: Holding, code: int
) -> Verdict:
    platform = choose_platform(portable=arguments.portable)
    with told(logging.WARNING):
        services = platform.service_manager(arguments.supervisord)
    trial = Trial(
        known.directory,
        known.node_key,
        platform,
        services,
        known.now,
        known.dark,
        Mode(arguments.mode).offered,
        running_asyd(where),
        lacks(platform, services, LoopClock(asyncio.get_running_loop()), where.state_dir),
    )
    try:
        decided = trial.gate(holding, code)
        if decided is None and code in CODES:
            vendor_id = _vendor(arguments.values)
            return trial.vendor(holding, code, vendor_id, domains().get(vendor_id, ""))
        instruction = REGISTRY.get(code)
        if decided is not None or instruction is None:  # whatever it is asked with
            return decided or Verdict(SW.NO_SUCH_INSTRUCTION, "")
        return await trial.answer(holding, instruction, *_request(instruction, arguments.values))
    finally:
        if services is not None:
            await services.close()


def _conditions(known: Known, holding: Holding, code: int, verdict: Verdict) -> Iterator[str]:
    """What the answer hangs on that only a running node knows; and what would change it."""
    root = holding.root
    instruction = REGISTRY.get(code)
    if verdict.sw is SW.NO_SUCH_INSTRUCTION:
        if instruction is not None and not holding.parent and not holding.caps >> code & 1:
            yield (
                f"to grant it, run: asyd agents grant {holding.key.hex()} {instruction.name} "
                f"--config-dir {quoted(known.config.path)}"
            )
        return
    for limit in root.rates:
        if limit.code == code and verdict.sw in (SW.SUCCESS, SW.INVALID_PAYLOAD):
            yield (
                f"line {root.line} has rate={limit} for this agent and all that hang on the line: "
                "6400 when that is used up, and only a running asyd knows what is left"
            )
    if root.sources is not None:
        yield f"line {root.line} has from={root.sources}: from elsewhere it cannot connect (6982)"
    if holding.expires:
        yield f"this ends at {moment(holding.expires)}"


def _vendor(values: list[str]) -> int:
    """The id of the vendor whose instruction is tried."""
    try:
        found = parse_vendors(values[0]) if len(values) == 1 else frozenset()
    except BadOption as error:
        raise UsageError(str(error)) from None
    if len(found) != 1:
        raise UsageError("C0 to FF take the vendor: a domain, or its id as 0x and hex digits")
    return next(iter(found))


def domains() -> dict[int, str]:
    """The domains of the vendors that are installed here, by the id that follows from them."""
    from asys.vendor.discovery import find_all  # takes memory, and few need it

    return {id_of_domain(one.domain): one.domain for one in find_all()[0]}


def _code(written: str) -> int:
    try:
        return code_of(written)
    except ArgumentError:
        names = ", ".join(one.name for one in REGISTRY)
        raise UsageError(
            f"{written!r} is no instruction's name or two-digit hex code; there are {names}"
        ) from None


def _request(instruction: AnyInstruction, values: list[str]) -> tuple[int, int, bytes]:
    """P1, P2 and payload of a request. What a node would refuse is made all the same."""
    given: dict[str, Any] = {}
    fields = instruction.request.FIELDS
    parameters = inspect.signature(instruction.make_request).parameters
    needed = [
        name
        for name, field in fields.items()
        if field.enum is None and parameters[name].default is inspect.Parameter.empty
    ]
    if not len(needed) <= len(values) <= len(fields):
        words = [name.upper() if name in needed else f"[{name.upper()}]" for name in fields]
        takes = f"{instruction.name} takes {' '.join(words) or 'no arguments'}"
        raise UsageError(f"{takes}; given: {' '.join(values) or 'none'}")
    for (name, field), value in zip(fields.items(), values, strict=False):
        given[name] = _value(instruction, name, field, value)
    for name, field in fields.items():
        if name not in given and name not in needed and field.enum is not None:
            given[name] = next(iter(field.enum))
    try:
        request = instruction.make_request(**given)
    except ArgumentError as error:
        raise UsageError(f"{instruction.name}: {error}") from None
    return *request.parameters(), request.pack()


def _value(instruction: AnyInstruction, name: str, field: Field, written: str) -> Any:
    """A value that can be sent, be it right or not. UsageError: it cannot."""
    what = f"{instruction.name}: {written!r} is no {name.upper()} ({field.doc})"
    try:
        value = convert(field, written)
    except ArgumentError as error:
        raise UsageError(f"{instruction.name}: {error}") from None
    except ValueError:
        raise UsageError(what) from None
    if isinstance(value, bytes) and len(value) != field.size:
        raise UsageError(f"{what}: {2 * field.size} hex digits are needed")
    if isinstance(value, int) and not 0 <= value < 1 << 8 * field.size:
        raise UsageError(f"{what}: it is 0 to {(1 << 8 * field.size) - 1}")
    if field.kind == "text" and not (value.isascii() and len(value) <= 0xFF):
        raise UsageError(f"{what}: at most 255 ASCII characters can be sent")
    return value


# -- printing


def _option(holding: Holding, option: str) -> str:
    described = holding.root.scope.describe().split()
    return next((word for word in described if word.startswith(f"{option}=")), "")


def _print_rows(rows: list[tuple[str, str]]) -> None:
    print_lines([f"{name:{_WIDTH}} {value}".rstrip() for name, value in rows])


def warn(troubles: list[str]) -> None:
    """Says on stderr what could not be looked at."""
    for trouble in troubles:
        print(f"asyd: {trouble}", file=sys.stderr)
