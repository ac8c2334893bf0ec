"""`authorized_nodes`, and `asys audit admit`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.collector.nodes import admitted, parse_key, parse_label, parse_nodes
from asys.cli.agent import main

ONE, TWO = "12" * 32, "34" * 32


def test_lines() -> None:
    nodes = parse_nodes(f"# nodes\n\n{ONE} web-1\n  {TWO.upper()}   db.2  \n")
    assert nodes.labels == {bytes.fromhex(ONE): "web-1", bytes.fromhex(TWO): "db.2"}
    assert nodes.faults == ()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{ONE}", "a line is a key"),
        (f"{ONE} a b", "a line is a key"),
        (f"{ONE[:-1]} a", "is no key"),
        (f"{'00' * 32} a", "nobody's key"),
        (f"{ONE} ../x", "is no label"),
        (f"{ONE} .x", "is no label"),
        (f"{ONE} {'x' * 32}", "is no label"),
        (f"{ONE} authorized_nodes", "is no label"),
        (f"{ONE} a\n{ONE} b", "more than once"),
        (f"{ONE} a\n{TWO} A", "more than one node"),
    ],
)
def test_bad_lines_grant_nothing(text: str, fault: str) -> None:
    nodes = parse_nodes(text)
    assert nodes.labels == {}
    assert len(nodes.faults) == len(text.split("\n"))
    assert all(fault in one for one in nodes.faults)


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    for label in parse_nodes(text).labels.values():
        assert parse_label(label) == label


def test_a_line_that_contradicts_is_not_added() -> None:
    key, other = parse_key(ONE), parse_key(TWO)
    text = admitted("# mine", key, "web")
    assert text == f"# mine\n{ONE} web\n"
    assert admitted(text, key, "web") == text
    for bad in ((key, "db"), (other, "WEB")):
        with pytest.raises(ValueError, match=r"admitted already|another node"):
            admitted(text, *bad)


def test_admit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)

    def admit(*words: str) -> int:
        return main(["audit", "admit", str(kept), *words])

    assert admit(ONE, "web") == 0
    assert "is admitted" in capsys.readouterr().out
    assert admit(ONE, "web", "--json") == 0
    assert '"added": false' in capsys.readouterr().out
    assert admit(ONE, "web") == 0
    for words in (
        (ONE, "db"),
        (TWO, "web"),
        (TWO, "a/b"),
        ("xx", "db"),
        ("00" * 32, "db"),
    ):
        assert admit(*words) == 2
    path = kept / "authorized_nodes"
    assert path.read_text() == f"{ONE} web\n"
    assert path.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    path.chmod(0o666)
    assert admit(TWO, "db") == 2
    assert f"chmod 600 {path}" in capsys.readouterr().err
    assert main(["audit", "admit", str(tmp_path / "none"), ONE, "web"]) == 2
