"""The instruction set for other programs, and the generated page of the documentation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from enum import IntFlag
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import REGISTRY, SYS_HELLO, AnyInstruction, Empty, Group, Instruction, Level, Mode
from asys.isa.bytemap import size_range
from asys.isa.document import _section, _table, to_markdown
from asys.isa.export import (
    Row,
    as_dict,
    dump_toml,
    entry,
    main,
    table_rows,
    to_json,
    to_toml,
)
from asys.protocol import limits
from asys.protocol.codec import Layout, layout, p1, p2, raw, text, u8
from asys.protocol.status import MEANINGS, SW

PAGE = Path(__file__).parents[2] / "docs" / "instructions.md"
REFRESH = "make generate, or: python -m asys.isa.export > docs/instructions.md"

every = pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)


def _exported(one: AnyInstruction) -> dict[str, Any]:
    (found,) = [entry for entry in as_dict()["instructions"] if entry["code"] == one.code]
    return dict(found)


def test_json_is_the_data() -> None:
    assert json.loads(to_json()) == as_dict()
    assert to_json().endswith("}\n")


def test_toml_is_the_data() -> None:
    assert tomllib.loads(to_toml()) == as_dict()


def test_what_is_at_the_top() -> None:
    data = as_dict()
    assert list(data) == [
        "format",
        "protocol",
        "levels",
        "groups",
        "status_words",
        "instructions",
    ]
    assert data["format"] == 1
    assert data["protocol"]["version"] == "1.0"
    assert data["protocol"]["default_port"] == 7816
    assert data["protocol"]["noise"] == "Noise_IK_25519_ChaChaPoly_BLAKE2b"
    assert data["protocol"]["epoch_context"] == "asys-epoch-v1"
    assert data["protocol"]["encryption_context"] == "asys-enc-v1"
    assert [entry["name"] for entry in data["levels"]] == ["plain", "signed", "enc-sign"]


def test_every_limit_of_the_protocol_is_there() -> None:
    protocol = as_dict()["protocol"]
    values = set(protocol["limits"].values()) | {
        value for value in protocol.values() if not isinstance(value, dict)
    }
    for name, value in vars(limits).items():
        if name.isupper():
            assert (value.hex() if isinstance(value, bytes) else value) in values, name
    assert protocol["limits"]["max_data"] == 65_494


def test_the_status_words() -> None:
    found = {entry["code"]: entry for entry in as_dict()["status_words"]}
    assert set(found) == {int(sw) for sw in SW}
    for sw in SW:
        entry = found[int(sw)]
        assert (entry["hex"], entry["name"]) == (str(sw), sw.name)
        assert (entry["meaning"], entry["advice"]) == MEANINGS[sw]


def test_the_groups() -> None:
    found = {entry["first"]: entry for entry in as_dict()["groups"]}
    assert set(found) == {group << 4 for group in Group}
    for group in Group:
        assert found[group << 4]["name"] == group.title
        assert found[group << 4]["last"] == (group << 4) + 15


@every
def test_what_an_instruction_says(one: AnyInstruction) -> None:
    found = _exported(one)
    assert found["hex"] == f"{one.code:02X}"
    assert (found["name"], found["method"], found["command"]) == (
        one.name,
        one.method,
        one.command,
    )
    assert (found["group"], found["level"], found["mode"]) == (
        one.group.title,
        one.level.title,
        one.mode.value,
    )
    assert (found["idempotent"], found["ignores_extra_data"]) == (
        one.idempotent,
        one.ignores_extra,
    )
    guide = {name: getattr(one.guide, name) for name in one.guide.__slots__}
    assert found["guide"] == guide


def _check_layout(found: dict[str, Any], declared: type[Layout]) -> None:
    """Whoever has only the export can lay out the bytes."""
    assert (found["size_min"], found["size_max"]) == size_range(declared)
    offset = 0
    for each in found["fields"]:
        if each["place"] != "payload":
            assert each["place"] in ("p1", "p2")
            assert "offset" not in each
        else:
            assert each["offset"] == offset
            offset += each.get("size", 0)
            offset += each.get("length_size", 1) if each.get("counted") else 0
        assert each["doc"]
        if each["type"] == "reserved":
            continue
        field = declared.FIELDS[each["name"]]
        assert each["type"] == field.kind
        assert each.get("unit", "") == field.unit
        assert each.get("absent") == field.absent
        if field.kind == "text":
            assert (each["size_min"], each["size_max"]) == (field.least, field.most)
            assert each.get("pattern", "") == field.pattern
            assert each.get("refuse", "") == field.refuse
            assert each["counted"] == bool(field.counted)
            re.compile(field.pattern)
        elif field.kind == "rows" and field.slot is not None:
            assert each["count_max"] == field.most
            assert "size" not in each
            sizes = (each["slot"]["size_min"], each["slot"]["size_max"])
            assert sizes == size_range(field.slot)
            _check_layout(each["slot"], field.slot)
        elif field.slot is not None:
            assert each["size"] == each["count"] * field.slot.SIZE
            _check_layout(each["slot"], field.slot)
        elif field.kind != "bytes":
            assert each["type"] == f"u{8 * each['size']}"
            assert (each["least"], each["most"], each["scale"]) == (
                field.least,
                field.most,
                field.scale,
            )
        assert each.get("written") == (field.convert.written if field.convert else None)
        if field.enum is not None:
            assert each["enum"] == field.enum.__name__
            assert each["flags"] == issubclass(field.enum, IntFlag)
            assert {one["name"].upper(): one["value"] for one in each["values"]} == {
                name: int(value) for name, value in field.enum.__members__.items()
            }
            assert each.get("unknown") == field.unknown
    assert offset == declared.SIZE + declared.OPTIONAL
    optional = {each["name"] for each in found["fields"] if each.get("optional")}
    assert optional == {name for name, one in declared.FIELDS.items() if one.optional}
    names = {each["name"] for each in found["fields"] if each["type"] != "reserved"}
    assert names == set(declared.FIELDS)


@every
def test_the_layouts_of_an_instruction(one: AnyInstruction) -> None:
    found = _exported(one)
    _check_layout(found["request"], one.request)
    _check_layout(found["response"], one.reply)


def test_a_known_instruction_in_full() -> None:
    (found,) = [one for one in as_dict()["instructions"] if one["name"] == "PROC_THROTTLE"]
    assert found["request"] == {
        "size_min": 4,
        "size_max": 4,
        "fields": [
            {
                "name": "action",
                "place": "p1",
                "type": "u8",
                "doc": "0 stop, 1 continue",
                "size": 1,
                "least": 0,
                "most": 255,
                "scale": 1,
                "enum": "ThrottleAction",
                "flags": False,
                "values": [{"name": "stop", "value": 0}, {"name": "continue", "value": 1}],
            },
            {
                "name": "pid",
                "place": "payload",
                "offset": 0,
                "type": "u32",
                "doc": "process id",
                "size": 4,
                "least": 1,
                "most": 4294967295,
                "scale": 1,
            },
        ],
    }
    assert found["response"] == {"size_min": 0, "size_max": 0, "fields": []}


@layout
class Odd(Layout):
    """What no instruction has yet: P2, bytes behind a number, a text without a refusal."""

    count: Annotated[int, p2("a count | or so", most=32)]
    number: Annotated[int, u8("a number", most=7)]
    key: Annotated[bytes, raw("a key", 32)]
    label: Annotated[str, text("a label", least=0, most=31, pattern="[a-z|]*")]
    mode: Annotated[int, p1("behind what is open-ended, but in the header")]


def _odd() -> AnyInstruction:
    return Instruction(
        0xC0,
        "ODD",
        request=Odd,
        reply=Empty,
        guide=SYS_HELLO.guide,
        level=Level.ENC_SIGN,
        mode=Mode.ASYNC,
        idempotent=False,
    )


def test_what_no_instruction_has_yet() -> None:
    found = entry(_odd())
    _check_layout(found["request"], Odd)
    assert (found["request"]["size_min"], found["request"]["size_max"]) == (33, 64)
    assert tomllib.loads(dump_toml(found)) == found
    section = _section(_odd())
    assert "group vendor, at least enc-sign, async" in section
    assert "not idempotent" in section
    assert "| P2 | 1 | `count` | u8 |  |  | a count \\| or so; at most 32 |" in section
    assert "| 33 | 0-31 | `label` | text |  |  | a label; characters `[a-z\\|]*` |" in section
    assert "Request: 33 to 64 bytes." in section


def test_a_counted_text_and_rows_in_full() -> None:
    found = {one["name"]: one for one in as_dict()["instructions"]}
    add = found["AGENT_ADD"]["request"]
    assert (add["size_min"], add["size_max"]) == (69, 100)
    assert [(field["name"], field["offset"]) for field in add["fields"]] == [
        ("key", 0),
        ("caps", 32),
        ("ttl_s", 64),
        ("label", 68),
    ]
    assert add["fields"][1]["written"].startswith("instruction names, hex codes")
    assert add["fields"][3] == {
        "name": "label",
        "place": "payload",
        "offset": 68,
        "type": "text",
        "doc": "a name for it, or nothing",
        "size_min": 0,
        "size_max": 31,
        "pattern": "[A-Za-z0-9._-]*",
        "counted": True,
    }
    listed = found["AGENT_LIST"]["response"]
    assert (listed["size_min"], listed["size_max"]) == (4, 4 + 32 * 108)
    rows = listed["fields"][-1]
    assert (rows["name"], rows["offset"], rows["count_max"]) == ("agents", 4, 32)
    offsets = [(one["name"], one["offset"], one["size"]) for one in rows["slot"]["fields"]]
    assert offsets == [
        ("key", 0, 32),
        ("parent_hash", 32, 4),
        ("caps", 36, 32),
        ("expires", 68, 4),
        ("flags", 72, 1),
        ("reserved", 73, 3),
        ("label", 76, 32),
    ]
    page = to_markdown()
    assert "Request: 69 to 100 bytes." in page
    assert (
        "| 68 | 1 + 0-31 | `label` | text |  |  | a name for it, or nothing; its length, " in page
    )
    assert "Response: 4 to 3460 bytes." in page
    assert "| 4 | 108 x count | `agents` | up to 32 slots of 108 |" in page
    assert "Each slot of `agents`:\n" in page


# TOML, whatever the data.

_plain = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.booleans()
    | st.floats(allow_nan=False)
)
_keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_tables = st.recursive(
    st.dictionaries(_keys, _plain | st.lists(_plain, max_size=3), max_size=3),
    lambda inner: st.dictionaries(_keys, inner | st.lists(inner, max_size=3) | _plain, max_size=3),
    max_leaves=8,
)


@given(_tables)
def test_toml_round_trip(data: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(data)) == data


def test_toml_of_what_it_has_no_form_for() -> None:
    wrong: list[object] = [None, b"bytes", {1, 2}, [{"a": 1}, 2], [None]]
    for value in wrong:
        with pytest.raises(TypeError, match="TOML has nothing for"):
            dump_toml({"key": value})


def test_toml_of_nothing() -> None:
    assert dump_toml({}) == ""
    assert dump_toml({"a": []}) == "a = []\n"


# The table, the page, the command.


def test_the_rows_of_the_table() -> None:
    rows = table_rows()
    assert Row._fields[:2] == ("code", "name")
    assert [row.code for row in rows] == [f"{one.code:02X}" for one in REGISTRY]
    (throttle,) = [row for row in rows if row.code == "20"]
    assert throttle[:7] == (
        "20",
        "PROC_THROTTLE",
        "process",
        "signed",
        "sync",
        "yes",
        "medium",
    )
    assert throttle.description.startswith("Suspends a process")
    for row in rows:
        assert all(isinstance(cell, str) and cell for cell in row)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == to_markdown(), (
        f"docs/instructions.md is not what the declarations say; refresh it: {REFRESH}"
    )


def test_the_page_has_every_instruction_field_and_status_word() -> None:
    page = to_markdown()
    for one in REGISTRY:
        assert f"\n## {one.name}\n" in page
        assert f"[{one.name}](#{one.method})" in page
        for declared in (one.request, one.reply):
            for name, field in declared.FIELDS.items():
                assert f"| `{name}` | " in page
                for inner in field.slot.FIELDS if field.slot else ():
                    assert f"| `{inner}` | " in page
    for sw in SW:
        assert f"| `{sw}` |" in page
    assert "| 18 | 3 | reserved |" in page
    assert "0 to 100; FF: none |" in page
    assert "1 byte." in page
    assert not re.search(r"[^\n]\n##|[ \t]\n|\n\n\n", page)
    assert page.endswith("|\n")


def test_a_cell_cannot_break_out_of_its_table() -> None:
    assert _table(("a",), [("x | y",)]) == "| a |\n| --- |\n| x \\| y |\n"


@pytest.mark.parametrize(
    ("form", "expected"), [("markdown", to_markdown), ("json", to_json), ("toml", to_toml)]
)
def test_the_command(form: str, expected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main([form])
    assert capsys.readouterr() == (expected(), "")


def test_the_command_as_make_generate_calls_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asys.isa.export"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (to_markdown(), "")


def test_the_command_refuses_another_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["yaml"])
    assert caught.value.code == 2
    assert "invalid choice: 'yaml'" in capsys.readouterr().err
