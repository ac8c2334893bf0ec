"""`asys fleet`: status, procs, throttle and resume of many nodes, for people and for programs."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import asys
from asys import isa
from asys.cli.agent import main
from asys.cli.fleet_views import Board
from asys.fleet import Failure, Fleet, NodeEntry, Row
from asys.protocol.apdu import Frame
from support.agent_cli import ASYS, AgentCli, on_screen, process
from support.fleet_nodes import PROCS, healthy
from support.wire_node import Peer, ThreadedWireNode, serve

THROTTLED: list[Frame] = []


def recording(frame: Frame) -> bytes | None:
    if frame.ins == isa.PROC_THROTTLE.code:
        THROTTLED.append(frame)
    return healthy(frame)


async def drops_orders(peer: Peer) -> None:
    """Answers nothing that is signed, and ends the connection."""
    await peer.accept()
    while (frame := await peer.request()).ins != isa.PROC_THROTTLE.code:
        peer.reply(healthy(frame) or b"")


class FleetCli(AgentCli):
    """Nodes in an inventory: two that are well, one whose orders get lost, one that is gone."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(directory, capsys)
        self.inventory = directory / "fleet.toml"

    def write(self, nodes: dict[str, ThreadedWireNode]) -> None:
        """Writes the inventory; `gone` is in it too."""
        text = f'[defaults]\nidentity = "{self.identity}"\n'
        for name, one in nodes.items():
            role = "db" if name.startswith("db") else "web"
            text += f'[nodes.{name}]\nhost = "127.0.0.1"\nport = {one.node.port}\n'
            text += f'key = "{one.node.key.public.hex()}"\nlabels = {{ role = "{role}" }}\n'
        text += f'[nodes.gone]\nhost = "127.0.0.1"\nport = 1\nkey = "{"09" + "00" * 31}"\n'
        text += 'labels = { role = "gone" }\n'
        self.inventory.write_text(text)

    def words(self, action: str, *words: str) -> tuple[str, ...]:
        """A command line."""
        return ("fleet", action, *words, "--inventory", str(self.inventory))


@pytest.fixture
def fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[FleetCli]:
    THROTTLED.clear()
    with ExitStack() as stack:
        nodes = {
            "db1": ThreadedWireNode(serve(recording)),
            "db2": ThreadedWireNode(serve(recording)),
            "web": ThreadedWireNode(drops_orders),
        }
        for one in nodes.values():
            stack.enter_context(one)
        found = FleetCli(tmp_path, capsys)
        found.write(nodes)
        yield found


def test_status_is_a_line_for_each_node_and_tells_of_failures(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("status"))

    assert run.status == 3
    lines = {line.split()[0]: line for line in run.out.splitlines()}
    assert sorted(lines) == ["db1", "db2", "gone", "web"]
    assert lines["db1"].startswith(
        "db1   CPU 97 %  load 1.5  2048 MB available  disk 71 %  net 3/4 Mbit/s  pressure -  ("
    )
    assert lines["gone"].startswith("gone  ConnectFailed: cannot reach 127.0.0.1:1: ")
    assert run.err == "asys: 1 of 4 nodes failed\n"


def test_a_selection_is_asked_and_nobody_else(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("status", "--select", "role=db"))

    assert run.status == 0
    assert sorted(line.split()[0] for line in run.out.splitlines()) == ["db1", "db2"]
    assert run.err == ""


def test_procs_tells_of_the_processes_that_use_most(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("procs", "--select", "name=db1"))

    assert run.status == 0
    assert run.out.startswith("db1  213 processes; most CPU: 4711 100.0 %, 815 0.5 %  (")


def test_json_is_one_object_with_values_and_failures(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("status", "--json"))

    assert run.status == 3
    assert run.err == ""
    rows = {row["node"]: row for row in run.data["rows"]}
    assert run.data["failed"] == 1
    assert rows["db1"]["ok"] is True
    assert rows["db1"]["result"]["cpu_percent"] == 97
    assert rows["db1"]["elapsed_ms"] > 0
    gone = rows["gone"]
    assert (gone["ok"], gone["error"]["kind"], gone["error"]["sw"]) == (
        False,
        "ConnectFailed",
        None,
    )
    assert gone["outcome_unknown"] is False


def test_throttle_touches_the_processes_that_are_named(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("throttle", "4711@db1", "815@db2"))

    assert run.status == 0
    assert sorted(run.out.splitlines()) == [
        "db1   PID 4711 is suspended",
        "db2   PID 815 is suspended",
    ]
    assert sorted(frame.p1 for frame in THROTTLED) == [isa.ThrottleAction.STOP] * 2
    run = fleet.run(*fleet.words("resume", "4711@db1", "--json"))
    assert run.status == 0
    [row] = run.data["rows"]
    assert (row["node"], row["pid"], row["ok"], row["result"]) == ("db1", 4711, True, {})
    assert THROTTLED[-1].p1 == isa.ThrottleAction.CONTINUE


def test_an_order_of_unknown_outcome_is_the_gravest(fleet: FleetCli) -> None:
    run = fleet.run(*fleet.words("throttle", "1@db1", "2@web", "3@gone"))

    assert run.status == 4
    lines = {line.split()[0]: line for line in run.out.splitlines()}
    assert lines["db1"] == "db1   PID 1 is suspended"
    assert lines["web"].startswith("web   PID 2: OutcomeUnknown: ")
    assert lines["gone"].startswith("gone  PID 3: ConnectFailed: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("throttle", "4711"), "'4711' is not written PID@NODE"),
        (("throttle", "x@db1"), "'x@db1' is not written PID@NODE"),
        (("throttle", "1@nowhere", "1@db1"), "1@nowhere: no such node is selected"),
        (("throttle", "1@db1", "1@db1"), "1@db1 is named twice"),
        (("throttle", "1@web", "--select", "role=db"), "1@web: no such node is selected"),
        (("status", "--select", "rolle=db"), "no node has the label rolle"),
        (("status", "--select", "role=cache"), "no node of 4 has role=cache"),
        (("status", "--concurrency", "0"), "concurrency must be at least 1"),
        (("status", "--deadline", "0"), "not a number of seconds"),
        (("status", "--watch", "x"), "not a number of seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_sent(
    fleet: FleetCli, words: tuple[str, ...], message: str
) -> None:
    run = fleet.run(*fleet.words(*words))

    assert run.status == 2
    assert message in run.err
    assert not run.out
    assert not THROTTLED


def test_a_fault_in_the_inventory_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = AgentCli(tmp_path, capsys)
    path = tmp_path / "fleet.toml"
    path.write_text("[nodes.a]\nport = 0\nhost = 'a'\n")

    run = agent.run("fleet", "status", "--inventory", str(path))
    assert run.status == 2
    assert f"{path}, line 2: nodes.a.port must be 1 to 65535" in run.err
    run = agent.run("fleet", "status", "--inventory", str(path), "--json")
    assert run.error["kind"] == "InventoryError"


def test_options_say_what_entries_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = AgentCli(tmp_path, capsys)
    with ThreadedWireNode(serve(healthy)) as node:
        agent.trusts(node)
        path = tmp_path / "fleet.toml"
        path.write_text(f"[nodes.a]\nhost = '127.0.0.1'\nport = {node.node.port}\n")
        words = ("--inventory", str(path), "--deadline", "30", "--concurrency", "2")
        assert agent.run("fleet", "status", *words, *agent.files).status == 0


def test_a_reader_that_goes_away_ends_it(fleet: FleetCli) -> None:
    with subprocess.Popen(
        (*ASYS, *fleet.words("status", "--watch", "0.01")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(120) == 141
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()


@pytest.mark.parametrize("as_json", [False, True])
def test_watch_goes_on_until_it_is_interrupted(fleet: FleetCli, as_json: bool) -> None:
    words = ["status", "--watch", "0.01", *(["--json"] if as_json else [])]
    with subprocess.Popen(
        (*ASYS, *fleet.words(*words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        seen: list[str] = []
        while min(map(seen.count, ("db1", "db2", "gone"))) < 3:
            line = running.stdout.readline()
            seen.append(json.loads(line)["node"] if as_json else line.split()[0])
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Traceback" not in err


def test_on_a_terminal_it_is_a_table_with_progress(fleet: FleetCli) -> None:
    drawn = on_screen(*fleet.words("status", "--select", "role=db"), columns=100, no_color=True)

    last = drawn[drawn.rindex("Node") :]
    assert "db1" in last
    assert "97 %" in last
    assert "2048 MB" in last
    assert "2 of 2 nodes" in last


def test_watching_on_a_terminal_draws_anew(fleet: FleetCli) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": "1"}
    words = fleet.words("procs", "--watch", "0.05", "--select", "role=db")
    with subprocess.Popen((*ASYS, *words), stdout=slave, env=environment) as running:
        os.close(slave)
        drawn = ""
        while drawn.count("99.97 %") < 6:
            drawn += os.read(master, 4096).decode()
        running.send_signal(signal.SIGINT)
        try:
            while data := os.read(master, 4096):
                drawn += data.decode()
        except OSError:  # Linux says EIO when the last writer has gone
            pass
        running.wait(120)
    os.close(master)
    assert "(Ctrl-C ends)" in drawn


# The table


def board(instruction: isa.AnyInstruction, *rows: Row[Any], watching: bool = False) -> str:
    """What the table shows after these rows, on a terminal of 100 columns."""
    nodes = Fleet([NodeEntry(name, "127.0.0.1") for name in ("db1", "db2", "web")])
    console = Console(width=100, no_color=True, file=io.StringIO(), record=True)
    with Board(console, instruction, nodes, watching=watching, clock=lambda: 0.0) as shown:
        for row in rows:
            shown.add(row)
    return console.export_text()


def test_the_table_has_a_line_for_each_node_in_the_order_of_the_inventory() -> None:
    gone = Failure.of(asys.ConnectFailed("cannot reach 127.0.0.1:1"))
    flagged = isa.NodeFlags.AUDIT_DEGRADED
    status = isa.Status(0.5, 0.5, 75, 10, 3, 0, 0, 0, 12, flagged)
    drawn = board(
        isa.SYS_STATUS,
        Row("web", None, gone, 0.002),
        Row("db2", status, None, 0.0012),
    )

    lines = [line.rstrip() for line in drawn.splitlines()]
    db1, db2, web = (
        next(one for one in lines if one.startswith(name)) for name in ("db1", "db2", "web")
    )
    assert lines.index(db1) < lines.index(db2) < lines.index(web)
    assert db1.endswith("...")
    assert " ".join(db2.split()) == "db2 75 % 0.5 10 MB 3 % 12 % 1.2 ms audit_degraded"
    assert "ConnectFailed: cannot reach 127.0.0.1:1" in web
    assert "2 of 3 nodes, 1 failed" in drawn


def test_the_table_of_processes_names_the_node_once() -> None:
    drawn = board(isa.SYS_PROCS, Row("db1", PROCS, None, 0.001), watching=True)

    first = next(line for line in drawn.splitlines() if line.startswith("db1"))
    assert " ".join(first.split()) == "db1 213 4711 99.97 % 3 % 1.0 ms"
    assert "815" in drawn
    assert "1 of 3 nodes" in drawn


def test_the_command_is_listed() -> None:
    run = process("--help")

    assert "many nodes at once" in run.out
    assert main(["fleet", "status", "--help"]) == 0
