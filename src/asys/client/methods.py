"""SDK methods made from declarations: name, signature and help text."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_type_hints

from asys.client.arguments import is_key
from asys.isa import AnyInstruction, CapabilityMap, Empty, Mode
from asys.isa.capmap import SETS
from asys.protocol.codec import Field

F = TypeVar("F", bound=Callable[..., Any])


def describe(function: F, instruction: AnyInstruction) -> F:
    """Gives `function` the name, the signature and the help text of an instruction's method."""
    function.__name__ = instruction.method
    function.__qualname__ = f"Node.{instruction.method}"
    function.__doc__ = help_text(instruction)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    types = get_type_hints(instruction.request)
    declared = inspect.signature(instruction.request).parameters
    names = [
        inspect.Parameter(name, kind, annotation=types[name], default=declared[name].default)
        for name in instruction.request.FIELDS
    ]
    own = inspect.Parameter("self", kind)
    function.__dict__["__signature__"] = inspect.Signature([own, *names])
    return function


def help_text(instruction: AnyInstruction) -> str:
    """What an agent needs to know before it calls: from the declaration's guide."""
    guide = instruction.guide
    lines = [f"{guide.description} ({instruction.name}, {instruction.code:02X})", ""]
    for name, field in instruction.request.FIELDS.items():
        unit = f", {field.unit}" if field.unit else ""
        lines.append(f"{name}: {field.doc}{unit}{_written(name, field)}.")
    if instruction.request.FIELDS:
        lines.append("")
    if instruction.mode is Mode.ASYNC:
        gives = "a task, whose query() and wait() tell how it ended"
    elif instruction.reply is Empty:
        gives = "None, once it is done"
    else:
        gives = instruction.reply.__name__
    lines += [
        f"Returns {gives}.",
        f"When: {guide.when}",
        f"When not: {guide.when_not}",
        f"Side effects: {guide.side_effects}",
        f"Reversible: {guide.reversible}",
        f"Risk: {guide.risk}.",
    ]
    return "\n".join(
        textwrap.fill(line, 100, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def _written(name: str, field: Field) -> str:
    """What may be written for a field, where its type alone does not say it."""
    if is_key(name, field):
        return f"; {field.size} bytes, or {2 * field.size} hex digits"
    if field.convert is None:
        return ""
    written = f"; {field.convert.written}"
    if field.convert.of == CapabilityMap.of:
        written += f" (groups: {', '.join(one for one in SETS if one not in ('core', 'all'))})"
    return written


def attach(
    node: type,
    instructions: Iterable[AnyInstruction],
    make: Callable[[AnyInstruction], Callable[..., Any]],
) -> None:
    """Gives the class a method for every instruction that it has none for yet.

    What only carries others gets none.
    """
    for instruction in instructions:
        if not instruction.carrier and not hasattr(node, instruction.method):
            setattr(node, instruction.method, make(instruction))
