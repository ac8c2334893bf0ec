"""Commands made from the instruction set: one for each instruction, and shorter names for some."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from asys import isa
from asys.cli import nodes
from asys.cli.failures import Interrupted, TaskFailed
from asys.cli.fields import add_fields, arguments_for
from asys.cli.report import Report, data_of, has_table, sentence
from asys.cli.screen import Output, Screen
from asys.client.tasks import DEFAULT_WAIT
from asys.errors import AsysError, OutcomeUnknown
from asys.isa import AnyInstruction, Level, Mode, TaskHandle, TaskStatus, ThrottleAction

if TYPE_CHECKING:
    from asys.client.blocking import Node
    from asys.client.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Command:
    """A name for an instruction, with some of its arguments given or standing by themselves."""

    name: str
    instruction: AnyInstruction
    help: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict)
    positional: tuple[str, ...] = ()


SHORT: Final = (
    Command("status", isa.SYS_STATUS, "load, CPU, memory, disk, network, pressure"),
    Command("procs", isa.SYS_PROCS, "the processes that use most CPU"),
    Command("caps", isa.SYS_CAPS, "what this agent may do there, and what machine it is"),
    Command("hello", isa.SYS_HELLO, "whether the node answers, and its clock"),
    Command(
        "throttle",
        isa.PROC_THROTTLE,
        "suspend a process",
        {"action": ThrottleAction.STOP},
        ("pid",),
    ),
    Command(
        "resume",
        isa.PROC_THROTTLE,
        "let a suspended process go on",
        {"action": ThrottleAction.CONTINUE},
        ("pid",),
    ),
    Command("restart", isa.SVC_RESTART, "restart a service", positional=("name",)),
)


def commands() -> list[Command]:
    """All commands that send an instruction; those without help are named after theirs."""
    own = (Command(one.command, one) for one in isa.REGISTRY if not one.carrier)
    return [*SHORT, *own]


def add_command(parser: argparse.ArgumentParser, command: Command) -> None:
    """Arguments of a command that sends an instruction."""
    instruction = command.instruction
    parser.description = _description(instruction)
    nodes.add_host(parser)
    nodes.add_identity(parser)
    add_fields(parser, instruction, command.positional, command.preset)
    if instruction.mode is Mode.ASYNC:
        parser.add_argument(
            "--wait",
            action="store_true",
            help="wait until the task has ended; --timeout then holds for that too "
            f"(default: {DEFAULT_WAIT:g})",
        )
    parser.set_defaults(
        run=lambda arguments: run(arguments, command), tables=has_table(instruction)
    )


def run(arguments: argparse.Namespace, command: Command) -> Output:
    """Sends one instruction. Raises what the SDK raises, and TaskFailed."""
    instruction = command.instruction
    values, request = arguments_for(instruction, arguments, command.preset)
    exchanges: list[Exchange] = []
    task: TaskStatus | None = None
    with nodes.connect(arguments, exchanges.append) as node:
        try:
            reply = node.call(instruction, **values)
            exchange = exchanges[-1]
            if instruction.mode is Mode.ASYNC and arguments.wait:
                task = _wait(node, instruction, cast("TaskHandle", reply), arguments, exchange)
        except KeyboardInterrupt:
            raise _interrupted(instruction) from None
        where = str(nodes.address_of(arguments))
        lit = node.capability_map
        caps, agent = node.caps, node.agent_key
        report = Report(where, agent, instruction, request, reply, exchange, caps, lit, task)

    def show(screen: Screen) -> None:
        if has_table(instruction):
            from asys.cli.views import show_reading

            show_reading(screen, report)
        else:
            screen.line(sentence(report))

    return Output(data_of(report), show)


def _wait(
    node: Node,
    instruction: AnyInstruction,
    reply: TaskHandle,
    arguments: argparse.Namespace,
    exchange: Exchange,
) -> TaskStatus:
    """SUCCESS. TaskFailed, or OutcomeUnknown when the node did not say how the task ended."""
    name, seq = instruction.name, exchange.seq or 0
    try:
        status = node.task(reply.handle).wait(arguments.timeout or DEFAULT_WAIT)
    except AsysError as error:
        raise OutcomeUnknown(
            f"{name} is accepted, and how it ended is not known: {error}",
            instruction=name,
            seq=seq,
        ) from error
    if status in (TaskStatus.TIMEOUT, TaskStatus.NOT_FOUND, TaskStatus.PENDING):
        what = "gave it up before it ended" if status is TaskStatus.TIMEOUT else "forgot it"
        raise OutcomeUnknown(
            f"{name} is accepted, and how it ended is not known: the node {what}",
            instruction=name,
            seq=seq,
        )
    if status is not TaskStatus.SUCCESS:
        raise TaskFailed(f"{name} is accepted, and its task ended as {status.name.lower()}")
    return status


def _interrupted(instruction: AnyInstruction) -> Interrupted:
    if instruction.level is Level.PLAIN:
        return Interrupted("interrupted")
    return Interrupted(f"interrupted; {instruction.name} may have been done all the same")


def _description(instruction: AnyInstruction) -> str:
    """Help from the declaration: what an agent or a person needs to choose it."""
    guide = instruction.guide
    paragraphs = [
        guide.description,
        f"When: {guide.when}",
        f"When not: {guide.when_not}",
        f"Side effects: {guide.side_effects}",
        f"Reversible: {guide.reversible}",
        f"Risk: {guide.risk.value}. Instruction {instruction.name}, code {instruction.code:02X}, "
        f"{instruction.level.title}.",
    ]
    return "\n".join(
        textwrap.fill(one, 79, subsequent_indent="  ", break_on_hyphens=False) for one in paragraphs
    )
