"""`asys keygen`, `asys trust`, and what happens at a node whose key nobody has confirmed."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

import asys
from support.agent_cli import AgentCli, Run, at_terminal, name_of, process
from support.wire_node import ThreadedWireNode

KEY = "09" * 32
OTHER = "0a" * 32


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def lines(agent: AgentCli) -> list[str]:
    """The lines of known_hosts."""
    path = agent.known_hosts
    return path.read_text().splitlines() if path.exists() else []


def test_keygen_makes_a_key_and_prints_what_an_admin_needs(agent: AgentCli, tmp_path: Path) -> None:
    directory = tmp_path / "new"
    run = agent.run("keygen", "--dir", str(directory))
    identity = asys.Identity.load(directory)
    assert run.status == 0
    assert f"asyd agents add {identity.public.hex()}\n" in run.out
    assert str(directory / "id_curve25519") in run.out
    assert identity.key.raw().hex() not in run.out
    assert stat.S_IMODE((directory / "id_curve25519").stat().st_mode) == 0o600


def test_keygen_as_json(agent: AgentCli, tmp_path: Path) -> None:
    data = agent.run("keygen", "--dir", str(tmp_path / "new"), "--json").data
    assert data == {
        "key_file": str(tmp_path / "new" / "id_curve25519"),
        "public_key_file": str(tmp_path / "new" / "id_curve25519.pub"),
        "public_key": asys.Identity.load(tmp_path / "new").public.hex(),
    }


def test_keygen_takes_the_home_directory_by_default(tmp_path: Path) -> None:
    run = process("keygen", environment={"HOME": str(tmp_path)})
    assert run.status == 0
    public = asys.Identity.load(tmp_path / ".asys").public
    assert public.hex() in run.out


def test_keygen_refuses_to_overwrite(agent: AgentCli) -> None:
    before = (agent.identity / "id_curve25519").read_bytes()
    run = agent.run("keygen", "--dir", str(agent.identity))
    assert run.status == 2
    assert run.out == ""
    assert "is not overwritten" in run.err
    assert (agent.identity / "id_curve25519").read_bytes() == before
    assert agent.run("keygen", "--dir", str(agent.identity), "--json").error["kind"] == (
        "IdentityError"
    )


def test_trust_with_a_key_needs_no_connection(agent: AgentCli) -> None:
    run = agent.run("trust", "Node.example:99", KEY, *agent.hosts)
    assert run.status == 0
    assert run.out == f"node.example:99 is added to {agent.known_hosts} with this key:\n  {KEY}\n"
    assert lines(agent) == [f"node.example:99  {KEY}"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("node",), "node:7816"),
        (("node", "--port", "99"), "node:99"),
        (("[::1]:99",), "[::1]:99"),
        (("::1",), "[::1]:7816"),
        (("unix:/run/asyd.sock",), "unix:/run/asyd.sock"),
    ],
)
def test_host_in_all_its_forms(agent: AgentCli, words: tuple[str, ...], name: str) -> None:
    data = agent.run("trust", *words[:1], KEY, *words[1:], *agent.hosts, "--json").data
    assert data == {
        "node": name,
        "key": KEY,
        "known_hosts": str(agent.known_hosts),
        "added": True,
        "replaced": None,
    }
    assert lines(agent) == [f"{name}  {KEY}"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node:99", "--port", "98"), "node:99 has a port already; leave --port 98 out"),
        (("node:port",), "'node:port' ends in no port number"),
        (("a b",), "neither a name nor an IP address"),
        (("unix:relative",), "unix:/absolute/path"),
        (("node", "--port", "0"), "'0' is not a port, 1 to 65535"),
        (("node", "--timeout", "-1"), "'-1' is not a number of seconds"),
        (("node", "--timeout", "soon"), "'soon' is not a number of seconds"),
    ],
)
def test_a_wrong_host_is_a_usage_error(agent: AgentCli, words: tuple[str, ...], said: str) -> None:
    run = agent.run("trust", *words[:1], KEY, *words[1:], *agent.hosts)
    assert run.status == 2
    assert said in run.err
    assert lines(agent) == []


def test_trust_reads_what_asyd_pubkey_prints(agent: AgentCli) -> None:
    run = process("trust", "node", "--stdin", *agent.hosts, stdin=f"{KEY}\n")
    assert run.status == 0
    assert lines(agent) == [f"node:7816  {KEY}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is nothing"),
        ("asyd: command not found\n", "it is 'asyd: command not found'"),
        (f"{KEY}\n{OTHER}\n", "stdin must be a node's key"),
        ("00" * 32, "can be nobody's key"),
    ],
)
def test_trust_refuses_what_is_no_key(agent: AgentCli, text: str, said: str) -> None:
    run = process("trust", "node", "--stdin", *agent.hosts, stdin=text)
    assert run.status == 2
    assert said in run.err
    assert lines(agent) == []


def test_trust_refuses_stdin_that_is_not_text(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\xff"), "utf-8"))
    run = agent.run("trust", "node", "--stdin", *agent.hosts)
    assert run.status == 2
    assert "stdin is not text" in run.err


def test_trust_takes_one_source_of_the_key(agent: AgentCli) -> None:
    run = agent.run("trust", "node", KEY, "--stdin", *agent.hosts)
    assert run.status == 2
    assert "not both" in run.err


def test_trust_of_the_same_key_changes_nothing(agent: AgentCli) -> None:
    agent.run("trust", "node", KEY, *agent.hosts)
    run = agent.run("trust", "node", KEY, *agent.hosts)
    assert run.status == 0
    assert run.out.startswith("node:7816 is known already")
    assert lines(agent) == [f"node:7816  {KEY}"]
    assert agent.run("trust", "node", KEY, *agent.hosts, "--json").data["added"] is False


def test_trust_replaces_a_key_only_when_told(agent: AgentCli) -> None:
    agent.run("trust", "node", KEY, *agent.hosts)
    refused = agent.run("trust", "node", OTHER, *agent.hosts)
    assert refused.status == 2
    assert "--replace" in refused.err
    assert lines(agent) == [f"node:7816  {KEY}"]
    data = agent.run("trust", "node", OTHER, "--replace", *agent.hosts, "--json").data
    assert (data["added"], data["replaced"]) == (True, KEY)
    assert lines(agent) == [f"node:7816  {OTHER}"]
    again = agent.run("trust", "node", KEY, "--replace", *agent.hosts)
    assert again.out.startswith("node:7816 has this new key in ")


def test_trust_without_key_asks_the_node_and_the_person(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        with at_terminal("trust", name_of(node), *agent.hosts) as terminal:
            terminal.read_until("? ")
            terminal.type("yes")
            run = terminal.end()
        sent = node.peer.received
    key = node.node.key.public.hex()
    assert run.status == 0
    assert f"\n  {key}\n" in run.err
    assert lines(agent) == [f"{name_of(node)}  {key}"]
    assert sent == 4  # the magic: the node has learnt nothing of this agent


def test_trust_without_key_and_terminal_says_how(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = process("trust", name_of(node), *agent.hosts)
    assert_unknown(run, node)
    assert lines(agent) == []


def test_trust_finds_the_known_key_unchanged(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = agent.run("trust", agent.trusts(node), *agent.hosts)
    assert run.status == 0
    assert "is known already" in run.out


def test_trust_refuses_a_changed_key_that_the_node_shows(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = agent.run("trust", agent.trusts(node, bytes.fromhex(KEY)), *agent.hosts)
    assert run.status == 3
    assert_loud(run, node)
    assert lines(agent) == [f"{name_of(node)}  {KEY}"]


def test_trust_replaces_a_changed_key_that_a_person_confirms(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        host = agent.trusts(node, bytes.fromhex(KEY))
        with at_terminal("trust", host, "--replace", *agent.hosts, "--json") as terminal:
            terminal.read_until("? ")
            terminal.type("yes")
            run = terminal.end()
    key = node.node.key.public.hex()
    assert run.status == 0
    assert KEY in run.err
    assert key in run.err
    assert run.data["replaced"] == KEY
    assert lines(agent) == [f"{host}  {key}"]


@pytest.mark.parametrize("answer", ["yes", " YES ", "the key"])
def test_an_unknown_host_is_asked_about_and_then_the_command_goes_on(
    agent: AgentCli, answer: str
) -> None:
    with ThreadedWireNode() as node:
        key = node.node.key.public.hex()
        with at_terminal("hello", name_of(node), *agent.files, "--json") as terminal:
            terminal.read_until("? ")
            terminal.type(key.upper() if answer == "the key" else answer)
            run = terminal.end()
    assert run.status == 0
    assert run.data["instruction"] == "SYS_HELLO"
    assert f"{name_of(node)} is not known here. It shows the key\n\n  {key}\n" in run.err
    assert f"is added to {agent.known_hosts}" in run.err
    assert lines(agent) == [f"{name_of(node)}  {key}"]


@pytest.mark.parametrize("answer", ["no", "end of file"])
def test_an_unknown_host_that_nobody_confirms_is_not_talked_to(
    agent: AgentCli, answer: str
) -> None:
    with ThreadedWireNode() as node:
        with at_terminal("hello", name_of(node), *agent.files) as terminal:
            terminal.read_until("? ")
            if answer == "no":
                terminal.type("no")
            else:
                terminal.end_of_file()
            run = terminal.end()
        sent = node.peer.received
    assert run.status == 3
    assert lines(agent) == []
    assert sent == 4


def test_the_question_is_asked_until_it_is_answered(agent: AgentCli) -> None:
    with ThreadedWireNode() as node, at_terminal("hello", name_of(node), *agent.files) as terminal:
        terminal.read_until("? ")
        terminal.type("y")
        terminal.read_until("Type yes, no, or the 64 hex digits of the key: ")
        terminal.type("yes")
        assert terminal.end().status == 0


def test_another_key_typed_at_the_question_is_refused(agent: AgentCli) -> None:
    with ThreadedWireNode() as node, at_terminal("hello", name_of(node), *agent.files) as terminal:
        terminal.read_until("? ")
        terminal.type(KEY)
        run = terminal.end()
    assert run.status == 2
    assert "that is not the key" in run.err
    assert lines(agent) == []


def test_an_unknown_host_without_a_terminal_fails_and_says_how_to_trust(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = process("hello", name_of(node), *agent.files, stdin="yes\n")
        error = process("hello", name_of(node), *agent.files, "--json").error
    assert_unknown(run, node)
    assert error["kind"] == "UnknownHost"
    assert error["host"] == name_of(node)
    assert error["key"] == node.node.key.public.hex()
    assert f"asys trust {name_of(node)} KEY" in error["advice"]
    assert lines(agent) == []


def test_a_changed_host_key_is_refused_loudly(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        run = agent.run("hello", agent.trusts(node, bytes.fromhex(KEY)), *agent.files)
        error = agent.run("hello", name_of(node), *agent.files, "--json").error
    assert run.status == 3
    assert_loud(run, node)
    assert error["kind"] == "HostKeyChanged"
    assert (error["known"], error["key"]) == (KEY, node.node.key.public.hex())


def assert_unknown(run: Run, node: ThreadedWireNode) -> None:
    assert run.status == 3
    assert run.out == ""
    assert len(run.err.splitlines()) == 1
    assert node.node.key.public.hex() in run.err
    assert f"asys trust {name_of(node)} KEY" in run.err


def assert_loud(run: Run, node: ThreadedWireNode) -> None:
    assert f"THE KEY OF {name_of(node)} HAS CHANGED" in run.err
    assert f"  known_hosts has  {KEY}\n" in run.err
    assert f"  the node shows   {node.node.key.public.hex()}\n" in run.err
    assert "--replace" in run.err
