"""`asys audit show`: whatever the files hold, lines for people and rows for programs come of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from asys.audit.chain import header
from asys.audit.parameters import DIRECTORY, JournalReader, file_name, heading
from asys.audit.reading import Action, Damage, Notice, State, read
from asys.audit.records import EntryType, Record
from asys.audit.segments import AUDIT, segment_name
from asys.cli import audit_views
from fuzz import scratch
from fuzz.choices import Choices, Script
from fuzz.targets.audit_wire import entries

COVERS = ("asys.audit.reading", "asys.audit.parameters", "asys.cli.audit_views")

_TYPES: Final = tuple(EntryType)
_CODES: Final = (0x20, 0x22, 0x21, 0x60, 0x40, 0xFE)
_WORDS: Final = (0x0000, 0x9000, 0x0001, 0x6985, 0x6982, 0x00FF, 0x9101)


def one(data: bytes) -> None:
    """Segments and a journal, built of entries so that records meet each other."""
    choices = Choices(data)
    directory = scratch.directory() / "shown"
    shutil.rmtree(directory, ignore_errors=True)
    (directory / DIRECTORY).mkdir(parents=True)
    journal = choices.blob()
    (directory / DIRECTORY / file_name(1)).write_bytes(
        heading(7) + journal if choices.flag() else journal
    )
    held = 0
    for number in range(1, choices.below(2) + 2):
        written = header(number, bytes(32))
        while choices.left:
            what = choices.byte()
            if what == 0xFF:
                break
            body, steps = _entry(choices, _TYPES[what % len(_TYPES)])
            held += steps
            written += bytes((_TYPES[what % len(_TYPES)],)) + len(body).to_bytes(2, "big") + body
        (directory / segment_name(AUDIT, number)).write_bytes(written)

    with contextlib.closing(JournalReader(directory)) as reader:
        _show(directory, reader, held)


def _show(directory: Path, reader: JournalReader, held: int) -> None:
    """Everything in words and as data; no record shows twice."""
    shown = 0
    for item in read(directory):
        if isinstance(item, Damage):
            assert item.words.isprintable()
        elif isinstance(item, Notice):
            assert audit_views.notice(item).isprintable()
            assert json.dumps(audit_views.notice_data(item))
        else:
            _is_sound(item)
            reader.find(item)
            shown += 1
    for aside in reader.finish():
        assert repr(aside)
    assert shown <= held


def _is_sound(action: Action) -> None:
    """It can be told in words and as data, and its parts go together."""
    line = (
        f"{audit_views.moment(action.time_ns)} {action.instruction} {audit_views.outcome(action)}"
    )
    assert line.isprintable()
    assert audit_views.target(action) is not None
    assert json.dumps(audit_views.action_data(action))
    if action.state is State.UNFINISHED:
        assert action.intent_ns is not None
        assert action.sw is None
    elif action.state in (State.ANSWERED, State.QUEUED):
        assert action.sw is not None
    else:
        assert action.task is not None
    assert action.times == 1 or action.intent_ns is None


def _entry(choices: Choices, type_: EntryType) -> tuple[bytes, int]:
    """The body of an entry, and how many actions may come of it at most."""
    if type_ is EntryType.RUN and choices.flag():
        records = [_record(choices) for _ in range(choices.below(4) + 1)]
        session = choices.below(3).to_bytes(4, "big")
        return session + b"".join(one.pack() for one in records), len(records)
    if type_ is EntryType.PAYLOAD and choices.flag():
        place = bytes((0, 0, 0, choices.below(3), 0, 0, 0, choices.below(4), choices.pick(_CODES)))
        return place + choices.blob(), 0
    if type_ is EntryType.SESSION_OPENED and choices.flag():
        head = choices.below(3).to_bytes(4, "big") + choices.take(44).ljust(44, b"\0")
        label, peer = choices.take(choices.byte()), choices.take(choices.byte())
        return head + bytes((len(label),)) + label + bytes((len(peer),)) + peer, 0
    body = choices.blob()
    return body, len(body) // 12


def _record(choices: Choices) -> Record:
    return Record(
        choices.u16() * 10**9,
        choices.take(4).ljust(4, b"\0"),
        choices.pick(_CODES),
        4,
        choices.below(4),
        choices.take(4).ljust(4, b"\0"),
        choices.pick(_WORDS),
    )


def seeds() -> Iterator[bytes]:
    """One entry of each type, an action in its steps, and a journal."""
    line = b"0 00000000 04 20 00 00 1 4 00000007\n"
    for journal in (b"", line, line + b"lost 1 2 3\n" + line[:9], b"asys-parameters 2 9\n"):
        script = Script().blob(journal).byte(1, 0)
        for entry in entries():
            script.byte(entry.type - 1)
            if entry.type in (EntryType.RUN, EntryType.PAYLOAD, EntryType.SESSION_OPENED):
                script.byte(0)
            script.blob(entry.body())
        yield bytes(script)
    for code in range(len(_CODES)):
        script = Script().blob(line).byte(1, 1)
        for word in range(len(_WORDS)):
            script.byte(0, 1, 0).u16(word).raw(b"hash").byte(code, 1).raw(b"dige").byte(word, 0)
        yield bytes(script.byte(3, 1, 0, 1, code).blob(b"\0\0\0\7").byte(0xFF))
