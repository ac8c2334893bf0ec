"""`asys agent-add`, `agent-list`, `agent-remove`, `abandon`, `rekey`; all pages of `caps`."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys import isa
from asys.protocol.apdu import SEC_ENC_SIGN, Frame
from support.agent_cli import AgentCli, on_screen
from support.agents_below import AgentsBelow, key_hash
from support.wire_node import OK, Peer, ThreadedWireNode, answer, serve, serve_b

KEY = bytes(range(32))
OTHER = bytes(range(64, 96))
LIT = "core,security,14"


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def host_of(node: ThreadedWireNode) -> tuple[str, str, str]:
    return "127.0.0.1", "--port", str(node.node.port)


def test_add_and_remove(agent: AgentCli) -> None:
    below = AgentsBelow()
    caps = ("--caps", "core,PROC_THROTTLE", "--ttl-s", "3600", "--label", "worker")
    with ThreadedWireNode(serve_b(below.answer, lit=LIT)) as node:
        added = agent.ask("agent-add", node, "--key", KEY.hex(), *caps)
        again = agent.run(
            "agent-add", *host_of(node), "--key", KEY.hex(), *caps, *agent.files, "--json"
        )
        removed = agent.run("agent-remove", *host_of(node), "--key", KEY.hex(), *agent.files)
        sent = [frame for peer in node.node.peers for frame in peer.frames if frame.ins >> 4 == 6]

    new = below.added[0]
    assert (new.key, str(new.caps), new.ttl_s, new.label) == (
        KEY,
        "core,PROC_THROTTLE",
        3600,
        "worker",
    )
    assert {frame.sec for frame in sent} == {SEC_ENC_SIGN}
    assert added.status == 0
    assert key_hash(KEY).hex() in added.out
    assert again.data["result"] == {"key_hash": key_hash(KEY).hex()}
    assert removed.status == 0
    assert removed.out.startswith(f"{KEY.hex()} and all that it had added are shut out of ")
    assert below.agents == []


def test_defaults_need_not_be_written(agent: AgentCli) -> None:
    below = AgentsBelow()
    with ThreadedWireNode(serve_b(below.answer, lit=LIT)) as node:
        run = agent.ask("agent-add", node, "--key", KEY.hex(), "--caps", "20")
    assert run.status == 0
    assert (below.added[0].ttl_s, below.added[0].label) == (0, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--key", KEY.hex()), "--caps"),
        (("--caps", "core"), "--key"),
        (("--key", "zz", "--caps", "core"), "'zz' is not hex"),
        (("--key", KEY.hex()[:60], "--caps", "core"), "key must be 32 bytes"),
        (("--key", KEY.hex(), "--caps", "core,nonsense"), "'nonsense' is no instruction"),
        (("--key", KEY.hex(), "--caps", "core", "--label", "a b"), "label has characters"),
        (("--key", KEY.hex(), "--caps", "core", "--ttl-s", "-1"), "ttl_s must be 0 to"),
    ],
)
def test_wrong_arguments_reach_no_node(agent: AgentCli, words: tuple[str, ...], says: str) -> None:
    run = agent.run("agent-add", "127.0.0.1", "--port", "1", *words, *agent.files)
    assert run.status == 2
    assert says in run.err


def several(parent: bytes = bytes(4)) -> AgentsBelow:
    below = AgentsBelow()
    below.put(KEY, "core,PROC_THROTTLE", label="worker", flags=isa.AgentFlags.CONNECTED)
    below.put(
        OTHER,
        "all",
        label="deploy",
        expires=1_800_000_000,
        flags=isa.AgentFlags.CONNECTED | isa.AgentFlags.ADMIN,
        parent_hash=key_hash(KEY),
    )
    below.put(bytes(32), "", parent_hash=b"\x12\x34\x56\x78")
    below.put(bytes(31) + b"\1", "20", label="mine", parent_hash=parent)
    return below


def test_the_list_is_a_table(agent: AgentCli) -> None:
    below = several(key_hash(agent.public))
    with ThreadedWireNode(serve_b(below.answer, lit=LIT)) as node:
        run = agent.ask("agent-list", node)
    assert run.status == 0
    head, *rows, last = run.out.splitlines()[1:]
    assert head.split("  ") != [head]
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in (head, *rows)]
    assert cells == [
        ["Label", "Key", "May use", "Expires", "Flags", "Added by"],
        ["worker", KEY.hex(), "core,PROC_THROTTLE", "never", "connected", "admin"],
        ["deploy", OTHER.hex(), "all", "2027-01-15 08:00:00 UTC", "connected, admin", "worker"],
        ["00" * 32, "nothing", "never", "12345678"],
        ["mine", "00" * 31 + "01", "PROC_THROTTLE", "never", "this agent"],
    ]
    assert last == "4 agents"


def test_the_list_as_json(agent: AgentCli) -> None:
    with ThreadedWireNode(serve_b(several().answer, lit=LIT)) as node:
        data = agent.ask("agent-list", node, "--json").data
    result = data["result"]
    assert (result["total"], result["count"], result["page"]) == (4, 4, 0)
    assert result["agents"][1] == {
        "key": OTHER.hex(),
        "parent_hash": key_hash(KEY).hex(),
        "caps": "all",
        "expires": 1_800_000_000,
        "flags": ["connected", "admin"],
        "label": "deploy",
    }


def test_a_page_says_what_there_is_beside_it(agent: AgentCli) -> None:
    below = AgentsBelow()
    for number in range(40):
        below.put(number.to_bytes(32, "big"), "core", label=f"agent-{number}")
    with ThreadedWireNode(serve_b(below.answer, lit=LIT)) as node:
        first = agent.ask("agent-list", node)
        second = agent.run("agent-list", *host_of(node), "--page", "1", *agent.files)
    assert first.out.splitlines()[-1] == "page 0 of 0 to 1, 40 agents in all"
    assert "agent-31" in first.out
    assert "agent-32" in second.out
    assert second.out.splitlines()[-1] == "page 1 of 0 to 1, 40 agents in all"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_narrow_terminal_keeps_every_digit_of_a_key(agent: AgentCli, columns: int) -> None:
    with ThreadedWireNode(serve_b(several().answer, lit=LIT)) as node:
        drawn = on_screen(
            "agent-list", agent.trusts(node), *agent.files, columns=columns, no_color=True
        )
    assert KEY.hex()[:32] in drawn
    assert KEY.hex()[32:] in drawn
    assert max(map(len, drawn.splitlines())) <= columns


def test_a_node_that_does_not_speak_part_b_gets_nothing(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = agent.ask("agent-list", node)
        assert {frame.ins for frame in node.peer.frames} == {0}
    assert run.status == 2
    assert "does not speak part B" in run.err


def test_abandon_and_rekey(agent: AgentCli) -> None:
    def reply(frame: Frame) -> bytes | None:
        return b"\0\2" + OK if frame.ins == isa.ABANDON.code else answer(frame)

    with ThreadedWireNode(serve_b(reply, lit=LIT)) as node:
        assert agent.ask("abandon", node, "--json").data["result"] == {"closed": 2}
        rekeyed = agent.run("rekey", *host_of(node), *agent.files)
    assert rekeyed.status == 0
    assert rekeyed.out.startswith("REKEY: done on ")
    assert [peer.rekeys for peer in node.node.peers] == [0, 1]


# asys caps


def caps_of(agent: AgentCli, lit: str) -> tuple[list[list[str]], object]:
    with ThreadedWireNode(serve_b(lit=lit)) as node:
        run = agent.ask("caps", node)
        data = agent.run("caps", *host_of(node), "--json", *agent.files).data
    assert run.status == 0
    return [line.split()[:3] for line in run.out.splitlines()[9:]], data["result"]


def test_caps_shows_what_there_is_on_every_page(agent: AgentCli) -> None:
    listed, result = caps_of(agent, "core,PROC_THROTTLE,AGENT_LIST,2A,80,C0,FF")
    there = [
        "SYS_CAPS",
        "SYS_HELLO",
        "SYS_STATUS",
        "SYS_PROCS",
        "TASK_QUERY",
        "REKEY",
        "PROC_THROTTLE",
        "AGENT_LIST",
    ]
    assert listed == [
        *(
            [f"{one.code:02X}", one.name, "yes" if one.name in there else "no"]
            for one in isa.REGISTRY
        ),
        ["2A", "?", "yes"],
        ["80", "?", "yes"],
        ["C0", "vendor", "yes"],
        ["FF", "vendor", "yes"],
    ]
    assert isinstance(result, dict)
    assert result["instructions"] == there
    assert result["lacks"] == [one.name for one in isa.REGISTRY if one.name not in there]
    assert result["unknown"] == ["2A", "80"]
    assert result["vendor"] == [{"code": "C0", "known": ""}, {"code": "FF", "known": ""}]


def test_sys_caps_asks_for_a_page(agent: AgentCli) -> None:
    with ThreadedWireNode(serve_b(lit="core,C1")) as node:
        data = agent.ask("sys-caps", node, "--page", "3", "--json").data["result"]
        assert node.peer.frames[-1].p1 == 3
        wrong = agent.run("sys-caps", *host_of(node), "--page", "4", *agent.files)
    assert (data["page"], data["core_bitmap"]) == (3, 2)
    assert "SYS_HELLO" in data["instructions"]
    assert data["unknown"] == []
    assert data["vendor"] == [{"code": "C1", "known": ""}]
    assert wrong.status == 2
    assert "page must be 0 to 3" in wrong.err


def test_caps_of_an_agent_without_sys_caps(agent: AgentCli) -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        while True:
            await peer.request()
            peer.reply(b"\x6a\x81")

    with ThreadedWireNode(script) as node:
        run = agent.ask("caps", node)
    assert run.status == 1
    assert "SYS_CAPS: 6A81" in run.err


def test_caps_of_a_deployed_node_says_no_to_all_that_came_later(agent: AgentCli) -> None:
    with ThreadedWireNode(serve()) as node:
        data = agent.ask("caps", node, "--json").data["result"]
    deployed = {0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22}
    assert data["lacks"] == [one.name for one in isa.REGISTRY if one.code not in deployed]


def test_the_instruction_set_shows_the_new_ones(agent: AgentCli) -> None:
    assert "AGENT_LIST" in agent.run("isa").out
    shown = agent.run("isa", "AGENT_LIST").out
    assert "as many as count says, up to 32" in shown
    assert "108 each" in shown
    assert "written as instruction names" in agent.run("isa", "AGENT_ADD").out
