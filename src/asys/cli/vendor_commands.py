"""`asys vendor`: instructions that vendors have added, and a package to begin with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asys.cli.screen import Output, Screen
from asys.errors import ArgumentError

if TYPE_CHECKING:
    from asys.vendor import Vendor

Add = Callable[[Any, str, str, Callable[[Any], None]], None]
"""Adds a command: to which subparsers, its name, its help, and what adds its arguments."""


def add_vendor(parser: argparse.ArgumentParser, add: Add, words: Sequence[str]) -> None:
    """Arguments of `asys vendor`: `list`, `new`, and a command for each vendor that is installed.

    Vendors' declarations are imported only when `words` name this command.
    """
    parser.set_defaults(tables=False)
    actions = parser.add_subparsers(dest="vendor", metavar="ACTION|DOMAIN", required=True)
    add(actions, "list", "the vendors that are installed here, and their instructions", _add_list)
    add(actions, "new", "write a vendor's package to begin with", _add_new)
    if "vendor" not in words:
        return
    for vendor in vendors():
        add(
            actions,
            vendor.domain,
            f"{vendor.title}: its instructions on a node",
            partial(_add_instructions, vendor=vendor, add=add),
        )


def vendors() -> tuple[Vendor, ...]:
    """The vendors that are installed here; what is wrong with others is said on stderr."""
    from asys.vendor import installed

    found = installed()
    for fault in found.faults:
        said = " ".join(fault.split())
        print(f"asys: vendor left out: {said}", file=sys.stderr)
    return found.vendors


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_list, tables=True)


def _list(_arguments: argparse.Namespace) -> Output:
    from asys.isa import export

    found = vendors()
    data = {"vendors": [described(one) for one in found]}

    def show(screen: Screen) -> None:
        from asys.cli.reference_views import show_table

        if not found:
            screen.line("no vendor is installed here; to begin one: asys vendor new DOMAIN")
        for one in found:
            screen.line(f"{one.domain}  {one.id:08X}  {one.title}")
            show_table(screen, [export.row(each) for each in one.instructions], one.domain)

    return Output(data, show)


def described(vendor: Any) -> dict[str, Any]:
    """A vendor as plain data."""
    from asys.isa import export

    return {
        "domain": vendor.domain,
        "id": vendor.id,
        "title": vendor.title,
        "instructions": [export.entry(one) for one in vendor.instructions],
    }


def _add_instructions(parser: argparse.ArgumentParser, vendor: Any, add: Add) -> None:
    from asys.cli.instructions import Command, add_command

    codes = parser.add_subparsers(dest="instruction", metavar="INSTRUCTION", required=True)
    for one in vendor.instructions:
        command = Command(one.command, one, one.guide.description)
        add(
            codes,
            command.name,
            command.help,
            partial(add_command, command=command),
        )


def _add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("domain", metavar="NAME", help="the vendor's domain, such as example.com")
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to write it; it must be empty or not there (default: named as the package)",
    )
    parser.add_argument(
        "--package", default="", metavar="PACKAGE", help="its Python package (default: asys_LABEL)"
    )
    parser.set_defaults(run=_new)


def _new(arguments: argparse.Namespace) -> Output:
    from asys.vendor import VendorError
    from asys.vendor.scaffold import create, default_package

    package = arguments.package or default_package(arguments.domain.lower())
    directory = arguments.directory or Path(package)
    try:
        written = create(arguments.domain, directory, package)
    except VendorError as error:
        raise ArgumentError(str(error)) from None

    def show(screen: Screen) -> None:
        for path in written:
            screen.line(str(path))
        screen.line("")
        screen.line(f"its tests: cd {directory} && python -m pytest")

    return Output({"files": [str(path) for path in written]}, show)
