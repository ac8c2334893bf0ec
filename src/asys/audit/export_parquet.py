"""A Parquet file with a row for each action and notice (docs/audit.md, section 8). Needs pyarrow.

Rows go out in row groups as they come, so that memory does not grow with their number but for the
few kilobytes a group that the end of the file says about each.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

ROWS: Final = 16_384
"""Rows in one row group, at most."""

BYTES: Final = 8 << 20
"""Bytes of payloads and texts of unbounded length in one row group, but for its last row."""

_TIME: Final = pa.timestamp("ns", tz="UTC")
_TIMES: Final = ("time", "intent", "outcome", "task_end", "first", "last")

SCHEMA: Final = pa.schema(
    [
        pa.field("type", pa.string(), nullable=False),
        pa.field("time", _TIME),
        pa.field("agent", pa.string()),
        pa.field("label", pa.string()),
        pa.field("key", pa.string()),
        pa.field("key_hash", pa.string()),
        pa.field("peer", pa.string()),
        pa.field("line", pa.uint32()),
        pa.field("session", pa.uint32()),
        pa.field("seq", pa.uint32()),
        pa.field("code", pa.uint8()),
        pa.field("instruction", pa.string()),
        pa.field("cla", pa.uint8()),
        pa.field("digest", pa.string()),
        pa.field("payload", pa.binary()),
        pa.field("target", pa.string()),
        pa.field("state", pa.string()),
        pa.field("ok", pa.bool_()),
        pa.field("sw", pa.uint16()),
        pa.field("meaning", pa.string()),
        pa.field("task", pa.string()),
        pa.field("intent", _TIME),
        pa.field("outcome", _TIME),
        pa.field("task_end", _TIME),
        pa.field("times", pa.uint32()),
        pa.field("count", pa.uint64()),
        pa.field("first", _TIME),
        pa.field("last", _TIME),
        pa.field("reason", pa.string()),
        pa.field("note", pa.string()),
    ]
)
"""The columns."""

_LAST_NS: Final = 2**63 - 1
"""The last moment that a timestamp in ns can say: in the year 2262."""


class ParquetTable:
    """Writes rows to `file`. A file that is not closed, or whose `with` block failed, has no end.

    Such a file cannot be read, and so cannot be taken for a whole one.
    """

    def __init__(self, file: BinaryIO) -> None:
        """OSError, as for every method: what `file` raises."""
        self._sink = _Sink(file)
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self._rows = 0
        self._bytes = 0
        try:
            self._writer = pq.ParquetWriter(self._sink, SCHEMA, compression="zstd")
        except BaseException:
            self._sink.cut_off = True
            raise

    def __enter__(self) -> ParquetTable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._write()
                self._writer.close()
        except BaseException:
            kind = BaseException
            raise
        finally:
            if kind is not None:
                # The writer would otherwise end the file when it is thrown away.
                self._sink.cut_off = True
                self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row: values by column, None for what is not there; times are Unix time in ns.

        A time that a timestamp cannot say goes to the note.
        """
        notes = [row["note"]] if row.get("note") else []
        for name, column in self._columns.items():
            value = row.get(name)
            if name in _TIMES and value is not None and value > _LAST_NS:
                notes.append(f"{name} is {value} ns")
                value = None
            if isinstance(value, str | bytes):
                self._bytes += len(value)
            column.append(value)
        self._columns["note"][-1] = "; ".join(notes) or None
        self._rows += 1
        if self._rows >= ROWS or self._bytes >= BYTES:
            self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        arrays = [pa.array(self._columns[one.name], one.type) for one in SCHEMA]
        for column in self._columns.values():
            column.clear()
        self._rows = self._bytes = 0
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))


class _Sink(io.RawIOBase):
    """What pyarrow writes to; once cut off, it takes bytes and drops them."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.cut_off = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if not self.cut_off:
            self._file.write(data)
        return len(data)
