"""Typed methods for agents: `Postgres(node)`, and `SyncPostgres` for `asys.sync`."""

from __future__ import annotations

from asys.vendor import SyncVendorNode, VendorNode, action, method, sync_action, sync_method
from asys_postgres.definition import PG_ACTIVITY, PG_BLOCKERS, PG_CANCEL, VENDOR


class Postgres(VendorNode):
    """The PostgreSQL server of a node of `asys.connect`."""

    vendor = VENDOR
    pg_activity = method(PG_ACTIVITY)
    pg_blockers = method(PG_BLOCKERS)
    pg_cancel = action(PG_CANCEL)


class SyncPostgres(SyncVendorNode):
    """The same on a node of `asys.sync.connect`."""

    vendor = VENDOR
    pg_activity = sync_method(PG_ACTIVITY)
    pg_blockers = sync_method(PG_BLOCKERS)
    pg_cancel = sync_action(PG_CANCEL)
