"""`asys isa` and `asys inspect`: what can be known without a node."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Final

from asys import isa
from asys.cli.screen import Output, Screen, is_terminal
from asys.errors import ArgumentError
from asys.isa import AnyInstruction

MAX_INPUT: Final = 1 << 20
"""Characters read from stdin for one frame; the largest frame has 131,038 hex digits."""

_SEPARATORS: Final = re.compile(r"[\s:,]+")


def add_isa(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys isa`; --json and --toml exclude each other."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="one instruction, by name or hex code"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="the whole of it as JSON"
    )
    forms.add_argument("--toml", action="store_true", help="the whole of it as TOML")
    parser.set_defaults(run=show_isa, tables=True)


def show_isa(arguments: argparse.Namespace) -> Output:
    """The instruction set with those of installed vendors, or one instruction.

    ArgumentError: there is none of that name.
    """
    from asys.cli.vendor_commands import described, vendors
    from asys.isa import export

    if arguments.name is None:
        added = vendors()
        data = export.as_dict()
        if added:
            data["vendors"] = [described(one) for one in added]
        text = export.dump_toml(data) if arguments.toml else export.dump_json(data)

        def show_all(screen: Screen) -> None:
            from asys.cli.reference_views import show_table

            show_table(screen, export.table_rows())
            for one in added:
                screen.line("")
                screen.line(f"{one.domain}, {one.title}: asys vendor {one.domain} INSTRUCTION")
                show_table(screen, [export.row(each) for each in one.instructions], one.domain)

        return Output({}, show_all, text if arguments.toml or arguments.json else "")
    found, domain = find_any(arguments.name)
    entry = export.entry(found) | ({"vendor": domain} if domain else {})

    def show(screen: Screen) -> None:
        from asys.cli.reference_views import show_instruction

        show_instruction(screen, entry)

    return Output(entry, show, export.dump_toml(entry) if arguments.toml else "")


def find_any(name: str) -> tuple[AnyInstruction, str]:
    """As `find`, also among those of installed vendors, by name; their domain, or ''."""
    try:
        return find(name), ""
    except ArgumentError:
        from asys.cli.vendor_commands import vendors

        for vendor in vendors():
            found = vendor.named(name)
            if found is not None:
                return found, vendor.domain
        raise


def find(name: str) -> AnyInstruction:
    """The instruction of that name or hex code. ArgumentError: there is none; says which are."""
    found = isa.REGISTRY.named(name)
    if found is None and re.fullmatch(r"(0x)?[0-9A-Fa-f]{1,2}", name):
        found = isa.REGISTRY.get(int(name, 16))
    if found is None:
        known = ", ".join(one.name for one in isa.REGISTRY)
        raise ArgumentError(f"there is no instruction {name!r}; known are {known}")
    return found


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asys inspect`."""
    parser.add_argument(
        "hex",
        nargs="*",
        metavar="HEX",
        help="the frame in hex, with or without blanks or colons; without it, or -, from stdin",
    )
    parser.add_argument(
        "--response",
        metavar="INSTRUCTION",
        help="it is a response to this instruction (name or hex code), with its status word",
    )
    parser.set_defaults(run=inspect, tables=True)


def inspect(arguments: argparse.Namespace) -> Output:
    """A frame, byte by byte. ArgumentError: it is not hex, or there is no such instruction."""
    from asys.isa.inspect import FAULT, describe_request, describe_response

    data = _frame(arguments.hex)
    if arguments.response is None:
        parts = describe_request(data)
    else:
        parts = describe_response(data, find(arguments.response))
    fault = next((part.meaning for part in parts if part.name == FAULT), None)

    def show(screen: Screen) -> None:
        from asys.cli.reference_views import show_parts

        show_parts(screen, parts)

    listed = [
        {
            "offset": part.offset,
            "hex": part.raw.hex(),
            "name": part.name,
            "meaning": part.meaning,
        }
        for part in parts
    ]
    return Output({"size": len(data), "fault": fault, "parts": listed}, show)


def _frame(words: list[str]) -> bytes:
    if words and words != ["-"]:
        return _from_hex("".join(words), "HEX")
    if sys.stdin is None or (not words and is_terminal(sys.stdin)):
        raise ArgumentError("give the frame as HEX, or pipe it in; - reads what you type")
    try:
        text = sys.stdin.read(MAX_INPUT + 1)
    except UnicodeDecodeError:
        raise ArgumentError("stdin is not text; it must be a frame in hex") from None
    if len(text) > MAX_INPUT:
        raise ArgumentError(f"stdin has more than {MAX_INPUT} characters; that is no frame")
    return _from_hex(text, "stdin")


def _from_hex(text: str, source: str) -> bytes:
    digits = _SEPARATORS.sub("", text).removeprefix("0x")
    wrong = re.search(r"[^0-9A-Fa-f]", digits)
    if wrong is not None:
        raise ArgumentError(f"{source} has {wrong[0]!r} in it; only hex digits belong there")
    if not digits:
        raise ArgumentError(f"{source} is empty; it must be a frame in hex")
    if len(digits) % 2:
        raise ArgumentError(f"{source} has {len(digits)} hex digits; a byte takes two")
    return bytes.fromhex(digits)
