"""A vendor's methods in the SDK: what they send, and that all of them are there."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from asys_postgres.client import Postgres, SyncPostgres
from asys_postgres.definition import PG_ACTIVITY, PG_CANCEL, VENDOR, Activity

from asys.client.arguments import pack
from asys.errors import ArgumentError
from asys.isa import AnyInstruction, Instruction, Level
from asys.vendor import Vendor, VendorError, id_of_domain
from asys.vendor.client import on_node, on_sync_node

ID = id_of_domain("postgres.example.org").to_bytes(4, "big")


def test_the_id_stands_in_front() -> None:
    assert pack(PG_CANCEL, (), {"pid": 5}) == (0, 0, ID + bytes((0, 0, 0, 5)))
    assert pack(PG_ACTIVITY, (), {}) == (0, 0, ID + bytes(4))


def test_an_instruction_of_nobody_cannot_be_sent() -> None:
    alone: AnyInstruction = Instruction(
        0xC0,
        "ALONE",
        request=PG_ACTIVITY.request,
        reply=Activity,
        level=Level.SIGNED,
        guide=PG_ACTIVITY.guide,
    )
    with pytest.raises(ArgumentError, match="belongs to no Vendor"):
        pack(alone, (), {})


def test_an_instruction_belongs_to_one_vendor() -> None:
    with pytest.raises(VendorError, match="another vendor's instruction"):
        Vendor("other.example.org", "Other", (PG_CANCEL,), handlers="other.handlers")
    assert PG_CANCEL.vendor_id == VENDOR.id


@pytest.mark.parametrize("made", [Postgres, SyncPostgres])
def test_the_typed_class_has_every_instruction(made: type) -> None:
    for one in VENDOR.instructions:
        assert one.guide.description.partition(" ")[0] in (
            inspect.getdoc(getattr(made, one.method)) or ""
        )


def test_without_types() -> None:
    node: Any = object()
    for made in (on_node(VENDOR, node), on_sync_node(VENDOR, node)):
        assert callable(made.pg_activity)
        assert list(inspect.signature(made.pg_cancel).parameters) == ["pid"]
        assert VENDOR.domain in repr(made)
