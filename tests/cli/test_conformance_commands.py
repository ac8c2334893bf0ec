"""`asys conformance`: what it prints, what it asks for, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import asys
from asys.conformance import vectors
from asys.conformance.case import all_cases
from conformance.model import Node
from conformance.parts import ALL, Agent
from support.agent_cli import AgentCli, process

FAST = ("--pace", "0", "--timeout", "20")
"""No deadline of asyd's is waited for: the cases that do are not chosen."""


class _Broken(Node):
    """Does not look at the tag."""

    def tag_is_right(self, one: object, frame: object) -> bool:
        return True


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def known(cli: AgentCli, node: Node) -> str:
    """A node that knows the agent of `cli`, and is known to it; its HOST."""
    node.agents[cli.public] = Agent(ALL)
    target = node.target()
    assert target.node_key is not None
    asys.KnownHosts(cli.known_hosts).add(target.address.host, target.address.port, target.node_key)
    return str(target.address)


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as one:
        yield one


def test_lines_a_table_and_a_conclusion(cli: AgentCli, node: Node) -> None:
    words = ("--only", "sign.*", "--only", "restart.once", *FAST, *cli.files)
    done = cli.run("conformance", known(cli, node), *words)
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["passed", "sign.tag", "3.1"]
    assert "needs a service to restart (--service NAME)" in done.out
    assert "4  signed instructions, existence before permission" in done.out
    passed = len([one for one in all_cases() if one.id.startswith("sign.")])
    assert lines[-1] == f"{passed} passed, 1 not run; level 4 is reached"


def test_what_fails_is_status_1(cli: AgentCli) -> None:
    with _Broken() as node:
        words = ("--only", "sign.w*", *FAST, *cli.files)
        done = cli.run("conformance", known(cli, node), *words)
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("failed           sign.wrong-tag")
    assert "is answered 4153595" in done.out
    assert done.out.splitlines()[-1].endswith("2 failed; no level is reached")


def test_what_is_required_must_be_run(cli: AgentCli, node: Node) -> None:
    words = ("--only", "throttle.does", *FAST, *cli.files)
    host = known(cli, node)
    assert cli.run("conformance", host, *words).status == 0
    done = cli.run("conformance", host, *words, "--require", "5")
    assert done.status == 1
    assert "not run, and required: needs a process to throttle (--pid N)" in done.out
    assert (
        cli.run("conformance", host, *words, "--pid", str(node.PID), "--require", "5").status == 0
    )


def test_json_is_one_object(cli: AgentCli, node: Node) -> None:
    words = ("--only", "hello.*", "--json", *FAST, *cli.files)
    done = cli.run("conformance", known(cli, node), *words)
    assert done.status == 0
    assert done.data["level"] == 3
    assert done.data["counts"] == {"passed": 4, "failed": 0, "known": 0, "not_run": 0}
    assert {one["id"] for one in done.data["cases"]} == {
        "hello.length",
        "hello.magic",
        "hello.uid",
        "hello.time",
    }


def test_junit_is_written(cli: AgentCli, node: Node, tmp_path: Path) -> None:
    words = ("--only", "hello.*", "--junit", str(tmp_path / "report.xml"), *FAST, *cli.files)
    assert cli.run("conformance", known(cli, node), *words).status == 0
    root = ElementTree.parse(tmp_path / "report.xml").getroot()  # noqa: S314 -- our own
    assert len(root.findall("testsuite/testcase")) == 4


def test_a_report_that_cannot_be_written(cli: AgentCli, node: Node, tmp_path: Path) -> None:
    words = ("--only", "hello.magic", "--junit", str(tmp_path / "no" / "where"), *FAST, *cli.files)
    done = cli.run("conformance", known(cli, node), *words)
    assert done.status == 2
    assert "the report cannot be written" in done.err


def test_other_identity_and_means(cli: AgentCli, node: Node, tmp_path: Path) -> None:
    other = asys.Identity.create(tmp_path / "other")
    node.agents[other.public] = Agent((0x00, 0x01, 0x20, 0x22))
    host = known(cli, node)
    words = ("--only", "dark.not-granted", "--only", "chain.*", "--only", "restart.o*")
    means = ("--other", str(tmp_path / "other"), "--chainable", "c1:0xB6FB4EB9", "--service", "web")
    done = cli.run("conformance", host, *words, *means, "--json", *FAST, *cli.files)
    assert done.data["counts"] == {"passed": 9, "failed": 0, "known": 0, "not_run": 1}


def test_an_unknown_node_must_be_confirmed(cli: AgentCli, node: Node) -> None:
    host = str(node.target().address)
    done = cli.run("conformance", host, "--json", *FAST, *cli.files)
    assert done.status == 3
    assert done.error["kind"] == "UnknownHost"
    assert done.error["key"] == (node.target().node_key or b"").hex()


def test_a_changed_key_is_refused(cli: AgentCli, node: Node) -> None:
    host, port = node.target().address.host, node.target().address.port
    asys.KnownHosts(cli.known_hosts).add(host, port, asys.Identity.generate().public)
    done = cli.run("conformance", f"{host}:{port}", "--json", *FAST, *cli.files)
    assert done.status == 3
    assert done.error["kind"] == "HostKeyChanged"


def test_a_node_that_shows_no_key_is_tested_all_the_same(cli: AgentCli) -> None:
    class Speechless(Node):
        def pre_handshake_frame(self) -> bytes:
            return b"220 mail.example ESMTP ready to serve you"

    with Speechless() as node:
        words = ("--only", "link.pre*", "--only", "hello.*", *FAST, *cli.files)
        done = cli.run("conformance", str(node.target().address), *words)
    assert done.status == 1
    assert "the pre-handshake frame begins with 32323020" in done.out
    assert done.out.count("not run") > 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the HOST to test"),
        (("box", "--only", "nothing.*"), "no case is meant"),
        (("box", "--level", "7"), "invalid choice"),
        (("box", "--pid", "1"), "is not the PID of a process that may be stopped"),
        (("box", "--pid", "all"), "is not the PID"),
        (("box", "--service", "web.service"), "is not the name of a service"),
        (("box", "--outside-service", "b\u00fcro"), "is not the name of a service"),
        (("box", "--chainable", "20:1"), "is not written CODE:VENDOR_ID"),
        (("box", "--pace", "-1"), "is not a number of connections a second"),
        (("box", "--pace", "fast"), "is not a number of connections a second"),
    ],
)
def test_wrong_usage(cli: AgentCli, words: tuple[str, ...], said: str) -> None:
    done = cli.run("conformance", *words)
    assert done.status == 2
    assert said in done.err


def test_nothing_listens(cli: AgentCli) -> None:
    done = cli.run("conformance", "127.0.0.1:1", *cli.files)
    assert done.status == 3
    assert "no connection" in done.err


def test_list_names_cases_and_needs(cli: AgentCli) -> None:
    done = cli.run("conformance", "--list")
    assert done.status == 0
    lines = done.out.splitlines()
    assert len(lines) == len(all_cases())
    assert lines[0].startswith("1  link.")
    assert any(
        line.endswith("[a session, signed frames, SVC_RESTART, --service]") for line in lines
    )
    listed = cli.run("conformance", "--list", "--level", "1", "--json").data["cases"]
    assert {one["level"] for one in listed} == {1}


def test_vectors_are_written(cli: AgentCli, tmp_path: Path) -> None:
    done = cli.run("conformance", "--vectors", str(tmp_path / "vectors"))
    assert done.status == 0
    assert done.out.splitlines() == [str(tmp_path / "vectors" / name) for name in vectors.FILES]
    for name in vectors.FILES:
        assert (tmp_path / "vectors" / name).read_bytes() == vectors.contents(name)
    json.loads((tmp_path / "vectors" / "frames.json").read_text())


def test_vectors_that_cannot_be_written(cli: AgentCli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli.run("conformance", "--vectors", str(tmp_path / "file"))
    assert done.status == 2
    assert "the vectors cannot be written" in done.err


def test_help_says_that_it_does_no_harm() -> None:
    done = process("conformance", "--help")
    assert done.status == 0
    assert "By default it only reads." in done.out
