"""`asys audit`: looks at an audit where it lies, without a node; collects those of others."""

from __future__ import annotations

import argparse
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asys.cli import audit_collect
from asys.cli.audit_arguments import add_all, add_choice, anchor, checked, count, hostname
from asys.cli.failures import LocalFault, complain
from asys.cli.screen import Screen, need_tables, print_json
from asys.errors import ArgumentError

if TYPE_CHECKING:
    from asys.audit.choose import Choice
    from asys.audit.reading import Item
    from asys.audit.verify import Verdict
    from asys.cli.audit_parameters import Beside
    from asys.cli.audit_views import Lines

EXIT_STATUS: Final = """\
exit status:
  0    whole, to a clean end or to the anchor
  1    tampered with; the first bad entry is named
  2    wrong usage or argument, or the files cannot be read
  3    nothing bad, but nothing proves the end: still being written, a crash or a cut
  130  interrupted
  141  nobody reads the output any more
"""

_READING: Final = """\
exit status:
  0    done
  1    something could not be read or is not to be trusted; it is named
  2    wrong usage or argument, or the files cannot be read
  130  interrupted
  141  nobody reads the output any more
"""

_WORST: Final = (0, 3, 1)
"""Verdicts, the worst one last."""

FOLLOW_LINES: Final = 10
"""What has been is shown so far by -f before it waits."""


def add_audit(subparsers: Any) -> None:
    """Adds the command `audit` to the subparsers of `asys`; `execute` does what it says."""
    about = "verify, read, count, export and collect what agents did on nodes"
    audit = subparsers.add_parser("audit", help=about, description=about)
    actions = audit.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, about: str, epilog: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=about, description=about, epilog=epilog
        )
        made.add_argument("directory", type=Path, metavar="DIR", help="where the segments lie")
        made.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="JSON on stdout"
        )
        return made

    verify = action("verify", "tell whether an audit is what was written", EXIT_STATUS)
    verify.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="a public key of this audit that was kept elsewhere, in hex",
    )
    verify.add_argument(
        "--anchor",
        type=checked(anchor),
        metavar="COUNT:HASH",
        help="what `asys audit anchor` printed earlier",
    )
    action("anchor", "print COUNT:HASH of the end, to be kept elsewhere", _READING)
    show = action("show", "list what agents did", _READING)
    add_choice(show)
    show.add_argument(
        "-n", "--lines", type=checked(count), metavar="N", help="only the last N actions"
    )
    show.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help=f"go on with what comes; begins with the last {FOLLOW_LINES}, or N, of the newest "
        "segment",
    )
    show.add_argument("--csv", action="store_true", help="CSV on stdout")
    show.add_argument(
        "--parameters",
        action="store_true",
        help="also what instructions said, where asyd has kept it (--audit-parameters)",
    )
    add_all(show)
    add_choice(action("stats", "draw actions over time, agent by agent", _READING))
    _add_export(action("export", "write what agents did for other programs", _READING))
    audit_collect.add_collect(actions)


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "--format",
        required=True,
        choices=("rfc5424", "parquet"),
        help="messages for a log collector, or a table for analysis (needs pyarrow)",
    )
    export.add_argument(
        "--output", type=Path, metavar="FILE", help="where it goes, in place of standard output"
    )
    export.add_argument(
        "--hostname",
        type=checked(hostname),
        default="-",
        metavar="NAME",
        help="the node, as rfc5424 messages name it",
    )
    add_choice(export)
    add_all(export)


def execute(arguments: argparse.Namespace) -> int:
    """Does what was asked, prints as it goes; returns the exit status.

    AsysError as every command; OSError only when the output cannot be written.
    """
    return _ACTIONS[arguments.action](arguments)


# -- verify, anchor


def _verify(arguments: argparse.Namespace) -> int:
    from asys.audit.segments import AUDIT, READS
    from asys.cli.audit_views import verdict_data

    key = None if arguments.key is None else _key_file(arguments.key)
    verdicts = {AUDIT: _verdict(arguments.directory, AUDIT, key, arguments.anchor)}
    with _files():
        if _has(arguments.directory, READS):
            verdicts[READS] = _verdict(arguments.directory, READS)
    code = max((one.code for one in verdicts.values()), key=_WORST.index)
    if arguments.json:
        print_json({"code": code} | {kind: verdict_data(one) for kind, one in verdicts.items()})
        return code
    for kind, one in verdicts.items():
        print(f"{kind}: {one.words}")
        for note in one.notes:
            print(f"  {note}")
    return code


def _verdict(
    directory: Path,
    kind: str,
    key: bytes | None = None,
    anchor: tuple[int, bytes] | None = None,
) -> Verdict:
    from asys.audit.verify import verify

    with _files():
        return verify(directory, key=key, anchor=anchor, kind=kind)


def _anchor_of(arguments: argparse.Namespace) -> int:
    from asys.audit.segments import AUDIT
    from asys.audit.verify import TAMPERED

    verdict = _verdict(arguments.directory, AUDIT)
    if verdict.code == TAMPERED:
        complain(f"asys: no anchor for what was tampered with: {verdict.words}")
        return 1
    if verdict.anchor is None or not verdict.entries:
        raise ArgumentError(f"{arguments.directory}: {verdict.words}; there is nothing to anchor")
    key = "" if verdict.next_key is None else verdict.next_key.hex()
    if arguments.json:
        print_json({"anchor": verdict.anchor, "key": key or None})
        return 0
    print(verdict.anchor)
    if key:
        complain(f"the key that signs what comes next, for verify --key: {key}")
    return 0


# -- show, stats


def _show(arguments: argparse.Namespace) -> int:
    from asys.cli.audit_views import CsvLines, JsonLines, TextLines

    if arguments.csv and arguments.json:
        raise ArgumentError("--csv and --json exclude each other")
    lines: Lines = TextLines()
    if arguments.csv:
        lines = CsvLines(parameters=arguments.parameters)
    elif arguments.json:
        lines = JsonLines()
    if not arguments.follow:
        wanted = _beside(arguments, _items(arguments))
        if arguments.lines is not None:
            wanted = iter(deque(wanted, maxlen=arguments.lines))
        status = _print(lines, wanted)
        lines.flush()
        return status
    from asys.audit.follow import Watch

    with _files():
        watch = Watch(arguments.directory)  # before the first look, so that nothing is missed
    with watch:
        held: deque[Beside] = deque(maxlen=arguments.lines or FOLLOW_LINES)
        status = 0
        waited = False

        def wait() -> bool:
            nonlocal waited, status
            if not waited:
                status = max(status, _print(lines, held))
                waited = True
            lines.flush()
            with _files():
                return watch()

        for item in _beside(arguments, _items(arguments, wait)):
            if waited:
                status = max(status, _print(lines, [item]))
            else:
                held.append(item)
        return status


def _print(lines: Lines, items: Iterable[Beside]) -> int:
    """Prints items; exit status 1 when one of them is damage."""
    from asys.audit.reading import Damage

    status = 0
    for item in items:
        if isinstance(item, Damage):
            complain(f"asys: {item.words}")
            status = 1
        else:
            lines.item(item)
    return status


def _items(arguments: argparse.Namespace, wait: Callable[[], bool] | None = None) -> Iterator[Item]:
    from asys.audit.reading import read
    from asys.audit.segments import AUDIT, READS

    kind = READS if arguments.reads else AUDIT
    with _files():
        if wait is None and not _has(arguments.directory, kind):
            raise ArgumentError(f"{arguments.directory}: there is no segment {kind}-*.seg")
    source = read(arguments.directory, kind, wait=wait, newest=wait is not None)
    while True:
        with _files():  # printing is not in here: its faults are others
            item = next(source, None)
        if item is None:
            return
        yield item


def _beside(arguments: argparse.Namespace, items: Iterator[Item]) -> Iterator[Beside]:
    """What is wanted, with the parameters where these are wanted too."""
    wanted = _wanted(arguments, items)
    if not arguments.parameters:
        yield from wanted
        return
    from asys.audit.parameters import JournalReader
    from asys.cli.audit_parameters import beside

    if arguments.reads:
        raise ArgumentError("--parameters and --reads exclude each other: readings have none")
    journal = JournalReader(arguments.directory)
    if not arguments.follow and not journal.exists:
        raise ArgumentError(
            f"{arguments.directory}: there is no parameter journal; asyd keeps one with "
            "--audit-parameters on"
        )
    with contextlib.closing(journal):
        source = beside(wanted, journal, _choice(arguments), follow=arguments.follow)
        while True:
            with _files():
                item = next(source, None)
            if item is None:
                return
            yield item


def _choice(arguments: argparse.Namespace) -> Choice:
    from asys.audit.choose import Choice

    return Choice(
        arguments.agent,
        arguments.instruction,
        arguments.status or "",
        arguments.since,
        arguments.until,
    )


def _wanted(arguments: argparse.Namespace, items: Iterator[Item]) -> Iterator[Item]:
    from asys.audit.entries import Gap
    from asys.audit.reading import Action, Notice

    choice = _choice(arguments)
    for item in items:
        if isinstance(item, Action):
            if choice.takes(item):
                yield item
        elif not isinstance(item, Notice):
            yield item  # damage is of interest to everybody
        elif choice.in_time(item.time_ns) and (
            isinstance(item.entry, Gap)  # what is missing might have been wanted
            or (getattr(arguments, "all", False) and choice.only_time)
        ):
            yield item


def _stats(arguments: argparse.Namespace) -> int:
    from asys.audit.reading import Action, Damage
    from asys.cli.audit_stats import Counts, show_stats, stats_data

    if not arguments.json:
        need_tables()
    counts = Counts()
    status = 0
    for item in _wanted(arguments, _items(arguments)):
        if isinstance(item, Action):
            counts.add(item)
        elif isinstance(item, Damage):
            complain(f"asys: {item.words}")
            status = 1
        else:
            counts.gap(item)
    if arguments.json:
        print_json(stats_data(counts))
    else:
        show_stats(Screen(), counts)
    return status


def _export(arguments: argparse.Namespace) -> int:
    from asys.cli.audit_export import export

    return export(arguments, _wanted(arguments, _items(arguments)))


_ACTIONS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "verify": _verify,
    "anchor": _anchor_of,
    "show": _show,
    "stats": _stats,
    "export": _export,
    "collect": audit_collect.collect,
    "admit": audit_collect.admit,
}


# -- arguments and files


@contextmanager
def _files() -> Iterator[None]:
    """LocalFault for a directory or file that cannot be read."""
    try:
        yield
    except OSError as error:
        raise LocalFault(str(error)) from error


def _has(directory: Path, kind: str) -> bool:
    from asys.audit.segments import find_segments

    return bool(find_segments(directory, kind))


def _key_file(path: Path) -> bytes:
    from asys.audit.verify import parse_key

    with _files(), path.open("rb") as file:
        text = file.read(1000).decode("ascii", "replace")
    try:
        return parse_key(text)
    except ValueError as error:
        raise ArgumentError(f"{path}: {error}") from None
