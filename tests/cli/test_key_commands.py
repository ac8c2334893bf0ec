"""`asyd key` without an asyd, and `asys trust --statement`: what is printed, what is refused."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

import asys
from asys.cli import agent, daemon
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.next_key import read_next
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import KeyStatement, parse_statements

HOST = "node.example.org:7816"


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    made = ConfigDir(tmp_path / "asyd")
    made.load_key()
    made.agents_path.write_text(f"{PrivateKey(bytes([1]) * 32).public.hex()} web\n")
    made.agents_path.chmod(0o600)
    return made


class Run:
    """A command in this process: exit status, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], config: ConfigDir) -> None:
        self.capsys = capsys
        self.config = config

    def key(self, *words: str) -> tuple[int, str, str]:
        status = daemon.main(["key", *words, "--config-dir", str(self.config.path)])
        return status, *self.capsys.readouterr()

    def trust(self, hosts: asys.KnownHosts, *words: str) -> tuple[int, str, str]:
        status = agent.main(["trust", HOST, *words, "--known-hosts", str(hosts.path)])
        return status, *self.capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], config: ConfigDir) -> Run:
    return Run(capsys, config)


@pytest.fixture
def hosts(tmp_path: Path, config: ConfigDir) -> asys.KnownHosts:
    made = asys.KnownHosts(tmp_path / "known_hosts")
    made.add("node.example.org", 7816, config.load_key().public)
    return made


def test_a_rotation_without_an_asyd(run: Run, config: ConfigDir) -> None:
    old = config.load_key().public.hex()
    assert run.key("status") == (0, f"key: {old}\nthere is no next key\n", "")
    status, out, err = run.key("rotate", "--overlap", "12h")
    found = read_next(config)
    assert found is not None
    new = found.key.public.hex()
    assert status == 0
    assert out.splitlines()[0] == f"next key: {new}"
    assert f"  {old}" in out.splitlines()
    assert err == "asyd does not run; it finds the key when it starts\n"
    assert found.statement.ends - found.statement.made == 12 * 3600
    assert abs(found.statement.made - time.time()) < 600

    status, out, err = run.key("status")
    assert (status, err) == (0, "")
    assert "web    " in out
    assert "the old key" in out
    assert out.endswith("1 of 1 agents have the old key only\n")
    status, out, err = run.key("rotate")
    assert (status, out) == (1, "")
    assert "there is a next key already" in err

    status, out, err = run.key("finish")
    assert (status, out.splitlines()[0], err) == (0, f"the node's key is now: {new}", "")
    assert config.load_key().public.hex() == new
    status, out, err = run.key("finish")
    assert (status, out) == (1, "")
    assert "there is no next key" in err


def test_no_overlap_says_that_nobody_moves(run: Run, config: ConfigDir) -> None:
    old = config.load_key().public.hex()
    status, out, _ = run.key("rotate", "--overlap", "0")
    new = config.load_key().public.hex()
    assert status == 0
    assert new != old
    assert out.splitlines()[:2] == [f"the node's key is now: {new}", f"erased: {old}"]
    assert "No agent moves by itself" in out
    assert read_next(config) is None


def test_json(run: Run, config: ConfigDir) -> None:
    _, out, _ = run.key("rotate", "--json")
    stated = json.loads(out)
    assert json.loads(run.key("status", "--json")[1])["next"] == stated
    assert json.loads(run.key("finish", "--json")[1]) == stated


@pytest.mark.parametrize("overlap", ["x", "-1d", "367d", "30", ""])
def test_an_overlap_that_is_none(run: Run, overlap: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run.key("rotate", "--overlap", overlap)
    assert caught.value.code == 2


def test_a_directory_that_is_none_is_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert daemon.main(["key", "status", "--config-dir", str(tmp_path / "no")]) == 1
    assert "is no directory" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


# -- statements


def test_statements_of_all_that_was(run: Run, config: ConfigDir, hosts: asys.KnownHosts) -> None:
    first = config.load_key().public
    status, _, err = run.key("statement")
    assert (status, "asyd key rotate" in err) == (1, True)
    for _ in range(2):
        run.key("rotate")
        run.key("finish")
    run.key("rotate")
    _, text, _ = run.key("statement")
    statements = parse_statements(text)
    assert statements[0].old_key == first
    assert len(statements) == 3
    file = config.path / "statements"
    file.write_text(text)

    status, out, err = run.trust(hosts, "--statement", str(file))
    new = statements[-1].new_key
    assert (status, err) == (0, "")
    assert out.endswith(f"stated by the one before:\n  {new.hex()}\n")
    assert hosts.lookup("node.example.org") == new
    status, out, err = run.trust(hosts, "--statement", str(file))
    assert (status, err) == (0, "")
    assert "is known already" in out


def test_from_stdin(
    run: Run, config: ConfigDir, hosts: asys.KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.key("rotate")
    _, text, _ = run.key("statement")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run.trust(hosts, "--statement", "-")[0] == 0
    found = read_next(config)
    assert found is not None
    assert hosts.lookup("node.example.org") == found.key.public


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zz\n", "line 1: a statement is 272 hex digits"),
        ("\n00\n", "line 2: a statement has 136 bytes"),
        ("FORGED\n", "has not signed it"),
        ("FOREIGN\n", "has no statement of the key that known_hosts has"),
        ("\xe4\n", "is not text in ASCII"),
        ("", "has no statement of the key"),
    ],
)
def test_what_carries_nobody_over(
    run: Run, config: ConfigDir, hosts: asys.KnownHosts, tmp_path: Path, text: str, said: str
) -> None:
    key, other = config.load_key(), PrivateKey.generate()
    forged = KeyStatement(key.public, other.public, 1, 2, bytes(64))
    foreign = KeyStatement.of(other, PrivateKey.generate().public, 1, 2)
    text = text.replace("FORGED", forged.pack().hex()).replace("FOREIGN", foreign.pack().hex())
    file = tmp_path / "statements"
    file.write_text(text, "utf-8")
    before = hosts.path.read_bytes()
    status, out, err = run.trust(hosts, "--statement", str(file))
    assert (status, out) == (2, "")
    assert said in err
    assert hosts.path.read_bytes() == before


def test_other_ways_of_being_wrong(
    run: Run, hosts: asys.KnownHosts, tmp_path: Path, config: ConfigDir
) -> None:
    key = config.load_key().public.hex()
    for words in ((key,), ("--replace",), ("--stdin",)):
        status, _, err = run.trust(hosts, *words, "--statement", "x")
        assert (status, "--statement says which key it is" in err) == (2, True)
    assert "cannot read" in run.trust(hosts, "--statement", str(tmp_path / "no"))[2]
    large = tmp_path / "large"
    large.write_text("#" * (1 << 20) + "\n#")
    assert "is longer than" in run.trust(hosts, "--statement", str(large))[2]
    nobody = asys.KnownHosts(tmp_path / "empty")
    assert "has no key for" in run.trust(nobody, "--statement", str(large))[2]
