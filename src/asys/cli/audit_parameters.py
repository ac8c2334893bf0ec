"""The parameter journal beside the actions that `asys audit show --parameters` lists."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from asys.audit.choose import Choice
from asys.audit.parameters import Found, JournalReader, Lost, Parameters, Proof
from asys.audit.reading import Action, Damage, Item
from asys.cli.values import as_data
from asys.isa import REGISTRY
from asys.protocol.codec import BadValue, WrongSize

PATIENCE_NS: Final = 2 * 10**9
"""An entry is written a moment after its record; for older records nobody waits."""

_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Told:
    """An action, and what the journal has for it."""

    action: Action
    found: Found


Beside: TypeAlias = "Item | Told | Lost"
"""What there is to print with a journal."""


def beside(
    items: Iterator[Item], journal: JournalReader, choice: Choice, *, follow: bool
) -> Iterator[Beside]:
    """The items, with the parameters of actions, and with what the journal lost. OSError.

    `follow`: more may come, and an entry may be a moment later than its record.
    """
    for item in items:
        if not isinstance(item, Action):
            yield item
            continue
        found = journal.find(item)
        while follow and found.proof is Proof.MISSING and _is_young(item):
            time.sleep(_LOOK_SECONDS)
            found = journal.find(item)
        yield from _asides(journal, choice)
        yield Told(item, found)
    if not follow:
        yield from _asides(journal, choice, end=True)


def _asides(
    journal: JournalReader, choice: Choice, *, end: bool = False
) -> Iterator[Damage | Lost]:
    for one in journal.finish() if end else journal.asides():
        if not isinstance(one, Lost):
            yield Damage(one.words)
        elif choice.in_time(one.first_ns) or choice.in_time(one.last_ns):
            yield one


def _is_young(action: Action) -> bool:
    return abs(time.time_ns() - action.time_ns) < PATIENCE_NS


# -- as data and as text


def decoded(parameters: Parameters) -> dict[str, Any] | None:
    """The parameters by name, where the instruction is known and they are whole and of its form."""
    instruction = REGISTRY.get(parameters.ins)
    if instruction is None or parameters.is_cut:
        return None
    try:
        data: dict[str, Any] = as_data(
            instruction.parse(parameters.p1, parameters.p2, parameters.payload)
        )
    except (BadValue, WrongSize):
        return None
    return data


def parameters_data(found: Found) -> dict[str, Any]:
    """As JSON has it."""
    one = found.parameters
    if one is None:
        return {"proof": found.proof.value}
    return {
        "proof": found.proof.value,
        "p1": one.p1,
        "p2": one.p2,
        "length": one.length,
        "payload": one.payload.hex(),
        "decoded": decoded(one),
    }


def parameters_text(found: Found) -> str:
    """In words; what is printed of an agent's text may still move a cursor."""
    one = found.parameters
    if one is None:
        return "parameters not in the journal"
    data = decoded(one)
    if data is None:
        said = f"P1 {one.p1:02X} P2 {one.p2:02X} payload {one.payload.hex() or 'empty'}"
        if one.is_cut:
            said += f"... (cut: {len(one.payload)} of {one.length} bytes)"
    else:
        said = " ".join(f"{name}={_value(value)}" for name, value in data.items())
        said = said or "no parameters"
    return f"NOT WHAT THE RECORD HAS: {said}" if found.proof is Proof.DIFFERS else said


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not text or set(text) & set(' ="')):
        return json.dumps(text, ensure_ascii=False)
    return text


def lost_data(lost: Lost) -> dict[str, Any]:
    """A gap of the journal as JSON has it."""
    return {
        "type": "parameters_lost",
        "time_ns": lost.last_ns,
        "count": lost.entries,
        "first_ns": lost.first_ns,
        "last_ns": lost.last_ns,
    }
