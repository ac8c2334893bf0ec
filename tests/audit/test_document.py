"""docs/audit.md against the code: types, sizes, reasons and the worked segment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from asys.audit.chain import Chain, CheckpointKeys, public_of
from asys.audit.entries import Run, SessionOpened
from asys.audit.parameters import (
    DIRECTORY,
    MAX_PAYLOAD,
    Lost,
    Parameters,
    Proof,
    file_name,
    heading,
)
from asys.audit.records import EntryType, Record, Refusal, digest
from asys.audit.segments import AUDIT, segment_name
from asys.audit.verify import OPEN, verify
from asys.cli.audit_parameters import PATIENCE_NS
from asys.node.audit.parameters import (
    FILE_SECONDS,
    JOURNAL,
    MAX_FILES,
    SYNC_SECONDS,
    ParameterKeeping,
)
from asys.node.audit.ring import SLOT

TEXT: Final = Path(__file__).parents[2].joinpath("docs", "audit.md").read_text("utf-8")

NAMES: Final = {
    EntryType.RUN: "run of one session",
    EntryType.REFUSED: "handshakes refused",
    EntryType.READS: "coalesced reads",
}

_WIDTHS: Final = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


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


def test_types_are_those_of_the_code() -> None:
    table = rows("| Type | Name | Body | Size |")
    assert {int(type_): name for type_, name, *_ in table} == {
        one: NAMES.get(one, one.name.lower().replace("_", " ")) for one in EntryType
    }


def test_sizes_are_those_of_their_fields() -> None:
    checked = 0
    for _, _, body, size in rows("| Type | Name | Body | Size |"):
        if not size.isdigit():
            continue
        fields = [field.split()[-1] for field in body.split(" · ")]
        assert sum(_WIDTHS.get(width) or int(width) for width in fields) == int(size)
        checked += 1
    assert checked == 6
    assert sum(int(size) for _, size, _ in rows("| Offset | Size | Content |")) == 24


def test_reasons_are_those_of_the_code() -> None:
    (said,) = re.findall(r"The reasons: (.*?)\. The", TEXT, re.DOTALL)
    assert [int(one.split()[0]) for one in said.split(" · ")] == [int(one) for one in Refusal]


def test_the_worked_segment(tmp_path: Path) -> None:
    first, second, agent = bytes(range(32)), b"\x11" * 32, b"\x22" * 32
    keys, chain = CheckpointKeys(first, second), Chain()
    start = 1_790_000_000 * 10**9
    intent = Record(start + 10**9, digest(agent), 0x22, 4, 1, digest(b"nginx"), 0)
    opened = SessionOpened(0, agent, 3, start, "web", "192.0.2.7:40000")
    made = [("audit.pub", public_of(first).hex()), ("head", chain.begin_segment().hex())]
    for name, entry in (("session opened", opened), ("run, one intent", Run.of(0, [intent]))):
        made += [(name, chain.add(entry).hex()), ("h", chain.h.hex())]
    made += [("checkpoint", chain.checkpoint(keys, start + 2 * 10**9).hex())]
    made += [("anchor", chain.anchor)]
    table = rows("| Name | Value |")
    assert [tuple(row) for row in table] == made
    data = b"".join(bytes.fromhex(table[at][1]) for at in (1, 2, 4, 6))
    tmp_path.joinpath(segment_name(AUDIT, 1)).write_bytes(data)
    verdict = verify(tmp_path, key=bytes.fromhex(table[0][1]))
    assert (verdict.code, verdict.anchor) == (OPEN, table[7][1])


def test_the_parameter_journal_is_that_of_the_code() -> None:
    section = " ".join(TEXT.partition("\n## 10 The parameter journal\n")[2].split())
    one = Parameters(1, b"abcd", 4, 0x20, 0, 0, 7, 5, b"nginx")
    form = "TIME KEYHASH CLA INS P1 P2 SEQ LENGTH PAYLOAD"
    assert form in section
    assert len(one.line().split()) == len(form.split())
    assert "lost COUNT FIRST LAST" in section
    assert len(Lost(1, 2, 3).line().split()) == 4
    assert heading(5) == b"asys-parameters 1 5\n"
    assert "asys-parameters 1 BEGUN" in section
    assert f"`{DIRECTORY}/{file_name(1)}`" in section
    assert f"its first {MAX_PAYLOAD} bytes" in section
    assert f"of {JOURNAL:,} slots of {SLOT} bytes" in section
    assert f"up to {ParameterKeeping().file_bytes >> 20} MiB" in section
    assert f"for {ParameterKeeping().days} days (`--audit-parameters-days N`)" in section
    assert f"when {MAX_FILES} newer ones are there" in section
    assert f"up to {PATIENCE_NS // 10**9} s" in section
    assert SYNC_SECONDS == 1.0
    assert FILE_SECONDS == 24 * 60 * 60
    assert [name.strip("`") for name, _ in rows("| `proof` | Meaning |")] == list(Proof)
