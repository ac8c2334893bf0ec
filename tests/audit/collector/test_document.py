"""docs/audit.md, section 11, against the code: messages, reasons, names, bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from asys.audit import push
from asys.audit.collector import connection, nodes, store
from asys.audit.push import Ack, Open, PushType, Put, Reason, Refused, Stands

TEXT: Final = (
    Path(__file__)
    .parents[3]
    .joinpath("docs", "audit.md")
    .read_text("utf-8")
    .partition("\n## 11 ")[2]
    .partition("\n## ")[0]
)

_WIDTHS: Final = {"u8": 1, "u32": 4, "u64": 8, "32": 32}


def rows(heading: str) -> list[list[str]]:
    """The rows of the table that has this heading."""
    lines = TEXT.splitlines()
    start = lines.index(heading) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_messages_are_those_of_the_code() -> None:
    said: dict[PushType, push.FromNode | push.FromCollector] = {
        PushType.OPEN: Open("audit"),
        PushType.PUT: Put("audit", 1, 1, b"x"),
        PushType.STANDS: Stands("audit", 1, 1, 1, bytes(32)),
        PushType.ACK: Ack("audit", 1, bytes(32)),
        PushType.REFUSED: Refused("audit", 1),
    }
    table = rows("| Type | Message | From | Behind the type |")
    assert [(int(type_, 16), name) for type_, name, *_ in table] == [
        (one.value, one.name) for one in PushType
    ]
    for type_, name, whose, fields in table:
        assert whose == ("node" if int(type_, 16) < 0x80 else "collector")
        parts = fields.split(" · ")
        if name == "PUT":
            assert parts.pop() == f"bytes, 1 to {push.MAX_BYTES}"
            parts.append("one u8")
        size = 1 + sum(_WIDTHS[part.split()[-1]] for part in parts)
        assert len(said[PushType[name]].pack()) == size


def test_reasons_are_those_of_the_code() -> None:
    table = rows("| Reason | Meaning | What the node does |")
    assert [int(row[0]) for row in table] == [int(one) for one in Reason]


def test_names_and_bounds_are_those_of_the_code() -> None:
    files = {row[0].strip("`") for row in rows("| Name | Content |")}
    assert {nodes.KEY_FILE, nodes.PUBLIC_FILE, nodes.NODES_FILE, nodes.LOCK_FILE} < files
    assert f"`{push.PROLOGUE.decode()}`" in TEXT
    assert f"port {push.DEFAULT_PORT};" in TEXT
    assert f"Up to {push.MAX_PIPELINED} PUTs" in TEXT
    assert f"At most {store.GENERATIONS_A_DAY} generations" in TEXT
    within = re.findall(r"within (\d+) s\b", TEXT)
    assert list(map(float, within)) == [connection.MAGIC_SECONDS, connection.HANDSHAKE_SECONDS]
