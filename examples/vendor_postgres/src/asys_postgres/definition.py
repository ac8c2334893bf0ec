"""What is declared: three instructions, their bytes, and what an agent must know to choose."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from asys.vendor import (
    Empty,
    Guide,
    Instruction,
    Layout,
    Level,
    Risk,
    UntrustedText,
    Vendor,
    layout,
    padded,
    rows,
    u8,
    u16,
    u32,
    untrusted_padded,
)

MOST_ROWS: Final = 64
"""Rows in one answer."""


class State(IntEnum):
    """What a backend does, as pg_stat_activity says."""

    OTHER = 0
    ACTIVE = 1
    IDLE = 2
    IDLE_IN_TRANSACTION = 3
    IDLE_IN_TRANSACTION_ABORTED = 4


@layout
class AtLeast(Layout):
    """What is worth showing. 4 bytes."""

    least_ms: Annotated[int, u32("how long it must have gone on", unit="ms")] = 0


@layout
class Backend(Layout):
    """One backend. 240 bytes."""

    pid: Annotated[int, u32("its process")]
    elapsed_ms: Annotated[int, u32("since its statement began, or its transaction", unit="ms")]
    state: Annotated[State, u8("what it does", enum=State, unknown=State.OTHER, reserved=3)]
    blocked_by: Annotated[int, u32("a process that it waits for; 0: none")]
    database: Annotated[str, padded("database", 32)]
    user: Annotated[str, padded("role", 32)]
    query: Annotated[UntrustedText, untrusted_padded("its statement, or its last", 160)]


@layout
class Activity(Layout):
    """PG_ACTIVITY: client backends, longest first. 4 bytes and 240 for each."""

    total: Annotated[int, u16("client backends in all")]
    count: Annotated[int, u16("backends in this answer")]
    backends: Annotated[tuple[Backend, ...], rows("longest first", Backend, MOST_ROWS)]


@layout
class Wait(Layout):
    """One backend that waits for a lock. 80 bytes."""

    pid: Annotated[int, u32("the process that waits")]
    blocked_by: Annotated[int, u32("a process that holds what it waits for")]
    waited_ms: Annotated[int, u32("for how long", unit="ms")]
    root: Annotated[int, u32("the process at the head of the queue, which waits for nobody")]
    relation: Annotated[str, padded("what the lock is on, where it is a relation", 64)]


@layout
class Waits(Layout):
    """PG_BLOCKERS: who waits for whom. 2 bytes and 80 for each."""

    count: Annotated[int, u16("waits in this answer")]
    waits: Annotated[tuple[Wait, ...], rows("longest first", Wait, MOST_ROWS)]


@layout
class BackendPid(Layout):
    """Which backend. 4 bytes."""

    pid: Annotated[int, u32("its process, from PG_ACTIVITY or PG_BLOCKERS", least=1)]


PG_ACTIVITY = Instruction(
    0xC0,
    "PG_ACTIVITY",
    request=AtLeast,
    reply=Activity,
    level=Level.SIGNED,
    guide=Guide(
        description="The client backends of the PostgreSQL server: what each does, for how long, "
        "and whom it waits for.",
        when="The database is slow or full of connections: this shows which statement takes long.",
        when_not="To read data. Statements are shown, results never.",
        side_effects="One short query on the server.",
        reversible="Nothing to undo.",
        risk=Risk.LOW,
    ),
)

PG_BLOCKERS = Instruction(
    0xC1,
    "PG_BLOCKERS",
    request=AtLeast,
    reply=Waits,
    level=Level.SIGNED,
    guide=Guide(
        description="Backends that wait for a lock, who holds it, and who stands at the head of "
        "the queue.",
        when="Statements hang though the machine is idle.",
        when_not="For load: a busy server without locks has nothing here.",
        side_effects="One short query on the server.",
        reversible="Nothing to undo.",
        risk=Risk.LOW,
    ),
)

PG_CANCEL = Instruction(
    0xC2,
    "PG_CANCEL",
    request=BackendPid,
    reply=Empty,
    level=Level.SIGNED,
    guide=Guide(
        description="Cancels the statement that a backend is running. Its session stays.",
        when="One statement blocks others or runs away, and its owner can do without its result.",
        when_not="For a backend that is idle in a transaction: there is no statement to cancel.",
        side_effects="The statement fails with an error and its transaction is rolled back.",
        reversible="No: its owner must run it again.",
        risk=Risk.MEDIUM,
    ),
)

VENDOR = Vendor(
    domain="postgres.example.org",
    title="PostgreSQL: activity, blockers, cancel",
    instructions=(PG_ACTIVITY, PG_BLOCKERS, PG_CANCEL),
    handlers="asys_postgres.handlers",
)
