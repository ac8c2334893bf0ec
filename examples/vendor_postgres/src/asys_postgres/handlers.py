"""What the instructions do, in the worker: short queries on one connection to the server."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from asys.vendor import SW, Refuse, UntrustedText, handler
from asys_postgres.definition import (
    MOST_ROWS,
    PG_ACTIVITY,
    PG_BLOCKERS,
    PG_CANCEL,
    Activity,
    AtLeast,
    Backend,
    BackendPid,
    State,
    Wait,
    Waits,
)

STATEMENT_MS: Final = 3000
"""A query of ours ends before the node cuts the worker off."""

_STATES: Final = {
    "active": State.ACTIVE,
    "idle": State.IDLE,
    "idle in transaction": State.IDLE_IN_TRANSACTION,
    "idle in transaction (aborted)": State.IDLE_IN_TRANSACTION_ABORTED,
}

_ACTIVITY: Final = """
SELECT pid,
       (extract(epoch FROM clock_timestamp()
                - CASE WHEN state = 'active' THEN query_start
                       ELSE coalesce(xact_start, state_change) END) * 1000)::bigint AS elapsed,
       state, coalesce((pg_blocking_pids(pid))[1], 0), datname, usename, query,
       count(*) OVER ()
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
ORDER BY elapsed DESC NULLS LAST, pid
"""

_BLOCKERS: Final = """
WITH RECURSIVE waits AS (
    SELECT a.pid, blocker, a.query_start,
           (SELECT min(l.waitstart) FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted) AS since,
           (SELECT l.relation::regclass::text FROM pg_locks l
             WHERE l.pid = a.pid AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1) AS relation
    FROM pg_stat_activity a, LATERAL unnest(pg_blocking_pids(a.pid)) AS blocker
    WHERE a.wait_event_type = 'Lock'
), heads AS (
    SELECT pid, blocker AS head, 1 AS depth FROM waits
    UNION
    SELECT heads.pid, waits.blocker, depth + 1
    FROM heads JOIN waits ON waits.pid = heads.head WHERE depth < 32
)
SELECT DISTINCT ON (waits.pid) waits.pid, waits.blocker,
       (extract(epoch FROM clock_timestamp() - coalesce(since, query_start)) * 1000)::bigint,
       heads.head, coalesce(relation, '')
FROM waits JOIN heads ON heads.pid = waits.pid
ORDER BY waits.pid, heads.depth DESC
"""


class Server:
    """A connection that is made when it is needed, and made again when it has broken."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._lock = threading.Lock()

    def ask(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows. Refuse: the server cannot be reached, refuses, or takes too long."""
        with self._lock:
            try:
                return self._asked(query, values)
            except psycopg.errors.QueryCanceled:
                raise Refuse(SW.NODE_TIMED_OUT, "the server took too long") from None
            except psycopg.errors.InsufficientPrivilege as error:
                raise Refuse(SW.DENIED, str(error)) from None
            except psycopg.OperationalError as error:
                self._drop()
                raise Refuse(SW.BLOCKED, f"the server cannot be reached: {error}") from None

    def _asked(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                _conninfo(),
                autocommit=True,
                connect_timeout=2,
                application_name="asys",
                options=f"-c statement_timeout={STATEMENT_MS}",
            )
        return self._connection.execute(query, values).fetchall()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _conninfo() -> str:
    """The first line of the file that the admin named with config=; libpq's defaults else."""
    path = os.environ.get("ASYS_VENDOR_CONFIG")
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0]
    except OSError as error:
        raise Refuse(SW.NODE_IO_ERROR, f"{path}: {error.strerror}") from None


_server: Final = Server()


@handler(PG_ACTIVITY)
def pg_activity(request: AtLeast) -> Activity:
    """Client backends, longest first."""
    found = _server.ask(_ACTIVITY)
    rows = [
        Backend(
            pid,
            max(elapsed or 0, 0),
            _STATES.get(state, State.OTHER),
            blocked_by,
            database or "",
            user or "",
            UntrustedText(query or ""),
        )
        for pid, elapsed, state, blocked_by, database, user, query, _ in found
        if max(elapsed or 0, 0) >= request.least_ms
    ][:MOST_ROWS]
    total = found[0][-1] if found else 0
    return Activity(total, len(rows), tuple(rows))


@handler(PG_BLOCKERS)
def pg_blockers(request: AtLeast) -> Waits:
    """Who waits for whom, longest first."""
    found = [Wait(*row) for row in _server.ask(_BLOCKERS) if row[2] >= request.least_ms]
    found.sort(key=lambda wait: (-wait.waited_ms, wait.pid))
    return Waits(len(found[:MOST_ROWS]), tuple(found[:MOST_ROWS]))


@handler(PG_CANCEL)
def pg_cancel(request: BackendPid) -> None:
    """Cancels one statement; a PID that is no client's backend is a wrong one."""
    known = _server.ask(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE pid = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        (request.pid,),
    )
    if not known or not known[0][0]:
        raise Refuse(SW.INVALID_PAYLOAD, f"{request.pid} is no client's backend")
