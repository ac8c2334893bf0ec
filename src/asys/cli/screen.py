"""Standard output: lines, tables for people, one JSON object for programs."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asys.cli import failures
from asys.cli.failures import MissingExtra

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPED_WIDTH: Final = 1000
"""Columns where nobody looks: lines stay whole, so that grep and cut find them."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command has to say: `data` with --json, else what `show` draws.

    `text` is printed in place of `data` by a command that has a form of its own. One that
    `streams` prints as it goes: `show` is called with --json too. `status`, asked when all is
    printed, is the exit status.
    """

    data: Mapping[str, Any]
    show: Callable[[Screen], None]
    text: str = ""
    streams: bool = False
    status: Callable[[], int] = lambda: failures.OK


class Screen:
    """Standard output for people. Lines need nothing; tables need rich."""

    def __init__(self) -> None:
        self._console: Console | None = None

    def line(self, text: str) -> None:
        """One line."""
        print(text)

    def show(self, *renderables: RenderableType) -> None:
        """Tables and whatever else rich draws."""
        console = self.console
        for renderable in renderables:
            if console.is_terminal:
                console.print(renderable)
                continue
            with console.capture() as capture:
                console.print(renderable)
            for line in capture.get().splitlines():
                self.line(line.rstrip())  # rich fills cells with blanks

    @property
    def console(self) -> Console:
        """rich's console: no colour in a pipe or with NO_COLOR; text is never read as markup."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                color_system=None if os.environ.get("NO_COLOR") else "auto",
                width=None if is_terminal(sys.stdout) else PIPED_WIDTH,
                highlight=False,
                markup=False,
                emoji=False,
            )
        return self._console


def emit(output: Output, *, as_json: bool) -> None:
    """Prints what a command has to say."""
    if output.streams:
        output.show(Screen())
    elif output.text:
        print(output.text, end="")
    elif as_json:
        print_json(output.data)
    else:
        output.show(Screen())


def print_json(data: Mapping[str, Any]) -> None:
    """One object: on one line for a program, indented for a person who looks at it."""
    print(json.dumps(data, indent=2 if is_terminal(sys.stdout) else None))


def is_terminal(stream: Any) -> bool:
    """True when a person is at the other end. A stream may be missing or closed."""
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:
        return False


def need_tables() -> None:
    """MissingExtra when tables cannot be drawn. Asked first, so that no answer is thrown away."""
    try:
        found = importlib.util.find_spec("rich")
    except ValueError:
        found = None
    if found is None:
        raise MissingExtra("tables need rich: pip install 'asys[cli]'; --json works without it")
