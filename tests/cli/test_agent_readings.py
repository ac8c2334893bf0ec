"""`asys status`, `procs`, `caps`, `hello`: what a node says, for people and for programs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from asys import isa
from asys.isa import Process, ProcessFlags
from asys.protocol.apdu import Frame
from asys.protocol.codec import Layout
from support.agent_cli import AgentCli, on_screen
from support.wire_node import CAPS, OK, Answer, Peer, ThreadedWireNode, answer, serve

STATUS = isa.Status(
    load1=1.5,
    load5=0.4,
    cpu_percent=97,
    available_mb=2048,
    root_used_percent=71,
    io_wait_ms=12,
    inbound_mbps=3,
    outbound_mbps=4,
    rpi_percent=None,
)

PROCS = isa.Processes(
    count=213,
    top=(
        Process(4711, 99.97, 3, ProcessFlags(0)),
        Process(815, 0.5, 41, ProcessFlags.ROOT | ProcessFlags.UNINTERRUPTIBLE),
    ),
)


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def says(instruction: isa.AnyInstruction, reply: Layout, sw: bytes = OK) -> Answer:
    """A healthy node that answers one instruction with `reply`."""

    def answering(frame: Frame) -> bytes | None:
        return reply.pack() + sw if frame.ins == instruction.code else answer(frame)

    return answering


def test_status_shows_every_vital_with_its_unit(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, STATUS))) as node:
        run = agent.ask("status", node)
        assert run.status == 0
        assert run.err == ""
    lines = run.out.splitlines()
    assert re.fullmatch(r"127\.0\.0\.1:\d+  SYS_STATUS 9000 in \d+\.\d ms", lines[0])
    assert lines[1:] == [
        "CPU       97 % in use of 2 CPUs",
        "Load      1.5 over 1 minute, 0.4 over 5 minutes",
        "Memory    2048 MB of 23.5 GB available",
        "Disk /    71 % in use of 252.0 GB",
        "I/O wait  12 ms in the last sampling interval",
        "Network   3 Mbit/s in, 4 Mbit/s out",
        "Pressure  not measured",
    ]


def test_status_says_where_the_pressure_comes_from(agent: AgentCli) -> None:
    calm = dataclasses.replace(STATUS, rpi_percent=8)
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, calm))) as node:
        assert "Pressure  8 %, from the kernel (PSI)\n" in agent.ask("status", node).out


def test_status_names_the_node_flags_that_are_up(agent: AgentCli) -> None:
    flagged = dataclasses.replace(STATUS, node_flags=isa.NodeFlags(0x41))
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, flagged))) as node:
        run = agent.ask("status", node)
        data = agent.ask("status", node, "--json").data
    assert run.out.endswith("Flags     audit_degraded, 0x40\n")
    assert data["result"]["node_flags"] == ["audit_degraded", "0x40"]


def test_status_as_json_has_the_names_and_numbers_of_the_sdk(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, STATUS))) as node:
        run = agent.ask("status", node, "--json")
    assert run.status == 0
    round_trip = run.data.pop("round_trip_ns")
    assert isinstance(round_trip, int)
    assert run.data | {"round_trip_ns": 0} == {
        "node": f"127.0.0.1:{node.node.port}",
        "instruction": "SYS_STATUS",
        "sw": "9000",
        "round_trip_ns": 0,
        "result": {
            "load1": 1.5,
            "load5": 0.4,
            "cpu_percent": 97,
            "available_mb": 2048,
            "root_used_percent": 71,
            "io_wait_ms": 12,
            "inbound_mbps": 3,
            "outbound_mbps": 4,
            "rpi_percent": None,
            "node_flags": [],
        },
    }


def test_status_without_sys_caps_does_without_the_size_of_the_machine(agent: AgentCli) -> None:
    def answering(frame: Frame) -> bytes | None:
        return STATUS.pack() + OK if frame.ins == isa.SYS_STATUS.code else b"\x6a\x81"

    async def script(peer: Peer) -> None:
        await peer.handshake()
        while True:
            peer.reply(answering(await peer.request()) or b"")

    with ThreadedWireNode(script) as node:
        run = agent.ask("status", node)
    assert run.status == 0
    assert "CPU       97 % in use\n" in run.out
    assert "Memory    2048 MB available\n" in run.out
    assert "Disk /    71 % in use\n" in run.out


def test_procs_lists_them_with_flags_by_name(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_PROCS, PROCS))) as node:
        run = agent.ask("procs", node)
        data = agent.run("procs", *agent_host(node), "--json", *agent.files).data
    assert run.out.splitlines()[1:] == [
        " PID      CPU  Memory  Flags",
        "4711  99.97 %     3 %",
        " 815   0.50 %    41 %  uninterruptible, root",
        "213 processes; these use most CPU (100 % = one core)",
    ]
    assert data["result"] == {
        "count": 213,
        "top": [
            {"pid": 4711, "cpu_percent": 99.97, "memory_percent": 3, "flags": []},
            {
                "pid": 815,
                "cpu_percent": 0.5,
                "memory_percent": 41,
                "flags": ["uninterruptible", "root"],
            },
        ],
    }


def test_a_flag_without_a_name_is_shown_as_a_number(agent: AgentCli) -> None:
    odd = isa.Processes(count=1, top=(Process(7, 0.0, 0, ProcessFlags(0x41)),))
    with ThreadedWireNode(serve(says(isa.SYS_PROCS, odd))) as node:
        data = agent.ask("procs", node, "--json").data
    assert data["result"]["top"][0]["flags"] == ["zombie", "0x40"]


def test_caps_lists_what_there_is_and_what_lacks(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(caps_with(core=0x0000_000F, ext=0x0000_0401))) as node:
        run = agent.ask("caps", node)
        data = agent.run("caps", *agent_host(node), "--json", *agent.files).data
    lines = run.out.splitlines()
    assert lines[1:7] == [
        "Machine   x86_64, 2 CPUs",
        "Memory    23.5 GB, no swap",
        "Disk /    252.0 GB, ext2/3/4",
        "Kernel    6.18.44",
        "Pressure  the kernel (PSI)",
        "Protocol  1.0",
    ]
    listed = [line.split()[:3] for line in lines[9:]]
    lit = {0x00, 0x01, 0x02, 0x03, 0x20}
    assert listed == [
        *(
            [f"{one.code:02X}", one.name, "yes" if one.code in lit else "no"]
            for one in isa.REGISTRY
        ),
        ["2A", "?", "yes"],
    ]
    result = data["result"]
    assert result["instructions"] == [
        "SYS_CAPS",
        "SYS_HELLO",
        "SYS_STATUS",
        "SYS_PROCS",
        "PROC_THROTTLE",
    ]
    assert result["lacks"] == [one.name for one in isa.REGISTRY if one.code not in lit]
    assert result["unknown"] == ["2A"]
    assert result["architecture"] == "x86_64"
    assert result["root_file_system"] == "ext"
    assert result["rpi_source"] == "kernel_psi"


def test_hello_shows_the_node_and_its_clock(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = agent.ask("hello", node)
        data = agent.run("sys-hello", *agent_host(node), "--json", *agent.files).data
    assert run.out.splitlines()[1:] == [
        "Node UID  3d1219c7",
        "Clock     2023-11-14 22:13:20.000000 UTC",
    ]
    assert data["result"] == {
        "magic": "41535953",
        "node_uid": 0x3D1219C7,
        "time_ns": 1_700_000_000_000_000_000,
    }


def test_success_with_node_flags_is_success(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, STATUS, b"\x91\x01"))) as node:
        run = agent.ask("status", node)
        data = agent.run("status", *agent_host(node), "--json", *agent.files).data
    assert run.status == 0
    assert "SYS_STATUS 9101" in run.out
    assert data["sw"] == "9101"


def test_a_terminal_gets_colour_and_80_columns(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, STATUS))) as node:
        host = agent.trusts(node)
        drawn = on_screen("status", host, *agent.files)
        plain = on_screen("status", host, *agent.files, no_color=True)
        caps = on_screen("caps", host, *agent.files, no_color=True)
    assert "\x1b[1;31m97 %" in drawn  # alarm
    assert "\x1b[33m71 %" in drawn  # warning
    assert "\x1b" not in plain
    assert "\x1b" not in caps
    assert max(map(len, caps.splitlines())) <= 80


def test_a_pipe_gets_no_colour_and_no_blanks_at_line_ends(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(says(isa.SYS_STATUS, STATUS))) as node:
        for command in ("status", "caps", "hello"):
            run = agent.ask(command, node)
            assert "\x1b" not in run.out
            assert all(line == line.rstrip() for line in run.out.splitlines())


def test_json_is_one_line_for_programs_and_indented_on_a_terminal(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        piped = agent.ask("hello", node, "--json")
        shown = on_screen("hello", *agent_host(node), "--json", *agent.files)
    assert piped.out.count("\n") == 1
    assert shown.startswith("{\n  ")


def agent_host(node: ThreadedWireNode) -> tuple[str, str, str]:
    """HOST with its port apart."""
    return "127.0.0.1", "--port", str(node.node.port)


def caps_with(core: int, ext: int) -> Answer:
    """A node that grants other instructions than the usual ones."""
    usual = CAPS.pack()
    payload = core.to_bytes(4, "big") + ext.to_bytes(4, "big") + usual[8:]
    return lambda frame: payload + OK if frame.ins == isa.SYS_CAPS.code else answer(frame)
