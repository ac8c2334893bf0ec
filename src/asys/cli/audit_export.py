"""`asys audit export`: an audit for other programs, as RFC 5424 messages or as Parquet."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from asys.audit import export_syslog
from asys.audit.reading import Action, Damage, Item, Notice, State
from asys.cli.audit_views import action_data, notice, notice_data, outcome, target, target_data
from asys.cli.failures import LocalFault, MissingExtra, complain
from asys.cli.screen import is_terminal, print_json
from asys.errors import ArgumentError

RFC5424: Final = "rfc5424"
PARQUET: Final = "parquet"
FORMATS: Final = (RFC5424, PARQUET)

MAX_TARGET: Final = 512
"""Characters of a target in a message; a longer one is cut and ends with `...`."""

_NOT_IN_PARAMETERS: Final = frozenset(("time", "time_ns", "label", "meaning"))
"""What the header or another parameter says already."""


def export(arguments: argparse.Namespace, items: Iterator[Item]) -> int:
    """Writes items in the form that was asked for; returns the exit status, 1 for damage.

    AsysError; OSError only when standard output cannot be written.
    """
    path: Path | None = arguments.output
    parquet = arguments.format == PARQUET
    if path is None and arguments.json:
        raise ArgumentError("--json needs --output FILE: standard output takes the export itself")
    if path is None and parquet and is_terminal(sys.stdout):
        raise ArgumentError("Parquet is nothing for a terminal: give --output FILE")
    if parquet:
        _need_pyarrow()
    first = list(itertools.islice(items, 1))  # what cannot be read shows before a file is there
    items = itertools.chain(first, items)
    count = status = 0
    with _destination(path) as file, _writer(arguments, file) as write:
        for item in items:
            if isinstance(item, Damage):
                complain(f"asys: {item.words}")
                status = 1
            else:
                write(item)
                count += 1
    if path is not None:
        if arguments.json:
            print_json({"file": str(path), "format": arguments.format, "rows": count})
        else:
            print(f"{path}: {count} {'rows' if parquet else 'messages'}")
    return status


@contextmanager
def _writer(
    arguments: argparse.Namespace, file: BinaryIO
) -> Iterator[Callable[[Action | Notice], None]]:
    """What writes one item in the form that was asked for."""
    if arguments.format == PARQUET:
        from asys.audit.export_parquet import ParquetTable

        with ParquetTable(file) as table:
            yield lambda item: table.add(row(item))
    else:
        yield lambda item: _put(file, message(item, arguments.hostname))


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(data)


# -- one item


def message(item: Action | Notice, hostname: str = export_syslog.NIL) -> bytes:
    """An item as a message of RFC 5424, with its newline."""
    if isinstance(item, Action):
        data, kind, text = action_data(item), item.instruction, _sentence(item)
        data["target"] = _cut(target(item)) if item.payload is not None else None
    else:
        data, kind, text = notice_data(item), item.entry.type.name, notice(item)
    params = {
        name: str(value)
        for name, value in data.items()
        if value is not None and name not in _NOT_IN_PARAMETERS
    }
    return export_syslog.message(
        export_syslog.severity(item), item.time_ns, kind, params, text, hostname=hostname
    )


def _sentence(action: Action) -> str:
    times = f" x {action.times}" if action.times > 1 else ""
    return f"{action.agent}: {action.instruction}{times}: {outcome(action)}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TARGET else f"{text[: MAX_TARGET - 3]}..."


def row(item: Action | Notice) -> dict[str, Any]:
    """An item as a row of the table: the columns that it has, by name."""
    if isinstance(item, Notice):
        data = notice_data(item)
        return data | {
            "time": item.time_ns,
            "label": None if item.who is None else item.who.label,
            "first": data.get("first_ns"),
            "last": data.get("last_ns"),
            "note": notice(item),
        }
    about = target_data(item)
    return action_data(item) | {
        "time": item.time_ns,
        "code": item.ins,
        "cla": item.cla,
        "payload": item.payload,
        "target": None if about is None else json.dumps(about, ensure_ascii=False),
        "ok": None if item.state is State.UNFINISHED else item.succeeded,
        "sw": item.sw,
        "intent": item.intent_ns,
        "outcome": item.outcome_ns,
        "task_end": item.task_ns,
    }


# -- files and libraries


def _need_pyarrow() -> None:
    """MissingExtra when there is no pyarrow. Asked first, so that no file is begun."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(
            f"Parquet needs pyarrow: pip install 'asys[parquet]'; --format {RFC5424} works "
            f"without it ({error})"
        ) from None
    del pyarrow


@contextmanager
def _destination(path: Path | None) -> Iterator[BinaryIO]:
    """Where the export goes. LocalFault when FILE cannot be written; for stdout OSError.

    A file appears, or takes the place of the one before, when it is whole; only its owner may read
    it.
    """
    if path is None:
        if sys.stdout is None:
            raise LocalFault("there is no standard output: give --output FILE")
        yield sys.stdout.buffer
        return
    try:
        path = Path(os.path.realpath(path))
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as file:  # a pipe, or a device
                yield file
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise LocalFault(f"cannot write {path}: {reason}") from error
