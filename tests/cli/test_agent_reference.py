"""`asys isa` and `asys inspect`: what can be known without a node."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from asys import isa
from asys.isa import export
from support.agent_cli import AgentCli, at_terminal, on_screen, process

THROTTLE = "042000000800000001000004d200" + "ab" * 16


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def test_isa_lists_every_instruction(agent: AgentCli) -> None:
    run = agent.run("isa")
    rows = [line.split() for line in run.out.splitlines()]
    assert run.status == 0
    for row in export.table_rows():
        assert [*row[:-1], *row.description.split()] in rows


def test_isa_on_a_terminal_puts_the_descriptions_below() -> None:
    drawn = on_screen("isa", no_color=True)
    text = " ".join(drawn.split())
    assert max(map(len, drawn.splitlines())) <= 80
    for one in isa.REGISTRY:
        assert f"{one.name} {one.guide.description}" in text


def test_isa_on_a_wide_terminal_puts_them_beside() -> None:
    drawn = on_screen("isa", columns=200, no_color=True)
    assert any(
        "SYS_HELLO" in line and isa.SYS_HELLO.guide.description in line
        for line in drawn.splitlines()
    )


def test_isa_as_json_and_toml_is_the_export(agent: AgentCli) -> None:
    assert agent.run("isa", "--json").out == export.to_json()
    assert agent.run("--json", "isa").out == export.to_json()
    assert agent.run("isa", "--toml").out == export.to_toml()


def test_isa_takes_one_form_at_a_time(agent: AgentCli) -> None:
    run = agent.run("isa", "--json", "--toml")
    assert run.status == 2
    assert "not allowed with" in run.error["message"]


@pytest.mark.parametrize("name", ["SYS_STATUS", "sys-status", "02", "0x02", "2"])
def test_isa_of_one_instruction(agent: AgentCli, name: str) -> None:
    run = agent.run("isa", name)
    assert run.out.startswith("SYS_STATUS  code 02\n")
    assert isa.SYS_STATUS.guide.when_not in run.out
    rows = [line.split(maxsplit=4) for line in run.out.splitlines()]
    assert ["3", "4", "available_mb", "u32", "memory available without swapping; in MB"] in rows
    assert ["16", "1", "rpi_percent", "u8", "resource pressure index, 0 to 100; in %; FF none"] in (
        rows
    )
    assert ["18", "3", "reserved", "reserved", "sent as zero, ignored"] in rows


def test_isa_of_one_instruction_shows_parameters_slots_and_texts(agent: AgentCli) -> None:
    throttle = agent.run("isa", "PROC_THROTTLE").out
    assert "    P1     1  action  u8    0 stop, 1 continue\n" in throttle
    assert "Command       asys proc-throttle HOST --action ACTION --pid PID\n" in throttle
    assert "SDK           node.proc_throttle(action=..., pid=...)\n" in throttle
    assert "Response: no payload" in throttle
    procs = agent.run("isa", "SYS_PROCS").out
    assert "5 slots" in procs
    assert "  cpu_percent" in procs
    assert "times 100" in procs
    assert "Request: 1 to 64 bytes" in agent.run("isa", "SVC_RESTART").out
    assert "Response: 1 byte," in agent.run("isa", "TASK_QUERY").out
    assert "0001 x86_64, 0002 aarch64" in agent.run("isa", "SYS_CAPS").out


def test_isa_of_one_instruction_as_json_and_toml(agent: AgentCli) -> None:
    entry = next(one for one in export.as_dict()["instructions"] if one["name"] == "SVC_RESTART")
    assert agent.run("isa", "22", "--json").data == entry
    assert tomllib.loads(agent.run("isa", "22", "--toml").out) == entry


def test_inspect_shows_a_request_field_by_field(agent: AgentCli) -> None:
    run = agent.run("inspect", THROTTLE)
    assert run.status == 0
    assert [line.split() for line in run.out.splitlines()][1:11] == [
        ["0", "04", "CLA", "version", "0,", "signed"],
        ["1", "20", "INS", "PROC_THROTTLE"],
        ["2", "00", "P1", "action", "=", "0", "(stop)"],
        ["3", "00", "P2", "no", "meaning", "here"],
        ["4", "08", "Lc", "8", "bytes", "of", "data"],
        ["5", "00", "00", "00", "01", "Seq", "1"],
        ["9", "00", "00", "04", "d2", "pid", "1234:", "process", "id"],
        ["13", "00", "Le", "0:", "length", "expected,", "advisory"],
        [
            "14",
            *["ab"] * 16,
            "Auth_Tag",
            "not",
            "verified:",
            *["that", "takes", "the", "session's", "key"],
        ],
    ]


def test_inspect_as_json(agent: AgentCli) -> None:
    data = agent.run("inspect", "--json", THROTTLE).data
    assert data["size"] == 30
    assert data["fault"] is None
    assert data["parts"][6] == {
        "offset": 9,
        "hex": "000004d2",
        "name": "pid",
        "meaning": "1234: process id",
    }
    assert "".join(part["hex"] for part in data["parts"]) == THROTTLE


@pytest.mark.parametrize("instruction", ["SYS_HELLO", "sys-hello", "01"])
def test_inspect_shows_a_response(agent: AgentCli, instruction: str) -> None:
    frame = "41535953 3d1219c7 1797b2b1c4d20000 9000"
    run = agent.run("inspect", frame, "--response", instruction)
    assert "node_uid" in run.out
    assert "9000 success" in run.out


def test_inspect_names_what_a_node_would_refuse(agent: AgentCli) -> None:
    run = agent.run("inspect", "e00000000000", "--json")
    assert run.status == 0
    assert run.data["fault"].startswith("6E00 ")


@pytest.mark.parametrize(
    "words",
    [
        ("00", "00:00", "00,00 00"),
        ("0x000000000000",),
        ("00 00 00 00 00 00",),
    ],
)
def test_inspect_takes_hex_as_tools_print_it(agent: AgentCli, words: tuple[str, ...]) -> None:
    assert agent.run("inspect", *words, "--json").data["size"] == 6


@pytest.mark.parametrize("words", [(), ("-",)])
def test_inspect_reads_stdin(words: tuple[str, ...]) -> None:
    run = process("inspect", *words, "--json", stdin="00 00\n00 00\n00 00\n")
    assert run.data["size"] == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "stdin is empty"),
        ("000", "stdin has 3 hex digits"),
        ("hello", "stdin has 'h' in it"),
        ("00" * (1 << 20), "that is no frame"),
    ],
)
def test_inspect_refuses_what_is_no_hex(text: str, said: str) -> None:
    run = process("inspect", stdin=text)
    assert run.status == 2
    assert said in run.err


def test_inspect_does_not_wait_at_a_terminal_without_being_told() -> None:
    with at_terminal("inspect") as terminal:
        run = terminal.end()
    assert run.status == 2
    assert "pipe it in" in run.err


def test_inspect_reads_what_is_typed_when_told() -> None:
    with at_terminal("inspect", "-", "--json") as terminal:
        terminal.type("000100000000")
        terminal.end_of_file()
        run = terminal.end()
    assert run.data["parts"][1]["meaning"] == "SYS_HELLO"


def test_a_long_part_wraps_on_a_terminal() -> None:
    drawn = on_screen("inspect", THROTTLE, no_color=True)
    assert max(map(len, drawn.splitlines())) <= 80
    assert drawn.count("ab ab ab ab ab ab ab ab") == 2


def test_json_is_ascii(agent: AgentCli) -> None:
    out = agent.run("inspect", "9000", "--response", "SYS_CAPS", "--json").out
    assert json.loads(out)
    assert out.isascii()
