"""Parquet: types, row groups that go out as they come, files without an end; and the document."""

from __future__ import annotations

import errno
import gc
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asys.audit import export_parquet
from asys.audit.export_parquet import BYTES, ROWS, SCHEMA, ParquetTable
from support.audit_files import START_NS


def table_of(file: io.BytesIO) -> Any:
    return pq.read_table(pa.BufferReader(file.getvalue()))


def test_values_keep_their_types() -> None:
    file = io.BytesIO()
    row = {
        "type": "action",
        "time": START_NS + 123_456_789,
        "session": 2**32 - 1,
        "code": 255,
        "sw": 0x9000,
        "ok": False,
        "payload": b"\0\xff",
        "count": 2**64 - 1,
        "label": 'é"\n',
        "unknown": "left out",
    }
    with ParquetTable(file) as table:
        table.add(row)
    read = table_of(file)
    assert read.schema.equals(SCHEMA)
    assert read.column("time").cast(pa.int64()).to_pylist() == [START_NS + 123_456_789]
    (found,) = read.drop_columns(["time"]).to_pylist()
    del row["time"], row["unknown"]
    assert {name: value for name, value in found.items() if value is not None} == row


def test_without_rows_it_is_a_table_nevertheless() -> None:
    file = io.BytesIO()
    with ParquetTable(file):
        pass
    read = table_of(file)
    assert (read.num_rows, read.schema.equals(SCHEMA)) == (0, True)


def test_a_time_that_does_not_fit_is_told_in_words() -> None:
    file = io.BytesIO()
    with ParquetTable(file) as table:
        table.add({"type": "action", "time": 2**63 - 1, "intent": 2**63})
        table.add({"type": "gap", "time": 2**64 - 1, "last": 2**64 - 1, "note": "9 lost"})
    read = table_of(file)
    assert read.column("time").cast(pa.int64()).to_pylist() == [2**63 - 1, None]
    assert read.column("note").to_pylist() == [
        f"intent is {2**63} ns",
        f"9 lost; time is {2**64 - 1} ns; last is {2**64 - 1} ns",
    ]


def test_rows_go_out_group_by_group() -> None:
    file = io.BytesIO()
    sizes = []
    with ParquetTable(file) as table:
        for number in range(2 * ROWS + 1):
            table.add({"type": "action", "seq": number})
            if number % ROWS in (0, ROWS - 1):
                sizes.append(len(file.getvalue()))
    assert sizes[0] < sizes[1] == sizes[2] < sizes[3] == sizes[4]
    about = pq.ParquetFile(pa.BufferReader(file.getvalue())).metadata
    assert [about.row_group(one).num_rows for one in range(3)] == [ROWS, ROWS, 1]
    assert table_of(file).column("seq").to_pylist() == list(range(2 * ROWS + 1))


def test_large_payloads_make_smaller_groups() -> None:
    file = io.BytesIO()
    payload = bytes(BYTES // 4)
    with ParquetTable(file) as table:
        for _ in range(9):
            table.add({"type": "action", "payload": payload})
    about = pq.ParquetFile(pa.BufferReader(file.getvalue())).metadata
    assert [about.row_group(one).num_rows for one in range(about.num_row_groups)] == [4, 4, 1]


def test_what_failed_amid_it_has_no_end() -> None:
    file = io.BytesIO()

    def interrupted() -> None:
        with ParquetTable(file) as table:
            for number in range(ROWS + 5):
                table.add({"type": "action", "seq": number})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    assert file.getvalue()[:4] == b"PAR1"
    with pytest.raises(pa.ArrowInvalid):
        table_of(file)


class Full(io.BytesIO):
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 10, 4000])
def test_a_full_disk_is_told_as_it_is(room: int) -> None:
    def fill() -> None:
        with ParquetTable(Full(room)) as table:
            for number in range(ROWS + 1):
                table.add({"type": "action", "seq": number})

    with pytest.raises(OSError, match="No space left") as raised:
        fill()
    assert raised.value.errno == errno.ENOSPC
    gc.collect()


def test_the_document_has_every_column() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "audit.md").read_text("utf-8")
    lines = text.splitlines()
    start = lines.index("| Column | Type | Content |") + 2
    said: dict[str, str] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        names, kind, _ = (cell.strip() for cell in line.strip("|").split("|"))
        said |= {name.strip("` "): kind for name in names.split(",")}
    words = {"timestamp[ns, tz=UTC]": "timestamp in ns, UTC"}
    assert said == {one.name: words.get(str(one.type), str(one.type)) for one in SCHEMA}
    assert f"{ROWS:,}" in text
    assert export_parquet.BYTES == 8 << 20
