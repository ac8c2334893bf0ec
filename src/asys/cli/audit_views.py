"""What an audit says: as lines for people, as JSON lines and as CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol

from asys.audit.entries import Gap, NodeKey, Refused, SessionClosed, SessionOpened
from asys.audit.parameters import Lost
from asys.audit.reading import Action, Notice, State
from asys.audit.records import KeyEvent, Refusal
from asys.audit.verify import Verdict
from asys.cli.audit_parameters import Beside, Told, lost_data, parameters_data, parameters_text
from asys.cli.values import as_data
from asys.isa import REGISTRY, TaskStatus
from asys.protocol.codec import BadValue, WrongSize
from asys.protocol.status import explain

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# -- words


def plain(text: str) -> str:
    """Text from a file as a terminal may have it: nothing in it moves a cursor."""
    return text if text.isprintable() else "".join(map(_plain_character, text))


def _plain_character(one: str) -> str:
    return one if one.isprintable() else one.encode("unicode_escape").decode()


@lru_cache(maxsize=16)
def clock(second: int) -> str:
    """A second of Unix time as people read it, in UTC."""
    try:
        return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return f"second {second}"


def moment(time_ns: int) -> str:
    """Unix time in ns as people read it, in UTC, to the ms."""
    return f"{clock(time_ns // 10**9)}.{time_ns // 10**6 % 1000:03d}"


def target_data(action: Action) -> dict[str, Any] | None:
    """What it was about, where the audit holds the payload and it can be read."""
    instruction = REGISTRY.get(action.ins)
    if action.payload is None or instruction is None:
        return None
    try:
        request = instruction.parse(0, 0, action.payload)
    except (BadValue, WrongSize):
        return None
    data: dict[str, Any] = as_data(request)
    # P1 and P2 are not recorded.
    return {
        name: value
        for name, value in data.items()
        if instruction.request.FIELDS[name].place not in ("p1", "p2")
    }


def target(action: Action) -> str:
    """The same in words; the payload's digest where that is all there is."""
    data = target_data(action)
    if data is not None:
        return ", ".join(f"{name} {value}" for name, value in data.items() if value != "")
    if action.payload is not None:
        return f"payload {action.payload.hex()}"
    return "" if action.times > 1 or not any(action.digest) else f"digest {action.digest.hex()}"


def outcome(action: Action) -> str:
    """How it went, as far as it is known."""
    if action.state is State.UNFINISHED:
        return "begun, NO OUTCOME recorded"
    said = []
    if action.sw is not None:
        said.append(f"{action.sw:04X} {explain(action.sw).meaning}")
    if action.state is State.QUEUED:
        said.append("task: no end recorded")
    if action.task is not None:
        said.append(f"task: {_task(action.task)}")
    last = action.task_ns or action.outcome_ns
    if action.intent_ns is not None and last is not None:
        said.append(f"after {(last - action.intent_ns) / 1e6:.1f} ms")
    return ", ".join(said)


def _task(status: int) -> str:
    try:
        return TaskStatus(status).name.lower()
    except ValueError:
        return f"status {status:02X}"


def notice(item: Notice) -> str:
    """A notice in words."""
    entry = item.entry
    if isinstance(entry, SessionOpened):
        return (
            f"session {entry.session} opened from {plain(entry.peer)}, key {entry.key.hex()}, "
            f"line {entry.line}"
        )
    if isinstance(entry, SessionClosed):
        return f"session {entry.session} closed"
    if isinstance(entry, Gap):
        return (
            f"GAP: {entry.count} records were lost between {moment(entry.first_ns)} and "
            f"{moment(entry.last_ns)}"
        )
    if isinstance(entry, Refused):
        whose = f", key hash {entry.key_hash.hex()}" if any(entry.key_hash) else ""
        return f"{entry.count} handshakes refused: {refusal(entry.reason)}{whose}"
    if isinstance(entry, NodeKey):
        keys = f"{entry.new_key.hex()} in the place of {entry.old_key.hex()}"
        ends = moment(entry.ends * 10**9)
        if entry.event == KeyEvent.BEGAN:
            return f"the node has a next key: {keys}; both are valid until {ends} at the latest"
        if entry.event == KeyEvent.ENDED:
            return f"the node's next key has taken over: {keys}"
        return f"event {entry.event} of the node's key: {keys}"
    return "the writer ended cleanly"


def lost(item: Lost) -> str:
    """A gap of the parameter journal in words."""
    return (
        f"GAP in the parameter journal: {item.entries} entries were lost between "
        f"{moment(item.first_ns)} and {moment(item.last_ns)}"
    )


def refusal(reason: int) -> str:
    """Why a handshake was refused."""
    try:
        return Refusal(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {reason}"


# -- data


def action_data(action: Action) -> dict[str, Any]:
    """An action as JSON has it."""
    who = action.who
    return {
        "type": "action",
        "time_ns": action.time_ns,
        "time": moment(action.time_ns),
        "agent": action.agent,
        "label": None if who is None else who.label,
        "key": None if who is None else who.key.hex(),
        "key_hash": action.key_hash.hex(),
        "peer": None if who is None else who.peer,
        "line": None if who is None else who.line,
        "session": action.session,
        "seq": action.seq,
        "code": f"{action.ins:02X}",
        "instruction": action.instruction,
        "cla": f"{action.cla:02X}",
        "digest": action.digest.hex(),
        "target": target_data(action),
        "state": action.state.value,
        "sw": None if action.sw is None else f"{action.sw:04X}",
        "meaning": None if action.sw is None else explain(action.sw).meaning,
        "task": None if action.task is None else _task(action.task),
        "intent_ns": action.intent_ns,
        "outcome_ns": action.outcome_ns,
        "task_ns": action.task_ns,
        "times": action.times,
    }


def notice_data(item: Notice) -> dict[str, Any]:
    """A notice as JSON has it."""
    entry = item.entry
    data: dict[str, Any] = {
        "type": entry.type.name.lower(),
        "time_ns": item.time_ns,
        "time": moment(item.time_ns),
        "agent": (item.who.label or None) if item.who is not None else None,
    }
    if isinstance(entry, SessionOpened | SessionClosed):
        data["session"] = entry.session
    if isinstance(entry, SessionOpened):
        data |= {"key": entry.key.hex(), "peer": entry.peer, "line": entry.line}
    if isinstance(entry, Gap | Refused):
        data |= {"count": entry.count, "first_ns": entry.first_ns, "last_ns": entry.last_ns}
    if isinstance(entry, NodeKey):
        data |= {
            "event": entry.event,
            "old_key": entry.old_key.hex(),
            "new_key": entry.new_key.hex(),
            "ends": entry.ends,
        }
    if isinstance(entry, Refused):
        data |= {"reason": refusal(entry.reason), "key_hash": entry.key_hash.hex()}
    return data


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    return {
        "code": verdict.code,
        "words": verdict.words,
        "entries": verdict.entries,
        "anchor": verdict.anchor,
        "tail": verdict.tail._asdict(),
        "next_key": None if verdict.next_key is None else verdict.next_key.hex(),
        "notes": list(verdict.notes),
    }


# -- lines


class Lines(Protocol):
    """A form in which items are printed, one by one."""

    def item(self, item: Beside) -> None:
        """Prints an action or a notice."""
        ...

    def flush(self) -> None:
        """Makes what was printed be seen."""
        ...


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


class TextLines:
    """A line for people; it needs nothing beside Python."""

    def item(self, item: Beside) -> None:
        """Time, agent, instruction, outcome, target."""
        if isinstance(item, Action):
            self._action(item, target(item))
        elif isinstance(item, Told):
            self._action(item.action, parameters_text(item.found))
        elif isinstance(item, Lost):
            print(f"{moment(item.last_ns)}  {'-':<12}  {lost(item)}")
        elif isinstance(item, Notice):
            label = item.who.label if item.who is not None else "-"
            print(f"{moment(item.time_ns)}  {plain(label):<12}  {notice(item)}")

    def _action(self, action: Action, about: str) -> None:
        times = f" x {action.times}" if action.times > 1 else ""
        about = plain(about)
        line = (
            f"{moment(action.time_ns)}  {plain(action.agent):<12}  "
            f"{action.instruction + times:<14}  {outcome(action)}{'  ' if about else ''}{about}"
        )
        print(line.rstrip())

    def flush(self) -> None:
        _flush()


class JsonLines:
    """An object a line."""

    def item(self, item: Beside) -> None:
        """Prints one object."""
        if isinstance(item, Action):
            print(json.dumps(action_data(item)))
        elif isinstance(item, Told):
            data = action_data(item.action) | {"parameters": parameters_data(item.found)}
            print(json.dumps(data))
        elif isinstance(item, Lost):
            print(json.dumps(lost_data(item) | {"time": moment(item.last_ns)}))
        elif isinstance(item, Notice):
            print(json.dumps(notice_data(item)))

    def flush(self) -> None:
        _flush()


CSV_COLUMNS: Final = (
    "type",
    "time",
    "time_ns",
    "agent",
    "key_hash",
    "peer",
    "session",
    "seq",
    "instruction",
    "target",
    "digest",
    "state",
    "sw",
    "task",
    "intent_ns",
    "outcome_ns",
    "task_ns",
    "times",
    "note",
)

PARAMETER_COLUMNS: Final = ("parameters", "proof")
"""Beside them, where the parameter journal is asked too."""


class CsvLines:
    """CSV with a heading; what a spreadsheet would take for a formula is quoted with '."""

    def __init__(self, *, parameters: bool = False) -> None:
        """`parameters`: with the columns for them."""
        self._columns = CSV_COLUMNS + (PARAMETER_COLUMNS if parameters else ())
        self._headed = False

    def item(self, item: Beside) -> None:
        """Prints one row."""
        if isinstance(item, Action):
            data = self._action(item)
        elif isinstance(item, Told):
            data = self._action(item.action) | {"proof": item.found.proof.value}
            if item.found.parameters is not None:
                data["parameters"] = parameters_text(item.found)
        elif isinstance(item, Lost):
            data = lost_data(item) | {"time": moment(item.last_ns), "note": lost(item)}
        elif isinstance(item, Notice):
            data = notice_data(item) | {"note": notice(item)}
        else:
            return
        self._head()
        self._row([_cell(data.get(name)) for name in self._columns])

    def flush(self) -> None:
        self._head()
        _flush()

    @staticmethod
    def _action(action: Action) -> dict[str, Any]:
        about = target(action) if action.payload is not None else ""
        return action_data(action) | {"target": about}

    def _head(self) -> None:
        if not self._headed:
            self._headed = True
            self._row(list(self._columns))

    def _row(self, cells: list[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        print(line.getvalue(), end="")


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = plain(str(value))
    return f"'{text}" if text[:1] in "=+-@" and text else text
