"""Options of a command, made from the fields of an instruction's request."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum, IntFlag
from typing import Any, Final

from asys.errors import ArgumentError
from asys.isa import AnyInstruction
from asys.protocol.codec import Field, Layout

RESERVED: Final = frozenset(
    {"help", "json", "port", "identity", "known-hosts", "timeout", "wait", "host"}
)
"""Options that every command has; a field of that name is written --field-NAME."""


def add_fields(
    parser: argparse.ArgumentParser,
    instruction: AnyInstruction,
    positional: Collection[str] = (),
    preset: Collection[str] = (),
) -> None:
    """Adds an option for each field; those in `positional` stand by themselves, `preset` not."""
    optional = _with_default(instruction.request)
    for name, field in instruction.request.FIELDS.items():
        if name in preset:
            continue
        about: dict[str, Any] = {
            "type": _converter(name, field),
            "help": _help(field).replace("%", "%%"),
            "metavar": name.upper(),
        }
        if _is_choice(field) and field.absent is None:
            about |= {"choices": _choices(field), "metavar": None}
        if field.slot is not None:
            about |= {"action": "append", "metavar": "NAME=VALUE,..."}
        if field.boolean:
            about = {"action": "store_true", "help": field.doc.replace("%", "%%")}
        if name in positional:
            parser.add_argument(_destination(name), **about | {"metavar": name.upper()})
        else:
            option = name.replace("_", "-")
            parser.add_argument(
                f"--field-{option}" if option in RESERVED else f"--{option}",
                dest=_destination(name),
                required=name not in optional,
                default=None,
                **about,
            )


def arguments_for(
    instruction: AnyInstruction, arguments: argparse.Namespace, preset: Mapping[str, Any]
) -> tuple[dict[str, Any], Layout]:
    """The arguments of the call, and the request that they make. ArgumentError: they are wrong."""
    values = dict(preset)
    for name, field in instruction.request.FIELDS.items():
        if name in preset:
            continue
        value = getattr(arguments, _destination(name))
        if value is None:
            continue  # not given: the declaration has a default for it
        if value is _NONE:
            value = None
        if field.slot is not None:
            value = _slots(name, field, value)
        values[name] = value
    request = instruction.make_request(**values)
    request.check()
    return values, request


_NONE: Final = object()
"""The value of an option that was written `none`."""


def _destination(name: str) -> str:
    return f"field_{name}"


def _with_default(layout: type[Layout]) -> set[str]:
    parameters = inspect.signature(layout).parameters.values()
    return {one.name for one in parameters if one.default is not inspect.Parameter.empty}


def _is_choice(field: Field) -> bool:
    return field.enum is not None and issubclass(field.enum, IntEnum)


def _choices(field: Field) -> list[str]:
    return [name.lower() for name in field.enum.__members__] if field.enum else []


def _help(field: Field) -> str:
    """What a field is, and what may be written for it."""
    said = field.doc
    if field.kind == "text":
        return f"{said}; {field.least} to {field.most} characters, {field.pattern}"
    if field.convert is not None:
        return f"{said}; {field.convert.written}"
    if field.kind == "bytes":
        least, most = (field.least, field.most) if field.open_ended else (field.size, field.size)
        return f"{said}; {2 * least}{f' to {2 * most}' if most > least else ''} hex digits"
    if field.slot is not None:
        return f"{said}; {', '.join(field.slot.FIELDS)}; up to {field.most} times"
    if _is_choice(field):
        return said
    if field.enum is not None:
        return f"{said}; names with commas: {', '.join(_choices(field))}"
    least, most = field.least, field.most
    if field.scale == 1:
        said += f"; {least} to {most}"
    else:
        said += f"; {least / field.scale:g} to {most / field.scale:g}"
    said += f" {field.unit}" if field.unit else ""
    return said + ("; or none" if field.absent is not None else "")


def _converter(name: str, field: Field) -> Callable[[str], Any]:
    """What turns the text of an option into a value; the range is the layout's to check."""

    def read(text: str) -> Any:
        if field.absent is not None and text == "none":
            return _NONE
        try:
            return convert(field, text)
        except ArgumentError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {_expected(field)}") from None

    read.__name__ = name
    return read


def convert(field: Field, text: str) -> Any:
    """The value of a field that a text stands for. ValueError, ArgumentError: it is none."""
    if field.kind == "text" or _is_choice(field):
        return text
    if field.convert is not None:
        return field.convert.of(text)
    if field.kind == "bytes":
        return bytes.fromhex(text)
    if field.slot is not None:
        return _slot(field.slot, text)
    if field.boolean:
        return bool(int(text, 0))
    if field.enum is not None and issubclass(field.enum, IntFlag):
        return _flags(field.enum, text)
    return int(text, 0) if field.scale == 1 else float(text)


def _expected(field: Field) -> str:
    if field.kind == "bytes":
        return "hex"
    if field.slot is not None:
        return "NAME=VALUE, with commas between them"
    if field.enum is not None:
        return f"made of {', '.join(_choices(field))}"
    return "a whole number" if field.scale == 1 else "a number"


def _flags(enum: type[IntFlag], text: str) -> IntFlag:
    flags = enum(0)
    for name in text.split(","):
        try:
            flags |= enum[name.strip().upper()]
        except KeyError:
            raise ValueError(name) from None
    return flags


def _slot(layout: type[Layout], text: str) -> Layout:
    values: dict[str, Any] = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        field = layout.FIELDS.get(name.strip())
        if field is None or not equals:
            raise ValueError(pair)
        values[name.strip()] = convert(field, value.strip())
    try:
        slot = layout(**values)
        slot.check()
    except TypeError:
        raise ValueError(text) from None
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return slot


def _slots(name: str, field: Field, value: list[Layout]) -> tuple[Layout, ...]:
    if len(value) > field.most:
        raise ArgumentError(f"{name} may be given {field.most} times, not {len(value)}")
    return tuple(value)
