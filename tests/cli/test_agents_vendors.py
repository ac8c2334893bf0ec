"""What `asyd agents` says of vendors, from the lines and from what is installed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from asys.vendor import id_of_domain
from support.admin_cli import Agents
from support.daemon import write_agents
from support.vendors import Packages

DOMAIN = "a.example"
ID = id_of_domain(DOMAIN)
LINES = {
    PrivateKey.generate(): f"one caps=core,C0,C1 vendors={DOMAIN},0x17",
    PrivateKey.generate(): "two caps=core,vendor",
    PrivateKey.generate(): f"three caps=core vendors={DOMAIN}",
}


@pytest.fixture
def lines(agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agents:
    """A node with these agents, and with a package whose code must not be imported."""
    packages = Packages(tmp_path / "site")
    packages.add(DOMAIN, {"DOUBLE": "0xC0"}, "raise AssertionError")
    (packages.directory / "vendor_a_example" / "definition.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(packages.directory)
    write_agents(agents.directory, LINES)
    return agents


def test_show(lines: Agents) -> None:
    rows = lines("show", "one").rows
    assert rows["vendors"] == [f"0x17, 0x{ID:X} {DOMAIN}"]
    assert "and 2 codes of the vendors that it may use" in rows["holds"]
    assert lines("show", "two").rows["vendors"] == ["none"]


@pytest.mark.parametrize(
    ("words", "status", "sw", "rule"),
    [
        (["one", "C0", DOMAIN], 0, "9000", f"line 1 grants C0, and its vendors= has {DOMAIN}"),
        (["one", "C0", "A.Example."], 0, "9000", f"its vendors= has {DOMAIN}"),
        (["one", "C0", f"0x{ID:X}"], 0, "9000", f"its vendors= has {DOMAIN}"),
        (["one", "C2", DOMAIN], 1, "6A81", "line 1 does not grant C2"),
        (["one", "C0", "0x17"], 1, "6982", "no vendor with the id 0x17 is installed"),
        (["one", "C0", "0x18"], 1, "6982", "line 1: vendors="),
        (["two", "C0", DOMAIN], 1, "6982", "line 2: it has no vendors="),
        (["three", "C0", DOMAIN], 1, "6A81", "line 3 does not grant C0"),
        (["one", "C0", DOMAIN, "--mode", "monitor"], 1, "6D00", "in monitor mode"),
    ],
)
def test_what_would_be_answered(
    lines: Agents, words: list[str], status: int, sw: str, rule: str
) -> None:
    ran = lines("test", *words)
    assert ran.status == status
    assert next(iter(ran.rows)) == sw
    assert rule in ran.rows["rule"][0]
    notes = "\n".join(ran.rows.get("note", []))
    assert (f"only if asyd runs with --vendor {DOMAIN}" in notes) == (status == 0)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "C0 to FF take the vendor"),
        (["x", "y"], "C0 to FF take the vendor"),
        (["localhost"], "is no vendor"),
        (["a.example,b.example"], "C0 to FF take the vendor"),
    ],
)
def test_who_does_not_say_which_vendor(lines: Agents, words: list[str], why: str) -> None:
    ran = lines("test", "one", "C0", *words)
    assert (ran.status, ran.out) == (2, "")
    assert why in ran.err


def test_check(lines: Agents) -> None:
    said = lines("check").out
    assert ":2: warning: codes of C0 to FF are granted, and no vendor" in said
    assert ":3: warning: vendors= grants no code by itself" in said
    assert ":1: warning" not in said
